"""Which learning-rate schedule a side follows, as realised: from the start, and by a process that resumes.

    fit = identify_schedule(rates, start=0, optimizer=recipe.optimizer, steps=recipe.steps, resumed=(200, later))
    fit.best.names, fit.best.values       # ("schedule-times-n",), {"n": 4.0}

A schedule is a function of time, and time, shape, peak and warm-up can each be another one than declared. Settings are
changed one by one, then in pairs; continuous ones are fitted. The tolerance is the rounding of float32: a rate that was
computed in it, from a step that was divided by another, is off by a few units of its last place.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from lossary.diagnosis.calibration import LEAST_RATE_CHANGES
from lossary.diagnosis.calibration import SCHEDULE_ROUNDINGS as _ROUNDINGS
from lossary.diagnosis.fit import Candidate, Fit
from lossary.study import Optimizer

__all__ = ["ScheduleSettings", "identify_course", "identify_schedule", "rates_of"]

Floats = NDArray[np.float64]
_HOW = "four roundings of float32 at the peak: a rate is a product of quotients, computed at its largest near the peak"
_KEPT = 8


@dataclass(frozen=True, kw_only=True)
class ScheduleSettings:
    """A schedule; the defaults are lossary's: linear warm-up, then linear decay counted from step 0."""

    peak: float
    steps: float
    warmup: float
    shape: str = "linear"  # one of `_SHAPES`
    end: float = 0.0  # the share of the peak at the end
    speed: float = 1.0  # schedule steps for each step
    shift: float = 0.0  # steps ahead
    held: float = 1.0  # steps for which a rate is kept
    cycles: float = 1.0  # of cosine with restarts; of cosine: half a turn is 1
    power: float = 1.0  # of polynomial
    timescale: float = 0.0  # of inverse root; 0: the warm-up


def rates_of(settings: ScheduleSettings, step: Floats) -> Floats:
    """Learning rates (N,) of steps (N,)."""
    taken = step // settings.held * settings.held
    time = np.maximum(settings.speed * taken + settings.shift, 0.0)
    decayed = settings.peak * (settings.end + (1 - settings.end) * _SHAPES[settings.shape](settings, time))
    if not settings.warmup:
        return decayed
    rising = settings.peak * time / settings.warmup
    return np.where(time < settings.warmup, rising, decayed)


def _after_warmup(s: ScheduleSettings, time: Floats) -> Floats:
    return np.clip((time - s.warmup) / max(s.steps - s.warmup, 1e-9), 0.0, 1.0)


def _inverse_root(scale: float, s: ScheduleSettings, time: Floats) -> Floats:
    return np.sqrt(scale / np.maximum(time + scale - max(s.warmup, 0.0 if s.timescale else 1.0), scale))


_SHAPES: dict[str, Callable[[ScheduleSettings, Floats], Floats]] = {
    "linear": lambda s, time: np.maximum(0.0, 1.0 - time / max(s.steps, 1.0)),
    "linear after warm-up": lambda s, time: 1.0 - _after_warmup(s, time),
    "cosine": lambda s, time: 0.5 * (1.0 + np.cos(np.pi * s.cycles * _after_warmup(s, time))),
    "cosine with restarts": lambda s, time: np.where(
        _after_warmup(s, time) < 1, 0.5 * (1.0 + np.cos(np.pi * ((s.cycles * _after_warmup(s, time)) % 1.0))), 0.0
    ),
    "polynomial": lambda s, time: (1.0 - _after_warmup(s, time)) ** s.power,
    "cosine from the start": lambda s, time: 0.5 * (1.0 + np.cos(np.pi * np.minimum(time / max(s.steps, 1.0), 1.0))),
    "constant": lambda _, time: np.ones_like(time),
    "inverse root": lambda s, time: _inverse_root(s.timescale or max(s.warmup, 1.0), s, time),
    "quadratic": lambda s, time: np.maximum(0.0, 1.0 - time / max(s.steps, 1.0)) ** 2,
}


@dataclass(frozen=True)
class _Change:
    """A family of schedules: one setting, fitted or chosen."""

    name: str
    says: Callable[[ScheduleSettings], str]
    variants: Callable[[ScheduleSettings], list[dict[str, Any]]]
    fitted: tuple[str, ...] = ()
    values: Callable[[ScheduleSettings], dict[str, Any]] = lambda _: {}


_CHANGES: tuple[_Change, ...] = (
    _Change(
        "schedule-times-n",
        lambda s: f"the schedule advances {s.speed:.4g} steps with every step",
        lambda _: [{"speed": n} for n in (2, 3, 4, 8, 0.5, 0.25)],
        ("speed",),
        lambda s: {"n": s.speed},
    ),
    _Change(
        "schedule-shifted",
        lambda s: f"the schedule is {s.shift:+.4g} steps off",
        lambda s: [{"shift": d} for d in (1, -1, 2, -2, s.warmup)],
        ("shift",),
        lambda s: {"steps": s.shift},
    ),
    _Change(
        "schedule-shape",
        lambda s: f"the rate decays otherwise: {s.shape}" + (f", to {s.end:.3g} of the peak" if s.end else ""),
        lambda s: [{"shape": shape} for shape in _SHAPES if shape != s.shape],
        (),
        lambda s: {"shape": s.shape, "end": s.end},
    ),
    _Change(
        "schedule-shape",
        lambda s: f"the rate decays to {s.end:.3g} of the peak",
        lambda _: [{"end": 0.1}],
        ("end",),
        lambda s: {"end": s.end},
    ),
    _Change(
        "schedule-shape",
        lambda s: f"the rate decays over {s.steps:,.4g} steps",
        lambda s: [{"steps": s.steps * f} for f in (0.5, 2.0)],
        ("steps",),
        lambda s: {"steps": s.steps},
    ),
    _Change(
        "peak-rate",
        lambda s: f"the peak is {s.peak:.4g}",
        lambda s: [{"peak": s.peak * f} for f in (0.5, 2.0)],
        ("peak",),
        lambda s: {"peak": s.peak},
    ),
    _Change("warmup-missing", lambda _: "there is no warm-up", lambda s: [{"warmup": 0.0}] if s.warmup else []),
    _Change(
        "warmup-length",
        lambda s: f"the warm-up takes {s.warmup:.4g} steps",
        lambda s: [{"warmup": max(1.0, s.warmup) * f} for f in (0.5, 2.0, 10.0)],
        ("warmup",),
        lambda s: {"warmup": s.warmup},
    ),
)

_HELD = _Change(
    "schedule-in-steps",
    lambda s: f"the rate changes with every {s.held:.0f}th step only",
    lambda _: [{}],
    (),
    lambda s: {"held": s.held},
)


def identify_schedule(
    rates: Floats, *, start: int, optimizer: Optimizer, steps: int, resumed: tuple[int, Floats] | None = None
) -> Fit:
    """From the rates of steps `start`, `start` + 1, …, and those of a process that resumed at another step."""
    declared = ScheduleSettings(peak=optimizer.learning_rate, steps=float(steps), warmup=float(optimizer.warmup))
    step = np.arange(start, start + len(rates), dtype=np.float64)
    return identify_course(np.asarray(rates, np.float64), step, declared, resumed=resumed)


def identify_course(
    rates: Floats, step: Floats, declared: ScheduleSettings, *, resumed: tuple[int, Floats] | None = None
) -> Fit:
    """From the rates of any steps, and those of a process that resumed."""
    seen = _Seen(rates, step, declared.peak)
    later = None
    if resumed is not None:
        first, values = resumed
        later = _Seen(
            np.asarray(values, np.float64), np.arange(first, first + len(values), dtype=np.float64), declared.peak
        )
    distance = max(part.distance(declared) for part in (seen, later) if part is not None)
    if distance <= 1.0:
        return Fit(distance=distance, tried=(), how=_HOW)
    base = (
        seen.candidates(declared) if seen.distance(declared) > 1.0 else [_Trial((), declared, seen.distance(declared))]
    )
    tried = [found for trial in base[:_KEPT] for found in _with_resume(trial, later)]
    tried.sort(key=lambda c: c.rank)
    return Fit(distance=distance, tried=tuple(c for c in tried if c.names)[:_KEPT], how=_HOW)


@dataclass(frozen=True)
class _Trial:
    changes: tuple[_Change, ...]
    settings: ScheduleSettings
    residual: float


@dataclass(frozen=True)
class _Seen:
    rates: Floats
    step: Floats
    peak: float

    def distance(self, settings: ScheduleSettings) -> float:
        """The largest difference, in units of the tolerance."""
        if not np.isfinite(self.rates).all():
            return float("inf")
        expected = rates_of(settings, self.step)
        unit = _ROUNDINGS * np.finfo(np.float32).eps * max(settings.peak, self.peak)
        return float(np.abs(self.rates - expected).max(initial=0.0) / unit)

    def held(self) -> float:
        """The number of steps that divides all steps at which the rate changes; 1 where it hardly does."""
        changes = self.step[1:][np.diff(self.rates) != 0].astype(np.int64)
        return float(np.gcd.reduce(changes)) if len(changes) >= LEAST_RATE_CHANGES else 1.0

    def candidates(self, declared: ScheduleSettings) -> list[_Trial]:
        """Single changes, then pairs where no single one reproduces; best first."""
        singles = [trial for change in _CHANGES for trial in self._changed(declared, (change,))]
        if (held := self.held()) > 1:
            kept = replace(declared, held=held)
            singles.append(_Trial((_HELD,), kept, self.distance(kept)))
            singles += [trial for change in _CHANGES for trial in self._changed(kept, (_HELD, change))]
        if not any(trial.residual <= 1.0 for trial in singles):
            singles += [trial for pair in combinations(_CHANGES, 2) for trial in self._changed(declared, pair)]
        return sorted(singles, key=lambda trial: (trial.residual > 1.0, len(trial.changes), trial.residual))

    def _changed(self, declared: ScheduleSettings, changes: tuple[_Change, ...]) -> Iterator[_Trial]:
        if len({change.name for change in changes}) < len(changes):
            return
        options: list[dict[str, Any]] = [{}]
        for change in changes:
            options = [a | b for a in options for b in change.variants(declared)]
        fitted = tuple(name for change in changes for name in change.fitted)
        best: _Trial | None = None
        for option in options:
            settings = self._fitted(replace(declared, **option), fitted)
            trial = _Trial(changes, settings, self.distance(settings))
            best = trial if best is None or trial.residual < best.residual else best
        if best is not None:
            yield best

    def _fitted(self, settings: ScheduleSettings, names: tuple[str, ...]) -> ScheduleSettings:
        """Continuous settings by least squares, then at the nearest round number if that is as good."""
        if not names or not np.isfinite(self.rates).all():
            return settings
        begin = np.array([getattr(settings, name) or 1e-3 for name in names], np.float64)

        def error(values: Floats) -> Floats:
            trial = replace(settings, **dict(zip(names, begin * values, strict=True)))
            return np.asarray((rates_of(trial, self.step) - self.rates) / self.peak)

        found = least_squares(error, np.ones(len(names)), xtol=1e-14, ftol=1e-14, gtol=1e-14).x * begin
        fitted = replace(settings, **dict(zip(names, found.tolist(), strict=True)))
        short: dict[str, Any] = {n: float(f"{v:.4g}") for n, v in zip(names, found.tolist(), strict=True)}
        rounded = replace(settings, **short)
        return rounded if self.distance(rounded) <= max(1.0, self.distance(fitted)) else fitted


def _with_resume(trial: _Trial, later: _Seen | None) -> Iterator[Candidate]:
    """The candidate for a trial, with what a resume does to it."""
    names = tuple(change.name for change in trial.changes)
    says = {change.name: change.says(trial.settings) for change in trial.changes}
    values = {key: value for change in trial.changes for key, value in change.values(trial.settings).items()}
    after = 0.0 if later is None else later.distance(trial.settings)
    yield _candidate(names, says, values, max(trial.residual, after))
    if later is not None and after > 1.0:
        first = float(later.step[0])
        again = replace(trial.settings, shift=trial.settings.shift - trial.settings.speed * first)
        more = {"schedule-restarts-on-resume": "after a resume the schedule starts over"}
        yield _candidate((*names, *more), says | more, values, max(trial.residual, later.distance(again)))


def _candidate(names: tuple[str, ...], says: dict[str, str], values: dict[str, Any], residual: float) -> Candidate:
    return Candidate(
        names=names, says="; ".join(says.values()), residual=residual, values={**values, "sentences": says}
    )
