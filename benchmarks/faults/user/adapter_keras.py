"""Adapter of the Keras trainer for `lossary diagnose`."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from feed import Pipeline, gathered
from keras_trainer import Trainer, keras, tensors, tf

DROPOUT = 0.0
LAYER = "albert.encoder.albert_layer_groups.0.albert_layers.0"
DENSE = {
    "project": "albert.encoder.embedding_hidden_mapping_in",
    "attention/query": f"{LAYER}.attention.query",
    "attention/key": f"{LAYER}.attention.key",
    "attention/value": f"{LAYER}.attention.value",
    "attention/out": f"{LAYER}.attention.dense",
    "up": f"{LAYER}.ffn",
    "down": f"{LAYER}.ffn_output",
    "pooler": "albert.pooler",
    "mlm_dense": "predictions.dense",
    "sop": "sop_classifier.classifier",
}
NORMS = {
    "norm": "albert.embeddings.LayerNorm",
    "attention_norm": f"{LAYER}.attention.LayerNorm",
    "output_norm": f"{LAYER}.full_layer_layer_norm",
    "mlm_norm": "predictions.LayerNorm",
}
NAMES = {
    "tokens": "albert.embeddings.word_embeddings.weight",
    "places": "albert.embeddings.position_embeddings.weight",
    "segments": "albert.embeddings.token_type_embeddings.weight",
    "mlm_bias": "predictions.bias",
    **{f"{own}/kernel": f"{theirs}.weight" for own, theirs in DENSE.items()},
    **{f"{own}/bias": f"{theirs}.bias" for own, theirs in DENSE.items()},
    **{f"{own}/gamma": f"{theirs}.weight" for own, theirs in NORMS.items()},
    **{f"{own}/beta": f"{theirs}.bias" for own, theirs in NORMS.items()},
}


def turned(name, value):
    """Keras stores kernels the other way round."""
    return value.T if name.endswith("/kernel") else value


class KerasSide:
    splits = True
    name = "keras trainer"

    def __init__(self, setup):
        if "OMP_NUM_THREADS" not in os.environ:
            tf.config.threading.set_intra_op_parallelism_threads(setup.threads)
        keras.utils.set_random_seed(setup.seed)
        precision = setup.recipe.precision
        self.declared = {"dropout": DROPOUT, "precision": precision}
        if setup.recipe.optimizer.name == "adamw":
            self.declared["epsilon_placement"] = "hat"
        self.pipeline = Pipeline(setup, "keras")
        self.trainer = Trainer(setup.shape, setup.recipe, dropout=DROPOUT, precision=precision)

    def canonical(self, values):
        return {NAMES[name]: turned(name, value).copy() for name, value in values.items()}

    def encode(self, texts):
        return self.pipeline.encode(texts)

    def examples(self, documents, *, epoch):
        return gathered(self.pipeline.examples(documents, epoch))

    def stream(self, documents, *, start, stop):
        return gathered(self.pipeline.stream(documents, start, stop))

    def validation(self, documents):
        return gathered(self.pipeline.validation(documents))

    def load(self, weights):
        for name, variable in self.trainer.named.items():
            variable.assign(turned(name, weights[NAMES[name]]))

    def weights(self):
        return self.canonical({name: variable.numpy() for name, variable in self.trainer.named.items()})

    def roundtrip(self):
        fresh = self.trainer.saved_and_restored()
        return self.canonical({name: variable.numpy() for name, variable in fresh.named.items()})

    def forward(self, feed, *, training=False):
        mlm, sop = self.trainer.predict(feed, training)
        return {"mlm": mlm.numpy(), "sop": sop.numpy()}

    def measure(self, outputs, feed):
        return self.trainer.measure(tf.constant(outputs["mlm"]), tf.constant(outputs["sop"]), tensors(feed))

    def gradients(self, micro_batches):
        _, gradients = self.trainer.backward(micro_batches)
        return self.canonical({name: g.numpy() for name, g in zip(self.trainer.named, gradients, strict=True)})

    def reported_loss(self, micro_batches):
        return self.trainer.backward(micro_batches)[0]

    def restart(self):
        self.trainer.optimizer = None

    def update(self, gradients, *, step):
        own = [[turned(name, replica[NAMES[name]]) for name in self.trainer.named] for replica in gradients]
        self.trainer.update(own, step)

    def learning_rates(self, start, stop):
        return self.trainer.rates(start, stop)

    def train_step(self, feed, *, step):
        return self.trainer.train_step(feed, step)

    def checkpoint(self):
        return self.weights()


def side(setup):
    return KerasSide(setup)
