"""Somebody's ALBERT as a functional Keras model, its loss and its schedule."""

import keras
import tensorflow as tf
from keras import layers, ops

EPSILON = 1e-12


class TiedLogits(layers.Layer):
    """Logits by the word embeddings."""

    def __init__(self, embedding, **options):
        super().__init__(**options)
        self.embedding = embedding

    def build(self, _):
        self.bias = self.add_weight(shape=(self.embedding.input_dim,), initializer="zeros", name="bias")

    def call(self, x):
        return ops.matmul(x, ops.transpose(self.embedding.embeddings)) + self.bias


def gelu(x):
    return keras.activations.gelu(x, approximate=True)


def norm(name):
    return layers.LayerNormalization(epsilon=EPSILON, name=name)


def build_my_albert(shape):
    e, h = shape.embedding_size, shape.hidden_size
    inputs = {
        name: keras.Input((None,), dtype="int32", name=name)
        for name in ("token_ids", "attention_mask", "segment_ids", "positions")
    }
    ids, mask = inputs["token_ids"], inputs["attention_mask"]
    words = layers.Embedding(shape.vocabulary_size, e, name="word_embeddings")
    places = layers.Embedding(shape.max_positions, e, name="position_embeddings")
    kinds = layers.Embedding(2, e, name="token_type_embeddings")
    x = words(ids) + places(ops.cumsum(ops.ones_like(ids), axis=1) - 1) + kinds(inputs["segment_ids"])
    x = layers.Dense(h, name="embedding_hidden_mapping")(norm("embeddings_norm")(x))
    attention = layers.MultiHeadAttention(shape.num_heads, h // shape.num_heads, name="attention")
    attention_norm, output_norm = norm("attention_norm"), norm("full_layer_norm")
    up, down = layers.Dense(shape.intermediate_size, gelu, name="ffn"), layers.Dense(h, name="ffn_output")
    for _ in range(shape.num_layers):
        x = attention_norm(x + attention(x, x, attention_mask=mask[:, None, :]))
        x = output_norm(x + down(up(x)))
    pooled = layers.Dense(h, "tanh", name="pooler")(x[:, 0])
    scored = ops.take_along_axis(x, inputs["positions"][:, :, None], axis=1)
    y = norm("predictions_norm")(layers.Dense(e, gelu, name="predictions_dense")(scored))
    outputs = (TiedLogits(words, name="predictions")(y), layers.Dense(2, name="sop_classifier")(pooled))
    return keras.Model(inputs, outputs, name="my_albert")


def my_loss(mlm, sop, feed):
    nats = tf.nn.sparse_softmax_cross_entropy_with_logits(feed["labels"], mlm)
    weights = tf.cast(feed["weights"], tf.float32)
    pairs = tf.cast(feed["sop_labels"] >= 0, tf.float32)
    order = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.maximum(tf.cast(feed["sop_labels"], tf.int32), 0), sop)
    return tf.reduce_sum(nats * weights) / tf.reduce_sum(weights) + tf.reduce_sum(order * pairs) / tf.reduce_sum(pairs)


class MySchedule(keras.optimizers.schedules.LearningRateSchedule):
    def __init__(self, peak, steps):
        self.peak, self.steps = peak, steps

    def __call__(self, step):
        return self.peak * (1.0 - ops.cast(step, "float32") / self.steps)

    def get_config(self):
        return {"peak": self.peak, "steps": self.steps}
