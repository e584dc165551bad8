"""Alternatives: what each choice is (`_alternative`), how often it is selected, and how often a model says so.

An alternative is its int64 code, as `mimic_core.identifiers.surrogates` makes it of the label. Sums of blocks add up.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from mimic_core.identifiers import surrogates
from mimic_core.rows import Float64, Int64, Rows

WHOLE_NUMBER = re.compile(r"-?[0-9]+")


@dataclass(frozen=True, kw_only=True)
class AlternativeSums:
    """Sums over decisions for each of their alternatives.

    Attributes:
        alternative: (alternatives,) codes, sorted.
        offered, selected: (alternatives,) number of rows, and of selected ones.
        selected_weight: (alternatives,) weight of the decisions in which it was selected.
        probability: (alternatives,) sum over its rows of the decision's weight times the probability.
    """

    alternative: Int64
    offered: Int64
    selected: Int64
    selected_weight: Float64
    probability: Float64


@dataclass(frozen=True, kw_only=True)
class AlternativeShare:
    """How often one alternative is selected, in truth and according to a model.

    Attributes:
        alternative: its code.
        offered, selected: number of rows, and of selected ones, whatever their weight.
        observed_share: weighted share of the decisions in which it was selected.
        predicted_share: weighted mean over all decisions of its probability, 0 where it is not offered.
    """

    alternative: int
    offered: int
    selected: int
    observed_share: float
    predicted_share: float


def sum_alternatives(rows: Rows, weight: Float64, probability: Float64) -> AlternativeSums | None:
    """Sum over the decisions of one block; None where choices have no label.

    Args:
        weight: (decisions,) 0 or more.
        probability: (rows,) of each choice within its decision.
    """
    if rows.alternative is None:
        return None
    codes, index = _distinct(rows.alternative)
    selected, size = index[rows.selected], len(codes)
    return _sorted(
        codes,
        offered=np.bincount(index, minlength=size),
        selected=np.bincount(selected, minlength=size),
        selected_weight=_totals(selected, weight, size),
        probability=_totals(index, np.repeat(weight, rows.counts) * probability, size),
    )


def add_alternatives(parts: Iterable[AlternativeSums | None]) -> AlternativeSums | None:
    """Add the sums of disjoint decisions; None where a part has no labels, or there are no parts."""
    found = list(parts)
    known = [part for part in found if part is not None]
    if not known or len(known) < len(found):
        return None
    codes, index = _distinct(np.concatenate([part.alternative for part in known]))

    def total(name: str) -> Float64:
        return _totals(index, np.concatenate([getattr(part, name) for part in known]), len(codes))

    return _sorted(
        codes,
        offered=total("offered").astype(np.int64),  # a float64 counts rows exactly up to 2^53
        selected=total("selected").astype(np.int64),
        selected_weight=total("selected_weight"),
        probability=total("probability"),
    )


def alternative_table(sums: AlternativeSums | None) -> list[AlternativeShare]:
    """List how often each alternative is selected, by their codes; empty without labels, or where all weights are 0."""
    weight = float(sums.selected_weight.sum()) if sums else 0.0  # of all decisions: one choice of each is selected
    if sums is None or not weight:
        return []
    columns = (sums.alternative, sums.offered, sums.selected, sums.selected_weight / weight, sums.probability / weight)
    return [
        AlternativeShare(alternative=code, offered=offered, selected=selected, observed_share=seen, predicted_share=said)
        for code, offered, selected, seen, said in zip(*(column.tolist() for column in columns), strict=True)
    ]


def shares_of(parts: Iterable[Rows]) -> dict[int, float] | None:
    """Return the weighted share of each alternative among the selected choices; None without labels, or any weight.

    Args:
        parts: disjoint decisions, such as the blocks of a split.
    """
    known = []
    for rows in parts:
        weight = rows.weights
        known.append(sum_alternatives(rows, weight, np.zeros(len(rows))))
    table = alternative_table(add_alternatives(known))
    return {each.alternative: each.observed_share for each in table if each.selected} or None


def shares_of_rows(alternative: Int64, shares: Mapping[int, float]) -> Float64:
    """Return (rows,) the share of each row's alternative; 0 for one that has none.

    >>> shares_of_rows(np.array([7, 9, 8]), {7: 0.25, 8: 0.75})
    array([0.25, 0.  , 0.75])
    """
    codes, index = _distinct(alternative)
    return np.array([shares.get(code, 0.0) for code in codes.tolist()], np.float64)[index]


def shares_by_code(shares: Mapping[str, float], kind: pa.DataType) -> dict[int, float]:
    """Return shares by the codes that labels have in a table whose `_alternative` is int64 or text.

    A label that such a column cannot hold is left out.

    >>> shares_by_code({"1": 0.25, "car": 0.75}, pa.int64())
    {1: 0.25}
    """
    if pa.types.is_string(kind):
        return dict(zip(surrogates(pa.array(shares, pa.string())).tolist(), shares.values(), strict=True))
    return {int(label): share for label, share in shares.items() if WHOLE_NUMBER.fullmatch(label)}


def _distinct(codes: Int64) -> tuple[Int64, Int64]:
    """Return the different codes in any order, and (rows,) which of them each is; hashing takes a fifth of sorting."""
    encoded = pa.array(codes).dictionary_encode()
    return np.asarray(encoded.dictionary), np.asarray(encoded.indices).astype(np.int64)


def _totals(index: Int64, values: Float64, size: int) -> Float64:
    return np.asarray(np.bincount(index, weights=values, minlength=size), np.float64)


def _sorted(
    codes: Int64, *, offered: Int64, selected: Int64, selected_weight: Float64, probability: Float64
) -> AlternativeSums:
    order = np.argsort(codes)
    return AlternativeSums(
        alternative=codes[order],
        offered=offered[order],
        selected=selected[order],
        selected_weight=selected_weight[order],
        probability=probability[order],
    )
