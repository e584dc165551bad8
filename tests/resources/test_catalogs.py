"""Catalogs: which URLs name one, that passwords stay hidden, and that one variable changes the database."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import dagster as dg
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from pyiceberg.catalog.sql import SqlCatalog
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, ProgrammingError

from mimic_assets.cli.main import main
from mimic_core.errors import SpecError, StorageError
from resources.catalogs import metadata_locations, open_catalog, parse_url, without_password
from resources.environments import local_resources

URL = "postgresql://mimic:s3cret@127.0.0.1:1/haven"


@pytest.mark.parametrize("name", ["postgresql", "postgres", "postgresql+psycopg2"])
def test_postgres_has_one_driver_however_it_is_called(name):
    assert parse_url(f"{name}://mimic@db/haven").drivername == "postgresql+psycopg2"


@pytest.mark.parametrize(
    ("url", "found"), [("mysql://u:s3cret@db/x", "found mysql://"), ("s3cret", "something else"), ("", "something else")]
)
def test_another_database_is_refused_without_telling_a_password(url, found):
    with pytest.raises(
        SpecError, match=rf"MIMIC_CATALOG: expected postgresql://.*, sqlite:.*, or glue:DATABASE,DATABASE, .*{found}"
    ) as caught:
        parse_url(url)
    assert "s3cret" not in str(caught.value)


def test_a_server_that_does_not_answer_is_named_without_its_password(tmp_path):
    pytest.importorskip("psycopg2")
    with pytest.raises(
        StorageError, match=r"postgresql\+psycopg2://mimic:\*\*\*@127\.0\.0\.1:1/haven: cannot be opened"
    ) as caught:
        open_catalog(URL, f"file://{tmp_path}")
    assert "s3cret" not in str(caught.value)
    assert "s3cret" not in without_password(parse_url(URL))


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///:memory:", "sqlite:///catalog.db", "sqlite:///file:/c.db?uri=true&mode=memory"]
)
def test_a_catalog_that_is_not_one_file_for_all_processes_is_refused(url):
    with pytest.raises(SpecError, match="sqlite:////FILE with an absolute path, or glue:DATABASE,DATABASE, found sqlite://"):
        parse_url(url)


@pytest.mark.parametrize("key", ["password", "sslpassword", "PASSWORD"])
def test_a_password_in_the_query_stays_hidden(key):
    shown = without_password(parse_url(f"postgresql://mimic@db/haven?{key}=s3cret&user=me"))
    assert shown == f"postgresql+psycopg2://mimic@db/haven?{key}=...&user=me"


def refusing(reason: str, kind: type[DBAPIError] = OperationalError) -> DBAPIError:
    return kind("", {}, Exception(reason))


@pytest.mark.parametrize(
    ("error", "attempts"),
    [
        (refusing("password authentication failed"), 1),
        (refusing("could not connect to server"), 1),
        (refusing("database is locked"), 2),
        (refusing("table iceberg_tables already exists"), 2),
        (refusing("duplicate key", IntegrityError), 2),
        (refusing("relation exists", ProgrammingError), 2),
    ],
)
def test_only_what_another_machine_may_be_doing_at_this_moment_is_tried_again(tmp_path, monkeypatch, error, attempts):
    tried, initialise = [], SqlCatalog._init_catalog

    def refuse_first(self):
        tried.append(1)
        if len(tried) == 1:
            raise error
        initialise(self)

    monkeypatch.setattr(SqlCatalog, "_init_catalog", refuse_first)
    with nullcontext() if attempts > 1 else pytest.raises(StorageError, match=r"cannot be opened: .*; check MIMIC_CATALOG"):
        open_catalog(f"sqlite:///{tmp_path / 'c.db'}", f"file://{tmp_path}").close()
    assert len(tried) == attempts


@pytest.mark.parametrize("left", [None, b""], ids=["no file", "an empty file"])  # SQLite makes the second for who connects
def test_a_catalog_that_is_gone_while_there_are_tables_is_not_made_anew(tmp_path, left):
    file, warehouse = tmp_path / "c.db", tmp_path / "warehouse"
    open_catalog(f"sqlite:///{file}", f"file://{warehouse}").close()
    (warehouse / "haven/features").mkdir(parents=True)
    file.rename(tmp_path / "elsewhere.db")
    if left is not None:
        file.write_bytes(left)
    gone = rf"c\.db: is gone, while {warehouse} holds tables; put it back, or move that folder away to begin anew"
    for access in (open_catalog, metadata_locations):
        with pytest.raises(StorageError, match=gone):
            access(f"sqlite:///{file}", f"file://{warehouse}")
    assert (file.read_bytes() if file.exists() else None) == left
    (tmp_path / "elsewhere.db").rename(file)
    assert metadata_locations(f"sqlite:///{file}", f"file://{warehouse}") == {}


def test_one_variable_moves_the_catalog_and_dagster_shows_its_name_only(tmp_path, monkeypatch):
    monkeypatch.setenv("MIMIC_CATALOG", f"sqlite:///{tmp_path / 'other.db'}")
    tables = local_resources(tmp_path)["tables"]
    assert tables.names() == []
    assert (tmp_path / "other.db").exists()
    assert not (tmp_path / "catalog.db").exists()
    assert isinstance(tables.catalog_uri, dg.EnvVar)


def test_a_resource_that_dagster_makes_uses_the_same_catalog(tmp_path, monkeypatch):
    monkeypatch.setenv("MIMIC_CATALOG", f"sqlite:///{tmp_path / 'other.db'}")

    @dg.op
    def list_names(tables: type(local_resources(tmp_path)["tables"])) -> list:
        return tables.names()

    job = dg.GraphDefinition(name="listing", node_defs=[list_names]).to_job(resource_defs=local_resources(tmp_path))
    assert job.execute_in_process().output_for_node("list_names") == []
    assert (tmp_path / "other.db").exists()


def test_machines_that_open_a_new_postgres_at_once_all_find_its_tables(database, tmp_path):
    url = database()
    with ThreadPoolExecutor(4) as machines:
        catalogs = list(machines.map(lambda _: open_catalog(url, f"file://{tmp_path}"), range(4)))
    for catalog in catalogs:
        assert catalog.list_namespaces() == []
        catalog.close()


def test_the_commands_keep_their_tables_in_the_postgres_of_the_variable(database, home, monkeypatch, decision_table):
    monkeypatch.setenv("MIMIC_CATALOG", database())
    pq.write_table(decision_table(), "a.parquet")
    for command in (("import", "haven.a", "a.parquet"), ("register", "haven.b", "a.parquet")):
        result = CliRunner().invoke(main, ["tables", *command], prog_name="mimic")
        assert result.exit_code == 0, result.output
    assert local_resources(home)["tables"].names() == ["haven.a", "haven.b"]
    assert not list(home.rglob("catalog.db"))
