"""Meanings: what the columns of our tables hold, in the words of their pages, and which of them are never null."""

from collections.abc import Mapping
from dataclasses import dataclass

from mimic_core.sources import ALTERNATIVE, CHOICE, DECISION, INDIVIDUAL, KEYS, OFFSET, SELECTED, TRAIN, WEIGHT
from mimic_core.world import CONTRAST, DATASET, INFERENCE, RUN, SOURCE

ID, NUMBER = "int64 or string", "number"  # types that depend on the table that was imported


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column that all tables of an asset have, or may have.

    Attributes:
        type: as Arrow names it, or in words where tables differ.
        meaning: one sentence without a full stop.
        nullable: whether a row may lack it.
        optional: whether a table may.
    """

    type: str
    meaning: str
    nullable: bool = False
    optional: bool = False


DECISION_TABLE = {
    INDIVIDUAL: Column(type=ID, meaning="who decides"),
    DECISION: Column(type=ID, meaning="which decision; unique within an individual"),
    CHOICE: Column(type=ID, meaning="which of the choices offered; unique within a decision"),
    SELECTED: Column(type="bool", meaning="whether this choice was selected; true in exactly one row of a decision"),
    TRAIN: Column(type="bool", meaning="whether the individual is one to train on; else one to test on"),
    WEIGHT: Column(type=NUMBER, meaning="how much the decision counts, the same in all its rows", optional=True),
    ALTERNATIVE: Column(type=ID, meaning='what the choice is, such as "car"', optional=True),
    OFFSET: Column(
        type=NUMBER,
        meaning="log-probability, in nats, of drawing this choice set had this choice been the selected one",
        optional=True,
    ),
}
CONTRAST_TABLE = DECISION_TABLE | {
    DECISION: Column(type="int64", meaning="the pair, numbered anew"),
    CHOICE: Column(type="int64", meaning="0 for the selected choice, 1 for the rejected one"),
    "_old_decision": Column(type=ID, meaning="the decision of the source table that the pair was sampled from"),
    "_old_choice": Column(type=ID, meaning="the choice of the source table that the row was copied from"),
}
RESULTS_TABLE = {
    "experiment_name": Column(type="string", meaning="experiment of the run"),
    "run_id": Column(type="string", meaning="the run"),
    "epoch": Column(type="int32", meaning="from 1; for a linear model an iteration of the solver"),
    "loss": Column(type="double", meaning="mean negative log-likelihood per training decision, in nats"),
    "val_loss": Column(
        type="double",
        meaning="mean negative log-likelihood per decision after the epoch, over the decisions that choose the epoch",
        nullable=True,
    ),
    "exported": Column(type="bool", meaning="whether the exported model is that of this epoch"),
    "val_accuracy": Column(
        type="double",
        meaning="share of the decisions of val_loss whose selected choice has the highest utility",
        nullable=True,
    ),
    "seconds": Column(type="double", meaning="how long the epoch took, with its evaluation", nullable=True),
    "learning_rate": Column(type="double", meaning="of the optimizer at the end of the epoch", nullable=True),
    "finished": Column(type="bool", meaning="false in the rows of a training that failed or was killed", nullable=True),
}
INFERENCE_TABLE = {
    **{name: Column(type=ID, meaning=f"{DECISION_TABLE[name].meaning}; that of the source table") for name in KEYS},
    ALTERNATIVE: Column(type=ID, meaning="that of the source table: what the choice is", nullable=True, optional=True),
    TRAIN: Column(type="bool", meaning="that of the source table; false where it has none"),
    "probability": Column(type="double", meaning="exp(utility) divided by its sum over the decision, from 0 to 1"),
    "odds": Column(type="double", meaning="exp(log_odds); may underflow to 0 or overflow to infinity"),
    "log_odds": Column(
        type="double",
        meaning="utility minus the log of the sum of exp(utility) over the other choices of the decision, in nats",
    ),
    "utility": Column(
        type="double",
        meaning="output of the exported network, in nats; only differences within a decision mean anything",
    ),
    "experiment_name": Column(type="string", meaning="experiment of the run"),
    "run_id": Column(type="string", meaning="the run"),
    "_partition": Column(type="int32", meaning="shard within the split, from 0"),
}
FEATURE = "a feature, or another column of its owner"
DERIVATIVE = "derivative of the probability by this feature of the same row, per unit of the feature"

TABLES: Mapping[str, Mapping[str, Column]] = {
    SOURCE: DECISION_TABLE,
    CONTRAST: CONTRAST_TABLE,
    RUN: RESULTS_TABLE,
    INFERENCE: INFERENCE_TABLE,
}
UNIQUE = {  # asset -> the columns that no two rows of a table have in common
    SOURCE: KEYS,
    CONTRAST: KEYS,
    RUN: ("experiment_name", "run_id", "epoch"),
    INFERENCE: ("experiment_name", "run_id", *KEYS),
}


def meaning_of(asset: str, name: str) -> str:
    """Say what a column of a table holds.

    >>> meaning_of("inference_table", "d_probability_d_cost")
    'derivative of the probability by this feature of the same row, per unit of the feature'
    """
    known = TABLES.get(asset, {}).get(name)
    if known is not None:
        return known.meaning
    if asset == DATASET:
        return "a feature, in x of the records"
    return DERIVATIVE if asset == INFERENCE else FEATURE
