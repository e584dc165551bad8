"""Profiles: what a decision table holds, in numbers that add up over blocks of whole individuals."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mimic_core.contract import Block
from mimic_core.manifests import fingerprint
from mimic_core.outcomes import EXAMPLES, Violation
from mimic_core.rows import Bool, Float64, Int64, decision_starts, flag_values, numbers
from mimic_core.sources import ALTERNATIVE, INDIVIDUAL, SELECTED, SPLITS, TRAIN
from mimic_core.world import TableState

CODE_VERSION = "1"  # bump when the same rows give another profile
MOST_ALTERNATIVES = 200  # that a document names, those that are offered most
ALL, BOTH = "all", "both"


@dataclass(frozen=True, kw_only=True)
class FeatureSums:
    """Sums over the rows for each feature, as (features,) arrays.

    Attributes:
        finite, nulls, infinite: number of rows; NaN counts as null.
        total: sum of the finite values.
        lowest, highest: of the finite values; infinities where there are none.
    """

    finite: Int64
    nulls: Int64
    infinite: Int64
    total: Float64
    lowest: Float64
    highest: Float64


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What some rows hold.

    Attributes:
        rows, decisions: split -> how many there are; `all` where the table has no `_train`.
        individuals: the same, with those of `both`, which are in each of the two as well.
        leaks: ids of up to five individuals with rows in both splits.
        sizes: number of choices -> how many decisions offer so many.
        alternatives: columns `alternative`, `offered`, `selected`, a row for each label; None without `_alternative`.
        selects: whether the table says which choices were selected.
        names: of the features.
        features: their sums.
    """

    rows: Mapping[str, int]
    decisions: Mapping[str, int]
    individuals: Mapping[str, int]
    leaks: tuple[str, ...]
    sizes: Mapping[int, int]
    alternatives: pa.Table | None
    selects: bool
    names: tuple[str, ...]
    features: FeatureSums


def profile_version(table: TableState) -> str:
    """Return a text that is another one whenever the profile of a table may be."""
    columns = {name: dict(facts) for name, facts in table.columns.items()}
    return fingerprint({"token": table.token, "columns": columns, "code_version": CODE_VERSION})[:16]


def profile_block(block: Block, features: Sequence[str]) -> Profile:
    """Count what whole individuals of a table hold; their features are read as the table has them."""
    rows = block.rows
    starts, people = rows.starts, decision_starts(rows.individual, rows.individual)
    leaks: list[Any] = []
    if TRAIN in block.table.column_names and len(rows):
        test = np.asarray(pc.fill_null(pc.invert(block.table[TRAIN]), False))[block.order]
        in_train, in_test = (np.logical_or.reduceat(flags, people) for flags in (block.train, test))
        both = in_train & in_test
        leaks = block.table[INDIVIDUAL].take(pa.array(block.order[people[both]][:EXAMPLES])).to_pylist()
        individuals = dict(zip((*SPLITS, BOTH), (int(flags.sum()) for flags in (in_train, in_test, both)), strict=True))
    else:
        individuals = _counted(block, people) | ({BOTH: 0} if TRAIN in block.table.column_names else {})
    return Profile(
        rows=_counted(block, np.arange(len(rows))),
        decisions=_counted(block, starts),
        individuals=individuals,
        leaks=tuple(map(str, leaks)),
        sizes=choice_set_sizes(rows.counts),
        alternatives=count_alternatives(block.table),
        selects=SELECTED in block.table.column_names,
        names=tuple(features),
        features=_feature_sums(block.table, features),
    )


def add_profiles(parts: Iterable[Profile]) -> Profile | None:
    """Add up the profiles of blocks without a common individual; None of nothing. One part is held at a time."""
    return reduce(lambda whole, part: part if whole is None else _added(whole, part), parts, None)


def choice_set_sizes(counts: Int64) -> dict[int, int]:
    """Return number of choices -> how many decisions offer so many; `counts` are (decisions,).

    >>> choice_set_sizes(np.array([3, 2, 3]))
    {2: 1, 3: 2}
    """
    sizes, decisions = np.unique(counts, return_counts=True)
    return dict(zip(sizes.tolist(), decisions.tolist(), strict=True))


def add_sizes(parts: Iterable[Mapping[int, int]]) -> dict[int, int]:
    """Add up the sizes of choice sets, the smallest first."""
    total: Counter[int] = Counter()
    for part in parts:
        total.update(part)
    return dict(sorted(total.items()))


def count_alternatives(rows: pa.Table) -> pa.Table | None:
    """Count how often each alternative is offered and selected, by labels as text; None without `_alternative`."""
    if ALTERNATIVE not in rows.column_names:
        return None
    none = np.zeros(len(rows), np.int64)
    selected = flag_values(rows, SELECTED).astype(np.int64) if SELECTED in rows.column_names else none
    # numbers are grouped as numbers: as texts they take three times as long
    counted = _summed(pa.table({"alternative": rows[ALTERNATIVE], "offered": none + 1, "selected": selected}))
    return counted.set_column(0, "alternative", counted["alternative"].cast(pa.string()))


def add_alternatives(parts: Iterable[pa.Table | None]) -> pa.Table | None:
    """Add up the counts of alternatives; None where there are none."""
    known = [part for part in parts if part is not None]
    return _summed(pa.concat_tables(known)) if known else None


def alternatives_document(counts: pa.Table | None) -> list[dict[str, Any]]:
    """List the alternatives that are offered most, and the others as one whose `alternative` is None, as plain values."""
    if counts is None:
        return []
    order = [("offered", "descending"), ("selected", "descending"), ("alternative", "ascending")]
    ordered = counts.filter(pc.is_valid(counts["alternative"])).sort_by(order)
    rest = ordered.slice(MOST_ALTERNATIVES)
    listed: list[dict[str, Any]] = ordered.slice(0, MOST_ALTERNATIVES).to_pylist()
    if len(rest):
        sums = {name: pc.sum(rest[name]).as_py() for name in ("offered", "selected")}
        listed.append({"alternative": None, "labels": len(rest), **sums})
    return listed


def document(profile: Profile) -> dict[str, Any]:
    """Return a profile as plain values."""
    return {
        "rows": dict(profile.rows),
        "decisions": dict(profile.decisions),
        "individuals": dict(profile.individuals),
        "leaks": list(profile.leaks),
        "sizes": [[size, decisions] for size, decisions in profile.sizes.items()],
        "alternatives": alternatives_document(profile.alternatives),
        "selects": profile.selects,
        "features": [_feature(profile, index) for index in range(len(profile.names))],
    }


def what_breaks(document: Mapping[str, Any]) -> str:
    """Say what keeps people from building of a table by itself; `document` is its stored profile. Empty: nothing does."""
    if document["problem"]:
        return str(document["problem"])
    broken = "; ".join(str(Violation(**violation)) for violation in document["contract"]["violations"])
    return broken and f"breaks the decision-table contract: {broken}"


def _counted(block: Block, rows: Int64) -> dict[str, int]:
    """Count some rows by their split."""
    if TRAIN not in block.table.column_names:
        return {ALL: len(rows)}
    train = int(block.train[rows].sum())
    return dict(zip(SPLITS, (train, len(rows) - train), strict=True))


def _feature_sums(table: pa.Table, names: Sequence[str]) -> FeatureSums:
    sums = np.array([_sums_of(numbers(table, name)) for name in names], np.float64).reshape(len(names), 6)
    finite, nulls, infinite = (sums[:, column].astype(np.int64) for column in range(3))
    total, lowest, highest = (sums[:, column] for column in range(3, 6))
    return FeatureSums(finite=finite, nulls=nulls, infinite=infinite, total=total, lowest=lowest, highest=highest)


def _sums_of(values: Float64) -> tuple[float, ...]:
    finite: Bool = np.isfinite(values)
    nulls = int(np.isnan(values).sum())
    kept = values if finite.all() else values[finite]
    infinite = len(values) - len(kept) - nulls
    return (len(kept), nulls, infinite, kept.sum(), kept.min(initial=np.inf), kept.max(initial=-np.inf))


def _summed(counts: pa.Table) -> pa.Table:
    summed = counts.group_by("alternative", use_threads=False).aggregate([("offered", "sum"), ("selected", "sum")])
    return summed.select(["alternative", "offered_sum", "selected_sum"]).rename_columns(counts.column_names)


def _added(first: Profile, second: Profile) -> Profile:
    def counts(name: str) -> dict[str, int]:
        one, other = getattr(first, name), getattr(second, name)
        return {split: one[split] + other[split] for split in one}

    one, other = first.features, second.features
    return Profile(
        rows=counts("rows"),
        decisions=counts("decisions"),
        individuals=counts("individuals"),
        leaks=(*first.leaks, *second.leaks)[:EXAMPLES],
        sizes=add_sizes([first.sizes, second.sizes]),
        alternatives=add_alternatives([first.alternatives, second.alternatives]),
        selects=first.selects,
        names=first.names,
        features=FeatureSums(
            finite=one.finite + other.finite,
            nulls=one.nulls + other.nulls,
            infinite=one.infinite + other.infinite,
            total=one.total + other.total,
            lowest=np.minimum(one.lowest, other.lowest),
            highest=np.maximum(one.highest, other.highest),
        ),
    )


def _feature(profile: Profile, index: int) -> dict[str, Any]:
    sums = {name: values[index].item() for name, values in vars(profile.features).items()}
    finite, mean = sums["finite"], sums["total"] / max(1, sums["finite"])
    return {
        "feature": profile.names[index],
        "nulls": sums["nulls"],
        "infinite": sums["infinite"],
        "lowest": sums["lowest"] if finite else None,
        "mean": mean if finite and np.isfinite(mean) else None,
        "highest": sums["highest"] if finite else None,
    }
