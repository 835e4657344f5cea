"""A compact ALBERT in Keras 3 on TensorFlow and its training loop: masked words and sentence order.

    trainer = Trainer(setup.shape, setup.recipe, dropout=0.0)
    trainer.train_step(batch, step=0)

A batch is a dict of NumPy arrays: token_ids, attention_mask, segment_ids, positions, labels and weights of the masked
words (rows, slots), sop_labels (-1: none).
"""

import os
import tempfile
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

layers = keras.layers


class SelfAttention(layers.Layer):
    def __init__(self, hidden, heads, dropout, **kwargs):
        super().__init__(**kwargs)
        self.heads, self.depth = heads, hidden // heads
        self.query, self.key, self.value, self.out = (layers.Dense(hidden, dtype=self.dtype_policy) for _ in range(4))
        self.drop = layers.Dropout(dropout, dtype=self.dtype_policy)

    def split(self, x):
        return tf.transpose(tf.reshape(x, (tf.shape(x)[0], -1, self.heads, self.depth)), (0, 2, 1, 3))

    def call(self, x, bias, training=False):
        q, k, v = self.split(self.query(x)), self.split(self.key(x)), self.split(self.value(x))
        scores = tf.matmul(q, k, transpose_b=True) / tf.cast(tf.sqrt(float(self.depth)), q.dtype)
        weights = self.drop(tf.nn.softmax(scores + tf.cast(bias, q.dtype)), training=training)
        mixed = tf.transpose(tf.matmul(weights, v), (0, 2, 1, 3))
        return self.out(tf.reshape(mixed, tf.shape(x)))


def gelu(x):
    return keras.activations.gelu(x, approximate=True)


class Albert(keras.Model):
    def __init__(self, shape, dropout=0.0, policy="float32"):
        super().__init__(dtype=policy)
        e, h = shape.embedding_size, shape.hidden_size
        epsilon = shape.layer_norm_epsilon
        start = keras.initializers.TruncatedNormal(stddev=shape.initializer_range)
        self.depth = shape.num_layers

        def dense(units):
            return layers.Dense(units, kernel_initializer=start, dtype=policy)

        self.tokens = layers.Embedding(shape.vocabulary_size, e, embeddings_initializer=start, dtype=policy)
        self.places = layers.Embedding(shape.max_positions, e, embeddings_initializer=start, dtype=policy)
        self.segments = layers.Embedding(2, e, embeddings_initializer=start, dtype=policy)
        self.norm = layers.LayerNormalization(epsilon=epsilon, dtype=policy)
        self.project = dense(h)
        self.attention = SelfAttention(h, shape.num_heads, dropout, dtype=policy)
        self.attention_norm = layers.LayerNormalization(epsilon=epsilon, dtype=policy)
        self.up, self.down = dense(shape.intermediate_size), dense(h)
        self.output_norm = layers.LayerNormalization(epsilon=epsilon, dtype=policy)
        self.pooler = dense(h)
        self.mlm_dense = dense(e)
        self.mlm_norm = layers.LayerNormalization(epsilon=epsilon, dtype=policy)
        self.mlm_bias = self.add_weight(
            shape=(shape.vocabulary_size,), initializer="zeros", name="mlm_bias", autocast=False
        )
        self.sop = dense(2)
        self.drop = layers.Dropout(dropout, dtype=policy)

    def encode(self, ids, mask, segments, training=False):
        x = self.tokens(ids) + self.places(tf.range(tf.shape(ids)[1])) + self.segments(segments)
        x = self.project(self.drop(self.norm(x), training=training))
        bias = tf.where(mask[:, None, None, :] > 0, 0.0, -1e30)
        for _ in range(self.depth):
            y = self.attention(x, bias, training=training)
            x = self.attention_norm(x + self.drop(y, training=training))
            y = self.down(gelu(self.up(x)))
            x = self.output_norm(x + self.drop(y, training=training))
        return x

    def mlm_logits(self, x):
        y = self.mlm_norm(gelu(self.mlm_dense(x)))
        logits = tf.matmul(y, tf.cast(self.tokens.embeddings, y.dtype), transpose_b=True)
        return tf.cast(logits, tf.float32) + self.mlm_bias

    def call(self, ids, mask, segments, positions, training=False):
        x = self.encode(ids, mask, segments, training=training)
        pooled = tf.tanh(self.pooler(x[:, 0]))
        mlm = self.mlm_logits(tf.gather(x, positions, batch_dims=1))
        return mlm, tf.cast(self.sop(pooled), tf.float32)

    def variables_by_name(self):
        parts = {
            "norm": self.norm,
            "project": self.project,
            "attention/query": self.attention.query,
            "attention/key": self.attention.key,
            "attention/value": self.attention.value,
            "attention/out": self.attention.out,
            "attention_norm": self.attention_norm,
            "up": self.up,
            "down": self.down,
            "output_norm": self.output_norm,
            "pooler": self.pooler,
            "mlm_dense": self.mlm_dense,
            "mlm_norm": self.mlm_norm,
            "sop": self.sop,
        }
        named = {
            "tokens": self.tokens.embeddings,
            "places": self.places.embeddings,
            "segments": self.segments.embeddings,
            "mlm_bias": self.mlm_bias,
        }
        for name, part in parts.items():
            named |= {f"{name}/{variable.name}": variable for variable in part.trainable_variables}
        return named


class Lamb:
    """As in google-research/albert: no bias correction, decay inside the trust ratio."""

    def __init__(self, variables, settings):
        self.variables, self.settings = variables, settings
        self.m = [tf.Variable(tf.zeros(v.shape)) for v in variables]
        self.v = [tf.Variable(tf.zeros(v.shape)) for v in variables]

    def apply(self, gradients, rate):
        s = self.settings
        for w, m, v, g in zip(self.variables, self.m, self.v, gradients, strict=True):
            adapted = len(w.shape) > 1
            m.assign(s.beta1 * m + (1.0 - s.beta1) * g)
            v.assign(s.beta2 * v + (1.0 - s.beta2) * tf.square(g))
            update = m / (tf.sqrt(v) + s.epsilon)
            ratio = 1.0
            if adapted:
                update += s.weight_decay * w.value
                w_norm, u_norm = tf.norm(w.value), tf.norm(update)
                if w_norm > 0 and u_norm > 0:
                    ratio = w_norm / u_norm
            w.assign_sub(rate * ratio * update)


class AdamW:
    """`keras.optimizers.AdamW` without decay of biases and normalisation."""

    def __init__(self, variables, settings):
        self.variables = variables
        self.optimizer = keras.optimizers.AdamW(
            learning_rate=settings.learning_rate,
            weight_decay=settings.weight_decay,
            beta_1=settings.beta1,
            beta_2=settings.beta2,
            epsilon=settings.epsilon,
        )
        self.optimizer.exclude_from_weight_decay(var_list=[v for v in variables if len(v.shape) < 2])
        self.optimizer.build(variables)

    def apply(self, gradients, rate):
        self.optimizer.learning_rate.assign(rate)
        self.optimizer.apply(gradients, self.variables)


class WarmupLinear:
    def __init__(self, peak, warmup, total):
        self.peak, self.warmup, self.total = peak, warmup, total

    def __call__(self, step):
        if step < self.warmup:
            return self.peak * step / self.warmup
        return self.peak * max(0.0, 1.0 - step / self.total)


def mlm_losses(logits, labels):
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)


def sop_losses(logits, labels):
    labelled = tf.cast(labels >= 0, tf.float32)
    return tf.nn.sparse_softmax_cross_entropy_with_logits(tf.maximum(labels, 0), logits), labelled


def tensors(batch):
    names = ("token_ids", "attention_mask", "segment_ids", "positions", "labels", "sop_labels")
    result = {name: tf.constant(np.asarray(batch[name], np.int32)) for name in names}
    return result | {"weights": tf.constant(np.asarray(batch["weights"], np.float32))}


class Trainer:
    def __init__(self, shape, recipe, dropout=0.0, precision="fp32", accumulate=1):
        self.shape, self.recipe = shape, recipe
        self.dropout, self.precision, self.accumulate = dropout, precision, accumulate
        self.model = Albert(shape, dropout, "mixed_bfloat16" if precision == "bf16" else "float32")
        one = tf.ones((1, 2), tf.int32)
        self.model(one, one, one * 0, one[:, :1])
        self.named = self.model.variables_by_name()
        self.variables = list(self.named.values())
        settings = recipe.optimizer
        self.schedule = WarmupLinear(settings.learning_rate, settings.warmup, recipe.steps)
        self.optimizer = None

    # --- forward and loss -------------------------------------------------------------------------------------

    def forward(self, batch, training):
        inputs = (batch[name] for name in ("token_ids", "attention_mask", "segment_ids", "positions"))
        return self.model(*inputs, training=training)

    def predict(self, batch, training=False):
        return self.forward(tensors(batch), training=training)

    def counts(self, batches):
        """Masked tokens and labelled pairs that a step's loss is divided by."""
        masked = sum(float(tf.reduce_sum(batch["weights"])) for batch in batches)
        pairs = sum(int(tf.math.count_nonzero(batch["sop_labels"] >= 0)) for batch in batches)
        return masked + 1e-5, max(1, pairs)

    def loss(self, batch, masked, pairs):
        mlm, sop = self.forward(batch, training=True)
        mlm_loss = tf.reduce_sum(mlm_losses(mlm, batch["labels"]) * batch["weights"]) / masked
        nats, labelled = sop_losses(sop, batch["sop_labels"])
        sop_loss = tf.reduce_sum(nats * labelled) / pairs
        return mlm_loss + sop_loss

    def measure(self, mlm, sop, batch):
        """Metrics of logits."""
        labels, weights = batch["labels"], batch["weights"]
        masked = tf.reduce_sum(weights) + 1e-5
        nats, labelled = sop_losses(sop, batch["sop_labels"])
        pairs = tf.maximum(1.0, tf.reduce_sum(labelled))
        mlm_loss = tf.reduce_sum(mlm_losses(mlm, labels) * weights) / masked
        sop_loss = tf.reduce_sum(nats * labelled) / pairs
        mlm_hits = tf.cast(tf.argmax(mlm, -1, tf.int32) == labels, tf.float32)
        known = batch["sop_labels"] >= 0
        sop_hits = tf.cast(tf.argmax(sop, -1, tf.int32) == batch["sop_labels"], tf.float32)[known]
        values = {
            "loss": mlm_loss + sop_loss,
            "mlm_loss": mlm_loss,
            "sop_loss": sop_loss,
            "mlm_accuracy": tf.reduce_sum(mlm_hits * weights) / masked,
            "sop_accuracy": tf.math.divide_no_nan(tf.reduce_sum(sop_hits), tf.cast(tf.size(sop_hits), tf.float32)),
        }
        return {name: float(value) for name, value in values.items()}

    # --- training ---------------------------------------------------------------------------------------------

    def backward(self, micro_batches):
        """The step's loss and gradients, accumulated over micro batches."""
        batches = [tensors(batch) for batch in micro_batches]
        masked, pairs = self.counts(batches)
        total = 0.0
        sums = [tf.zeros(v.shape) for v in self.variables]
        for batch in batches:
            with tf.GradientTape() as tape:
                loss = self.loss(batch, masked, pairs)
            gradients = tape.gradient(loss, [v.value for v in self.variables], unconnected_gradients="zero")
            sums = [s + tf.convert_to_tensor(g) for s, g in zip(sums, gradients, strict=True)]
            total += float(loss)
        return total, sums

    def make_optimizer(self):
        settings = self.recipe.optimizer
        return (Lamb if settings.name == "lamb" else AdamW)(self.variables, settings)

    def rates(self, start, stop):
        """The rates of steps [start, stop) of a run that is resumed at `start`."""
        return [self.schedule(step) for step in range(start, stop)]

    def clip(self, gradients):
        """Clipped gradients and their norm before."""
        most = self.recipe.optimizer.clip_norm
        norm = tf.linalg.global_norm(gradients)
        if most is not None:
            gradients, norm = tf.clip_by_global_norm(gradients, most)
        return gradients, norm

    def reduce(self, replicas):
        """The mean of the replicas' gradients."""
        return [tf.reduce_mean(tf.stack(gradients), axis=0) for gradients in zip(*replicas, strict=True)]

    def apply(self, gradients, step):
        """Clips, updates; returns the gradient norm and the rate."""
        if self.optimizer is None:
            self.optimizer = self.make_optimizer()
        gradients, norm = self.clip(gradients)
        rate = self.schedule(step)
        self.optimizer.apply(gradients, rate)
        return float(norm), rate

    def update(self, replicas, step):
        replicas = [[tf.constant(g, tf.float32) for g in gradients] for gradients in replicas]
        return self.apply(self.reduce(replicas), step)

    def train_step(self, batch, step):
        rows = len(batch["token_ids"])
        cuts = [rows * part // self.accumulate for part in range(self.accumulate + 1)]
        parts = [{k: v[a:b] for k, v in batch.items()} for a, b in zip(cuts[:-1], cuts[1:], strict=True) if b > a]
        loss, gradients = self.backward(parts)
        norm, rate = self.apply(gradients, step)
        return {"loss": loss, "gradient_norm": norm, "learning_rate": rate}

    # --- checkpoints ------------------------------------------------------------------------------------------

    def save(self, path):
        np.savez(path, **{name: variable.numpy() for name, variable in self.named.items()})

    def restore(self, path):
        with np.load(path) as stored:
            for name, variable in self.named.items():
                variable.assign(stored[name])

    def saved_and_restored(self):
        """A fresh trainer with what a checkpoint brings back."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "weights.npz"
            self.save(path)
            fresh = type(self)(self.shape, self.recipe, self.dropout, self.precision)
            fresh.restore(path)
        return fresh
