"""SOP loss that is not shown to be below chance, though the examples would suffice to show it."""

from collections.abc import Mapping

from lossary.findings.model import Finding, Key, Rule, passed, skipped
from lossary.findings.subject import Subject
from lossary.tables.model import Cell

__all__ = ["RULE"]

_ID = ("L102", "sop-at-chance")
_PRINTED_MARGIN = 0.01
# Wider intervals say nothing about learning; `interval-too-wide` speaks of them.
_NARROW = 0.1


def _is_at_chance(subject: Subject, cell: Cell) -> bool:
    floor = subject.floor(cell) or 0.0
    if cell.low is None or cell.high is None:
        return abs((cell.value or 0.0) - floor) <= _PRINTED_MARGIN
    return cell.low <= floor <= cell.high and cell.high - cell.low < 2 * _NARROW


def _conclude(subject: Subject, adjusted: Mapping[Key, float]) -> list[Finding]:
    del adjusted  # Not to be shown below chance is no rejection.
    cells = subject.cells("sop_loss")
    if not cells:
        return [skipped(_ID, "SOP loss", "no run has an SOP loss")]
    findings = []
    for run in dict.fromkeys(cell.run for cell in cells):
        of_run = [cell for cell in cells if cell.run == run]
        stuck = [cell for cell in of_run if _is_at_chance(subject, cell)]
        if not stuck:
            findings.append(
                passed(_ID, run, f"{len(of_run)} of {len(of_run)} datasets off chance", "interval off chance")
            )
            continue
        findings.append(
            Finding(
                code=_ID[0],
                name=_ID[1],
                severity="warning" if len(stuck) == len(of_run) else "info",
                subject=f"{run} · {len(stuck)} of {len(of_run)} datasets",
                measured=", ".join(f"{cell.dataset} {cell.value:.3f}" for cell in stuck),
                expected=f"below {subject.floor(stuck[0]) or 0.0:.3f} (label entropy)",
                test=f"the 95 % interval holds chance and is narrower than ±{_NARROW}",
                means="the order of segments was not learned there",
                ranked=(
                    "trained too briefly, or with too high a learning rate for its width"
                    if len(stuck) == len(of_run)
                    else "documents without sentences in order: lists, single lines, shuffled text",
                    "segment ids or labels do not reach the head",
                ),
                next_step=f"lossary report {subject.where}: SOP curves by dataset",
                n=sum(cell.n for cell in stuck) or None,
                runs=[run],
                datasets=[cell.dataset for cell in stuck],
                evidence=[{"dataset": c.dataset, "value": c.value, "low": c.low, "high": c.high} for c in stuck],
            )
        )
    return findings


RULE = Rule(
    code=_ID[0],
    name=_ID[1],
    about=f"SOP loss whose 95 % interval holds the label entropy though it is narrower than ±{_NARROW} nats; a warning "
    "if that is so on all datasets of a run.",
    conclude=_conclude,
)
