"""Tables of plain texts on a terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text


def text_grid(title: str, columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Table:
    """Make a table of plain texts; square brackets are no markup."""
    table = Table(*columns, title=Text(title), title_justify="left", title_style="bold")
    for row in rows:
        table.add_row(*map(Text, row))
    return table
