"""Interactions: products of two features as further columns of a model, named by a config through names and patterns.

Their names are those of the formulas of statistics: `a:b` is the product of a and b.
"""

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

from mimic_core.errors import SpecError, did_you_mean

Pairs = Sequence[Sequence[str]]

_PATTERN = re.compile(r"[*?\[]")


def expand(pairs: Pairs, features: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Return the products that pairs of names and patterns stand for, each once, in the order of the pairs.

    Args:
        pairs: two entries each; a pattern (with `*`, `?` or `[...]`) stands for all features that it matches, any other
            entry for the column of that name, which need not be one of the features.
        features: of the experiment.

    Raises:
        SpecError: a pattern matches no feature.

    >>> expand([["asc_*", "income"]], ["cost", "asc_bus", "asc_car"])
    (('asc_bus', 'income'), ('asc_car', 'income'))
    """
    products: dict[frozenset[str], tuple[str, str]] = {}
    for index, pair in enumerate(pairs):
        first, second = (_matching(entry, features, f"interactions[{index}][{at}]") for at, entry in enumerate(pair))
        for left in first:
            for right in second:
                products.setdefault(frozenset((left, right)), (left, right))
    return tuple(products.values())


def inputs(pairs: Pairs, features: Sequence[str]) -> tuple[str, ...]:
    """Return the columns that a model reads: the features, and after them those that only interactions name.

    >>> inputs([["asc_*", "income"]], ["asc_bus"])
    ('asc_bus', 'income')
    """
    return tuple(dict.fromkeys([*features, *(name for product in expand(pairs, features) for name in product)]))


def column_names(pairs: Pairs, features: Sequence[str]) -> tuple[str, ...]:
    """Return the names of a model's columns: the features, and after them the interactions.

    >>> column_names([["asc_*", "income"]], ["asc_bus"])
    ('asc_bus', 'asc_bus:income')
    """
    return (*features, *(f"{left}:{right}" for left, right in expand(pairs, features)))


def _matching(entry: str, features: Sequence[str], path: str) -> list[str]:
    if not _PATTERN.search(entry):
        return [entry]
    found = [name for name in features if fnmatchcase(name, entry)]
    if not found:
        near = did_you_mean(_PATTERN.sub("", entry), features)
        raise SpecError(f"{path}: the pattern {entry!r} matches none of the features{near}; they are {', '.join(features)}")
    return found
