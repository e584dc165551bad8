"""Writes the small decision table of the first walk through mimic; only what makes its rows belongs here.

The chooser is a known logit: each decision takes the choice with the largest
`SIZE_WEIGHT * size + AGE_WEIGHT * age + Gumbel noise`, so a model of the table has something to find.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

INDIVIDUALS = 10
TEST_INDIVIDUALS = 2
DECISIONS_PER_INDIVIDUAL = 10
SMALLEST_CHOICE_SET = 2
LARGEST_CHOICE_SET = 3
SIZE_WEIGHT = 0.5
AGE_WEIGHT = -0.3
MISSING_VALUES_PER_FEATURE = 5


def draw_decisions(seed: int) -> pd.DataFrame:
    """Draw the decision table: one row per choice that a decision offered.

    Args:
        seed: the same seed gives the same table.

    Returns:
        One row per (_individual, _decision, _choice). `_decision` counts from 0 within each individual, and
        exactly one choice of each decision is `_selected`. A missing `size` or `age` is null.
    """
    generator = np.random.default_rng(seed)
    decisions = INDIVIDUALS * DECISIONS_PER_INDIVIDUAL
    choice_set_sizes = generator.integers(SMALLEST_CHOICE_SET, LARGEST_CHOICE_SET, decisions, endpoint=True)
    decision = np.repeat(np.arange(decisions), choice_set_sizes)  # (rows,), unique over the whole table
    rows = len(decision)
    table = pd.DataFrame(
        {
            "_individual": decision // DECISIONS_PER_INDIVIDUAL,
            "_decision": decision % DECISIONS_PER_INDIVIDUAL,
            "_choice": pd.Series(decision).groupby(decision).cumcount(),
            "_selected": False,
            "_train": decision // DECISIONS_PER_INDIVIDUAL < INDIVIDUALS - TEST_INDIVIDUALS,
            "size": generator.uniform(1, 10, rows).round(1),
            "age": generator.uniform(0, 20, rows).round(1),
        }
    )
    utility = SIZE_WEIGHT * table["size"] + AGE_WEIGHT * table["age"] + generator.gumbel(size=rows)
    table.loc[utility.groupby(decision).idxmax(), "_selected"] = True
    # Only now: the chooser saw the values, it is the record that lost them.
    for feature in ("size", "age"):
        table.loc[generator.choice(rows, MISSING_VALUES_PER_FEATURE, replace=False), feature] = np.nan
    return table.astype({"_individual": "int64", "_decision": "int64", "_choice": "int64"})


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="Write a small seeded decision table: 10 individuals, 10 decisions each, 2 or 3 choices.",
        epilog="example: python examples/first_table/generate.py build/first_table.parquet",
    )
    parser.add_argument(
        "destination", metavar="OUT.parquet", type=Path, help="the Parquet file to write; its folder is made"
    )
    parser.add_argument("--seed", type=int, default=0, help="another seed draws another table (default: 0)")
    return parser.parse_args()


def main() -> None:
    """Write the table and print the counts a good run prints."""
    arguments = parse_arguments()
    table = draw_decisions(arguments.seed)
    arguments.destination.parent.mkdir(parents=True, exist_ok=True)
    table.to_parquet(arguments.destination, index=False)
    decisions = table.groupby(["_individual", "_decision"])["_train"].first()
    print(
        f"wrote {len(table)} rows, {len(decisions)} decisions ({decisions.sum()} train, "
        f"{(~decisions).sum()} test) of {table['_individual'].nunique()} individuals "
        f"to {arguments.destination}"
    )


if __name__ == "__main__":
    main()
