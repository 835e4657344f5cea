"""Steps from one update law to its neighbours: what a search tries.

    for trial in trials(settings, changed, evidence): ...

A trial is one setting with the values it may start from and, if it is continuous, the field to be fitted.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossary.diagnosis.calibration import UPDATE_SHOWS
from lossary.diagnosis.laws.update_evidence import Evidence
from lossary.diagnosis.laws.update_space import PRESETS, DecayAt, EpsilonAt, LawSettings, NormOf, changed, preset

__all__ = ["EPSILONS", "LOSS_SCALES", "Trial", "continuous", "known_laws", "trials"]

EPSILONS = (1e-12, 1e-10, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
_DECAYS = (0.0, 0.001, 0.004, 0.01, 0.05, 0.1)
_BETA1S = (0.0, 0.5, 0.8, 0.9, 0.95, 0.99)
_BETA2S = (0.9, 0.95, 0.98, 0.99, 0.999, 0.9999)
_CAPS = (1.0, 10.0)
LOSS_SCALES = tuple(2.0**power for power in range(8, 25))  # of mixed precision: PyTorch starts at 2¹⁶, Keras at 2¹⁵
# What frameworks and well-known code do unless they are told otherwise: a preset and what differs from it.
_KNOWN: tuple[tuple[str, dict[str, Any]], ...] = (
    ("adamw", {"epsilon_at": "hat", "epsilon": 1e-7, "decay": 0.004, "decayed": "all"}),  # keras.optimizers.AdamW
    ("adamw", {"epsilon": 1e-8, "decay": 0.01, "decayed": "all"}),  # torch.optim.AdamW
    ("adamw", {"epsilon": 1e-8, "decay": 0.0001, "decayed": "all"}),  # optax.adamw
    ("adamw", {"epsilon": 1e-8, "decay": 0.0}),  # transformers.Trainer
    ("adamw", {"epsilon_at": "hat", "epsilon": 1e-7, "decay": 0.0}),  # keras.optimizers.Adam
    ("adamw without bias correction", {"epsilon": 1e-6}),  # google-research/bert
    ("keras lamb", {"epsilon": 1e-7, "decay": 0.0}),
    ("lamb with bias correction", {"epsilon": 1e-6, "decayed": "all"}),  # NVIDIA/apex FusedLAMB
    ("lamb", {"epsilon": 1e-6, "decay": 0.0, "norm_high": 10.0, "adapted": "all"}),  # cybertronai/pytorch-lamb
)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """Settings that may be otherwise. `pick` asks for a choice parameter by parameter."""

    groups: tuple[str, ...]  # of settings that change
    starts: Sequence[LawSettings]
    fitted: tuple[str, ...] = ()
    other: str | None = None
    pick: bool = False


def trials(s: LawSettings, changed: frozenset[str], evidence: Evidence) -> list[Trial]:
    """What can be changed in a law beyond the settings that are changed already.

    From the declared law also pairs, of which either alone may lead away from the side: ε and its place, decay and its,
    another optimizer and the rate, and any two choices of the moments, of the place of decay and of clipping.
    """
    made: list[Trial] = []
    for make in (_moments, _decay, _clipping, _ratio, _gradient, _rate, _others):
        made.extend(trial for trial in make(s, evidence) if not changed.intersection(trial.groups))
    if not changed:
        made += [*_pairs(made, evidence), *_choices(made, evidence)]
    return made


def _choices(singles: Sequence[Trial], evidence: Evidence) -> Iterator[Trial]:
    for first in singles:
        if first.fitted or first.pick or first.other:
            continue
        (changed,) = first.starts
        later = [trial for make in (_moments, _decay, _clipping) for trial in make(changed, evidence)]
        for second in later:
            if not (second.fitted or second.pick) and second.groups > first.groups:
                yield replace(second, groups=(*first.groups, *second.groups))


def _pairs(singles: Sequence[Trial], evidence: Evidence) -> Iterator[Trial]:
    fields = {"epsilon_at": ("epsilon", EPSILONS), "correction": ("epsilon", EPSILONS), "decay_at": ("decay", _DECAYS)}
    for trial in singles:
        name, values = fields.get(trial.groups[0], ("", ()))
        if name:
            options: list[dict[str, Any]] = [{name: value} for value in values]
            starts = [replace(trial.starts[0], **option) for option in options]
            yield replace(trial, groups=(*trial.groups, name), starts=starts, fitted=(name,))
        elif trial.other and trial.starts[0].family != "lamb":
            rate = next(_rate(trial.starts[0], evidence))
            yield replace(rate, groups=(*trial.groups, *rate.groups), other=trial.other)


def continuous(s: LawSettings) -> tuple[str, ...]:
    """The continuous settings that every law of a family has."""
    moments = {
        "adam": ("beta1", "beta2", "epsilon"),
        "lamb": ("beta1", "beta2", "epsilon"),
        "adagrad": ("epsilon",),
        "momentum": ("beta1",),
        "nesterov": ("beta1",),
        "sgd": (),
    }
    return ("rate_scale", "decay", *moments[s.family])


def known_laws(declared: LawSettings) -> Iterator[tuple[str | None, LawSettings]]:
    """Complete laws of well-known code, each without clipping and as declared; with a name if the family is another."""
    for name, changes in _KNOWN:
        law = replace(preset(name, declared), **changes)
        for clip in {"none", declared.clip}:
            yield (None if law.family == declared.family else name), replace(law, clip=clip)


def _moments(s: LawSettings, evidence: Evidence) -> Iterator[Trial]:
    del evidence
    if s.family == "sgd":
        return
    if s.family != "adagrad":
        yield _grid("beta1", s, _BETA1S)
    if s.family in ("adam", "lamb", "adagrad"):
        yield _grid("epsilon", s, EPSILONS)
    if s.family not in ("adam", "lamb"):
        return
    yield _grid("beta2", s, _BETA2S)
    for m, v in product((True, False), repeat=2):
        if (m, v) != (s.correct_m, s.correct_v):
            # Without correction of v, ε hat is ε.
            where: EpsilonAt = "root" if s.epsilon_at == "hat" and not v else s.epsilon_at
            yield Trial(groups=("correction",), starts=[replace(s, correct_m=m, correct_v=v, epsilon_at=where)])
    places: tuple[EpsilonAt, ...] = ("root", "hat", "inside") if s.correct_v else ("root", "inside")
    for place in places:
        if place != s.epsilon_at:
            yield Trial(groups=("epsilon_at",), starts=[replace(s, epsilon_at=place)])


def _decay(s: LawSettings, evidence: Evidence) -> Iterator[Trial]:
    del evidence
    yield _grid("decay", s, _DECAYS)
    if s.decay == 0:
        return
    yield Trial(groups=("decayed",), starts=[s], pick=True)
    places: tuple[DecayAt, ...] = ("decoupled", "gradient", "unscaled", *(("update",) if s.family == "lamb" else ()))
    for place in places:
        if place != s.decay_at:
            yield Trial(groups=("decay_at",), starts=[replace(s, decay_at=place)])


def _clipping(s: LawSettings, evidence: Evidence) -> Iterator[Trial]:
    if s.clip != "none":
        yield Trial(groups=("clip",), starts=[replace(s, clip="none", bound=1.0, clip_replicas=False)])
        if evidence.gradients.shape[1] > 1 and s.norm_of == "mean":
            yield Trial(groups=("clip_replicas",), starts=[replace(s, clip_replicas=not s.clip_replicas)])
        if evidence.gradients.shape[1] > 1 and s.clip == "global" and not s.clip_replicas:
            others: tuple[NormOf, ...] = ("first", "last", "all")
            yield from (Trial(groups=("norm_of",), starts=[replace(s, norm_of=of)]) for of in others if of != s.norm_of)
    ranges = {
        "global": evidence.norms["global"],
        "tensor": evidence.norms["tensor"],
        "value": np.abs(evidence.mean).max(axis=1),
    }
    for kind, seen in ranges.items():
        low, high = float(np.min(seen)), float(np.max(seen))
        # A bound above all that is seen is no clipping; far below the smallest, one bound is as another but for ε, and
        # there bounds are declared ones of gradients that are scaled.
        scaled = [s.bound / scale for scale in LOSS_SCALES[::3]] if kind == s.clip else []
        spaced = np.geomspace(max(low, high / 1e3) / 2, high * 0.99, 7).tolist()
        bounds = [b for b in {s.bound, *spaced, *scaled} if b < high]
        if bounds:
            starts = [replace(s, clip=kind, bound=bound) for bound in bounds]  # type: ignore[arg-type]
            yield Trial(groups=("clip",), starts=starts, fitted=("bound",))
    if s.clip == "global":
        yield Trial(groups=("clip",), starts=[replace(s, clip="always")])


def _ratio(s: LawSettings, evidence: Evidence) -> Iterator[Trial]:
    del evidence
    if s.family != "lamb":
        return
    yield Trial(groups=("adapted",), starts=[s], pick=True)
    yield Trial(groups=("ratio",), starts=[replace(s, ratio_low=0.01, ratio_high=10.0)])
    for name in ("ratio_high", "norm_high"):
        yield Trial(groups=("ratio",), starts=[changed(s, {name: cap}) for cap in _CAPS], fitted=(name,))


def _gradient(s: LawSettings, evidence: Evidence) -> Iterator[Trial]:
    replicas = float(evidence.gradients.shape[1])
    for factor in () if replicas == 1 else (replicas, 1 / replicas):
        yield Trial(groups=("gradient_scale",), starts=[replace(s, gradient_scale=factor)])


def _rate(s: LawSettings, evidence: Evidence) -> Iterator[Trial]:
    predicted, seen = evidence.predict(s), evidence.observed
    with np.errstate(all="ignore"):
        visible = np.abs(predicted.change) > UPDATE_SHOWS * evidence.ulp
    factors = [0.1, 0.5, 2.0, 10.0, -1.0, 0.0]
    if np.any(visible):
        factors += _modes(seen[visible] / predicted.change[visible])
    yield Trial(
        groups=("rate",), starts=[replace(s, rate_scale=s.rate_scale * f) for f in factors], fitted=("rate_scale",)
    )


def _modes(values: NDArray[Any]) -> list[float]:
    """The middle of the narrowest ranges that hold a half, a fifth and a twentieth of the values."""
    ordered = np.sort(values)
    found = []
    for share in (2, 5, 20):
        held = len(ordered) // share + 1
        widths = ordered[held - 1 :] - ordered[: len(ordered) - held + 1]
        found.append(float(ordered[int(np.argmin(widths)) + held // 2]))
    return found


def _others(s: LawSettings, evidence: Evidence) -> Iterator[Trial]:
    del evidence
    for name in PRESETS:
        law = preset(name, s)
        if law.family != s.family or name == "rmsprop":
            yield Trial(groups=("other",), starts=[law], other=name)


def _grid(name: str, s: LawSettings, values: Sequence[float]) -> Trial:
    return Trial(groups=(name,), starts=[s, *(changed(s, {name: value}) for value in values)], fitted=(name,))
