"""The commands: what they print, for people and as JSON, and with which exit code they end."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import dagster as dg
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest

from mimic_assets.cli.main import main
from mimic_assets.cli.summary import sum_up
from mimic_assets.outcomes import Outcome

MIMIC_KEYS = {"asset", "key", "status", "dagster_run_id", "run_id", "counts", "location", "metrics", "notes", "error"}
MIMIC_KEYS |= {"model", "coefficients", "not_identified", "separated", "withheld", "effects"}
EFFECT_KEYS = {"feature", "alternative", "rows", "marginal_effect_mean", "marginal_effect_quantiles"}
EFFECT_KEYS |= {"elasticity_mean", "elasticity_aggregate", "elasticity_quantiles"}


def commands(group: click.Group = main, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


COMMANDS = dict(commands())


# ---- help


def test_the_commands_are_those_that_are_documented():
    assert sorted(" ".join(path) for path in COMMANDS) == [
        "build",
        "dev",
        "doctor",
        "env",
        "gc",
        "log-odds",
        "log-odds build-contrast",
        "log-odds build-dataset",
        "log-odds run-batch-infer",
        "log-odds run-experiment",
        "plan",
        "predict",
        "rebuild",
        "report",
        "runs",
        "runs coefficients",
        "runs compare",
        "runs retire",
        "status",
        "tables",
        "tables check",
        "tables export",
        "tables import",
        "tables list",
        "tables maintain",
        "tables register",
        "tables remove",
        "tables show",
    ]


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_an_example_and_a_text_for_each_option(mimic, path):
    text = mimic.done(*path, "--help").stdout
    assert "Example" in text
    assert "  mimic " + " ".join(path).removesuffix(" ") in text or "  eval" in text
    options = [parameter for parameter in COMMANDS[path].params if isinstance(parameter, click.Option)]
    assert all(option.help for option in options)


def test_mimic_without_arguments_shows_its_help_and_the_exit_codes(mimic):
    text = mimic.done("--help").stdout
    expected = (
        "Exit codes: 0 done, 1 a run failed (also over rows that break a rule), 2 the input is wrong, 130 interrupted."
    )
    assert expected in " ".join(text.split())
    assert mimic("").exit_code == 2


def test_help_touches_no_files(mimic):
    mimic.done("--help")
    mimic.done("log-odds", "build-dataset", "--help")
    assert not list(mimic.home.iterdir())


def test_the_version_is_shown(mimic):
    assert mimic.done("--version").stdout.startswith("mimic, version ")


# ---- tables


def test_an_import_says_what_is_now_in_the_table(mimic, decision_table):
    pq.write_table(decision_table(), "a.parquet")
    assert (
        "haven.features: 42 rows, 7 columns, version "
        in mimic.done("tables", "import", "haven.features", "a.parquet").stdout
    )
    assert "haven.features: 84 rows" in mimic.done("tables", "import", "haven.features", "a.parquet", "--append").stdout
    assert "haven.features: 42 rows" in mimic.done("tables", "import", "haven.features", "a.parquet").stdout


def test_an_imported_table_is_a_partition_of_the_source_tables(mimic, decision_table):
    mimic.imported(decision_table())
    with dg.DagsterInstance.get() as instance:
        assert instance.get_dynamic_partitions("source_tables") == ["haven.features"]


def test_tables_are_listed_with_kind_and_rows(with_dataset):
    with_dataset.done("log-odds", "run-experiment", with_dataset.experiment())
    text = with_dataset.done("tables", "list").stdout
    source, results = (
        next(line for line in text.splitlines() if name in line) for name in ("haven.features", "haven.results")
    )
    assert "source" in source
    assert "42" in source
    assert "results" in results
    assert "2" in results


def test_an_empty_list_says_how_to_begin(mimic):
    (mimic.home / "mimic").mkdir()
    assert "no tables yet; import one with `mimic tables import" in mimic.done("tables", "list").stdout


def test_a_table_is_shown_with_its_columns_and_first_values(mimic, decision_table):
    mimic.imported(decision_table())
    text = mimic.done("tables", "show", "haven.features").stdout
    assert "haven.features: source table, 42 rows, version " in text
    line = next(line for line in text.splitlines() if "_individual" in line)
    assert "int64" in line
    assert "1, 1, 1" in line


def test_an_export_holds_the_rows_of_the_table(mimic, decision_table):
    mimic.imported(decision_table())
    assert "out.parquet: 42 rows of haven.features" in mimic.done("tables", "export", "haven.features", "out.parquet").stdout
    assert pq.read_table("out.parquet").sort_by(
        [("_individual", "ascending"), ("_decision", "ascending"), ("_choice", "ascending")]
    ) == (decision_table())


def test_an_export_may_be_restricted_to_values(mimic, decision_table):
    mimic.imported(decision_table())
    mimic.done("tables", "export", "haven.features", "out.parquet", "--where", "_train=false", "--where", "_decision=0")
    assert set(
        zip(*(pq.read_table("out.parquet")[name].to_pylist() for name in ("_individual", "_decision")), strict=True)
    ) == {(6, 0)}


def test_an_export_to_csv_has_the_rows_that_fulfil_all_conditions(mimic, decision_table):
    table = decision_table()
    mimic.imported(table)
    mimic.done("tables", "export", "haven.features", "out.csv", "--where", "age > 0.5 and _train = true and _decision != 1")
    wanted = (pc.field("age") > 0.5) & pc.field("_train") & (pc.field("_decision") != 1)
    assert sorted(csv.read_csv("out.csv")["age"].to_pylist()) == sorted(table.filter(wanted)["age"].to_pylist())
    assert not list(Path().glob(".out*"))


def test_an_export_of_another_format_is_refused(mimic, decision_table):
    mimic.imported(decision_table())
    assert "expected a name that ends in .parquet or .csv" in mimic.refused("tables", "export", "haven.features", "out.xlsx")


def test_an_export_that_is_refused_leaves_the_file_that_was_there(mimic, decision_table):
    mimic.imported(decision_table())
    Path("out.parquet").write_bytes(b"mine")
    assert "there is no column '_trian' (did you mean '_train'?)" in mimic.refused(
        "tables", "export", "haven.features", "out.parquet", "--where", "_trian=false"
    )
    assert "column '_train' is bool, which cannot be compared as in `_train = 'maybe'`" in mimic.refused(
        "tables", "export", "haven.features", "out.parquet", "--where", "_train='maybe'"
    )
    assert Path("out.parquet").read_bytes() == b"mine"


# ---- building


def test_a_dataset_is_built_with_a_line_per_part_and_a_summary(mimic, decision_table):
    mimic.imported(decision_table())
    result = mimic.done("log-odds", "build-dataset", mimic.dataset())
    title, *lines = result.stderr.splitlines()
    assert title == "tfrecord_dataset s/d"
    assert [line.strip() for line in lines] == ["part 1/2: part_00000", "part 2/2: part_00001"]
    assert "built: tfrecord_dataset s/d\n  rows 42, decisions 18, train_decisions 15, test_decisions 3" in result.stdout


def test_a_contrast_set_is_built_with_a_line_per_part_and_a_summary(mimic, decision_table):
    mimic.imported(decision_table())
    result = mimic.done("log-odds", "build-contrast", mimic.contrast())
    title, *lines = result.stderr.splitlines()
    assert title == "contrast_set haven.contrasts"
    assert [line.strip() for line in lines] == ["part 1/2: part_00000", "part 2/2: part_00001"]
    built, counts, place = result.stdout.splitlines()
    assert (built, place) == ("built: contrast_set haven.contrasts", "  at haven.contrasts")
    assert counts.startswith("  rows 48, decisions 24, train_decisions 20, test_decisions 4, individuals 6,")
    (line,) = [line for line in mimic.done("tables", "list").stdout.splitlines() if "haven.contrasts" in line]
    assert line.replace("│", " ").split()[:2] == ["haven.contrasts", "contrast"]


def test_json_of_a_contrast_set_has_its_table_and_its_counts(mimic, decision_table):
    mimic.imported(decision_table())
    (built,) = mimic.partitions("log-odds", "build-contrast", mimic.contrast())
    assert set(built) == MIMIC_KEYS
    assert (built["asset"], built["key"], built["status"]) == ("contrast_set", "haven.contrasts", "built")
    assert (built["location"], built["run_id"], built["metrics"], built["error"]) == ("haven.contrasts", None, {}, None)
    assert (built["counts"]["rows"], built["counts"]["source_decisions"]) == (48, 18)
    mimic.done("tables", "export", "haven.contrasts", "out.parquet", "--where", "_train=false")
    assert set(pq.read_table("out.parquet")["_individual"].to_pylist()) == {6}


def test_a_run_on_contrasts_is_applied_to_the_table_that_they_came_from(mimic, decision_table):
    mimic.imported(decision_table())
    mimic.done("log-odds", "build-contrast", mimic.contrast())
    mimic.done("log-odds", "build-dataset", mimic.dataset(table="contrasts", max_choices=2))
    config = mimic.experiment(max_choices=2, models=[{"layers": []}])
    (run,) = mimic.partitions("log-odds", "run-experiment", config)
    (scored,) = mimic.partitions("log-odds", "run-batch-infer", mimic.inference(run["run_id"]))
    assert scored["counts"]["rows"] == 42
    assert {row["asset"]: row["state"] for row in mimic.partitions("status")} == {
        "source_table": "current",
        "contrast_set": "current",
        "tfrecord_dataset": "current",
        "model_run": "current",
        "inference_table": "current",
    }


def test_an_experiment_shows_a_line_per_epoch_and_what_its_numbers_mean(with_dataset):
    result = with_dataset.done("log-odds", "run-experiment", with_dataset.experiment())
    assert [line.split(":")[0].strip() for line in result.stderr.splitlines()[1:]] == ["epoch 1/2", "epoch 2/2"]
    assert "built: model_run s/e/" in result.stdout
    for split in ("train", "test"):
        (said,) = [line for line in result.stdout.splitlines() if line.startswith(f"  {split} ")]
        names = ["decisions", "NLL", "uniform NLL", "rho-squared", "accuracy", "D-NLP", "calibration error"]
        assert [part.split()[:-1] for part in said.removeprefix(f"  {split} ").split(", ")] == [
            name.split() for name in names
        ]
    assert "note: the exported epoch was chosen by its loss on the test split" in result.stdout


def test_the_loss_of_choosing_by_shares_is_shown_where_there_is_one(capsys):
    metrics = {"test_decisions": 3, "test_nll": 0.5, "test_shares_nll": 0.75, "train_shares_nll": None}
    sum_up([Outcome(asset="model_run", key="s/e/r", status="built", metrics=metrics)])
    assert capsys.readouterr().out.splitlines()[1:] == ["  test       decisions 3, NLL 0.5000, shares NLL 0.7500"]


def test_json_is_one_object_on_standard_output_with_the_keys_that_are_documented(mimic, decision_table):
    mimic.imported(decision_table())
    (built,) = mimic.partitions("log-odds", "build-dataset", mimic.dataset())
    assert set(built) == MIMIC_KEYS
    assert (built["asset"], built["key"], built["status"]) == ("tfrecord_dataset", "s/d", "built")
    assert built["counts"]["decisions"] == 18
    assert Path(built["location"]).is_dir()
    with dg.DagsterInstance.get() as instance:
        run = instance.get_run_by_id(built["dagster_run_id"])
    assert (run.status, run.tags["dagster/partition"]) == (dg.DagsterRunStatus.SUCCESS, "s/d")


def test_json_of_an_experiment_has_an_entry_per_run_in_the_order_of_the_models(with_dataset):
    models = [{"layers": ["D4"], "epochs": 1}, {"layers": []}]
    network, linear = with_dataset.partitions("log-odds", "run-experiment", with_dataset.experiment(models=models))
    for run in (network, linear):
        assert set(run) == MIMIC_KEYS
        assert run["key"] == f"s/e/{run['run_id'][:12]}"
        assert run["metrics"]["test_nll"] > 0
    assert (network["counts"]["epochs"], linear["counts"]["epochs"] >= 1) == (1, True)


def test_a_failed_run_is_reported_as_json_too_and_ends_with_code_1(mimic, decision_table):
    mimic.imported(decision_table())
    result = mimic("log-odds", "build-dataset", mimic.dataset(missing_values_map=...), "--json")
    assert result.exit_code == 1
    (failed,) = json.loads(result.stdout)["partitions"]
    assert set(failed) == MIMIC_KEYS
    assert failed["status"] == "failed"
    assert "without an entry in missing_values_map: 1 (individual 1 decision 0)" in failed["error"]
    assert failed["error"] in result.stderr


def test_one_failed_model_does_not_stop_the_others(with_dataset):
    no_one = {"layers": ["D4"], "validation": 0.9999}
    config = with_dataset.experiment(models=[no_one, {"layers": []}])
    result = with_dataset("log-odds", "run-experiment", config, "--json")
    assert result.exit_code == 1
    first, second = json.loads(result.stdout)["partitions"]
    assert (first["status"], second["status"]) == ("failed", "built")
    assert "leaves no one to train on" in first["error"]


def test_register_only_adds_the_partition_and_builds_nothing(mimic):
    for command, config, partitions in (
        ("build-contrast", mimic.contrast(), "contrast_sets"),
        ("build-dataset", mimic.dataset(), "tfrecord_datasets"),
        ("run-experiment", mimic.experiment(), "model_runs"),
        ("run-batch-infer", mimic.inference("0" * 64), "inference_tables"),
    ):
        (entry,) = mimic.partitions("log-odds", command, config, "--register-only")
        assert (entry["status"], entry["dagster_run_id"]) == ("registered", None)
        with dg.DagsterInstance.get() as instance:
            assert instance.get_dynamic_partitions(partitions) == [entry["key"]]
            assert instance.get_runs() == []


def test_seeds_are_registered_as_one_run_each_in_their_order(mimic):
    config = mimic.experiment(models=[{"layers": ["D4"], "seeds": [7, 3, 5]}])
    entries = mimic.partitions("log-odds", "run-experiment", config, "--register-only")
    written = mimic.experiment(models=[{"layers": ["D4"], "seed": seed} for seed in (7, 3, 5)])
    assert mimic.partitions("log-odds", "run-experiment", written, "--register-only") == entries
    with dg.DagsterInstance.get() as instance:
        assert sorted(instance.get_dynamic_partitions("model_runs")) == sorted(entry["key"] for entry in entries)


def test_a_config_may_be_yaml_and_gives_the_same_run(with_dataset):
    (first,) = with_dataset.partitions("log-odds", "run-experiment", with_dataset.experiment(), "--register-only")
    text = "experiment_name: e\nspace: s\ndataset: d\nmax_choices: 3.0\nfeatures: [size, age]\n"
    text += "database: haven\ntable: results\nmodels:\n- {layers: [D4], epochs: 2, batch_size: 4, seed: null}\n"
    (second,) = with_dataset.partitions("log-odds", "run-experiment", with_dataset.write("e.yaml", text), "--register-only")
    assert second["run_id"] == first["run_id"]


def test_layers_may_come_from_a_file_and_then_travel_with_the_run(with_dataset):
    layers = with_dataset.write("layers.py", "LAYERS = {'wide': lambda: Dense(3, activation='tanh')}\n")
    config = with_dataset.experiment(models=[{"layers": ["wide"], "epochs": 1}])
    (run,) = with_dataset.partitions("log-odds", "run-experiment", config, layers)
    assert (Path(run["location"]) / "layers.py").read_text() == layers.read_text()
    layers.unlink()
    (scored,) = with_dataset.partitions("log-odds", "run-batch-infer", with_dataset.inference(run["run_id"]))
    assert scored["counts"]["rows"] == 42


def test_an_inference_fills_its_table_and_reports_how_good_it_is(with_dataset):
    (run,) = with_dataset.partitions("log-odds", "run-experiment", with_dataset.experiment())
    (scored,) = with_dataset.partitions("log-odds", "run-batch-infer", with_dataset.inference(run["run_id"]))
    assert (scored["asset"], scored["location"]) == ("inference_table", "haven.scored")
    assert scored["counts"]["rows"] == 42
    assert scored["metrics"]["test_nll"] == pytest.approx(run["metrics"]["test_nll"], abs=1e-6)
    assert scored["effects"] == []
    explaining = with_dataset.inference(run["run_id"], explain=["age"], upload_table="explained")
    (scored,) = with_dataset.partitions("log-odds", "run-batch-infer", explaining)
    (effect,) = scored["effects"]
    assert set(effect) == EFFECT_KEYS
    assert (effect["feature"], effect["alternative"], effect["rows"]) == ("age", None, 42)


def test_the_summary_of_an_inference_lists_the_first_effects(capsys):
    means = {"marginal_effect_mean": -0.25, "elasticity_mean": 1.5, "elasticity_aggregate": None}
    effects = [{"feature": "tt", "alternative": None, **means}, *[{"feature": "tt", "alternative": "car", **means}] * 21]
    sum_up([Outcome(asset="inference_table", key="k", status="built", effects=effects)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:4] == [
        "  effect of  mean dP/dx  mean elasticity  aggregate",
        "  tt              -0.25              1.5          -",
        "  tt, car         -0.25              1.5          -",
    ]
    assert lines[21:] == ["  tt, car         -0.25              1.5          -", "  and 2 more, which --json prints"]


# ---- status and environment


def states(mimic) -> dict[tuple[str, str], str]:
    rows = mimic.partitions("status")
    return {(row["asset"], row["key"].split("/")[0]): row["state"] for row in rows}


def test_the_status_tells_current_missing_and_failed_apart(with_dataset):
    with_dataset.done("log-odds", "run-experiment", with_dataset.experiment(), "--register-only")
    broken = with_dataset.write(
        "broken.json", json.loads(with_dataset.dataset().read_text()) | {"space": "t", "missing_values_map": {}}
    )
    with_dataset.refused("log-odds", "build-dataset", broken, exit_code=1)
    assert states(with_dataset) == {
        ("source_table", "haven.features"): "current",
        ("tfrecord_dataset", "s"): "current",
        ("tfrecord_dataset", "t"): "failed",
        ("model_run", "s"): "missing",
    }


def test_the_status_lists_a_contrast_set_with_its_version_and_counts(mimic, decision_table):
    mimic.imported(decision_table())
    mimic.done("log-odds", "build-contrast", mimic.contrast(), "--register-only")
    assert states(mimic)["contrast_set", "haven.contrasts"] == "missing"
    mimic.done("log-odds", "build-contrast", mimic.contrast())
    (_, row) = mimic.partitions("status")
    assert (row["key"], row["state"], row["counts"]["rows"]) == ("haven.contrasts", "current", 48)
    (line,) = [line for line in mimic.done("status").stdout.splitlines() if "contrast_set" in line]
    assert row["version"] in line
    assert "rows 48, decisions 24" in line


def test_a_failed_rebuild_is_shown_and_the_next_success_clears_it(with_dataset):
    with_dataset.refused("log-odds", "build-dataset", with_dataset.dataset(missing_values_map=...), exit_code=1)
    assert states(with_dataset)["tfrecord_dataset", "s"] == "failed"
    with_dataset.done("log-odds", "build-dataset", with_dataset.dataset())
    assert states(with_dataset)["tfrecord_dataset", "s"] == "current"


def test_the_status_shows_version_counts_and_since_when(with_dataset):
    (_, dataset) = with_dataset.partitions("status")
    assert set(dataset) == {
        "asset",
        "key",
        "state",
        "reasons",
        "run_id",
        "version",
        "counts",
        "since",
        "error",
        "epoch",
        "broken",
    }
    assert dataset["counts"]["decisions"] == 18
    line = next(line for line in with_dataset.done("status").stdout.splitlines() if "tfrecord_dataset" in line)
    assert dataset["version"] in line
    assert "decisions 18" in line
    assert dataset["since"] in line


def test_a_damaged_manifest_is_named_by_the_status(with_dataset):
    path = with_dataset.home / "mimic/objects/s-tfrecords/d/manifest.json"
    path.write_bytes(path.read_bytes()[:-9])
    assert "manifest.json: damaged" in with_dataset.done("status").stdout
    assert states(with_dataset)["tfrecord_dataset", "s"] == "out_of_date"


def test_env_prints_what_a_shell_can_evaluate(mimic):
    script = mimic.done("env").stdout + 'printf "%s:%s" "$MIMIC_HOME" "$DAGSTER_HOME"'
    shown = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True, env={}).stdout
    assert shown == f"{mimic.home / 'mimic'}:{mimic.home / 'dagster'}"


def test_everything_lies_below_the_working_directory_when_nothing_is_set(mimic, monkeypatch):
    monkeypatch.delenv("MIMIC_HOME")
    monkeypatch.delenv("DAGSTER_HOME")
    text = mimic.done("env").stdout
    assert f"MIMIC_HOME={mimic.home / '.mimic'}\n" in text
    assert f"DAGSTER_HOME={mimic.home / '.mimic/dagster'}\n" in text
    assert not (mimic.home / ".env").exists()


def test_env_write_stores_the_variables_beside_what_was_there(mimic):
    (mimic.home / ".env").write_text("OTHER=1\n")
    mimic.done("env", "--write")
    mimic.done("env", "--write")
    lines = (mimic.home / ".env").read_text().splitlines()
    assert sorted(line.partition("=")[0] for line in lines) == ["DAGSTER_HOME", "MIMIC_HOME", "OTHER"]


def test_a_variable_of_the_environment_wins_over_the_file(mimic):
    (mimic.home / ".env").write_text("MIMIC_HOME=/nowhere\n")
    assert f"MIMIC_HOME={mimic.home / 'mimic'}\n" in mimic.done("env").stdout


def test_a_variable_in_the_file_is_used_when_the_environment_has_none(mimic, monkeypatch):
    monkeypatch.delenv("MIMIC_HOME")
    (mimic.home / ".env").write_text(f"MIMIC_HOME={mimic.home / 'elsewhere'}\n")
    assert f"MIMIC_HOME={mimic.home / 'elsewhere'}\n" in mimic.done("env").stdout


# ---- the catalog's database


def test_env_gives_a_shell_the_catalog_and_a_terminal_no_password(mimic, monkeypatch):
    from mimic_assets.cli import environment

    assert "MIMIC_CATALOG" not in mimic.done("env").stdout
    monkeypatch.setenv("MIMIC_CATALOG", "postgresql://me:s3c%20ret@db/haven")
    assert "export MIMIC_CATALOG=postgresql://me:s3c%20ret@db/haven\n" in mimic.done("env").stdout
    monkeypatch.setattr(environment.sys, "stdout", Terminal())
    shown = environment._export("MIMIC_CATALOG", "postgresql://me:s3c%20ret@db/haven")
    assert shown == "# MIMIC_CATALOG is postgresql+psycopg2://me:***@db/haven; eval exports it with its password"
    assert "s3cret" not in environment._export("MIMIC_CATALOG", "postgresql://db/haven?user=me&password=s3cret")
    assert environment._export("MIMIC_CATALOG", "sqlite:////c.db") == "export MIMIC_CATALOG=sqlite:////c.db"


class Terminal:
    def isatty(self) -> bool:
        return True


def test_env_gives_a_shell_the_webhook_of_alerts_and_hides_it_on_a_terminal(mimic, monkeypatch):
    from mimic_assets.cli import environment

    monkeypatch.setenv("MIMIC_ALERT_WEBHOOK", "https://example.org/s3cret")
    assert "export MIMIC_ALERT_WEBHOOK=https://example.org/s3cret\n" in mimic.done("env").stdout
    monkeypatch.setattr(environment.sys, "stdout", Terminal())
    shown = environment._export("MIMIC_ALERT_WEBHOOK", "https://example.org/s3cret")
    assert shown == "# MIMIC_ALERT_WEBHOOK is set; eval exports it"


@pytest.mark.parametrize("command", [["env"], ["dev"], ["tables", "list"]])
def test_a_webhook_that_is_none_is_refused_before_anything_begins(mimic, monkeypatch, command):
    monkeypatch.setenv("MIMIC_ALERT_WEBHOOK", "example.org/s3cret")
    message = mimic.refused(*command)
    assert "MIMIC_ALERT_WEBHOOK: expected https://HOST/PATH" in message
    assert "s3cret" not in message


def test_the_catalog_is_taken_from_the_env_file(mimic, monkeypatch):
    mimic.write(".env", f"MIMIC_CATALOG=sqlite:///{mimic.home}/other.db\n")
    monkeypatch.delenv("MIMIC_CATALOG", raising=False)
    try:
        mimic.done("tables", "list")
    finally:
        os.environ.pop("MIMIC_CATALOG", None)
    assert (mimic.home / "other.db").exists()


def test_a_catalog_that_is_none_is_refused(mimic, monkeypatch):
    monkeypatch.setenv("MIMIC_CATALOG", "mysql://me:s3cret@db/haven")
    message = mimic.refused("tables", "list")
    assert "MIMIC_CATALOG: expected postgresql://" in message
    assert "s3cret" not in message
