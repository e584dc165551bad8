"""Compute of steps: what a step declares to need, and what it gets when the deployment and its spec have their say."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from mimic_core.compute import ComputeSpec
from mimic_core.errors import MimicError
from mimic_core.specs import PARTITION_SPECS, PartitionSpec, RunSpec
from resources.specs import SpecStore

DECLARED = "mimic/compute"  # tag of a step
RETRIES_OF_LOST = 3  # of a step whose pod is lost or ended: a node may be taken back more than once in a long training
SHARDS, TRAINING = "shards", "training"  # pools: a limit of one bounds how many such steps run at once, over all runs
LITTLE = ComputeSpec.model_validate(
    {"cpu": "1", "memory": "2Gi"}
)  # of a step that declares nothing: it plans, publishes or looks
NO_GPU = ComputeSpec.model_validate({"gpu": 0})
STAGES = ("source_table", *(kind.asset for kind in PARTITION_SPECS), "experiment_report", "overview")


def needs(*, cpu: str, memory: str, gpu: int | None = 0) -> dict[str, str]:
    """Make the tag of a step that needs more than one that plans.

    Args:
        gpu: None where GPUs would be of no use to it, whoever asks for them.
    """
    return {DECLARED: json.dumps({"gpu": gpu, "cpu": cpu, "memory": memory})}


@dataclass(frozen=True, kw_only=True)
class StepCompute:
    """What the steps of runs get.

    Attributes:
        specs: whose `compute` counts most.
        stages: what the deployment gives the steps of an asset, over what they declare.
    """

    specs: SpecStore
    stages: Mapping[str, ComputeSpec] = field(default_factory=dict)
    _kept: dict[tuple[str, str], PartitionSpec | None] = field(default_factory=dict, init=False)

    def of(self, step: str, tags: Mapping[str, str], partition: str | None) -> ComputeSpec:
        """Return what a step gets.

        A step that declares no GPUs gets none, whatever the spec says: it would keep one from those that train. A linear
        model, which makes no use of one, gets one only where it is asked for. What a spec asks for is read once: a run goes
        on with what it began with.

        Args:
            step: its key, which begins with the name of its asset.
            tags: of the step.
            partition: key of the partition that its run builds; None where there is none.
        """
        asset = step.partition(".")[0].partition("[")[0]
        declared = ComputeSpec.model_validate_json(tags[DECLARED]) if DECLARED in tags else LITTLE
        spec = self._spec(asset, partition) if partition is not None else None
        found = declared
        if isinstance(spec, RunSpec) and spec.model.linear:
            found = NO_GPU.over(found)
        if asset in self.stages:
            found = self.stages[asset].over(found)
        if spec is not None and spec.compute:
            found = spec.compute.over(found)
        return found if declared.gpu is not None else NO_GPU.over(found)

    def _spec(self, asset: str, partition: str) -> PartitionSpec | None:
        if (asset, partition) not in self._kept:
            kind = next((kind for kind in PARTITION_SPECS if kind.asset == asset), None)
            with suppress(MimicError):  # the step says so itself, or does without
                self._kept[asset, partition] = self.specs.get(kind, partition).spec if kind else None
        return self._kept.get((asset, partition))
