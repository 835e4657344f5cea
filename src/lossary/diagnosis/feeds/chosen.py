"""Which pieces are scored: each about as often as the rest of the examples that it stands in?

    chosen_aspect(observed, ground, tokenizer).deviations      # "▁the: 0 of 1,204 places are scored, …"

Pieces are looked at one by one, and together by how common they are, by whether they start a word, and by what they are
spelled with. A maker of masks may prefer some within bounds (long words fit a budget less often); the reference says by
how much. What is masked more or less often than that is put into the reference: words with such pieces are passed over.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from lossary.data.tokenizer import FIRST_PIECE, TokenizerModel
from lossary.diagnosis.calibration import ALARM_LEVEL, FEED_LEAST_GAIN, NEAR_ODDS, REPRODUCED_LEVEL
from lossary.diagnosis.feeds.ground import Ground
from lossary.diagnosis.feeds.layout import FIRST
from lossary.diagnosis.feeds.made import remasked
from lossary.diagnosis.feeds.observed import Observed, observe
from lossary.diagnosis.feeds.outcome import Aspect, Deviation
from lossary.diagnosis.fit import Candidate

__all__ = ["chosen_aspect"]

_NAME = "masking-depends-on-pieces"
_PARTS = 10  # of the text, from the commonest pieces to the rarest
_TOLD = 3
_TURNS = 3
_FARTHEST = 37.0


@dataclass(frozen=True, kw_only=True)
class _Label:
    """Pieces in groups that are counted together."""

    group: NDArray[np.int64]  # (V,)
    names: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class _Counted:
    """Of G groups of pieces: places, scored ones, and how many were if all places of an example were as likely."""

    n: NDArray[np.float64]
    k: NDArray[np.float64]
    expected: NDArray[np.float64]
    shrink: NDArray[np.float64]  # by how much the variance of k is that of places that are scored together

    @property
    def times(self) -> NDArray[np.float64]:
        """(G,) how much more often they are scored than the rest; 1 where nothing is known."""
        return np.divide(self.k, self.expected, out=np.ones_like(self.k), where=self.expected > 0)


def chosen_aspect(observed: Observed, ground: Ground, tokenizer: TokenizerModel) -> Aspect:
    """Whether what is scored depends on which piece it is."""
    labels = _labels(ground, tokenizer)
    side = [_counted(observed, label) for label in labels]
    own = [_counted(ground.observed, label) for label in labels]
    units = [_units(one, other, ALARM_LEVEL, labels) for one, other in zip(side, own, strict=True)]
    worst = [
        (float(unit[number]), label.names[number], counts, number)
        for label, counts, unit in zip(labels, side, units, strict=True)
        for number in np.flatnonzero(unit > 1).tolist()
    ]
    if not worst:
        return Aspect(distance=0.0)
    worst.sort(key=lambda one: -one[0])
    deviations = tuple(
        Deviation(
            fact="scored-pieces",
            says=f"{name}: {counts.k[number]:,.0f} of {counts.n[number]:,.0f} places are scored, "
            f"{counts.times[number]:.2f} times as often as all places of these examples",
            excess=excess,
        )
        for excess, name, counts, number in worst
    )
    candidates = _candidates(side[0], units[0], ground, labels, side)
    return Aspect(distance=worst[0][0], candidates=candidates, deviations=deviations)


def _labels(ground: Ground, tokenizer: TokenizerModel) -> list[_Label]:
    """Each piece by itself, then in groups."""
    size = tokenizer.vocabulary_size
    spelled = tokenizer.pieces
    bare = [piece.replace("▁", "") for piece in spelled]
    kinds = np.array([0 if any(map(str.isalpha, one)) else 1 if any(map(str.isdigit, one)) else 2 for one in bare])
    layout = ground.observed.layout
    text = layout.tokens[(layout.part >= FIRST) & (layout.tokens >= FIRST_PIECE)]
    count = np.bincount(text, minlength=size)
    order = np.argsort(-count, kind="stable")
    part = np.empty(size, np.int64)
    part[order] = np.minimum((np.cumsum(count[order]) - 1) * _PARTS // max(1, len(text)), _PARTS - 1)
    share = 100 // _PARTS
    return [
        _Label(group=np.arange(size), names=[f"“{piece}”" for piece in spelled]),
        _Label(
            group=part,
            names=[
                f"pieces of the {share * n} to {share * (n + 1)} % of the text that are commonest"
                for n in range(_PARTS)
            ],
        ),
        _Label(
            group=tokenizer.is_word_start.astype(np.int64), names=("pieces inside words", "pieces that start words")
        ),
        _Label(group=kinds, names=("pieces with letters", "numbers", "signs")),
    ]


def _counted(observed: Observed, label: _Label) -> _Counted:
    layout, groups = observed.layout, len(label.names)
    text = (layout.part >= FIRST) & (layout.tokens >= FIRST_PIECE) & (layout.tokens < len(label.group))
    scored = layout.scored & text
    rate = scored.sum(axis=1) / np.maximum(1, text.sum(axis=1))
    row, place = np.nonzero(text)
    group, hit = label.group[layout.tokens[row, place]], scored[row, place].astype(np.float64)
    expected = rate[row]
    # Places of one group in one example go together.
    key, inside = np.unique(row * groups + group, return_inverse=True)
    apart = np.bincount(inside, hit - expected, len(key)) ** 2
    spread = np.bincount(key % groups, apart, groups)
    alone = np.bincount(group, expected * (1 - expected), groups)
    return _Counted(
        n=np.bincount(group, minlength=groups).astype(np.float64),
        k=np.bincount(group, hit, groups).astype(np.float64),
        expected=np.bincount(group, expected, groups).astype(np.float64),
        shrink=np.maximum(1.0, np.divide(spread, alone, out=np.ones(groups), where=alone > 0)),
    )


def _units(side: _Counted, own: _Counted, level: float, labels: Sequence[_Label], *, put: bool = False) -> NDArray[Any]:
    """(G,) how far counts are from those that the reference allows, exact tests of both sides; above 1 beyond noise.

    With a fault `put` into the reference, its counts are what is allowed; without, evenness is, too.
    """
    even = own.times if put else np.ones_like(own.times)
    rate = side.expected / np.maximum(1, side.n)
    low = np.clip(rate * np.minimum(own.times, even) / NEAR_ODDS, 0, 1)
    # What the reference has too few places of to be rare there says nothing of rarity.
    low = np.where(own.k > 0, low, 0.0 if put else rate / NEAR_ODDS)
    high = np.clip(rate * np.maximum(own.times, even) * NEAR_ODDS, 0, 1)
    if put:
        bound = special.gammaincinv(own.k / own.shrink + 1, 0.99) * own.shrink / np.maximum(own.expected, 1e-9)
        high = np.clip(rate * np.maximum(bound, own.times * NEAR_ODDS), 0, 1)
    k, n = side.k / side.shrink, side.n / side.shrink
    above, below = np.ones_like(k), np.ones_like(k)
    some = (k > 0) & (high < 1)
    above[some] = special.betainc(k[some], (n - k)[some] + 1, high[some])
    rest = (n > k) & (low > 0)
    below[rest] = special.betainc((n - k)[rest], k[rest] + 1, 1 - low[rest])
    z = np.clip(stats.norm.isf(np.maximum(np.minimum(above, below), 1e-300)), 0.0, _FARTHEST)
    critical = float(stats.norm.isf(level / (2 * sum(len(label.names) for label in labels))))
    return np.asarray(z / critical)


def _times(side: _Counted, pieces: NDArray[np.bool_]) -> float:
    return float(side.k[pieces].sum() / max(1e-9, side.expected[pieces].sum()))


def _alike(side: _Counted, pieces: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The pieces, and all that are likelier scored as often as these are than as often as the rest."""
    for _ in range(_TURNS):
        mine, other = (max(1e-3, _times(side, some)) for some in (pieces, ~pieces))
        nats = (side.k * np.log(mine / other) - side.expected * (mine - other)) / side.shrink
        pieces = nats > FEED_LEAST_GAIN
    return pieces


def _candidates(
    side: _Counted, units: NDArray[Any], ground: Ground, labels: Sequence[_Label], counts: Sequence[_Counted]
) -> tuple[Candidate, ...]:
    """Words that start with pieces which are scored too rarely are passed over in the reference, as often as there."""
    seldom, often = ((units > 1) & (side.times < 1), (units > 1) & (side.times > 1))
    # Where some are scored too often, it is all the rest that is not.
    struck = _alike(side, seldom) if seldom.any() else ~_alike(side, often) & (side.n > 0)
    rest = ~struck & (side.n > 0)
    if not (seldom | often).any() or not rest.any():
        return ()
    times = _times(side, struck) / max(1e-9, _times(side, rest))
    made, reference = ground.made, ground.reference
    passed = reference.maker.random("passed over").random(made.tokens.shape) >= times
    passed &= struck[np.maximum(made.tokens, 0)]

    def left(without: NDArray[np.bool_]) -> float:
        feed = remasked(made, reference.maker, without=without).feed()
        put = observe(feed, reference.corpus, reference.tokenizer)
        return max(
            float(_units(one, _counted(put, label), REPRODUCED_LEVEL, labels, put=True).max(initial=0.0))
            for one, label in zip(counts, labels, strict=True)
        )

    pieces = [labels[0].names[number] for number in np.flatnonzero(struck)[np.argsort(-side.n[struck], kind="stable")]]
    more = f" and {len(pieces[_TOLD:])} more pieces" if pieces[_TOLD:] else ""
    told = f"{', '.join(pieces[:_TOLD])}{more} are masked {times:.2f} times as often as others"
    fitted = {"times": round(times, 3), "pieces": len(pieces)}
    values = {"faults": {_NAME: {"name": _NAME} | fitted}} | fitted
    begins = reference.tokenizer.is_word_start[np.maximum(made.tokens, 0)]
    tried = [
        Candidate(names=(_NAME,), says=f"words that {how} {told}", residual=left(without), values=values)
        for how, without in (("hold", passed), ("begin with", passed & begins))
    ]
    return (min(tried, key=lambda candidate: candidate.residual),)
