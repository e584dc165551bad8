"""The same promises over every backing of a table: where it is read from and written to is a matter of configuration."""

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from mimic_core.errors import ConflictError, NotFoundError, TableError
from resources.aws import client
from resources.storage import storage_at
from resources.tables import RESULTS, SOURCE, Pin, TableStore

NAME = "haven.features"
IN_AWS = ["a file in s3", "a hive folder in s3", "a plain table of glue", "a partitioned table of glue"]
CATALOGS = ["sqlite", "postgres", "glue and s3"]  # Postgres with S3 is a combination of both
BACKINGS = [*(f"imported on {catalog}" for catalog in CATALOGS), "a file", "a folder", "a hive folder", *IN_AWS]
RESULTS_SCHEMA = pa.schema([("run_id", pa.string()), ("loss", pa.float64())])


def places(kind: str, request: pytest.FixtureRequest, home: Path) -> dict[str, str]:
    """Where the catalog and the tables' files are; what a user sets."""
    kind = {"a plain table of glue": "glue and s3", "a partitioned table of glue": "glue and s3"}.get(kind, kind)
    warehouse = f"file://{home / 'warehouse'}"
    if "s3" in kind:
        request.getfixturevalue("aws")
        warehouse = "s3://mimic-tests/warehouse"
    if "glue" in kind:
        return {"catalog_uri": "glue:haven", "warehouse": warehouse}
    url = request.getfixturevalue("database")() if "postgres" in kind else f"sqlite:///{home / 'catalog.db'}"
    return {"catalog_uri": url, "warehouse": warehouse}


def store(home: Path, where: dict[str, str], machine: str = "locks") -> TableStore:
    """A store over a home as one machine has it; committers of one machine queue at its locks."""
    return TableStore(**where, locks=str(home / machine))


def parquet_files(tables: TableStore) -> set[str]:
    return {file.name for file in storage_at(tables.warehouse).files("") if file.name.endswith(".parquet")}


@pytest.fixture
def where(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    return places(request.param, request, tmp_path)


@pytest.fixture
def tables(where: dict[str, str], tmp_path: Path) -> Iterator[TableStore]:
    made = store(tmp_path, where)
    yield made
    made._catalog.close()


class Backing:
    """A source table of one kind: `hold` makes it hold rows, in place of those that it held."""

    def __init__(self, kind: str, tables: TableStore, folder: Path) -> None:
        self.kind, self.tables, self.folder = kind, tables, folder

    @property
    def external(self) -> bool:
        return not self.kind.startswith("imported")

    def hold(self, table: pa.Table) -> Pin:
        self.write(table)
        if not self.external:
            return self.tables.import_files(NAME, [self.folder])
        if self.kind in IN_AWS:
            return self.hold_in_aws(table)
        return self.tables.register(NAME, self.folder / "0.parquet" if self.kind == "a file" else self.folder)

    def hold_in_aws(self, table: pa.Table) -> Pin:
        there = storage_at("s3://mimic-tests/files")
        there.discard("")
        for path in self.folder.rglob("*.parquet"):
            with there.writing(unquote(path.relative_to(self.folder).as_posix())) as file:
                file.write(path.read_bytes())
        if "glue" in self.kind:
            describe_to_glue(table, [path.parent.relative_to(self.folder) for path in self.folder.rglob("*.parquet")])
            return self.tables.pin(NAME)
        return self.tables.register(NAME, "s3://mimic-tests/files" + ("/0.parquet" if "file in" in self.kind else ""))

    def write(self, table: pa.Table) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        if "hive" in self.kind or "partitioned" in self.kind:
            keys = ds.partitioning(pa.schema([table.schema.field(name) for name in ("_train", "region")]), flavor="hive")
            ds.write_dataset(table, self.folder, format="parquet", partitioning=keys)
        elif "a file" in self.kind:
            pq.write_table(table, self.folder / "0.parquet")
        else:
            for index, row in enumerate(range(0, len(table), 2)):
                pq.write_table(table.slice(row, 2), self.folder / f"{index}.parquet")


def describe_to_glue(table: pa.Table, folders: list[Path]) -> None:
    """Have Glue know a table of Hive over the files in S3, as somebody else made it."""
    glue = client("glue")
    with suppress(glue.exceptions.AlreadyExistsException):
        glue.create_database(DatabaseInput={"Name": "haven"})
    with suppress(glue.exceptions.EntityNotFoundException):
        glue.delete_table(DatabaseName="haven", Name="features")
    values = sorted({tuple(part.split("=")[1] for part in folder.parts) for folder in folders if folder.parts})
    keys = [{"Name": "_train", "Type": "boolean"}, {"Name": "region", "Type": "string"}] if values else []
    stored = {
        "Location": "s3://mimic-tests/files/",
        "InputFormat": "org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat",
    }
    columns = [
        {"Name": name, "Type": "string"} for name in table.column_names if name not in ("_train", "region") or not keys
    ]
    described = {"Name": "features", "TableType": "EXTERNAL_TABLE", "PartitionKeys": keys}
    glue.create_table(DatabaseName="haven", TableInput=described | {"StorageDescriptor": stored | {"Columns": columns}})
    for pair in values:
        place = stored["Location"] + "/".join(f"{key['Name']}={value}" for key, value in zip(keys, pair, strict=True))
        written = {"Values": [unquote(value) for value in pair], "StorageDescriptor": {"Location": unquote(place)}}
        glue.create_partition(DatabaseName="haven", TableName="features", PartitionInput=written)


@pytest.fixture
def backing(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backing]:
    tables = store(tmp_path, places(request.param, request, tmp_path))
    yield Backing(request.param, tables, tmp_path / "files")
    tables._catalog.close()


def rows(*ids: int) -> pa.Table:
    """The smallest table with an id, a flag and text; one region is missing."""
    return pa.table(
        {
            "_individual": pa.array(ids, pa.int64()),
            "size": pa.array([number + 0.5 for number in ids], pa.float64()),
            "_train": pa.array([number % 2 == 0 for number in ids], pa.bool_()),
            "region": pa.array(
                [None if number == 3 else "north" if number < 3 else "sou th" for number in ids], pa.string()
            ),
        }
    )


def read(tables: TableStore, pin: Pin, **options: object) -> pa.Table:
    return pa.Table.from_batches(list(tables.batches(pin, **options)))


def ids(tables: TableStore, pin: Pin, **options: object) -> list[int]:
    return sorted(number for batch in tables.batches(pin, **options) for number in batch["_individual"].to_pylist())


on_every_backing = pytest.mark.parametrize("backing", BACKINGS, indirect=True)
on_every_catalog = pytest.mark.parametrize("where", CATALOGS, indirect=True)


# ---- reading


@on_every_backing
def test_a_table_has_its_rows_its_columns_its_size_and_its_kind(backing):
    pin = backing.hold(rows(1, 2, 3, 4))
    tables = backing.tables
    assert (tables.names(), tables.names(SOURCE), tables.names(RESULTS)) == ([NAME], [NAME], [])
    assert (tables.exists(NAME), tables.kind(NAME), pin.kind, pin.rows) == (True, SOURCE, SOURCE, 4)
    schema = tables.schema_of(pin)
    assert {field.name: field.type for field in schema} == {field.name: field.type for field in rows().schema}
    found = read(tables, pin)
    assert found.schema == schema
    assert found.select(rows().column_names).sort_by("_individual") == rows(1, 2, 3, 4)
    assert tables.changed_at(pin) > 1_700_000_000


@on_every_backing
def test_only_the_columns_asked_for_come_in_the_order_asked(backing):
    pin = backing.hold(rows(1, 2, 3))
    for columns in (["size", "_individual"], ["region", "size", "_train"], ["_train"]):
        found = read(backing.tables, pin, columns=columns)
        assert (found.column_names, len(found)) == (columns, 3)


@on_every_backing
def test_rows_are_picked_by_their_values_also_of_columns_that_are_not_asked_for(backing):
    pin = backing.hold(rows(1, 2, 3, 4, 6))
    for where, expected in (
        ({"_individual": 4}, [4]),
        ({"_train": True}, [2, 4, 6]),
        ({"_train": False, "region": "north"}, [1]),
        ({"region": "sou th", "size": 4.5}, [4]),
        ({"region": "west"}, []),
    ):
        assert ids(backing.tables, pin, columns=["_individual"], where=where) == expected
        assert ids(backing.tables, pin, where=where) == expected


@on_every_backing
def test_the_token_stays_with_the_rows_and_changes_with_them(backing):
    first = backing.hold(rows(1, 2, 3))
    assert [backing.tables.pin(NAME).token, read(backing.tables, first).num_rows] == [first.token, 3]
    second = backing.hold(rows(1, 2, 5))
    assert backing.tables.pin(NAME).token == second.token != first.token
    assert ids(backing.tables, second) == [1, 2, 5]


@on_every_backing
def test_a_pin_never_gives_other_rows_than_those_that_were_pinned(backing):
    pin = backing.hold(rows(1, 2, 3, 4))
    backing.hold(rows(7, 8, 9, 10))
    if backing.external:
        message = r"table haven\.features: its files at .*(files|haven\.features).* were changed since this build began"
        with pytest.raises(ConflictError, match=message):
            ids(backing.tables, pin)
    else:
        assert ids(backing.tables, pin) == [1, 2, 3, 4]
    assert ids(backing.tables, backing.tables.pin(NAME)) == [7, 8, 9, 10]


@on_every_backing
def test_rows_may_get_other_columns_and_types(backing):
    before = backing.hold(rows(1, 2))
    other = rows(3).drop_columns(["size"]).append_column("age", pa.array([7])).append_column("size", pa.array(["large"]))
    pin = backing.hold(other)
    assert {field.name: field.type for field in backing.tables.schema_of(pin)} == dict(
        zip(other.column_names, other.schema.types, strict=True)
    ) | ({"region": pa.string()})
    assert read(backing.tables, pin)["size"].to_pylist() == ["large"]
    assert backing.tables.schema_of(before).field("size").type == pa.float64()


@on_every_backing
def test_a_table_that_is_not_there_is_named_beside_those_that_are(backing):
    backing.hold(rows(1))
    message = r"no table haven\.feature \(did you mean 'haven\.features'\?\); the tables are haven\.features"
    with pytest.raises(NotFoundError, match=message):
        backing.tables.pin("haven.feature")
    assert backing.tables.kind("haven.feature") is None


# ---- writing


def results(run_id: str, *losses: float) -> pa.Table:
    return pa.table({"run_id": [run_id] * len(losses), "loss": losses}, schema=RESULTS_SCHEMA)


def replace(tables: TableStore, table: pa.Table, run_id: str) -> Pin:
    tables.ensure("haven.results", RESULTS_SCHEMA, kind=RESULTS, partition_by=["run_id"])
    return tables.replace("haven.results", [tables.stage("haven.results", [table])], {"run_id": run_id})


def losses(tables: TableStore) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for row in read(tables, tables.pin("haven.results")).to_pylist():
        found.setdefault(row["run_id"], []).append(row["loss"])
    return {run_id: sorted(values) for run_id, values in found.items()}


@on_every_catalog
def test_replacing_a_key_leaves_the_others_alone(tables):
    replace(tables, results("a", 0.9, 0.8), "a")
    replace(tables, results("b", 0.7), "b")
    assert replace(tables, results("a", 0.5), "a").rows == 2
    assert losses(tables) == {"a": [0.5], "b": [0.7]}


@on_every_catalog
def test_a_replacement_that_is_repeated_lands_once(tables):
    replace(tables, results("a", 0.9), "a")
    staged = [tables.stage("haven.results", [results("b", value)]) for value in (0.7, 0.6)]
    first, again = (tables.replace("haven.results", staged, {"run_id": "b"}) for _ in range(2))
    assert first == again
    assert losses(tables) == {"a": [0.9], "b": [0.6, 0.7]}


@on_every_catalog
def test_appended_rows_join_those_that_are_there_and_land_once(tables):
    before = replace(tables, results("a", 0.9), "a")
    staged = [tables.stage("haven.results", [results("a", 0.8)])]
    first, again = (tables.append("haven.results", staged) for _ in range(2))
    assert first == again
    assert first.token != before.token
    assert losses(tables) == {"a": [0.8, 0.9]}


@on_every_catalog
def test_what_is_staged_is_seen_by_nobody_and_discarding_removes_it(tables):
    replace(tables, results("a", 0.9), "a")
    files = parquet_files(tables)
    staged = tables.stage("haven.results", [results("b", 0.7)])
    assert losses(tables) == {"a": [0.9]}
    assert parquet_files(tables) > files
    tables.discard(staged)
    assert parquet_files(tables) == files


@on_every_catalog
def test_a_table_is_made_once_and_keeps_its_kind_and_columns(tables):
    replace(tables, results("a", 0.9), "a")
    tables.ensure("haven.results", RESULTS_SCHEMA, kind=RESULTS, partition_by=["run_id"])
    assert losses(tables) == {"a": [0.9]}
    with pytest.raises(TableError, match="holds results rows, expected source rows"):
        tables.ensure("haven.results", RESULTS_SCHEMA, kind=SOURCE)
    with pytest.raises(TableError, match="column 'loss' is double, expected int64"):
        tables.ensure("haven.results", pa.schema([("loss", pa.int64())]), kind=RESULTS)


# filters of warnings are of the process, and the threads of this test set them at once
@pytest.mark.filterwarnings("ignore:Delete operation did not match any records")
@on_every_catalog
def test_machines_that_write_at_once_lose_nothing(where, tables, tmp_path):
    """Each has locks of its own, so only the catalog keeps them apart; the table is new too."""
    assert tables.names() == []

    def write(machine: str) -> None:
        mine = store(tmp_path, where, machine)
        mine.ensure("haven.results", RESULTS_SCHEMA, kind=RESULTS, partition_by=["run_id"])
        for loss in (2.0, 1.0):
            mine.replace("haven.results", [mine.stage("haven.results", [results(machine, loss)])], {"run_id": machine})
        mine._catalog.close()

    with ThreadPoolExecutor(3) as machines:
        list(machines.map(write, "abc"))
    assert losses(tables) == {"a": [1.0], "b": [1.0], "c": [1.0]}


@on_every_catalog
def test_an_import_is_replaced_and_appended_to(tables, tmp_path):
    pq.write_table(rows(1, 2), tmp_path / "a.parquet")
    pq.write_table(rows(3), tmp_path / "b.parquet")
    first, second = (tables.import_files(NAME, [tmp_path / "a.parquet"]) for _ in range(2))
    assert first.token == second.token
    more = tables.import_files(NAME, [tmp_path / "b.parquet"], append=True)
    assert (ids(tables, more), ids(tables, first)) == ([1, 2, 3], [1, 2])
    assert more.token != first.token
