"""CSV types: a column's type is guessed from the first rows of a file, and settled by all of them."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from mimic_core.sources import ALTERNATIVE, FLAGS, KEYS

BLOCK = 1 << 20  # bytes, what Arrow guesses the types from
# a number may be followed by one with decimals, blanks by anything
LATER = {
    pa.int64(): (pa.float64(),),
    pa.null(): (pa.int64(), pa.float64(), pa.bool_(), pa.timestamp("s"), pa.string()),
}


def settled_schema(path: Path, guessed: pa.Schema) -> pa.Schema:
    """Return the columns of a CSV file with types that hold all its rows, as far as it has such types.

    Ids that are numbers with leading zeros are text. Columns of whole numbers, and those without a value so far, are read
    once more if the file is longer than what they were guessed from; others keep their type.
    """
    for name in _spelt_ids(path, [field.name for field in guessed if field.name in KEYS and field.type == pa.int64()]):
        guessed = guessed.set(guessed.get_field_index(name), pa.field(name, pa.string()))
    doubtful = [field for field in guessed if field.type in LATER]
    if not doubtful or (path.suffix != ".gz" and path.stat().st_size < BLOCK) or _hold(path, doubtful):
        return guessed
    for field in doubtful:
        later = (*LATER[field.type], *([pa.string()] if field.name in (*KEYS, *FLAGS, ALTERNATIVE) else []))
        kinds = [field.with_type(kind) for kind in (field.type, *later)]
        settled = next((kind for kind in kinds if _hold(path, [kind])), field)
        guessed = guessed.set(guessed.get_field_index(field.name), settled)
    return guessed


def _spelt_ids(path: Path, columns: Sequence[str]) -> list[str]:
    """List the columns of ids that would lose characters as numbers: 007 is another id than 7."""
    from pyarrow import csv

    if not columns:
        return []
    spelt = set()
    options = csv.ConvertOptions(include_columns=columns, column_types=dict.fromkeys(columns, pa.string()))
    for batch in csv.open_csv(path, convert_options=options):
        spelt |= {name for name in columns if not is_plain_number(batch.column(name))}
    return [name for name in columns if name in spelt]


def is_plain_number(texts: pa.Array) -> bool:
    """Tell whether every text is missing or a whole number in the one way in which numbers are printed."""
    plain = pc.match_substring_regex(texts, "^(0|-?[1-9][0-9]*)?$")
    return bool(pc.all(pc.fill_null(plain, True)).as_py() is not False)


def _hold(path: Path, columns: Sequence[pa.Field]) -> bool:
    """Tell whether all rows of some columns have their types."""
    from pyarrow import csv

    types = {field.name: field.type for field in columns}
    options = csv.ConvertOptions(include_columns=list(types), column_types=types)
    try:
        for _ in csv.open_csv(path, convert_options=options):
            pass
    except pa.ArrowInvalid as error:
        if "CSV parse error" in str(error):
            raise  # whatever the types
        return False
    return True
