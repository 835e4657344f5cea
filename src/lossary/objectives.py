"""Objectives: what is predicted of an example, and what is measured of it. One definition; all else follows from it.

    OBJECTIVES["mlm"].metrics        # ("mlm_loss", "mlm_accuracy", "mlm_bits_per_byte")

A score is a sum of nats over the targets of one example under one objective. Where an example has many targets (hidden
pieces, next tokens), a dataset's loss is Σ nats / Σ targets, and its bits a byte are Σ nats / Σ bytes / ln 2, over the
bytes of the targets, however a vocabulary cuts the text. Where it has one (the order of two segments), it is the mean.
"""

from collections.abc import Collection
from dataclasses import dataclass
from math import log

__all__ = ["OBJECTIVES", "Objective", "metrics_of", "objective_of"]


@dataclass(frozen=True, kw_only=True)
class Objective:
    """Something that a model predicts of an example."""

    name: str
    title: str
    targets: str  # what is predicted, in the plural
    is_of_tokens: bool  # whether an example has many targets, which have bytes
    is_masked: bool  # whether its inputs have hidden pieces, as frozen examples do
    lacking: str  # why a run has no scores of it
    nothing: str  # why a dataset has none
    chance_nats: float | None = None  # of answering without looking, where that is known
    floor: str | None = None  # the entry of a frozen part that says what knowing no more than frequencies costs

    @property
    def target(self) -> str:
        """What is predicted, in the singular."""
        return self.targets.removesuffix("s")

    @property
    def loss(self) -> str:
        """The metric of its loss."""
        return f"{self.name}_loss"

    @property
    def accuracy(self) -> str:
        """The metric of its accuracy."""
        return f"{self.name}_accuracy"

    @property
    def metrics(self) -> tuple[str, ...]:
        """Its metrics, the loss first."""
        found = (self.loss, self.accuracy)
        return (*found, f"{self.name}_bits_per_byte") if self.is_of_tokens else found


OBJECTIVES: dict[str, Objective] = {
    objective.name: objective
    for objective in (
        Objective(
            name="mlm",
            title="MLM",
            targets="masked positions",
            is_of_tokens=True,
            is_masked=True,
            lacking="the run was not scored on hidden words",
            nothing="no validation example",
            floor="unigram_entropy_nats",
        ),
        Objective(
            name="clm",
            title="CLM",
            targets="next tokens",
            is_of_tokens=True,
            is_masked=False,
            lacking="the run was not scored on next tokens",
            nothing="no validation example",
        ),
        Objective(
            name="sop",
            title="SOP",
            targets="pairs",
            is_of_tokens=False,
            is_masked=True,
            lacking="the checkpoint has no sentence-order head",
            nothing="no example has two sentences",
            chance_nats=log(2),
            floor="sop_entropy_nats",
        ),
        Objective(
            name="nsp",
            title="NSP",
            targets="pairs",
            is_of_tokens=False,
            is_masked=True,
            lacking="the checkpoint has no next-sentence head",
            nothing="no example has two sentences",
            chance_nats=log(2),
        ),
    )
}


def metrics_of(objectives: Collection[str]) -> list[str]:
    """The metrics of some objectives, in the order in which tables have them."""
    return [metric for name, objective in OBJECTIVES.items() if name in objectives for metric in objective.metrics]


def objective_of(metric: str) -> Objective | None:
    """The objective that a metric is of, by its name; None where the name says none."""
    return OBJECTIVES.get(metric.partition("_")[0])
