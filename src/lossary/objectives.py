"""Objectives: what is predicted of an example, and what is measured of it. One definition; all else follows from it.

    OBJECTIVES["mlm"].metrics        # ("mlm_loss", "mlm_accuracy", "mlm_bits_per_byte")

A score is a sum of nats over the targets of one example under one objective. Where an example has many targets (hidden
pieces, next tokens), a dataset's loss is Σ nats / Σ targets, and its bits a byte are Σ nats / Σ bytes / ln 2, over the
bytes of the targets, however a vocabulary cuts the text. Where it has one (the order of two segments), it is the mean.
"""

from dataclasses import dataclass
from math import log

__all__ = ["OBJECTIVES", "Objective", "objective_of"]


@dataclass(frozen=True, kw_only=True)
class Objective:
    """Something that a model predicts of an example."""

    name: str
    title: str
    targets: str  # what is predicted, in the plural
    is_of_tokens: bool  # whether an example has many targets, which have bytes
    chance_nats: float | None = None  # of answering without looking, where that is known

    @property
    def metrics(self) -> tuple[str, ...]:
        """Its metrics, the loss first."""
        found = (f"{self.name}_loss", f"{self.name}_accuracy")
        return (*found, f"{self.name}_bits_per_byte") if self.is_of_tokens else found


OBJECTIVES: dict[str, Objective] = {
    objective.name: objective
    for objective in (
        Objective(name="mlm", title="MLM", targets="hidden pieces", is_of_tokens=True),
        Objective(name="clm", title="CLM", targets="next tokens", is_of_tokens=True),
        Objective(name="sop", title="SOP", targets="pairs", is_of_tokens=False, chance_nats=log(2)),
        Objective(name="nsp", title="NSP", targets="pairs", is_of_tokens=False, chance_nats=log(2)),
    )
}


def objective_of(metric: str) -> Objective | None:
    """The objective that a metric is of, by its name; None where the name says none."""
    return OBJECTIVES.get(metric.partition("_")[0])
