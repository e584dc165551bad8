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
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in cells)
