"""CSV types: a column's type is guessed from the first rows of a file, and settled by all of them."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from mimic_core.sources import FLAGS, KEYS

BLOCK = 1 << 20  # bytes, what Arrow guesses the types from
# a number may be followed by one with decimals, blanks by anything
LATER = {
    pa.int64(): (pa.float64(),),
    pa.null(): (pa.int64(), pa.float64(), pa.bool_(), pa.timestamp("s"), pa.string()),
}


def settled_schema(path: Path, guessed: pa.Schema) -> pa.Schema:
    """Return the columns of a CSV file with types that hold all its rows, as far as it has such types.

    Columns of whole numbers, and those without a value so far, are read once more if the file is longer than what they were
    guessed from; others keep their type.
    """
    doubtful = [field for field in guessed if field.type in LATER]
    if not doubtful or (path.suffix != ".gz" and path.stat().st_size < BLOCK) or _hold(path, doubtful):
        return guessed
    for field in doubtful:
        later = (*LATER[field.type], *([pa.string()] if field.name in (*KEYS, *FLAGS) else []))
        kinds = [field.with_type(kind) for kind in (field.type, *later)]
        settled = next((kind for kind in kinds if _hold(path, [kind])), field)
        guessed = guessed.set(guessed.get_field_index(field.name), settled)
    return guessed


def _hold(path: Path, columns: Sequence[pa.Field]) -> bool:
    """Tell whether all rows of some columns have their types."""
    from pyarrow import csv

    types = {field.name: field.type for field in columns}
    options = csv.ConvertOptions(include_columns=list(types), column_types=types)
    try:
        for _ in csv.open_csv(path, convert_options=options):
            pass
    except pa.ArrowInvalid:
        return False
    return True
