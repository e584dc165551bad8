"""The stages as the benchmarks run them: the steps that Dagster executes, called one after the other in this process."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import workload

from mimic_assets import builds, datasets
from mimic_core import shards
from mimic_core.specs import DatasetSpec, TableReader
from resources.environments import local_resources
from resources.specs import StoredSpec
from resources.tables import SOURCE, Pin

MISSING = dict.fromkeys(workload.NAMES, 0.0)


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

    def build_dataset(self, spec: DatasetSpec) -> list[Any]:
        """Check and encode a table."""
        return [
            datasets.build_dataset_part(self.context, task, tables=self.tables, artefacts=self.artefacts)
            for task in self.parts(spec)
        ]


def dataset(
    table: str, *, train: int = 1, test: int = 1, max_choices: int = 10, features: Any = workload.NAMES
) -> DatasetSpec:
    """Describe a dataset of the workload."""
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
