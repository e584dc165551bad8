"""`mimic doctor`: what is wrong is found, whatever else is, and each with what to do about it."""

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from resources.doctor import buckets
from resources.doctor.findings import wrong

ROOT = Path(__file__).resolve().parents[2]
PROFILE = """[profile research]
region = us-east-1
sso_session = company
sso_account_id = 123456789012
sso_role_name = research
[sso-session company]
sso_start_url = https://company.awsapps.com/start
sso_region = us-east-1
"""
# a process of its own, in which a network is out of reach
OFFLINE = """
import socket, sys
def refuse(*_): raise AssertionError("the network was used")
socket.socket.connect = refuse
socket.getaddrinfo = refuse
from click.testing import CliRunner
from mimic_assets.cli.main import main
result = CliRunner().invoke(main, ["doctor"])
print(result.output)
assert result.exit_code == 0, result
print([name for name in ("boto3", "botocore", "kubernetes", "requests", "tensorflow", "pyiceberg") if name in sys.modules])
"""


class Doctor:
    """What `mimic doctor` found."""

    def __init__(self, findings: list[dict[str, str]], exit_code: int) -> None:
        self.findings, self.exit_code = findings, exit_code

    def states(self, about: str) -> list[str]:
        return [each["state"] for each in self.findings if each["about"] == about]

    def wrong(self) -> list[str]:
        """What is wrong, with what to do."""
        return [f"{each['about']}: {each['found']} -> {each['do']}" for each in self.findings if each["state"] == "wrong"]

    def said(self, about: str) -> str:
        return "\n".join(
            f"{each['state']}: {each['found']} -> {each['do']}" for each in self.findings if each["about"] == about
        )


@pytest.fixture
def doctor(mimic) -> Callable[..., Doctor]:
    """The function that asks the doctor."""

    def ask(*arguments: str) -> Doctor:
        result = mimic("doctor", "--json", *arguments)
        document = json.loads(result.stdout)
        assert result.exit_code == (1 if document["wrong"] else 0)
        assert all(each["do"] for each in document["findings"] if each["state"] in ("wrong", "warning"))
        return Doctor(document["findings"], result.exit_code)

    return ask


@pytest.fixture
def in_aws(aws, mimic, monkeypatch) -> Any:
    """Tables under Glue and everything in S3."""
    from resources.aws import client

    monkeypatch.setenv("MIMIC_CATALOG", "glue:haven")
    monkeypatch.setenv("MIMIC_WAREHOUSE", "s3://mimic-tests/warehouse")
    monkeypatch.setenv("MIMIC_ARTEFACTS", "s3://mimic-tests/artefacts")
    client("glue").create_database(DatabaseInput={"Name": "haven"})
    return aws


@contextmanager
def serving(answers: Mapping[str, Callable[[bytes], tuple[int, Any]]], **headers: str) -> Iterator[str]:
    """Serve JSON, by the path of a request."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, document = answers.get(self.path, lambda _: (404, {}))(body)
            self.send_response_only(status)
            for name, value in {"Date": formatdate(usegmt=True), "Content-Type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(json.dumps(document).encode())

        do_GET = do_POST  # noqa: N815  as the library calls it

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


# ---- one machine


def test_a_new_folder_is_well_and_stays_empty(mimic):
    result = mimic.done("doctor")
    assert result.stdout.endswith("all is well\n")
    assert "ok       settings: can be used" in result.stdout
    assert f"skipped  home: no home at {mimic.home}/mimic yet\n         -> import a table" in result.stdout
    assert "skipped  AWS: not used" in result.stdout
    assert "skipped  cluster: not used" in result.stdout
    assert list(mimic.home.iterdir()) == []


def test_one_machine_needs_no_network_and_nothing_of_aws(home):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE], capture_output=True, text=True, cwd=home, env=environment, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("[]\n")


def test_a_home_in_use_is_well_but_that_no_daemon_runs(mimic, doctor, decision_table):
    mimic.imported(decision_table())
    found = doctor()
    assert found.wrong() == []
    assert "can be used; 1 tables" in found.said("catalog")
    assert found.said("Dagster").startswith("ok: ")
    assert "warning: none runs -> `mimic dev` starts it" in found.said("Dagster's daemon")


def test_a_setting_that_is_wrong_is_said_and_the_others_are_looked_at(doctor, monkeypatch):
    monkeypatch.setenv("MIMIC_WAREHOUSE", "s3:/bucket")
    monkeypatch.setenv("MIMIC_PREVIEW_ROWS", "many")
    found = doctor()
    assert found.wrong() == [
        "settings: MIMIC_WAREHOUSE is 's3:/bucket', expected s3://BUCKET or s3://BUCKET/PREFIX -> mend it in the "
        "environment or .env",
        "settings: MIMIC_PREVIEW_ROWS is 'many', expected a whole number of at least 0 -> mend it in the "
        "environment or .env",
    ]
    assert found.states("versions") == ["ok"]


def test_a_home_that_cannot_be_written_is_wrong(doctor, monkeypatch):
    monkeypatch.setenv("MIMIC_HOME", "/proc")  # in which nobody may write, the administrator neither
    (said,) = [each for each in doctor().wrong() if each.startswith("home")]
    assert said.startswith("home: /proc: cannot be written: ")
    assert said.endswith("-> set MIMIC_HOME to a folder that you may write")


def test_a_home_that_cannot_be_made_is_wrong(doctor, monkeypatch):
    monkeypatch.setenv("MIMIC_HOME", "/proc/mimic")
    (said,) = [each for each in doctor().wrong() if each.startswith("home")]
    assert said.startswith("home: /proc/mimic: cannot be made: ")


def test_a_catalog_that_is_no_database_is_wrong(mimic, doctor):
    (mimic.home / "mimic").mkdir()
    (mimic.home / "mimic/catalog.db").write_text("this is no database, but is as long as the head of one must be" * 20)
    (said,) = doctor().wrong()
    assert "catalog.db" in said
    assert "cannot be read: file is not a database -> check MIMIC_CATALOG, then run this again" in said


def test_a_catalog_that_is_gone_while_its_tables_are_there_is_wrong(mimic, doctor, decision_table):
    mimic.imported(decision_table())
    (mimic.home / "mimic/catalog.db").unlink()
    (said,) = doctor().wrong()
    assert "catalog.db: is gone, while" in said
    assert "-> put it back, or move that folder away to begin anew" in said
    assert not (mimic.home / "mimic/catalog.db").exists()


def test_a_catalog_that_is_newer_than_the_files_of_its_tables_is_wrong(mimic, doctor, decision_table):
    mimic.imported(decision_table())
    for path in (mimic.home / "mimic/warehouse").rglob("*.metadata.json"):
        path.unlink()
    (said,) = doctor().wrong()
    assert (
        "1 of 1 tables name a file that is not there: haven.features -> restore catalog and warehouse of one moment" in said
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("run_coordinator: [", "while parsing a flow node"),
        ("run_coordinator: {module: nowhere, class: Nothing}\n", "dagster.yaml cannot be used: "),
    ],
    ids=["no YAML", "no such class"],
)
def test_settings_of_dagster_that_cannot_be_used_are_wrong(mimic, doctor, new_instance, text, said):
    (mimic.home / "dagster/history").mkdir(parents=True)
    (mimic.home / "dagster/dagster.yaml").write_text(text)
    (found,) = doctor().wrong()
    assert said in found
    assert "-> mend it, or move it away" in found


def test_tables_of_dagster_of_another_version_are_to_be_migrated(mimic, doctor, decision_table):
    mimic.imported(decision_table())
    with sqlite3.connect(mimic.home / "dagster/history/runs.db") as runs:
        runs.execute("UPDATE alembic_version SET version_num = '567bc23fd1ac'")
    runs.close()
    (said,) = doctor().wrong()
    assert "the tables of its runs are of revision 567bc23fd1ac, expected " in said
    assert "then run `dagster instance migrate`" in said


def test_a_database_of_dagster_that_is_away_is_wrong_and_its_password_is_not_shown(mimic, doctor, monkeypatch):
    pytest.importorskip("dagster_postgres")
    monkeypatch.setattr("dagster_postgres.utils.time.sleep", lambda _: None)  # it tries for 11 seconds
    (mimic.home / "dagster").mkdir()
    storage = "storage:\n  postgres:\n    postgres_url: postgresql+psycopg2://me:s3cret99@127.0.0.1:9/dagster\n"
    (mimic.home / "dagster/dagster.yaml").write_text(storage)
    (said,) = doctor().wrong()
    assert said.startswith("Dagster: its database cannot be used: connection to server at")
    assert "Connection refused" in said
    assert "-> see that the database runs that " in said
    assert "s3cret99" not in said


def test_no_secret_is_shown(doctor, mimic, monkeypatch):
    secrets = {
        "MIMIC_CATALOG": ("postgresql://me:s3c%20ret@127.0.0.1:9/haven", "s3c%20ret", "s3c ret"),
        "MIMIC_ALERT_WEBHOOK": ("https://example.org/t0ken", "t0ken"),
        "AWS_SECRET_ACCESS_KEY": ("of/amazon", "of/amazon"),
        "MIMIC_SERVER_TOKEN": (TOKEN, TOKEN),
        "MIMIC_SERVER_HEADER": ("Authorization: Basic bWU6bWluZQ==", "bWU6bWluZQ=="),
    }
    for name, (value, *_) in secrets.items():
        monkeypatch.setenv(name, value)
    (mimic.home / ".env").write_text("MIMIC_SERVER_TOKEN=of-the-file\n")

    def fail(*_: object, **__: object) -> Iterator[Any]:
        """Do what a library may that an error of shows all that it was given."""
        yield wrong("Dagster", " ".join([value for value, *_ in secrets.values()]), "s3c ret of-the-file")
        raise ValueError(" ".join([value for value, *_ in secrets.values()]))

    monkeypatch.setattr("resources.doctor.checks.instance", fail)
    said = mimic("doctor", "--url", "http://127.0.0.1:9").output
    assert said.count("***") > 2 * len(secrets)
    assert [each for _, *shown in secrets.values() for each in (*shown, "of-the-file") if each in said] == []


# ---- databases on servers


def test_a_catalog_in_postgres_is_well_before_and_after_its_first_table(
    doctor, mimic, database, decision_table, monkeypatch
):
    monkeypatch.setenv("MIMIC_CATALOG", database())
    assert doctor().wrong() == []
    mimic.imported(decision_table())
    said = doctor().said("catalog")
    assert said.startswith("ok: ")
    assert "1 tables" in said
    assert "p%40ss" not in said


def test_a_postgres_that_is_away_is_wrong_and_the_rest_is_looked_at(doctor, monkeypatch):
    monkeypatch.setenv("MIMIC_CATALOG", "postgresql://me@127.0.0.1:9/haven")
    found = doctor()
    (said,) = found.wrong()
    assert said.startswith("catalog: postgresql+psycopg2://me@127.0.0.1:9/haven: cannot be reached: ")
    assert "Connection refused" in said
    assert "-> see that it runs, its host and port, and user and password" in said
    assert found.states("clock") == ["skipped"]


def test_rights_that_a_user_of_postgres_lacks_are_named(doctor, database, monkeypatch):
    import psycopg2

    url = database()
    connection = psycopg2.connect(url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE iceberg_tables (); CREATE ROLE viewer LOGIN PASSWORD 'viewer12'")
        cursor.execute("GRANT SELECT ON iceberg_tables TO viewer")
    monkeypatch.setenv("MIMIC_CATALOG", f"postgresql://viewer:viewer12@{url.partition('@')[2]}")
    (said,) = doctor().wrong()
    with connection.cursor() as cursor:
        cursor.execute("DROP OWNED BY viewer; DROP ROLE viewer")
    connection.close()
    assert "viewer may not write its tables -> have its owner say: GRANT ALL" in said


# ---- AWS


def test_in_aws_all_is_well_and_nothing_is_left_behind(in_aws, doctor):
    from resources.aws import client

    found = doctor()
    assert found.wrong() == []
    assert "arn:aws:sts::123456789012:user/moto, by AWS_ACCESS_KEY_ID of the environment" in found.said("identity")
    assert "ok: objects are written, read, put only where none is, swapped and removed" in found.said("MIMIC_ARTEFACTS")
    assert found.states("MIMIC_WAREHOUSE by Arrow") == ["ok"]
    assert found.states("Glue database haven") == ["ok"]
    assert found.said("clock") == "ok: agrees with STS, S3, GLUE -> "
    assert "keeps no versions" in found.said("bucket mimic-tests")
    assert "Contents" not in client("s3").list_objects_v2(Bucket="mimic-tests")


def test_what_a_role_may_not_do_is_named_and_the_others_are_looked_at(in_aws, doctor):
    in_aws.fail({"method": "PUT", "path": "artefacts", "status": 403}, {"header": "X-Amz-Target: AWSGlue", "status": 403})
    found = doctor()
    objects, glue = found.wrong()
    assert objects == (
        "MIMIC_ARTEFACTS: s3://mimic-tests/artefacts: objects cannot be written and read: access is denied -> give who "
        "asks (`identity`, above) the rights of deploy/terraform"
    )
    assert glue.startswith("Glue database haven: cannot be read: access is denied -> give who asks")
    assert found.states("MIMIC_WAREHOUSE") == ["ok", "ok"]


def test_settings_of_a_bucket_that_a_role_may_not_read_are_skipped(in_aws, doctor):
    in_aws.fail(
        {"method": "GET", "path": "^/mimic-tests$", "query": "^(versioning|encryption|publicAccessBlock)", "status": 403}
    )
    found = doctor()
    assert found.exit_code == 0
    assert found.said("bucket mimic-tests").startswith("skipped: versions, encryption, no public access: not told")


def test_a_bucket_that_is_not_there_is_wrong(in_aws, doctor, monkeypatch):
    monkeypatch.setenv("MIMIC_ARTEFACTS", "s3://mimic-elsewhere")
    (said,) = doctor().wrong()
    assert said == (
        "MIMIC_ARTEFACTS: s3://mimic-elsewhere cannot be listed: there is no such bucket -> make it, or mend its name in "
        "MIMIC_ARTEFACTS or MIMIC_WAREHOUSE"
    )


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("If-None-Match", "replaces an object although If-None-Match forbids it"),
        ("If-Match", "replaces an object although If-Match names another one"),
    ],
)
def test_a_store_that_ignores_conditions_is_wrong(in_aws, doctor, header, said):
    in_aws.fail({"method": "PUT", "path": "artefacts", "header": header, "strip": header})
    (found,) = doctor().wrong()
    assert f"the store of s3://mimic-tests/artefacts {said} -> take a store that knows conditional puts" in found


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (
            "X-Amz-Checksum-Crc32",
            "refuses the checksums of newer clients -> set AWS_REQUEST_CHECKSUM_CALCULATION=when_required",
        ),
        ("If-None-Match", "the store does not know conditional puts -> take a store that knows conditional puts"),
    ],
)
def test_a_store_that_refuses_a_header_is_told_which(in_aws, doctor, header, said):
    in_aws.fail({"method": "PUT", "path": "artefacts", "header": header, "status": 501})
    (found,) = doctor().wrong()
    assert said in found


def test_a_store_that_is_busy_is_wrong_soon(in_aws, doctor):
    in_aws.fail({"path": "mimic-tests", "status": 503})
    began = time.monotonic()
    found = doctor().wrong()
    assert time.monotonic() - began < 15
    assert all(
        "too many requests (SlowDown) -> do this again later, or let fewer steps run at once" in each for each in found
    )
    assert len(found) == 2


def test_an_endpoint_at_which_nobody_listens_is_wrong_at_once(in_aws, doctor, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    began = time.monotonic()
    found = doctor()
    assert time.monotonic() - began < 15
    assert [each.partition(":")[0] for each in found.wrong()] == [
        "identity",
        "MIMIC_WAREHOUSE",
        "MIMIC_ARTEFACTS",
        "Glue database haven",
    ]
    assert all("-> check the network and AWS_ENDPOINT_URL" in each for each in found.wrong())


def test_an_endpoint_that_is_no_url_is_wrong(in_aws, doctor, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "store:9000")
    found = doctor()
    assert len(found.wrong()) == 4
    assert all(
        "Invalid endpoint: store:9000 -> let AWS_ENDPOINT_URL be a URL such as https://STORE" in each
        for each in found.wrong()
    )


def test_credentials_that_are_out_of_date_are_renewed_by_a_command_with_the_name_of_the_profile(
    in_aws, doctor, mimic, monkeypatch
):
    monkeypatch.setenv("AWS_CONFIG_FILE", str(mimic.write("config", PROFILE)))
    monkeypatch.setenv("AWS_PROFILE", "research")
    in_aws.fail({"header": "Authorization: /sts/", "status": 403, "code": "ExpiredToken"})
    (said,) = doctor().wrong()
    assert said.startswith("identity: the credentials are out of date -> renew AWS_ACCESS_KEY_ID")
    assert said.endswith("run `aws sso login --profile research`")


def test_who_never_logged_in_by_sso_is_told_the_command(in_aws, doctor, mimic, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(mimic.write("config", PROFILE)))
    monkeypatch.setenv("AWS_PROFILE", "research")
    said = doctor().wrong()
    assert len(said) == 4
    assert all(each.endswith("-> run `aws sso login --profile research`") for each in said)


def test_without_credentials_one_is_told_to_log_in(in_aws, doctor, mimic, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(mimic.home / "nothing"))
    said = doctor().wrong()[0]
    assert said.startswith("identity: there are no credentials -> run `aws sso login --profile default`, or set AWS_PROFILE")


def test_a_profile_that_is_not_there_is_wrong(in_aws, doctor, monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    assert all(
        "The config profile (nobody) could not be found -> set AWS_PROFILE to one that `aws configure list-profiles` names"
        in each
        for each in doctor().wrong()
    )


def test_a_bucket_that_only_boto3_reaches_is_wrong(in_aws, doctor):
    in_aws.fail({"header": "User-Agent: aws-sdk-cpp", "status": 403})
    (said,) = doctor().wrong()
    assert said.startswith(
        "MIMIC_WAREHOUSE by Arrow: s3://mimic-tests/warehouse cannot be listed by Arrow: access is denied -> "
    )


@pytest.mark.parametrize(("seconds", "state"), [(-30, "ok"), (120, "warning"), (-400, "wrong")])
def test_a_clock_that_differs_from_that_of_aws_is_told(in_aws, doctor, seconds, state):
    in_aws.fail({"date": formatdate(time.time() + seconds, usegmt=True)})
    found = doctor()
    assert found.states("clock") == [state]
    if state == "wrong":
        said = r"wrong: (399|40[01]) seconds ahead of \w+ -> set the clock of this machine, such as by NTP"
        assert re.match(said, found.said("clock"))


def test_tables_that_are_elsewhere_than_the_warehouse_are_told(in_aws, doctor):
    from resources.aws import client

    parameters = {"table_type": "ICEBERG", "metadata_location": "s3://other/haven.db/t/metadata/0.json"}
    client("glue").create_table(DatabaseName="haven", TableInput={"Name": "t", "Parameters": parameters})
    said = doctor().said("Glue database haven")
    assert said.startswith("warning: 1 of its tables are not below MIMIC_WAREHOUSE s3://mimic-tests/warehouse: t -> ")


def test_a_database_of_glue_that_is_not_made_yet_is_a_warning_and_wrong_where_none_is(in_aws, doctor, monkeypatch):
    monkeypatch.setenv("MIMIC_CATALOG", "glue:haven, results")
    found = doctor()
    assert found.exit_code == 0
    assert found.said("Glue database results").startswith(
        "warning: there is none -> mend MIMIC_CATALOG, or set AWS_DEFAULT_REGION if"
    )
    monkeypatch.setenv("MIMIC_CATALOG", "glue:havn, results")
    assert [each.partition(" ->")[0] for each in doctor().wrong()] == [
        "Glue database havn: there is none",
        "Glue database results: there is none",
    ]


def test_what_a_look_that_was_given_up_left_is_removed_and_what_another_has_just_written_is_not(in_aws, doctor, monkeypatch):
    from resources.aws import client

    client("s3").put_object(Bucket="mimic-tests", Key="artefacts/.mimic-doctor/left", Body=b"left")
    assert doctor().wrong() == []
    (left,) = client("s3").list_objects_v2(Bucket="mimic-tests")["Contents"]
    assert left["Key"] == "artefacts/.mimic-doctor/left"
    monkeypatch.setattr(buckets, "LEFT_FOR", timedelta(0))
    assert doctor().wrong() == []
    assert "Contents" not in client("s3").list_objects_v2(Bucket="mimic-tests")


# ---- the webserver

TOKEN = "a-secret-that-nobody-may-see"  # noqa: S105  of the tests
REPOSITORY = {"name": "r", "jobs": [{"name": "register_specs"}], "sensors": [{"name": "answer_commands"}]}


def workspace(answer: Any = None, dagster: str = version("dagster"), **changes: Any) -> dict[str, Any]:
    """What a webserver says that is well, but for some changes."""
    entry = {"name": "mimic", "permissions": [], "locationOrLoadError": {"repositories": [REPOSITORY]}} | changes
    tick = {"skipReason": json.dumps(answer or {"answer": {"mimic": "9.9"}}), "error": None}
    return {
        "version": dagster,
        "workspaceOrError": {"__typename": "Workspace", "locationEntries": [entry]},
        "sensorDryRun": {"__typename": "DryRunInstigationTick", "evaluationResult": tick},
    }


READ_ONLY = [{"permission": "launch_pipeline_execution", "value": False}]
OLD = {"name": "r", "jobs": [{"name": "train_run"}, {"name": "build_dataset"}], "sensors": []}
OTHER = {"error": "SpecError", "message": "commands ask in version 9, and not 2; install the same mimic on both sides"}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (workspace(dagster="1.2.3"), "has Dagster 1.2.3, here it is .* -> install the same version on both"),
        (
            workspace(locationOrLoadError={"repositories": []}, name="other"),
            "without mimic: its code locations are other -> name mimic's code server among them",
        ),
        (
            workspace(locationOrLoadError={"message": "No module\nnamed x"}),
            "mimic cannot be loaded: No module named x -> see the log of the code server",
        ),
        (workspace(locationOrLoadError=None), "mimic cannot be loaded: it is being loaded -> see"),
        (
            {"version": "1", "workspaceOrError": {"__typename": "PythonError", "message": "no database"}},
            "cannot tell its code locations: no database -> see",
        ),
        (workspace(permissions=READ_ONLY), "is for viewers: .* -> "),
        (workspace(locationOrLoadError={"repositories": [OLD]}), "does not answer commands yet -> install the same mimic"),
        (workspace({"refused": OTHER}), "commands ask in version 9, and not 2 -> install the same mimic on both sides"),
    ],
    ids=["dagster", "without mimic", "broken", "loading", "no database", "read-only", "too old", "another protocol"],
)
def test_what_commands_would_miss_at_a_webserver_is_wrong(doctor, data, said):
    with serving({"/graphql": lambda _: (200, {"data": data})}) as url:
        assert re.search(said, doctor("--url", url).wrong()[-1])


def test_a_webserver_answers_commands_and_tells_the_time(doctor):
    with serving({"/graphql": lambda _: (200, {"data": workspace()})}) as url:
        found = doctor("--url", url)
    assert found.wrong() == []
    assert found.said("webserver") == f"ok: {url} answers; Dagster {version('dagster')} -> "
    assert found.states("code location") == ["ok"]
    assert found.said("commands") == "ok: are answered there, by mimic 9.9 -> "
    assert "agrees with webserver" in found.said("clock")


@contextmanager
def behind_a_proxy(said: Callable[[], tuple[int, Any]], **headers: str) -> Iterator[tuple[str, list[str | None]]]:
    """Serve it; gives the URL, and what was sent as a login."""
    seen: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            seen.append(self.headers.get("Authorization"))
            status, document = said() if seen[-1] == f"Bearer {TOKEN}" else (401, {})
            self.send_response_only(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(json.dumps(document).encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", seen
        server.shutdown()
        thread.join()


def test_the_server_that_commands_are_for_is_looked_at_with_their_login(doctor, mimic, monkeypatch):
    monkeypatch.setenv("HOME", str(mimic.home))
    mimic.write(".netrc", "machine 127.0.0.1 login me password mine\n").chmod(0o600)
    with behind_a_proxy(lambda: (200, {"data": workspace()})) as (url, seen):
        monkeypatch.setenv("MIMIC_SERVER", url)
        (said,) = doctor().wrong()
        assert "lets nobody in without a login (401 Unauthorized)" in said
        monkeypatch.setenv("MIMIC_SERVER_TOKEN", TOKEN)
        assert doctor().wrong() == []
        assert doctor("--url", url).wrong() == []
        (mimic.home / ".env").write_text(f"MIMIC_SERVER={url}\n")
        monkeypatch.delenv("MIMIC_SERVER")
        assert len(doctor().wrong()) == 1  # of which the token is not
        asked = len(seen)
        assert json.loads(mimic("--server", "", "doctor", "--json").stdout)["wrong"] == 0
        assert json.loads(mimic("--server", url, "doctor", "--json").stdout)["wrong"] == 0
    assert set(seen[:1] + seen[asked:]) == {None, f"Bearer {TOKEN}"}
    assert len(seen) == asked + 3


def test_a_redirection_is_not_followed(doctor, monkeypatch):
    monkeypatch.setenv("MIMIC_SERVER_TOKEN", TOKEN)
    with (
        behind_a_proxy(lambda: (200, {"data": workspace()})) as (other, seen),
        behind_a_proxy(lambda: (302, {}), Location=f"{other}/login") as (url, _),
    ):
        (said,) = doctor("--url", url).wrong()
    assert f"leads to {other}/login (302 Found), which is not followed: give the URL" in said
    assert seen == []


def test_what_is_no_webserver_is_told_so(doctor):
    with serving({"/graphql": lambda _: (200, {"hello": "world"})}) as url:
        (found,) = doctor("--url", url).wrong()
    assert "is not that of a Dagster webserver: it says 200" in found
    assert "-> give the address at which a browser shows its pages" in found


def test_a_webserver_that_is_away_is_wrong(doctor):
    (said,) = doctor("--url", "http://127.0.0.1:9").wrong()
    assert said.startswith("webserver: http://127.0.0.1:9 does not answer: ")
    assert "Connection refused" in said
    assert "-> check the URL, the network, and that the server runs" in said


def test_a_url_with_a_login_in_it_is_wrong_and_not_shown(doctor, monkeypatch):
    (said,) = doctor("--url", "http://me:hunter22@127.0.0.1:9").wrong()
    assert (
        "webserver: --server: a URL with a name or password in it is seen by others and kept in logs -> put them into"
        in said
    )
    assert "hunter22" not in said


def test_a_file_of_settings_that_cannot_be_read_is_wrong(doctor, mimic):
    (mimic.home / ".env").write_bytes(b"\xff")
    said = doctor().wrong()
    assert said[0].startswith(f"settings: {mimic.home}/.env: cannot be read: ")
    assert said[0].endswith(" -> mend it, or run mimic in another folder")


def test_what_is_asked_of_a_webserver_is_what_it_knows():
    from dagster_graphql.schema import create_schema
    from graphql import parse, validate

    from mimic_assets.cli.doctor_server import VERSION

    assert validate(create_schema().graphql_schema, parse(VERSION)) == []


# ---- the cluster


@pytest.fixture
def in_cluster(mimic, monkeypatch, database) -> Callable[[str], None]:
    """Give the function that has a cluster be the one of the kubeconfig."""

    def set_up(url: str) -> None:
        named = {
            "clusters": [{"name": "c", "cluster": {"server": url}}],
            "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u", "namespace": "mimic"}}],
        }
        config = {"apiVersion": "v1", "kind": "Config", "current-context": "x", **named}
        monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(mimic.write("kube", config)))
        monkeypatch.setenv("MIMIC_ENV", "kubernetes")
        monkeypatch.setenv("MIMIC_CATALOG", database())
        (mimic.home / "mimic").mkdir()

    return set_up


def kubernetes(*, refused: str = "", gpus: int = 1) -> dict[str, Callable[[bytes], tuple[int, Any]]]:
    """What a cluster answers."""
    node = {"metadata": {"name": "n"}, "status": {"allocatable": {"nvidia.com/gpu": str(gpus)} if gpus else {}}}
    numbers = dict.fromkeys(("buildDate", "compiler", "gitCommit", "gitTreeState", "goVersion", "platform"), "x")

    def review(body: bytes) -> tuple[int, Any]:
        asked = json.loads(body)["spec"]["resourceAttributes"]
        assert asked["namespace"] == "mimic"
        return 201, {"spec": {"resourceAttributes": asked}, "status": {"allowed": asked["resource"] != refused}}

    return {
        "/version/": lambda _: (200, numbers | {"gitVersion": "v1.33.1", "major": "1", "minor": "33"}),
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews": review,
        "/api/v1/nodes": lambda _: (200, {"items": [node]}),
    }


def about_the_cluster(found: Doctor) -> list[str]:
    return [each for each in found.wrong() if "luster" in each.partition(":")[0]]


def test_a_cluster_answers_lets_one_make_jobs_and_has_gpus(doctor, in_cluster):
    with serving(kubernetes()) as url:
        in_cluster(url)
        found = doctor()
    assert about_the_cluster(found) == []
    assert "Kubernetes v1.33.1, namespace mimic" in found.said("cluster")
    assert found.states("rights in the cluster") == ["ok"]
    assert found.said("GPUs") == "ok: 1 on 1 nodes -> "
    (dagster,) = found.wrong()
    assert "dagster.yaml, so nothing here knows Dagster's database -> run `mimic doctor` in the pod for commands" in dagster


def test_rights_and_gpus_that_a_cluster_lacks_are_named(doctor, in_cluster, monkeypatch):
    with serving(kubernetes(refused="jobs", gpus=0)) as url:
        in_cluster(url)
        found = doctor()
        monkeypatch.setenv("MIMIC_COMPUTE", '{"model_run": {"gpu": 0}}')
        without = doctor()
    (said,) = about_the_cluster(found)
    assert (
        "you may not create jobs, get jobs, list jobs, delete jobs in namespace mimic -> apply deploy/kubernetes/rbac"
        in said
    )
    assert found.said("GPUs").startswith("warning: no node has nvidia.com/gpu now")
    assert without.said("GPUs").startswith("skipped: MIMIC_COMPUTE asks for none")


def test_without_a_daemon_a_cluster_builds_nothing(mimic, doctor, in_cluster, new_instance):
    shutil.copytree(new_instance, mimic.home / "dagster")
    in_cluster("http://127.0.0.1:9")
    assert doctor().said("Dagster's daemon").startswith("wrong: none runs -> see `kubectl get pods -n mimic`")


def test_a_cluster_that_is_away_is_wrong_at_once(doctor, in_cluster, monkeypatch):
    in_cluster("http://127.0.0.1:9")
    (said,) = about_the_cluster(doctor())
    assert "http://127.0.0.1:9 does not answer as it should" in said
    assert "-> see `kubectl cluster-info`" in said


def test_without_a_way_into_the_cluster_that_is_wrong_and_why(mimic, doctor, in_cluster, monkeypatch):
    in_cluster("http://127.0.0.1:9")
    place = "kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION"
    monkeypatch.setattr(place, "/nowhere/config")
    said = "wrong: this is no pod that may use its cluster (Service host/port is not set), and there is no kubeconfig -> run"
    assert doctor().said("cluster").startswith(said)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    assert "(Service token file does not exist), and there is no kubeconfig" in doctor().said("cluster")
    for text in ("clusters: [", "{}", "current-context: x\nclusters: 3\n"):
        monkeypatch.setattr(place, str(mimic.write("broken", text)))
        said = doctor().said("cluster")
        assert said.startswith("wrong: the kubeconfig cannot be read: ") or text == "{}"
        assert said.startswith("wrong: ")


def test_a_variable_that_is_no_setting_is_a_warning_with_the_one_that_was_meant(doctor, monkeypatch):
    monkeypatch.setenv("MIMIC_ARTIFACTS", "s3://lake")
    said = "warning: MIMIC_ARTIFACTS is set, which is no setting (did you mean 'MIMIC_ARTEFACTS'?) -> mend its name"
    assert doctor().said("settings").startswith(said)
