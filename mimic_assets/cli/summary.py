"""Summary: what is printed at the end about the partitions that a command built."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from mimic_assets.cli.output import print_columns

if TYPE_CHECKING:
    from mimic_assets.outcomes import Outcome

SPLITS = ("train", "validation", "test")
MOST_EFFECTS = 20


def sum_up(outcomes: "Sequence[Outcome]") -> None:
    """Print what came of each partition."""
    for outcome in outcomes:
        click.echo(f"{outcome.status}: {outcome.asset} {outcome.key}")
        if outcome.model:
            click.echo(f"  model      {outcome.model}")
        print_numbers(outcome.counts, outcome.metrics)
        if (epoch := outcome.metrics.get("exported_epoch")) is not None:
            click.echo(f"  exported   epoch {epoch} of {outcome.metrics['epochs']}")
        if outcome.coefficients:
            from mimic_core.coefficient_text import rows_of_text, statistics_of_text

            print_columns(rows_of_text(outcome.document()), indent="  ", numbers=True)
            click.echo(f"  {statistics_of_text({'statistics': outcome.metrics})}")
        print_effects(outcome.effects)
        for note in (*outcome.withheld, *outcome.notes):
            click.echo(f"  note: {note}")
        if outcome.location:
            click.echo(f"  at {outcome.location}")


def print_numbers(counts: Mapping[str, int], metrics: Mapping[str, Any]) -> None:
    """Print how many there are, and a line of metrics for each split that has some."""
    if counts:
        click.echo("  " + ", ".join(f"{name} {value:,}" for name, value in counts.items()))
    for split in SPLITS:
        if shown := _of_split(metrics, split):
            click.echo(f"  {split:<11}" + ", ".join(f"{name} {_number(value)}" for name, value in shown.items()))


def _of_split(metrics: Mapping[str, Any], split: str) -> dict[str, Any]:
    names = {"decisions": "decisions", "nll": "NLL", "null_nll": "uniform NLL"}
    names |= {"shares_nll": "shares NLL", "rho_squared": "rho-squared", "accuracy": "accuracy"}
    names |= {"d_nlp": "D-NLP", "calibration_error": "calibration error"}
    return {shown: metrics[f"{split}_{name}"] for name, shown in names.items() if metrics.get(f"{split}_{name}") is not None}


def print_effects(effects: Sequence[dict[str, Any]]) -> None:
    """Print the means of effects, the first of many."""
    if not effects:
        return
    rows = [["effect of", "mean dP/dx", "mean elasticity", "aggregate"]]
    for effect in effects[:MOST_EFFECTS]:
        name = effect["feature"] if effect["alternative"] is None else f"{effect['feature']}, {effect['alternative']}"
        means = [effect[column] for column in ("marginal_effect_mean", "elasticity_mean", "elasticity_aggregate")]
        rows.append([name, *("-" if mean is None else f"{mean:.4g}" for mean in means)])
    print_columns(rows, indent="  ", numbers=True)
    if (more := len(effects) - MOST_EFFECTS) > 0:
        click.echo(f"  and {more:,} more, which --json prints")


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{round(value, 4) + 0.0:.4f}"  # no -0.0000
