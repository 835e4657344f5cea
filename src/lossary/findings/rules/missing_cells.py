"""Cells without a number; where a printed total and the other cells allow it, the value that the total implies."""

from collections.abc import Mapping

from lossary.findings.model import Finding, Key, Rule, passed
from lossary.findings.rules.total_not_weighted_sum import Weights, best_weights
from lossary.findings.sentences import few, metric_name
from lossary.findings.subject import Subject
from lossary.results.importers.model import ALL
from lossary.tables.model import Cell, Metric, Table

__all__ = ["RULE"]

_ID = ("L204", "missing-cells")


def _conclude(subject: Subject, adjusted: Mapping[Key, float]) -> list[Finding]:
    del adjusted
    findings: list[Finding] = []
    measured = {(cell.run, cell.metric) for cell in subject.table.cells if cell.value is not None}
    best = best_weights(subject) if subject.table.is_imported else None
    expected = {metric: _expected(subject.table, metric) for metric in subject.table.metrics}
    for run in subject.table.runs:
        for metric in subject.table.shown:
            if (run.name, metric) not in measured:
                continue
            cells = [subject.table.cell(run.name, name, metric) for name in expected[metric]]
            missing = [cell for cell in cells if cell.value is None]
            if missing:
                findings.append(_finding(subject, cells, missing, best))
    count = len(subject.table.runs) * len(subject.table.datasets)
    return findings or [passed(_ID, "cells", f"no cell of {count} places is missing", "none missing")]


def _expected(table: Table, metric: Metric) -> list[str]:
    """Datasets that ought to have the metric. Of an import: those that any run has it of, and empty rows."""
    names = [row.name for row in table.datasets]
    if not table.has_own_metrics:
        return names
    having = {cell.dataset for cell in table.cells if cell.metric == metric and cell.value is not None}
    anything = {cell.dataset for cell in table.cells if cell.value is not None}
    return [name for name in names if name != ALL and (name in having or name not in anything)]


def _finding(subject: Subject, cells: list[Cell], missing: list[Cell], best: tuple[Weights, list] | None) -> Finding:  # type: ignore[type-arg]
    first = cells[0]
    names = [cell.dataset for cell in missing]
    total = subject.table.find_total(first.run, first.metric, "reported")
    implied, test = "", "cells without a number"
    if len(missing) == 1 and best is not None and total is not None and total.value is not None:
        weights, fits = best
        error = max((abs(fit.error) for fit in fits if abs(fit.error) < 0.05), default=0.0)
        weight = weights.weight[names[0]]
        rest = sum(weights.weight[cell.dataset] * (cell.value or 0.0) for cell in cells if cell.value is not None)
        value, half = (total.value - rest) / weight, error * abs(total.value) / weight
        scale, unit = (100.0, " %") if first.metric.endswith("accuracy") else (1.0, "")
        implied = (
            f"the printed total implies about {scale * value:.{1 if unit else 2}f}{unit} "
            f"(±{scale * half:.{1 if unit else 2}f}{unit}, as the other totals are off)"
        )
        test = f"(total − Σ weight · value)/weight by {weights.name}"
    reasons = sorted({cell.reason for cell in missing if cell.reason})
    return Finding(
        code=_ID[0],
        name=_ID[1],
        severity="warning" if subject.table.is_imported else "info",
        subject=f"{first.run} · {metric_name(first.metric)}",
        measured=f"no number for {few(names)}" + (f" ({'; '.join(reasons[:3])})" if reasons else ""),
        gist=f"{first.run}: {metric_name(first.metric)} is missing on {few(names, 3)}",
        expected="a number in every cell, or a total that says what it leaves out",
        test=test,
        means=implied or "the total leaves these datasets out: it speaks for the others only",
        next_step=subject.command("evaluate") if not subject.table.is_imported else "fill the cell in",
        runs=[first.run],
        datasets=names,
        evidence=[{"dataset": cell.dataset, "value": cell.value} for cell in cells],
    )


RULE = Rule(
    code=_ID[0],
    name=_ID[1],
    about="Cells without a number in a column that has others, with the value that a printed total implies for one.",
    conclude=_conclude,
)
