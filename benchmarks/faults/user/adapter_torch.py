"""Adapter of the PyTorch trainer for `lossary diagnose`."""

import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))

from feed import Pipeline
from torch_trainer import IGNORE, Trainer

DROPOUT = 0.0
LAYER = "albert.encoder.albert_layer_groups.0.albert_layers.0"
MODULES = {
    "norm": "albert.embeddings.LayerNorm",
    "project": "albert.encoder.embedding_hidden_mapping_in",
    "block.attention.q": f"{LAYER}.attention.query",
    "block.attention.k": f"{LAYER}.attention.key",
    "block.attention.v": f"{LAYER}.attention.value",
    "block.attention.out": f"{LAYER}.attention.dense",
    "block.norm1": f"{LAYER}.attention.LayerNorm",
    "block.up": f"{LAYER}.ffn",
    "block.down": f"{LAYER}.ffn_output",
    "block.norm2": f"{LAYER}.full_layer_layer_norm",
    "pooler": "albert.pooler",
    "mlm_dense": "predictions.dense",
    "mlm_norm": "predictions.LayerNorm",
    "sop": "sop_classifier.classifier",
}
NAMES = {
    "tokens.weight": "albert.embeddings.word_embeddings.weight",
    "positions.weight": "albert.embeddings.position_embeddings.weight",
    "segments.weight": "albert.embeddings.token_type_embeddings.weight",
    "mlm_bias": "predictions.bias",
    **{f"{own}.{kind}": f"{theirs}.{kind}" for own, theirs in MODULES.items() for kind in ("weight", "bias")},
}


def canonical(state):
    return {NAMES[name]: value.detach().numpy().copy() for name, value in state.items()}


class TorchSide:
    splits = True
    name = "torch trainer"

    def __init__(self, setup):
        torch.set_num_threads(setup.threads)
        torch.manual_seed(setup.seed)
        precision = setup.recipe.precision
        self.declared = {"dropout": DROPOUT, "precision": precision}
        self.pipeline = Pipeline(setup, "torch")
        self.trainer = Trainer(setup.shape, setup.recipe, dropout=DROPOUT, precision=precision)
        self.parameters = dict(self.trainer.model.named_parameters())

    def encode(self, texts):
        return self.pipeline.encode(texts)

    def examples(self, documents, *, epoch):
        return self.pipeline.examples(documents, epoch)

    def stream(self, documents, *, start, stop):
        return self.pipeline.stream(documents, start, stop)

    def validation(self, documents):
        return self.pipeline.validation(documents)

    def load(self, weights):
        state = {own: torch.tensor(weights[theirs]) for own, theirs in NAMES.items()}
        self.trainer.model.load_state_dict(state, strict=True)

    def weights(self):
        return canonical(self.trainer.model.state_dict())

    def roundtrip(self):
        return canonical(self.trainer.saved_and_restored().model.state_dict())

    def forward(self, feed, *, training=False):
        mlm, sop = self.trainer.predict(feed, training)
        return {"mlm": mlm.numpy(), "sop": sop.numpy()}

    def measure(self, outputs, feed):
        labels = feed["mlm_labels"]
        if outputs["mlm"].shape[1] != labels.shape[1]:
            labels = np.where(feed["weights"] > 0, feed["labels"], IGNORE)
        return self.trainer.measure(
            torch.tensor(outputs["mlm"]),
            torch.tensor(outputs["sop"]),
            torch.from_numpy(labels.astype(np.int64)),
            torch.from_numpy(feed["sop_labels"].astype(np.int64)),
        )

    def gradients(self, micro_batches):
        self.trainer.model.zero_grad(set_to_none=True)
        self.trainer.backward(micro_batches)
        missing = {name: torch.zeros_like(p) for name, p in self.parameters.items() if p.grad is None}
        return canonical({name: p.grad for name, p in self.parameters.items() if p.grad is not None} | missing)

    def reported_loss(self, micro_batches):
        return self.trainer.backward(micro_batches)

    def restart(self):
        self.trainer.optimizer = None

    def update(self, gradients, *, step):
        self.trainer.update([[replica[NAMES[name]] for name in self.parameters] for replica in gradients], step)

    def resume(self):
        self.trainer.resume()

    def learning_rates(self, start, stop):
        return self.trainer.rates(start, stop)

    def train_step(self, feed, *, step):
        return self.trainer.train_step(feed, step)

    def checkpoint(self):
        return self.weights()


def side(setup):
    return TorchSide(setup)
