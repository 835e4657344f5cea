"""A backend without a framework: every weight moves by what the batch and the step are, scores follow from weights."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lossary.backends.api import Denominators, RowSums, ScoreOutput, StepOutput
from lossary.data.examples import Examples
from lossary.models.parameters import Parameters
from lossary.models.shapes import AlbertShape
from lossary.models.update_laws import Moments


class SimpleBackend:
    device = "none"
    max_tokens = 1024
    few_shapes = False

    def __init__(self, shape: AlbertShape, **_: Any) -> None:
        self.shape = shape
        self.kept: Parameters = {}

    def load_parameters(self, parameters: Parameters) -> None:
        self.kept = {name: value.copy() for name, value in parameters.items()}

    def parameters(self) -> Parameters:
        return {name: value.copy() for name, value in self.kept.items()}

    def load_moments(self, moments: Moments | None) -> None:
        zeros = {name: np.zeros_like(value) for name, value in self.kept.items()}
        self._moments = moments or Moments(zeros, {name: value.copy() for name, value in zeros.items()})

    def moments(self) -> Moments:
        return self._moments

    def set_law(self, law: Any) -> None:
        del law

    def train_step(
        self, micro: Sequence[Examples], denominators: Denominators, *, step: int, rate: float
    ) -> StepOutput:
        del denominators
        # Down until step 5, then up: the best step is neither the first nor the last that is scored.
        change = np.float32(step - 5 + 0.01 * np.sin(sum(int(part.labels.sum()) for part in micro)) * (1 + rate))
        for name in self.kept:
            self.kept[name] += change
            self._moments.m[name] += change
        return StepOutput(gradient_norm=1.0, rows=[self.score(part).rows for part in micro])

    def score(self, examples: Examples) -> ScoreOutput:
        weight = 20 + float(self.kept["albert.embeddings.word_embeddings.weight"][0, 0])
        used = examples.weights
        position = (used * np.float32(weight)).astype(np.float32)
        rows = len(examples)
        return ScoreOutput(
            rows=RowSums(
                mlm_nats=position.sum(axis=1, dtype=np.float64),
                mlm_correct=np.zeros(rows, np.int32),
                sop_nats=np.where(examples.sop_labels >= 0, weight, 0.0),
                sop_correct=np.zeros(rows, bool),
            ),
            position_nats=position,
            predicted=np.zeros(position.shape, np.int32),
        )
