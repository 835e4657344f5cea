"""Tables whose rows are metrics: as columns, with what their first rows name as the rows; or a row for each number.

transposed of    | base | large      →   run   | val loss | acc
        val loss | 2.5  | 2.25           base  | 2.5      | 0.5
        acc      | 0.5  | 0.75           large | 2.25     | 0.75
"""

from collections.abc import Sequence
from dataclasses import replace

from lossary.results.importers.columns import Column, column_of, is_metric, unsaid
from lossary.results.importers.grids import Grid, plain, read_cell
from lossary.results.importers.maps import Maps
from lossary.results.importers.model import Role, noted
from lossary.results.importers.names import of_data, read_name, role
from lossary.results.importers.titles import is_beside

__all__ = ["a_row_each", "transposed"]


def a_row_each(grid: Grid, columns: Sequence[Column]) -> Grid | None:
    """The table with a row for each number, where a column names the metric of each row.

    Columns are datasets beside a column of runs, and runs beside one of datasets; None where neither stands there.
    """
    texts = [c for c in columns if c.is_text]
    metric, dataset, run = (column_of(texts, kind) for kind in ("metric", "dataset", "run"))
    if metric is None or (dataset is None) == (run is None) or any(c.role == "value" or c.metric for c in columns):
        return None
    measured = [c for c in columns if c.role is None and not c.is_text and c.header and not is_beside(c.header)]
    if len(measured) < 2 or not any(read_name(plain(row[metric])).quantity for row in grid.rows[1:]):
        return None
    kept = [c.at for c in columns if c not in measured]
    rows = [[*(grid.rows[0][at] for at in kept), "run" if run is None else "dataset", "value"]]
    lines = [grid.line(0)]
    for number, row in enumerate(grid.rows[1:], 1):
        rows += [[*(row[at] for at in kept), c.header, row[c.at]] for c in measured]
        lines += [grid.line(number)] * len(measured)
    return replace(grid, rows=rows, lines=lines)


def transposed(grid: Grid, maps: Maps, notes: list[str]) -> Grid | None:
    """The table with its rows as columns, if it is the rows that are metrics."""
    grid = _from_metrics(grid)
    first = [plain(row[0]) for row in grid.rows[1:]]
    are_metrics = [name for name in first if is_metric(name, read_name(name))]
    if len(are_metrics) * 2 < len(first) or not are_metrics:
        return None
    rows = [list(row) for row in zip(*grid.rows, strict=True)]
    settings = [row for row in rows[1:] if is_beside(plain(row[0]))]
    if settings and len(settings) < len(rows) - 1:
        rows = [row for row in rows if row not in settings]
        notes.append(noted("columns that say settings or speeds are left out", [plain(row[0]) for row in settings]))
    names_too = not first[0] or role(first[0]) in ("dataset", "run")
    if names_too and not any(read_cell(row[1]).number for row in rows[1:]):
        return _with_two_keys(grid, rows, maps, notes)
    entry = maps.get(plain(rows[0][0]))
    if entry is not None and entry.role in ("dataset", "run"):
        rows[0][0] = entry.role
    elif role(plain(rows[0][0])) not in ("dataset", "run"):
        names = [plain(row[0]) for row in rows[1:]]
        kind: Role = "dataset" if of_data(names) > 0 else "run"
        notes.append(unsaid(names, f"{kind}s", "run" if kind == "dataset" else "dataset", plain(rows[0][0])))
        rows[0][0] = kind
    return Grid(title=grid.title, rows=rows, first_line=grid.first_line)


def _from_metrics(grid: Grid) -> Grid:
    """The table from its column of metrics on, where those before it say the same on every row: a file's name."""
    at = next((n for n, cell in enumerate(grid.rows[0]) if role(plain(cell)) == "metric"), 0)
    if not all(len({row[n] for row in grid.rows[1:]}) == 1 for n in range(at)):
        return grid
    return replace(grid, rows=[row[at:] for row in grid.rows])


def _with_two_keys(grid: Grid, rows: list[list[str]], maps: Maps, notes: list[str]) -> Grid | None:
    """Datasets above runs, or runs above datasets: a header, a map or the names themselves say which is which."""
    outer: list[str] = []
    inner = [plain(row[1]) for row in rows[1:]]
    for row in rows[1:]:
        outer.append(plain(row[0]) or (outer[-1] if outer else ""))
    counts = {outer.count(name) for name in outer}
    if not all(outer) or not all(inner) or (len(counts) > 1 and not all(row[0] for row in rows[1:])):
        return None
    entry = maps.get(plain(rows[0][0]))
    said = entry.role if entry is not None else role(plain(rows[0][0])) or _other(role(plain(rows[0][1])))
    kind = said if said in ("dataset", "run") else "dataset" if of_data(outer) >= of_data(inner) else "run"
    if said not in ("dataset", "run"):
        names = [", ".join(repr(name) for name in dict.fromkeys(level)) for level in (outer, inner)]
        notes.append(
            f"two rows of names: {names[0]} read as {kind}s, {names[1]} as {_other(kind)}s; "
            f"--map '{plain(rows[0][0])}={_other(kind)}' says the other"
        )
    header = [kind, _other(kind) or "", *rows[0][2:]]
    body = [[name, *row[1:]] for name, row in zip(outer, rows[1:], strict=True)]
    return Grid(title=grid.title, rows=[header, *body], first_line=grid.first_line)


def _other(kind: Role | None) -> Role | None:
    return "run" if kind == "dataset" else "dataset" if kind == "run" else None
