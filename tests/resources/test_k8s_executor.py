"""What the handler of step Jobs decides by what a run has told, without a cluster; tests/cluster has one."""

from types import SimpleNamespace

import dagster as dg
import pytest

from mimic_core.compute import ComputeSpec
from resources.k8s_executor import StepJobs, _double


@dg.op
def ends_well():
    pass


@dg.op
def fails(context):
    if context.retry_number == 0:
        raise dg.RetryRequested(max_retries=1)
    raise ValueError("again")


@dg.op
def retries(context):
    if context.retry_number == 0:
        raise dg.RetryRequested(max_retries=1)


@dg.op(ins={"failed": dg.In(dg.Nothing)})
def never_begins():
    pass


@dg.job
def job():
    ends_well()
    retries()
    never_begins(fails())


@pytest.fixture(scope="module")
def ran():
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance, job.execute_in_process(instance=instance, raise_on_error=False).dagster_run


def has_told(ran, step, attempts):
    instance, run = ran
    arguments = SimpleNamespace(step_keys_to_execute=[step])
    context = SimpleNamespace(instance=instance, dagster_run=run, execute_step_args=arguments)
    handler = StepJobs.__new__(StepJobs)
    return handler._has_told(context, attempts)


@pytest.mark.parametrize(
    ("step", "attempts", "told"),
    [
        ("ends_well", 0, True),
        ("fails", 1, True),
        ("retries", 1, True),
        ("never_begins", 0, False),
    ],
)
def test_a_step_that_has_told_its_end_is_not_told_to_be_lost_as_well(ran, step, attempts, told):
    assert has_told(ran, step, attempts) == told


def test_a_retry_that_a_step_has_asked_for_counts_until_it_is_begun_anew():
    @dg.job
    def asks():
        retries()

    with dg.DagsterInstance.ephemeral() as instance:
        run = instance.create_run_for_job(asks)
        event = dg.DagsterEvent(dg.DagsterEventType.STEP_UP_FOR_RETRY.value, "asks", step_key="retries")
        instance.report_dagster_event(event, run.run_id)
        assert has_told((instance, run), "retries", 0)
        assert not has_told((instance, run), "retries", 1)


@pytest.mark.parametrize(
    ("memory", "twice"),
    [("4Gi", "8Gi"), ("1.5Gi", "3.0Gi"), ("999999Mi", "1999998Mi"), ("17179869184", "34359738368"), (None, "16Gi")],
)
def test_the_memory_that_is_advised_is_a_quantity(memory, twice):
    assert _double(memory) == twice
    assert ComputeSpec(memory=twice).memory == twice
