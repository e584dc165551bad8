"""Where the columns of builds come from, by hand-made manifests; and that the pages name the columns that there are."""

import re
from pathlib import Path

import pyarrow as pa
import pytest

from mimic_assets.epochs import RESULTS_SCHEMA
from mimic_core.column_lineage import column_lineage, origins_in_words
from mimic_core.inferences import inference_schema
from mimic_core.meanings import INFERENCE_TABLE, RESULTS_TABLE, meaning_of

FORMATS = (Path(__file__).resolve().parents[2] / "docs/formats.md").read_text(encoding="utf-8")
SOURCE_COLUMNS = dict.fromkeys(("_individual", "_decision", "_choice", "size", "age"))


def inference(*features: str) -> dict:
    return {
        "asset": "inference_table",
        "spec": {"features": list(features)},
        "inputs": {"source_table": {"columns": SOURCE_COLUMNS}},
    }


def test_a_contrast_set_says_where_its_rows_and_numbers_come_from():
    document = {"asset": "contrast_set", "spec": {"sampling": {"weights": "share"}}, "inputs": {}}
    columns = ["_individual", "_decision", "_choice", "_old_decision", "_old_choice", "size", "_sampling_log_probability"]
    found = column_lineage(document, columns)
    assert {name: origin for name, [(_, origin)] in found.items()} == {
        "_individual": "_individual",
        "_decision": "_individual",
        "_choice": "_selected",
        "_old_decision": "_decision",
        "_old_choice": "_choice",
        "size": "size",
        "_sampling_log_probability": "share",
    }
    assert {asset for [(asset, _)] in found.values()} == {"source_table"}


@pytest.mark.parametrize("above", ["source_table", "contrast_set"])
def test_features_of_a_dataset_come_from_what_it_reads(above):
    document = {"asset": "tfrecord_dataset", "spec": {}, "inputs": {above: {}}}
    assert column_lineage(document, ["size"]) == {"size": [(above, "size")]}


def test_losses_of_a_run_come_from_all_features_of_its_dataset():
    found = column_lineage({"asset": "model_run", "features": ["size", "age"], "inputs": {}}, list(RESULTS_TABLE))
    assert found["val_loss"] == [("tfrecord_dataset", "size"), ("tfrecord_dataset", "age")]
    assert "epoch" not in found


def test_scores_come_from_the_features_and_keys_from_the_keys():
    found = column_lineage(inference("size", "age"), [*INFERENCE_TABLE, "d_probability_d_size"])
    both = [("source_table", "size"), ("source_table", "age")]
    assert found["probability"] == found["log_odds"] == found["d_probability_d_size"] == both
    assert (found["_choice"], found["run_id"]) == ([("source_table", "_choice")], [("model_run", "run_id")])
    assert "_train" not in found  # the source has none
    assert "_alternative" not in found


def test_very_many_origins_are_counted_instead_of_named():
    found = column_lineage(inference(*map(str, range(200))), list(INFERENCE_TABLE))
    assert origins_in_words(found["probability"]) == "from 200 columns of source_table"
    assert origins_in_words(found["run_id"]) == "from run_id of model_run"


def test_every_column_that_is_written_has_a_meaning_and_no_other():
    ids = pa.schema([(name, pa.int64()) for name in ("_individual", "_decision", "_choice", "_alternative")])
    for schema, table in ((inference_schema(ids), INFERENCE_TABLE), (RESULTS_SCHEMA, RESULTS_TABLE)):
        assert list(table) == schema.names
        types = {name: column.type for name, column in table.items() if " or " not in column.type}
        assert types == {name: str(schema.field(name).type) for name in types}


@pytest.mark.parametrize(("asset", "heading"), [("model_run", "Results table"), ("inference_table", "Inference table")])
def test_the_page_of_formats_begins_with_the_same_words(asset, heading):
    section = FORMATS.partition(f"### {heading}\n")[2].partition("\n##")[0]
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| [^|]* \| ([^|]*) \|$", section, re.MULTILINE)
    words = {name: _plain(text) for names, text in rows for name in re.findall(r"`(\w+)`", names)}
    for name in (RESULTS_TABLE if asset == "model_run" else INFERENCE_TABLE).keys() - {
        "_individual",
        "_decision",
        "_choice",
    }:
        assert words[name].startswith(meaning_of(asset, name).partition(";")[0][:40]), name


def _plain(text: str) -> str:
    return re.sub(r"\[(.*?)\]\(.*?\)", r"\1", text).replace("`", "")
