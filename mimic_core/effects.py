"""Effects: how the probability of a choice answers to its own features, per row, and in averages and quantiles.

Own effects only: what a feature of an alternative does to the probability of that alternative. Cross effects are not here.

Source: K. Train, Discrete choice methods with simulation, 2nd edition, 2009, section 3.6; for the aggregate elasticity M.
Ben-Akiva and S. Lerman, Discrete choice analysis, 1985, section 5.3.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mimic_core.row_samples import lowest, sample_rows
from mimic_core.rows import Float32, Float64, Int64, Rows

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
MOST_SAMPLED = 50_000  # rows whose effects are kept for the quantiles: 2.4 MB of two features
MOST_ALTERNATIVES = 100  # labels that are listed; every feature has an entry for each of them

ADDED, SAMPLED = ("rows", "weight", "share", "totals", "negative", "varied"), ("hashes", "sampled_alternative", "sampled")

Labels = Mapping[int, int | str]


@dataclass(frozen=True, kw_only=True)
class Effect:
    """What one feature does to the probability of choices, over all of them or over those of one label.

    Attributes:
        alternative: the label; None for all rows.
        rows: how many there are.
        marginal_effect_mean, elasticity_mean: over rows, each with the weight of its decision; None where all weights are 0.
        elasticity_aggregate: the same with weight times probability: the elasticity of the expected number of choices.
        marginal_effect_quantiles, elasticity_quantiles: at `LEVELS`, without weights, over all rows, or over a sample where
            all labels together have more than `MOST_SAMPLED`; None where no row of the label is in it.
    """

    feature: str
    alternative: str | None
    rows: int
    marginal_effect_mean: float | None
    marginal_effect_quantiles: tuple[float, ...] | None
    elasticity_mean: float | None
    elasticity_aggregate: float | None
    elasticity_quantiles: tuple[float, ...] | None


@dataclass(frozen=True, kw_only=True)
class RowEffects:
    """Effects of features on the probability of each row.

    Attributes:
        marginal: (rows, features) dP/dx, per unit of the feature.
        elasticity: (rows, features) (dP/dx) (x / P), without unit.
    """

    marginal: Float64
    elasticity: Float64


@dataclass(frozen=True, kw_only=True)
class EffectSums:
    """Effects of some rows in numbers that add up over blocks and steps.

    Attributes:
        labels: what each surrogate stands for; empty where the table has no `_alternative`.
        alternative: (alternatives,) sorted surrogates; one of them, 0, where the table has no `_alternative`.
        rows: (alternatives,) how many there are.
        weight: (alternatives,) sum of w, the weight of the row's decision.
        share: (alternatives,) sum of w P.
        totals: (alternatives, 3, features) sums of w dP/dx, w e and w P e, where e is the elasticity.
        negative: (alternatives, features) how many rows have an elasticity of another sign than dP/dx, as x below 0 gives.
        varied: (alternatives, features) how many rows have another x than the first row of their decision.
        hashes: (sampled,) ascending; the rows with the lowest hashes of their keys are the sample, at most `MOST_SAMPLED`.
        sampled_alternative: (sampled,) their surrogates.
        sampled: (sampled, 2, features) their dP/dx and e.
    """

    labels: Labels
    alternative: Int64
    rows: Int64
    weight: Float64
    share: Float64
    totals: Float64
    negative: Int64
    varied: Int64
    hashes: npt.NDArray[np.uint64]
    sampled_alternative: Int64
    sampled: Float64


def own_effects(probability: Float64, odds: Float64, slope: Float64, x: Float32 | Float64) -> RowEffects:
    """Return the effects of features of a row on the probability of that row.

    dP_i/dx_i = P_i (1 - P_i) du_i/dx_i and e_i = (1 - P_i) x_i du_i/dx_i. 1 - P is taken as 1 / (1 + odds), so nothing
    cancels where P is near 1.

    Args:
        probability, odds: (rows,) within the row's decision; a choice without alternatives has infinite odds.
        slope: (rows, features) du/dx, finite.
        x: (rows, features) as the model gets them.

    >>> own_effects(np.array([0.25]), np.array([1 / 3]), np.array([[-2.0]]), np.array([[10.0]]))
    RowEffects(marginal=array([[-0.375]]), elasticity=array([[-15.]]))
    """
    left = 1 / (1 + odds)
    return RowEffects(marginal=(probability * left)[:, None] * slope, elasticity=left[:, None] * x * slope)


def sum_effects(
    rows: Rows,
    probability: Float64,
    effects: RowEffects,
    x: Float32 | Float64,
    labels: Labels,
    table_rows: int | None = None,
) -> EffectSums:
    """Add up the effects of whole decisions.

    Args:
        rows: whose `weight` and `alternative` count where there are such.
        probability: (rows,).
        x: (rows, features) as the model gets them.
        labels: what each surrogate in `rows.alternative` stands for.
        table_rows: as in `mimic_core.row_samples.sample_rows`.
    """
    alternative = np.zeros(len(rows), np.int64) if rows.alternative is None else rows.alternative
    found, place = np.unique(alternative, return_inverse=True)
    weight = np.repeat(rows.weights, rows.counts)
    values = np.stack([effects.marginal, effects.elasticity], axis=1)  # (rows, 2, features)
    weighted = np.concatenate([values, probability[:, None, None] * values[:, 1:]], axis=1) * weight[:, None, None]
    hashes, kept = sample_rows(rows, MOST_SAMPLED, table_rows)
    return EffectSums(
        labels={int(one): labels[int(one)] for one in found if rows.alternative is not None},
        alternative=found,
        rows=np.bincount(place),
        weight=_grouped(weight, place),
        share=_grouped(weight * probability, place),
        totals=_grouped(weighted, place),
        negative=_grouped((np.sign(effects.marginal) * np.sign(effects.elasticity) < 0).astype(np.int64), place),
        varied=_grouped((x != np.repeat(x[rows.starts], rows.counts, axis=0)).astype(np.int64), place),
        hashes=hashes,
        sampled_alternative=alternative[kept],
        sampled=values[kept],
    )


def add_effects(parts: Iterable[EffectSums | None]) -> EffectSums | None:
    """Add up the effects of parts without a common row; the sample is that of all rows together, whatever the parts.

    None, of parts without rows, adds nothing.
    """
    every = [part for part in parts if part is not None]
    if len(every) < 2:
        return every[0] if every else None
    joined = {name: np.concatenate([getattr(part, name) for part in every]) for name in ("alternative", *ADDED, *SAMPLED)}
    found, place = np.unique(joined["alternative"], return_inverse=True)
    kept = lowest(joined["hashes"], MOST_SAMPLED)
    return EffectSums(
        labels={surrogate: label for part in every for surrogate, label in part.labels.items()},
        alternative=found,
        **{name: _grouped(joined[name], place) for name in ADDED},
        **{name: joined[name][kept] for name in SAMPLED},
    )


def summarise(whole: EffectSums | None, features: Sequence[str]) -> list[Effect]:
    """Return averages and quantiles: per feature over all rows, then over those of each label, in the order of the labels.

    Of more than `MOST_ALTERNATIVES` labels those with the most rows are listed. Without rows the list is empty.

    Args:
        features: their names along the last axis of the sums.
    """
    if whole is None or not len(whole.alternative):
        return []
    often = np.argsort(-whole.rows, kind="stable")[:MOST_ALTERNATIVES].tolist() if whole.labels else []
    by_label = sorted((whole.labels[int(whole.alternative[place])], place) for place in often)
    groups: list[tuple[str | None, slice | list[int]]] = [(None, slice(None))]
    groups += [(str(label), [place]) for label, place in by_label]
    quantiles = [_quantiles(whole, places) for _, places in groups]  # (groups,) of (levels, 2, features)
    return [
        _effect(whole, feature, name, label, places, quantiles[group])
        for feature, name in enumerate(features)
        for group, (label, places) in enumerate(groups)
    ]


def notes_on(whole: EffectSums | None, features: Sequence[str]) -> list[str]:
    """Say of which features the effects mean little: of a property of the whole decision, or one whose zero is none."""
    if whole is None:
        return []
    negative, rows, varied = whole.negative.sum(axis=0).tolist(), int(whole.rows.sum()), whole.varied.sum(axis=0).tolist()
    shared = [name for name, count in zip(features, varied, strict=True) if not count]
    notes = [
        f"the effects of {', '.join(shared)} mean little: all choices of a decision have the same value, and an effect is "
        "that of changing it for one of them alone"
    ]
    return notes * bool(shared) + [
        f"the elasticities by {name!r} mean little: it is below 0 in at least {count:,} of {rows:,} rows, as a standardised "
        "column is, and its zero decides them; read its marginal effects, or give it in units of its own"
        for name, count in zip(features, negative, strict=True)
        if count
    ]


def _effect(
    whole: EffectSums,
    feature: int,
    name: str,
    label: str | None,
    places: slice | list[int],
    quantiles: Float64 | None,
) -> Effect:
    weight, share = whole.weight[places].sum(), whole.share[places].sum()
    marginal, elasticity, aggregate = whole.totals[places, :, feature].sum(axis=0)
    at = (None, None) if quantiles is None else tuple(tuple(quantiles[:, kind, feature].tolist()) for kind in (0, 1))
    return Effect(
        feature=name,
        alternative=label,
        rows=int(whole.rows[places].sum()),
        marginal_effect_mean=float(marginal / weight) if weight else None,
        marginal_effect_quantiles=at[0],
        elasticity_mean=float(elasticity / weight) if weight else None,
        elasticity_aggregate=float(aggregate / share) if share else None,
        elasticity_quantiles=at[1],
    )


def _quantiles(whole: EffectSums, places: slice | list[int]) -> Float64 | None:
    mine = np.isin(whole.sampled_alternative, whole.alternative[places])
    return np.quantile(whole.sampled[mine], LEVELS, axis=0) if mine.any() else None


def _grouped(values: npt.NDArray[Any], place: Int64) -> npt.NDArray[Any]:
    """Return (groups, ...) sums of (rows, ...) values; `place` is the group of each row, and none is without rows."""
    order = np.argsort(place, kind="stable")
    return np.asarray(np.add.reduceat(values[order], np.unique(place[order], return_index=True)[1], axis=0))
