"""An interval so wide that the number says next to nothing; and how many examples would do."""

from collections.abc import Mapping
from math import ceil

from lossary.findings.model import Finding, Key, Rule, passed, skipped
from lossary.findings.sentences import few, metric_name
from lossary.findings.subject import Subject
from lossary.objectives import OBJECTIVES
from lossary.tables.model import Cell, Metric

__all__ = ["RULE"]

_ID = ("L205", "interval-too-wide")
# Half widths, in nats: larger than what separates the runs that people compare.
_OF_TOKENS, _OF_PAIRS = 0.2, 0.1
_WIDEST: Mapping[Metric, float] = {
    objective.loss: _OF_TOKENS if objective.is_of_tokens else _OF_PAIRS for objective in OBJECTIVES.values()
}


def _half(cell: Cell) -> float:
    return ((cell.high or 0.0) - (cell.low or 0.0)) / 2


def _conclude(subject: Subject, adjusted: Mapping[Key, float]) -> list[Finding]:
    del adjusted
    cells = [c for c in subject.table.cells if c.metric in _WIDEST and c.low is not None and c.high is not None]
    if not cells:
        why = "the numbers come without n, so that no interval is known"
        if not subject.table.is_imported:
            why = f"no {' or '.join(_WIDEST)} has an interval"
        return [skipped(_ID, "intervals", why)]
    wide = [cell for cell in cells if _half(cell) > _WIDEST[cell.metric]]
    if not wide:
        widest = max(cells, key=lambda cell: _half(cell) / _WIDEST[cell.metric])
        shown = f"widest: {widest.run}, {widest.dataset}, {metric_name(widest.metric)} ±{_half(widest):.3f}"
        return [passed(_ID, f"{len(cells)} intervals", shown, f"≤ ±{_WIDEST[widest.metric]}")]
    widest = max(wide, key=lambda cell: _half(cell) / _WIDEST[cell.metric])
    needed: dict[str, int] = {}
    for cell in wide:
        enough = ceil(cell.n * (_half(cell) / _WIDEST[cell.metric]) ** 2)
        needed[cell.dataset] = max(enough, needed.get(cell.dataset, 0))
    return [
        Finding(
            code=_ID[0],
            name=_ID[1],
            severity="info",
            subject=f"{len(wide)} of {len(cells)} cells",
            measured=few((f"{c.run} {c.dataset} {metric_name(c.metric)} ±{_half(c):.2f} (n = {c.n})" for c in wide), 6),
            gist=f"{len(wide)} of {len(cells)} losses are known too roughly to compare runs by them; the worst: "
            f"{widest.run}, {metric_name(widest.metric)} on {widest.dataset} ±{_half(widest):.2f} (n = {widest.n})",
            expected=", ".join(f"{metric_name(m)} ±{half}" for m, half in _WIDEST.items() if m in subject.table.losses),
            test="half the width of the 95 % interval",
            means="differences smaller than that cannot be seen in these cells",
            ranked=tuple(
                f"{name}: about {count:,} examples would do"
                for name, count in sorted(needed.items(), key=lambda item: -item[1])[:12]
            ),
            next_step="raise [validation] examples, or the share of these datasets",
            n=min(cell.n for cell in wide),
            runs=sorted({cell.run for cell in wide}),
            datasets=sorted(needed),
            evidence=[{"run": c.run, "dataset": c.dataset, "metric": c.metric, "half": _half(c)} for c in wide],
        )
    ]


RULE = Rule(
    code=_ID[0],
    name=_ID[1],
    about=f"95 % intervals wider than ±{_OF_TOKENS} nats a masked position or token, or ±{_OF_PAIRS} a pair.",
    conclude=_conclude,
)
