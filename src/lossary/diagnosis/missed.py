"""Is a run as good as another one, save for a share of positions that it always misses?

    missed_share(accuracies=("51.52", "72.83"), losses=("4.04", "1.3"), vocabulary_size=30000)
    # 29 % are missed, at 10.7 nats each: worse than a uniform guess (10.3)

The formula is that of `lossary.statistics.missed`. An undertrained model misses positions at little more than they cost
anyway; a cost above ln V, a uniform guess, is of positions that cannot be right: wrong labels, weights or inputs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import log

import numpy as np
from numpy.typing import NDArray

from lossary.diagnosis.calibration import WHOLE_EXAMPLES
from lossary.diagnosis.printed import Printed
from lossary.diagnosis.stored import Scores, matched
from lossary.statistics.missed import Missed, missed_positions

__all__ = ["CostlyPositions", "MissedShare", "costly_positions", "missed_share", "missed_share_of"]

Floats = NDArray[np.float64]
_RESAMPLES = 1000
_CHUNK = 2_000_000


@dataclass(frozen=True, kw_only=True)
class MissedShare:
    """Share of positions never right, and what they cost; bounds are of rounding, of 95 % where scores were given."""

    share: float
    share_low: float
    share_high: float
    nats: float
    nats_low: float
    nats_high: float
    uniform: float  # nats of a uniform guess

    @property
    def worse_than_uniform(self) -> bool:
        """Whether those positions cost more than a uniform guess, whatever rounding or sampling did."""
        return self.nats_low > self.uniform

    @property
    def says(self) -> str:
        against = "worse than" if self.worse_than_uniform else "not shown to be worse than"
        return (
            f"as the other run, save for {100 * self.share:.0f} % of positions that are always missed, at "
            f"{self.nats:.1f} nats each: {against} a uniform guess ({self.uniform:.1f})"
        )


def missed_share(
    *,
    accuracies: Sequence["Printed | str | float"],
    losses: Sequence["Printed | str | float"],
    vocabulary_size: int,
) -> MissedShare | None:
    """From printed numbers of a bad and a good run on one dataset; None unless the bad run is the less accurate."""
    bad, good = (Printed.of(value, "mlm_accuracy") for value in accuracies)
    worse, better = (Printed.of(value) for value in losses)
    if bad.value >= good.value or good.value <= 0:
        return None
    ends = []
    for signs in product((0, 1, -1), repeat=4):
        a, b, c, d = (p.value + sign * p.rounding for p, sign in zip((bad, good, worse, better), signs, strict=True))
        if a < b:
            ends.append(missed_positions(accuracies=(a, b), losses=(c, d)))
    shares, costs = [end.share for end in ends], [end.nats for end in ends]
    return MissedShare(
        share=ends[0].share,
        share_low=min(shares),
        share_high=max(shares),
        nats=ends[0].nats,
        nats_low=min(costs),
        nats_high=max(costs),
        uniform=log(vocabulary_size),
    )


def missed_share_of(
    bad: Scores, good: Scores, dataset: str, *, vocabulary_size: int, seed: int = 0
) -> MissedShare | None:
    """The same from stored scores of both runs on the examples of a dataset; whole examples are drawn again.

    None unless the bad run is the less accurate.
    """
    one, two = matched(bad.of(dataset), good.of(dataset))
    if len(one) < 2 or one.mlm_correct.sum() >= two.mlm_correct.sum():
        return None
    rows = np.stack([one.mlm_correct, two.mlm_correct, one.mlm_nats, two.mlm_nats, one.masked], axis=1)
    share, nats = _solved(rows.sum(axis=0)[None])
    shares, costs = _solved(_resampled(rows, np.random.default_rng(seed)))
    kept = shares > 0
    low, high = np.quantile(shares, [0.025, 0.975])
    cheap, dear = np.quantile(costs[kept], [0.025, 0.975])
    return MissedShare(
        share=float(share[0]),
        share_low=float(low),
        share_high=float(high),
        nats=float(nats[0]),
        nats_low=float(cheap),
        nats_high=float(dear),
        uniform=log(vocabulary_size),
    )


def _resampled(rows: Floats, random: np.random.Generator) -> Floats:
    """(resamples, columns) sums over examples drawn with replacement, a few resamples at a time."""
    n = len(rows)
    step = max(1, _CHUNK // n)
    parts = []
    for start in range(0, _RESAMPLES, step):
        counts = random.multinomial(n, np.full(n, 1 / n), size=min(step, _RESAMPLES - start))
        parts.append(counts @ rows)
    return np.concatenate(parts)


def _solved(sums: Floats) -> Missed:
    bad, good, worse, better, masked = sums.T
    with np.errstate(divide="ignore", invalid="ignore"):
        return missed_positions(accuracies=(bad, good), losses=(worse / masked, better / masked))


@dataclass(frozen=True, kw_only=True)
class CostlyPositions:
    """Positions that cost a bad run more than a uniform guess, and whether they fill whole examples."""

    share: float
    share_good: float  # the same of the other run
    nats: float  # what they cost the bad run on average; 0 without any
    nats_good: float  # what they cost the other run
    examples: float  # share of examples of two positions or more in which all are costly
    examples_expected: float  # if costly positions fell anywhere

    @property
    def in_whole_examples(self) -> bool:
        """Whether whole examples are bad, so that the fault is of the feed of some examples, not of some labels."""
        return self.examples > WHOLE_EXAMPLES * self.share and self.examples > 2 * self.examples_expected


def costly_positions(bad: Scores, good: Scores, dataset: str, *, vocabulary_size: int) -> CostlyPositions | None:
    """From the nats of single positions of both runs (`read_scores(…, positions=True)`); None without any."""
    one, two = matched(bad.of(dataset), good.of(dataset))
    if not len(one.positions) or len(one.positions) != len(two.positions):
        return None
    costly = one.positions > log(vocabulary_size)
    owner = np.repeat(np.arange(len(one)), one.masked.astype(np.int64))
    count = np.bincount(owner, weights=costly, minlength=len(one))
    several = one.masked >= 2
    share = float(costly.mean())
    return CostlyPositions(
        share=share,
        share_good=float((two.positions > log(vocabulary_size)).mean()),
        nats=float(one.positions[costly].mean()) if costly.any() else 0.0,
        nats_good=float(two.positions[costly].mean()) if costly.any() else 0.0,
        examples=float((count == one.masked)[several].mean()) if several.any() else 0.0,
        examples_expected=float((share ** one.masked[several]).mean()) if several.any() else 0.0,
    )
