"""How well a law fits, robustly, and the fitting of its continuous settings.

    search = Search(evidence)
    settings = search.polish(settings, ("epsilon", "decay"))

The loss of a law is the mean of log(1 + x²) over elements, x the deviation in units of the tolerance: a setting that
puts some elements right shows even where another fault spoils the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lossary.diagnosis.calibration import UPDATE_CLEARLY as _CLEARLY
from lossary.diagnosis.calibration import UPDATE_SHOWS
from lossary.diagnosis.laws.update_arrays import finite
from lossary.diagnosis.laws.update_evidence import Evidence
from lossary.diagnosis.laws.update_moves import EPSILONS, Trial
from lossary.diagnosis.laws.update_space import LawSettings, Scope, changed
from lossary.models.parameters import is_excluded

__all__ = ["Search", "with_step_factors"]

_LOGARITHMIC = ("epsilon", "bound", "ratio_high", "norm_high", "gradient_scale")
_SCALES = {"decay": 0.01, "rate_scale": 1.0}
_LONGEST = 2.3  # a Gauss-Newton step in logarithms: tenfold
_ELEMENTS = 1500  # of the small parameters that a search looks at in full
_MATRICES = 3  # that it looks at in full whatever their size
_SAMPLED = 100  # elements of each parameter
_INLIERS = 0.25  # share of the elements that another fault may leave alone
_GAIN = 1e-3  # of the loss, less than which a fit stops
_HIGHEST_BETA = 0.99999  # nearer to 1 a correction in float32 is mostly rounding


@dataclass(frozen=True, kw_only=True)
class Search:
    """Losses of laws on some evidence, each computed once."""

    whole: Evidence  # LAMB needs whole parameters
    thin: Evidence  # for the other laws, which work element by element
    losses: dict[LawSettings, float] = field(default_factory=dict, repr=False)

    @classmethod
    def on_all(cls, evidence: Evidence) -> "Search":
        """On all elements."""
        return cls(whole=evidence, thin=evidence)

    @classmethod
    def on_some(cls, evidence: Evidence) -> "Search":
        """On small parameters and on a sample of each: those of the largest gradients, and every so many-th."""
        order = np.argsort(evidence.sizes, kind="stable")
        chosen = np.zeros(len(order), bool)
        chosen[order[np.cumsum(evidence.sizes[order]) <= _ELEMENTS]] = True
        moved = np.array([np.any(row) for row in np.split(evidence.before[0], evidence.starts[1:])])
        matrices = [i for i in order if moved[i] and not evidence.excluded[i]]
        chosen[[*matrices[:_MATRICES], order[0]]] = True
        largest = np.abs(evidence.mean).max(axis=0)
        kept = np.zeros(len(largest), bool)
        for start, size in zip(evidence.starts, evidence.sizes, strict=True):
            kept[start : start + size : -(-size // _SAMPLED)] = True
            kept[start + np.argsort(largest[start : start + size])[-2:]] = True
        return cls(whole=evidence.part(evidence.spread(chosen)), thin=evidence.part(kept))

    def seen_by(self, settings: LawSettings) -> Evidence:
        """The evidence on which a law is held against the side."""
        return self.whole if settings.family == "lamb" else self.thin

    def distance(self, settings: LawSettings) -> float:
        """Of the side from a law, on this evidence."""
        return self.seen_by(settings).distance(settings)

    def loss(self, settings: LawSettings) -> float:
        """See the module."""
        if settings not in self.losses:
            self.losses[settings] = float(np.mean(_log_loss(self.seen_by(settings).deviations(settings))))
        return self.losses[settings]

    def best(self, trial: Trial) -> LawSettings:
        """The law of a trial that fits best, its field fitted."""
        if trial.pick:
            return self.picked(trial.starts[0], "decayed" if "decayed" in trial.groups else "adapted")
        start = min(trial.starts, key=self.loss)
        return self.polish(start, trial.fitted, rounds=4) if trial.fitted else start

    def polish(self, settings: LawSettings, fields: Sequence[str], *, rounds: int = 10) -> LawSettings:
        """Continuous settings fitted together, from where they are."""
        for _ in range(rounds):
            step = self._gauss_newton(settings, fields)
            if step is None:
                break
            before = self.loss(settings)
            for shrink in (1.0, 0.4, 0.1):
                moved = settings
                for name, by in zip(fields, step, strict=True):
                    moved = _moved(moved, name, shrink * by)
                if self.loss(moved) < before:
                    settings = moved
                    break
            if self.loss(settings) > before * (1 - _GAIN):
                break
        return settings

    def _gauss_newton(self, settings: LawSettings, fields: Sequence[str]) -> NDArray[np.float64] | None:
        evidence = self.seen_by(settings)
        base = evidence.predict(settings)
        with np.errstate(all="ignore"):
            tolerance = evidence.tolerance(settings, base)
            x = finite((evidence.observed - base.change) / tolerance)
            scale = max(1.0, float(np.quantile(np.abs(x.ravel()[::7]), _INLIERS)))
            weight = 1 / (scale**2 + np.square(x))
            slopes = []
            for name in fields:
                by = 1e-4 * _unit(name)
                slopes.append((evidence.predict(_moved(settings, name, by)).change - base.change) / (by * tolerance))
        square = np.array([[np.sum(weight * a * b) for b in slopes] for a in slopes])
        right = np.array([np.sum(weight * a * x) for a in slopes])
        if not np.all(np.isfinite(square)) or not np.all(np.isfinite(right)) or not np.any(square):
            return None
        step = np.linalg.lstsq(square, right, rcond=1e-12)[0]
        limits = [_LONGEST if name not in _SCALES else np.inf for name in fields]
        return np.clip(step, -np.array(limits), limits)

    def all_fitted(self, settings: LawSettings, fields: Sequence[str], *, together: Sequence[str]) -> LawSettings:
        """Continuous settings fitted from afar: ε last, which only elements of small gradients show, then together."""
        others = [name for name in fields if name != "epsilon"]
        settings = self.polish(settings, others)
        if "epsilon" in fields:
            settings = min((replace(settings, epsilon=value) for value in EPSILONS), key=self.loss)
            settings = self.polish(settings, ("epsilon",), rounds=4)
        return self.polish(settings, together)

    def simplest(self, settings: LawSettings, fields: Sequence[str], declared: LawSettings) -> LawSettings:
        """As many fitted settings as declared as the side allows, once the others are fitted again."""
        if len(fields) < 2:
            return settings
        kept = list(fields)
        for name in fields:
            others = [other for other in kept if other != name]
            fewer = self.polish(replace(settings, **{name: getattr(declared, name)}), others)
            if self.distance(fewer) <= 1 or self.loss(fewer) <= self.loss(settings):
                settings, kept = fewer, others
        return settings

    def rounded(self, settings: LawSettings, fields: Sequence[str], declared: LawSettings) -> LawSettings:
        """Fitted values as declared, or else with the fewest digits, where they still reproduce the side."""
        if self.distance(settings) > 1:
            return settings
        for name in sorted(fields, key=lambda name: name == "decay"):
            first, *others = (float(f"{getattr(settings, name):.{digits}g}") for digits in range(1, 5))
            choices = [getattr(declared, name), first, *_likely(settings, declared, name), *others]
            for choice in [0.0, *choices] if name == "decay" else choices:
                nearby = changed(settings, {name: choice})
                if max(nearby.beta1, nearby.beta2) <= _HIGHEST_BETA and self.distance(nearby) <= 1:
                    settings = nearby
                    break
        return settings

    def picked(self, settings: LawSettings, kind: Literal["decayed", "adapted"]) -> LawSettings:
        """For each parameter whether it decays (or is adapted): what fits better; the rule where neither does."""
        flips = "decay_flips" if kind == "decayed" else "adapt_flips"
        names = self.seen_by(settings).names
        matrices = frozenset(name for name in names if not is_excluded(name))
        both: list[dict[str, Any]] = [{kind: "all", flips: frozenset()}, {kind: "matrices", flips: matrices}]
        on, off = (self._by_parameter(changed(settings, change)) for change in both)
        decided, wanted = np.abs(on - off) > _CLEARLY, on < off
        if not np.any(decided & wanted):
            return settings  # None takes part: that is no question of which.
        made: list[tuple[int, LawSettings]] = []
        scopes: tuple[Scope, ...] = ("matrices", "all")
        for scope in sorted(scopes, key=lambda scope: scope != getattr(settings, kind)):
            inside = np.array([scope == "all" or name in matrices for name in names])
            other = frozenset(name for name, flip in zip(names, decided & (inside != wanted), strict=True) if flip)
            made.append((len(other), changed(settings, {kind: scope, flips: other})))
        return min(made, key=lambda pair: pair[0])[1]

    def _by_parameter(self, settings: LawSettings) -> NDArray[np.float64]:
        evidence = self.seen_by(settings)
        losses = _log_loss(evidence.deviations(settings)).mean(axis=0, dtype=np.float64)
        return np.asarray(evidence.sums(losses) / evidence.sizes)


def with_step_factors(evidence: Evidence, settings: LawSettings) -> LawSettings | None:
    """The law with a factor of its own for the rate of each step; None where a step shows none."""
    predicted = evidence.predict(settings)
    visible = np.abs(predicted.change) > UPDATE_SHOWS * evidence.ulp
    if not np.all(visible.any(axis=1)):
        return None
    with np.errstate(all="ignore"):
        rows = zip(evidence.observed, predicted.change, evidence.tolerance(settings, predicted), visible, strict=True)
        factors = [_factor(*(row[v] for row in (seen, law, tolerance))) for seen, law, tolerance, v in rows]
    return replace(settings, rate_scale=1.0, step_factors=tuple(f * settings.rate_scale for f in factors))


def _factor(seen: NDArray[Any], law: NDArray[Any], tolerance: NDArray[Any]) -> float:
    start = float(np.median(seen / law))
    x = (seen - start * law) / tolerance
    weight = 1 / (max(1.0, float(np.median(np.abs(x)))) ** 2 + np.square(x))
    slope = law / tolerance
    return start + float(np.sum(weight * slope * x) / np.sum(weight * slope * slope))


def _likely(settings: LawSettings, declared: LawSettings, name: str) -> list[float]:
    """Values that other faults lead to: scales of mixed precision are powers of two, and decay may miss a factor."""
    value, due = getattr(settings, name), getattr(declared, name)
    if name in ("bound", "gradient_scale") and value > 0 and due > 0:
        return [due * 2.0 ** round(float(np.log2(value / due)))]
    if name == "decay" and settings.rate_scale:
        return [due * declared.rate_scale / settings.rate_scale]
    return []


def _log_loss(deviations: NDArray[Any]) -> NDArray[np.float32]:
    # Logarithms of float32 are several times faster than log1p, and exact enough to rank.
    return np.asarray(np.log(1 + np.square(deviations.astype(np.float32))))


def _unit(name: str) -> float:
    return _SCALES.get(name, 1.0)


def _moved(settings: LawSettings, name: str, by: float) -> LawSettings:
    """A setting moved: factors for what is positive by nature, for β of 1 − β."""
    value = getattr(settings, name)
    if name in _LOGARITHMIC:
        value = value * np.exp(by)
    elif name in ("beta1", "beta2"):
        value = min(max(0.0, 1 - (1 - value) * np.exp(by)), _HIGHEST_BETA)
    else:
        value = value + by
    return changed(settings, {name: float(value)})
