"""Compute: quantities as Kubernetes reads them, what is refused, and whose keys win; and that no id depends on it."""

import pytest

from mimic_core.compute import ComputeSpec, bytes_of, cores
from mimic_core.configs import parse_spec
from mimic_core.errors import SpecError
from mimic_core.specs import DatasetSpec, ExperimentSpec, spec_digest

DATASET = {"database": "d", "table": "t", "max_choices": 3, "features": ["x"], "space": "s", "dataset": "d"}
EXPERIMENT = {
    "experiment_name": "e",
    "space": "s",
    "dataset": "d",
    "max_choices": 3,
    "features": ["x"],
    "database": "d",
    "table": "r",
    "models": [{"layers": []}],
}


def refused(**compute):
    with pytest.raises(SpecError) as caught:
        parse_spec(DatasetSpec, DATASET | {"compute": compute}, "my.json")
    return str(caught.value)


def test_cores_and_bytes_are_those_of_kubernetes():
    assert [cores(cpu) for cpu in ("1", "0.5", "500m", "2.25")] == [1, 0.5, 0.5, 2.25]
    assert [bytes_of(memory) for memory in ("1Ki", "16Gi", "1k", "1.5G", "100000000")] == [
        1024,
        17_179_869_184,
        1000,
        1_500_000_000,
        100_000_000,
    ]


@pytest.mark.parametrize("cpu", ["", "0", "0m", "-1", "1.0005", "4 cores", "1k", "1e3", "4Gi", "\u0664"])
def test_what_is_no_quantity_of_cores_is_refused(cpu):
    assert f'my.json: compute.cpu: expected cores, such as "4", "0.5" or "500m", found \'{cpu}\'' in refused(cpu=cpu)


@pytest.mark.parametrize("memory", ["", "-1Gi", "16 Gi", "16GB", "16gi", "1e9", "\u0666Gi"])
def test_what_is_no_quantity_of_memory_is_refused(memory):
    found = refused(memory=memory)
    assert f'my.json: compute.memory: expected bytes with a unit, such as "16Gi" or "500Mi", found {memory!r}' in found


@pytest.mark.parametrize("memory", ["16", "63Mi", "4000k"])
def test_a_forgotten_unit_is_refused_before_a_step_is_killed_for_it(memory):
    assert f"compute.memory: expected at least \"64Mi\", found '{memory}'; a unit is Mi or Gi" in refused(memory=memory)


def test_cores_may_be_a_number():
    found = parse_spec(DatasetSpec, DATASET | {"compute": {"cpu": 4}}, "my.json").compute
    assert found is not None
    assert found.cpu == "4"


@pytest.mark.parametrize(
    ("toleration", "message"),
    [
        ({"key": "a b"}, "tolerations[0].key: expected the key of a label"),
        ({"key": "a", "value": "b c"}, "tolerations[0].value: expected at most 63 letters, digits"),
        ({"key": "a", "operator": "Exists", "value": "b"}, "tolerations[0].value: \"Exists\" takes every value, found 'b'"),
        ({"value": "b"}, "tolerations[0].key: this key is missing"),
        ({"key": "a", "effect": "NoSchedul"}, "tolerations[0].effect: expected"),
    ],
)
def test_what_is_no_toleration_is_refused(toleration, message):
    assert message in refused(tolerations=[toleration])


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        ({"Has.Capitals/zone": "a"}, "expected the key of a label"),
        ({"-zone": "a"}, "expected the key of a label"),
        ({"zone": "-a"}, "expected at most 63 letters, digits"),
        ({"zone": "a" * 64}, "expected at most 63 letters, digits"),
        ({"zone": 3}, "expected a string, found 3"),
    ],
)
def test_what_is_no_label_of_a_node_is_refused(selector, message):
    assert message in refused(node_selector=selector)


def test_an_unknown_key_is_named_with_those_that_there_are():
    assert refused(gpus=1) == (
        "my.json: compute.gpus: unknown key (did you mean 'gpu'?); the keys are gpu, cpu, memory, node_selector, tolerations"
    )


def test_gpus_are_counted_in_whole_numbers():
    assert "compute.gpu" in refused(gpu=-1)
    assert "compute.gpu" in refused(gpu=0.5)


def test_what_is_unset_is_as_the_others_say_and_zero_is_not_unset():
    others = ComputeSpec(gpu=1, cpu="4", memory="16Gi", node_selector={"zone": "a"})
    assert ComputeSpec(gpu=0, cpu="2").over(others) == ComputeSpec(
        gpu=0, cpu="2", memory="16Gi", node_selector={"zone": "a"}
    )
    assert ComputeSpec(node_selector={}).over(others).node_selector == {}


def test_compute_is_part_of_no_version_and_no_run_id():
    compute = {"compute": {"gpu": 0, "memory": "1Gi"}}
    one, other = (parse_spec(DatasetSpec, DATASET | more, "my.json") for more in ({}, compute))
    assert spec_digest(one.document, "") == spec_digest(other.document, "")
    assert one.document != other.document
    runs = [parse_spec(ExperimentSpec, EXPERIMENT | more, "my.json").runs for more in ({}, compute)]
    assert runs[0][0].run_id == runs[1][0].run_id
    assert runs[1][0].compute == ComputeSpec(gpu=0, memory="1Gi")
