"""What the tests of assets share: a home with its resources and a Dagster instance, in which partitions are built."""

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mimic_assets.definitions import defs
from mimic_assets.jobs import BUILDS
from mimic_assets.registration import add_partitions, register
from mimic_core.layers_files import default_layers
from mimic_core.specs import PartitionSpec, RunSpec
from resources.environments import local_resources
from resources.tables import Pin

KEYS = ["_individual", "_decision", "_choice"]


class Platform:
    """One home with its resources and its Dagster instance."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.instance = dg.DagsterInstance.ephemeral()
        self._definitions: dict[tuple[tuple[str, str], ...], dg.Definitions] = {}
        self.open()

    def open(self) -> None:
        """Open what is in the home now, also where somebody replaced it."""
        resources = local_resources(self.home / "mimic")
        names = ("tables", "specs", "artefacts", "inventory")
        self.tables, self.specs, self.artefacts, self.inventory = (resources[name] for name in names)

    def imported(self, table: pa.Table, name: str = "haven.features") -> Pin:
        pq.write_table(table, self.home / "table.parquet")
        add_partitions(self.instance, "source_table", [name])
        return self.tables.import_files(name, [self.home / "table.parquet"])

    def definitions(self) -> dg.Definitions:
        """The code location over this home, which is loaded again when a setting is another one."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MIMIC_HOME", str(self.home / "mimic"))
            settings = tuple(sorted((name, value) for name, value in os.environ.items() if name.startswith("MIMIC_")))
            if settings not in self._definitions:
                self._definitions[settings] = defs()
            return self._definitions[settings]

    def build(self, spec: PartitionSpec) -> dg.ExecuteInProcessResult:
        """Register a spec and execute its job, as the UI would."""
        layers = default_layers(spec.model.layers) if isinstance(spec, RunSpec) else ""
        register(self.instance, self.specs, [(spec, layers)])
        job = self.definitions().resolve_job_def(BUILDS[spec.asset].name)
        return job.execute_in_process(instance=self.instance, partition_key=spec.key, raise_on_error=False)

    def built(self, *specs: PartitionSpec) -> None:
        for spec in specs:
            assert self.build(spec).success

    def refused(self, spec: PartitionSpec) -> str:
        """Build a spec that must fail in one step, with a message of ours; returns the message."""
        result = self.build(spec)
        assert not result.success
        (failure,) = [event.step_failure_data for event in result.all_events if event.is_step_failure]
        assert failure.user_failure_data, failure.error
        return failure.user_failure_data.description

    def manifest(self, spec: PartitionSpec) -> dict[str, Any]:
        return self.artefacts.manifest(spec.folder)

    def folder(self, spec: PartitionSpec) -> Path:
        """Where the published version of a partition lies."""
        return Path(self.artefacts.where(f"{spec.folder}/{self.manifest(spec)['version']}"))

    def rows(self, name: str) -> pa.Table:
        pin = self.tables.pin(name)
        table = pa.Table.from_batches(list(self.tables.batches(pin)), self.tables.schema_of(pin))
        order = KEYS if "_individual" in table.column_names else ["run_id", "epoch"]
        return table.sort_by([(key, "ascending") for key in order])

    def materialization(self, spec: PartitionSpec) -> dg.AssetMaterialization:
        """The newest one of a partition."""
        events = self.instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=dg.AssetKey(spec.asset), asset_partitions=[spec.key]), limit=1
        )
        return events.records[0].asset_materialization

    def shown(self, spec: PartitionSpec) -> dict[str, Any]:
        """The metadata of the newest materialization, as plain values."""
        return {name: value.value for name, value in self.materialization(spec).metadata.items()}

    def execute(
        self, instance: dg.DagsterInstance, spec: PartitionSpec, reexecution: dg.ReexecutionOptions | None = None
    ) -> dg.JobExecutionResult:
        """Execute the job of a registered spec as a process of its own would, with what its steps return in files."""
        job = dg.build_reconstructable_job("mimic_assets.cli.execution", "resolved_job", (spec.asset,))
        tags = {"dagster/partition": spec.key}
        return dg.execute_job(job, instance=instance, tags=tags, reexecution_options=reexecution)


class Prepared:
    """A platform that is prepared once; whoever takes it finds its files as they were, at the same place, which tables need.

    Its Dagster instance goes on: it also knows the runs of the tests before.
    """

    def __init__(self, folder: Path, prepare: Callable[[Platform], None]) -> None:
        self.home, self.kept = folder / "home", folder / "kept"
        self.home.mkdir()
        self.platform = Platform(self.home)
        prepare(self.platform)
        shutil.copytree(self.home, self.kept)

    def taken(self, monkeypatch: pytest.MonkeyPatch) -> Platform:
        shutil.rmtree(self.home)
        shutil.copytree(self.kept, self.home)
        self.platform.open()
        monkeypatch.setenv("MIMIC_HOME", str(self.home / "mimic"))
        monkeypatch.setenv("DAGSTER_HOME", str(self.home / "dagster"))
        monkeypatch.chdir(self.home)
        return self.platform


@pytest.fixture(scope="session")
def prepared_platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Prepared]]:
    """Give the function that prepares a platform which tests change."""
    found: list[Prepared] = []

    def prepare(how: Callable[[Platform], None]) -> Prepared:
        found.append(Prepared(tmp_path_factory.mktemp("prepared"), how))
        return found[-1]

    yield prepare
    for each in found:
        each.platform.instance.dispose()


@pytest.fixture(scope="session", autouse=True)
def few_pictures(pictures_drawn_once: None) -> None:
    """Builds are many here, and nobody looks at most of them."""


@pytest.fixture
def platform(home: Path) -> Iterator[Platform]:
    platform = Platform(home)
    yield platform
    platform.instance.dispose()


@pytest.fixture(scope="module")
def shared_platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform for what the tests of a module only look at."""
    platform = Platform(tmp_path_factory.mktemp("shared"))
    yield platform
    platform.instance.dispose()


@dataclass(frozen=True, kw_only=True)
class Tick:
    """What a sensor asked for and said."""

    requests: list[dg.RunRequest]
    skipped: str | None
    events: list[dg.AssetObservation | dg.AssetCheckEvaluation]
    log: list[str]

    @property
    def observed(self) -> list[dg.AssetObservation]:
        """The observations that it reported."""
        return [event for event in self.events if isinstance(event, dg.AssetObservation)]

    @property
    def keys(self) -> list[str]:
        """The partitions for which it asked for runs."""
        return [request.partition_key for request in self.requests]


class Sensors(logging.Handler):
    """The sensor daemon over a platform: a tick goes on where the last one ended, and no run key is taken twice."""

    def __init__(self, platform: Platform) -> None:
        super().__init__()
        self.platform, self.specs = platform, platform.home / "mimic/specs"
        self.cursors: dict[str, str | None] = {}
        self.taken: set[str | None] = set()
        self.log: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.log.append(record.getMessage())

    def tick(self, name: str) -> Tick:
        definitions, instance = self.platform.definitions(), self.platform.instance
        context = dg.build_sensor_context(
            instance,
            self.cursors.get(name),
            sensor_name=name,
            definitions=definitions,
            resources=local_resources(self.platform.home / "mimic"),
        )
        self.log = []
        with context, dg.partition_loading_context(dynamic_partitions_store=instance):
            context.log.addHandler(self)
            data = definitions.resolve_sensor_def(name).evaluate_tick(context)
        for event in data.asset_events:
            instance.report_runless_asset_event(event)
        self.cursors[name] = data.cursor
        requests = [request for request in data.run_requests if request.run_key not in self.taken - {None}]
        self.taken |= {request.run_key for request in requests}
        return Tick(requests=requests, skipped=data.skip_message, events=list(data.asset_events), log=self.log)

    def execute(self, request: dg.RunRequest) -> bool:
        """Execute a run that a sensor asked for; tells whether it succeeded."""
        job = self.platform.definitions().resolve_job_def(request.job_name)
        return job.execute_in_process(
            instance=self.platform.instance, tags=request.tags, run_config=request.run_config, raise_on_error=False
        ).success

    def drop(self, name: str, content: object) -> Path:
        """Put a file into the spec folder, as if some seconds ago."""
        path = self.specs / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path


@pytest.fixture
def sensors(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> Sensors:
    monkeypatch.setattr("resources.spec_folder.FRESH_SECONDS", 0.0)
    monkeypatch.setenv("MIMIC_SETTLE_SECONDS", "0")
    return Sensors(platform)
