"""Summary: what is printed at the end about the partitions that a command built."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from mimic_assets.cli.execution import Outcome

SPLITS = ("train", "validation", "test")
MOST_EFFECTS = 20


def sum_up(outcomes: "Sequence[Outcome]") -> None:
    """Print what came of each partition."""
    for outcome in outcomes:
        click.echo(f"{outcome.status}: {outcome.asset} {outcome.key}")
        if outcome.counts:
            click.echo("  " + ", ".join(f"{name} {value:,}" for name, value in outcome.counts.items()))
        for split in SPLITS:
            if metrics := _of_split(outcome.metrics, split):
                click.echo(f"  {split:<11}" + ", ".join(f"{name} {_number(value)}" for name, value in metrics.items()))
        if (epoch := outcome.metrics.get("exported_epoch")) is not None:
            click.echo(f"  exported   epoch {epoch} of {outcome.metrics['epochs']}")
        for line in _effect_lines(outcome.effects):
            click.echo(f"  {line}")
        for note in outcome.notes:
            click.echo(f"  note: {note}")
        if outcome.location:
            click.echo(f"  at {outcome.location}")


def _of_split(metrics: dict[str, Any], split: str) -> dict[str, Any]:
    names = {"decisions": "decisions", "nll": "NLL", "null_nll": "uniform NLL"}
    names |= {"rho_squared": "rho-squared", "accuracy": "accuracy"}
    return {shown: metrics[f"{split}_{name}"] for name, shown in names.items() if metrics.get(f"{split}_{name}") is not None}


def _effect_lines(effects: Sequence[dict[str, Any]]) -> list[str]:
    if not effects:
        return []
    rows = [["effect of", "on", "mean dP/dx", "mean elasticity", "aggregate"]]
    for effect in effects[:MOST_EFFECTS]:
        means = [effect[name] for name in ("marginal_effect_mean", "elasticity_mean", "elasticity_aggregate")]
        on = "all" if effect["alternative"] is None else effect["alternative"]
        rows.append([effect["feature"], on, *("-" if mean is None else f"{mean:.4g}" for mean in means)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if place < 2 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    more = len(effects) - MOST_EFFECTS
    return lines + ([f"and {more:,} more, which --json prints"] if more > 0 else [])


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
