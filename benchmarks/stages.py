"""The stages as the benchmarks run them: the steps that Dagster executes, called one after the other in this process."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import workload

from mimic_assets import builds, contrasts, datasets, inferences
from mimic_core import shards
from mimic_core.contrasts import contrast_schema
from mimic_core.datasets import schema_document
from mimic_core.inferences import inference_schema
from mimic_core.interactions import columns
from mimic_core.manifests import seal
from mimic_core.model_specs import ModelSpec
from mimic_core.specs import ContrastSpec, DatasetSpec, InferenceSpec, TableReader
from resources.environments import local_resources
from resources.iceberg import local_path
from resources.specs import StoredSpec
from resources.tables import CONTRAST, INFERENCE, SOURCE, Pin

LAYERS = ("D16", "D32", "D16")


@dataclass
class Home:
    """A home with its resources."""

    path: Path
    resources: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.resources = local_resources(self.path)
        self.tables, self.artefacts = self.resources["tables"], self.resources["artefacts"]
        self.context = dg.build_op_context()

    def hold(self, name: str, rows: Iterable[pa.Table]) -> Pin:
        """Make a source table, unless it is there."""
        parts = iter(rows)
        if not self.tables.exists(name):
            first = next(parts)
            self.tables.ensure(name, first.schema, kind=SOURCE)
            staged = self.tables.stage(name, (part for parts in ([first], parts) for part in parts))
            self.tables.replace(name, [staged], None)
        return self.tables.pin(name)

    def parts(self, spec: TableReader, run: dict[str, Any] | None = None) -> list[Any]:
        """Plan the steps of a build."""
        pin = self.tables.pin(spec.source)
        build = builds.Build(
            stored=StoredSpec(spec=spec, layers="", digest=""), version="bench", replaces=None, began_at=0.0
        )
        planned = shards.plan_parts(spec.partitions, self.tables.row_groups(pin), spec.shards_per_step)
        return [builds.PartTask(build=build, pin=pin, part=part, run=run or {}) for part in planned]

    def build_dataset(self, spec: DatasetSpec) -> list[Path]:
        """Check and encode a table; returns the files."""
        return [self.artefacts.path(f"{spec.folder}/bench/{file['path']}") for file in self._encoded(spec)]

    def whole_dataset(self, spec: DatasetSpec) -> Path:
        """Check and encode a table, and describe its files; returns the folder."""
        sealed = seal(schema_document(spec, self._encoded(spec), []))
        self.artefacts.write(f"{spec.folder}/bench/schema.json", [sealed])
        return Path(self.artefacts.path(f"{spec.folder}/bench"))

    def _encoded(self, spec: DatasetSpec) -> list[dict[str, Any]]:
        built = [
            datasets.build_dataset_part(self.context, task, tables=self.tables, artefacts=self.artefacts)
            for task in self.parts(spec)
        ]
        return [file for part in built for file in part.files]

    def build_contrast(self, spec: ContrastSpec) -> list[Path]:
        """Check and sample a table; returns the staged files."""
        schema = self.tables.schema_of(self.tables.pin(spec.source))
        self.tables.ensure(spec.key, contrast_schema(schema, spec.source, spec.sampling), kind=CONTRAST)
        return staged([contrasts.sample_part(self.context, task, tables=self.tables) for task in self.parts(spec)])

    def infer(self, spec: InferenceSpec, run: dict[str, Any]) -> list[Path]:
        """Check and score a table; returns the staged files."""
        schema = self.tables.schema_of(self.tables.pin(spec.source))
        self.tables.ensure(spec.destination, inference_schema(schema), kind=INFERENCE, partition_by=builds.RUN_COLUMNS)
        tasks = self.parts(spec, run)
        return staged(
            [inferences.score_part(self.context, task, tables=self.tables, artefacts=self.artefacts) for task in tasks]
        )

    def run(self, spec: InferenceSpec) -> dict[str, Any]:
        """Store a network of random weights as a run, and return what a manifest says of it."""
        from mimic_core import backend, layers_files, networks

        source = layers_files.default_layers(LAYERS)
        layers, _ = layers_files.load_layers(source)
        backend.import_keras().utils.set_random_seed(0)
        network = networks.build_network(ModelSpec(layers=LAYERS), columns((), spec.features), layers)
        contents = {"layers.py": source.encode(), "model.keras": networks.export_network(network, source)[0]}
        files = [
            {"path": name, **self.artefacts.write(f"{spec.run_folder}/bench/{name}", [data])}
            for name, data in contents.items()
        ]
        filled = dict.fromkeys(spec.features, 0.0)
        return {"version": "bench", "features": list(spec.features), "missing_values_map": filled, "files": files}


def staged(parts: list[Any]) -> list[Path]:
    """Return the files that steps staged."""
    return [local_path(path) for part in parts for path in part.staged.paths]


def dataset(
    table: str, *, train: int = 1, test: int = 1, max_choices: int = 10, features: tuple[str, ...] = workload.NAMES
) -> DatasetSpec:
    """Describe a dataset of a table."""
    database, name = table.split(".")
    return DatasetSpec(
        database=database,
        table=name,
        train_partitions=train,
        test_partitions=test,
        max_choices=max_choices,
        features=features,
        missing_values_map=dict.fromkeys(features, 0.0),
        space="bench",
        dataset=name,
    )


def contrast(table: str) -> ContrastSpec:
    """Describe a contrast set of a table."""
    database, name = table.split(".")
    return ContrastSpec(
        database=database,
        source_table=name,
        destination_table=f"{name}_contrasts",
        decisions_per_individual=10,
        alternatives_per_decision=3,
    )


def inference(table: str) -> InferenceSpec:
    """Describe an inference of a table."""
    database, name = table.split(".")
    return InferenceSpec(
        database=database,
        table=name,
        features=workload.NAMES,
        space="bench",
        experiment_name="bench",
        run_id="0" * 64,
        upload_table=f"{name}_inferences",
    )
