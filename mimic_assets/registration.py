"""Registration: a spec is stored under its key and its partition is added; the command line, forms and sensors share it."""

from collections.abc import Sequence

import dagster as dg

from mimic_assets.layers_code import require_allowed
from mimic_assets.partitions import BY_ASSET
from mimic_core.configs import collect
from mimic_core.specs import ExperimentSpec, PartitionSpec, ReportSpec, RunSpec
from resources import partitions
from resources.specs import SpecStore

New = tuple[PartitionSpec, str]


def register(instance: dg.DagsterInstance, specs: SpecStore, new: Sequence[New]) -> list[str]:
    """Register specs, each with its layers file (or an empty text); returns their partition keys in order.

    Raises:
        SpecError: specs cannot have their keys, all of them named; none is registered.
    """
    collect(specs.require_free, [spec for spec, _ in new])
    for spec, layers in new:
        specs.register(spec, layers)
    for asset in dict.fromkeys(spec.asset for spec, _ in new):
        add_partitions(instance, asset, [spec.key for spec, _ in new if spec.asset == asset])
    if reported := list(dict.fromkeys(spec.experiment_key for spec, _ in new if isinstance(spec, RunSpec))):
        add_partitions(instance, ReportSpec.asset, reported)
    return [spec.key for spec, _ in new]


def add_partitions(instance: dg.DagsterInstance, asset: str, keys: Sequence[str]) -> None:
    """Add those partitions to an asset that it does not have."""
    partitions.add_partitions(instance, str(BY_ASSET[asset].name), keys)


def pair_runs(spec: ExperimentSpec, layers: str | None, where: str) -> list[tuple[RunSpec, str]]:
    """Pair every run of an experiment with its layers file; nothing of it is executed.

    Args:
        layers: Python that defines LAYERS. None: every layer is of a name that needs none.
        where: what the experiment is called in messages.

    Raises:
        SpecError: without a layers file, a layer has another name; or there is one, and it may not be executed here.
    """
    from mimic_core.layers_files import default_layers

    if layers is not None:
        require_allowed(layers, where)
        return [(run, layers) for run in spec.runs]
    sources = collect(
        lambda numbered: default_layers(numbered[1].layers, f"{where}: models[{numbered[0]}].layers"), spec.numbered
    )
    return list(zip(spec.runs, sources, strict=True))


def runs_of(spec: ExperimentSpec, layers: str | None, where: str, layers_name: str) -> list[tuple[RunSpec, str]]:
    """Pair every run of an experiment with its layers file, and check that all layers and optimizers can be made.

    Args:
        layers: Python that defines LAYERS; it is executed. None: every layer is of a name that needs none.
        where, layers_name: what the experiment and the layers file are called in messages.

    Raises:
        SpecError: a model cannot be made.
    """
    from mimic_core.layers_files import load_layers
    from mimic_core.networks import check_models

    runs = pair_runs(spec, layers, where)
    known = {source: load_layers(source, layers_name) for source in dict.fromkeys(source for _, source in runs)}
    check_models(spec.numbered, [known[source] for _, source in runs], spec.columns, where)
    return runs
