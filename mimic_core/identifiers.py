"""Identifiers: the int64 surrogates by which text ids are computed with, and the table that leads back to the originals.

A surrogate depends on its id alone: not on other rows, shards or row order. It is a hash, so an id table goes with
everything that holds surrogates, and two ids of one surrogate are refused.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mimic_core.errors import TableError

Int64 = npt.NDArray[np.int64]
SCHEMA = pa.schema([("column", pa.string()), ("surrogate", pa.int64()), ("id", pa.string())])


def surrogates(ids: pa.Array | pa.ChunkedArray) -> Int64:
    """Return (rows,) the int64 of each id: a whole number itself, a text its hash; 0 for null.

    Source: SipHash-2-4, J.-P. Aumasson and D. J. Bernstein, INDOCRYPT 2012, as `pandas.util.hash_array` computes it.
    """
    if not pa.types.is_string(ids.type):
        return _numbers(ids)
    encoded = _encoded(ids)
    return np.append(_hashes(encoded.dictionary), 0)[_numbers(encoded.indices, len(encoded.dictionary))]


def has_text_ids(schema: pa.Schema, columns: Sequence[str]) -> bool:
    """Tell whether the ids of some column are texts."""
    return any(pa.types.is_string(schema.field(column).type) for column in columns)


def id_table(rows: pa.Table, columns: Sequence[str]) -> pa.Table:
    """Return the text ids of some rows: one row per column and id, with its surrogate; no rows where ids are numbers."""
    parts = [SCHEMA.empty_table()]
    for column in columns:
        if pa.types.is_string(rows.schema.field(column).type):
            ids = pc.unique(rows[column]).drop_null()
            parts.append(pa.table([pa.repeat(column, len(ids)), surrogates(ids), ids], schema=SCHEMA))
    return pa.concat_tables(parts)


def join_id_tables(tables: Sequence[pa.Table]) -> pa.Table:
    """Return the id table of rows whose parts have these; each id once.

    Raises:
        TableError: two ids of a column have the same surrogate.
    """
    joined = pa.concat_tables([SCHEMA.empty_table(), *tables]).group_by(SCHEMA.names, use_threads=False).aggregate([])
    for column in pc.unique(joined["column"]).to_pylist():
        require_different(joined.filter(pc.equal(joined["column"], column))["id"], column)
    return joined


def parquet_bytes(table: pa.Table) -> bytes:
    """Return a table as a Parquet file."""
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return bytes(sink.getvalue())


def require_different(ids: pa.Array | pa.ChunkedArray, column: str) -> None:
    """Check that different ids have different surrogates.

    Raises:
        TableError: two have the same; among ten million ids the chance is about 3 in a million.
    """
    if not pa.types.is_string(ids.type):
        return
    ids = pc.unique(ids).drop_null()
    found = surrogates(ids)
    order = np.argsort(found, kind="stable")
    same = np.flatnonzero(found[order][1:] == found[order][:-1])
    if len(same):
        first, second = (ids[int(order[same[0] + step])].as_py() for step in (0, 1))
        raise TableError(
            f"column {column!r}: the ids {first!r} and {second!r} have the same 64-bit hash, which stands for them; "
            "change one of them, or number the ids"
        )


def _encoded(texts: pa.Array | pa.ChunkedArray) -> pa.DictionaryArray:
    encoded = texts.dictionary_encode()
    return encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded


def _numbers(column: pa.Array | pa.ChunkedArray, null: int = 0) -> Int64:
    return np.asarray(pc.fill_null(column, null) if column.null_count else column).astype(np.int64, copy=False)


def _hashes(texts: pa.Array) -> Int64:
    from pandas.util import hash_array

    hashes: npt.NDArray[np.uint64] = hash_array(texts.to_numpy(zero_copy_only=False).astype(object), categorize=False)
    return hashes.view(np.int64)
