"""Tables of a few lines in a terminal, under a title: as comparisons, decisions and rankings have them."""

from collections.abc import Collection, Sequence

from rich.markup import escape
from rich.table import Table as Grid

from lossary.reports.text import plain

__all__ = ["titled_grid"]


def titled_grid(title: str, headings: Sequence[str], *, right: Collection[str] = ()) -> Grid:
    """An empty table; headings and title are plain text, those in `right` stand over numbers."""
    grid = Grid(title=escape(plain(title)), title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    for heading in headings:
        grid.add_column(escape(plain(heading)), overflow="fold", justify="right" if heading in right else "left")
    return grid
