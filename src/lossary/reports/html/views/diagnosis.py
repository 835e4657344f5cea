"""Diagnoses of a study: hypothesis, what speaks for and against it, the experiment, its result.

They are read from what `lossary diagnose` wrote (`diagnosis/*.json`): a page never runs an experiment.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lossary.diagnosis.model import cause_sentence
from lossary.files import read_json
from lossary.findings.engine import Checked
from lossary.folder import StudyFolder
from lossary.reports.diagnosis import SCHEMA, ruled_out
from lossary.reports.text import plain

__all__ = ["DiagnosesView", "DiagnosisView", "diagnoses_view"]

_MOST_TRIED = 3


@dataclass(frozen=True, kw_only=True)
class Hypothesis:
    """A claim of a diagnosis and what became of it."""

    side: str
    stage: str
    says: str
    name: str
    for_: str
    against: str
    experiment: str
    result: str
    remains: str
    replay: str


@dataclass(frozen=True, kw_only=True)
class GapView:
    """What an experiment on both sides says of the difference between them."""

    title: str
    text: list[str]
    columns: list[str]
    rows: list[list[str]]


@dataclass(frozen=True, kw_only=True)
class DiagnosisView:
    """One diagnosis; `ruled_out` and `unseen` are side, checks, and why."""

    sides: list[str]
    headline: str
    hypotheses: list[Hypothesis]
    gaps: list[GapView]
    ruled_out: list[tuple[str, list[str]]]
    unseen: list[tuple[str, list[str], str]]
    command: str


@dataclass(frozen=True, kw_only=True)
class DiagnosesView:
    """All diagnoses; `suggested` are commands that findings propose."""

    diagnoses: list[DiagnosisView]
    suggested: list[str]
    notes: list[str]


def diagnoses_view(folder: StudyFolder, checked: Checked) -> DiagnosesView:
    """What was diagnosed in a folder, or what might be."""
    found, notes = [], []
    for path in sorted(folder.diagnosis.glob("*.json")):
        value = read_json(path)
        if isinstance(value, dict) and value.get("schema") == SCHEMA and "outcomes" in value:
            found.append(_diagnosis(value))
        else:
            notes.append(f"{plain(path.name)} is of another version of lossary; diagnose again.")
    steps = [step for finding in checked.findings if finding.ignored is None for step in [finding.next_step]]
    suggested = list(dict.fromkeys(plain(step) for step in steps if step.startswith("lossary diagnose")))
    return DiagnosesView(diagnoses=found, suggested=suggested, notes=notes)


def _diagnosis(value: Mapping[str, Any]) -> DiagnosisView:
    outcomes = value["outcomes"]
    sides = list(dict.fromkeys(outcome["side"] for outcome in outcomes))
    equal = [(plain(side), ruled_out(side, outcomes)) for side in sides]
    unseen: dict[tuple[str, str], list[str]] = {}
    for outcome in outcomes:
        if outcome["verdict"] == "not compared":
            unseen.setdefault((outcome["side"], outcome["needs"]), []).append(
                plain(f"{outcome['check']} ({outcome['part']})" if outcome["part"] else outcome["check"])
            )
    return DiagnosisView(
        sides=[plain(side) for side in value["sides"]],
        headline=plain(value["headline"]),
        hypotheses=[
            hypothesis
            for outcome in outcomes
            if outcome["verdict"] in ("confirmed", "stage only")
            for hypothesis in _hypotheses(outcome)
        ],
        gaps=[_gap(gap) for gap in value["gaps"]],
        ruled_out=[(side, [plain(check) for check in checks]) for side, checks in equal if checks],
        unseen=[(plain(side), checks, plain(needs)) for (side, needs), checks in unseen.items()],
        command=plain(value["command"]),
    )


def _hypotheses(outcome: Mapping[str, Any]) -> list[Hypothesis]:
    """A row for each cause that an outcome names; one that says the stage only where it names none."""
    named = outcome["causes"] or [None]
    return [_hypothesis(outcome, cause) for cause in named]


def _hypothesis(outcome: Mapping[str, Any], cause: Mapping[str, Any] | None) -> Hypothesis:
    if cause is None:
        says, name, experiment = f"differs in {outcome['stage']}, cause not known", "", ""
    else:
        says = cause_sentence(cause["says"], cause["ties"])
        name = " or ".join([cause["name"], *cause["ties"]])
        experiment = (
            f"the fault put into the reference: {_times(cause['before'])} the tolerance "
            f"becomes {_times(cause['after'])}"
        )
    return Hypothesis(
        side=plain(outcome["side"]),
        stage=outcome["stage"],
        says=plain(says),
        name=plain(name),
        for_=plain(outcome["measured"]),
        against=plain(_against(outcome)),
        experiment=plain(experiment),
        result=outcome["verdict"],
        remains=plain(outcome["remains"]),
        replay=plain(outcome["replay"]),
    )


def _against(outcome: Mapping[str, Any]) -> str:
    named = [cause["name"] for cause in outcome["causes"]]
    others = [tried for tried in outcome["tried"] if not named or tried["names"] != named]
    shown = [f"{'+'.join(tried['names'])} leaves {_times(tried['residual'])}" for tried in others[:_MOST_TRIED]]
    more = [f"{len(others)} others tried"] if len(others) > _MOST_TRIED else []
    return "; ".join([*shown, *more])


def _times(value: float | str) -> str:
    """A distance in units of the tolerance; infinite ones are kept as text."""
    if isinstance(value, str):
        return "beyond all measure"
    return f"{value:,.2g} ×" if value < 100 else f"{value:,.0f} ×"


def _gap(gap: Mapping[str, Any]) -> GapView:
    columns = list(gap["rows"][0]) if gap["rows"] else []
    return GapView(
        title=plain(gap["title"]),
        text=[plain(text) for text in gap["text"]],
        columns=[plain(name) for name in columns],
        rows=[[_cell(row.get(name)) for name in columns] for row in gap["rows"]],
    )


def _cell(value: Any) -> str:
    if value is None:
        return "—"
    return f"{value:.4g}" if isinstance(value, float) else plain(str(value))
