"""Which named faults, at what dose, give the reference the rates of a side.

    search = Search(grounds, side_rates, baseline, mask_id=1, evaluation=False)
    search.candidates()                      # best first

A fault is put into every example of the reference once; since each example is struck by itself, expected counts at a
dose are the mixture of untouched and struck ones (of several faults: of all combinations). The dose of each dataset is
the one under which the side's counts are likeliest. A candidate reproduces the side if no fact of any dataset differs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossary.diagnosis.calibration import ALL_DOSE as _ALL
from lossary.diagnosis.calibration import FEED_LEAST_GAIN as _LEAST_GAIN
from lossary.diagnosis.calibration import FEED_LEAST_GAIN_ELSEWHERE as _LEAST_GAIN_ELSEWHERE
from lossary.diagnosis.calibration import FEED_PRICE as _PRICE
from lossary.diagnosis.calibration import MOST_STRUCK, SINGLE_EXPLAINS
from lossary.diagnosis.feeds.compare import NEVER, REPRODUCED_LEVEL, Baseline, Counts, moves
from lossary.diagnosis.feeds.facts import FACTS, MOST_HELD_OUT, ROWS
from lossary.diagnosis.feeds.faults import FAULTS, Fault
from lossary.diagnosis.feeds.ground import Ground
from lossary.diagnosis.feeds.rates import Rates
from lossary.diagnosis.fit import Candidate

__all__ = ["Fitted", "Search", "as_candidate"]

_MOST_FAULTS = 3
_MOST_COMBINATIONS = 8  # that are tried with one fault more
_BEAM = 3
_DOSES = np.concatenate([[0.0], np.geomspace(5e-4, 1.0, 160), [1.0 - 1e-3, 0.99, 0.98, 0.97, 0.96]])
_DOSES.sort()
_FLOOR = 1e-9


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """Faults with their likeliest doses (faults, G) and what is then left."""

    faults: tuple[Fault, ...]
    ground: Ground
    doses: NDArray[np.float64]
    distance: NDArray[np.float64]  # (F, G)
    critical: float  # what a distance of 1 is, in standard deviations
    gain: float  # how much likelier than without faults, in nats

    @property
    def residual(self) -> float:
        return float(self.distance.max(initial=0.0))

    @property
    def left(self) -> float:
        """How much is left over, of all facts."""
        return float(np.maximum(self.distance - 1, 0).sum())

    @property
    def misfit(self) -> float:
        """How unlikely all facts are together, in nats, as normal deviates have it."""
        return float(0.5 * ((self.critical * self.distance) ** 2).sum())

    @property
    def names(self) -> tuple[str, ...]:
        """Of the faults that strike anything, each once."""
        struck = [fault.name for fault, doses in zip(self.faults, self.doses, strict=True) if doses.any()]
        return tuple(dict.fromkeys(struck))

    @property
    def price(self) -> float:
        """What a candidate costs, in nats: doses neither nothing nor all, faults that do two things at once.

        What is read from the side is read by dataset, and costs as much in each.
        """
        free = int(((self.doses > 0) & (self.doses < _ALL)).sum())
        times = [
            1 if fault.partial else int((doses > 0).sum()) for fault, doses in zip(self.faults, self.doses, strict=True)
        ]
        return _PRICE * free + sum(fault.price * count for fault, count in zip(self.faults, times, strict=True))


class Search:
    """Tries faults on the reference, in each of its styles, against one side."""

    def __init__(
        self,
        grounds: Sequence[Callable[[], Ground]],
        side: Rates,
        baseline: Baseline,
        *,
        mask_id: int,
        evaluation: bool,
    ) -> None:
        self.side, self.baseline, self.mask_id = side, baseline, mask_id
        self.deviating = baseline.alarms(side) > 1
        self.shrink = side.inflation()
        self._unused = np.nan_to_num(side.rate("document-unused"))
        self._grounds = grounds
        self._evaluation = evaluation
        self._fitted: dict[tuple[int, tuple[str, ...]], Fitted] = {}

    def candidates(self) -> list[Fitted]:
        """What was tried, best first."""
        if not self.deviating.any():
            return []
        tried: list[Fitted] = []
        levels: list[list[Fitted]] = []
        for style in range(len(self._grounds)):
            singles = [self.fit((fault,), style) for fault in self._worth_a_try(self.deviating)]
            levels.append(sorted((f for f in singles if f.gain > 0), key=lambda f: -f.gain))
            tried += levels[-1]
            # The first two styles are at hand; a wrong name may look right in one that is not the side's.
            if style >= 1 and (self._hopeless(tried) or any(fitted.residual <= 1 for fitted in tried)):
                return _ranked(tried)
        # The style in which the leading fault leaves least is the side's own.
        style = min(range(len(levels)), key=lambda i: levels[i][0].left if levels[i] else np.inf)
        level = levels[style]
        for _ in range(2, _MOST_FAULTS + 1):
            level = self._one_more(level, style)
            tried += level
            if any(fitted.residual <= 1 for fitted in level):
                break
        return _ranked(tried)

    def _hopeless(self, singles: list[Fitted]) -> bool:
        """Whether some deviation is not even made smaller by any fault: then no combination explains it."""
        if not singles:
            return True
        untouched = self.baseline.alarms(self.side)
        nearest = np.min([fitted.distance for fitted in singles], axis=0)
        return bool((self.deviating & (nearest > np.maximum(1.0, SINGLE_EXPLAINS * untouched))).any())

    def _worth_a_try(self, deviating: NDArray[np.bool_]) -> list[Fault]:
        facts = {name for name, row in zip(FACTS, np.asarray(deviating.any(axis=1)), strict=True) if row}
        return [
            fault
            for ways in FAULTS.values()
            for fault in ways
            if facts & set(fault.shows) and (self._evaluation or fault.name != "evaluation-unmasked")
        ]

    def _one_more(self, level: list[Fitted], style: int) -> list[Fitted]:
        """Each of the leading candidates with one fault more; stops at the first that reproduces the side."""
        wanted: dict[tuple[str, ...], tuple[float, tuple[Fault, ...]]] = {}
        for fitted in [f for f in level if not any(fault.alone for fault in f.faults)][:_BEAM]:
            for fault in self._worth_a_try(fitted.distance > 1):
                faults = (*fitted.faults, fault)
                key = tuple(sorted(f.key for f in faults))
                if len(set(key)) == len(key) and not fault.alone:
                    wanted.setdefault(key, (fitted.gain + self.fit((fault,), style).gain, faults))
        found = []
        for _, faults in sorted(wanted.values(), key=lambda entry: -entry[0])[:_MOST_COMBINATIONS]:
            fitted = self.fit(faults, style)
            if not fitted.doses.any(axis=1).all():
                continue  # One of them strikes nothing: this is tried already.
            found.append(fitted)
            if fitted.residual <= 1:
                break
        return sorted(found, key=lambda fitted: (fitted.residual > 1, -fitted.gain))

    def fit(self, faults: tuple[Fault, ...], style: int) -> Fitted:
        """The likeliest doses of faults by dataset, and what is left then."""
        key = (style, tuple(sorted(fault.key for fault in faults)))
        if key not in self._fitted:
            self._fitted[key] = self._fit(faults, self._grounds[style]())
        return self._fitted[key]

    def _fit(self, faults: tuple[Fault, ...], ground: Ground) -> Fitted:
        base = self._corner((), (), ground)
        groups = base.k.shape[1]
        doses, gain = np.zeros((len(faults), groups)), 0.0
        mixed = Counts(base.k.copy(), base.n.copy())
        for group in range(groups):
            active = self._active(faults, ground, group)
            if not active:
                continue
            chosen = [faults[number] for number in active]
            corners = list(product((0, 1), repeat=len(chosen)))
            counts = [self._corner(chosen, corner, ground) for corner in corners]
            k, n = (np.stack([getattr(c, name)[:, group] for c in counts]) for name in ("k", "n"))
            doses[active, group], more = _GroupFit(self, chosen, corners, k, n, group).likeliest()
            gain += more
            weights = _weights(corners, doses[active, group][None])[0]
            mixed.k[:, group], mixed.n[:, group] = weights @ k, weights @ n
        shows = np.isin(list(FACTS), [fact for fault in faults for fact in fault.shows])
        distance = self.baseline.distance(self.side, base, mixed, shows=shows)
        critical = self.baseline.critical(REPRODUCED_LEVEL)
        return Fitted(faults=faults, ground=ground, doses=doses, distance=distance, critical=critical, gain=gain)

    def _active(self, faults: tuple[Fault, ...], ground: Ground, group: int) -> list[int]:
        """Which of the faults may strike in a dataset; of several, those that do by themselves or show there."""
        if len(faults) == 1:
            return [0]
        facts = {name for name, deviates in zip(FACTS, self.deviating[:, group].tolist(), strict=True) if deviates}
        style = next(number for number, made in enumerate(self._grounds) if made() is ground)
        return [
            number
            for number, fault in enumerate(faults)
            if facts & set(fault.shows) or self.fit((fault,), style).doses[0, group] > 0
        ]

    def _corner(self, faults: Sequence[Fault], corner: tuple[int, ...], ground: Ground) -> Counts:
        struck = [fault for fault, on in zip(faults, corner, strict=True) if on]
        counts = ground.counts(struck, side=self.side, mask_id=self.mask_id)
        # What a side keeps out of training, faults find kept out: as much as they leave to be explained.
        row = ROWS["document-unused"]
        k, own = counts.k.copy(), counts.rate[row]
        most = 1.0 if self._evaluation else MOST_HELD_OUT
        kept_out = np.clip((self._unused - own) / np.maximum(1 - own, 1e-9), 0.0, most)
        k[row] += (counts.n[row] - k[row]) * kept_out
        return Counts(k, counts.n)


class _GroupFit:
    """Doses in one dataset."""

    def __init__(
        self,
        search: Search,
        faults: Sequence[Fault],
        corners: list[tuple[int, ...]],
        k: NDArray[np.float64],
        n: NDArray[np.float64],
        group: int,
    ) -> None:
        side, shrink = search.side, search.shrink[:, group]
        base = Counts(k[0][:, None], n[0][:, None])
        moved = np.any([moves(base, Counts(a[:, None], b[:, None]))[:, 0] for a, b in zip(k, n, strict=True)], axis=0)
        self.least = _LEAST_GAIN if search.deviating[:, group].any() else _LEAST_GAIN_ELSEWHERE
        self.use = np.flatnonzero(moved & (side.n[:, group] > 0))
        self.k, self.n = k[:, self.use], n[:, self.use]
        self.hits = (side.k[:, group] / shrink)[self.use]
        self.misses = ((side.n - side.k)[:, group] / shrink)[self.use]
        with np.errstate(invalid="ignore"):
            # What the reference has no example of, and never happens, is not happening; another fact may be anything.
            self.untouched = np.where(NEVER[self.use] & (self.n[0] == 0), 0.0, self.k[0] / self.n[0])
        self.floor = np.clip(search.baseline.high[self.use, group], _FLOOR, 1e-3)
        self.faults, self.corners = faults, corners

    def likeliest(self) -> tuple[NDArray[np.float64], float]:
        """Doses (faults,) and the gain in nats; coordinate by coordinate, from the better of nothing and everything."""
        count = len(self.faults)
        nothing = np.zeros(count)
        if not len(self.use):
            return nothing, 0.0
        starts = np.array(list(product((0.0, 1.0), repeat=count)))
        doses = starts[int(np.argmax(self._likelihood(starts)))].copy()
        for _ in range(1 if count == 1 else 4):
            for index, fault in enumerate(self.faults):
                grid = _DOSES if fault.partial else np.array([0.0, 1.0])
                trial = np.repeat(doses[None], len(grid), axis=0)
                trial[:, index] = grid
                doses = trial[int(np.argmax(self._likelihood(trial)))]
        for index in range(count):
            # A dose that hardly anything speaks for is none.
            without = doses.copy()
            without[index] = 0.0
            likelihood = self._likelihood(np.stack([without, doses]))
            if likelihood[1] - likelihood[0] < self.least:
                doses = without
            elif doses[index] > MOST_STRUCK:
                # "All" is said unless something speaks against it.
                everything = doses.copy()
                everything[index] = 1.0
                likelihood = self._likelihood(np.stack([everything, doses]))
                if likelihood[1] - likelihood[0] < _LEAST_GAIN:
                    doses = everything
        likelihood = self._likelihood(np.stack([nothing, doses]))
        return doses, float(likelihood[1] - likelihood[0])

    def _likelihood(self, doses: NDArray[np.float64]) -> NDArray[np.float64]:
        """(P,) of doses (P, faults)."""
        weights = _weights(self.corners, doses)
        k, n = weights @ self.k, weights @ self.n
        rate = np.clip(np.divide(k, n, out=np.zeros_like(k), where=n > 0), self.floor, 1 - self.floor)
        # Where faults give no example of a fact, it says as much as without them.
        rate = np.where(n > 0, rate, np.clip(self.untouched, self.floor, 1 - self.floor))
        known = ~np.isnan(rate)
        rate = np.where(known, rate, 0.5)
        nats: NDArray[np.float64] = (known * (self.hits * np.log(rate) + self.misses * np.log1p(-rate))).sum(axis=1)
        return nats


def _weights(corners: list[tuple[int, ...]], doses: NDArray[np.float64]) -> NDArray[np.float64]:
    """(P, corners): how much of each combination of faults there is at doses (P, faults)."""
    on = np.array(corners, bool)
    factors = np.where(on[None], doses[:, None], 1 - doses[:, None])
    weights: NDArray[np.float64] = factors.prod(axis=2)
    return weights


def _ranked(tried: list[Fitted]) -> list[Fitted]:
    """What reproduces the side first: of fewest faults, closest with fewest free doses; then what leaves least."""

    def key(fitted: Fitted) -> tuple[bool, float, float, float]:
        if fitted.residual > 1:
            return (True, fitted.left, 0, 0)
        return (False, len(fitted.names), fitted.misfit + fitted.price, 0)

    found: dict[tuple[str, ...], Fitted] = {}
    for fitted in sorted(tried, key=key):
        # The same faults in another style of the reference are the same.
        if fitted.names:
            found.setdefault(tuple(sorted(fault.key for fault in fitted.faults)), fitted)
    return list(found.values())


def as_candidate(fitted: Fitted, search: Search) -> Candidate:
    """What a reader is told."""
    scene = fitted.ground.scene(search.side, search.mask_id)
    corpus = scene.reference.corpus
    groups = (*corpus.names, "unknown dataset")
    described: dict[str, dict[str, Any]] = {}
    sentences = []
    offered = [name for number, name in enumerate(groups[:-1]) if (corpus.dataset == number).any()]
    for fault, doses in zip(fitted.faults, fitted.doses, strict=True):
        struck = {name: round(float(dose), 4) for name, dose in zip(groups, doses, strict=True) if dose > 0}
        if not struck:
            continue
        entry: dict[str, Any] = {"name": fault.name, "datasets": struck} | ({"how": fault.how} if fault.how else {})
        if fault.fitted is not None:
            for key, by_group in fault.fitted(scene).items():
                named = dict(zip(groups, by_group, strict=False))
                several = {name: named[name] for name in struck if name in named}
                entry[key] = several if len(by_group) > 1 else by_group[0]
        described[fault.key] = entry
        sentences.append(f"{fault.says}: {_where(struck, offered)}")
    values: dict[str, Any] = {"faults": described}
    if len(described) == 1:
        values |= {key: value for key, value in next(iter(described.values())).items() if key != "name"}
    return Candidate(names=fitted.names, says="; ".join(sentences), residual=fitted.residual, values=values)


def _where(struck: dict[str, float], offered: list[str]) -> str:
    if set(struck) >= set(offered) and min(struck.values()) >= _ALL:
        return "everywhere"
    return ", ".join(f"{dose:.1%} of {name}" if dose < _ALL else f"all of {name}" for name, dose in struck.items())
