"""The records of a diagnosis: causes, outcomes of checks, the verdict on a pair of sides.

A verdict is one of four. `confirmed`: a named fault, put into the reference, makes it do what the side does, within
measured noise. `stage only`: the side differs there, and nothing in the library reproduces it. `ruled out`: compared,
and equal within noise. `not compared`: nothing is said of it, and `needs` is what
it takes to compare it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from lossary.diagnosis.fit import Candidate

__all__ = ["STAGES", "Cause", "Diagnosis", "Gap", "Outcome", "Stage", "Verdict", "cause_sentence"]

Verdict = Literal["confirmed", "stage only", "ruled out", "not compared"]
Stage = Literal[
    "settings",
    "tokenizer",
    "examples",
    "stream",
    "validation",
    "weights",
    "forward",
    "loss",
    "gradients",
    "update",
    "schedule",
    "training",
    "dynamics",
    "evaluation",
]
STAGES: tuple[Stage, ...] = get_args(Stage)


@dataclass(frozen=True, kw_only=True)
class Cause:
    """A named fault of one side that an experiment has confirmed."""

    name: str
    says: str  # one sentence; it says where, too
    stage: Stage
    side: str
    values: Mapping[str, Any] = field(default_factory=dict)  # fitted: {"epsilon": 1e-5}
    datasets: tuple[str, ...] = ()  # empty: all
    ties: tuple[str, ...] = ()  # causes that the evidence does not tell from this one
    before: float  # distance of the side from the reference, in units of the tolerance
    after: float  # the same, once the fault is put into the reference


def cause_sentence(says: str, ties: Sequence[str]) -> str:
    """What a cause is, and which others the evidence does not tell from it."""
    or_else = f", or {' or '.join(ties)}: the evidence does not tell" if ties else ""
    return says.rstrip(".") + or_else


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one check found about one side."""

    check: str
    stage: Stage
    side: str
    part: str = ""  # of the check, where that part alone was not compared
    verdict: Verdict
    measured: str  # what was compared, and how far apart it is
    how: str = ""  # how the tolerance was measured
    causes: tuple[Cause, ...] = ()
    tried: tuple[Candidate, ...] = ()  # hypotheses put into the reference, best first
    ties: tuple[str, ...] = ()  # causes that this evidence does not tell from the leading one
    remains: str = ""  # what the causes do not explain
    facts: tuple[str, ...] = ()  # of a feed: which of them deviate
    distance: float = 0.0  # from the reference, in units of the tolerance
    needs: str = ""  # what it takes to compare it
    cost_s: float = 0.0  # CPU seconds of the side and of the reference
    evidence: Mapping[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The check, and the part of it that this is about."""
        return f"{self.check} ({self.part})" if self.part else self.check


@dataclass(frozen=True, kw_only=True)
class Gap:
    """What of the difference between two sides' numbers an experiment on both says."""

    title: str
    text: tuple[str, ...]
    rows: tuple[Mapping[str, Any], ...] = ()
    causes: tuple[Cause, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """All outcomes for one or two sides."""

    study: str
    sides: tuple[str, ...]
    outcomes: tuple[Outcome, ...]
    gaps: tuple[Gap, ...] = ()
    command: str = ""  # that replays it
    cost_s: float = 0.0

    @property
    def causes(self) -> tuple[Cause, ...]:
        """Each named cause once a side, in the order of the stages, the strongest evidence first."""
        found: dict[tuple[str, str], Cause] = {}
        for outcome in sorted(self.outcomes, key=lambda outcome: STAGES.index(outcome.stage)):
            for cause in outcome.causes:
                found.setdefault((cause.side, cause.name), cause)
        for gap in self.gaps:
            for cause in gap.causes:
                found.setdefault((cause.side, cause.name), cause)
        return tuple(found.values())

    @property
    def open(self) -> tuple[Outcome, ...]:
        """Outcomes that say where something differs, but not why."""
        return tuple(outcome for outcome in self.outcomes if outcome.verdict == "stage only" or outcome.remains)

    @property
    def left_out(self) -> tuple[str, ...]:
        """What was not compared: checks, and parts of others as `check (part)`."""
        return tuple(dict.fromkeys(outcome.title for outcome in self.of("not compared")))

    def of(self, verdict: Verdict) -> tuple[Outcome, ...]:
        """The outcomes with one verdict."""
        return tuple(outcome for outcome in self.outcomes if outcome.verdict == verdict)
