"""The first run as a person clicks it, in a real browser over `mimic dev`: forms, builds, pages, and a failed shard."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import dagster as dg
import pyarrow.parquet as pq
import pytest
import yaml
from playwright.sync_api import Page, expect, sync_playwright

from mimic_core.configs import parse_spec
from mimic_core.specs import ExperimentSpec

MIMIC = Path(sys.executable).with_name("mimic")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
LOCATION = "mimic_assets.definitions"
MINUTE = 60_000  # milliseconds; a run begins a new process on a machine that may be busy

DATASET = {"database": "haven", "table": "features", "max_choices": 3, "features": ["size", "age"]}
DATASET |= {"missing_values_map": {"size": 0}, "space": "s", "dataset": "d"}
CONTRAST = {"database": "haven", "source_table": "features", "destination_table": "contrasts"}
CONTRAST |= {"decisions_per_individual": 2, "alternatives_per_decision": 1}
EXPERIMENT = {"experiment_name": "e", "space": "s", "dataset": "d", "max_choices": 3, "features": ["size", "age"]}
EXPERIMENT |= {"database": "haven", "table": "results", "models": [{"layers": ["D4"], "epochs": 3, "batch_size": 4}]}
INFERENCE = {"database": "haven", "table": "features", "train_partitions": 2, "features": ["size", "age"], "space": "s"}
INFERENCE |= {"experiment_name": "e", "upload_table": "scored"}
RUN = parse_spec(ExperimentSpec, EXPERIMENT).runs[0]


@pytest.fixture(scope="module")
def browser_path() -> str:
    """A Chromium; where there is none it is installed from Debian, which only the administrator may."""
    if not any(map(shutil.which, BROWSERS)) and shutil.which("apt-get") and os.geteuid() == 0:
        for step in (["update"], ["install", "--yes", "--no-install-recommends", "chromium"]):
            subprocess.run(["apt-get", *step], check=False, env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"})
    found = [path for name in BROWSERS if (path := shutil.which(name))]
    if not found and os.environ.get("CI"):
        pytest.fail("there is no Chromium, and it could not be installed; CI needs the package chromium")
    if not found:
        pytest.skip("there is no Chromium: install the package chromium to run the tests in a browser")
    return found[0]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, decision_table: Any) -> Path:
    """A home with one imported table."""
    home = tmp_path_factory.mktemp("browser")
    pq.write_table(decision_table(), home / "features.parquet")
    command = [MIMIC, "tables", "import", "haven.features", "features.parquet"]
    subprocess.run(command, cwd=home, env=environment(home), check=True, capture_output=True)
    return home


def environment(home: Path) -> dict[str, str]:
    return os.environ | {"MIMIC_HOME": str(home / "mimic"), "DAGSTER_HOME": str(home / "dagster")}


@pytest.fixture(scope="module")
def address(home: Path) -> Iterator[str]:
    """The address of `mimic dev`, which ends as on Ctrl-C."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with (home / "dev.log").open("wb") as log:
        command = [MIMIC, "dev", "--port", str(port)]
        server = subprocess.Popen(command, cwd=home, env=environment(home), stdout=log, stderr=log, start_new_session=True)
    try:
        wait_for_location(f"http://127.0.0.1:{port}", home / "dev.log")
        yield f"http://127.0.0.1:{port}"
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGINT)
            try:
                server.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)
                raise


def wait_for_location(address: str, log: Path) -> None:
    query = json.dumps({"query": "{repositoriesOrError{... on RepositoryConnection{nodes{name}}}}"}).encode()
    request = urllib.request.Request(f"{address}/graphql", query, {"content-type": "application/json"})  # noqa: S310  our own
    for _ in range(120):
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
                if json.load(answer)["data"]["repositoriesOrError"]["nodes"]:
                    return
        except OSError:
            pass
        time.sleep(1)
    pytest.fail(f"mimic dev does not answer:\n{log.read_text()}")


class Clicks:
    """What a person does in the pages."""

    def __init__(self, page: Page, address: str, home: Path) -> None:
        self.page, self.address, self.home = page, address, home
        page.set_default_timeout(MINUTE)
        expect.set_options(timeout=2 * MINUTE)

    def open(self, path: str) -> None:
        self.page.goto(f"{self.address}{path}")

    def asset(self, name: str, view: str = "overview") -> None:
        self.open(f"/assets/{name}?view={view}")

    def register(self, job: str, *, ends: str = "Success", **form: Any) -> None:
        """Replace the example in the launchpad by a form, launch it, and wait for its end."""
        self.open(f"/locations/{LOCATION}/jobs/{job}/playground")
        expect(self.page.locator(".CodeMirror")).to_contain_text("specs")  # the example is filled in
        self.page.locator(".CodeMirror-lines").click()
        self.page.keyboard.press("Control+A")
        step = f"{job.removeprefix('register_')}_form"
        self.page.keyboard.insert_text(yaml.safe_dump({"ops": {step: {"config": form}}}))
        expect(self.page.get_by_text("No errors")).to_be_visible()
        self.page.get_by_role("button", name="Launch Run").click()
        self.wait_for_end(ends)

    def materialize(self, asset: str, key: str, becomes: str = "^Materialized$") -> None:
        """Ask on the asset's page for the one partition that is missing, and wait for it."""
        self.asset(asset)
        self.page.get_by_text("Materialize…", exact=True).click()
        self.page.get_by_text("Missing", exact=True).click()
        self.page.get_by_role("button", name="Launch 1 run").click()
        expect(self.page.get_by_text("Launched run")).to_be_visible()
        self.wait_for_partition(asset, key, becomes)

    def wait_for_partition(self, asset: str, key: str, becomes: str = "^Materialized$") -> None:
        """Look at a partition when its runs have ended: it is what it should become."""
        self.wait_for_runs(key)
        self.open(f"/assets/{asset}?{urlencode({'view': 'partitions', 'partition': key})}")
        self.page.get_by_text(re.compile(becomes)).first.wait_for()

    def wait_for_runs(self, key: str) -> None:
        """Wait until the runs of a partition have ended, without the pages: each look at one takes seconds of a core."""
        with dg.DagsterInstance.from_config(str(self.home / "dagster")) as instance:
            for _ in range(240):
                runs = instance.get_runs(dg.RunsFilter(tags={"dagster/partition": key}))
                if runs and all(run.is_finished for run in runs):
                    return
                time.sleep(0.5)
        pytest.fail(f"the runs of {key} do not end")

    def observe(self) -> None:
        self.asset("source_table")
        self.page.get_by_role("button", name="Observe").first.click()
        self.page.get_by_text("View", exact=True).click()
        self.wait_for_end("Success")

    def shows(self, **numbers: int) -> None:
        """See numbers in the metadata on the page."""
        for name, number in numbers.items():
            row = self.page.locator("tr", has=self.page.get_by_text(name, exact=True))
            expect(row.first).to_contain_text(str(number))

    def shows_schema(self, *columns: str) -> None:
        self.page.get_by_text("[Show Table Schema]").click()
        for column in columns:
            expect(self.page.get_by_text(column, exact=True)).to_be_visible()

    def shows_learning_curve(self) -> None:
        self.page.get_by_text("[Show Markdown]").first.click()
        picture = self.page.get_by_alt_text("learning curve")
        expect(picture).to_be_visible()
        assert picture.evaluate("picture => picture.naturalWidth") == 640

    def reexecute_from_failure(self) -> None:
        failed = self.page.url
        self.page.get_by_role("button", name="Re-execute all").locator("xpath=following::button[1]").click()
        self.page.get_by_text("From failure", exact=True).click()
        self.page.wait_for_url(lambda url: "/runs/" in url and url != failed)
        self.wait_for_end("Success")

    def succeeded_steps(self, count: int) -> set[str]:
        """Read the names of the steps that a run's page lists as succeeded."""
        heading = self.page.get_by_text(f"Succeeded ({count})", exact=True)
        heading.click()
        names = self.page.get_by_text(re.compile(r"^inference_table\.\S+$"))
        return set(names.all_inner_texts())

    def wait_for_end(self, status: str) -> None:
        self.page.wait_for_url("**/runs/*")
        ended = self.page.get_by_text(re.compile("^(Success|Failure|Canceled)$")).first
        expect(ended).to_be_visible()
        expect(ended).to_have_text(status)


@pytest.fixture(scope="module")
def clicks(browser_path: str, address: str, home: Path) -> Iterator[Clicks]:
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=browser_path, args=options)
        page = browser.new_page(viewport={"width": 1500, "height": 1000}, reduced_motion="reduce")
        yield Clicks(page, address, home)
        browser.close()


def test_the_first_run_with_a_form_that_asks_the_daemon_to_build(clicks, fails_once):
    clicks.register("register_dataset", specs=[DATASET], build=True)
    clicks.register("register_contrast_set", specs=[CONTRAST])
    clicks.register("register_experiment", specs=[EXPERIMENT], layers_file=fails_once)
    clicks.register("register_inference", specs=[INFERENCE | {"run_id": RUN.run_id}])
    clicks.wait_for_partition("tfrecord_dataset", "s/d")
    clicks.shows(rows=42, train_decisions=15, test_decisions=3)
    clicks.materialize("contrast_set", "haven.contrasts")
    clicks.shows(rows=24, decisions=12, individuals=6)
    clicks.materialize("model_run", RUN.key)
    clicks.shows(epochs=3, train_decisions=15)
    clicks.shows_learning_curve()
    clicks.materialize("inference_table", f"haven.scored/e/{RUN.run_id}")
    clicks.shows(rows=42, decisions=18)
    clicks.observe()
    clicks.asset("source_table")
    clicks.shows(rows=42, columns=7)
    clicks.shows_schema("_individual", "_selected", "size", "age")


def test_a_wrong_form_says_what_is_wrong(clicks):
    clicks.register("register_dataset", ends="Failure", specs=[DATASET | {"max_choices": 1}])
    expect(clicks.page.get_by_text("max_choices: expected a number of at least 2, found 1").first).to_be_visible()


def test_only_the_failed_shard_and_the_commit_run_again(clicks, home):
    clicks.register("register_inference", specs=[INFERENCE | {"upload_table": "t", "run_id": RUN.run_id}])
    (home / "fail").touch()
    key = f"haven.t/e/{RUN.run_id}"
    clicks.materialize("inference_table", key, becomes="did not materialize this asset")
    clicks.page.locator("a[href*='/runs/']").first.click()
    clicks.wait_for_end("Failure")
    expect(clicks.page.get_by_text("Succeeded (2)")).to_be_visible()
    expect(clicks.page.get_by_text("Errored (1)")).to_be_visible()
    clicks.reexecute_from_failure()
    steps = {"inference_table.score_part[part_00001]", "inference_table.publish_inference"}
    # Dagster's own job also answers the check `up_to_date`
    assert clicks.succeeded_steps(len(steps) + 1) == steps
    clicks.wait_for_partition("inference_table", key)
    clicks.shows(rows=42)
