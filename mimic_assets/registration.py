"""Registration: a spec is stored under its key and its partition is added; the command line, forms and sensors share it."""

from collections.abc import Sequence

import dagster as dg

from mimic_assets.partitions import BY_ASSET
from mimic_core.specs import PartitionSpec
from resources.specs import SpecStore


def register(instance: dg.DagsterInstance, specs: SpecStore, new: Sequence[tuple[PartitionSpec, str]]) -> list[str]:
    """Register specs, each with its layers file (or an empty text); returns their partition keys in order.

    Raises:
        SpecError: a spec cannot have its key; specs before it are registered.
    """
    for spec, layers in new:
        specs.register(spec, layers)
        add_partition(instance, spec.asset, spec.key)
    return [spec.key for spec, _ in new]


def add_partition(instance: dg.DagsterInstance, asset: str, key: str) -> None:
    """Add a partition to an asset unless it has it."""
    instance.add_dynamic_partitions(str(BY_ASSET[asset].name), [key])
