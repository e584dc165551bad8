"""Failures: a user's mistake fails its step once, with the message as it is; anything else is tried again in a cluster.

A RetryPolicy of Dagster would retry on one machine too, where in_process_executor obeys it, and every fault as often. What a
pod that is gone cannot tell is for resources/k8s_executor.py.
"""

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import dagster as dg

from mimic_core.errors import MimicError
from resources.compute import RETRIES_OF_LOST
from resources.environments import in_cluster, in_pod_of_step

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


def fails_clearly(step: F) -> F:
    """Decorate the body of an asset or op: a MimicError is not retried, and any other error in a cluster once."""

    @functools.wraps(step)
    def function(*args: Any, **kwargs: Any) -> Any:
        with _told(args):
            return step(*args, **kwargs)

    @functools.wraps(step)
    def generator(*args: Any, **kwargs: Any) -> Iterator[Any]:
        with _told(args):
            yield from step(*args, **kwargs)

    return generator if inspect.isgeneratorfunction(step) else function  # type: ignore[return-value]


def attempt(function: Callable[..., T], *arguments: Any) -> tuple[T | None, str]:
    """Call a function; returns what it returns, or None and what it says where it refuses."""
    try:
        return function(*arguments), ""
    except MimicError as error:
        return None, str(error)


def answer_or_refusal(function: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """Call a function; returns what it returns as `answer`, or its error and the words of that as `refused`."""
    try:
        return {"answer": function(*arguments)}
    except MimicError as error:
        return {"refused": {"error": type(error).__name__, "message": str(error)}}


def attempt_all(function: Callable[[T], object], items: Iterable[T]) -> list[str]:
    """Call a function for every item; returns what it says of those that it refused."""
    problems = []
    for item in items:
        try:
            function(item)
        except MimicError as error:
            problems.append(str(error))
    return problems


@contextmanager
def _told(arguments: Sequence[Any]) -> Iterator[None]:
    """Tell Dagster what to do after an error in a step, of whose arguments the first is the context."""
    try:
        yield
    except MimicError as error:
        raise dg.Failure(str(error), metadata={"error": type(error).__name__}, allow_retries=False) from error
    except dg.Failure:
        raise
    except dg.DagsterExecutionInterruptedError as error:  # SIGTERM, which the pods of a node that is drained get first
        if in_pod_of_step():
            raise dg.RetryRequested(max_retries=RETRIES_OF_LOST) from error
        raise
    except Exception as error:
        if in_cluster() and arguments[0].retry_number == 0:
            raise dg.RetryRequested(max_retries=1) from error
        raise
