"""Interactions: products of two features as further columns of a model, named by a config through names and patterns.

Their names are those of the formulas of statistics: `a:b` is the product of a and b.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np

from mimic_core.errors import SpecError, did_you_mean
from mimic_core.rows import Float32, Float64

Pairs = Sequence[Sequence[str]]

_PATTERN = re.compile(r"[*?\[]")


def expand(pairs: Pairs, features: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Return the products that pairs of names and patterns stand for, each once, in the order of the pairs.

    Args:
        pairs: two entries each; the name of a feature stands for that, whatever is in it; a pattern (with `*`, `?` or
            `[...]`) for all features that it matches; any other entry for the column of that name.
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


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The columns of a model's utility, as positions in what it reads.

    Attributes:
        inputs: columns of the dataset that the model reads: the features, and after them those that only interactions name.
        names: of what has a coefficient in a linear model: the features, and after them the interactions.
        left, right: (interactions,) positions in `inputs` of what is multiplied.
    """

    inputs: tuple[str, ...]
    names: tuple[str, ...]
    left: tuple[int, ...]
    right: tuple[int, ...]

    @property
    def features(self) -> int:
        """How many columns are features, which come first in `inputs` and in `names`."""
        return len(self.names) - len(self.left)

    def values(self, x: Float32) -> Float64:
        """Return (rows, columns) values from (rows, inputs)."""
        wide = x.astype(np.float64)
        products = wide[:, list(self.left)] * wide[:, list(self.right)]
        return np.concatenate([wide[:, : self.features], products], axis=1) if self.left else wide


def columns(pairs: Pairs, features: Sequence[str]) -> Columns:
    """Name the columns of a model.

    Raises:
        SpecError: a pattern matches no feature, or a product has the name of a feature or of another product.

    >>> columns([["asc_*", "income"]], ["asc_bus"])
    Columns(inputs=('asc_bus', 'income'), names=('asc_bus', 'asc_bus:income'), left=(0,), right=(1,))
    """
    products = expand(pairs, features)
    _require_different_names(products, features)
    inputs = tuple(dict.fromkeys([*features, *(name for product in products for name in product)]))
    return Columns(
        inputs=inputs,
        names=(*features, *map(_name, products)),
        left=tuple(inputs.index(left) for left, _ in products),
        right=tuple(inputs.index(right) for _, right in products),
    )


def _name(product: tuple[str, str]) -> str:
    return ":".join(product)


def _require_different_names(products: Sequence[tuple[str, str]], features: Sequence[str]) -> None:
    taken = {name: f"one of the features is called {name!r}" for name in features}
    for product in products:
        name, of = _name(product), f"{product[0]!r} and {product[1]!r}"
        if name in taken:
            raise SpecError(
                f"interactions: the product of {of} would be called {name!r}, and {taken[name]}; "
                "give one of these columns another name in the table, or leave it out"
            )
        taken[name] = f"so would that of {of}"


def _matching(entry: str, features: Sequence[str], path: str) -> list[str]:
    if entry in features or not _PATTERN.search(entry):
        return [entry]
    found = [name for name in features if fnmatchcase(name, entry)]
    if not found:
        near = did_you_mean(_PATTERN.sub("", entry), features)
        raise SpecError(f"{path}: the pattern {entry!r} matches none of the features{near}; they are {', '.join(features)}")
    return found
