"""An adapter as users write them, whose model is computed in NumPy; tests change its text."""

__all__ = ["NUMPY_SIDE"]

NUMPY_SIDE = """
from dataclasses import replace

import numpy as np

from lossary.diagnosis.adapter import as_feed
from lossary.diagnosis.feeds.reference import reference_examples
from lossary.models.arbiter import Architecture, forward
from lossary.models.update_laws import learning_rate


class Side:
    name = "numpy"

    def __init__(self, setup):
        self.setup = setup
        self.architecture = Architecture.of(setup.shape)

    def load(self, weights):
        self.held = {name: np.array(value) for name, value in weights.items()}

    def weights(self):
        return self.held

    def forward(self, feed, *, training=False):
        out = forward(self.held, self.architecture, as_feed(feed, where="test"), precision="float32")
        return {"mlm": out.mlm, "sop": out.sop}

    def examples(self, documents, *, epoch):
        return reference_examples(documents, self.setup, epoch=epoch).arrays()

    def learning_rates(self, start, stop):
        return [learning_rate(s, self.setup.recipe.optimizer, self.setup.recipe.steps) for s in range(start, stop)]


def side(setup):
    return Side(setup)
"""
