"""Column lineage: which columns of what a build read each of its columns was computed from; by its manifest."""

from collections.abc import Mapping, Sequence
from typing import Any

from mimic_core.sources import ALTERNATIVE, CHOICE, DECISION, INDIVIDUAL, KEYS, OFFSET, SELECTED, TRAIN
from mimic_core.world import CONTRAST, DATASET, INFERENCE, RUN, SOURCE

MOST_NAMED = 5  # columns

Origin = tuple[str, str]  # asset and column


def column_lineage(document: Mapping[str, Any], columns: Sequence[str]) -> dict[str, list[Origin]]:
    """Return for the columns of a build from which columns of which asset they come.

    Args:
        document: the manifest of the build.
        columns: of its table, or the features of a dataset.
    """
    asset = document["asset"]
    found: dict[str, list[Origin]] = {}
    if asset == CONTRAST:
        found = {name: _of_contrast(name, document["spec"]) for name in columns}
    elif asset == DATASET:
        above = CONTRAST if CONTRAST in document["inputs"] else SOURCE
        found = {name: [(above, name)] for name in columns}
    elif asset == RUN:
        features = [(DATASET, name) for name in document["features"]]
        found = dict.fromkeys(("loss", "val_loss", "val_accuracy"), features)
    elif asset == INFERENCE:
        found = _of_inference(columns, document)
    return {name: origins for name, origins in found.items() if origins}


def origins_in_words(origins: Sequence[Origin]) -> str:
    """Say where a column comes from, in a few words.

    >>> origins_in_words([("source_table", "size"), ("source_table", "age")])
    'from size, age of source_table'
    """
    asset, names = origins[0][0], [name for _, name in origins]
    return f"from {', '.join(names) if len(names) <= MOST_NAMED else f'{len(names):,} columns'} of {asset}"


def _of_contrast(name: str, spec: Mapping[str, Any]) -> list[Origin]:
    known = {DECISION: INDIVIDUAL, CHOICE: SELECTED, "_old_decision": DECISION, "_old_choice": CHOICE}
    if sampling := spec.get("sampling"):
        known[OFFSET] = sampling["weights"]
    return [(SOURCE, known.get(name, name))]


def _of_inference(columns: Sequence[str], document: Mapping[str, Any]) -> dict[str, list[Origin]]:
    read = document["inputs"][SOURCE]["columns"]
    features = [(SOURCE, name) for name in document["spec"]["features"]]
    found = {name: [(SOURCE, name)] for name in (*KEYS, ALTERNATIVE, TRAIN) if name in columns and name in read}
    found |= {name: [(RUN, name)] for name in ("experiment_name", "run_id")}
    scores = [name for name in columns if name in ("probability", "odds", "log_odds", "utility")]
    derivatives = [name for name in columns if name.startswith("d_probability_d_")]
    return found | dict.fromkeys([*scores, *derivatives], features)
