"""Gradients of a side beside those of the reference, tensor by tensor, small enough to try hundreds of combinations.

Each tensor of each observation is a block. Its components span a space of few dimensions: the side's gradient is
written by its coordinates there, and by its distance from that space, which no combination of the components changes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossary.diagnosis.calibration import ALL_ROUNDING
from lossary.diagnosis.calibration import BLOCKS_LEAST_NOISE as _LEAST_NOISE
from lossary.diagnosis.calibration import BLOCKS_SAFETY as _SAFETY
from lossary.diagnosis.laws.components import Component, MicroGradients

__all__ = ["WORDS", "Blocks", "GradientObservation", "Weigh", "blocks_of"]

Floats = NDArray[np.float64]
Weigh = Callable[[tuple[MicroGradients, ...]], tuple[Floats, Floats]]
WORDS = "albert.embeddings.word_embeddings.weight"


@dataclass(frozen=True, kw_only=True)
class GradientObservation:
    """A side's gradient of a step, by canonical name, and the reference's components of each of its micro batches.

    A tensor that the side leaves out counts as 0.
    """

    gradients: Mapping[str, Any]
    micro: tuple[MicroGradients, ...]


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """N blocks of together C coordinates, for R ways of weighing the micro batches of each objective."""

    names: tuple[str, ...]  # (N,) tensor
    observation: NDArray[np.int64]  # (N,)
    starts: NDArray[np.int64]  # (N,) where the coordinates of a block start
    side: Floats  # (C,)
    rest: Floats  # (N,) distance of the side's gradient from the space of components
    mlm: Floats  # (R, C) without the part through the decoder
    tied: Floats  # (R, C)
    sop: Floats  # (R, C)
    mlm_noise: Floats  # (R, N)
    sop_noise: Floats  # (R, N)
    usual: float  # typical rounding of a tensor, relative to its size

    @property
    def words(self) -> NDArray[np.bool_]:
        """(C,) coordinates of the word embeddings."""
        return self.spread(np.array([name == WORDS for name in self.names]))

    @property
    def relative(self) -> float:
        """What rounding may change of a factor."""
        return _SAFETY * self.usual

    def spread(self, values: NDArray[Any]) -> NDArray[Any]:
        """(N,) values of blocks as values of their coordinates (C,)."""
        lengths = np.diff(np.append(self.starts, len(self.side)))
        return np.repeat(values, lengths, axis=-1)

    def norms(self, coordinates: Floats) -> Floats:
        """(…, N) norms of blocks from coordinates (…, C)."""
        return np.sqrt(np.add.reduceat(np.square(coordinates), self.starts, axis=-1))

    def tolerance(self, predicted: Floats, noise: Floats) -> Floats:
        """(…, N) what rounding may change, from a prediction (…, C) and its measured noise (…, N)."""
        return _SAFETY * np.maximum(noise, self.usual * self.norms(predicted))

    def distance(self, predicted: Floats, noise: Floats) -> Floats:
        """(…, N) of the side from a prediction (…, C), in units of the tolerance."""
        apart = np.sqrt(np.square(self.norms(self.side - predicted)) + np.square(self.rest))
        with np.errstate(divide="ignore", invalid="ignore"):
            far = apart / self.tolerance(predicted, noise)
        return np.where(apart == 0, 0.0, np.where(np.isfinite(far), far, np.inf))


def blocks_of(observations: Sequence[GradientObservation], weigh: Weigh) -> Blocks:
    """Blocks of all tensors; `weigh` gives the weights (R, k) of k micro batches for both objectives.

    Raises ValueError where a tensor of the side has another shape than the reference's.
    """
    parts: list[dict[str, Any]] = []
    for number, observation in enumerate(observations):
        mlm_weights, sop_weights = weigh(observation.micro)
        for name, like in observation.micro[0].mlm.gradients.items():
            given = observation.gradients.get(name)
            side = np.zeros(like.size) if given is None else np.asarray(given, np.float64).ravel()
            if side.size != like.size:
                raise ValueError(f"the gradient of {name} is {np.asarray(given).shape}; {like.shape} is expected")
            parts.append(
                {"name": name, "observation": number} | _block(name, side, observation.micro, mlm_weights, sop_weights)
            )
    lengths = np.array([len(part["side"]) for part in parts])
    noise = (
        np.stack([part["mlm_noise"] for part in parts], axis=-1),
        np.stack([part["sop_noise"] for part in parts], axis=-1),
    )
    right = np.array([np.linalg.norm(part["mlm"][0] + part["tied"][0] + part["sop"][0]) for part in parts])
    measured = noise[0][0] + noise[1][0]
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = measured / right
    # A tensor whose gradient is 0 but for rounding says nothing of the usual rounding.
    relative = relative[np.isfinite(relative) & (relative < ALL_ROUNDING)]
    usual = max(float(np.median(relative)) if len(relative) else 0.0, _LEAST_NOISE)
    together = {key: np.concatenate([part[key] for part in parts], axis=-1) for key in ("side", "mlm", "tied", "sop")}
    return Blocks(
        names=tuple(part["name"] for part in parts),
        observation=np.array([part["observation"] for part in parts]),
        starts=np.concatenate([[0], np.cumsum(lengths)[:-1]]),
        rest=np.array([part["rest"] for part in parts]),
        mlm_noise=noise[0],
        sop_noise=noise[1],
        usual=usual,
        **together,
    )


def _block(
    name: str, side: Floats, micro: tuple[MicroGradients, ...], mlm_weights: Floats, sop_weights: Floats
) -> dict[str, Any]:
    """Coordinates of one tensor: an orthonormal basis of its components, in which all of them are written."""
    tied = [part.mlm.tied if name == WORDS else None for part in micro]
    columns = [_flat(part.mlm, name) - (0.0 if t is None else t.ravel()) for part, t in zip(micro, tied, strict=True)]
    columns += [_flat(part.sop, name) if part.sop is not None else np.zeros(side.size) for part in micro]
    columns += [t.ravel() for t in tied if t is not None]
    basis, coordinates = np.linalg.qr(np.stack(columns, axis=1))
    k = len(micro)
    along = basis.T @ side
    through = coordinates[:, 2 * k :] if coordinates.shape[1] > 2 * k else np.zeros((len(coordinates), k))
    return {
        "side": along,
        "rest": float(np.linalg.norm(side - basis @ along)),
        "mlm": mlm_weights @ coordinates[:, :k].T,
        "tied": mlm_weights @ through.T,
        "sop": sop_weights @ coordinates[:, k : 2 * k].T,
        "mlm_noise": np.abs(mlm_weights) @ [part.mlm.noise.get(name, 0.0) for part in micro],
        "sop_noise": np.abs(sop_weights) @ [part.sop.noise.get(name, 0.0) if part.sop else 0.0 for part in micro],
    }


def _flat(component: Component, name: str) -> Floats:
    return np.asarray(component.gradients[name], np.float64).ravel()
