"""The verdict: one sentence, how many findings, the baseline, how much was measured."""

from dataclasses import dataclass

from lossary.findings.engine import Checked
from lossary.findings.model import SEVERITIES, Finding, Severity
from lossary.objectives import OBJECTIVES
from lossary.reports.text import half_width, metric_title, number, plain
from lossary.tables.model import Table, Weighting

__all__ = ["VerdictView", "verdict_view"]

_HEADLINES: tuple[Weighting, ...] = ("reported", "validation_share", "macro")


@dataclass(frozen=True, kw_only=True)
class VerdictView:
    """What a reader wants first; `facts` are names and values."""

    study: str
    sentence: str
    severity: Severity
    counts: list[tuple[Severity, int]]
    ignored: int
    facts: list[tuple[str, str]]


def verdict_view(table: Table, checked: Checked) -> VerdictView:
    """The verdict on a table and its findings."""
    worst = next((f for f in checked.findings if f.severity in ("error", "warning") and f.ignored is None), None)
    return VerdictView(
        study=plain(table.study),
        sentence=_sentence(table, worst),
        severity="pass" if worst is None else worst.severity,
        counts=[(severity, checked.count(severity)) for severity in SEVERITIES],
        ignored=sum(f.ignored is not None and f.severity in ("error", "warning", "info") for f in checked.findings),
        facts=_facts(table, checked),
    )


def _sentence(table: Table, worst: Finding | None) -> str:
    """The worst finding, if there is one to warn of; else the best run, and where nothing was learned."""
    if worst is not None:
        return plain(f"{worst.headline}.")
    best = _best(table)
    if best is None:
        return f"No run has an {metric_title(table.main_loss)} in total, and there is nothing to warn of."
    run, text = best
    standing = [cell for cell in table.cells if cell.standing is not None]
    below = sum(cell.standing == "below" for cell in standing)
    learned = f", and {below} of {len(standing)} losses are below their floor" if standing else ""
    return plain(f"Nothing to warn of: {run} has the lowest {metric_title(table.main_loss)}, {text}{learned}.")


def _best(table: Table) -> tuple[str, str] | None:
    for weighting in _HEADLINES:
        totals = [table.find_total(run.name, table.main_loss, weighting) for run in table.runs]
        having = [total for total in totals if total is not None and total.value is not None]
        if having:
            best = min(having, key=lambda total: total.value or 0.0)
            how = {"reported": "as reported", "validation_share": "by validation share", "macro": "macro"}[weighting]
            return best.run, f"{number(best.value, best.metric)} {half_width(best)}".strip() + f" {how}"
    return None


def _facts(table: Table, checked: Checked) -> list[tuple[str, str]]:
    cells = [cell for cell in table.cells if cell.metric == table.main_loss]
    measured = sum(cell.value is not None for cell in cells)
    examples = sum(row.validation_examples or 0 for row in table.datasets)
    facts = [
        ("coverage", f"{measured:,} of {len(cells):,} cells {'printed' if table.is_imported else 'measured'}"),
        ("baseline", plain(table.base) if table.base else "none: a single run" if len(table.runs) == 1 else "none"),
        ("size", f"{len(table.runs):,} runs × {len(table.datasets):,} datasets"),
    ]
    if not table.is_imported:
        facts.append(("validation", f"{examples:,} frozen examples"))
    for objective in OBJECTIVES.values():
        of_metric = [cell for cell in table.cells if cell.metric == objective.loss and cell.standing is not None]
        if of_metric:
            below = sum(cell.standing == "below" for cell in of_metric)
            title = f"{objective.title} below {'unigram' if objective.is_of_tokens else 'chance'}"
            facts.append((title, f"{below} of {len(of_metric)} cells"))
    if checked.tests:
        facts.append(("tests", f"Holm over {checked.tests:,}"))
    return facts
