"""Failures: a person's mistake is never retried, whatever the step's policy; anything else is Dagster's to judge."""

import dagster as dg
import pytest

from mimic_assets.failures import fails_clearly
from mimic_core.errors import SpecError


def test_a_mistake_becomes_a_failure_with_its_message_and_no_retry():
    @fails_clearly
    def step() -> None:
        raise SpecError("features: give exactly these")

    with pytest.raises(dg.Failure, match="features: give exactly these") as failure:
        step()
    assert failure.value.allow_retries is False
    assert failure.value.metadata["error"].value == "SpecError"


def test_a_mistake_in_a_step_that_yields_becomes_a_failure_after_what_it_yielded():
    @fails_clearly
    def step():
        yield 1
        raise SpecError("late")

    steps = step()
    assert next(steps) == 1
    with pytest.raises(dg.Failure, match="late"):
        next(steps)


def test_any_other_error_is_passed_on():
    @fails_clearly
    def step() -> None:
        raise ConnectionError("lost")

    with pytest.raises(ConnectionError):
        step()


@pytest.mark.parametrize(("error", "attempts"), [(SpecError("wrong"), 1), (ConnectionError("lost"), 3)])
def test_a_retry_policy_repeats_lost_connections_and_never_mistakes(error, attempts):
    tried = []

    @dg.op(retry_policy=dg.RetryPolicy(max_retries=2))
    @fails_clearly
    def step() -> None:
        tried.append(1)
        raise error

    @dg.job
    def once() -> None:
        step()

    with dg.DagsterInstance.ephemeral() as instance:
        assert not once.execute_in_process(instance=instance, raise_on_error=False).success
    assert len(tried) == attempts
