"""Imports: folders, types and CSV files as people have them."""

import gzip
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mimic_core.errors import TableError
from resources.environments import local_resources
from resources.imports import open_files, standard_parts
from resources.tables import TableStore

NAME = "haven.features"
LONG = 200_000  # lines of CSV, more than the types are guessed from


@pytest.fixture
def tables(tmp_path) -> TableStore:
    return local_resources(tmp_path / "mimic")["tables"]


def parquet(path: Path, table: pa.Table) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
    return path


def read(*paths: Path) -> pa.Table:
    """What an import would store."""
    files, schema = open_files(paths)
    return pa.concat_tables(standard_parts(files, schema)).combine_chunks()


def one(number: int) -> pa.Table:
    return pa.table({"size": [number]})


# ---- folders


def test_names_of_folders_give_columns_of_the_types_that_fit_them(tmp_path):
    hive = tmp_path / "files"
    parquet(hive / "_train=true/_individual=1/region=north%20east/share=0.5/a.parquet", one(1))
    parquet(hive / "_train=false/_individual=20/region=__HIVE_DEFAULT_PARTITION__/share=1/a.parquet", one(2))
    parquet(hive / "_train=true/loose.parquet", one(3))
    found = read(hive).sort_by("size")
    assert found.to_pydict() == {
        "size": [1, 2, 3],
        "_train": [True, False, True],
        "_individual": [1, 20, None],
        "region": ["north east", None, None],
        "share": [0.5, 1.0, None],
    }


def test_flags_of_0_and_1_in_names_of_folders_are_flags(tmp_path):
    for flag in (0, 1):
        parquet(tmp_path / f"files/_train={flag}/a.parquet", one(flag))
    assert sorted(zip(*read(tmp_path / "files").to_pydict().values(), strict=True)) == [(0, False), (1, True)]


def test_only_folders_below_the_given_path_give_columns(tmp_path):
    path = parquet(tmp_path / "region=north/_train=true/a.parquet", one(1))
    assert read(tmp_path / "region=north").column_names == ["size", "_train"]
    assert read(path).column_names == ["size"]


def test_the_name_of_a_folder_counts_where_its_files_have_the_column_too(tmp_path):
    for region in ("north", "south"):
        parquet(tmp_path / f"files/region={region}/a.parquet", pa.table({"region": ["old"], "size": [1]}))
    assert sorted(read(tmp_path / "files")["region"].to_pylist()) == ["north", "south"]


def test_csv_files_below_named_folders_have_their_columns_too(tmp_path):
    for flag in ("true", "false"):
        (tmp_path / f"files/_train={flag}").mkdir(parents=True)
        (tmp_path / f"files/_train={flag}/a.csv").write_text("size\n1\n")
    assert sorted(read(tmp_path / "files")["_train"].to_pylist()) == [False, True]


def test_unfinished_and_hidden_files_do_not_count_and_a_folder_may_be_called_parquet(tmp_path):
    for name in ("part.parquet", "_temporary/0/part.parquet", ".hidden/part.parquet", "._part.parquet"):
        parquet(tmp_path / "table.parquet" / name, one(1))
    assert len(read(tmp_path / "table.parquet")) == 1


def test_links_to_folders_are_followed_and_may_not_lead_to_one_twice(tmp_path):
    parquet(tmp_path / "elsewhere/a.parquet", one(1))
    (tmp_path / "files").mkdir()
    (tmp_path / "files/region=north").symlink_to(tmp_path / "elsewhere")
    assert read(tmp_path / "files").to_pydict() == {"size": [1], "region": ["north"]}
    (tmp_path / "elsewhere/again").symlink_to(tmp_path / "files")
    with pytest.raises(TableError, match=r"again: this link leads to .*/files a second time"):
        read(tmp_path / "files")


def test_files_may_have_different_types_where_a_table_has_one(tmp_path):
    first = pa.table({"_train": [True], "size": [1], "mode": pa.array(["bus"]).dictionary_encode(), "age": pa.nulls(1)})
    second = pa.table({"_train": [0], "size": [1.5], "mode": pa.array(["car"], pa.large_string()), "age": [7]})
    paths = [parquet(tmp_path / f"{index}.parquet", table) for index, table in enumerate((first, second))]
    assert read(*paths).to_pydict() == {"_train": [True, False], "size": [1, 1.5], "mode": ["bus", "car"], "age": [None, 7]}


def test_files_that_do_not_fit_each_other_are_named(tmp_path):
    paths = [parquet(tmp_path / "a.parquet", one(1)), parquet(tmp_path / "b.parquet", pa.table({"size": ["large"]}))]
    with pytest.raises(TableError, match=r"b\.parquet: cannot be read as one table: .*size.*int64 vs string"):
        read(*paths)


# ---- CSV


def csv(path: Path, header: str, *lines: str) -> Path:
    text = "\n".join([header, *lines]) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.mark.parametrize("suffix", ["csv", "csv.gz"])
def test_a_column_of_whole_numbers_may_have_decimals_later(tmp_path, suffix):
    found = read(csv(tmp_path / f"a.{suffix}", "_individual,size", *["1,2"] * LONG, "2,2.5"))
    assert found.schema.types == [pa.int64(), pa.float64()]
    assert found.slice(LONG).to_pylist() == [{"_individual": 2, "size": 2.5}]


@pytest.mark.parametrize(("value", "kind"), [("7", pa.int64()), ("7.5", pa.float64()), ("red", pa.string())])
def test_a_column_may_begin_with_blanks(tmp_path, value, kind):
    found = read(csv(tmp_path / "a.csv", "_individual,size", *["1000,"] * LONG, f"2,{value}"))
    assert found.schema.field("size").type == kind
    assert str(found["size"][-1]) == value


def test_ids_may_be_digits_first_and_text_later(tmp_path):
    found = read(csv(tmp_path / "a.csv", "_individual,size", *["1000,1"] * LONG, "A7,1"))
    assert found["_individual"].slice(LONG - 1).to_pylist() == ["1000", "A7"]


@pytest.mark.parametrize("flags", ["1 0", "true false", "True FALSE", "TRUE False", "t f", "T F"])
def test_flags_are_written_as_people_write_them(tmp_path, flags):
    yes, no = flags.split()
    found = read(csv(tmp_path / "a.csv", "_selected,_train", f"{yes},{no}", f"{no},{yes}", f"{no},"))
    assert found.to_pydict() == {"_selected": [True, False, False], "_train": [False, True, None]}


# ---- ids and features


def test_ids_may_be_text(tables, tmp_path):
    table = pa.table(
        {"_individual": ["anna", "b"], "_decision": pa.array(["x", "x"]).dictionary_encode(), "_choice": [1, 2]}
    )
    pin = tables.import_files(NAME, [parquet(tmp_path / "a.parquet", table)])
    assert [str(kind) for kind in tables.schema_of(pin).types] == ["string", "string", "int64"]


def test_ids_that_pandas_made_floats_are_whole_numbers_again(tmp_path):
    path = parquet(tmp_path / "a.parquet", pa.table({"_individual": [1.0, float("nan"), 3.0]}))
    assert read(path)["_individual"].to_pylist() == [1, None, 3]
    parquet(path, pa.table({"_individual": [1.0, 1.5]}))
    with pytest.raises(TableError, match=r"a\.parquet: column '_individual' .* other numbers than ids in 1 rows \(1\.5\)"):
        read(path)


def test_decimals_stay_numbers(tmp_path):
    values = {
        "price": pa.array([Decimal("1.50")], pa.decimal128(9, 2)),
        "wide": pa.array([Decimal(2)], pa.decimal256(50, 0)),
    }
    found = read(parquet(tmp_path / "a.parquet", pa.table(values)))
    assert found.to_pydict() == {"price": [Decimal("1.50")], "wide": [2.0]}


# ---- refusals


def test_an_import_that_is_refused_at_its_end_does_not_claim_its_name(tables, tmp_path):
    good, bad = pa.table({"_individual": [1], "_train": [1]}), pa.table({"_individual": [2], "_train": [2]})
    paths = [parquet(tmp_path / "a.parquet", good), parquet(tmp_path / "b.parquet", bad)]
    with pytest.raises(TableError, match=r"b\.parquet: column '_train' holds other numbers.*; the table is unchanged"):
        tables.import_files(NAME, paths)
    assert (tables.exists(NAME), tables.kind(NAME), list((tmp_path / "mimic").rglob("*.parquet"))) == (False, None, [])
    assert tables.register(NAME, paths[0]).rows == 1


def test_appended_rows_must_have_the_keys_and_flags_of_the_table(tables, tmp_path):
    table = pa.table({"_individual": [1], "_selected": [True], "_train": [True], "size": [1.5]})
    before = tables.import_files(NAME, [parquet(tmp_path / "a.parquet", table)])
    path = parquet(tmp_path / "b.parquet", table.drop_columns(["_selected", "_train"]))
    message = r"do not fit table haven\.features:\n  column '_selected' is missing, .*\n  column '_train' is missing"
    with pytest.raises(TableError, match=message):
        tables.import_files(NAME, [path], append=True)
    assert tables.pin(NAME) == before
    more = tables.import_files(NAME, [parquet(path, table.drop_columns(["size"]))], append=True)
    assert sorted((b["size"][0].as_py() or 0) for b in tables.batches(more)) == [0, 1.5]


def test_ids_with_leading_zeros_are_text_because_they_differ_from_those_without(tmp_path):
    (tmp_path / "a.csv").write_text("_individual,_decision,size\n007,1,01\n7,-2,2\n,0,3\n")
    table = read(tmp_path / "a.csv")
    assert table["_individual"].to_pylist() in (["007", "7", ""], ["007", "7", None])
    assert table["_decision"].to_pylist() == [1, -2, 0]
    assert table["size"].to_pylist() == [1, 2, 3]


def test_a_folder_named_by_an_id_with_leading_zeros_gives_text(tmp_path):
    for name in ("007", "7"):
        parquet(tmp_path / f"files/_individual={name}/month=01/a.parquet", pa.table({"size": [1.5]}))
    table = read(tmp_path / "files")
    assert sorted(table["_individual"].to_pylist()) == ["007", "7"]
    assert table["month"].to_pylist() == [1, 1]


@pytest.mark.parametrize(("mark", "name"), [(";", "semicolons"), ("\t", "tabs"), ("|", "bars")])
def test_a_csv_file_with_other_separators_says_which(tmp_path, mark, name):
    (tmp_path / "a.csv").write_text(f"_individual{mark}size\n1{mark}1,5\n")
    with pytest.raises(TableError, match=rf"a\.csv: its columns are separated by {name}, expected commas"):
        read(tmp_path / "a.csv")


def test_of_many_files_the_one_that_does_not_fit_is_named(tmp_path):
    for number in range(9):
        parquet(tmp_path / f"files/{number}.parquet", pa.table({"size": ["large"] if number == 7 else [1.5]}))
    with pytest.raises(TableError, match=r"7\.parquet: cannot be read as one table: .*size") as caught:
        read(tmp_path / "files")
    assert "0.parquet" not in str(caught.value)
    (tmp_path / "files/7.parquet").write_bytes(b"no parquet at all")
    with pytest.raises(TableError, match=r"files/7\.parquet: cannot be read"):
        read(tmp_path / "files")
