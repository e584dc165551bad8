"""Tables: what people bring in, what they get back, and what a concurrent or interrupted writer can do to it."""

from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mimic_core.errors import ConflictError, NotFoundError, SpecError, TableError
from resources.environments import local_resources
from resources.imports import open_files
from resources.tables import CONTRAST, INFERENCE, RESULTS, SOURCE, Pin, TableStore

NAME, PAIRS = "haven.features", "haven.pairs"
RESULTS_SCHEMA = pa.schema([("run_id", pa.string()), ("epoch", pa.int32()), ("loss", pa.float64())])


@pytest.fixture
def tables(tmp_path) -> TableStore:
    return local_resources(tmp_path / "mimic")["tables"]


def rows(*ids: int, size: float = 1.5) -> pa.Table:
    """The smallest table with an id and a feature."""
    return pa.table({"_individual": pa.array(ids, pa.int64()), "size": pa.array([size] * len(ids), pa.float64())})


def parquet(path: Path, table: pa.Table) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
    return path


def read(tables: TableStore, pin: Pin, **options: object) -> pa.Table:
    return pa.Table.from_batches(list(tables.batches(pin, **options)))


def ids(tables: TableStore, pin: Pin) -> list[int]:
    return sorted(read(tables, pin)["_individual"].to_pylist())


def results(run_id: str, *losses: float) -> pa.Table:
    columns = {"run_id": [run_id] * len(losses), "epoch": range(1, len(losses) + 1), "loss": losses}
    return pa.table({name: pa.array(values, RESULTS_SCHEMA.field(name).type) for name, values in columns.items()})


def replace(tables: TableStore, table: pa.Table, run_id: str) -> Pin:
    tables.ensure("haven.results", RESULTS_SCHEMA, kind=RESULTS, partition_by=["run_id"])
    return tables.replace("haven.results", [tables.stage("haven.results", [table])], {"run_id": run_id})


# ---- importing


def test_a_parquet_file_comes_back_row_by_row(tables, tmp_path, decision_table):
    table = decision_table()
    pin = tables.import_files(NAME, [parquet(tmp_path / "a.parquet", table)])
    keys = [(name, "ascending") for name in ("_individual", "_decision", "_choice")]
    assert read(tables, pin).sort_by(keys) == table.sort_by(keys)
    assert (pin.rows, pin.kind) == (len(table), SOURCE)


def test_a_csv_file_with_flags_of_0_and_1_becomes_a_decision_table(tables, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("_individual,_decision,_choice,_selected,_train,size\n1,0,0,1,1,2.5\n1,0,1,0,1,\n")
    table = read(tables, tables.import_files(NAME, [path]))
    assert table.schema.field("_individual").type == pa.int64()
    assert table["_selected"].to_pylist() == [True, False]
    assert table["_train"].to_pylist() == [True, True]
    assert table["size"].to_pylist() == [2.5, None]


def test_a_flag_that_is_neither_0_nor_1_is_refused(tables, tmp_path):
    path = parquet(tmp_path / "a.parquet", pa.table({"_individual": [1, 2], "_selected": [0, 2]}))
    with pytest.raises(TableError, match=r"_selected.*other numbers than 0 and 1 in 1 rows \(2\)"):
        tables.import_files(NAME, [path])


def test_several_files_are_one_table_and_their_types_are_widened(tables, tmp_path):
    first = parquet(
        tmp_path / "a.parquet", pa.table({"_individual": pa.array([1], pa.int32()), "size": pa.array([1], pa.int64())})
    )
    second = parquet(tmp_path / "b.parquet", rows(2))
    pin = tables.import_files(NAME, [first, second])
    assert sorted(read(tables, pin)["size"].to_pylist()) == [1.0, 1.5]
    assert tables.schema_of(pin).field("_individual").type == pa.int64()


def test_a_folder_is_read_with_all_that_lies_below_it(tables, tmp_path):
    parquet(tmp_path / "files/a.parquet", rows(1))
    parquet(tmp_path / "files/deeper/b.parquet", rows(2, 3))
    assert ids(tables, tables.import_files(NAME, [tmp_path / "files"])) == [1, 2, 3]


@pytest.mark.parametrize("kind", [pa.int8(), pa.int16(), pa.int32(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()])
def test_ids_of_any_integer_type_become_int64(tables, tmp_path, kind):
    path = parquet(tmp_path / "a.parquet", pa.table({"_individual": pa.array([0, 127], kind)}))
    pin = tables.import_files(NAME, [path])
    assert tables.schema_of(pin).field("_individual").type == pa.int64()
    assert ids(tables, pin) == [0, 127]


def test_ids_beyond_the_exact_range_of_floats_survive(tables, tmp_path):
    wanted = [-(2**63), -1, 0, 2**53 + 1, 2**63 - 1]
    assert ids(tables, tables.import_files(NAME, [parquet(tmp_path / "a.parquet", rows(*wanted))])) == wanted


def test_dictionary_columns_are_decoded(tables, tmp_path):
    mode = pa.array(["train", "car", "train"]).dictionary_encode()
    pin = tables.import_files(NAME, [parquet(tmp_path / "a.parquet", pa.table({"_individual": [1, 2, 3], "mode": mode}))])
    assert tables.schema_of(pin).field("mode").type == pa.string()
    assert read(tables, pin)["mode"].to_pylist() == ["train", "car", "train"]


def test_a_column_without_any_value_is_named(tables, tmp_path):
    path = parquet(tmp_path / "a.parquet", pa.table({"_individual": [1], "size": pa.nulls(1)}))
    with pytest.raises(TableError, match=r"column 'size' is null; expected numbers.*leave the column out"):
        tables.import_files(NAME, [path])


def test_a_column_of_lists_is_named(tables, tmp_path):
    path = parquet(tmp_path / "a.parquet", pa.table({"_individual": [1], "sizes": [[1.0, 2.0]]}))
    with pytest.raises(TableError, match="column 'sizes' is list"):
        tables.import_files(NAME, [path])


def test_a_column_named_twice_is_refused_whatever_the_format(tables, tmp_path):
    twice = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["size", "size"])
    with pytest.raises(TableError, match=r"a\.parquet: .*duplicate field names"):
        tables.import_files(NAME, [parquet(tmp_path / "a.parquet", twice)])
    (tmp_path / "a.csv").write_text("size,size\n1,2\n")
    with pytest.raises(TableError, match=r"a\.csv: .*multiple columns named size"):
        tables.import_files(NAME, [tmp_path / "a.csv"])
    assert tables.names() == []


def test_a_missing_path_is_named(tables, tmp_path):
    with pytest.raises(TableError, match=r"nothing\.parquet: there is no such file or folder"):
        tables.import_files(NAME, [tmp_path / "nothing.parquet"])


def test_a_folder_without_data_files_is_named(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(TableError, match=r"empty: no \.parquet or \.csv file in this folder"):
        open_files([tmp_path / "empty"])


def test_a_file_that_is_not_parquet_is_named(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"not a parquet file at all")
    with pytest.raises(TableError, match=r"a\.parquet: cannot be read"):
        open_files([tmp_path / "a.parquet"])


def test_parquet_and_csv_files_are_not_mixed(tmp_path):
    (tmp_path / "a.csv").write_text("size\n1\n")
    with pytest.raises(TableError, match="all of one kind"):
        open_files([parquet(tmp_path / "a.parquet", rows(1)), tmp_path / "a.csv"])


def test_a_csv_value_that_does_not_fit_its_column_is_an_error_about_the_file(tables, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("_individual,size\n" + "1,2.5\n" * 200_000 + "1,large\n")
    with pytest.raises(TableError, match=r"a\.csv: cannot be read: .*large"):
        tables.import_files(NAME, [path])
    assert tables.names() == []


@pytest.mark.parametrize("name", ["features", "a.b.c", "haven.", "haven.my-table", "haven.1st"])
def test_a_name_that_is_not_database_and_table_is_refused(tables, tmp_path, name):
    with pytest.raises(SpecError, match=r"expected a table as DATABASE\.TABLE"):
        tables.import_files(name, [parquet(tmp_path / "a.parquet", rows(1))])


# ---- replacing and appending


def test_a_second_import_replaces_rows_columns_and_types_in_one_commit(tables, tmp_path):
    before = tables.import_files(NAME, [parquet(tmp_path / "a.parquet", rows(1, 2))])
    other = pa.table({"_individual": [3], "size": ["large"], "age": [7]})
    after = tables.import_files(NAME, [parquet(tmp_path / "b.parquet", other)])
    assert {field.name: field.type for field in tables.schema_of(after)} == {
        "_individual": pa.int64(),
        "size": pa.string(),
        "age": pa.int64(),
    }
    assert read(tables, after).select(other.column_names) == other
    assert read(tables, before).select(["_individual", "size"]) == rows(1, 2)


def test_append_adds_rows_and_new_columns_are_null_in_old_rows(tables, tmp_path):
    tables.import_files(NAME, [parquet(tmp_path / "a.parquet", rows(1))])
    more = pa.table({"_individual": [2], "size": [2.5], "age": [7]})
    pin = tables.import_files(NAME, [parquet(tmp_path / "b.parquet", more)], append=True)
    assert pin.rows == 2
    assert dict(zip(*(read(tables, pin)[name].to_pylist() for name in ("_individual", "age")), strict=True)) == {
        1: None,
        2: 7,
    }


def test_append_widens_integers_to_a_column_of_numbers(tables, tmp_path):
    tables.import_files(NAME, [parquet(tmp_path / "a.parquet", rows(1))])
    more = pa.table({"_individual": [2], "size": pa.array([3], pa.int32())})
    pin = tables.import_files(NAME, [parquet(tmp_path / "b.parquet", more)], append=True)
    assert sorted(read(tables, pin)["size"].to_pylist()) == [1.5, 3.0]


def test_rows_that_do_not_fit_are_not_appended(tables, tmp_path):
    before = tables.import_files(NAME, [parquet(tmp_path / "a.parquet", rows(1))])
    more = pa.table({"_individual": [2], "size": ["large"]})
    with pytest.raises(
        TableError, match=r"do not fit table haven\.features:\n  column 'size' is string, the table has double"
    ):
        tables.import_files(NAME, [parquet(tmp_path / "b.parquet", more)], append=True)
    assert tables.pin(NAME) == before


def test_an_import_that_fails_leaves_no_table(tables, tmp_path):
    path = parquet(tmp_path / "a.parquet", pa.table({"_individual": pa.array([2**63], pa.uint64())}))
    with pytest.raises(TableError, match="_individual"):
        tables.import_files(NAME, [path])
    assert tables.names() == []
    with pytest.raises(NotFoundError):
        tables.pin(NAME)
    assert not list((tmp_path / "mimic").rglob("*.parquet"))


def test_an_import_that_fails_leaves_the_table_as_it_was(tables, tmp_path):
    before = tables.import_files(NAME, [parquet(tmp_path / "a.parquet", rows(1))])
    broken = parquet(tmp_path / "b.parquet", pa.table({"_individual": pa.array([2**63], pa.uint64())}))
    with pytest.raises(TableError):
        tables.import_files(NAME, [broken])
    assert tables.pin(NAME) == before
    assert ids(tables, before) == [1]


def test_progress_is_reported_in_rows(tables, tmp_path):
    seen: list[int] = []
    tables.import_files(NAME, [parquet(tmp_path / "a.parquet", rows(1, 2, 3))], on_rows=seen.append)
    assert seen[-1] == 3


# ---- reading versions


def test_a_pinned_version_keeps_its_rows_and_columns_after_later_changes(tables, tmp_path):
    pin = tables.import_files(NAME, [parquet(tmp_path / "a.parquet", rows(1, 2))])
    tables.import_files(NAME, [parquet(tmp_path / "b.parquet", rows(3))], append=True)
    tables.import_files(NAME, [parquet(tmp_path / "c.parquet", pa.table({"_individual": [9], "age": [1]}))])
    assert tables.schema_of(pin) == rows().schema
    assert ids(tables, pin) == [1, 2]


def test_another_process_reads_the_same_pinned_version(tables, tmp_path):
    pin = tables.import_files(NAME, [parquet(tmp_path / "a.parquet", rows(1, 2))])
    later = local_resources(tmp_path / "mimic")["tables"]
    later.import_files(NAME, [parquet(tmp_path / "b.parquet", rows(3))])
    assert ids(tables, pin) == [1, 2]
    assert ids(later, pin) == [1, 2]
    assert ids(tables, tables.pin(NAME)) == [3]


def test_the_content_token_changes_with_the_rows_and_only_then(tables, tmp_path):
    first = tables.import_files(NAME, [parquet(tmp_path / "a.parquet", rows(1))])
    assert tables.pin(NAME).token == first.token
    tables.import_files("haven.other", [parquet(tmp_path / "b.parquet", rows(2))])
    assert tables.pin(NAME).token == first.token
    second = tables.import_files(NAME, [parquet(tmp_path / "c.parquet", rows(2))], append=True)
    third = tables.import_files(NAME, [parquet(tmp_path / "d.parquet", rows(3))])
    assert len({first.token, second.token, third.token}) == 3


def test_without_any_table_the_error_says_how_to_import_one(tables):
    with pytest.raises(NotFoundError, match="the tables are none yet; import one with `mimic tables import"):
        tables.pin(NAME)


def test_an_error_about_a_table_that_is_not_there_names_first_those_that_can_be_read(tables, tmp_path):
    tables.import_files(NAME, [parquet(tmp_path / "a.parquet", rows(1))])
    tables.import_files("haven.zoo", [parquet(tmp_path / "a.parquet", rows(1))])
    replace(tables, results("a", 0.5), "a")
    expected = f"the tables are {NAME}, haven.zoo, beside those of results and inferences: haven.results; import one with"
    with pytest.raises(NotFoundError, match=expected):
        tables.pin("haven.nothing")


def test_an_old_version_is_pinned_with_its_rows_and_its_columns(tables, tmp_path):
    first = tables.import_files(NAME, [parquet(tmp_path / "a.parquet", rows(1, 2))])
    tables.import_files(NAME, [parquet(tmp_path / "b.parquet", pa.table({"_individual": [9], "size": ["large"]}))])
    more = pa.table({"_individual": [8], "size": ["small"], "age": [7]})
    newest = tables.import_files(NAME, [parquet(tmp_path / "c.parquet", more)], append=True)
    old = tables.pin(NAME, first.snapshot)
    assert (old, tables.pin(NAME, newest.snapshot)) == (first, newest)
    assert tables.schema_of(old) == rows().schema
    assert read(tables, old) == rows(1, 2)


def test_a_version_that_a_table_does_not_have_is_named(tables, tmp_path):
    other = tables.import_files("haven.other", [parquet(tmp_path / "a.parquet", rows(1))])
    tables.import_files(NAME, [parquet(tmp_path / "b.parquet", rows(2))])
    message = rf"table haven\.features: version {other.snapshot} is gone; start the build again"
    with pytest.raises(NotFoundError, match=message):
        tables.pin(NAME, other.snapshot)


# ---- what builds write


def test_rows_that_were_staged_are_not_visible_before_the_commit(tables):
    before = replace(tables, results("a", 0.9), "a")
    staged = tables.stage("haven.results", [results("b", 0.1)])
    assert tables.pin("haven.results") == before
    tables.discard(staged)
    assert not any(Path(path.removeprefix("file://")).exists() for path in staged.paths)


@pytest.mark.parametrize("empty", [True, False])
def test_the_same_staged_rows_land_once_when_the_commit_is_repeated(tables, empty):
    if not empty:
        replace(tables, results("a", 0.9), "a")
    tables.ensure("haven.results", RESULTS_SCHEMA, kind=RESULTS, partition_by=["run_id"])
    staged = [tables.stage("haven.results", [results("a", 0.5, 0.4)])]
    first = tables.replace("haven.results", staged, {"run_id": "a"})
    again = tables.replace("haven.results", staged, {"run_id": "a"})
    assert first == again
    assert sorted(read(tables, again)["loss"].to_pylist()) == [0.4, 0.5]


def test_replacing_a_key_by_nothing_removes_its_rows(tables):
    replace(tables, results("a", 0.9), "a")
    replace(tables, results("b", 0.7), "b")
    pin = tables.replace("haven.results", [], {"run_id": "a"})
    assert read(tables, pin)["run_id"].to_pylist() == ["b"]


def commits(tables: TableStore, name: str) -> int:
    """How often a table was committed: each time, Iceberg writes one file of metadata."""
    folder = Path(tables.warehouse.removeprefix("file://"), *name.split("."))
    return len(list(folder.glob("metadata/*.metadata.json")))


def contrasts(tables: TableStore, table: pa.Table, **options: object) -> Pin:
    """Replace all rows of the contrast table, and its columns by those of the new rows."""
    tables.ensure(PAIRS, table.schema, kind=CONTRAST)
    staged = [tables.stage(PAIRS, [table], columns=table.schema)]
    return tables.replace(PAIRS, staged, None, columns=table.schema, **options)


def test_replacing_all_rows_may_add_remove_and_retype_columns_in_the_same_commit(tables):
    before = contrasts(tables, rows(1, 2))
    count = commits(tables, PAIRS)
    other = pa.table({"_individual": pa.array([3], pa.int64()), "size": ["large"], "age": [7]})
    after = contrasts(tables, other)
    assert commits(tables, PAIRS) == count + 1
    assert tables.schema_of(after).field("size").type == pa.string()
    assert read(tables, after).select(other.column_names) == other
    assert tables.schema_of(before) == rows().schema
    assert ids(tables, before) == [1, 2]


def test_a_column_that_is_removed_and_added_again_holds_the_new_values_only(tables):
    for table in (rows(1, 2, size=1.5), rows(3).select(["_individual"]), rows(4, size=2.5)):
        pin = contrasts(tables, table)
    assert read(tables, pin) == rows(4, size=2.5)


def test_a_replaced_table_carries_the_token_that_it_was_given_and_else_one_of_its_own(tables):
    given = [contrasts(tables, rows(number), token=token) for number, token in enumerate(("a", "b", "a"))]
    own = [contrasts(tables, rows(number)).token for number in (1, 1)]
    assert [pin.token for pin in given] == ["a", "b", "a"]
    assert [tables.pin(PAIRS, pin.snapshot).token for pin in given] == ["a", "b", "a"]
    assert len({pin.snapshot for pin in given}) == 3
    assert len({"a", "b", *own}) == 4


def test_a_commit_that_is_repeated_lands_its_rows_columns_and_token_once(tables):
    contrasts(tables, rows(1))
    other = pa.table({"_individual": pa.array([3], pa.int64()), "age": [7]})
    staged = [tables.stage(PAIRS, [other], columns=other.schema)]
    new = {"columns": other.schema, "token": "a"}
    first, again = (tables.replace(PAIRS, staged, None, **new) for _ in range(2))
    assert first == again == tables.pin(PAIRS)
    assert read(tables, again) == other


@pytest.mark.parametrize("columns", [None, rows().schema.append(pa.field("age", pa.int64()))])
def test_rows_that_were_staged_for_other_columns_than_the_table_has_by_now_are_refused(tables, columns):
    contrasts(tables, rows(1))
    staged = [tables.stage(PAIRS, [rows(2)], columns=columns)]
    present = contrasts(tables, rows(3).append_column("colour", pa.array(["red"])))
    with pytest.raises(ConflictError, match=r"table haven\.pairs: its columns were changed meanwhile; start again"):
        tables.replace(PAIRS, staged, None, columns=columns)
    assert tables.pin(PAIRS) == present


def test_rows_that_were_staged_before_another_commit_of_the_same_columns_are_published(tables):
    contrasts(tables, rows(1))
    staged = [tables.stage(PAIRS, [rows(2)], columns=rows().schema)]
    contrasts(tables, rows(3))
    assert ids(tables, tables.replace(PAIRS, staged, None, columns=rows().schema)) == [2]


def test_a_binary_column_keeps_its_type_when_it_is_imported_again(tables, tmp_path):
    path = parquet(tmp_path / "a.parquet", pa.table({"_individual": [1], "photo": pa.array([b"x"], pa.binary())}))
    first, again = (tables.import_files("haven.binary", [path]) for _ in range(2))
    assert (first.token, first.schema_id) == (again.token, again.schema_id)
    assert tables.import_files("haven.binary", [path], append=True).rows == 2


def test_rows_that_another_build_replaced_before_theirs_was_told_are_refused_and_stay_readable(tables):
    contrasts(tables, rows(1))
    staged = [tables.stage(PAIRS, [rows(2)], columns=rows().schema)]
    mine = tables.replace(PAIRS, staged, None, columns=rows().schema)
    contrasts(tables, rows(3))
    refused = pytest.raises(ConflictError, match="another build replaced these rows meanwhile; build again")
    with refused, tables.discarding(PAIRS, staged):
        tables.replace(PAIRS, staged, None, columns=rows().schema)
    assert ids(tables, mine) == [2]


def test_the_kind_of_a_table_is_what_it_was_made_for(tables, tmp_path):
    assert tables.kind(PAIRS) is None
    contrasts(tables, rows(1))
    tables.import_files(NAME, [parquet(tmp_path / "a.parquet", rows(1))])
    replace(tables, results("a", 0.9), "a")
    assert [tables.kind(name) for name in (PAIRS, NAME, "haven.results")] == [CONTRAST, SOURCE, RESULTS]
    for name in (PAIRS, NAME, "haven.nothing"):
        tables.require_kind(name, SOURCE, CONTRAST)
    with pytest.raises(TableError, match=r"haven\.results holds results rows, expected source or contrast rows"):
        tables.require_kind("haven.results", SOURCE, CONTRAST)


def test_a_table_of_another_kind_is_refused(tables, tmp_path):
    tables.import_files(NAME, [parquet(tmp_path / "a.parquet", rows(1))])
    with pytest.raises(
        TableError, match=r"table haven\.features holds source rows, expected results rows; give another name"
    ):
        tables.ensure(NAME, RESULTS_SCHEMA, kind=RESULTS)
    replace(tables, results("a", 0.9), "a")
    with pytest.raises(TableError, match=r"holds results rows, expected source rows"):
        tables.import_files("haven.results", [parquet(tmp_path / "a.parquet", rows(1))])


def test_a_table_with_other_columns_is_refused(tables):
    tables.ensure("haven.results", RESULTS_SCHEMA, kind=RESULTS)
    other = pa.schema([("run_id", pa.int64()), ("accuracy", pa.float64())])
    with pytest.raises(TableError, match="column 'run_id' is string, expected int64"):
        tables.ensure("haven.results", other, kind=RESULTS)


def test_tables_are_listed_by_kind(tables, tmp_path):
    tables.import_files(NAME, [parquet(tmp_path / "a.parquet", rows(1))])
    replace(tables, results("a", 0.9), "a")
    assert tables.names() == ["haven.features", "haven.results"]
    assert tables.names(SOURCE) == ["haven.features"]
    assert tables.names(INFERENCE) == []


def test_an_empty_table_of_results_can_be_read(tables):
    tables.ensure("haven.results", RESULTS_SCHEMA, kind=RESULTS, partition_by=["run_id"])
    assert list(tables.batches(tables.pin("haven.results"))) == []


def test_an_import_that_is_interrupted_after_its_commit_keeps_its_rows(tables, tmp_path, monkeypatch):
    path = parquet(tmp_path / "a.parquet", pa.table({"_individual": [1, 2]}))
    whole = type(tables)._commit

    def interrupted(self, *arguments, **options):
        whole(self, *arguments, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(type(tables), "_commit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tables.import_files("haven.a", [path])
    monkeypatch.undo()
    assert [batch.to_pydict() for batch in tables.batches(tables.pin("haven.a"))] == [{"_individual": [1, 2]}]


def test_times_of_any_unit_and_zone_are_stored_in_microseconds(tables, tmp_path):
    moment = datetime(2020, 1, 2, 3)
    table = pa.table(
        {
            "_individual": [1],
            "pandas": pa.array([moment], pa.timestamp("ns")),
            "zoned": pa.array([moment], pa.timestamp("ms", "Europe/Berlin")),
            "clock": pa.array([5], pa.time32("s")),
        }
    )
    pin = tables.import_files("haven.a", [parquet(tmp_path / "a.parquet", table)])
    kinds = [str(kind) for kind in tables.schema_of(pin).types]
    assert kinds == ["int64", "timestamp[us]", "timestamp[us, tz=UTC]", "time64[us]"]
    (row,) = next(tables.batches(pin)).to_pylist()
    assert row["pandas"] == moment


@pytest.mark.parametrize(("column", "kind"), [(pa.array([1], pa.duration("s")), "duration"), (pa.array([[1]]), "list<")])
def test_a_column_that_no_table_can_hold_is_named_with_its_type(tables, tmp_path, column, kind):
    path = parquet(tmp_path / "a.parquet", pa.table({"_individual": [1], "odd": column}))
    with pytest.raises(TableError, match=rf"a\.parquet: column 'odd' is {kind}.*; expected numbers"):
        tables.import_files("haven.a", [path])


def test_a_file_without_rows_is_refused_and_makes_no_table(tables, tmp_path):
    path = parquet(tmp_path / "a.parquet", pa.table({"_individual": pa.array([], pa.int64())}))
    with pytest.raises(TableError, match=r"a\.parquet: there are no rows"):
        tables.import_files("haven.a", [path])
    assert tables.names() == []


def test_the_same_file_again_is_the_same_content(tables, tmp_path):
    path = parquet(tmp_path / "a.parquet", pa.table({"_individual": [1, 2]}))
    other = parquet(tmp_path / "b.parquet", pa.table({"_individual": [1, 3]}))
    first, second, third = (tables.import_files("haven.a", [file]).token for file in (path, other, path))
    assert first == third != second
    assert tables.import_files("haven.a", [path], append=True).token not in {first, second}
