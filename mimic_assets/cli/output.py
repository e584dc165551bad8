"""Output: how a table is printed on standard output. Imported at start-up, so nothing heavy stands here."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table


def print_table(table: "Table") -> None:
    """Print a table; a pipe or file gets whole lines, never cut to the width of a terminal."""
    from rich.console import Console

    console = Console()
    (console if console.is_terminal else Console(width=400)).print(table)
