"""Errors in steps: a mistake of a person fails once anywhere; others are tried again in a cluster, most once only."""

import dagster as dg
import pytest

from mimic_assets.failures import fails_clearly
from mimic_core.errors import TableError

TRIES: list[int] = []


def failing(error):
    """Make a job of which the only step raises an error whenever it is tried."""

    @dg.op(out=dg.Out(dg.Nothing))
    @fails_clearly
    def step(context: dg.OpExecutionContext):
        TRIES.append(context.retry_number)
        raise error

    @dg.job
    def job():
        step()

    return job


@pytest.fixture(params=["local", "kubernetes"])
def environment(request, monkeypatch):
    TRIES.clear()
    monkeypatch.setenv("MIMIC_ENV", request.param)
    monkeypatch.setenv("MIMIC_CATALOG", "postgresql://somebody@host/catalog")
    return request.param


def tried(error):
    """Execute the job; returns how the step failed at last."""
    result = failing(error).execute_in_process(raise_on_error=False)
    (failed,) = [event for event in result.all_events if event.is_step_failure]
    return failed.step_failure_data.error


def test_a_mistake_of_a_person_is_tried_once(environment):
    assert "there is no table" in tried(TableError("there is no table")).message
    assert TRIES == [0]


def test_an_error_of_nobody_is_tried_twice_in_a_cluster_and_told_as_it_is(environment):
    error = tried(OSError("the disk does not answer"))
    assert ([0, 1] if environment == "kubernetes" else [0]) == TRIES
    assert "the disk does not answer" in f"{error.message}{error.cause and error.cause.message}"


@pytest.mark.parametrize("step_pod", [True, False])
def test_a_step_that_is_asked_to_end_is_begun_anew_where_it_has_a_pod_of_its_own(environment, step_pod, monkeypatch):
    if step_pod:
        monkeypatch.setenv("DAGSTER_RUN_STEP_KEY", "step")
    result = failing(dg.DagsterExecutionInterruptedError()).execute_in_process(raise_on_error=False)
    assert not result.success
    assert ([0, 1, 2, 3] if step_pod and environment == "kubernetes" else [0]) == TRIES


def test_a_failure_that_a_step_tells_itself_is_left_as_it_is(environment):
    tried(dg.Failure("told", allow_retries=False))
    assert TRIES == [0]


def test_what_a_generator_raises_is_told_as_well(environment):
    @dg.op(out=dg.Out(int))
    @fails_clearly
    def step(context: dg.OpExecutionContext):
        TRIES.append(context.retry_number)
        yield dg.Output(1)
        raise TableError("after an output")

    @dg.job
    def job():
        step()

    result = job.execute_in_process(raise_on_error=False)
    assert not result.success
    assert TRIES == [0]
