"""Run against run: paired differences to the base, then the runs and the settings in which they differ."""

from dataclasses import dataclass
from typing import Any

from lossary.reports.equality import answer_text
from lossary.reports.html.charts.forest import forest_chart
from lossary.reports.html.charts.theme import ChartView
from lossary.reports.html.links import Ids, Links
from lossary.reports.html.views.losses import RunHead, run_heads
from lossary.reports.text import TOTAL, metric_title, plain, short_count, trained_on
from lossary.study import Study
from lossary.tables.comparability import Check, comparability, differing_settings, run_settings
from lossary.tables.equality import decide
from lossary.tables.load import OpenTable
from lossary.tables.model import RunColumn, Table

__all__ = ["PairsView", "pairs_view"]


@dataclass(frozen=True, kw_only=True)
class RunRow:
    """What is known of a run; `facts` are of the columns."""

    id: str
    head: RunHead
    facts: list[str]


@dataclass(frozen=True, kw_only=True)
class PairsView:
    """The whole section; `checks` are what runs and base do not have in common, or nobody recorded."""

    base: str | None
    why_none: str
    charts: list[ChartView]
    notes: list[str]
    columns: list[str]
    runs: list[RunRow]
    checks: list[tuple[str, str, str, str]]  # run, what, of the base, of the run
    all_same: list[str]
    settings: list[
        tuple[str, list[tuple[str, bool]]]
    ]  # name; value of each run, and whether it is another than the base's
    setting_runs: list[str]
    # Where the study file asks for equality: run, metric, dataset, difference, answer and its words.
    decisions: list[tuple[str, str, str, str, str, str]]


def pairs_view(opened: OpenTable, links: Links, ids: Ids) -> PairsView:
    """The section of an opened table; differences are those the table has."""
    table = opened.table
    found = [forest_chart(table, metric) for metric in table.compared]
    charts = [chart for chart in found if chart is not None]
    checks, all_same = _checks(opened)
    settings, names = _settings(opened)
    columns, rows = _runs(opened, links, ids)
    return PairsView(
        base=None if table.base is None else plain(table.base),
        why_none="" if charts else _why_none(table),
        charts=[chart for chart, _ in charts],
        notes=list(dict.fromkeys(note for _, note in charts if note)),
        columns=columns,
        runs=rows,
        checks=checks,
        all_same=all_same,
        settings=settings,
        setting_runs=names,
        decisions=_decisions(opened),
    )


def _decisions(opened: OpenTable) -> list[tuple[str, str, str, str, str, str]]:
    margins = opened.study.check.margins if opened.study is not None else {}
    return [
        (
            plain(found.run),
            metric_title(found.metric),
            TOTAL if found.dataset is None else plain(found.dataset),
            "—" if found.value is None else f"{found.value:+.4f}",
            found.answer or "",
            plain(answer_text(found)),
        )
        for found in (decide(opened.table, margins) if margins else [])
    ]


def _why_none(table: Table) -> str:
    if table.is_imported:
        return "Printed numbers have no examples to pair: see the Δ of the table."
    if len(table.runs) < 2:
        return "A single run: there is none to compare it with."
    return "No run has scores on the examples of another one."


def _runs(opened: OpenTable, links: Links, ids: Ids) -> tuple[list[str], list[RunRow]]:
    """Runs with the columns that any of them fills."""
    table = opened.table
    values = [_facts(opened.study, run) for run in table.runs]
    columns = [name for name in values[0] if any(row[name] for row in values)] if values else []
    rows = [
        RunRow(id=ids.run(run.name), head=head, facts=[plain(row[name] or "—") for name in columns])
        for run, head, row in zip(table.runs, run_heads(table, links), values, strict=True)
    ]
    return columns, rows


def _facts(study: Study | None, run: RunColumn) -> dict[str, str]:
    return {
        "table": run.section or "",
        "backend": run.backend or "",
        "size": run.size or "",
        "step": "" if run.step is None else short_count(run.step),
        "tokens": "" if run.tokens is None else short_count(run.tokens),
        "trained on": trained_on(run, study) or "",
        "precision": run.precision or "",
        "device": run.device or "",
        "seed": "" if run.seed is None else str(run.seed),
    }


def _checks(opened: OpenTable) -> tuple[list[tuple[str, str, str, str]], list[str]]:
    """What each run does not have in common with the base, and what all have."""
    table, _, folder = opened
    if table.base is None:
        return [], []
    others = [run.name for run in table.runs if run.name != table.base]
    differing: list[tuple[str, Check]] = []
    same: list[set[str]] = []
    for run in others:
        checks = comparability((table, table.base, folder), (table, run, folder)).checks
        same.append({check.what for check in checks if check.verdict == "same"})
        differing += [(run, check) for check in checks if check.verdict != "same"]
    rows = [(plain(run), c.what, plain(c.first), plain(c.second)) for run, c in differing]
    return rows, sorted(set.intersection(*same)) if same else []


def _settings(opened: OpenTable) -> tuple[list[tuple[str, list[tuple[str, bool]]]], list[str]]:
    table, study, folder = opened
    if study is None:
        return [], []
    records: dict[str, dict[str, Any]] = {run.name: run_settings(folder, run.name) for run in table.runs}
    names = [run for run, record in records.items() if record]
    if len(names) < 2:
        return [], []
    base = names.index(table.base) if table.base in names else 0
    rows = [
        (plain(setting.name), [(plain(value), value != setting.values[base]) for value in setting.values])
        for setting in differing_settings([records[name] for name in names])
    ]
    return rows, [plain(name) for name in names]
