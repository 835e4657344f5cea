"""What fitting a law to a side's behaviour leads to: which named faults, put into the reference, reproduce it.

    fit = identify_schedule(rates, ...)
    fit.equal          # the side does what the reference does, within noise
    fit.confirmed      # it does not, and the reference does too once `fit.best.names` are put into it

Distances are in units of the tolerance, which whoever fits has measured: at most 1 is "no difference beyond noise".
"""

from dataclasses import dataclass, field
from typing import Any

__all__ = ["Candidate", "Fit"]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """Named faults put together into the reference, and how far the side still is from it."""

    names: tuple[str, ...]
    says: str  # one sentence for a reader
    residual: float  # in units of the tolerance; at most 1: reproduced
    values: dict[str, Any] = field(default_factory=dict)  # what was fitted, as {"epsilon": 1e-5}

    @property
    def reproduces(self) -> bool:
        """Whether the reference with these faults does what the side does."""
        return self.residual <= 1.0

    @property
    def rank(self) -> tuple[bool, int, float]:
        """Hypotheses in this order are best first: the fewest faults that reproduce the side, then the closest."""
        return not self.reproduces, len(self.names) if self.reproduces else 0, self.residual


@dataclass(frozen=True, kw_only=True)
class Fit:
    """How far a side is from the reference, and the hypotheses tried, best first."""

    distance: float  # from the untouched reference, in units of the tolerance
    tried: tuple[Candidate, ...]
    how: str  # how the tolerance was measured

    @property
    def equal(self) -> bool:
        """Whether there is nothing to explain."""
        return self.distance <= 1.0

    @property
    def best(self) -> Candidate | None:
        """The hypothesis that leads: of the fewest faults that reproduce the side, else the closest."""
        return self.tried[0] if self.tried else None

    @property
    def confirmed(self) -> bool:
        """Whether there is a difference and the leading hypothesis reproduces it."""
        return not self.equal and self.best is not None and self.best.reproduces

    @property
    def ties(self) -> tuple[Candidate, ...]:
        """Other hypotheses that reproduce the side with as few faults: this evidence does not tell them apart."""
        if not self.confirmed or self.best is None:
            return ()
        fewest = len(self.best.names)
        return tuple(c for c in self.tried[1:] if c.reproduces and len(c.names) == fewest)
