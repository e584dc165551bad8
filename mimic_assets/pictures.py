"""Pictures: how a plot becomes metadata that Dagster's page shows."""

from base64 import b64encode

import dagster as dg


def picture(name: str, png: bytes) -> dg.MarkdownMetadataValue:
    """Return a PNG picture as metadata; the name stands for it where pictures are not shown."""
    return dg.MetadataValue.md(f"![{name.replace('_', ' ')}](data:image/png;base64,{b64encode(png).decode()})")


def markdown_table(rows: list[tuple[str, ...]], *, numbers: bool = True) -> str:
    """Return rows of texts, the headings first, as a Markdown table; numbers stand right in all but the first column."""
    align = ["---"] + ["---:" if numbers else "---"] * (len(rows[0]) - 1)
    cells = [rows[0], tuple(align), *rows[1:]]
    return "\n".join("| " + " | ".join(map(_cell, row)) + " |" for row in cells)


def and_more(count: int, remark: str = "") -> str:
    """Return the line below a table that says how many rows it leaves out; empty for none."""
    return f"\n\nand {count:,} more{remark}" if count else ""


def behind_a_link(text: str) -> dg.MarkdownMetadataValue:
    """Return Markdown that the page opens at a click, with all the room that it needs; it shows shorter texts at once."""
    return dg.MetadataValue.md(text.ljust(1_000))


def _cell(text: str) -> str:
    """Return a text for a cell, which ends at a line's end and at a bar."""
    return inert(text.replace("\n", " ").replace("\\", "\\\\").replace("|", "\\|"))


def inert(text: str) -> str:
    """Return a text for Markdown in which nothing is a picture.

    A browser loads a picture unasked, and Dagster's server executes what the query of its address says. So a label or a
    column of a table from elsewhere could launch a run when somebody looks at a page.

    >>> inert("![car](/graphql?query=...)")
    '!\\\\[car](/graphql?query=...)'
    """
    return text.replace("![", "!\\[")
