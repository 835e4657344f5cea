"""What a side's updates show, flattened, and what a law predicts of it.

    evidence = Evidence.of(observation, rates).measured(settings)
    evidence.distance(settings)                  # at most 1: the side follows this law

Every step starts from the weights that the side itself had: only moments, made of known gradients, carry over, so that
errors do not add up.

The tolerance of an element is the sum of what float32 cannot say about a step of it:

    1 ulp of the weight                          two roundings, when the step is taken
    2⁻²⁴·c·s                                     rounding of the step: s is the sum of the sizes of its terms, c is
                                                 measured, as the law in float32 against float64
    (|1 − ĉ/c| + 1e-6/norm + lr·λ)·s             what the same law may be: corrections from β in float32; clipping by
                                                 norm + 1e-6, as PyTorch; decay before or after the step
    the side's own rerun, noise of gradients     where they are given

and a side's distance is the largest root mean square of deviation / tolerance over the elements of a parameter in a
step: the worst parameter, so that a fault in a small one is not averaged away.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from lossary.diagnosis.adapter import Arrays
from lossary.diagnosis.calibration import CLIP_SLACK as _CLIP_SLACK
from lossary.diagnosis.calibration import UPDATE_LEAST_ROUNDINGS as _LEAST_ROUNDINGS
from lossary.diagnosis.calibration import UPDATE_MOST_ALLOWED as _MOST_ALLOWED
from lossary.diagnosis.calibration import UPDATE_MOST_FREEDOM as _MOST_FREEDOM
from lossary.diagnosis.calibration import UPDATE_OF_A_RERUN as _OF_A_RERUN
from lossary.diagnosis.calibration import UPDATE_SAFETY as _SAFETY
from lossary.diagnosis.laws.update_arrays import Array, averaged, finite, flat, rounded_to, spacing_of
from lossary.diagnosis.laws.update_space import Grid, LawSettings, NormOf
from lossary.models.parameters import is_excluded

__all__ = ["Evidence", "Predicted", "UpdateObservation"]

_HALF_ULP = 2.0**-24  # relative, of float32
_UNITS: dict[Grid, float] = {"float32": _HALF_ULP, "bfloat16": 2.0**-8, "float16": 2.0**-11}


@dataclass(frozen=True, kw_only=True)
class UpdateObservation:
    """K updates of a side with a fresh optimizer, from given gradients."""

    start: Arrays  # canonical weights, float32
    gradients: Sequence[Sequence[Arrays]]  # [step][replica]
    weights: Sequence[Arrays]  # after each step
    first: int = 0  # number of the first step
    rerun: Sequence[Arrays] | None = None  # weights of the same again


class Predicted(NamedTuple):
    """Steps by element, (K, N)."""

    change: Array
    size: Array  # sum of the sizes of the step's terms
    noise: Array | float  # of the step, from noise of the gradients


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """K steps of T parameters with N elements in all, R replicas."""

    names: tuple[str, ...]
    starts: NDArray[np.intp]  # (T,)
    sizes: NDArray[np.intp]  # (T,)
    before: Array  # (K, N)
    after: Array  # (K, N)
    gradients: Array  # (K, R, N)
    mean: Array  # (K, N)
    rates: Array  # (K, 1)
    first: int
    # Of gradients: global (K, 1), tensor (K, T), replicas (K, R, 1), replica_tensors (K, R, T).
    norms: Mapping[str, Array]
    ulp: Array  # (K, N)
    rerun: Array | float = 0.0  # (K, N) what the side's own rerun allows
    noise: Array | None = None  # (K, T) of the gradients, absolute
    roundings: float = _LEAST_ROUNDINGS
    unit: float = _HALF_ULP
    cache: dict[Any, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, observation: UpdateObservation, rates: Sequence[float]) -> Self:
        """The evidence of an observation; ValueError says what does not fit together."""
        steps = observation.weights
        if not steps or not len(steps) == len(observation.gradients) == len(rates):
            raise ValueError(
                f"{len(steps)} weights after a step, {len(observation.gradients)} gradients and {len(rates)} rates; "
                "as many of each are expected, and at least one"
            )
        given = [observation.start, *steps, *(part for step in observation.gradients for part in step)]
        names = tuple(name for name in observation.start if all(name in arrays for arrays in given))
        for name in names:
            shapes = {np.shape(arrays[name]) for arrays in given}
            if len(shapes) != 1:
                raise ValueError(f"{name} has the shapes {sorted(shapes)}; one is expected")
        if not names:
            raise ValueError("weights and gradients share no parameter")
        weights = np.stack([flat(arrays, names) for arrays in [observation.start, *steps]])
        gradients = np.stack([[flat(part, names) for part in step] for step in observation.gradients])
        sizes = np.array([np.size(observation.start[name]) for name in names], np.intp)
        larger = np.maximum(np.abs(weights[:-1]), np.abs(weights[1:]))
        made = cls(
            names=names,
            starts=np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.intp),
            sizes=sizes,
            before=weights[:-1],
            after=weights[1:],
            gradients=gradients,
            mean=gradients.mean(axis=1),
            rates=np.asarray(rates, np.float64)[:, None],
            first=observation.first,
            norms={},
            ulp=spacing_of("float32", larger),
        )
        if observation.rerun is not None:
            again = np.stack([flat(arrays, names) for arrays in observation.rerun])
            made = replace(made, rerun=made.spread(_OF_A_RERUN * made.rms(again - weights[1:])))
        return replace(made, norms=made.gradient_norms())

    # --- views ------------------------------------------------------------------------------------------------------

    def spread(self, values: Any) -> Any:
        """Values of parameters, (…, T), to their elements, (…, N)."""
        return np.repeat(values, self.sizes, axis=-1)

    @property
    def excluded(self) -> NDArray[np.bool_]:
        """Of each parameter, whether it is a bias or of layer normalisation."""
        return self._once("excluded", lambda: np.array([is_excluded(name) for name in self.names]))

    @property
    def observed(self) -> Array:
        """The steps that the side took, (K, N)."""
        return self._once("observed", lambda: self.after - self.before)

    def part(self, keep: NDArray[np.bool_]) -> Self:
        """Some elements, (N,); norms of gradients stay those of all."""
        sizes = np.add.reduceat(keep.astype(np.intp), self.starts)
        chosen = sizes > 0
        sizes = sizes[chosen]
        norms = {
            name: norm if name in ("global", "replicas") else norm[..., chosen] for name, norm in self.norms.items()
        }
        return replace(
            self,
            names=tuple(name for name, wanted in zip(self.names, chosen, strict=True) if wanted),
            starts=np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.intp),
            sizes=sizes,
            before=np.ascontiguousarray(self.before[:, keep]),
            after=np.ascontiguousarray(self.after[:, keep]),
            gradients=np.ascontiguousarray(self.gradients[:, :, keep]),
            mean=np.ascontiguousarray(self.mean[:, keep]),
            ulp=np.ascontiguousarray(self.ulp[:, keep]),
            rerun=self.rerun if isinstance(self.rerun, float) else self.rerun[:, keep],
            norms=norms,
            noise=None if self.noise is None else self.noise[:, chosen],
            cache={},
        )

    def kept_in(self, grid: Grid) -> Self:
        """The same steps of a side that keeps its weights in lower precision."""
        before = self.before.copy()
        before[0] = rounded_to(grid, before[0])
        ulp = spacing_of(grid, np.maximum(np.abs(before), np.abs(self.after)))
        return replace(self, before=before, ulp=ulp, unit=_UNITS[grid], cache={})

    def measured(self, settings: LawSettings) -> Self:
        """With the rounding of this law's steps in float32 measured: the root mean square of the worst parameter."""
        single = np.float32
        low = replace(
            self,
            before=self.before.astype(single),
            gradients=self.gradients.astype(single),
            mean=self.gradients.astype(single).mean(axis=1),
            rates=self.rates.astype(single),
            noise=None,
            cache={},
        )
        low = replace(low, norms=low.gradient_norms())
        exact, rough = self.predict(settings), low.predict(settings)
        with np.errstate(all="ignore"):
            relative = np.abs(rough.change - exact.change) / (_HALF_ULP * exact.size)
        worst = np.max(self.rms(np.where(np.isfinite(relative), relative, 0.0)), initial=0.0)
        return replace(self, roundings=max(_LEAST_ROUNDINGS, _SAFETY * float(worst)))

    # --- predictions ------------------------------------------------------------------------------------------------

    def predict(self, settings: LawSettings) -> Predicted:
        """The steps that a law takes from the side's weights."""
        with np.errstate(all="ignore"):
            step = self._direction(settings)
            rates = self.rates * settings.rate_scale
            if settings.step_factors:
                rates = rates * np.array(settings.step_factors)[:, None]
            decay = self._decay(settings) if settings.decay_at != "gradient" else None
            total, size = step.change, step.size
            separate = settings.decay_at == "unscaled" or (settings.decay_at != "update" and settings.family == "lamb")
            if decay is not None and not separate:
                total, size, decay = total + decay, size + np.abs(decay), None
            ratio = self._ratio(settings, total) if settings.family == "lamb" else 1.0
            factor = rates * ratio
            change, size, noise = -factor * total, np.abs(factor) * size, np.abs(factor) * step.noise
            if decay is not None:
                apart = decay if settings.decay_at == "unscaled" else rates * decay
                change, size = change - apart, size + np.abs(apart)
            if settings.frozen:
                moves = self.spread(np.array([name not in settings.frozen for name in self.names]))
                change, size = change * moves, size * moves
            return Predicted(change, size, noise)

    def _direction(self, s: LawSettings) -> Predicted:
        """The step before decay, ratio and rate, with its sign turned."""
        gradient, key = self._gradient(s)
        noise = None if self.noise is None else self.noise * self._noise_factor(s)
        if s.family == "sgd":
            return Predicted(gradient, np.abs(gradient), 0.0 if noise is None else self.spread(noise))
        if s.family in ("momentum", "nesterov"):
            add = 1 - s.beta1 if s.dampened else 1.0
            moment, size = self._moment(key, gradient, s.beta1, add, s.resumed if "m" in s.lost else 0)
            spread = 0.0 if noise is None else self.spread(averaged(noise, s.beta1, add))
            if s.family == "nesterov":
                moment, size = gradient + s.beta1 * moment, np.abs(gradient) + s.beta1 * size
            return Predicted(moment, size, spread)
        times = s.times(self.first, len(self.rates))
        if s.family == "adagrad":
            denominator = self._root(key, gradient, 1.0, 1.0)[1] + s.epsilon
            return Predicted(
                gradient / denominator,
                np.abs(gradient) / denominator,
                0.0 if noise is None else 2 * self.spread(noise) / denominator,
            )
        moment, size = self._moment(key, gradient, s.beta1, 1 - s.beta1, s.resumed if "m" in s.lost else 0)
        second, root = self._root(key, gradient, s.beta2, 1 - s.beta2, s.resumed if "v" in s.lost else 0)
        of_m = self._cast(1 - s.beta1**times) if s.correct_m else 1.0
        of_v = self._cast(1 - s.beta2**times) if s.correct_v else self._cast(np.ones_like(times))
        if s.epsilon_at == "inside":
            denominator = np.sqrt(second / of_v + s.epsilon)
        elif s.epsilon_at == "hat":
            denominator = (root + s.epsilon) / np.sqrt(of_v)
        else:
            denominator = root / np.sqrt(of_v) + s.epsilon
        inverse = 1 / (denominator * of_m)
        spread = 0.0 if noise is None else 2 * inverse * self.spread(averaged(noise, s.beta1, 1 - s.beta1))
        return Predicted(moment * inverse, size * inverse, spread)

    def _gradient(self, s: LawSettings) -> tuple[Array, tuple[Any, ...]]:
        """What enters the moments, (K, N): clipped, averaged, with coupled decay; and what it depends on."""
        replicas = s.clip_replicas and self.gradients.shape[1] > 1
        bound = s.bound if s.clip != "none" else None
        key: tuple[Any, ...] = ("clip", s.clip, bound, replicas, s.gradient_scale, s.norm_of)
        gradient = self._once(key, lambda: self._clipped(s, replicas))
        if s.decay_at != "gradient" or s.decay == 0:
            return gradient, key
        key = (*key, s.decay, s.decayed, s.decay_flips)
        return self._once(key, lambda: gradient + self._decay(s)), key

    def _clipped(self, s: LawSettings, replicas: bool) -> Array:
        source = (self.gradients if replicas else self.mean) * s.gradient_scale
        if s.clip == "none":
            return self.mean * s.gradient_scale
        if s.clip == "value":
            clipped = np.clip(source, -s.bound, s.bound)
        elif s.clip in ("global", "always"):
            clipped = source * self._factor(s, "replicas" if replicas else "global")
        else:
            clipped = source * self.spread(self._factor(s, "replica_tensors" if replicas else "tensor"))
        return clipped.mean(axis=1) if replicas else clipped

    def _factor(self, s: LawSettings, norms: str) -> Array:
        """What clipping by a norm leaves of gradients."""
        other = norms == "global" and s.norm_of != "mean"
        seen = np.abs(s.gradient_scale) * (self._other_norm(s.norm_of) if other else self.norms[norms])
        return np.asarray(s.bound / (np.maximum(seen, 1e-30) if s.clip == "always" else np.maximum(s.bound, seen)))

    def _other_norm(self, of: NormOf) -> Array:
        """The norm of one replica's gradients in each step, or of all together, (K, 1)."""
        replicas = self.norms["replicas"]
        if of == "all":
            return np.asarray(np.sqrt(np.square(replicas).sum(axis=1)))
        return np.asarray(replicas[:, 0 if of == "first" else -1])

    def _noise_factor(self, s: LawSettings) -> Array | float:
        """How much of the gradients' noise is left once they are clipped."""
        return s.gradient_scale * (self._factor(s, "global") if s.clip in ("global", "always") else 1.0)

    def _decay(self, s: LawSettings) -> Array:
        """λ·w where weights decay, (K, N)."""
        key = ("decay", s.decay, s.decayed, s.decay_flips)
        return self._once(key, lambda: self.before * self.spread(self._cast(s.decay * s.is_decayed(self.names))))

    def _moment(
        self, key: tuple[Any, ...], gradient: Array, keep: float, add: float, anew: int = 0
    ) -> tuple[Array, Array]:
        """The first moment after each step, and the same of the gradients' sizes; both (K, N)."""

        def make() -> tuple[Array, Array]:
            return _averaged(gradient, keep, add, anew), _averaged(np.abs(gradient), keep, add, anew)

        return self._once((*key, "m", keep, add, anew), make)

    def _root(
        self, key: tuple[Any, ...], gradient: Array, keep: float, add: float, anew: int = 0
    ) -> tuple[Array, Array]:
        """The second moment after each step, and its root; both (K, N)."""

        def make() -> tuple[Array, Array]:
            second = _averaged(np.square(gradient), keep, add, anew)
            return second, np.sqrt(second)

        return self._once((*key, "v", keep, add, anew), make)

    def _ratio(self, s: LawSettings, total: Array) -> Array:
        """LAMB's trust ratio by element, (K, N)."""
        of_weights = self._once("weight norms", lambda: np.sqrt(self.sums(np.square(self.before))))
        if s.decay_at == "decoupled":  # Keras lets weights decay first.
            of_weights = of_weights * (1 - self.rates * s.rate_scale * self._cast(s.decay * s.is_decayed(self.names)))
        of_weights = np.minimum(of_weights, s.norm_high)
        of_step = np.sqrt(self.sums(np.square(total)))
        defined = (of_weights > 0) & (of_step > 0) & s.is_adapted(self.names)
        ratio = np.clip(of_weights / np.where(defined, of_step, 1), s.ratio_low, s.ratio_high)
        return self.spread(self._cast(np.where(defined, ratio, 1.0)))

    # --- distances --------------------------------------------------------------------------------------------------

    def tolerance(self, settings: LawSettings, predicted: Predicted) -> Array:
        """Of each element in each step, (K, N)."""
        relative = self.unit * self.roundings + np.minimum(self._freedom(settings), _MOST_FREEDOM)
        return self.ulp + np.minimum(relative * predicted.size, self._allowed) + self.rerun + predicted.noise

    @property
    def _allowed(self) -> Array:
        """A law of huge terms that cancel is not free: at most so much of the largest step of a parameter."""

        def make() -> Array:
            largest = np.maximum.reduceat(np.abs(self.observed), self.starts, axis=1)
            return np.asarray(self.spread(largest * (_MOST_ALLOWED + 8 * self.unit * self.roundings)))

        return np.asarray(self._once("allowed", make))

    def _freedom(self, s: LawSettings) -> Array:
        """What the same law may differ by, relative to a step, (K, 1); see the module."""
        free = np.abs(self.rates * s.rate_scale * s.decay)
        if s.clip in ("global", "tensor", "always"):
            norms = np.abs(s.gradient_scale) * self.norms["tensor" if s.clip == "tensor" else "global"]
            norms = norms.max(axis=1, keepdims=True)
            bites = (norms > s.bound) | (s.clip == "always")
            free = free + np.maximum.accumulate(np.where(bites, _CLIP_SLACK / np.maximum(norms, 1e-30), 0.0))
        if s.family not in ("adam", "lamb"):
            return free
        times = s.times(self.first, len(self.rates))
        for beta, corrected, power in ((s.beta1, s.correct_m, 1.0), (s.beta2, s.correct_v, 0.5)):
            if corrected:
                rough = 1 - np.power(np.float32(beta), times.astype(np.float32))
                exact = 1 - beta**times
                free = free + power * (np.abs(rough / exact - 1) + 2.0**-24 / exact)  # βᵗ itself within an ulp
        return free

    def all_clipped(self, s: LawSettings) -> bool:
        """Whether clipping by a norm leaves no gradient as it was: then their size shows nowhere."""
        if s.clip not in ("global", "tensor", "always"):
            return False
        replicas = s.clip_replicas and self.gradients.shape[1] > 1
        if s.norm_of != "mean" and s.clip == "global" and not replicas:
            return bool(np.all(np.abs(s.gradient_scale) * self._other_norm(s.norm_of) > s.bound))
        kind = "tensor" if s.clip == "tensor" else "global"
        norms = self.norms[{"tensor": "replica_tensors", "global": "replicas"}[kind] if replicas else kind]
        return s.clip == "always" or bool(np.all(np.abs(s.gradient_scale) * norms > s.bound))

    def deviations(self, settings: LawSettings) -> Array:
        """Observed minus predicted step in units of the tolerance, (K, N)."""
        predicted = self.predict(settings)
        with np.errstate(all="ignore"):
            found = (self.observed - predicted.change) / self.tolerance(settings, predicted)
        return finite(found)

    def rms(self, deviations: Array) -> Array:
        """By step and parameter, (K, T)."""
        return np.asarray(np.sqrt(self.sums(np.square(deviations)) / self.sizes))

    def distance(self, settings: LawSettings) -> float:
        """Of the side from a law: the worst parameter's in its worst step."""
        return float(np.max(self.rms(self.deviations(settings))))

    def sums(self, values: Array) -> Array:
        """Sums over the elements of each parameter: (…, N) to (…, T)."""
        if values.dtype == np.float32:  # Pairwise, as frameworks sum; reduceat adds one after another.
            ends = self.starts + self.sizes
            return np.stack([values[..., a:b].sum(axis=-1) for a, b in zip(self.starts, ends, strict=True)], axis=-1)
        return np.asarray(np.add.reduceat(values, self.starts, axis=-1))

    def gradient_norms(self) -> dict[str, Array]:
        """See `norms`."""
        mean, replicas = self.sums(np.square(self.mean)), self.sums(np.square(self.gradients))
        return {
            "tensor": np.sqrt(mean),
            "global": np.sqrt(mean.sum(axis=-1, keepdims=True)),
            "replica_tensors": np.sqrt(replicas),
            "replicas": np.sqrt(replicas.sum(axis=-1, keepdims=True)),
        }

    def _cast(self, values: Any) -> Any:
        return np.asarray(values, self.before.dtype)

    def _once(self, key: Any, make: Callable[[], Any]) -> Any:
        if key not in self.cache:
            if len(self.cache) > 400:
                self.cache.clear()
            self.cache[key] = make()
        return self.cache[key]


def _averaged(values: Array, keep: float, add: float, anew: int) -> Array:
    """Moments, which begin anew at a step."""
    parts = [values[:anew], values[anew:]] if anew else [values]
    return np.concatenate([averaged(part, keep, add) for part in parts])
