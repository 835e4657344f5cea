"""Training drew datasets in other shares than planned: those that the run was begun with, whatever is planned now."""

from collections.abc import Mapping

from lossary.findings.model import Finding, Key, Rule, passed, skipped
from lossary.findings.subject import Subject

__all__ = ["RULE"]

_ID = ("L203", "shares-not-as-planned")
_TOLERANCE = 0.005


def _conclude(subject: Subject, adjusted: Mapping[Key, float]) -> list[Finding]:
    del adjusted
    if not subject.realised:
        return [skipped(_ID, "shares", "no run has steps on record")]
    findings = []
    for run, realised in subject.realised.items():
        planned = _planned(subject, run)
        if not planned:
            findings.append(skipped(_ID, run, "the shares that it was begun with are not on record"))
            continue
        gaps = {name: realised.get(name, 0.0) - planned.get(name, 0.0) for name in {**planned, **realised}}
        allowed = {name: _allowed(planned.get(name, 0.0), len(gaps), subject.drawn.get(run)) for name in gaps}
        worst = max(gaps, key=lambda name: abs(gaps[name]) - allowed[name])
        within = f"within {100 * allowed[worst]:.2g} points"
        drawn, asked = 100 * realised.get(worst, 0.0), 100 * planned.get(worst, 0.0)
        shown = f"{worst} {drawn:.1f} %, planned {asked:.1f} %"
        if abs(gaps[worst]) <= allowed[worst]:
            findings.append(passed(_ID, run, shown, within))
            continue
        findings.append(
            Finding(
                code=_ID[0],
                name=_ID[1],
                severity="warning",
                subject=run,
                measured=shown,
                gist=f"{run}: {worst} was {drawn:.1f} % of the examples drawn in training, "
                f"and {asked:.1f} % was planned",
                expected=f"{within} of the plan",
                test="examples counted in the step records",
                means="a dataset was starved or doubled; its loss says less about the model than about its share",
                ranked=("the run stopped or went on with other shares", "the mixture was changed under way"),
                next_step=f"{subject.command('compare', subject.peer(run), run)}: realised shares",
                runs=[run],
                datasets=[worst],
                evidence=[{"dataset": name, "difference": gap} for name, gap in gaps.items()],
            )
        )
    return findings


def _allowed(share: float, datasets: int, examples: int | None) -> float:
    """How far a share may be off: few examples cannot realise it better than the mixture lays them out.

    Of any n examples in a row share · n are of a dataset, to within 1 + share · (D - 2) of D datasets.
    """
    return max(_TOLERANCE, (1.0 + share * max(0, datasets - 2)) / examples) if examples else _TOLERANCE


def _planned(subject: Subject, run: str) -> dict[str, float]:
    """The shares that a run was begun with, adding up to 1; empty if nobody knows them any more."""
    begun = subject.begun.get(run)
    if begun is not None and begun.shares is not None:
        return begun.shares
    shares = {row.name: row.train_share or 0.0 for row in subject.table.datasets}
    column = next(column for column in subject.table.runs if column.name == run)
    trained = column.datasets or list(shares)
    whole = sum(shares.get(name, 0.0) for name in trained)
    # Of a dataset that left the study nothing tells its share: those of the others would be too large.
    return {name: shares[name] / whole for name in trained} if whole and all(name in shares for name in trained) else {}


RULE = Rule(
    code=_ID[0],
    name=_ID[1],
    about=f"A dataset's share of the examples drawn in training is off the plan by more than {100 * _TOLERANCE:g} "
    "points, and by more than so few examples leave open.",
    conclude=_conclude,
)
