"""What the tests of a cluster share: the stand-in, and a platform on it as the chart deploys one."""

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

import boto3
import dagster as dg
import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner, Result

from mimic_assets.cli.main import main
from mimic_assets.jobs import BUILDS
from mimic_assets.registration import pair_runs, register
from mimic_assets.run_tags import PARTITION
from mimic_core.configs import parse_spec
from mimic_core.specs import ContrastSpec, DatasetSpec, ExperimentSpec, InferenceSpec, PartitionSpec
from resources.aws import forget_clients
from resources.environments import local_resources

BIN = Path(sys.executable).parent
IMAGE, GPU_IMAGE = "mimic:0.1.0-cpu", "mimic:0.1.0-gpu"
MODULES = (  # what runs and steps import
    "boto3",
    "dagster._cli",
    "dagster._core.storage.event_log.sqlite",
    "dagster._core.storage.runs.sqlite",
    "dagster._core.storage.schedules.sqlite",
    "dagster_aws.s3",
    "dagster_aws.s3.compute_log_manager",
    "dagster_k8s",
    "keras",
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "mimic_assets.definitions",
    "pandas",
    "PIL.Image",
    "pyiceberg.catalog.glue",
    "pyiceberg.catalog.sql",
    "pyiceberg.io.pyarrow",
    "resources.k8s_executor",
)
SPECS = {
    ContrastSpec: {
        "database": "haven",
        "source_table": "features",
        "train_partitions": 2,
        "destination_table": "contrasts",
        "decisions_per_individual": 2,
        "alternatives_per_decision": 2,
    },
    DatasetSpec: {
        "database": "haven",
        "table": "features",
        "train_partitions": 2,
        "max_choices": 3,
        "features": ["size", "age"],
        "missing_values_map": {"size": 0},
        "space": "s",
        "dataset": "d",
    },
    ExperimentSpec: {
        "experiment_name": "e",
        "space": "s",
        "dataset": "d",
        "max_choices": 3,
        "features": ["size", "age"],
        "database": "haven",
        "table": "results",
        "models": [{"layers": []}],
    },
    InferenceSpec: {
        "database": "haven",
        "table": "features",
        "features": ["size", "age"],
        "space": "s",
        "experiment_name": "e",
        "upload_table": "scored",
    },
}
BUCKET = "mimic-cluster"
LOGS_IN_S3 = {
    "module": "dagster_aws.s3.compute_log_manager",
    "class": "S3ComputeLogManager",
    "config": {"bucket": BUCKET, "prefix": "compute_logs"},
}
WHERE = {"repositoryLocationName": "mimic", "repositoryName": "__repository__"}
LAUNCH = """mutation Launch($params: ExecutionParams!) { launchPipelineExecution(executionParams: $params) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
} }"""


def load(name: str) -> ModuleType:
    """Load a module of this folder by its path, once."""
    if name not in sys.modules:
        place = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
        sys.modules[name] = importlib.util.module_from_spec(place)
        place.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture(scope="session")
def stand_in() -> ModuleType:
    return load("stand_in")


@pytest.fixture(scope="session")
def waiting(stand_in: ModuleType) -> Callable[..., Any]:
    """Give the function that waits for a condition."""
    return stand_in.waiting


def instance_config(kubeconfig: Path, dagster_home: Path, most_runs: int, poll_seconds: int) -> dict[str, Any]:
    """Return the dagster.yaml of the platform: what deploy/helm/values.yaml sets, but for some limits, and quicker."""
    launcher = {
        "load_incluster_config": False,
        "kubeconfig_file": str(kubeconfig),
        "service_account_name": "mimic",
        "instance_config_map": "dagster-instance",
        "dagster_home": str(dagster_home),
        "job_namespace": "default",
        "fail_pod_on_run_failure": False,
        "run_k8s_config": {"job_spec_config": {"ttl_seconds_after_finished": 86400}},
        "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "2Gi"}},
    }
    return {
        "telemetry": {"enabled": False},
        "nux": {"enabled": False},
        "run_launcher": {"module": "dagster_k8s", "class": "K8sRunLauncher", "config": launcher},
        "run_coordinator": {
            "module": "dagster",
            "class": "QueuedRunCoordinator",
            "config": {"dequeue_interval_seconds": 1},
        },
        "run_monitoring": {"enabled": True, "poll_interval_seconds": poll_seconds, "max_resume_run_attempts": 0},
        "run_retries": {"enabled": True, "max_retries": 2, "retry_on_asset_or_op_failure": False},
        # as DAGSTER_HOME cannot be written in a pod
        "local_artifact_storage": {
            "module": "dagster._core.storage.root",
            "class": "LocalArtifactStorage",
            "config": {"base_dir": str(dagster_home.with_name("artefacts"))},
        },
        "compute_logs": {
            "module": "dagster._core.storage.local_compute_log_manager",
            "class": "LocalComputeLogManager",
            "config": {"base_dir": str(dagster_home.with_name("compute_logs"))},
        },
        "concurrency": {"pools": {"granularity": "op"}, "runs": {"max_concurrent_runs": most_runs}},
    }


class Platform:
    """A platform whose work is done on a cluster.

    Attributes:
        cluster: the stand-in.
        home: folder of everything.
        settings: variables of the containers of mimic's code.
    """

    def __init__(
        self,
        cluster: Any,
        home: Path,
        environment: Mapping[str, str],
        settings: Mapping[str, str],
        storage: Mapping[str, Any],
        *limits: int,
    ) -> None:
        self.cluster, self.home, self.settings = cluster, home, settings
        self.environment = {**environment, **settings, "DAGSTER_HOME": str(home / "dagster")}
        (home / "dagster").mkdir()
        config = instance_config(cluster.kubeconfig, home / "dagster", *limits) | storage
        (home / "dagster/dagster.yaml").write_text(yaml.safe_dump(config))
        self._processes: list[subprocess.Popen[bytes]] = []
        self._instance: dg.DagsterInstance | None = None
        self.ui = ""

    @property
    def instance(self) -> AbstractContextManager[dg.DagsterInstance]:
        """The context of the platform's instance, which stays open: to open one takes a dozen queries."""
        if self._instance is None:
            self._instance = dg.DagsterInstance.from_config(str(self.home / "dagster"))
        return nullcontext(self._instance)

    def start(self, *command: object) -> subprocess.Popen[bytes]:
        """Start a server of the platform, with its log beside its home."""
        log = (self.home / f"{Path(str(command[0])).name}-{len(self._processes)}.log").open("wb")
        process = subprocess.Popen(
            [str(part) for part in command], env=self.environment, cwd=self.home, stdout=log, stderr=log
        )
        log.close()
        self._processes.append(process)
        return process

    def serve(self, *, ui: bool = False) -> None:
        """Start the code server and the daemon, and the UI where it is asked for."""
        code, page = free_port(), free_port()
        context = {"k8s": {"env": [{"name": name, "value": value} for name, value in self.settings.items()]}}
        module = ["-m", "mimic_assets.definitions", "--location-name", "mimic"]
        image = ["--container-image", IMAGE, "--container-context", json.dumps(context)]
        self.start(BIN / "dagster", "api", "grpc", "-h", "127.0.0.1", "-p", code, *module, *image)
        location = {"host": "127.0.0.1", "port": code, "location_name": "mimic"}
        workspace = self.home / "workspace.yaml"
        workspace.write_text(yaml.safe_dump({"load_from": [{"grpc_server": location}]}))
        reachable(code)
        self.daemon = self.start(BIN / "dagster-daemon", "run", "-w", workspace)
        if ui:
            self.start(BIN / "dagster-webserver", "-w", workspace, "-h", "127.0.0.1", "-p", page)
            self.ui = f"http://127.0.0.1:{page}/graphql"
            reachable(page)

    def end(self) -> None:
        if self._instance is not None:
            self._instance.dispose()
        for process in reversed(self._processes):
            process.send_signal(signal.SIGINT)
        for process in self._processes:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def logs(self) -> str:
        """Return what everything said, for a test that failed."""
        said = [f"== {path.name}\n{path.read_text(errors='replace')[-4000:]}" for path in sorted(self.home.glob("*.log"))]
        return "\n".join([*said, self.cluster.logs()])

    # what people do

    def mimic(self, *arguments: object) -> Result:
        """Run a command of mimic as in a pod of the code server, though in this process."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.environment.items():
                patch.setenv(name, value)
            patch.chdir(self.home)
            return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="mimic")

    def done(self, *arguments: object) -> str:
        result = self.mimic(*arguments)
        assert result.exit_code == 0, f"{result.output}\n{self.logs()}"
        return result.stdout

    def config(self, kind: type[PartitionSpec], **changes: object) -> Path:
        """Write a config; a changed key is given."""
        path = self.home / f"{kind.__name__}.json"
        path.write_text(json.dumps(SPECS[kind] | changes))
        return path

    def run_id(self, **changes: object) -> str:
        """Return the id of the first run of an experiment."""
        return parse_spec(ExperimentSpec, SPECS[ExperimentSpec] | changes, "test").runs[0].run_id

    def register(self, kind: type[PartitionSpec], **changes: object) -> str:
        """Register a config as commands do, without building anything; returns the key of its first partition."""
        spec = parse_spec(kind, SPECS[kind] | changes, "test")
        new = pair_runs(spec, None, "test") if isinstance(spec, ExperimentSpec) else [(spec, "")]
        with self.instance as instance:
            return register(instance, local_resources(self.home / "mimic")["specs"], new)[0]

    def materialize(self, asset: str, key: str) -> str:
        """Materialize a partition as the button of the UI does; returns the id of the run."""
        return self._launch({"jobName": "__ASSET_JOB", "assetSelection": [{"path": [asset]}]}, {}, key)

    def launch(self, asset: str, key: str) -> str:
        """Launch the job that builds a partition, which answers no other checks beside; returns the id of the run."""
        return self._launch({"jobName": BUILDS[asset].name}, {}, key)

    def form(self, job: str, config: Mapping[str, Any]) -> str:
        """Launch the job of a form; returns the id of the run."""
        return self._launch({"jobName": job}, config)

    def _launch(self, what: Mapping[str, Any], config: Mapping[str, Any], partition: str | None = None) -> str:
        tags = [{"key": PARTITION, "value": partition}] if partition else []
        params = {
            "selector": WHERE | what,
            "mode": "default",
            "executionMetadata": {"tags": tags},
            "runConfigData": config,
        }
        found = self.ask(LAUNCH, params=params)["launchPipelineExecution"]
        assert found["__typename"] == "LaunchRunSuccess", found
        return str(found["run"]["runId"])

    def ask(self, query: str, **variables: object) -> Any:
        """Ask the UI's API."""
        data = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(self.ui, data, {"Content-Type": "application/json"})  # noqa: S310  our own
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            found = json.loads(answer.read())
        assert "errors" not in found, found
        return found["data"]

    # what came of it

    def runs(self, asset: str | None = None) -> list[dg.DagsterRun]:
        """Return the runs that build, or only those of an asset, the first first."""
        with self.instance as instance:
            found = instance.get_runs(ascending=True)
        return [run for run in found if PARTITION in run.tags and asset in (None, asset_of(run))]

    def ended(self, run_id: str, seconds: float = 120) -> dg.DagsterRun:
        """Wait for the end of a run."""
        end = time.monotonic() + seconds
        with self.instance as instance:
            while time.monotonic() < end:
                run = instance.get_run_by_id(run_id)
                if run and run.is_finished:
                    return run
                time.sleep(0.2)
        raise AssertionError(f"run {run_id} did not end within {seconds} seconds\n{self.logs()}")

    def steps(self, run_id: str) -> dict[str, dict[str, Any]]:
        """Return the Jobs of a run's steps by the key of the step and how often it was begun before."""
        found = {}
        for job in self.cluster.jobs_of(run_id):
            if job["metadata"]["labels"]["app.kubernetes.io/component"] == "step_worker":
                environment = job["spec"]["template"]["spec"]["containers"][0]["env"]
                key = next(each["value"] for each in environment if each["name"] == "DAGSTER_RUN_STEP_KEY")
                attempt = sum(name.partition("#")[0] == key for name in found)
                found[f"{key}#{attempt}" if attempt else key] = job
        return found

    def events(self, run_id: str) -> list[dg.DagsterEvent]:
        with self.instance as instance:
            return [entry.dagster_event for entry in instance.all_logs(run_id) if entry.dagster_event]


def asset_of(run: dg.DagsterRun) -> str:
    """Return the name of the asset that a run builds."""
    built = run.tags.get("mimic/build", "").partition(":")[0]
    jobs = {job.name: asset for asset, job in BUILDS.items()}
    return built or jobs.get(run.job_name) or next(iter(run.asset_selection or ())).to_user_string()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def reachable(port: int, seconds: float = 60) -> None:
    """Wait until something listens on a port."""
    end = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def in_aws(aws: Any) -> dict[str, str]:
    """Make the bucket of a platform; returns its settings."""
    session = boto3.Session("testing", "testing", region_name="us-east-1")
    session.client("s3", endpoint_url=aws.url).create_bucket(Bucket=BUCKET)
    forget_clients()
    places = {"MIMIC_WAREHOUSE": f"s3://{BUCKET}/warehouse", "MIMIC_ARTEFACTS": f"s3://{BUCKET}/artefacts"}
    return aws.environment | places | {"MIMIC_CATALOG": "glue:haven"}


@contextmanager
def platform_on(
    folder: Path,
    stand_in: ModuleType,
    most_runs: int = 10,
    poll_seconds: int = 5,
    database: Callable[[], str] | None = None,
    aws: Any = None,
    **cluster: Any,
) -> Iterator[Platform]:
    """Give a platform on a new stand-in, without servers yet.

    Args:
        database: makes its databases, which are files without it.
        aws: the server of AWS that has its tables, artefacts and compute logs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kept = {name: os.environ[name] for name in ("HOME", "PYTHONPATH", "TMPDIR", "LANG") if name in os.environ}
    threads = {
        "DAGSTER_STEP_DELEGATING_EXECUTOR_SLEEP_SECONDS": "0.2",
        "OPENBLAS_NUM_THREADS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    image = kept | threads | {"PATH": f"{BIN}:/usr/bin:/bin"}
    settings = {
        "MIMIC_ENV": "kubernetes",
        "MIMIC_HOME": str(folder / "mimic"),
        "MIMIC_GPU_IMAGE": GPU_IMAGE,
    }
    settings |= in_aws(aws) if aws else {"MIMIC_CATALOG": database() if database else f"sqlite:///{folder / 'catalog.db'}"}
    scheme = "postgresql+psycopg2:"  # plain postgresql is psycopg 3 to SQLAlchemy 2.1
    url = database().replace("postgresql:", scheme) if database else ""
    storage: dict[str, Any] = {"storage": {"postgres": {"postgres_url": url}}} if database else {}
    storage |= {"compute_logs": LOGS_IN_S3} if aws else {}
    with ExitStack() as stack:
        made = stack.enter_context(stand_in.Cluster(folder / "containers", image, **{"modules": MODULES} | cluster))
        platform = Platform(made, folder, image, settings, storage, most_runs, poll_seconds)
        stack.callback(platform.end)
        yield platform


@pytest.fixture(scope="session")
def new_platform(stand_in: ModuleType) -> Callable[..., Any]:
    """Give the context of a platform on a new stand-in."""
    return lambda folder, **cluster: platform_on(folder, stand_in, **cluster)


@pytest.fixture(scope="session")
def served(new_platform: Callable[..., Any], decision_table: Callable[..., Any]) -> Callable[..., Any]:
    """Give the context of a platform with its servers, and a decision table."""

    @contextmanager
    def serve(folder: Path, **options: Any) -> Iterator[Platform]:
        with new_platform(folder, **options) as made:
            pq.write_table(decision_table(), folder / "table.parquet")
            made.serve(ui=True)
            made.done("tables", "import", "haven.features", folder / "table.parquet")
            yield made

    return serve


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory, served: Callable[..., Any]) -> Iterator[Platform]:
    """A platform that the tests of a file share."""
    with served(tmp_path_factory.mktemp("cluster")) as made:
        yield made
