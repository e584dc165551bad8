"""What the tests in the browser share: a home with a table of trips, `mimic dev` over it, and what a person clicks."""

import json
import os
import re
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from playwright.sync_api import Page, expect, sync_playwright

from mimic_assets.registration import add_partitions
from mimic_core.answers import name_of
from mimic_core.manifests import seal
from mimic_core.specs import RunSpec
from mimic_core.world import CODE_VERSIONS, Node, expected_inputs, wanted_version
from resources.environments import local_resources
from resources.said import read_said

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
LOCATION = "mimic_assets.definitions"
MINUTE = 60_000  # milliseconds; a run begins a new process on a machine that may be busy
TOUR = Path(os.environ.get("MIMIC_TOUR") or Path(__file__).resolve().parents[2] / "build/tour")
SETTINGS = {"MIMIC_SETTLE_SECONDS": "0", "MIMIC_MAX_RUNS_PER_CHANGE": "1"}  # two rebuilds at once wait for a person

# what turns while something is waited for takes a core where no graphics card draws it
STILL = """addEventListener("DOMContentLoaded", () => {
    const style = document.createElement("style")
    style.textContent = "* { animation: none !important; transition: none !important }"
    document.head.append(style)
})"""

ALTERNATIVES = ("train", "car", "bus")
MINUTES, FRANCS, TASTE = (55, 35, 70), (14.0, 18.0, 6.0), (0.3, 0.0, -0.4)


def trips(travellers: int = 300, trips_each: int = 6, seed: int = 0) -> pa.Table:
    """Draw trips by train, car or bus from a logit; the bus does not go everywhere, and a fifth of the travellers test."""
    generator = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for traveller in range(1, travellers + 1):
        for trip in range(trips_each):
            offered = range(3 if generator.random() < 0.8 else 2)
            minutes = [round(MINUTES[mode] * generator.lognormal(0, 0.3)) for mode in offered]
            francs = [round(FRANCS[mode] * generator.lognormal(0, 0.4), 2) for mode in offered]
            utilities = [TASTE[mode] - 0.04 * minutes[mode] - 0.09 * francs[mode] for mode in offered]
            selected = int(np.argmax(utilities + generator.gumbel(size=len(offered))))
            for mode in offered:
                keys = {"_individual": traveller, "_decision": trip, "_choice": mode, "_alternative": ALTERNATIVES[mode]}
                flags = {"_selected": mode == selected, "_train": traveller % 5 != 0}
                facts = {"minutes": minutes[mode], "francs": francs[mode]}
                rows.append({**keys, **flags, **facts, "by_train": float(mode == 0), "by_bus": float(mode == 2)})
    return pa.Table.from_pylist(rows)


def environment(home: Path) -> dict[str, str]:
    return os.environ | {"MIMIC_HOME": str(home / "mimic"), "DAGSTER_HOME": str(home / "dagster")} | SETTINGS


def import_table(home: Path, name: str, table: pa.Table) -> None:
    pq.write_table(table, home / "table.parquet")
    local_resources(home / "mimic")["tables"].import_files(name, [home / "table.parquet"])


class Clicks:
    """What a person does in the pages, and looks at beside them."""

    def __init__(self, page: Page, address: str, home: Path, instance: dg.DagsterInstance) -> None:
        self.page, self.address, self.home, self.instance = page, address, home, instance
        self.location = LOCATION
        resources = local_resources(home / "mimic")
        self.tables, self.artefacts = resources["tables"], resources["artefacts"]
        page.set_default_timeout(MINUTE)
        expect.set_options(timeout=2 * MINUTE)

    def open(self, path: str) -> None:
        self.page.goto(f"{self.address}{path}")

    def asset(self, name: str, view: str = "overview", **more: str) -> None:
        self.open(f"/assets/{name}?{urlencode({'view': view, **more})}")

    def picture(self, name: str, *, pointing: bool = False, upper: int = 1000, at: str = "") -> None:
        """Keep a picture of what is on the page, as soon as all of it is there; what goes on is waited for five seconds.

        Args:
            pointing: the mouse stays where it is.
            at: a text to which the page is scrolled, at its upper edge.
            upper: how many pixels of the page from its upper edge; what is below may name the folders of this machine, as
                the stack of an error does.
        """
        TOUR.mkdir(parents=True, exist_ok=True)
        if not pointing:
            self.page.mouse.move(0, 0)
        if at:
            self.page.get_by_text(at, exact=True).first.evaluate("element => element.scrollIntoView()")
        coming = self.page.locator("[class*=Skeleton_animated], [role=progressbar]")
        deadline = time.monotonic() + 5
        while coming.count() and time.monotonic() < deadline:
            self.page.wait_for_timeout(250)
        if "/runs/" in self.page.url:
            self.page.wait_for_timeout(1_500)  # the bars of steps come a second after the rest
        self.page.screenshot(path=TOUR / f"{name}.png", clip={"x": 0, "y": 0, "width": 1500, "height": upper})

    def fill_in(self, job: str, **form: Any) -> None:
        """Replace the example in the launchpad by a form."""
        self.open(f"/locations/{self.location}/jobs/{job}/playground")
        expect(self.page.locator(".CodeMirror")).to_contain_text("specs")  # the example is filled in
        self.page.locator(".CodeMirror-lines").click()
        self.page.keyboard.press("Control+A")
        step = f"{job.removeprefix('register_')}_form"
        document = json.loads(json.dumps({"ops": {step: {"config": form}}}))  # without what YAML would refer back to
        self.page.keyboard.insert_text(yaml.safe_dump(document, sort_keys=False))
        self.page.keyboard.press("Control+Home")
        expect(self.page.get_by_text("No errors")).to_be_visible()

    def launch(self, ends: str = "Success") -> None:
        """Launch the job whose launchpad is open, and wait for its end."""
        self.page.get_by_role("button", name="Launch Run").click()
        self.wait_for_end(ends)

    def register(self, job: str, *, ends: str = "Success", picture: str | None = None, **form: Any) -> None:
        self.fill_in(job, **form)
        if picture:
            self.picture(picture)
        self.launch(ends)

    def materialize(self, asset: str, which: str = "", *, runs: int = 1, picture: str | None = None) -> None:
        """Launch runs of the partitions of an asset whose keys contain a text, or of all that are missing."""
        self.asset(asset)
        self.page.get_by_text("Materialize…", exact=True).click()
        if which:
            self.page.get_by_text("Select a partition or create one").click()
            choices = self.page.get_by_placeholder("Filter partitions")
            choices.fill(which)
            self.page.get_by_text(f"Select all ({runs})", exact=True).click()
            if picture:
                self.picture(picture)
            if choices.is_visible():  # news of the asset close the list; Escape would then close the dialog
                self.page.keyboard.press("Escape")
        else:
            self.page.get_by_text("Missing", exact=True).click()
        self.page.get_by_role("button", name="Launch 1 run" if runs == 1 else "Launch backfill").click()
        expect(self.page.get_by_text(re.compile("^(Launched run|Created backfill)"))).to_be_visible()

    def look_at(self, asset: str, key: str, becomes: str = "^Materialized$") -> None:
        """Look at a partition when its runs have ended: it is what it should become."""
        self.wait_for_runs(key)
        self.asset(asset, "partitions", partition=key)
        self.page.get_by_text(re.compile(becomes)).first.wait_for()

    def runs(self, **tags: str) -> list[dg.DagsterRun]:
        """Return the runs that have tags, the newest first."""
        return list(self.instance.get_runs(dg.RunsFilter(tags={name.replace("__", "/"): tags[name] for name in tags})))

    def wait_for_runs(self, key: str) -> list[dg.DagsterRun]:
        """Wait until the runs of a partition have ended, without the pages: each look at one takes seconds of a core."""
        self.page.goto("about:blank")
        wait_until(lambda: (runs := self.runs(dagster__partition=key)) and all(run.is_finished for run in runs), key)
        return self.runs(dagster__partition=key)

    def shows(self, **numbers: int) -> None:
        """See numbers in the metadata on the page."""
        for name, number in numbers.items():
            row = self.page.locator("tr", has=self.page.get_by_text(name, exact=True))
            expect(row.first).to_contain_text(str(number))

    def shows_picture(self, title: str) -> None:
        """Open a picture in the metadata on the page."""
        self.page.locator("tr", has=self.page.get_by_text(title, exact=True)).get_by_text("[Show Markdown]").click()
        picture = self.page.get_by_alt_text(title.replace("_", " "))
        expect(picture).to_be_visible()
        assert picture.evaluate("picture => picture.naturalWidth") >= 400

    def reexecute_from_failure(self) -> None:
        failed = self.page.url
        self.page.get_by_role("button", name="Re-execute all").locator("xpath=following::button[1]").click()
        self.page.get_by_text("From failure", exact=True).click()
        self.page.wait_for_url(lambda url: "/runs/" in url and url != failed)
        self.wait_for_end("Success")

    def wait_for_end(self, status: str) -> None:
        """Wait for the end of the run whose page is open, and see on the page which one it was."""
        self.page.wait_for_url("**/runs/*")
        page = self.page.url
        run_id = page.rpartition("/runs/")[2].partition("?")[0]
        self.page.goto("about:blank")  # a page of a run that goes on takes half a core
        wait_until(lambda: (run := self.instance.get_run_by_id(run_id)) and run.is_finished, f"the end of run {run_id}")
        self.page.goto(page)
        ended = self.page.get_by_text(re.compile("^(Success|Failure|Canceled)$")).first
        expect(ended).to_be_visible()
        expect(ended).to_have_text(status)

    def open_run(self, key: str) -> dg.DagsterRun:
        """Open the page of the newest run of a partition."""
        wait_until(lambda: self.runs(dagster__partition=key), f"a run of {key}")
        run = self.runs(dagster__partition=key)[0]
        self.open(f"/runs/{run.run_id}")
        return run

    def newest_epoch(self) -> int:
        """Read from the log on a run's page which epoch of a training it tells of last."""
        return max(map(int, re.findall(r"\bepoch\s+(\d+)", self.page.inner_text("body"))), default=0)

    def terminate(self) -> None:
        self.page.get_by_role("button", name="Terminate").click()
        self.page.get_by_role("button", name="Terminate 1 run").click()

    def succeeded_steps(self, count: int) -> set[str]:
        """Read the names of the steps that a run's page lists as succeeded."""
        self.page.get_by_text(f"Succeeded ({count})", exact=True).click()
        names = self.page.get_by_text(re.compile(r"^inference_table\.[^\s…]+$"))  # the chart cuts long ones
        return set(names.all_inner_texts())

    def switch_on(self, sensor: str) -> None:
        """Switch a sensor on in the list of automations."""
        self.open("/automation")
        item = self.page.locator(f"a[href$='/sensors/{sensor}']").locator("xpath=..")
        item.locator("label").nth(1).click()  # the first one selects it

    def lies_over(self, text: str, heading: str) -> bool:
        """Tell whether the first text that begins so reaches over the left edge of a heading beside it."""
        left = self.page.get_by_text(re.compile(f"^{text}")).first.bounding_box()
        right = self.page.get_by_text(heading).first.bounding_box()
        return left is None or right is None or left["x"] + left["width"] > right["x"]

    def held_by(self, sensor: str, text: str) -> bool:
        """Tell whether the newest tick of a sensor gives a text as the reason for which it asked for nothing."""
        states = [state for state in self.instance.all_instigator_state() if state.instigator_name == sensor]
        ticks = [
            tick
            for state in states
            for tick in self.instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1)
        ]
        return any(text in (tick.skip_reason or "") for tick in ticks)

    def is_answered(self, asset: str, key: str) -> bool:
        """Tell whether the check `up_to_date` has an answer for a partition."""
        return name_of(Node(asset, key)) in read_said(self.artefacts)[1]

    def rows(self, table: str) -> list[dict[str, Any]]:
        pin = self.tables.pin(table)
        return [row for batch in self.tables.batches(pin, self.tables.schema_of(pin).names) for row in batch.to_pylist()]

    def manifest(self, folder: str) -> dict[str, Any] | None:
        return self.artefacts.manifest(folder)


def wait_until(true: Callable[[], Any], what: str, seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} seconds"
        time.sleep(0.5)


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
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a table of trips."""
    home = tmp_path_factory.mktemp("browser")
    import_table(home, "travel.trips", trips())
    import_table(home, "travel.weekend_trips", trips(60, seed=7))
    return home


@pytest.fixture(scope="module")
def import_trips(home: Path) -> Callable[..., None]:
    """Give the function that replaces a table by other trips, beside the pages."""
    return lambda name, seed: import_table(home, name, trips(60, seed=seed))


@pytest.fixture(scope="module")
def publish_runs(clicks: Clicks) -> Callable[..., None]:
    """Give the function that registers runs and publishes some of them, without the care that real builds take."""

    def publish(specs: list[RunSpec], built: int) -> None:
        objects, inventory = clicks.home / "mimic/objects", local_resources(clicks.home / "mimic")["inventory"]
        for spec in specs:
            stored = {"asset": spec.asset, "key": spec.key, "spec": spec.document, "layers": ""}
            write(objects / f"specs/{spec.asset}/{spec.key}/000001.json", seal(stored))
        add_partitions(clicks.instance, "model_run", [spec.key for spec in specs])
        world = inventory.world()
        for spec in specs[:built]:
            node = Node(spec.asset, spec.key)
            files = ["config.json", "layers.py", "model.keras", "history.jsonl"]
            document = {
                "asset": spec.asset,
                "key": spec.key,
                "version": "20261121T000000Z-00000000",
                "counts": {"epochs": 8},
                "fingerprint": wanted_version(node, world),
                "spec": spec.document,
                "spec_digest": world.registered[node].digest,
                "code_version": CODE_VERSIONS[spec.asset],
                "inputs": expected_inputs(node, world),
                "built_at": "2026-11-21T00:00:00+00:00",
                "seconds": 3.0,
                "dagster_run_id": "00000000",
                "files": [{"path": name, "bytes": 0} for name in files],
            }
            for name in files:
                write(objects / spec.folder / document["version"] / name, b"")
            write(objects / spec.folder / "manifest.json", seal(document))
            numbers = {"epochs": 8, "test_nll": 0.8 + spec.model.seed % 7 / 100}
            clicks.instance.report_runless_asset_event(
                dg.AssetMaterialization(spec.asset, partition=spec.key, metadata=numbers)
            )

    return publish


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@pytest.fixture(scope="session", name="wait_until")
def wait_until_fixture() -> Callable[..., None]:
    """Give the function that waits until something is so."""
    return wait_until


@pytest.fixture(scope="module")
def address(home: Path, running_dev: Any, quick_runs: Any) -> Iterator[str]:
    """The address of `mimic dev`, which ends as on Ctrl-C."""
    with running_dev(home, environment(home) | quick_runs("keras")) as address:
        wait_for_location(address, home / "dev.log")
        yield address


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


@pytest.fixture(scope="module")
def clicks(browser_path: str, address: str, home: Path) -> Iterator[Clicks]:
    with sync_playwright() as playwright, dg.DagsterInstance.from_config(str(home / "dagster")) as instance:
        options = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"]
        options.append("--js-flags=--no-opt")  # pages are looked at for seconds: to compile them well takes longer
        browser = playwright.chromium.launch(executable_path=browser_path, args=options)
        page = browser.new_page(viewport={"width": 1500, "height": 1000}, reduced_motion="reduce")
        page.add_init_script(STILL)
        yield Clicks(page, address, home, instance)
        browser.close()
