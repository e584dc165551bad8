"""Distributions: how the values of features are spread over a few bins, from a sample of rows, as manifests keep it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from mimic_core.contract import Block
from mimic_core.row_samples import UInt64, lowest, sample_rows
from mimic_core.rows import Float32, feature_matrix

MOST_SAMPLED = 10_000  # rows: by chance alone two such samples differ by an index of 0.002 (see mimic_core.drift)
BINS = 10


@dataclass(frozen=True, kw_only=True)
class FeatureSample:
    """The features of sampled rows; samples of disjoint rows are joined by `add_samples`.

    Attributes:
        rows: how many rows were sampled from.
        hashes: (sampled,) ascending, at most `MOST_SAMPLED`.
        x: (sampled, features).
    """

    rows: int
    hashes: UInt64
    x: Float32


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """How many values of a feature fall into each bin.

    Attributes:
        edges: (bins - 1,) ascending; a bin holds what is above the edge before it, up to its own edge and including it, the
            last one all that is above every edge.
        counts: (bins,).
        missing: how many more values are null, NaN or infinite.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    missing: int


def sample_features(
    block: Block, table_rows: int | None = None, *, training: bool = False, columns: Sequence[str] | None = None
) -> FeatureSample:
    """Sample the features of the rows of a block.

    Args:
        table_rows: as in `mimic_core.row_samples.sample_rows`.
        training: whether only rows for training are sampled.
        columns: columns of the table, taken as they are; None takes the features of the block, missing values replaced.
    """
    rows, among = block.rows, block.train[block.rows.starts] if training else None
    hashes, kept = sample_rows(rows, MOST_SAMPLED, table_rows, among)
    number = len(rows) if among is None else int(rows.counts[among].sum())
    if columns is None:
        return FeatureSample(rows=number, hashes=hashes, x=rows.x[kept])
    taken = block.table.select(columns).take(pa.array(block.order[kept]))
    return FeatureSample(rows=number, hashes=hashes, x=feature_matrix(taken, columns, {}))


def add_samples(parts: Iterable[FeatureSample | None]) -> FeatureSample | None:
    """Join samples of disjoint rows; the result is the sample of all of them, however they were divided.

    None, of parts without rows, adds nothing.
    """
    every = [part for part in parts if part is not None and part.rows]
    if len(every) < 2:
        return every[0] if every else None
    hashes = np.concatenate([part.hashes for part in every])
    kept = lowest(hashes, MOST_SAMPLED)
    x = np.concatenate([part.x for part in every])[kept]
    return FeatureSample(rows=sum(part.rows for part in every), hashes=hashes[kept], x=x)


def distribution(values: Float32) -> Distribution:
    """Divide values into bins: at most ten different ones have one each, others are cut at their deciles.

    Deciles that are equal make one cut, so a bin of a frequent value is larger than a tenth. Where the lowest or the highest
    value has a bin of its own, an empty one is beyond it, so that in other rows what is beyond is told from it.

    >>> found = distribution(np.array([0, 1, 0, 0], np.float32))
    >>> found.edges[1:], found.counts
    ((0.0, 1.0), (0, 3, 1, 0))
    """
    finite = np.sort(values[np.isfinite(values)])
    edges = tuple(_edges(finite).astype(float).tolist())
    return Distribution(edges=edges, counts=counts_within(edges, finite), missing=len(values) - len(finite))


def counts_within(edges: Sequence[float], values: Float32) -> tuple[int, ...]:
    """Count the finite values in each bin of another distribution.

    >>> counts_within((0.0, 2.0), np.array([-1, 0, 1, 3, np.nan], np.float32))
    (2, 1, 1)
    """
    finite = values[np.isfinite(values)].astype(np.float64)
    return tuple(np.bincount(np.searchsorted(np.array(edges), finite), minlength=len(edges) + 1).tolist())


def describe(sample: FeatureSample | None, features: Sequence[str]) -> dict[str, Any] | None:
    """Return the distribution of each feature as manifests keep it; None without rows.

    Args:
        features: their names along the last axis of the sample.
    """
    if sample is None:
        return None
    found = {name: asdict(distribution(values)) for name, values in zip(features, sample.x.T, strict=True)}
    return {"rows": sample.rows, "sampled_rows": len(sample.hashes), "features": found}


def with_missing_replaced(
    described: Mapping[str, Any] | None, features: Sequence[str], missing_values_map: Mapping[str, float]
) -> dict[str, Any] | None:
    """Return the distributions of some features with their missing values replaced; None where one of them is not known.

    Args:
        described: as `describe` returns it, of columns before missing values were replaced.
    """
    if described is None or not set(features) <= set(described["features"]):
        return None
    found = {name: _replaced(described["features"][name], missing_values_map.get(name)) for name in features}
    return {**described, "features": found}


def _replaced(found: Mapping[str, Any], replacement: float | None) -> dict[str, Any]:
    if replacement is None or not found["missing"]:
        return dict(found)
    value = np.float32(replacement)
    if not sum(found["counts"]):
        return asdict(distribution(np.full(found["missing"], value, np.float32)))
    counts, place = list(found["counts"]), int(np.searchsorted(np.array(found["edges"]), value))
    counts[place] += found["missing"]
    return {**found, "counts": counts, "missing": 0}


def _edges(finite: Float32) -> Float32:
    """Return the edges of the bins of sorted values."""
    edges = distinct = np.unique(finite)
    if len(distinct) > BINS:
        edges = np.unique(finite[-(-np.arange(1, BINS) * len(finite) // BINS) - 1])
        if edges[0] == distinct[-1]:  # nearly all values are the largest
            edges = distinct[-2:]
    if len(edges) and edges[0] == distinct[0] > np.finfo(np.float32).min:  # below which there is nothing finite
        return np.append(np.nextafter(edges[:1], np.float32(-np.inf)), edges)
    return edges
