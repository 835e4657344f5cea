"""A bad run as a good one, save for a share f of positions that it always misses.

    accuracy = (1 − f)·good accuracy,   loss = (1 − f)·good loss + f·cost

Two equations, two unknowns: f and the cost of a missed position are always found where the bad run is the less
accurate. What speaks is the cost: above ln V, a uniform guess, are positions that cannot be right.
"""

from typing import Any, NamedTuple

__all__ = ["Missed", "missed_positions"]


class Missed(NamedTuple):
    """Numbers, or arrays of them, as they were given."""

    share: Any
    nats: Any  # what each missed position costs


def missed_positions(*, accuracies: tuple[Any, Any], losses: tuple[Any, Any]) -> Missed:
    """From accuracies and losses (nats) of a bad and a good run; the good run's accuracy is not 0, the share not 0."""
    share = 1 - accuracies[0] / accuracies[1]
    return Missed(share, (losses[0] - (1 - share) * losses[1]) / share)
