"""Training drew datasets in other shares than planned."""

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
    columns = {run.name: run for run in subject.table.runs}
    findings = []
    for run, realised in subject.realised.items():
        trained = columns[run].datasets or list(realised)
        planned = {row.name: row.train_share or 0.0 for row in subject.table.datasets if row.name in trained}
        total = sum(planned.values())
        gaps = {name: realised.get(name, 0.0) - share / total for name, share in planned.items()} if total else {}
        if not gaps:
            continue
        worst = max(gaps, key=lambda name: abs(gaps[name]))
        shown = f"{worst} {100 * realised.get(worst, 0.0):.1f} %, planned {100 * planned[worst] / total:.1f} %"
        if abs(gaps[worst]) <= _TOLERANCE:
            findings.append(passed(_ID, run, shown, f"within {100 * _TOLERANCE:g} points"))
            continue
        findings.append(
            Finding(
                code=_ID[0],
                name=_ID[1],
                severity="warning",
                subject=run,
                measured=shown,
                gist=f"{run}: {worst} was {100 * realised.get(worst, 0.0):.1f} % of the examples drawn in training, "
                f"and {100 * planned[worst] / total:.1f} % was planned",
                expected=f"within {100 * _TOLERANCE:g} points of the plan",
                test="examples counted in the step records",
                means="a dataset was starved or doubled; its loss says less about the model than about its share",
                ranked=("the run stopped or went on with other shares", "the mixture was changed under way"),
                next_step=f"lossary compare {subject.peer(run)} {run} {subject.where}: realised shares",
                runs=[run],
                datasets=[worst],
                evidence=[{"dataset": name, "difference": gap} for name, gap in gaps.items()],
            )
        )
    return findings


RULE = Rule(
    code=_ID[0],
    name=_ID[1],
    about=f"A dataset's share of the examples drawn in training is off the plan by more than {100 * _TOLERANCE:g} "
    "points.",
    conclude=_conclude,
)
