"""Tables in S3 under Glue: what is refused there, and databases and files that are not mimic's."""

import hashlib
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mimic_core.configs import parse_spec
from mimic_core.errors import NotFoundError, SpecError, StorageError, TableError
from mimic_core.shards import Part
from mimic_core.specs import DatasetSpec
from resources import arrow_s3
from resources import aws as aws_clients
from resources.aws import client, forget_clients
from resources.environments import local_resources
from resources.maintenance import Terms
from resources.storage import storage_at
from resources.tables import RESULTS, SOURCE, TableStore
from resources.usage import InUse

NAME = "haven.features"
SCHEMA = pa.schema([("run_id", pa.string()), ("loss", pa.float64())])


@pytest.fixture
def tables(aws, monkeypatch, tmp_path) -> TableStore:
    for module in (aws_clients, arrow_s3):
        monkeypatch.setattr(module, "ATTEMPTS", 2)
    forget_clients()
    monkeypatch.setenv("MIMIC_CATALOG", "glue:haven")
    monkeypatch.setenv("MIMIC_WAREHOUSE", "s3://mimic-tests/warehouse")
    return local_resources(tmp_path)["tables"]


@pytest.fixture
def pin(tables, tmp_path):
    pq.write_table(pa.table({"_individual": [1, 2], "size": [1.5, 2.5]}), tmp_path / "a.parquet")
    return tables.import_files(NAME, [tmp_path / "a.parquet"])


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        (r"\.parquet", 403, r"table haven\.features: .*access is denied; see which role `mimic doctor` finds"),
        (r"\.parquet", 503, r"table haven\.features: .*too many requests; .*do this again later"),
        ("metadata", 403, r"table haven\.features: cannot be read: access is denied"),
        ("^/$", 403, r"haven.*: cannot be read.*: access is denied"),
    ],
)
def test_what_s3_or_glue_refuses_is_said_of_the_table(tables, pin, aws, tmp_path, path, status, message):
    part = Part(index=0, shards=(), row_groups=tuple(tables.row_groups(pin)), whole=True)
    for call in (
        lambda: list(tables.batches(pin)),
        lambda: tables.row_groups(pin),
        lambda: [list(group) for group in tables._groups(pin, ["size"], part)],
        lambda: tables.import_files(NAME, [tmp_path / "a.parquet"]),
    ):
        aws.fail({"path": path, "status": status})
        with pytest.raises(StorageError, match=message):
            call()
    aws.fail()
    assert tables.pin(NAME) == pin


PROFILES = """[profile base]
aws_access_key_id = base
aws_secret_access_key = base
[profile team]
role_arn = arn:aws:iam::123456789012:role/analyst
source_profile = base
"""


def test_a_profile_that_takes_a_role_is_enough_for_tables_too_also_after_its_credentials_were_renewed(
    tables, pin, aws, tmp_path, monkeypatch
):
    (tmp_path / "config").write_text(PROFILES)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "team")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    forget_clients()
    first = aws_clients.credentials_for_arrow()
    aws.fail({"path": "^/mimic-tests", "header": "Authorization: .*Credential=(base|testing)/", "status": 403})
    tables = local_resources(tmp_path)["tables"]
    tables.import_files(NAME, [tmp_path / "a.parquet"], append=True)
    assert rows_of(tables) == [1, 1, 2, 2]
    aws_clients.forget_clients()  # as after an hour; the client of STS would give it the same ones till then
    key = first["s3.access-key-id"]
    aws.fail({"path": r"^/mimic-tests.*\.parquet", "header": f"Authorization: .*Credential={key}/", "status": 403})
    assert rows_of(tables) == [1, 1, 2, 2]
    assert aws_clients.credentials_for_arrow()["s3.access-key-id"] != key


def rows_of(tables: TableStore) -> list[int]:
    return sorted(row["_individual"] for batch in tables.batches(tables.pin(NAME)) for row in batch.to_pylist())


def test_a_write_that_is_refused_leaves_no_files_and_the_table_as_it_was(tables, pin, aws, tmp_path):
    files = {file.name for file in storage_at(tables.warehouse).files("")}
    aws.fail({"path": r"import-.*\.parquet", "method": "PUT", "status": 403})
    with pytest.raises(StorageError, match=r"rows could not be written: access is denied; .*the table is unchanged"):
        tables.import_files(NAME, [tmp_path / "a.parquet"])
    aws.fail()
    assert {file.name for file in storage_at(tables.warehouse).files("")} == files


def test_a_commit_whose_answer_was_lost_lands_once_and_the_table_stays_readable(tables, pin, aws, tmp_path):
    for append in (True, False):
        aws.fail({"method": "POST", "header": "X-Amz-Target: .*UpdateTable", "lost": True, "times": 1})
        tables.import_files(NAME, [tmp_path / "a.parquet"], append=append)
        assert rows_of(tables) == ([1, 1, 2, 2] if append else [1, 2])


def test_a_compaction_whose_answer_was_lost_keeps_its_files(tables, pin, aws, tmp_path):
    for _ in range(4):
        tables.import_files(NAME, [tmp_path / "a.parquet"], append=True)
    aws.fail({"method": "POST", "header": "X-Amz-Target: .*UpdateTable", "lost": True, "times": 1})
    assert tables.maintain(NAME, Terms(in_use=InUse(asked=staged_at(tables)))).compacted == 5
    assert sum(batch.num_rows for batch in tables.batches(tables.pin(NAME))) == 10


def test_a_database_that_is_there_is_not_made(tables, pin, aws, tmp_path):
    aws.fail({"method": "POST", "header": "X-Amz-Target: .*CreateDatabase", "status": 403})
    tables.import_files("haven.others", [tmp_path / "a.parquet"])
    assert tables.pin("haven.others").rows == 2


def test_what_others_keep_beside_our_tables_stays(tables, pin, aws):
    names = [
        "warehouse/haven.db/raw/data/part-0.parquet",
        "warehouse/lake/x/data/a.parquet",
        "warehouse/lake/x/metadata/note",
    ]
    aws.ask("/test/objects", {"bucket": "mimic-tests", "names": names})
    tables._catalog.create_table("haven.theirs", pa.schema([("a", pa.int64())])).append(pa.table({"a": [1]}))
    later = Terms(in_use=InUse(asked=staged_at(tables) + 30 * 24 * 3600.0))
    tables.remove_unknown(later)
    assert tables.maintain("haven.theirs", later).expired == 0
    there = {f"warehouse/{file.name}" for file in storage_at(tables.warehouse).files("")}
    assert there > set(names)


def test_a_database_that_is_not_named_is_refused_whatever_glue_holds(tables, pin):
    for call in (lambda: tables.pin("others.t"), lambda: tables.ensure("others.t", SCHEMA, kind=SOURCE)):
        with pytest.raises(
            SpecError, match="database others is none that MIMIC_CATALOG names, which are haven; add it there"
        ):
            call()
    client("glue").create_database(DatabaseInput={"Name": "others"})
    assert tables.names() == [NAME]


def test_a_plain_table_is_neither_written_nor_removed(tables, pin, tmp_path):
    describe("plain", "s3://mimic-tests/plain")
    for call in (
        lambda: tables.import_files("haven.plain", [tmp_path / "a.parquet"]),
        lambda: tables.register("haven.plain", tmp_path / "a.parquet"),
        lambda: tables.remove("haven.plain"),
    ):
        with pytest.raises(TableError, match=r"table haven\.plain is a plain one of Glue, whose files others write"):
            call()
    with pytest.raises(TableError, match=r"table haven\.plain holds source rows, expected results rows"):
        tables.ensure("haven.plain", SCHEMA, kind=RESULTS)
    assert tables.names(RESULTS) == []


def test_tables_of_other_formats_and_views_are_left_out(tables, pin):
    glue = client("glue")
    csv = {"Location": "s3://mimic-tests/csv", "InputFormat": "org.apache.hadoop.mapred.TextInputFormat"}
    glue.create_table(DatabaseName="haven", TableInput={"Name": "csv", "StorageDescriptor": csv})
    glue.create_table(DatabaseName="haven", TableInput={"Name": "view", "TableType": "VIRTUAL_VIEW"})
    assert tables.names() == list(tables.locations()) == [NAME]
    for name in ("haven.csv", "haven.view"):
        with pytest.raises(NotFoundError, match=f"table {name} is in Glue, but neither as Iceberg nor as plain Parquet"):
            tables.pin(name)


def test_maintenance_removes_from_s3_what_nothing_names(tables, pin, tmp_path):
    tables.stage(NAME, [pa.table({"_individual": [3], "size": [1.0]})])
    later = Terms(in_use=InUse(asked=staged_at(tables) + 2 * 24 * 3600.0))
    assert tables.maintain(NAME, later).files == 1
    assert [row["_individual"] for batch in tables.batches(pin) for row in batch.to_pylist()] == [1, 2]
    tables.remove(NAME)
    removed = tables.remove_unknown(later)
    assert removed.files > 1
    assert list(storage_at(tables.warehouse).files("")) == []


def staged_at(tables: TableStore) -> float:
    return max(file.status.changed for file in storage_at(tables.warehouse).files(""))


def describe(
    table: str, location: str, partitions: dict[str, str] | None = None, parameters: dict[str, str] | None = None
) -> None:
    """Have Glue know a plain table, as somebody else made it, with its partitions by their values of `region`."""
    stored = {"SerdeInfo": {"SerializationLibrary": "a.b.ParquetHiveSerDe"}}
    keys = [{"Name": "region", "Type": "string"}] if partitions is not None else []
    described = {"Name": table, "PartitionKeys": keys, "StorageDescriptor": stored | {"Location": location}}
    described["Parameters"] = parameters or {}
    client("glue").create_table(DatabaseName="haven", TableInput=described)
    for value, place in (partitions or {}).items():
        partition = {"Values": [value], "StorageDescriptor": stored | {"Location": place}}
        client("glue").create_partition(DatabaseName="haven", TableName=table, PartitionInput=partition)


def put(tmp_path, *names: str) -> None:
    """Put a Parquet file with two rows into S3 under each name."""
    pq.write_table(pa.table({"_individual": [1, 2], "size": [1.5, 2.5]}), tmp_path / "rows.parquet")
    for name in names:
        client("s3").put_object(Bucket="mimic-tests", Key=name, Body=(tmp_path / "rows.parquet").read_bytes())


def test_many_partitions_are_listed_together_where_they_lie_below_the_table(tables, pin, aws, tmp_path):
    inside = {f"r{number}": f"s3://mimic-tests/plain/region=r{number}/" for number in range(40)}
    outside = {"far": "s3a://mimic-tests/elsewhere", "empty": "s3://mimic-tests/nothing"}
    names = [f"plain/region=r{number}/a.parquet" for number in range(39)]
    names += ["plain/region=r1/_kept/b.parquet", "plain/region=r1/deeper/b.parquet", "plain/_spark_metadata/0"]
    put(tmp_path, *names, "plain/region=unknown//a.parquet", "elsewhere/a.parquet")
    describe("plain", "s3://mimic-tests/plain", inside | outside)
    aws.fail({"method": "HEAD", "path": "(plain|r39|nothing)/?$", "status": 403})  # as of what a role may list, not read
    before = len(aws.requests())
    found = tables.pin("haven.plain")
    listings = [request for request in aws.requests()[before:] if "list-type=2" in request]
    assert (found.rows, len(listings)) == (82, 6)  # of the table and two partitions, before and after
    regions = [row["region"] for batch in tables.batches(found, ["region"]) for row in batch.to_pylist()]
    assert (regions.count("r1"), regions.count("far"), regions.count("unknown")) == (4, 2, 0)
    aws.fail({"method": "GET", "path": "^/mimic-tests/?$", "query": "prefix=plain(%2F|/)(&|$)", "status": 403})
    assert tables.pin("haven.plain") == found


def test_partitions_that_swap_their_folders_are_another_version(tables, pin, tmp_path):
    put(tmp_path, "plain/one/a.parquet", "plain/two/a.parquet")
    seen = set()
    for first, second in (("one", "two"), ("two", "one")):
        places = {"a": f"s3://mimic-tests/plain/{first}", "b": f"s3://mimic-tests/plain/{second}"}
        describe("plain", "s3://mimic-tests/plain", places)
        seen.add(tables.pin("haven.plain").token)
        client("glue").delete_table(DatabaseName="haven", Name="plain")
    assert len(seen) == 2


def test_what_keeps_a_plain_table_from_being_read_is_said(tables, pin, tmp_path):
    put(tmp_path, "plain/a.parquet", "odd//a.parquet")
    shared = "s3://mimic-tests/plain/x"
    describe("twice", "s3://mimic-tests/plain", {"a": shared, "b": f"{shared}/"})
    describe("nested", "s3://mimic-tests/plain", {"a": "s3://mimic-tests/plain", "b": shared})
    describe("unknown", "s3://mimic-tests/plain", {})
    describe("projected", "s3://mimic-tests/plain", {}, {"projection.enabled": "true"})
    describe("bare", "s3://mimic-tests/plain", {"a": "s3://mimic-tests/nothing"})
    describe("nowhere", "s3://mimic-tests/plain", {"a": ""})
    describe("void", "s3://mimic-tests/nothing")
    for name, message in {
        "twice": "has partitions in Glue that share the folder s3://mimic-tests/plain/x/; rows would count twice",
        "nested": "has partitions in Glue that share the folder s3://mimic-tests/plain/; rows would count twice",
        "unknown": "has no partitions in Glue; add them there, such as by MSCK REPAIR TABLE",
        "projected": "has its partitions by a projection, which only Athena knows; add them in Glue",
        "bare": "has no Parquet files with rows below s3://mimic-tests/plain",
        "nowhere": "partition ['a'] lacks a value or a location; mend it in Glue",
        "void": "has no Parquet files with rows below s3://mimic-tests/nothing",
    }.items():
        with pytest.raises(NotFoundError, match=rf"^table haven\.{name}:? {re.escape(message)}$"):
            tables.pin(f"haven.{name}")
    with pytest.raises(TableError, match=r"s3://mimic-tests/odd//a\.parquet: cannot be read as one table: .*[Ee]mpty path"):
        tables.register("haven.odd", "s3://mimic-tests/odd")


def test_a_folder_is_listed_and_never_asked_for_as_an_object(tables, pin, aws, tmp_path):
    put(tmp_path, "theirs/a.parquet", "theirs/b.parquet")
    aws.fail({"method": "HEAD", "path": "^/mimic-tests/theirs$", "status": 403})
    assert tables.register("haven.theirs", "s3://mimic-tests/theirs").rows == 4
    aws.fail()
    assert tables.register("haven.one", "s3://mimic-tests/theirs/a.parquet").rows == 2


def test_a_plain_table_is_followed_once_a_spec_names_it(tables, pin, aws, tmp_path):
    put(tmp_path, "plain/a.parquet", "other/a.parquet")
    for name in ("plain", "other"):
        describe(name, f"s3://mimic-tests/{name}")
    resources = local_resources(tmp_path)
    specs, inventory = resources["specs"], resources["inventory"]
    assert tables.names() == [NAME, "haven.other", "haven.plain"]
    assert sorted(inventory.sources()) == sorted(inventory.world().sources) == [NAME]
    document = {"database": "haven", "table": "plain", "features": ["size"], "space": "trips", "dataset": "cars"}
    specs.register(parse_spec(DatasetSpec, document | {"max_choices": 2}))
    before = len(aws.requests())
    assert sorted(inventory.sources()) == sorted(inventory.world().sources) == [NAME, "haven.plain"]
    assert not [request for request in aws.requests()[before:] if "prefix=other" in request]
    assert inventory.sources()["haven.plain"].rows == 2


def test_an_import_does_not_read_back_what_it_wrote_and_equal_rows_are_equal_content(tables, pin, aws, tmp_path):
    before = len(aws.requests())
    assert tables.import_files(NAME, [tmp_path / "a.parquet"]).token == pin.token
    read = [request for request in aws.requests()[before:] if request.startswith("GET") and "/data/" in request]
    there = [file.name for file in storage_at(tables.warehouse).files("") if file.name.endswith(".parquet")]
    sums = {hashlib.sha256(storage_at(tables.warehouse).read(name)).hexdigest() for name in there}
    assert (len(there), len(sums)) == (2, 1)
    assert len(read) == 1  # its footer, for Iceberg's statistics


@pytest.mark.parametrize("name", ["haven.Features", "Haven.features"])
def test_capitals_are_refused_as_glue_keeps_none(tables, pin, name, tmp_path):
    for call in (lambda: tables.pin(name), lambda: tables.import_files(name, [tmp_path / "a.parquet"])):
        with pytest.raises(
            SpecError, match=r"Haven is none that MIMIC_CATALOG|Glue keeps names in lower case only; write haven\.f"
        ):
            call()


def test_a_table_whose_removal_was_not_answered_is_removed(tables, pin, aws):
    aws.fail({"method": "POST", "header": "X-Amz-Target: .*DeleteTable", "lost": True, "times": 1})
    tables.remove(NAME)
    assert not tables.exists(NAME)
    later = Terms(in_use=InUse(asked=staged_at(tables) + 2 * 24 * 3600.0))
    assert tables.remove_unknown(later).files > 1


def test_a_data_file_that_is_gone_is_said_so(tables, pin):
    storage = storage_at(tables.warehouse)
    for file in storage.files(""):
        if file.name.endswith(".parquet"):
            storage.remove(file.name)
    with pytest.raises(StorageError, match=r"table haven\.features: cannot be read: .*import-.*; check .*the table's files"):
        list(tables.batches(pin))
