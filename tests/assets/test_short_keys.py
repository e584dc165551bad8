"""A home of an earlier version: its runs and inferences get keys with the beginning of the run id."""

from pathlib import Path

import dagster as dg

from mimic_assets.short_keys import shorten_keys
from mimic_core.configs import parse_spec
from mimic_core.specs import InferenceSpec, RunSpec
from mimic_core.world import Node
from resources.spec_folder import Noted, Origin, Record, read_record, write_record

RUN = {"experiment_name": "e", "space": "s", "dataset": "d", "max_choices": 3, "features": ["size"]}
RUN |= {"database": "haven", "table": "results", "model": {"layers": ["D4"]}}
INFERENCE = {"database": "haven", "table": "features", "features": ["size"], "space": "s", "experiment_name": "e"}


def of_earlier_version(platform, spec):
    """Store a spec, and materialize its partition, as an earlier version did; returns the key that it had."""
    long = f"{spec.key.rpartition('/')[0]}/{spec.run_id}"
    platform.specs.register(spec)
    Path(platform.artefacts.where(f"specs/{spec.asset}/{spec.key}")).rename(
        Path(platform.artefacts.where(f"specs/{spec.asset}/{long}"))
    )
    platform.instance.add_dynamic_partitions(f"{spec.asset}s", [long])
    event = dg.AssetMaterialization(spec.asset, partition=long, metadata={"rows": 42}, tags={"dagster/data_version": "v"})
    platform.instance.report_runless_asset_event(event)
    return long


def test_partitions_of_an_earlier_version_keep_their_specs_and_what_dagster_shows(platform):
    run = parse_spec(RunSpec, RUN)
    inference = parse_spec(InferenceSpec, INFERENCE | {"run_id": run.run_id, "upload_table": "scored"})
    before = [of_earlier_version(platform, spec) for spec in (run, inference)]
    assert shorten_keys(platform.instance, platform.specs) == before
    for kind, spec in ((RunSpec, run), (InferenceSpec, inference)):
        assert platform.specs.registered(spec.asset) == [spec.key]
        assert platform.instance.get_dynamic_partitions(f"{spec.asset}s") == [spec.key]
        assert platform.specs.get(kind, spec.key).spec == spec
        assert platform.shown(spec) == {"rows": 42}
        assert platform.materialization(spec).tags["dagster/data_version"] == "v"
    assert shorten_keys(platform.instance, platform.specs) == []


def test_a_lost_dagster_home_does_not_keep_old_keys(platform):
    run = parse_spec(RunSpec, RUN)
    long = of_earlier_version(platform, run)
    platform.instance.delete_dynamic_partition("model_runs", long)
    assert shorten_keys(platform.instance, platform.specs) == [long]
    assert platform.specs.registered("model_run") == platform.instance.get_dynamic_partitions("model_runs") == [run.key]


def test_what_files_of_the_spec_folder_defined_under_old_keys_is_known_under_the_present_ones(platform):
    run = parse_spec(RunSpec, RUN)
    old, new = Node("model_run", f"s/e/{run.run_id}"), Node("model_run", run.key)
    noted, origin = Noted(stamp="1", digest="d", keys=(old,)), Origin(digest="d", ours=True)
    write_record(platform.artefacts, Record(files={"e.json": noted}, partitions={old: origin}))
    found = read_record(platform.artefacts)
    assert found.files["e.json"].keys == (new,)
    assert found.partitions == {new: origin}
