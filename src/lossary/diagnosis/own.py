"""lossary's own backends as a side: the verified reference beside a user's code, or one of them beside another.

It has every capability of an adapter, by the code that trains and scores studies.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from lossary.backends.api import Backend, Denominators, load_backend
from lossary.data.batches import TrainingData, micro_batches
from lossary.data.examples import Examples
from lossary.data.tokenizer import TokenizerModel
from lossary.diagnosis.adapter import Arrays, Document, Feed, Setup, as_feed
from lossary.diagnosis.feeds.reference import reference_examples, reference_stream, reference_validation
from lossary.files import digest_file
from lossary.folder import StudyFolder
from lossary.models.checkpoints import load_own_checkpoint
from lossary.models.parameters import Parameters, initial_parameters
from lossary.models.update_laws import UpdateLaw, learning_rate
from lossary.study_file import load_study

__all__ = ["OwnSide", "examples_of", "own_side"]


def own_side(side: dict[str, Any], setup: Setup) -> "OwnSide":
    """The side that a description names."""
    return OwnSide(load_backend(side["backend"]), setup, name=f"lossary on {side['backend']}")


class OwnSide:
    """See `lossary.diagnosis.adapter.Adapter`."""

    def __init__(self, backend: type[Backend], setup: Setup, *, name: str) -> None:
        self.name = name
        self.declared = {"precision": setup.recipe.precision}
        self._setup = setup
        self._backend = backend(setup.shape, precision=setup.recipe.precision)
        self._tokenizer = TokenizerModel(setup.tokenizer, digest_file(setup.tokenizer))

    def encode(self, texts: list[str]) -> list[list[int]]:
        return [ids.tolist() for ids in self._tokenizer.encode(texts)]

    def examples(self, documents: list[Document], *, epoch: int) -> Arrays:
        return reference_examples(documents, self._setup, epoch=epoch, seed=self._setup.seed).arrays()

    def stream(self, documents: list[Document], *, start: int, stop: int) -> Arrays:
        return reference_stream(documents, self._setup, start=start, stop=stop).arrays()

    def validation(self, documents: list[Document]) -> Arrays:
        # Frozen: the same examples whenever it is asked, and others than in training.
        return reference_validation(documents, self._setup).arrays()

    def load(self, weights: Parameters) -> None:
        self._backend.load_parameters(weights)

    def weights(self) -> Parameters:
        return self._backend.parameters()

    def initial(self) -> Parameters:
        return initial_parameters(self._setup.shape, self._setup.seed)

    def roundtrip(self) -> Parameters:
        stored = save(self._backend.parameters())
        fresh = type(self._backend)(self._setup.shape, precision=self._setup.recipe.precision)
        fresh.load_parameters(load(stored))
        return fresh.parameters()

    def forward(self, feed: Arrays, *, training: bool = False) -> dict[str, Any]:
        del training  # There is no dropout: both are the same.
        logits = self._backend.logits(examples_of(as_feed(feed, where="forward")))
        return {"mlm": logits.mlm, "sop": logits.sop}

    def evaluate(self, batches: list[Arrays]) -> dict[str, float]:
        rows = [self._backend.score(examples_of(as_feed(batch, where="evaluate"))).rows for batch in batches]
        parts, (masked, pairs) = self._parts(batches)
        found = {"mlm_loss": float(sum(r.mlm_nats.sum() for r in rows) / masked), "examples": sum(map(len, parts))}
        return found | ({"sop_loss": float(sum(r.sop_nats.sum() for r in rows) / pairs)} if pairs else {})

    def gradients(self, micro_batches: list[Arrays]) -> Arrays:
        parts, denominators = self._parts(micro_batches)
        return self._backend.gradients(parts, denominators)

    def restart(self) -> None:
        self._backend.set_law(UpdateLaw.of(self._setup.recipe.optimizer))
        self._backend.load_moments(None)

    def update(self, gradients: list[Arrays], *, step: int) -> None:
        mean = {name: np.mean([part[name] for part in gradients], axis=0) for name in gradients[0]}
        self._backend.apply(mean, step=step, rate=self._rate(step))

    def resume(self) -> None:
        weights, moments = load(save(self._backend.parameters())), self._backend.moments()
        self._backend = type(self._backend)(self._setup.shape, precision=self._setup.recipe.precision)
        self._backend.load_parameters(weights)
        self._backend.set_law(UpdateLaw.of(self._setup.recipe.optimizer))
        self._backend.load_moments(moments)

    def learning_rates(self, start: int, stop: int) -> list[float]:
        return [self._rate(step) for step in range(start, stop)]

    def train_step(self, feed: Arrays, *, step: int) -> dict[str, float]:
        return self._step(feed, step=step)

    def courses(self, weights: Parameters, feeds: list[Arrays], first: int, factors: list[float]) -> list[list[float]]:
        """Losses of steps on feeds from the same weights, for each factor of the learning rate."""
        found = []
        for factor in factors:
            self.load(weights)
            self.restart()
            steps = enumerate(feeds, first)
            found.append([self._step(feed, step=step, factor=factor)["loss"] for step, feed in steps])
        return found

    def _step(self, feed: Arrays, *, step: int, factor: float = 1.0) -> dict[str, float]:
        parts, denominators = self._parts([feed])
        rate = factor * self._rate(step)
        output = self._backend.train_step(parts, denominators, step=step, rate=rate)
        nats = sum(rows.mlm_nats.sum() for rows in output.rows), sum(rows.sop_nats.sum() for rows in output.rows)
        loss = nats[0] / denominators[0] + nats[1] / (denominators[1] or 1.0)
        return {"loss": float(loss), "learning_rate": rate, "gradient_norm": output.gradient_norm}

    def reported_loss(self, micro_batches: list[Arrays]) -> float:
        parts, (masked, pairs) = self._parts(micro_batches)
        rows = [self._backend.score(part).rows for part in parts]
        mlm, sop = sum(r.mlm_nats.sum() for r in rows), sum(r.sop_nats.sum() for r in rows)
        return float(mlm / masked + sop / (pairs or 1.0))

    def branch(
        self, study_file: str, run: str, checkpoint: str | None, start: int, steps: int, factor: float
    ) -> list[float]:
        """MLM losses of `steps` steps of a run from a checkpoint, its learning rate multiplied by `factor`."""
        path = Path(study_file)
        study, folder = load_study(path).drawn(), StudyFolder(path.parent, drawn=True)
        self.restart()
        if checkpoint is None:
            self._backend.load_parameters(initial_parameters(self._setup.shape, self._setup.seed))
        else:
            kept = load_own_checkpoint(Path(checkpoint))
            self._backend.load_parameters(kept.parameters)
            self._backend.load_moments(kept.moments)
        data = TrainingData(study, folder, run)
        losses = []
        for step in range(start, start + steps):
            micro = micro_batches(
                data.batch(step),
                max_tokens=self._backend.max_tokens,
                sequence_length=self._setup.recipe.sequence_length,
                few_shapes=self._backend.few_shapes,
            )
            parts, denominators = self._parts([Feed.of(part.examples).arrays() for part in micro])
            output = self._backend.train_step(parts, denominators, step=step, rate=factor * self._rate(step))
            losses.append(float(sum(rows.mlm_nats.sum() for rows in output.rows)) / denominators[0])
        return losses

    def _rate(self, step: int) -> float:
        return learning_rate(step, self._setup.recipe.optimizer, self._setup.recipe.steps)

    def _parts(self, micro_batches: Sequence[Arrays]) -> tuple[list[Examples], Denominators]:
        parts = [examples_of(as_feed(feed, where="a micro batch")) for feed in micro_batches]
        masked = float(sum(int(part.masked.sum()) for part in parts)) + 1e-5
        pairs = float(sum(int((part.sop_labels >= 0).sum()) for part in parts))
        return parts, (masked, pairs)


def examples_of(feed: Feed) -> Examples:
    """A feed whose padding is at the end and whose used positions come first, as lossary's own examples are."""
    return Examples(
        dataset=feed.dataset,
        example=np.arange(len(feed), dtype=np.uint64),
        token_ids=feed.token_ids,
        segment_ids=feed.segment_ids,
        lengths=feed.attention_mask.sum(axis=1).astype(np.int32),
        positions=feed.positions,
        labels=feed.labels,
        masked=(feed.weights > 0).sum(axis=1).astype(np.int32),
        sop_labels=feed.sop_labels,
        bytes=np.zeros(len(feed), np.int32),
    )
