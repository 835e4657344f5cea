"""The table as Markdown: datasets and numbers are links where the study gives them; everything shown is escaped."""

import re
from collections.abc import Sequence
from urllib.parse import quote

from lossary.reports.text import (
    WEIGHTING_TITLES,
    half_width,
    metric_title,
    percent,
    plain,
    safe_link,
    short_count,
    shown,
    step_mark,
    total_counts,
    total_mark,
    weightings,
)
from lossary.tables.model import Cell, Metric, Table, Total, Weighting

__all__ = ["escape_markdown", "markdown_link", "markdown_table"]

_SPECIAL = re.compile(r"[\\`*\[\]|~$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|^[#+\-=>]")
# A number is a list's only before a full stop and white space; it is the full stop that can be escaped.
_LISTED = re.compile(r"^(\d+)([.)])(?=\s|$)")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def escape_markdown(text: str) -> str:
    """Text that stands as it is: no markup, HTML or table cell can come of it."""
    escaped = _LISTED.sub(r"\1\\\2", _SPECIAL.sub(lambda match: "\\" + match[0], plain(text)))
    return re.sub("[&<>]", lambda match: _ENTITIES[match[0]], escaped)


def markdown_link(text: str, link: str | None) -> str:
    """A link, or the bare text if the link is none that a page may hold."""
    target = safe_link(link)
    return f"[{text}]({quote(target, safe=':/?#@!$&*+,;=%~-._')})" if target else text


def markdown_table(
    table: Table, runs: Sequence[str], metrics: Sequence[Metric] | None = None, *, intervals: bool = True
) -> str:
    """Datasets down; rows, shares and the metrics of runs across; totals below."""
    measured = {(cell.run, cell.metric) for cell in table.cells if cell.value is not None}
    columns = [(run, metric) for run in runs for metric in metrics or table.shown if (run, metric) in measured]
    head = ["dataset", "train rows", "train %", "validation %"]
    head += [f"{escape_markdown(run)} {metric_title(metric)}" for run, metric in columns]
    lines = ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    for row in table.datasets:
        cells = [table.cell(run, row.name, metric) for run, metric in columns]
        values = [_value(table, cell, intervals=intervals) for cell in cells]
        first = markdown_link(escape_markdown(row.name), row.link)
        shares = [short_count(row.train_rows), percent(row.train_share), percent(row.validation_share)]
        lines.append("| " + " | ".join([first, *shares, *values]) + " |")
    lines += [_total_line(table, columns, weighting, intervals=intervals) for weighting in weightings(table)]
    return "\n".join(lines)


def _total_line(table: Table, columns: list[tuple[str, Metric]], weighting: Weighting, *, intervals: bool) -> str:
    headline = weighting == weightings(table)[0]
    totals = [table.find_total(run, metric, weighting) for run, metric in columns]
    texts = ["—" if total is None else _value(table, total, intervals=intervals) for total in totals]
    title = f"total {WEIGHTING_TITLES[weighting]}"
    first = [f"**{title}**", *total_counts(table)] if headline else [title, "", "", ""]
    return "| " + " | ".join([*first, *texts]) + " |"


def _value(table: Table, cell: Cell | Total, *, intervals: bool) -> str:
    text = markdown_link(
        escape_markdown(shown(cell, imported=table.is_imported)), cell.link if cell.value is not None else None
    )
    text += total_mark(cell) if isinstance(cell, Total) else ""
    return " ".join(part for part in (text, step_mark(cell), half_width(cell) if intervals else "") if part)
