"""Results in a notebook: HTML without scripts or a style sheet of its own, readable on a light and on a dark ground."""

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from lossary.findings.engine import Checked
from lossary.findings.model import Finding
from lossary.reports.findings import summary
from lossary.reports.text import (
    WEIGHTING_TITLES,
    delta_text,
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
from lossary.tables.model import Cell, DatasetRow, Metric, Table, Total, Weighting

__all__ = ["findings_html", "link_html", "table_html", "text_html"]

_Column = tuple[str, Metric]
_NUMBER = "white-space:nowrap;vertical-align:top"
_LEFT, _QUIET, _SCROLL = "text-align:left", "opacity:.65", "overflow-x:auto;max-width:100%"
_SHOWN = ("error", "warning", "info")


def table_html(table: Table) -> str:
    """Datasets down; shares, then runs and metrics across; totals below, notes folded."""
    measured = {(cell.run, cell.metric) for cell in table.cells if cell.value is not None}
    columns = [(run.name, metric) for run in table.runs for metric in table.shown if (run.name, metric) in measured]
    body = "".join(_dataset_row(table, row, columns) for row in table.datasets)
    foot = "".join(_total_row(table, weighting, columns) for weighting in weightings(table))
    base = f" · Δ to <bdi>{_text(table.base)}</bdi>" if table.base else ""
    caption = f'<caption style="{_LEFT}"><b><bdi>{_text(table.study)}</bdi></b>{base}</caption>'
    grid = f"<table>{caption}<thead>{_heads(columns)}</thead><tbody>{body}</tbody><tfoot>{foot}</tfoot></table>"
    return f'<div style="{_SCROLL}">{grid}</div>{_folded("notes", table.notes)}'


def findings_html(checked: Checked) -> str:
    """A row a finding, what it means and what to do; what passed or was skipped is counted."""
    found = [finding for finding in checked.findings if finding.severity in _SHOWN and finding.ignored is None]
    rows = "".join(_finding_row(finding) for finding in found)
    heads = "".join(f'<th style="{_LEFT}">{name}</th>' for name in ("", "rule", "finding", "next step"))
    grid = f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>" if found else ""
    return f'<p>{_text(summary(checked))}</p><div style="{_SCROLL}">{grid}</div>'


def text_html(text: str) -> str:
    """Text of a terminal, in its columns."""
    return f'<div style="{_SCROLL}"><pre>{escape(text)}</pre></div>'


def link_html(page: Path, note: str | None) -> str:
    """A link to a file, relative to where the notebook runs if it lies below."""
    here = Path.cwd()
    path = page.resolve()
    target = path.relative_to(here) if path.is_relative_to(here) else path
    said = f" <span>{_text(note)}</span>" if note else ""
    return f'<a href="{escape(quote(str(target)))}" target="_blank">{_text(str(page))}</a>{said}'


def _heads(columns: Sequence[_Column]) -> str:
    runs = [run for run, _ in columns]
    spans = [(run, runs.count(run)) for run in dict.fromkeys(runs)]
    above = "".join(f'<th colspan="{span}"><bdi>{_text(run)}</bdi></th>' for run, span in spans)
    names = ["train rows", "train %", "val %", *(metric_title(metric) for _, metric in columns)]
    below = "".join(f"<th>{_text(name)}</th>" for name in names)
    return f'<tr><th colspan="4"></th>{above}</tr><tr><th style="{_LEFT}">dataset</th>{below}</tr>'


def _dataset_row(table: Table, row: DatasetRow, columns: Sequence[_Column]) -> str:
    shares = [short_count(row.train_rows), percent(row.train_share), percent(row.validation_share)]
    cells = [
        _number(table, table.cell(run, row.name, metric), _delta(table, run, row.name, metric))
        for run, metric in columns
    ]
    head = f'<th style="{_LEFT}">{_linked(f"<bdi>{_text(row.name)}</bdi>", row.link)}</th>'
    return f"<tr>{head}{''.join(f'<td>{share}</td>' for share in shares)}{''.join(cells)}</tr>"


def _total_row(table: Table, weighting: Weighting, columns: Sequence[_Column]) -> str:
    is_headline = weighting == weightings(table)[0]
    cells = []
    for run, metric in columns:
        delta = _delta(table, run, None, metric) if weighting == "validation_share" else ""
        cells.append(_number(table, table.find_total(run, metric, weighting), delta))
    shares = total_counts(table) if is_headline else ["", "", ""]
    head = f'<th style="{_LEFT}">total {WEIGHTING_TITLES[weighting]}</th>'
    return f"<tr>{head}{''.join(f'<td>{share}</td>' for share in shares)}{''.join(cells)}</tr>"


def _delta(table: Table, run: str, dataset: str | None, metric: Metric) -> str:
    return delta_text(table.delta(run, dataset, metric)).strip()


def _number(table: Table, cell: Cell | Total | None, delta: str) -> str:
    if cell is None:
        return "<td></td>"
    if cell.value is None:
        return f'<td title="{escape(plain(cell.reason or ""))}">—</td>'
    number = _linked(_text(shown(cell, imported=table.is_imported)), cell.link)
    mark = step_mark(cell) if isinstance(cell, Cell) else total_mark(cell)
    beside = " ".join(part for part in (half_width(cell), mark) if part)
    number += f' <small style="{_QUIET}">{_text(beside)}</small>' if beside else ""
    number += f"<br/><small>Δ {_text(delta)}</small>" if delta else ""
    reason = f' title="{escape(plain(cell.reason))}"' if cell.reason else ""
    return f'<td style="{_NUMBER}"{reason}>{number}</td>'


def _finding_row(finding: Finding) -> str:
    said = _text(finding.gist or finding.measured)
    means = f'<br/><small style="{_QUIET}">{_text(finding.means)}</small>' if finding.means else ""
    texts = (finding.severity, f"{finding.name} ({finding.code})")
    first = "".join(f'<td style="{_LEFT}">{_text(text)}</td>' for text in texts)
    return f'<tr>{first}<td style="{_LEFT}">{said}{means}</td><td style="{_LEFT}">{_text(finding.next_step)}</td></tr>'


def _folded(title: str, lines: Iterable[str]) -> str:
    items = "".join(f"<li>{_text(line)}</li>" for line in lines)
    return f"<details><summary>{title}</summary><ul>{items}</ul></details>" if items else ""


def _linked(html: str, link: str | None) -> str:
    target = safe_link(link)
    return f'<a href="{escape(target)}" rel="noreferrer" style="color:inherit">{html}</a>' if target else html


def _text(text: str) -> str:
    return escape(plain(text))
