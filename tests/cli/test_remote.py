"""Commands for a server: specs posted, builds followed and taken back, questions answered, by a laptop that holds nothing.

One `mimic dev` stands for the platform, behind a proxy that wants a token and counts what is asked.
"""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import dagster as dg
import pytest
import requests

from mimic_assets.cli import graphql
from mimic_assets.run_tags import PARTITION, USER

TOKEN = "a-secret-that-nobody-may-see"  # noqa: S105  of the tests
LINEAR = {"models": [{"layers": []}]}
SHARDS = 100  # some 10 seconds
FIRST_ID = "9b0556be032119fc566fc751c692a13ad7793d33309be140512f65fa1b75fe09"  # by the original tool


class Proxy(ThreadingHTTPServer):
    """A proxy with a login in front of a webserver.

    Attributes:
        asked: how often each operation of GraphQL was asked.
        seen: the headers and bodies that came.
        answers: what it says itself in place of the server, by operation: a status, headers and a body.
    """

    daemon_threads = True

    def __init__(self, server: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.server = server
        self.forget()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def forget(self) -> None:
        self.asked, self.seen, self.answers = Counter(), [], {}


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        found = re.search(r"(?:query|mutation)\s*(\w*)", json.loads(body)["query"])
        operation = found[1] or "Find"
        self.server.asked[operation] += 1
        self.server.seen.append((self.path, dict(self.headers), body))
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.say(401, {}, b"who are you?")
        elif answer := self.server.answers.get(operation, self.server.answers.get("*")):
            self.say(*answer)
        else:
            answer = requests.post(f"{self.server.server}{self.path}", json=json.loads(body), timeout=60)
            self.say(answer.status_code, {"content-type": "application/json"}, answer.content)

    def say(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in {**headers, "content-length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def platform(tmp_path_factory, entering, decision_table, running_dev, quick_runs):
    """The home of a platform with a table, whose webserver and daemon run, and the proxy in front of them."""
    home = tmp_path_factory.mktemp("platform")
    with pytest.MonkeyPatch.context() as patch:
        entering(home, patch).imported(decision_table())
        environment = {**os.environ, **quick_runs("keras")}
    with running_dev(home, environment) as address:
        proxy = Proxy(address)
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        wait_for(address, home / "dev.log")
        yield home, proxy
        proxy.shutdown()
        proxy.server_close()


def wait_for(address: str, log: Path) -> None:
    query = {"query": "{repositoriesOrError{... on RepositoryConnection{nodes{name}}}}"}
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with suppress(requests.ConnectionError):
            answer = requests.post(f"{address}/graphql", json=query, timeout=60)
            if answer.json()["data"]["repositoriesOrError"]["nodes"]:
                return
        time.sleep(1)
    pytest.fail(f"mimic dev does not answer:\n{log.read_text()}")


@pytest.fixture
def proxy(platform):
    _, proxy = platform
    proxy.forget()
    return proxy


@pytest.fixture
def laptop(platform, proxy, tmp_path, monkeypatch, entering):
    """The commands of a laptop, for which a server is named; its own homes are never made."""
    client = entering(tmp_path, monkeypatch)
    monkeypatch.setenv("MIMIC_SERVER", proxy.url)
    monkeypatch.setenv("MIMIC_SERVER_TOKEN", TOKEN)
    monkeypatch.setenv("MIMIC_USER", "ada@laptop")
    yield client
    client.end()
    assert not (tmp_path / "mimic").exists()
    assert not (tmp_path / "dagster").exists()


@pytest.fixture
def instance(platform):
    """Dagster's record of the platform."""
    home, _ = platform
    with dg.DagsterInstance.from_config(str(home / "dagster")) as instance:
        yield instance


def runs(instance: dg.DagsterInstance, **tags: str) -> list[dg.DagsterRun]:
    """The runs of partitions with some tags, oldest first."""
    found = instance.get_runs(dg.RunsFilter(tags=tags), ascending=True)
    return [run for run in found if PARTITION in run.tags]


def holds(path: Path, text: str) -> bool:
    """Whether a file, which may be gone by now, has a text in it."""
    with suppress(OSError):
        return path.is_file() and text.encode() in path.read_bytes()
    return False


def here(platform, entering, *arguments: object) -> str:
    """Run a command on the platform's own machine; returns its standard output."""
    home, _ = platform
    with pytest.MonkeyPatch.context() as patch:
        return entering(home, patch).done(*arguments).stdout


def said(process: subprocess.Popen[str], words: str) -> None:
    """Wait until a command has said some words on standard error, a minute and a half at most."""
    seen, late = [], threading.Timer(90, process.kill)
    late.start()
    for line in process.stderr:
        seen.append(line)
        if re.search(words, line):
            late.cancel()
            return
    late.cancel()
    raise AssertionError(f"the command ended without {words!r}: {seen}")


# what a person does from beginning to end


def test_a_dataset_a_run_and_its_inference_are_built_from_a_laptop(laptop, proxy, platform, entering, instance):
    result = laptop.done("log-odds", "build-dataset", laptop.dataset())
    assert "built: tfrecord_dataset s/d" in result.stdout
    assert f"submitted to {proxy.url}" in result.stderr
    assert re.findall(r"part (\d/2)", result.stderr) == ["1/2", "2/2"]
    (run,) = runs(instance, **{PARTITION: "s/d"})
    assert run.tags[USER] == "ada@laptop"
    assert proxy.asked["Launch"] == 1

    (trained,) = laptop.partitions("log-odds", "run-experiment", laptop.experiment(**LINEAR))
    assert trained["status"] == "built"
    assert len(trained["coefficients"]) == 2
    (scored,) = laptop.partitions("log-odds", "run-batch-infer", laptop.inference(trained["run_id"]))
    assert (scored["status"], scored["location"]) == ("built", "haven.scored")
    # the token is in nothing that the laptop wrote or said, that was posted, or that the platform keeps
    assert [path for path in laptop.home.rglob("*") if path.is_file() and TOKEN in path.read_text()] == []
    assert TOKEN not in result.stdout + result.stderr
    assert [body for _, _, body in proxy.seen if TOKEN.encode() in body] == []
    assert [path for path in platform[0].rglob("*") if holds(path, TOKEN)] == []
    # the platform knows the same as the laptop
    for command in ("status", "plan"):
        assert laptop.done(command, "--json").stdout == here(platform, entering, command, "--json")
        assert laptop.done(command).stdout == here(platform, entering, command)


def test_what_was_up_to_date_is_said_to_be_built_again(laptop):
    assert (
        "up to date already: tfrecord_dataset s/d; built again"
        in laptop.done("log-odds", "build-dataset", laptop.dataset()).stderr
    )


def test_a_report_comes_home_as_a_file(laptop, platform):
    home, _ = platform
    result = laptop.done("report", "e")
    assert re.search(rf"report: {home}/mimic/objects/s-reports/e/\S+/report.html on http", result.stdout)
    document = json.loads(laptop.done("report", "s/e", "--output", "page.html", "--json").stdout)
    assert document["page"] == str(laptop.home / "page.html")
    assert [row["model"] for row in document["leaderboard"]] == ["linear"]
    assert (laptop.home / "page.html").read_text().startswith("<!DOCTYPE html>")
    assert "--force" in laptop.refused("report", "e", "--output", "page.html")
    assert "no run of an experiment 'other' is registered" in laptop.refused("report", "other")
    assert "--open with --server needs --output" in laptop.refused("report", "e", "--open")


def test_many_specs_are_posted_by_one_request_and_have_the_ids_that_they_have_here(laptop, proxy, platform, tmp_path):
    home, _ = platform
    models = [{"layers": ["D4"], "epochs": 1, "seeds": list(range(10))}, {"layers": ["own"], "epochs": 2.0}]
    layers = laptop.write("layers.py", 'print("once")\nLAYERS = {"D4": lambda: Dense(4), "own": lambda: Dense(5)}\n')
    config = laptop.experiment(models=models, experiment_name="many")
    posted = laptop.partitions("log-odds", "run-experiment", config, layers, "--register-only")
    assert proxy.asked["Launch"] == 1
    assert {row["status"] for row in posted} == {"registered"}
    stored = [json.loads(path.read_text()) for path in home.glob("mimic/objects/specs/model_run/s/many/*/000001.json")]
    assert {document["layers"] for document in stored} == {layers.read_text()}
    keys = {document["key"] for document in stored}
    assert keys == {row["key"] for row in posted}
    assert len(keys) == 11
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIMIC_SERVER", "")
        patch.setenv("MIMIC_HOME", str(tmp_path / "local/mimic"))
        patch.setenv("DAGSTER_HOME", str(tmp_path / "local/dagster"))
        registered = laptop.partitions("log-odds", "run-experiment", config, layers, "--register-only")
    assert [row["run_id"] for row in registered] == [row["run_id"] for row in posted]


def test_the_original_experiment_has_its_ids(laptop):
    example = Path(__file__).parents[2] / "examples/first_table"
    files = example / "experiment.json", example / "layers.py"
    rows = laptop.partitions("log-odds", "run-experiment", *files, "--register-only")
    assert rows[0]["run_id"] == FIRST_ID


def test_a_status_that_follows_ends_when_nothing_is_in_flight(laptop, monkeypatch):
    monkeypatch.setattr("mimic_assets.cli.watching.PATIENCE_SECONDS", 0.1)
    assert laptop.done("status", "--follow").stdout.endswith("nothing is queued or running\n")


# what goes wrong


def test_a_wrong_config_is_named_and_nothing_is_posted(laptop, proxy):
    config = laptop.dataset(max_choices=0)
    assert laptop.refused("log-odds", "build-dataset", config).startswith(f"mimic: {config}: max_choices: ")
    missing = laptop.refused("log-odds", "build-dataset", "nothing.json")
    assert missing == "mimic: nothing.json: cannot be read: No such file or directory\n"
    assert proxy.asked["Launch"] == 0


def test_what_the_server_refuses_is_said_in_the_words_and_with_the_exit_code_of_the_command_there(
    laptop, platform, entering
):
    config = laptop.dataset(table="other")
    assert "there is no table haven.other" in laptop.refused("log-odds", "build-dataset", config)
    config = laptop.inference("0" * 64)
    assert "is not trained; run `mimic log-odds run-experiment CONFIG`" in laptop.refused(
        "log-odds", "run-batch-infer", config
    )
    for command in (["status", "nowhere"], ["plan", "haven.features"], ["plan", "s/e/12345678"]):
        with pytest.MonkeyPatch.context() as patch:
            local = entering(platform[0], patch)
            patch.setenv("MIMIC_SERVER", "")
            wanted = local.refused(*command)
        assert laptop.refused(*command) == wanted
    run = json.loads(laptop.done("status", "--json").stdout)["partitions"]
    run_id = next(row["run_id"] for row in run if row["run_id"] and row["state"] == "current")
    other = laptop.inference(run_id, table="other")
    assert "already holds inferences of run" in laptop.refused("log-odds", "run-batch-infer", other, "--register-only")


def test_a_build_that_fails_there_fails_here(laptop, instance):
    result = laptop("log-odds", "build-dataset", laptop.dataset(dataset="broken", max_choices=2))
    assert result.exit_code == 1
    assert re.search(r"mimic: tfrecord_dataset s/broken: .*max_choices", result.stderr, re.DOTALL)
    assert "failed: tfrecord_dataset s/broken" in result.stdout
    assert runs(instance, **{PARTITION: "s/broken"})[-1].status is dg.DagsterRunStatus.FAILURE


def test_a_server_that_is_not_there_is_named(laptop):
    for url in ("http://127.0.0.1:9", "https://no-such-host.invalid"):
        said = laptop.refused("--server", url, "status", exit_code=1)
        assert said.startswith(f"mimic: {url} does not answer: ")
        assert "check the URL, the network, and that the server runs" in said


def test_a_token_is_asked_for_sent_and_never_shown(laptop, proxy, monkeypatch):
    monkeypatch.setenv("MIMIC_SERVER_TOKEN", "")
    said = laptop.refused("status", exit_code=1)
    assert "lets nobody in without a login (401 Unauthorized)" in said
    assert "neither MIMIC_SERVER_TOKEN nor MIMIC_SERVER_HEADER is set" in said
    monkeypatch.setenv("MIMIC_SERVER_TOKEN", "another-secret")
    said = laptop.refused("status", exit_code=1)
    assert "what was sent is not accepted" in said
    assert "another-secret" not in said
    monkeypatch.delenv("MIMIC_SERVER_TOKEN")
    monkeypatch.setenv("MIMIC_SERVER_HEADER", f"Authorization: Bearer {TOKEN}")
    laptop.done("status")
    monkeypatch.setenv("MIMIC_SERVER_HEADER", TOKEN)
    said = laptop.refused("status")
    assert "MIMIC_SERVER_HEADER: expected 'Name: value'" in said
    assert TOKEN not in said


def test_settings_may_be_in_a_file_and_a_login_of_netrc_does_not_replace_the_token(laptop, proxy, monkeypatch):
    monkeypatch.setenv("HOME", str(laptop.home))
    laptop.write(".netrc", "machine 127.0.0.1 login me password mine\n").chmod(0o600)
    monkeypatch.delenv("MIMIC_SERVER_TOKEN")
    monkeypatch.delenv("MIMIC_SERVER")
    laptop.write(".env", f"MIMIC_SERVER={proxy.url}\nMIMIC_SERVER_TOKEN={TOKEN}\n")
    laptop.done("status")


def test_a_redirect_is_not_followed_so_nobody_else_gets_the_token(laptop, proxy):
    other = Proxy("http://127.0.0.1:9")
    threading.Thread(target=other.serve_forever, daemon=True).start()
    proxy.answers["*"] = (302, {"location": f"{other.url}/login?back=secret"}, b"")
    said = laptop.refused("status", exit_code=1)
    assert f"leads to {other.url}/login (302 Found), which is not followed" in said
    assert other.seen == []
    other.shutdown()
    other.server_close()


def test_over_http_to_another_machine_it_is_said_that_the_token_can_be_read(laptop):
    url = "http://no-such-host.invalid"
    assert f"mimic: {url} is not encrypted" in laptop.refused("--server", url, "status", exit_code=1)


FOR_VIEWERS = [{"permission": "launch_pipeline_execution", "value": False}]
ALL = {"name": "__repository__", "jobs": [{"name": "register_specs"}], "sensors": [{"name": "answer_commands"}]}
WITHOUT = {"name": "__repository__", "jobs": [{"name": "train_run"}, {"name": "build_dataset"}], "sensors": []}


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([{"repositories": [ALL]}], "is for viewers: a webserver that was started with --read-only"),
        ([], "is a Dagster webserver without mimic: its code locations are none"),
        ([{"repositories": [{**WITHOUT, "jobs": []}]}], "its code locations are mimic"),
        ([{"message": "MIMIC_ENV is 'x'"}], "mimic cannot be loaded: MIMIC_ENV is 'x'"),
        ([{"repositories": [WITHOUT]}], "has a mimic that does not answer commands yet; install the same mimic"),
    ],
)
def test_a_server_on_which_mimic_is_not_is_told_apart(entries, words, laptop, proxy):
    found = [{"name": "mimic", "permissions": FOR_VIEWERS, "locationOrLoadError": entry} for entry in entries]
    answer = {"data": {"workspaceOrError": {"locationEntries": found}}}
    proxy.answers["Find"] = (200, {"content-type": "application/json"}, json.dumps(answer).encode())
    assert words in laptop.refused("status", exit_code=1)


def test_a_server_of_something_else_is_told_apart(laptop, proxy):
    for status in (200, 404):
        proxy.answers["*"] = (status, {"content-type": "text/html"}, b"<html>hello</html>")
        assert "is not that of a Dagster webserver: it says" in laptop.refused("status", exit_code=1)
    proxy.answers["*"] = (200, {}, json.dumps({"errors": [{"message": "Cannot query field 'x'"}]}).encode())
    assert "Cannot query field 'x'; install the same mimic" in laptop.refused("status", exit_code=1)


def test_a_mimic_of_another_version_says_so(laptop, monkeypatch):
    monkeypatch.setattr("mimic_assets.cli.remote.PROTOCOL", 999)
    assert re.search(r"this server has mimic \S+, where commands ask in version \d+,", laptop.refused("status"))


def test_commands_for_one_machine_refuse_a_server(laptop, proxy):
    for command in (["tables", "list"], ["dev"], ["rebuild"], ["gc"], ["env"], ["runs", "retire", "x"]):
        said = laptop.refused(*command)
        assert f"`mimic {command[0]}` works on this machine only, and a server is named ({proxy.url})" in said
    assert proxy.seen == []
    laptop.done("--server", "", "tables", "--help")


def test_a_server_that_is_away_for_a_moment_is_asked_again(laptop, proxy, monkeypatch):
    monkeypatch.setattr(graphql, "PAUSE_SECONDS", 0.2)
    back = threading.Timer(3, proxy.answers.clear)

    def away() -> None:
        while not proxy.asked["Runs"]:
            time.sleep(0.05)
        proxy.answers["*"] = (503, {}, b"")
        back.start()

    threading.Thread(target=away, daemon=True).start()
    result = laptop.done("log-odds", "build-dataset", laptop.dataset())
    assert "it says 503 Service Unavailable; trying again for 60 seconds" in result.stderr
    assert "built: tfrecord_dataset s/d" in result.stdout


def test_a_server_that_does_not_come_back_leaves_the_work_going_on_there(laptop, proxy, monkeypatch, instance):
    monkeypatch.setattr(graphql, "RETRY_SECONDS", 1)
    proxy.answers["Runs"] = (503, {}, b"")
    before = len(runs(instance, **{PARTITION: "s/d"}))
    said = laptop.refused("log-odds", "build-dataset", laptop.dataset(), exit_code=1)
    assert "does not answer for 1 seconds: it says 503 Service Unavailable" in said
    assert f"What was asked for goes on there: `mimic --server {proxy.url} status --follow` follows it" in said
    deadline = time.monotonic() + 60
    while not (found := runs(instance, **{PARTITION: "s/d"})[before:]) or not found[0].is_finished:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert found[0].status is dg.DagsterRunStatus.SUCCESS


def test_a_token_that_expires_leaves_the_work_going_on_there(laptop, proxy):
    proxy.answers["Runs"] = (401, {}, b"")
    said = laptop.refused("log-odds", "build-dataset", laptop.dataset(), exit_code=1)
    assert re.search(r"\(401 Unauthorized\), and what was sent is not accepted; .*\. What was asked for goes on there", said)


# more than one command


def test_two_commands_for_one_partition_take_turns_and_both_end_well(laptop, instance):
    config = laptop.dataset(dataset="turns")  # of which nothing was asked before that may go on still
    commands = [laptop.start("log-odds", "build-dataset", config, "--json") for _ in range(2)]
    ended = [process.communicate(timeout=120) for process in commands]
    assert [process.returncode for process in commands] == [0, 0], ended
    ids = {json.loads(output)["partitions"][0]["dagster_run_id"] for output, _ in ended}
    assert len(ids) == 2
    assert {run.run_id for run in runs(instance, **{PARTITION: "s/turns"})} == ids


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_command_ends_its_run_there(number, laptop, instance):
    name = f"long-{number.name.lower()}"
    process = laptop.start("log-odds", "build-dataset", laptop.dataset(dataset=name, train_partitions=SHARDS))
    said(process, "part 1/")
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    (run,) = runs(instance, **{PARTITION: f"s/{name}"})
    assert f"mimic: tfrecord_dataset s/{name}: canceled its run {run.run_id}" in errors
    said_there = [entry.user_message or str(entry.dagster_event) for entry in instance.all_logs(run.run_id)[-12:]]
    assert run.status is dg.DagsterRunStatus.CANCELED, said_there
    rows = {row["key"]: row["state"] for row in laptop.partitions("status")}
    assert rows[f"s/{name}"] == "missing"  # nobody wished that it stay unbuilt


def test_a_second_interruption_leaves_at_once_and_the_build_goes_on_there(laptop, proxy, instance):
    process = laptop.start("log-odds", "build-dataset", laptop.dataset(dataset="left", train_partitions=30))
    said(process, "part 1/")
    proxy.answers["Ask"] = (503, {}, b"")  # so it cannot be taken back
    process.send_signal(signal.SIGINT)
    said(process, r"trying again for 60 seconds \(Ctrl-C twice leaves\)")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Traceback" not in errors
    (run,) = runs(instance, **{PARTITION: "s/left"})
    assert run.status in {dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.SUCCESS}


def test_a_command_that_is_interrupted_while_it_registers_builds_nothing(laptop, proxy, instance):
    registers = dg.RunsFilter(job_name="register_specs", statuses=[dg.DagsterRunStatus.SUCCESS])
    before = instance.get_runs_count(registers)
    proxy.answers["Look"] = (503, {}, b"")  # so that the command does not know when the build was asked for
    process = laptop.start("log-odds", "build-dataset", laptop.dataset(dataset="hasty", train_partitions=SHARDS))
    said(process, "trying again")
    deadline = time.monotonic() + 60
    while instance.get_runs_count(registers) == before:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "ended as SUCCESS; what it asked for is withdrawn" in errors
    time.sleep(6)  # two ticks of the sensor
    statuses = [run.status.value for run in runs(instance, **{PARTITION: "s/hasty"})]
    assert statuses in ([], ["CANCELED"]), errors


def test_a_status_imports_nothing_heavy_and_is_quick(laptop):
    code = "import json, sys\nfrom mimic_assets.cli.main import main\ntry:\n    main(['status', '--json'])\n"
    code += "except SystemExit as end:\n    assert end.code in (0, None), end.code\n"
    code += "heavy = ('tensorflow', 'keras', 'pandas', 'dagster', 'pyiceberg', 'sqlalchemy', 'scipy')\n"
    code += "print(json.dumps([name for name in heavy if name in sys.modules]), file=sys.stderr)\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr == "[]\n"
    assert json.loads(done.stdout)["partitions"]
