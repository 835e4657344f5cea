"""A small trainer in float32, written apart from the laws under test: loops over parameters, moments as differences."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lossary.diagnosis.adapter import Arrays
from lossary.models.parameters import is_excluded

__all__ = ["LAMB", "Recipe", "State", "train"]

F = np.float32


def matrices(name: str) -> bool:
    return not is_excluded(name)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a trainer does; the defaults are PyTorch's AdamW with gradients clipped."""

    family: str = "adam"
    correct: tuple[bool, bool] = (True, True)
    place: str = "root"
    epsilon: float = 1e-6
    betas: tuple[float, float] = (0.9, 0.999)
    decay: float = 0.01
    coupling: str = "decoupled"
    decayed: Callable[[str], bool] = matrices
    clip: str = "global"
    bound: float = 1.0
    clips_replicas: bool = False
    norm_of: str = "mean"  # what gradients are clipped by
    multiplied: float = 1.0  # gradients, before they are clipped
    divided: float = 1.0  # and after
    update_factor: float = 1.0  # of the step without its decay
    adapted: Callable[[str], bool] = matrices
    ratio: tuple[float, float] | None = None
    most: float | None = None
    factor: float = 1.0
    frozen: tuple[str, ...] = ()
    kept: Callable[[Any], Any] = lambda w: w  # how weights are stored


LAMB: dict[str, Any] = {"family": "lamb", "correct": (False, False), "coupling": "update"}


class State:
    """Weights and moments of a trainer at work."""

    def __init__(self, weights: Mapping[str, Any], recipe: Recipe) -> None:
        self.recipe = recipe
        self.w = {name: recipe.kept(np.array(w, F)) for name, w in weights.items()}
        self.m = {name: np.zeros_like(w) for name, w in self.w.items()}
        self.v = {name: np.zeros_like(w) for name, w in self.w.items()}
        self.t = 0

    def step(self, replicas: Sequence[Arrays], rate: float) -> Arrays:
        self.t += 1
        if self.recipe.clips_replicas:
            replicas = [self._clipped(part) for part in replicas]
        mean = {name: np.mean([part[name] for part in replicas], axis=0, dtype=F) for name in self.w}
        if self.recipe.norm_of != "mean":
            whole = [np.sqrt(sum(float(np.sum(np.square(g))) for g in part.values())) for part in replicas]
            norm = {"first": whole[0], "last": whole[-1], "all": float(np.linalg.norm(whole))}[self.recipe.norm_of]
            mean = {name: g * F(min(1.0, self.recipe.bound / norm)) for name, g in mean.items()}
        elif not self.recipe.clips_replicas:
            mean = self._clipped(mean)
        for name in self.w:
            if name not in self.recipe.frozen:
                self.w[name] = self.recipe.kept(self._moved(name, mean[name], rate).astype(F))
        return {name: w.copy() for name, w in self.w.items()}

    def _clipped(self, gradients: Arrays) -> Arrays:
        up, down = F(self.recipe.multiplied), F(self.recipe.divided)
        if up == down == 1:
            return self._within(gradients)
        within = self._within({name: g * up for name, g in gradients.items()})
        return {name: g / down for name, g in within.items()}

    def _within(self, gradients: Arrays) -> Arrays:
        r = self.recipe
        if r.clip == "none":
            return gradients
        if r.clip == "value":
            return {name: np.minimum(np.maximum(g, -F(r.bound)), F(r.bound)) for name, g in gradients.items()}
        norms = {name: float(np.linalg.norm(g.ravel())) for name, g in gradients.items()}
        whole = float(np.sqrt(sum(norm**2 for norm in norms.values())))
        return {
            name: g
            * F(
                min(
                    np.inf if r.clip == "always" else 1.0,
                    r.bound / ((norms[name] if r.clip == "tensor" else whole) + 1e-12),
                )
            )
            for name, g in gradients.items()
        }

    def _moved(self, name: str, g: Any, rate: float) -> Any:
        r, w = self.recipe, self.w[name]
        lam = r.decay if r.decayed(name) else 0.0
        lr = F(rate * r.factor)
        g = g + F(lam) * w if r.coupling == "gradient" else g
        if r.family == "sgd":
            return w - lr * g
        if r.family == "momentum":
            self.m[name] = F(r.betas[0]) * self.m[name] + g
            return w - lr * self.m[name]
        if r.family == "dampened":
            self.m[name] = self.m[name] + (g - self.m[name]) * F(1 - r.betas[0])
            return w * F(1 - rate * r.factor * lam) - lr * self.m[name]
        if r.family == "adagrad":
            self.v[name] = self.v[name] + g * g
            return w - lr * g / (np.sqrt(self.v[name]) + F(r.epsilon))
        if r.family == "lion":
            sign = np.sign(F(r.betas[0]) * self.m[name] + F(1 - r.betas[0]) * g)
            self.m[name] = F(0.99) * self.m[name] + F(0.01) * g
            return w - lr * (sign + F(lam) * w)
        u = self._direction(name, g)
        u = np.sign(u) if r.family == "sign" else u
        u = u + F(lam) * w if r.coupling == "update" else u
        u = self._ratio(name, w, u) * u
        if r.coupling == "decoupled":
            w = w * F(1 - rate * r.factor * lam)
        elif r.coupling == "unscaled":
            w = w * F(1 - lam)
        return w - lr * F(r.update_factor) * u

    def _direction(self, name: str, g: Any) -> Any:
        r, (b1, b2) = self.recipe, self.recipe.betas
        self.m[name] = self.m[name] + (g - self.m[name]) * F(1 - b1)
        self.v[name] = self.v[name] + (g * g - self.v[name]) * F(1 - b2)
        of_m = 1 - b1**self.t if r.correct[0] else 1.0
        of_v = 1 - b2**self.t if r.correct[1] else 1.0
        if r.place == "hat":
            return F(np.sqrt(of_v) / of_m) * self.m[name] / (np.sqrt(self.v[name]) + F(r.epsilon))
        if r.place == "inside":
            return self.m[name] / F(of_m) / np.sqrt(self.v[name] / F(of_v) + F(r.epsilon))
        return self.m[name] / F(of_m) / (np.sqrt(self.v[name]) / F(np.sqrt(of_v)) + F(r.epsilon))

    def _ratio(self, name: str, w: Any, u: Any) -> Any:
        r = self.recipe
        if r.family != "lamb" or not r.adapted(name):
            return F(1)
        of_w, of_u = np.linalg.norm(w.ravel()), np.linalg.norm(u.ravel())
        of_w = of_w if r.most is None else min(of_w, F(r.most))
        if not (of_w > 0 and of_u > 0):
            return F(1)
        return of_w / of_u if r.ratio is None else np.clip(of_w / of_u, *map(F, r.ratio))


def train(
    weights: Mapping[str, Any], gradients: Sequence[Sequence[Arrays]], rates: Sequence[float], recipe: Recipe
) -> list[Arrays]:
    """Weights after each step."""
    state = State(weights, recipe)
    return [state.step(parts, rate) for parts, rate in zip(gradients, rates, strict=True)]
