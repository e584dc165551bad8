"""What tests of several folders share: a home of their own, and the smallest decision table that is worth training on."""

import gc
import json
import os
import pwd
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mimic_core.collecting import collect_seldom

BUCKET = "mimic-tests"
PLACES = ("CATALOG", "WAREHOUSE", "ARTEFACTS", "SERVER")
SETTINGS = {f"MIMIC_{name}" for name in (*PLACES, "ALERT_WEBHOOK", "OWNERS", "CODE_URL")}
ROOT = Path(__file__).resolve().parents[1]
MEMORY_NEEDED = 2**30  # bytes; the folders of tests that are running or failed: the suite had up to 50 MB there
# What the libraries do to themselves or to each other: Dagster 1.13 reads deprecated properties of its own (for an
# observable source asset and a nested resource), Keras converts variables in NumPy 1's way.
# The last three are the features that mimic_assets.partitions uses knowingly; pytest undoes its filters after each test.
LIBRARIES_WARN = (
    "Property `OpDefinition.version` is deprecated:DeprecationWarning",
    "InitResourceContext.dagster_run is deprecated:DeprecationWarning",
    "__array__ implementation doesn't accept a copy keyword:DeprecationWarning",
    "Specifying a partitions_def on an AssetCheckSpec is currently in preview",
    "Function `multi_observable_source_asset` is currently in beta",
    "Class `(CodeReferencesMetadataValue|(LocalFile|Url)CodeReference)` is currently in beta",
)


BUILDS_DRAW = [
    f"mimic_assets.{name}" for name in ("choices_shown", "coefficients", "datasets", "effects", "inference_checks", "runs")
]

FAILS_ONCE = """
from pathlib import Path

LAYERS = {"D4": lambda: Dense(4)}
if Path("fail").exists():
    Path("loads").write_text(Path("loads").read_text() + "x" if Path("loads").exists() else "x")
    if Path("loads").read_text() == "xx":
        raise RuntimeError("the second shard fails")
"""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rounds", type=int, default=2, help="how often each test of interrupted or colliding writers tries")


def use_memory_as_disk() -> None:
    """Put temporary folders into memory where there is room: SQLite waits for a disk at every commit, 5 ms measured."""
    memory = Path("/dev/shm")  # noqa: S108  pytest makes a folder of its own there, with the rights of its user only
    if os.access(memory, os.W_OK) and shutil.disk_usage(memory).free >= MEMORY_NEEDED:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(memory))


def heed_interrupts() -> None:
    """Have the processes that tests start end when they are asked to: a script that starts the tests in the background has
    them ignore SIGINT, and those of Dagster then ignore SIGTERM too."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    heed_interrupts()
    use_memory_as_disk()
    collect_seldom()
    # the tests of somebody who has one are not about it
    for name in [name for name in os.environ if name.startswith("AWS_") or name in SETTINGS]:
        os.environ.pop(name, None)
    for warning in LIBRARIES_WARN:
        config.addinivalue_line("filterwarnings", f"ignore:{warning}")


def pytest_collection_finish() -> None:
    """Never look for garbage among what was imported: with every look that took 8% of the time of the suite."""
    gc.collect()
    gc.freeze()


@cache
def kept_jobs() -> list[Any]:
    """Find what keeps its results: our function, and Dagster's methods, which show on a job that takes a while to build."""
    import dagster as dg

    from mimic_assets.cli.execution import resolved_job

    job = dg.build_reconstructable_job("mimic_assets.cli.execution", "resolved_job", ("model_run",))
    return [type(job).get_definition, type(job).get_repository_definition, resolved_job]


def forget_kept_jobs() -> None:
    """Forget the jobs, and with them the homes, that are kept for the life of a process."""
    if "dagster" in sys.modules:
        for kept in kept_jobs():
            kept.cache_clear()


@pytest.fixture(scope="session")
def pause() -> Callable[[int, Path], None]:
    """Give the function that stops the processes of a group while none of them holds a lock."""
    return stop_without_locks


def stop_without_locks(group: int, home: Path) -> None:
    """Stop the processes of a group when none holds a lock of a database below a folder: nobody else could use that."""
    for _ in range(100):
        os.killpg(group, signal.SIGSTOP)
        if all(map(can_be_written, home.rglob("*.db"))):
            return
        os.killpg(group, signal.SIGCONT)
        time.sleep(0.1)
    raise AssertionError("a lock is held always")


def can_be_written(database: Path) -> bool:
    with closing(sqlite3.connect(database, timeout=0.5)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False
        return True


@pytest.fixture(scope="session")
def aws_server() -> Iterator["Aws"]:
    """A server of S3, Glue and the others, for the tests of one process."""
    command = [sys.executable, ROOT / "tests/aws/server.py"]
    pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=nowhere) as process:
        yield Aws(process.stdout.readline().decode().strip())
        process.stdin.close()


@pytest.fixture
def aws(aws_server: "Aws", monkeypatch: pytest.MonkeyPatch) -> Iterator["Aws"]:
    """AWS without anything in it but a bucket, as the default chain finds it."""
    from resources.aws import client, forget_clients

    for name, value in aws_server.environment.items():
        monkeypatch.setenv(name, value)
    forget_clients()
    aws_server.ask("/moto-api/reset", None)  # what tests of a whole platform left
    client("s3").create_bucket(Bucket=BUCKET)
    yield aws_server
    aws_server.fail()
    aws_server.ask("/moto-api/reset", None)
    aws_server.ask("/test/reset", None)
    forget_clients()


class Aws:
    """A server of AWS.

    Attributes:
        url: its endpoint.
        environment: by which clients find it.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        self.environment = {**dict.fromkeys(names, "testing"), "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1"}
        self.environment |= {"AWS_ENDPOINT_URL": url, "AWS_EC2_METADATA_DISABLED": "true"}

    def ask(self, path: str, body: Any) -> Any:
        request = urllib.request.Request(f"{self.url}{path}", json.dumps(body).encode(), method="POST")  # noqa: S310  our own
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            return json.loads(answer.read())

    def fail(self, *faults: dict[str, Any]) -> None:
        """Have requests fail, see tests/aws/server.py; none any more without faults."""
        self.ask("/test/faults", faults)

    def requests(self) -> list[str]:
        """Return the requests of this test, a method, path and query each."""
        return [str(request) for request in self.ask("/test/requests", None)]


@pytest.fixture(autouse=True)
def no_kept_jobs() -> None:
    """Begin every test without the jobs of the one before it."""
    forget_kept_jobs()


@pytest.fixture(scope="session", autouse=True)
def kept_migrations() -> Iterator[None]:
    """Read the migrations of Dagster once, which it does whenever it opens a database: 17 ms, and each run has its own."""
    from alembic.script import ScriptDirectory

    read, kept = ScriptDirectory.from_config, {}

    def from_config(config: Any) -> ScriptDirectory:
        place = config.get_main_option("script_location")
        return kept[place] if place in kept else kept.setdefault(place, read(config))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ScriptDirectory, "from_config", from_config)
        yield


@pytest.fixture(scope="session", autouse=True)
def kept_engines() -> Iterator[None]:
    """Make an engine of each database once; Dagster makes one for every query, which then compiles its statement anew."""
    from dagster._core.storage.event_log.sqlite import sqlite_event_log
    from dagster._core.storage.runs.sqlite import sqlite_run_storage
    from dagster._core.storage.schedules.sqlite import sqlite_schedule_storage

    made: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        for module in (sqlite_event_log, sqlite_run_storage, sqlite_schedule_storage):
            make = module.create_engine

            def kept(address: str, *, _make: Any = make, **options: Any) -> Any:
                return made[address] if address in made else made.setdefault(address, _make(address, **options))

            patch.setattr(module, "create_engine", kept)
        yield


class DrawnOnce:
    """The functions of a module of plots, each of which draws when it is first called, and gives that picture ever after."""

    def __init__(self, module: Any) -> None:
        self._module, self._drawn = module, dict[str, bytes]()

    def __getattr__(self, name: str) -> Callable[..., bytes]:
        def draw(*arguments: Any) -> bytes:
            if name not in self._drawn:
                self._drawn[name] = getattr(self._module, name)(*arguments)
            return self._drawn[name]

        return draw


@pytest.fixture(scope="session")
def pictures_drawn_once() -> Iterator[None]:
    """Have builds of this process draw one picture of each kind: they were a fifth of the time of all builds.

    What is drawn is tested with the plots, and builds in processes of their own draw all of theirs.
    """
    with pytest.MonkeyPatch.context() as patch:
        for module in map(import_module, BUILDS_DRAW):
            for name in ("plots", "profile_plots", "distribution_plots"):
                if hasattr(module, name):
                    patch.setattr(module, name, DrawnOnce(getattr(module, name)))
        yield


@pytest.fixture(scope="session")
def forgetting() -> Callable[[], None]:
    """Give the function that forgets kept jobs, for homes that tests share."""
    return forget_kept_jobs


RUNS_IMPORT = (  # beside TensorFlow
    "dagster._core.storage.event_log.sqlite",
    "dagster._core.storage.runs.sqlite",
    "dagster._core.storage.schedules.sqlite",
    "dagster._grpc.server",
    "mimic_assets.definitions",
    "pyiceberg.catalog.sql",
    "pyiceberg.io.pyarrow",
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "PIL.Image",
)


def forking_runs(*more: str) -> dict[str, str]:
    """Return the variables with which a daemon forks its runs from a process that has imported what they need, and more."""
    path = [str(ROOT / "tests/quick_runs"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"PYTHONPATH": os.pathsep.join(path), "PRELOAD": ",".join([*RUNS_IMPORT, *more])}


@pytest.fixture(scope="session")
def quick_runs() -> Callable[..., dict[str, str]]:
    """Give the function that returns the variables of a daemon whose runs begin quickly."""
    return forking_runs


@contextmanager
def dev_over(folder: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """Have `mimic dev` run over a home, with its log in `dev.log` there, while the context lasts that gives its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [Path(sys.executable).with_name("mimic"), "dev", "--port", str(port)]
    with (folder / "dev.log").open("wb") as log:
        server = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGINT)
            try:
                server.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)
                raise


@pytest.fixture(scope="session")
def running_dev() -> Callable[..., AbstractContextManager[str]]:
    """Give the context in which `mimic dev` runs."""
    return dev_over


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> int:
    """How often a test whose outcome depends on the moment tries."""
    return int(request.config.getoption("--rounds"))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder, with everything of mimic and Dagster below it."""
    monkeypatch.setenv("MIMIC_HOME", str(tmp_path / "mimic"))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def fails_once() -> str:
    """A layers file: where there is a file `fail`, the second shard that loads it fails, and no later one."""
    return FAILS_ONCE


@pytest.fixture(scope="session")
def decision_table() -> Callable[..., pa.Table]:
    """Give the function that builds a decision table."""
    return build_decision_table


def build_decision_table(
    individuals: Sequence[int] = (1, 2, 3, 4, 5, 6), *, test: Sequence[int] = (6,), decisions: int = 3, seed: int = 0
) -> pa.Table:
    """Build decisions of 2 or 3 choices with the features size and age, drawn from a known logit; a size is missing."""
    generator = np.random.default_rng(seed)
    rows = []
    for individual in individuals:
        for decision in range(decisions):
            x = generator.uniform(-1, 1, (2 + decision % 2, 2)).round(2)
            selected = int(np.argmax(x @ [1.0, -0.7] + generator.gumbel(size=len(x))))
            for choice, (size, age) in enumerate(x):
                keys = {"_individual": individual, "_decision": decision, "_choice": choice}
                flags = {"_selected": choice == selected, "_train": individual not in test}
                rows.append({**keys, **flags, "size": size, "age": age})
    rows[0]["size"] = None
    return pa.Table.from_pylist(rows)


PASSWORD = "p@ss/w%rd"  # noqa: S105  of a server that lives as long as the tests; has what a URL must escape


def programs() -> Path | None:
    """Return the folder of Postgres' programs, the newest version if there are several."""
    found = [path.parent for path in sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))]
    named = shutil.which("initdb")
    return found[-1] if found else Path(named).parent if named else None


def install() -> None:
    """Install Postgres from Debian, which only the administrator may."""
    for step in (["update"], ["install", "--yes", "--no-install-recommends", "postgresql"]):
        subprocess.run(["apt-get", *step], check=False, env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"})


@pytest.fixture(scope="session")
def postgres() -> Iterator[int]:
    """Start a Postgres server in a new folder; gives its port."""
    if programs() is None and os.environ.get("CI") and os.geteuid() == 0 and shutil.which("apt-get"):
        install()
    folder = programs()
    if folder is None and os.environ.get("CI"):
        pytest.fail("there is no Postgres, and it could not be installed; CI needs the package postgresql")
    if folder is None:
        pytest.skip("there is no Postgres: install the package postgresql to run the tests of its catalog")
    # it refuses to run as root, and cannot look into pytest's own folders then
    user = pwd.getpwnam("postgres").pw_uid if os.geteuid() == 0 else os.geteuid()
    data = Path(tempfile.mkdtemp(prefix="mimic-postgres-"))
    secret = data / "password"
    secret.write_text(PASSWORD)
    for path in (data, secret):
        os.chown(path, user, -1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def call(program: str, *arguments: str) -> None:
        command = [folder / program, "-D", data / "cluster", *arguments]
        subprocess.run(command, check=True, user=user, cwd=data, stdout=subprocess.DEVNULL)

    call("initdb", "-U", "mimic", "-A", "scram-sha-256", f"--pwfile={secret}", "--no-sync", "-E", "UTF8", "--locale=C")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
    call("pg_ctl", "-w", "-l", str(data / "log"), "-o", options, "start")
    yield port
    call("pg_ctl", "-w", "-m", "immediate", "stop")
    shutil.rmtree(data)


@pytest.fixture(scope="session")
def database(postgres: int) -> Iterator[Callable[[], str]]:
    """Give what makes an empty database and returns its URL, without a driver's name."""
    from sqlalchemy import URL

    psycopg2 = __import__("psycopg2") if os.environ.get("CI") else pytest.importorskip("psycopg2")

    server = psycopg2.connect(host="127.0.0.1", port=postgres, user="mimic", password=PASSWORD, dbname="postgres")
    server.autocommit = True

    def made() -> str:
        name = f"catalog_{uuid.uuid4().hex}"
        with server.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {name}")
        url = URL.create("postgresql", "mimic", PASSWORD, "127.0.0.1", postgres, name)
        return url.render_as_string(hide_password=False)

    yield made
    server.close()
