"""What a side does in whole training steps: its path of weights, replayed from the reference's gradients.

    fit = identify_training(observation, law, gradient_of=gradient_of, rate_of=rate_of)
    fit.best.names, fit.best.values       # ("gradients-not-zeroed",), {…}

Every step is replayed from the weights that the side had before it, so that an error of one step is not carried into
the next; moments, made of the reference's gradients at those weights, are. What the reference's gradients cannot say is
measured: they are computed again with each weight one ulp off, or in low precision by a function that is given, and
what that does to a step is part of the tolerance. Steps in which it leaves nothing to see are not compared.

Hypotheses are other ways to run a loop: gradients that add up over steps, a batch used twice or in another order,
gradients of the weights before, updates applied twice or not at all, the rate of a neighbouring step, gradients or
rates times a factor, other clipping, a moving average of the weights handed out. Single ones first, then pairs.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lossary.diagnosis.adapter import Arrays
from lossary.diagnosis.calibration import AVERAGE_LEAST, AVERAGE_MOST, UPDATE_SHOWS
from lossary.diagnosis.calibration import REPLAY_ENOUGH as _ENOUGH
from lossary.diagnosis.calibration import REPLAY_OF_ONE_ULP as _OF_ONE_ULP
from lossary.diagnosis.calibration import REPLAY_OF_ROUGH as _OF_ROUGH
from lossary.diagnosis.calibration import REPLAY_VISIBLE as _VISIBLE
from lossary.diagnosis.fit import Candidate, Fit
from lossary.diagnosis.laws.update_arrays import Array, finite, flat
from lossary.diagnosis.laws.update_evidence import Evidence, Predicted, UpdateObservation
from lossary.diagnosis.laws.update_moves import LOSS_SCALES
from lossary.diagnosis.laws.update_names import faults_between
from lossary.diagnosis.laws.update_search import Search
from lossary.diagnosis.laws.update_space import LawSettings, changed
from lossary.models.update_laws import UpdateLaw

__all__ = ["TrainingObservation", "identify_training"]

AddsUp = Literal["", "as computed", "as clipped"]
GradientOf = Callable[[Arrays, int], Arrays]  # weights, number of the step's feed
_ULP = 2.0**-23
_ORDERS_UP_TO = 6  # steps, of which every order of batches is looked for
_SHOWN = 8


@dataclass(frozen=True, kw_only=True)
class TrainingObservation:
    """K steps of a side with a fresh optimizer; the feed of step k is the k-th."""

    start: Arrays  # canonical weights, float32
    weights: Sequence[Arrays]  # after each step
    first: int = 0  # number of the first step
    rerun: Sequence[Arrays] | None = None  # weights of the same again


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """A way to run the loop."""

    settings: LawSettings
    feeds: tuple[int, ...]  # of each step
    stale: int = 0  # gradients are of the weights so many steps before
    # Gradients of earlier steps are added, as they were or as clipping in place (PyTorch) has left them.
    adds_up: AddsUp = ""
    times: int = 1  # each update is applied so often
    shift: int = 0  # of the rates, in steps
    skipped: frozenset[int] = frozenset()
    averaged: float = 0.0  # decay of the moving average that is handed out


def identify_training(
    observation: TrainingObservation,
    law: UpdateLaw | LawSettings,
    *,
    gradient_of: GradientOf,
    rate_of: Callable[[int], float],
    rough_gradient_of: GradientOf | None = None,
) -> Fit:
    """How a side's loop differs from the declared one.

    `gradient_of(weights, feed)` is the reference's, in float64; `rough_gradient_of` the same in the side's precision.
    `law` may be one that `identify_update` has found. `rate_of(step)` is asked for the steps before and after, too.
    """
    settings = law if isinstance(law, LawSettings) else LawSettings.of(law)
    replay = _Replay(observation, settings, gradient_of, rate_of, rough_gradient_of)
    declared = replay.declared
    distance = replay.distance(declared)
    if distance <= 1:
        return Fit(distance=distance, tried=(), how=replay.how)
    tried = [replay.candidate(plan) for plan in replay.hypotheses()]
    unique = {(c.names, c.says): c for c in sorted(tried, key=lambda c: -c.residual) if c.names}.values()
    ordered = sorted(unique, key=lambda c: c.rank)
    return Fit(distance=distance, tried=tuple(ordered[:_SHOWN]), how=replay.how)


@dataclass
class _Replay:
    """The side's path, and what plans make of it."""

    observation: TrainingObservation
    settings: LawSettings
    gradient_of: GradientOf
    rate_of: Callable[[int], float]
    rough: GradientOf | None
    made: dict[tuple[int, int], NDArray[np.float64]] = field(default_factory=dict)
    distances: dict[_Plan, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        o = self.observation
        self.path = [o.start, *o.weights]
        self.count = len(o.weights)
        self.declared = _Plan(settings=self.settings, feeds=tuple(range(self.count)))
        given = [self.gradient_of(self.path[k], k) for k in range(self.count)]
        seen = UpdateObservation(
            start=o.start, gradients=[[g] for g in given], weights=o.weights, first=o.first, rerun=o.rerun
        )
        plain = Evidence.of(seen, self.rates(0)).measured(self.settings)
        for k, gradient in enumerate(given):
            self.made[(k, k)] = flat(gradient, plain.names)
        self.base = replace(plain, noise=self._noise(plain))
        x = self.base.predict(self.settings)
        tolerance = self.base.tolerance(self.settings, x)
        step = np.sqrt(np.mean(np.square(self.base.observed), axis=1, keepdims=True))
        shown = np.mean(tolerance < _VISIBLE * step, axis=1)
        still = ~np.any(self.base.observed, axis=1)  # A step that is not taken is seen to be none.
        self.compared = (shown > _ENOUGH) | (still & (self.base.rates[:, 0] != 0))
        how = "low precision" if self.rough is not None else "one ulp of every weight"
        self.how = (
            f"gradients computed again with {how}; 1 ulp of each weight and the rounding of a step in float32; "
            f"{int(self.compared.sum())} of {self.count} steps show more than that"
        )

    def rates(self, shift: int) -> list[float]:
        return [self.rate_of(max(0, self.observation.first + k + shift)) for k in range(self.count)]

    def gradient(self, weights: int, feed: int) -> NDArray[np.float64]:
        """At the weights before a step, (N,)."""
        key = (max(0, weights), feed)
        if key not in self.made:
            self.made[key] = flat(self.gradient_of(self.path[key[0]], feed), self.base.names)
        return self.made[key]

    def _noise(self, evidence: Evidence) -> NDArray[np.float64]:
        """Of each parameter's gradient in each step, (K, T)."""
        rng = np.random.default_rng(0)
        rows = []
        for k in range(self.count):
            if self.rough is not None:
                again, factor = self.rough(self.path[k], k), _OF_ROUGH
            else:
                moved = {
                    name: (w * (1 + _ULP * rng.choice([-1.0, 1.0], np.shape(w)))).astype(np.float64)
                    for name, w in self.path[k].items()
                }
                again, factor = self.gradient_of(moved, k), _OF_ONE_ULP
            rows.append(factor * (flat(again, evidence.names) - self.made[(k, k)]))
        sizes = evidence.norms["tensor"] / np.sqrt(evidence.sizes)
        # A gradient that is 0 in exact arithmetic is a sum of terms as large as others' gradients in float32.
        return np.maximum(evidence.rms(np.stack(rows)), _OF_ONE_ULP * _ULP * sizes.max(axis=1, keepdims=True))

    # --- plans ------------------------------------------------------------------------------------------------------

    def hypotheses(self) -> list[_Plan]:
        """What is read directly, then single changes of it, then pairs."""
        plan = self._as_read()
        plans = [plan] if plan != self.declared else []
        if plans and self.distance(plan) <= 1:
            return plans
        singles = list(self._changes(plan))
        plans += singles
        if not any(self.distance(one) <= 1 for one in singles):
            closest = sorted(singles, key=self.distance)[:4]
            plans += [both for one in closest for both in self._changes(one)]
        return plans

    def _as_read(self) -> _Plan:
        """The declared plan without the steps and the parameters that did not move."""
        observed = self.base.observed
        still = [k for k in range(self.count) if self.base.rates[k, 0] != 0 and not np.any(observed[k])]
        skipped = frozenset(still) if len(still) < self.count else frozenset()
        stuck = self.base.sums(np.abs(observed).sum(axis=0)) == 0
        predicted = self.base.predict(self.settings)
        clear = np.abs(predicted.change) > _OF_ONE_ULP * self.base.tolerance(self.settings, predicted)
        should = self.base.sums(clear.sum(axis=0).astype(np.float64)) > 0
        names = zip(self.base.names, stuck & should & ~stuck.all(), strict=True)
        frozen = frozenset(name for name, never in names if never)
        return replace(self.declared, skipped=skipped, settings=replace(self.settings, frozen=frozen))

    def _changes(self, plan: _Plan) -> Iterator[_Plan]:
        """One thing more that is otherwise."""
        of_gradients = (plan.adds_up, plan.stale, plan.feeds) != ("", 0, self.declared.feeds)
        if not of_gradients and not plan.averaged:
            yield replace(plan, adds_up="as computed")
            if plan.settings.clip == "global":
                yield replace(plan, adds_up="as clipped")
            yield replace(plan, stale=1)
            yield from self._orders(plan)
            yield from self._averages(plan)
        if plan.times == 1 and not plan.skipped and not plan.averaged:
            yield replace(plan, times=2)
        if plan.shift == 0:
            yield from (replace(plan, shift=shift) for shift in (1, -1))
        if plan.times == 1 and not plan.averaged:
            for name in ("gradient_scale", "rate_scale"):
                if getattr(plan.settings, name) == 1:
                    yield self._scaled(plan, name, (0.1, 0.5, 2.0, 10.0))
            if plan.settings == self.declared.settings and plan.settings.clip == "global":
                yield replace(plan, settings=replace(plan.settings, clip="none"))
                yield replace(plan, settings=replace(plan.settings, clip="always"))
                # Lower ones are those of gradients that are still multiplied by a loss scale.
                bound = plan.settings.bound
                yield self._scaled(plan, "bound", [bound * f for f in (10, 2, 0.5, *(1 / f for f in LOSS_SCALES[::3]))])

    def _scaled(self, plan: _Plan, name: str, values: Sequence[float]) -> _Plan:
        """The plan with a factor or a bound, fitted from the best of some values."""
        search = Search.on_some(self.evidence(plan))
        starts = [changed(plan.settings, {name: value}) for value in values]
        fitted = search.polish(min(starts, key=search.loss), (name,))
        if self.distance(replace(plan, settings=fitted)) <= 1:
            search = Search.on_all(self.evidence(plan))
            fitted = search.rounded(fitted, (name,), self.settings)
        return replace(plan, settings=fitted)

    def _orders(self, plan: _Plan) -> Iterator[_Plan]:
        """The feeds that fit best, one step after another."""
        if self.count > _ORDERS_UP_TO:
            return
        feeds = list(plan.feeds)
        for k in range(self.count):
            if self.compared[k] and k not in plan.skipped:
                options = sorted(range(self.count), key=lambda feed: feed != k)
                feeds[k] = min(options, key=lambda feed: self._at(k, replace(plan, feeds=_with(feeds, k, feed))))
        if tuple(feeds) != plan.feeds:
            yield replace(plan, feeds=tuple(feeds))

    def _averages(self, plan: _Plan) -> Iterator[_Plan]:
        """A moving average of weights: its decay shows in the first step that moves."""
        predicted = self.base.predict(plan.settings).change
        moving = [k for k in range(self.count) if self.compared[k] and self.base.rates[k, 0] != 0]
        if not moving:
            return
        law, seen = predicted[moving[0]], self.base.observed[moving[0]]
        clear = np.abs(law) > UPDATE_SHOWS * self.base.ulp[moving[0]]
        if not np.any(clear):
            return
        decay = 1 - float(np.median(seen[clear] / law[clear]))
        for value in (float(f"{decay:.2g}"), float(f"{decay:.4g}")):
            if AVERAGE_LEAST < value < AVERAGE_MOST:
                yield replace(plan, averaged=value)

    # --- distances --------------------------------------------------------------------------------------------------

    def evidence(self, plan: _Plan) -> Evidence:
        """The side's steps, with the gradients and rates of a plan; steps that were skipped are left out."""
        gradients = np.stack([self.gradient(k - plan.stale, plan.feeds[k]) for k in range(self.count)])
        if plan.adds_up:
            gradients[:] = _summed(gradients, plan.settings.bound if plan.adds_up == "as clipped" else np.inf)
        rows = np.array([k for k in range(self.count) if k not in plan.skipped], np.intp)
        return self._with(gradients[rows], np.array(self.rates(plan.shift))[rows, None], rows)

    def _with(self, gradients: Array, rates: Array, rows: NDArray[np.intp]) -> Evidence:
        base = self.base
        made = replace(
            base,
            before=base.before[rows],
            after=base.after[rows],
            ulp=base.ulp[rows],
            rerun=base.rerun if isinstance(base.rerun, float) else base.rerun[rows],
            noise=None if base.noise is None else base.noise[rows],
            gradients=gradients[:, None, :],
            mean=gradients,
            rates=rates,
            cache={},
        )
        return replace(made, norms=made.gradient_norms())

    def distance(self, plan: _Plan) -> float:
        """Of the side from a plan: the worst parameter's in its worst step that is compared."""
        if plan not in self.distances:
            rows = np.array([k for k in range(self.count) if k not in plan.skipped], np.intp)
            shown = self._rms(plan)[self.compared[rows]]
            self.distances[plan] = float(np.max(shown, initial=0.0))
        return self.distances[plan]

    def _at(self, step: int, plan: _Plan) -> float:
        """How well one step fits: the mean over parameters, since a wrong batch shows in most."""
        rows = [k for k in range(self.count) if k not in plan.skipped]
        return float(np.mean(np.log1p(self._rms(plan)[rows.index(step)])))

    def _rms(self, plan: _Plan) -> Array:
        if plan.averaged:
            return self._rms_of_average(plan)
        evidence = self.evidence(plan)
        if plan.times == 1:
            return evidence.rms(evidence.deviations(plan.settings))
        predicted = self._applied_twice(evidence, plan.settings)
        return evidence.rms(_deviations(evidence, plan.settings, evidence.observed, predicted))

    def _applied_twice(self, evidence: Evidence, settings: LawSettings) -> Predicted:
        """Two updates a step; the weights between them are predicted, since nobody saw them."""
        twice = np.repeat(np.arange(len(evidence.rates)), 2)
        doubled = replace(self._with(evidence.mean[twice], evidence.rates[twice], twice), first=2 * evidence.first)
        for _ in range(2):
            change, size, noise = doubled.predict(settings)
            before = doubled.before.copy()
            before[1::2] = before[::2] + change[::2]
            doubled = replace(doubled, before=before, cache={})
        spread = noise[::2] + noise[1::2] if isinstance(noise, np.ndarray) else noise
        return Predicted(change[::2] + change[1::2], size[::2] + size[1::2], spread)

    def _rms_of_average(self, plan: _Plan) -> Array:
        """The weights behind the average were not seen: they are replayed freely, and their tolerance adds up."""
        base, names = self.base, self.base.names
        weights = base.before[0].copy()
        befores, gradients, found = [], [], []
        shapes = {name: np.shape(self.observation.start[name]) for name in names}
        rates = np.array(self.rates(plan.shift))[:, None]
        shown, total = base.before[0], 0.0
        for k in range(self.count):
            befores.append(weights)
            parts = np.split(weights, base.starts[1:])
            arrays = {name: part.reshape(shapes[name]) for name, part in zip(names, parts, strict=True)}
            gradients.append(flat(self.gradient_of({**self.observation.start, **arrays}, plan.feeds[k]), names))
            rows = np.arange(k + 1)
            evidence = replace(self._with(np.stack(gradients), rates[rows], rows), before=np.stack(befores), cache={})
            predicted = evidence.predict(plan.settings)
            weights = weights + predicted.change[-1]
            expected = plan.averaged * shown + (1 - plan.averaged) * weights
            total = total + evidence.tolerance(plan.settings, predicted)[-1]
            with np.errstate(all="ignore"):
                found.append(finite((base.after[k] - expected) / total))
            shown = base.after[k]
        return base.rms(np.stack(found))

    # --- words ------------------------------------------------------------------------------------------------------

    def candidate(self, plan: _Plan) -> Candidate:
        """The hypothesis in words."""
        said = dict(self._said(plan))
        values: dict[str, Any] = {}
        for _, more in said.values():
            values |= more
        sentences = {name: sentence for name, (sentence, _) in said.items()}
        return Candidate(
            names=tuple(said),
            says="; ".join(sentences.values()),
            residual=self.distance(plan),
            values={**values, "sentences": sentences},
        )

    def _said(self, plan: _Plan) -> Iterator[tuple[str, tuple[str, dict[str, Any]]]]:
        feeds = list(plan.feeds)
        if plan.adds_up:
            yield (
                "gradients-not-zeroed",
                ("gradients of earlier steps are added to those of a step", {"added": plan.adds_up}),
            )
        if plan.stale:
            yield "gradients-stale", ("gradients are of the weights before the last update", {"steps_old": plan.stale})
        if plan.feeds != self.declared.feeds:
            name = "batch-repeated" if len(set(feeds)) < len(feeds) else "batches-reordered"
            yield name, (f"the steps train on the batches {', '.join(map(str, feeds))}", {"feeds": feeds})
        if plan.times > 1:
            yield "update-repeated", ("each update is applied twice", {"times": plan.times})
        if plan.shift:
            which = "after" if plan.shift > 0 else "before"
            yield "schedule-shifted", (f"a step uses the rate of the step {which} it", {"steps": plan.shift})
        if plan.skipped:
            steps = sorted(self.observation.first + k for k in plan.skipped)
            yield "steps-skipped", (f"no update in the steps {', '.join(map(str, steps))}", {"skipped": steps})
        if plan.averaged:
            says = f"what is handed out is a moving average of the weights, decay {plan.averaged:g}"
            yield "weights-averaged", (says, {"average_decay": plan.averaged})
        for fault in faults_between(self.settings, plan.settings):
            yield fault.name, (fault.says, dict(fault.values))


def _summed(gradients: Array, bound: float) -> Array:
    """Sums (K, N) of the gradients up to each step, of which each step leaves its own, clipped to `bound`, behind."""
    total, sums = np.zeros_like(gradients[0]), np.empty_like(gradients)
    for step, gradient in enumerate(gradients):
        total = sums[step] = total + gradient
        total = total * min(1.0, bound / max(float(np.linalg.norm(total)), 1e-300))
    return sums


def _deviations(evidence: Evidence, settings: LawSettings, observed: Array, predicted: Predicted) -> Array:
    with np.errstate(all="ignore"):
        return finite((observed - predicted.change) / evidence.tolerance(settings, predicted))


def _with(feeds: Sequence[int], step: int, feed: int) -> tuple[int, ...]:
    return (*feeds[:step], feed, *feeds[step + 1 :])
