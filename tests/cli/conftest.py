"""What the command-line tests share: the commands in this process, the same as a process, and configs that fit together."""

import atexit
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from mimic_assets.cli.environment import open_instance
from mimic_assets.cli.main import main

MIMIC = Path(sys.executable).with_name("mimic")
CONTRAST = {
    "database": "haven",
    "source_table": "features",
    "train_partitions": 2,
    "test_partitions": 1,
    "destination_table": "contrasts",
    "decisions_per_individual": 2,
    "alternatives_per_decision": 2,
}
DATASET = {
    "database": "haven",
    "table": "features",
    "train_partitions": 2,
    "test_partitions": 1,
    "max_choices": 3,
    "features": ["size", "age"],
    "missing_values_map": {"size": 0},
    "space": "s",
    "dataset": "d",
}
EXPERIMENT = {
    "experiment_name": "e",
    "space": "s",
    "dataset": "d",
    "max_choices": 3,
    "features": ["size", "age"],
    "database": "haven",
    "table": "results",
    "models": [{"layers": ["D4"], "epochs": 2, "batch_size": 4}],
}
INFERENCE = {
    "database": "haven",
    "table": "features",
    "train_partitions": 2,
    "test_partitions": 1,
    "features": ["size", "age"],
    "space": "s",
    "experiment_name": "e",
    "upload_table": "scored",
}


PLOTTING = ("matplotlib.backends.backend_agg", "matplotlib.figure", "PIL.Image")  # what builds need for their pictures


class Forked:
    """A command in a process that has imported everything before it begins: that takes 2 seconds, and 5 for TensorFlow.

    It is used as `subprocess.Popen` is, with what it says in files.
    """

    def __init__(self, arguments: Sequence[str], folder: Path) -> None:
        folder.mkdir()
        self._files = folder / "stdout", folder / "stderr"
        for file in self._files:
            file.touch()
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(
            ["mimic_assets.definitions", "mimic_assets.cli.main", "pandas", "tensorflow", "pytest", *PLOTTING]
        )
        self._process = context.Process(target=call, args=(arguments, dict(os.environ), Path.cwd(), self._files))
        self._process.start()
        self.stderr = self._lines()

    def _lines(self) -> Iterator[str]:
        """Give what it says on standard error, line by line, until it ends."""
        with self._files[1].open() as said:
            line, ended = "", False
            while not ended:
                ended = self._process.exitcode is not None  # before the last look
                while part := said.readline():
                    line += part
                    if line.endswith("\n"):
                        yield line
                        line = ""
                time.sleep(0.01)

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        self._process.kill()

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for its end; returns all that it said."""
        self._process.join(timeout)
        assert self._process.exitcode is not None, f"the command did not end within {timeout} seconds"
        output, errors = (file.read_text() for file in self._files)
        return output, errors


def call(arguments: Sequence[str], environment: Mapping[str, str], folder: Path, files: Sequence[Path]) -> None:
    """Be the command, in a process of its own."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for number, file in enumerate(files, start=1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_APPEND), number)
    try:
        main(arguments, prog_name="mimic")
    finally:
        atexit._run_exitfuncs()  # as at the end of a process that was not forked


class CommandLine:
    """The commands over one home, with configs by keyword: a changed key is given, a key given as ... is left out."""

    def __init__(self, home: Path, new_instance: Path) -> None:
        self.home, self.new_instance = home, new_instance
        self._started: list[subprocess.Popen[str] | Forked] = []

    def end(self) -> None:
        """End what a failed test has left running."""
        for process in self._started:
            process.kill()
            process.communicate()

    def published(self) -> dict[str, bytes]:
        """The manifests that anybody could read."""
        return {str(path): path.read_bytes() for path in self.home.glob("mimic/objects/**/manifest.json")}

    def __call__(self, *arguments: object) -> Result:
        """Run a command in this process; whatever a person does must not end in a traceback."""
        result = CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="mimic")
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        assert "Traceback" not in result.output
        return result

    def done(self, *arguments: object) -> Result:
        result = self(*arguments)
        assert result.exit_code == 0, result.output
        return result

    def refused(self, *arguments: object, exit_code: int = 2) -> str:
        """Run a command that must fail, with nothing on standard output; returns what it says."""
        result = self(*arguments)
        assert result.exit_code == exit_code, result.output
        assert exit_code == 1 or result.stdout == ""
        return result.stderr

    def partitions(self, *arguments: object) -> list[dict[str, Any]]:
        """Run a command with --json; returns its partitions."""
        return json.loads(self.done(*arguments, "--json").stdout)["partitions"]

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        """Start a command as a process of its own."""
        command = [str(MIMIC), *map(str, arguments)]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=os.environ)
        self._started.append(process)
        return process

    def fork(self, *arguments: object) -> Forked:
        """Start a command as a process of its own that has imported everything, for files that start many."""
        process = Forked([str(argument) for argument in arguments], self.home / f"said-{len(self._started)}")
        self._started.append(process)
        return process

    def write(self, name: str, document: Any) -> Path:
        path = self.home / name
        path.write_text(document if isinstance(document, str) else json.dumps(document))
        return path

    def contrast(self, **changes: object) -> Path:
        return self.write("contrast.json", changed(CONTRAST, changes))

    def dataset(self, **changes: object) -> Path:
        return self.write("dataset.json", changed(DATASET, changes))

    def experiment(self, **changes: object) -> Path:
        return self.write("experiment.json", changed(EXPERIMENT, changes))

    def inference(self, run_id: str, /, **changes: object) -> Path:
        return self.write("inference.json", changed(INFERENCE, {"run_id": run_id, **changes}))

    def imported(self, table: pa.Table, name: str = "haven.features") -> None:
        if not (self.home / "dagster").exists():  # a copy takes milliseconds; Dagster makes one in half a second
            shutil.copytree(self.new_instance, self.home / "dagster")
        pq.write_table(table, self.home / "table.parquet")
        self.done("tables", "import", name, self.home / "table.parquet")


def changed(document: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in (document | changes).items() if value is not ...}


Enter = Callable[[Path, pytest.MonkeyPatch], CommandLine]


@pytest.fixture(scope="session", autouse=True)
def few_pictures(pictures_drawn_once: None) -> None:
    """Builds are many here, and nobody looks at most of them."""


@pytest.fixture(scope="session")
def new_instance(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Dagster home in which nothing happened yet, as the first command makes it."""
    folder = tmp_path_factory.mktemp("instance")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIMIC_HOME", str(folder / "mimic"))
        patch.setenv("DAGSTER_HOME", str(folder / "dagster"))
        open_instance().dispose()
    return folder / "dagster"


@pytest.fixture(scope="session")
def entering(new_instance: Path, forgetting: Callable[[], None]) -> Enter:
    """Give the function that makes a folder the home of the commands of one test."""

    def enter(home: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
        monkeypatch.setenv("MIMIC_HOME", str(home / "mimic"))
        monkeypatch.setenv("DAGSTER_HOME", str(home / "dagster"))
        monkeypatch.chdir(home)
        forgetting()  # a fixture that several tests share comes before what is done for each of them
        # TensorFlow's log handler closes the stream that it began with when Dagster configures logging while click has
        # replaced it
        if "absl.logging" in sys.modules:
            sys.modules["absl.logging"].get_absl_handler().python_handler.stream = sys.__stderr__
        return CommandLine(home, new_instance)

    return enter


@pytest.fixture(autouse=True)
def signals_as_before() -> Iterator[None]:
    """`mimic dev` has signals end the process that it becomes; where a test has it go on as this one, they must not."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Prepared:
    """A home that is prepared once; whoever takes it finds it as it was then, at the same place, which tables need."""

    def __init__(self, folder: Path, entering: Enter, prepare: Callable[[CommandLine], None]) -> None:
        self.home, self.kept, self.entering, self.prepare = folder / "home", folder / "kept", entering, prepare

    def taken(self, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
        if not self.kept.exists():
            self.home.mkdir()
            with pytest.MonkeyPatch.context() as patch:
                self.prepare(self.entering(self.home, patch))
            shutil.copytree(self.home, self.kept)
        shutil.rmtree(self.home)
        shutil.copytree(self.kept, self.home)
        return self.entering(self.home, monkeypatch)


@pytest.fixture
def mimic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entering: Enter) -> Iterator[CommandLine]:
    """The commands over an empty home."""
    mimic = entering(tmp_path, monkeypatch)
    yield mimic
    mimic.end()


@pytest.fixture(scope="session")
def home_with_dataset(tmp_path_factory: pytest.TempPathFactory, entering: Enter, decision_table: Any) -> Prepared:
    """A home in which a dataset is built."""

    def prepare(mimic: CommandLine) -> None:
        mimic.imported(decision_table())
        mimic.done("log-odds", "build-dataset", mimic.dataset())

    return Prepared(tmp_path_factory.mktemp("with_dataset"), entering, prepare)


@pytest.fixture
def with_dataset(home_with_dataset: Prepared, monkeypatch: pytest.MonkeyPatch) -> Iterator[CommandLine]:
    """The commands over a home of its own in which a dataset is built."""
    mimic = home_with_dataset.taken(monkeypatch)
    yield mimic
    mimic.end()


@pytest.fixture(scope="session")
def home_with_run(tmp_path_factory: pytest.TempPathFactory, entering: Enter, decision_table: Any) -> Prepared:
    """A home with a dataset and a trained linear run, whose id is in the file `run`."""

    def prepare(mimic: CommandLine) -> None:
        mimic.imported(decision_table())
        mimic.done("log-odds", "build-dataset", mimic.dataset())
        (run,) = mimic.partitions("log-odds", "run-experiment", mimic.experiment(models=[{"layers": []}]))
        mimic.write("run", run["run_id"])

    return Prepared(tmp_path_factory.mktemp("with_run"), entering, prepare)


@pytest.fixture
def with_run(home_with_run: Prepared, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[CommandLine, str]]:
    """The commands over a home of its own with a trained linear run, and its id."""
    mimic = home_with_run.taken(monkeypatch)
    yield mimic, (mimic.home / "run").read_text()
    mimic.end()


@pytest.fixture(scope="module")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared")


@pytest.fixture
def shared(shared_home: Path, monkeypatch: pytest.MonkeyPatch, entering: Enter) -> Iterator[CommandLine]:
    """The commands over a home that the tests of a module share."""
    mimic = entering(shared_home, monkeypatch)
    yield mimic
    mimic.end()


@pytest.fixture
def unchanged(
    shared_home: Path, monkeypatch: pytest.MonkeyPatch, entering: Enter, decision_table: Callable[..., pa.Table]
) -> Iterator[CommandLine]:
    """The commands over a home with a dataset that the tests of a module share, for commands that change nothing there."""
    mimic = entering(shared_home, monkeypatch)
    if not (shared_home / "mimic/objects/s-tfrecords").exists():
        mimic.imported(decision_table())
        mimic.done("log-odds", "build-dataset", mimic.dataset())
    before = mimic.published()
    yield mimic
    assert mimic.published() == before
