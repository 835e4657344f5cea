"""Trains a tiny Keras model with the callback, in a process of its own: `python keras_training.py STUDY OUT`."""

import json
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np

from lossary.data.tokenizer import open_tokenizer
from lossary.folder import StudyFolder
from lossary.integrations.keras import LossaryCallback


class Diverging(keras.callbacks.Callback):
    """Makes the weights worse with every epoch after the first, so that the best one is known."""

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        del logs
        for weight in self.model.trainable_variables:
            weight.assign(weight * (1.0 if epoch == 0 else 4.0))


def main(study: Path, out: Path) -> None:
    keras.utils.set_random_seed(3)
    pieces = open_tokenizer(StudyFolder(study)).vocabulary_size
    model = keras.Sequential([keras.layers.Embedding(pieces, 8), keras.layers.Dense(pieces)])
    model.compile(keras.optimizers.SGD(0.0), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    ids = np.random.default_rng(0).integers(5, pieces, (8, 6)).astype("int32")
    model(ids)
    for weight in model.trainable_variables:
        weight.assign(weight * 4.0)
    callback = LossaryCallback(study, run="mine", call=lambda ids, *_: model(ids, training=False))
    stopping = keras.callbacks.EarlyStopping(monitor="val_total_mlm_loss", mode="min", patience=1)
    history = model.fit(ids, ids, epochs=6, batch_size=4, verbose=0, callbacks=[Diverging(), callback, stopping])
    out.write_text(json.dumps({name: [float(value) for value in values] for name, values in history.history.items()}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
