"""What `lossary diagnose` needs to look into trainer.py: its model, its optimizer and its input pipeline."""

import random
from pathlib import Path

import numpy as np
import sentencepiece
import trainer
from safetensors.torch import load_file

from lossary.backends.torch.adapter import ModuleSide


class Trainer(ModuleSide):
    """`ModuleSide` asks a module for logits, gradients and updates; the rest is this script's own."""

    def __init__(self, setup):
        shape = setup.shape
        model = trainer.new_model(
            shape.vocabulary_size, shape.hidden_size, shape.num_layers, shape.num_heads, shape.initializer_range
        )
        super().__init__(
            model,
            setup,
            call=trainer.logits,
            loss=lambda mlm, sop, feed: sum(trainer.losses(mlm, sop, feed)),
            optimizer=trainer.new_optimizer,
            rate=trainer.learning_rate,
            clip_norm=1.0,
            name="trainer.py",
            # Decay by the number of axes, as many do; of ALBERT's parameters that is the same set.
        )
        self._tokenizer = sentencepiece.SentencePieceProcessor(model_file=str(setup.tokenizer))
        self._datasets = list(setup.datasets)
        self._folder = Path(setup.tokenizer).parent.parent

    def encode(self, texts):
        return self._tokenizer.encode(texts)

    def examples(self, documents, *, epoch):
        rng = random.Random(epoch)
        feed = trainer.collate([trainer.example(one["text"], self._tokenizer, rng) for one in documents])
        return feed | {"dataset": np.array([self._datasets.index(one["dataset"]) for one in documents])}

    def measure(self, outputs, feed):
        import torch

        mlm, sop = trainer.losses(torch.as_tensor(outputs["mlm"]), torch.as_tensor(outputs["sop"]), feed)
        return {"loss": float(mlm + sop), "mlm_loss": float(mlm), "sop_loss": float(sop)}

    def checkpoint(self):
        found = load_file(self._folder / "trained" / "model.safetensors")
        return {name: found[name].numpy() for name in self.weights()}


def side(setup):
    return Trainer(setup)
