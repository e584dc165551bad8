"""Compute: what the steps of a partition need of a machine, where each is a Job of Kubernetes.

Quantities, labels and tolerations are those of Kubernetes: https://kubernetes.io/docs/reference/kubernetes-api/.
"""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from mimic_core.documents import Spec

CPU = re.compile(r"(\d+)m|(\d+(?:\.\d{1,3})?)", re.ASCII)
MEMORY = re.compile(r"(\d+(?:\.\d+)?)(Ki|Mi|Gi|Ti|Pi|Ei|k|M|G|T|P|E)?", re.ASCII)
UNITS = {unit: 1000**power for power, unit in enumerate("kMGTPE", 1)}
UNITS |= {f"{unit}i": 1024**power for power, unit in enumerate("KMGTPE", 1)}
LEAST_MEMORY = 64 * 2**20  # a Python process without anything in it takes half of that
LABEL_NAME = r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
LABEL_PREFIX = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*/"
LABEL_KEY = re.compile(f"({LABEL_PREFIX})?{LABEL_NAME}")
LABEL_VALUE = re.compile(f"({LABEL_NAME})?")


def cores(cpu: str) -> float:
    """Return how many cores a quantity of CPU is.

    >>> cores("500m"), cores("4")
    (0.5, 4.0)

    Raises:
        ValueError: it is no quantity of CPU.
    """
    if not (found := CPU.fullmatch(cpu)) or not any(map(float, filter(None, found.groups()))):
        raise ValueError(f'expected cores, such as "4", "0.5" or "500m", found {cpu!r}')
    return int(found[1]) / 1000 if found[1] else float(found[2])


def bytes_of(memory: str) -> int:
    """Return how many bytes a quantity of memory is.

    >>> bytes_of("16Gi"), bytes_of("1.5G")
    (17179869184, 1500000000)

    Raises:
        ValueError: it is no quantity of memory.
    """
    if not (found := MEMORY.fullmatch(memory)):
        raise ValueError(f'expected bytes with a unit, such as "16Gi" or "500Mi", found {memory!r}')
    return int(float(found[1]) * UNITS.get(found[2], 1))


def _cpu(value: str) -> str:
    cores(value)
    return value


def _memory(value: str) -> str:
    if bytes_of(value) < LEAST_MEMORY:
        raise ValueError(f'expected at least "64Mi", found {value!r}; a unit is Mi or Gi')
    return value


def _number_as_text(value: Any) -> Any:
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _label_key(value: str) -> str:
    if not LABEL_KEY.fullmatch(value):
        raise ValueError(f'expected the key of a label, such as "kubernetes.io/arch", found {value!r}')
    return value


def _label_value(value: str) -> str:
    if not LABEL_VALUE.fullmatch(value):
        raise ValueError(
            f"expected at most 63 letters, digits, '-', '_' or '.', with a letter or digit at both ends, found {value!r}"
        )
    return value


Cpu = Annotated[str, BeforeValidator(_number_as_text), AfterValidator(_cpu)]
Memory = Annotated[str, AfterValidator(_memory)]
LabelKey = Annotated[str, AfterValidator(_label_key)]
LabelValue = Annotated[str, AfterValidator(_label_value)]


class Toleration(Spec):
    """A taint of nodes on which a step may run all the same."""

    key: LabelKey = Field(description="Key of the taint.", examples=["nvidia.com/gpu"])
    operator: Literal["Equal", "Exists"] = Field(
        "Equal", description='"Exists": the taint may have any value; "Equal": that of `value`.', examples=["Exists"]
    )
    value: LabelValue | None = Field(None, description='Value of the taint, with "Equal".', examples=["training"])
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        None, description="Effect of the taint; unset: any.", examples=["NoSchedule"]
    )

    @model_validator(mode="after")
    def _value_fits(self) -> Self:
        if self.operator == "Exists" and self.value is not None:
            raise ValueError(
                f'value: "Exists" takes every value, found {self.value!r}; remove it, or give "operator": "Equal"'
            )
        return self


class ComputeSpec(Spec):
    """What each step of a partition's build needs; what is unset is as the deployment has it for the stage."""

    gpu: Annotated[int, Field(ge=0, le=64)] | None = Field(
        None, description="GPUs of a step that builds shards or trains; 0 for none.", examples=[1]
    )
    cpu: Cpu | None = Field(None, description="Cores of a step.", examples=["4"])
    memory: Memory | None = Field(None, description="Memory of a step; one that takes more is killed.", examples=["16Gi"])
    node_selector: dict[LabelKey, LabelValue] = Field(
        default_factory=dict,
        description="Labels that the node of a step must have.",
        examples=[{"node.kubernetes.io/instance-type": "g5.2xlarge"}],
    )
    tolerations: tuple[Toleration, ...] = Field(
        (),
        description='Taints of nodes on which a step may run; with GPUs also "nvidia.com/gpu".',
        examples=[[{"key": "spot", "operator": "Exists", "effect": "NoSchedule"}]],
    )

    def over(self, others: "ComputeSpec") -> "ComputeSpec":
        """Return this, and what it leaves unset as the other says.

        >>> ComputeSpec(gpu=0).over(ComputeSpec(gpu=1, memory="16Gi")).document
        {'gpu': 0, 'memory': '16Gi'}
        """
        return ComputeSpec.model_validate(others.document | self.document)
