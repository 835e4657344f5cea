"""How user code takes part in a diagnosis: a file with `def side(setup)` whose result has some of these methods.

    # my_adapter.py
    def side(setup):
        return MyTrainer(setup.shape, setup.tokenizer)      # forward, measure, gradients, …

`lossary diagnose my_adapter.py` loads it in a process of its own. Every method is optional: what is missing is not
compared, and the diagnosis says which method it takes. Arrays are NumPy, weights and gradients dicts by
canonical name (`lossary.models.parameters`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lossary.data.examples import Examples
from lossary.errors import DataError
from lossary.models.shapes import AlbertShape
from lossary.study import Recipe

__all__ = ["CAPABILITIES", "IGNORED", "Adapter", "Arrays", "Document", "Feed", "FeedError", "Setup", "as_feed"]

Arrays = dict[str, NDArray[Any]]
Document = dict[str, Any]  # {"dataset": name, "text": text, or [first, second] of a pair}
IGNORED = -100  # where `mlm_labels` (B, T) has no label


class FeedError(DataError):
    """What a side calls input arrays is none."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What a side is made for."""

    shape: AlbertShape
    recipe: Recipe
    tokenizer: Path  # a SentencePiece model
    datasets: tuple[str, ...]
    shares: Mapping[str, float]  # declared in training
    seed: int
    threads: int = 1
    drawn_as: Mapping[str, str] = field(default_factory=dict)  # what random draws go by where a dataset was renamed

    def draw_name(self, dataset: str) -> str:
        """What the random draws of a dataset go by."""
        return self.drawn_as.get(dataset, dataset)


class Adapter(Protocol):
    """Every method is optional; so are `name`, `declared`, `lacks`, `accumulates` and `splits`.

    `declared` says what the side means to do otherwise than the recipe: any key of the recipe or of its optimizer,
    `dropout`, `precision`. What is declared is no fault. `lacks` names methods that are there but cannot be used;
    `accumulates` is False where a step never has more than one micro batch; `splits` is True where `examples` and
    `stream` leave out the documents that `validation` evaluates.
    """

    name: str
    declared: Mapping[str, Any]

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Pieces of each text, without special ones."""
        ...

    def examples(self, documents: list[Document], *, epoch: int) -> Arrays:
        """All training examples that are made of these documents in an epoch."""
        ...

    def stream(self, documents: list[Document], *, start: int, stop: int) -> Arrays:
        """The training examples of steps [start, stop), as a process that resumes at `start` sees them."""
        ...

    def validation(self, documents: list[Document]) -> Arrays:
        """Its evaluation examples of these documents."""
        ...

    def load(self, weights: Arrays) -> None:
        """Takes canonical weights into its model."""
        ...

    def weights(self) -> Arrays:
        """The weights of its model, canonical."""
        ...

    def initial(self) -> Arrays:
        """The weights that a new training run of its begins with, canonical; drawn anew by its own code."""
        ...

    def roundtrip(self) -> Arrays:
        """Saves its weights by its own code, loads them by its own code into a fresh model, and returns them."""
        ...

    def forward(self, feed: Arrays, *, training: bool = False) -> dict[str, Any]:
        """`mlm` (B, P, V) at `positions`, or (B, T, V); `sop` (B, 2); `activations` by name, if it can."""
        ...

    def measure(self, outputs: dict[str, Any], feed: Arrays) -> dict[str, float]:
        """Its own loss and metrics of outputs: loss, mlm_loss, sop_loss, mlm_accuracy, sop_accuracy, or some."""
        ...

    def evaluate(self, batches: list[Arrays]) -> dict[str, float]:
        """What its own evaluation tells of these batches, with the weights that it has: losses, counts, or some."""
        ...

    def gradients(self, micro_batches: list[Arrays]) -> Arrays:
        """Of its own loss, accumulated over micro batches as its optimizer sees them, before clipping."""
        ...

    def reported_loss(self, micro_batches: list[Arrays]) -> float:
        """The training loss that it logs for a step of these micro batches."""
        ...

    def restart(self) -> None:
        """Brings the optimizer to where it is before step 0; weights stay."""
        ...

    def update(self, gradients: list[Arrays], *, step: int) -> None:
        """One update from given gradients, one dict a replica; clipping is part of it."""
        ...

    def resume(self) -> None:
        """Saves its training state by its own code, loads it as a process that is started again does, and goes on."""
        ...

    def learning_rates(self, start: int, stop: int) -> list[float]:
        """The rates of steps [start, stop), as a process that resumes at `start` uses them."""
        ...

    def train_step(self, feed: Arrays, *, step: int) -> dict[str, float]:
        """A whole step; any of loss, learning_rate, gradient_norm."""
        ...

    def checkpoint(self) -> Arrays:
        """The weights of its trained model, canonical."""
        ...


CAPABILITIES: tuple[str, ...] = (
    "encode",
    "examples",
    "stream",
    "validation",
    "load",
    "weights",
    "initial",
    "roundtrip",
    "forward",
    "measure",
    "evaluate",
    "gradients",
    "reported_loss",
    "restart",
    "update",
    "resume",
    "learning_rates",
    "train_step",
    "checkpoint",
)


@dataclass(frozen=True, kw_only=True)
class Feed:
    """B examples in normal form, as a side feeds them to its model; nothing is assumed to be right."""

    token_ids: NDArray[np.int32]  # (B, T)
    attention_mask: NDArray[np.int32]  # (B, T)
    segment_ids: NDArray[np.int32]  # (B, T)
    positions: NDArray[np.int32]  # (B, P) scored positions; 0 where unused
    labels: NDArray[np.int32]  # (B, P) what is to be predicted there; 0 where unused
    weights: NDArray[np.float32]  # (B, P) 0 where unused
    sop_labels: NDArray[np.int8]  # (B,) 0 in order, 1 swapped, -1 none
    dataset: NDArray[np.int16]  # (B,) position among the datasets, -1 where the side does not tell

    def __len__(self) -> int:
        return len(self.token_ids)

    def take(self, rows: NDArray[Any]) -> "Feed":
        """The examples of some rows."""
        return Feed(**{name: value[rows] for name, value in vars(self).items()})

    @classmethod
    def of(cls, examples: Examples) -> "Feed":
        """Examples of lossary's own."""
        return cls(
            token_ids=examples.token_ids,
            attention_mask=examples.attention_mask,
            segment_ids=examples.segment_ids,
            positions=examples.positions,
            labels=examples.labels,
            weights=examples.weights,
            sop_labels=examples.sop_labels,
            dataset=examples.dataset,
        )

    def arrays(self) -> Arrays:
        """All that a side may want to read: both forms of the labels, lengths."""
        labels = np.full(self.token_ids.shape, IGNORED, np.int32)
        rows, columns = np.nonzero(self.weights > 0)
        labels[rows, self.positions[rows, columns]] = self.labels[rows, columns]
        lengths = self.attention_mask.sum(axis=1).astype(np.int32)
        return {**vars(self), "mlm_labels": labels, "lengths": lengths}


def as_feed(arrays: Mapping[str, Any], *, where: str) -> Feed:
    """The normal form of what a side returned; FeedError says what is missing or misshapen."""
    given = {name: np.asarray(value) for name, value in arrays.items() if value is not None}
    for name in ("token_ids", "attention_mask", "segment_ids"):
        if name not in given or given[name].ndim != 2:
            shape = given[name].shape if name in given else "nothing"
            raise FeedError(f"{name} is {shape}; an array (examples, tokens) is expected", where=where)
    rows = len(given["token_ids"])
    positions, labels, weights = _targets(given, where)
    sop = given.get("sop_labels", np.full(rows, -1)).reshape(rows)
    dataset = given.get("dataset", np.full(rows, -1)).reshape(rows)
    return Feed(
        token_ids=given["token_ids"].astype(np.int32),
        attention_mask=given["attention_mask"].astype(np.int32),
        segment_ids=given["segment_ids"].astype(np.int32),
        positions=positions,
        labels=labels,
        weights=weights,
        # Some write -100 for "none", as of MLM labels.
        sop_labels=np.where((sop < 0) | (sop > 1), -1, sop).astype(np.int8),
        dataset=dataset.astype(np.int16),
    )


def _targets(
    given: Mapping[str, NDArray[Any]], where: str
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]:
    """Positions, labels and weights (B, P), from either form."""
    if "positions" in given:
        missing = [name for name in ("labels", "weights") if name not in given]
        if missing:
            raise FeedError(f"positions come without {' and '.join(missing)}", where=where)
        positions, labels, weights = (given[name] for name in ("positions", "labels", "weights"))
        return positions.astype(np.int32), labels.astype(np.int32), weights.astype(np.float32)
    if "mlm_labels" not in given:
        raise FeedError(
            "there are no masked positions: mlm_labels (examples, tokens), or positions, labels and weights "
            "(examples, predictions) are expected",
            where=where,
        )
    used = given["mlm_labels"] != IGNORED
    return _gathered(used, given["mlm_labels"])


def _gathered(
    used: NDArray[np.bool_], values: NDArray[Any]
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]:
    count = used.sum(axis=1)
    slots = np.arange(max(1, int(count.max(initial=0)))) < count[:, None]
    positions, labels = np.zeros(slots.shape, np.int32), np.zeros(slots.shape, np.int32)
    positions[slots] = np.nonzero(used)[1]
    labels[slots] = values[used]
    return positions, labels, slots.astype(np.float32)
