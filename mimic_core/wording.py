"""Wording: what messages of several stages say alike."""

from collections.abc import Sequence


def listed(names: Sequence[str], most: int) -> str:
    """Name the first ones, and say how many more there are.

    >>> listed(["a", "b", "c"], most=2), listed(["a"], most=2)
    ('a, b and 1 more', 'a')
    """
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")
