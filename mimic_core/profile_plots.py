"""Profile plots: the sizes of choice sets, and how often each alternative is offered and selected."""

from collections.abc import Mapping, Sequence
from typing import Any

from mimic_core.plots import png
from mimic_core.report_plots import FIRST, GREY, SECOND

MOST_BARS = 24  # sizes of choice sets that have a bar of their own, or share one with others
MOST_LINES = 40  # alternatives
LONGEST_NAME = 34


def group_sizes(sizes: Sequence[tuple[int, int]], most: int = MOST_BARS) -> list[tuple[str, int]]:
    """Return the bars of a picture of choice-set sizes, each with its number of decisions.

    Of few sizes each has its own, also those between them that no decision has. Of many, ranges of equal width share one;
    the last bar holds the tail where it is long: the largest hundredth of the decisions.

    Args:
        sizes: number of choices, ascending, and how many decisions offer so many.

    >>> group_sizes([(2, 5), (4, 1)])
    [('2', 5), ('3', 0), ('4', 1)]
    >>> group_sizes([(1, 50), (2, 40), (3, 9), (4, 60), (900, 1)], most=4)
    [('1', 50), ('2', 40), ('3', 9), ('4 to 900', 61)]
    """
    lowest, highest = sizes[0][0], sizes[-1][0]
    decisions, below, end = sum(count for _, count in sizes), 0, highest
    if highest - lowest >= most:
        for size, count in sizes:
            below += count
            if below >= 0.99 * decisions:
                end = size
                break
    width = -(-(end - lowest + 1) // most)
    starts = list(range(lowest, end + 1, width))
    totals = [0] * len(starts)
    for size, count in sizes:
        totals[min((size - lowest) // width, len(starts) - 1)] += count
    ends = [*(start - 1 for start in starts[1:]), max(highest, starts[-1])]
    return [
        (str(start) if start == last else f"{start} to {last}", total)
        for start, last, total in zip(starts, ends, totals, strict=True)
    ]


def choice_set_sizes(sizes: Sequence[tuple[int, int]]) -> bytes:
    """Draw how many decisions offer how many choices; returns the bytes of a PNG picture.

    Args:
        sizes: number of choices, ascending, and how many decisions offer so many; at least one.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    bars = group_sizes(sizes)
    figure = Figure(figsize=(6.4, 3.0), dpi=100, layout="constrained")
    axes = figure.subplots()
    axes.bar(range(len(bars)), [count for _, count in bars], color=FIRST)
    names = [name for name, _ in bars]
    slanted = max(map(len, names)) * len(names) > 60
    axes.set_xticks(range(len(bars)), names, fontsize=8, rotation=60 if slanted else 0)
    axes.set(xlabel="choices that a decision offers", ylabel="decisions")
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    return png(figure)


def alternative_shares(alternatives: Sequence[Mapping[str, Any]], kinds: tuple[str, str]) -> bytes:
    """Draw two shares for each alternative; returns the bytes of a PNG picture.

    Args:
        alternatives: `alternative`, and the number of rows of each of two kinds; those with the most rows are drawn.
        kinds: the two kinds, each the name of a column of counts; each adds up to 1 over all alternatives.
    """
    from matplotlib.figure import Figure

    totals = [max(1, sum(row[kind] for row in alternatives)) for kind in kinds]
    named = [row for row in alternatives if row["alternative"] is not None]
    shown = sorted(named, key=lambda row: -row[kinds[0]])[:MOST_LINES]
    figure = Figure(figsize=(6.4, 1.3 + 0.26 * len(shown)), dpi=100, layout="constrained")
    axes = figure.subplots()
    for kind, total, offset, colour in zip(kinds, totals, (-0.2, 0.2), (GREY, SECOND), strict=True):
        lines = [line + offset for line in range(len(shown))]
        axes.barh(lines, [row[kind] / total for row in shown], height=0.38, color=colour, label=kind)
    names = [row["alternative"] for row in shown]
    cut = [name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 3]}..." for name in names]
    axes.set_yticks(range(len(shown)), cut, fontsize=9, parse_math=False)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    others = sum(row.get("labels", 1) for row in alternatives) - len(shown)
    more = f", the {len(shown)} most offered; {others:,} more" if others else ""
    axes.set_xlabel(f"share of the {kinds[0]} and of the {kinds[1]} rows{more}")
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    figure.legend(loc="outside upper center", ncols=2, fontsize=8)
    return png(figure)
