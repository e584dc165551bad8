"""Failures: a user's mistake fails its step once, with the message as it is; anything else is Dagster's to retry."""

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import dagster as dg

from mimic_core.errors import MimicError

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


def fails_clearly(step: F) -> F:
    """Decorate the body of an asset or op: every MimicError becomes a failure that is not retried."""

    @functools.wraps(step)
    def function(*args: Any, **kwargs: Any) -> Any:
        try:
            return step(*args, **kwargs)
        except MimicError as error:
            raise _failure(error) from error

    @functools.wraps(step)
    def generator(*args: Any, **kwargs: Any) -> Iterator[Any]:
        try:
            yield from step(*args, **kwargs)
        except MimicError as error:
            raise _failure(error) from error

    return generator if inspect.isgeneratorfunction(step) else function  # type: ignore[return-value]


def attempt(function: Callable[..., T], *arguments: Any) -> tuple[T | None, str]:
    """Call a function; returns what it returns, or None and what it says where it refuses."""
    try:
        return function(*arguments), ""
    except MimicError as error:
        return None, str(error)


def attempt_all(function: Callable[[T], object], items: Iterable[T]) -> list[str]:
    """Call a function for every item; returns what it says of those that it refused."""
    problems = []
    for item in items:
        try:
            function(item)
        except MimicError as error:
            problems.append(str(error))
    return problems


def _failure(error: MimicError) -> dg.Failure:
    return dg.Failure(str(error), metadata={"error": type(error).__name__}, allow_retries=False)
