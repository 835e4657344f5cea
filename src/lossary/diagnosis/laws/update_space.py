"""The space of update laws: the settings in which trainers differ, so that a fault is a point beside the declared one.

    settings = LawSettings.of(UpdateLaw(name="adamw"))
    keras = LawSettings.of(UpdateLaw(name="adamw"), {"epsilon_placement": "hat", "decayed": "all"})

What each family computes, with g the gradient, w the weights, m and v the moments, c_m and c_v their corrections
(1 − βᵗ, or 1), d the denominator (√(v/c_v) + ε; "hat": (√v + ε)/√c_v; "inside": √(v/c_v + ε)):

    adam      w − lr·(m/c_m/d + λ·w)
    lamb      w − lr·r·(m/c_m/d + λ·w), r = ‖w‖/‖·‖, 1 where either is 0
    adagrad   d = √Σg² + ε
    momentum  b = β·b + g, w − lr·(b + λ·w); nesterov: g + β·b for b; sgd: g

Sources: as `lossary.models.update_laws`; Keras 3 and PyTorch 2 optimizers; Duchi et al. (JMLR 2011) for Adagrad.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from lossary.models.parameters import is_excluded
from lossary.models.update_laws import UpdateLaw

__all__ = [
    "changed",
    "PRESETS",
    "Clip",
    "DecayAt",
    "EpsilonAt",
    "Family",
    "Grid",
    "LawSettings",
    "Lost",
    "NormOf",
    "Scope",
    "preset",
]

Family = Literal["adam", "lamb", "adagrad", "momentum", "nesterov", "sgd"]
EpsilonAt = Literal["root", "hat", "inside"]
DecayAt = Literal["decoupled", "update", "gradient", "unscaled"]
Clip = Literal["none", "global", "tensor", "value", "always"]
Scope = Literal["matrices", "all"]
Grid = Literal["float32", "bfloat16", "float16"]
Lost = Literal["m", "v", "t"]
NormOf = Literal["mean", "first", "last", "all"]


@dataclass(frozen=True, kw_only=True)
class LawSettings:
    """One update law. Flips are the parameters for which a scope does not hold."""

    family: Family
    correct_m: bool = True
    correct_v: bool = True
    epsilon_at: EpsilonAt = "root"
    epsilon: float = 1e-6
    beta1: float = 0.9
    beta2: float = 0.999
    dampened: bool = False  # momentum: a gradient enters 1 − β1 times, as into Adam's first moment
    decay: float = 0.0
    # decoupled: lr·λ·w, apart; update: LAMB's, before the ratio; gradient: added to g; unscaled: λ·w without the rate.
    decay_at: DecayAt = "decoupled"
    decayed: Scope = "matrices"
    decay_flips: frozenset[str] = frozenset()
    clip: Clip = "none"  # always: by global norm, and what is below the bound is scaled up to it
    bound: float = 1.0
    clip_replicas: bool = False  # each replica's gradients are clipped, then averaged
    # Clipping of the mean by the norm of what: of it, of one replica's gradients, of all replicas' together.
    norm_of: NormOf = "mean"
    adapted: Scope = "matrices"  # LAMB: which parameters have a trust ratio
    adapt_flips: frozenset[str] = frozenset()
    ratio_low: float = 0.0  # LAMB: the ratio is held to [low, high]
    ratio_high: float = np.inf
    norm_high: float = np.inf  # LAMB: the norm of the weights in it is held below
    gradient_scale: float = 1.0  # of what is clipped
    rate_scale: float = 1.0
    step_factors: tuple[float, ...] = ()  # a factor of the rate for each step
    frozen: frozenset[str] = frozenset()  # parameters that the optimizer does not know
    grid: Grid = "float32"  # in which weights are kept
    counts: Literal["updates", "steps"] = "updates"  # t of the corrections: since the restart, or the step's number
    resumed: int = 0  # the update before which an optimizer was resumed; 0: it was not
    lost: frozenset[Lost] = frozenset()  # what began anew then: moments, the count of updates

    @classmethod
    def of(cls, law: UpdateLaw, declared: Mapping[str, Any] | None = None) -> Self:
        """The settings of lossary's law; `declared` has what a side means to do otherwise.

        Its keys: any of the law (`epsilon`, `beta1`, `beta2`, `weight_decay`, `clip_norm`), `bias_correction` (bool),
        `epsilon_placement` ("root", "hat", "inside"), `decay_placement` ("decoupled", "update", "gradient"), `decayed`
        ("matrices", "all"), `adapted` (the same), `clip` ("global", "tensor", "value"). Others are not about the law.
        """
        given = {**vars(law), **(declared or {})}
        lamb = law.name == "lamb"
        corrected = bool(given.get("bias_correction", not lamb))
        clip_norm = given["clip_norm"]
        return cls(
            family="lamb" if lamb else "adam",
            correct_m=corrected,
            correct_v=corrected,
            epsilon_at=given.get("epsilon_placement", "root"),
            epsilon=float(given["epsilon"]),
            beta1=float(given["beta1"]),
            beta2=float(given["beta2"]),
            decay=float(given["weight_decay"]),
            decay_at=given.get("decay_placement", "update" if lamb else "decoupled"),
            decayed=given.get("decayed", "matrices"),
            adapted=given.get("adapted", "matrices"),
            clip="none" if clip_norm is None else given.get("clip", "global"),
            bound=float(clip_norm or 1.0),
        )

    def is_decayed(self, names: tuple[str, ...]) -> NDArray[np.bool_]:
        """Of each parameter, whether weights decay."""
        return _in_scope(names, self.decayed, self.decay_flips)

    def is_adapted(self, names: tuple[str, ...]) -> NDArray[np.bool_]:
        """Of each parameter, whether LAMB's ratio is taken."""
        return _in_scope(names, self.adapted, self.adapt_flips)

    def times(self, first: int, count: int) -> NDArray[np.float64]:
        """t of `count` updates, (K, 1), of which the first is that of step `first`."""
        start = first if self.counts == "steps" else 0
        times = np.arange(start + 1, start + count + 1, dtype=np.float64)[:, None]
        if "t" in self.lost and self.counts == "updates":
            times[self.resumed :] -= self.resumed
        return times


def _in_scope(names: tuple[str, ...], scope: Scope, flips: frozenset[str]) -> NDArray[np.bool_]:
    inside = np.array([scope == "all" or not is_excluded(name) for name in names], bool)
    return inside ^ np.array([name in flips for name in names], bool)


def preset(name: str, declared: LawSettings) -> LawSettings:
    """Another optimizer with the declared hyperparameters: one of `PRESETS`."""
    return replace(declared, **_PRESETS[name])


_LAMB: dict[str, Any] = {"family": "lamb", "epsilon_at": "root"}
_ADAM: dict[str, Any] = {"family": "adam", "epsilon_at": "root"}
_ON, _OFF = {"correct_m": True, "correct_v": True}, {"correct_m": False, "correct_v": False}
_PRESETS: dict[str, dict[str, Any]] = {
    "lamb": {**_LAMB, **_OFF, "decay_at": "update"},
    "lamb with bias correction": {**_LAMB, **_ON, "decay_at": "update"},
    "keras lamb": {**_LAMB, **_ON, "decay_at": "decoupled", "adapted": "all"},
    "adamw": {**_ADAM, **_ON, "decay_at": "decoupled"},
    "adamw without bias correction": {**_ADAM, **_OFF, "decay_at": "decoupled"},
    "adam": {**_ADAM, **_ON, "decay_at": "gradient"},
    "rmsprop": {**_ADAM, **_OFF, "beta1": 0.0, "decay_at": "decoupled"},
    "adagrad": {"family": "adagrad", **_OFF, "epsilon_at": "root", "decay_at": "gradient"},
    "momentum": {"family": "momentum", **_OFF, "decay_at": "gradient"},
    "dampened momentum": {"family": "momentum", **_OFF, "decay_at": "decoupled", "dampened": True},
    "nesterov": {"family": "nesterov", **_OFF, "decay_at": "gradient"},
    "sgd": {"family": "sgd", **_OFF, "decay_at": "gradient"},
}
PRESETS = tuple(_PRESETS)


def changed(settings: LawSettings, values: Mapping[str, Any]) -> LawSettings:
    """The settings with some of them, chosen by name, replaced."""
    return replace(settings, **values)
