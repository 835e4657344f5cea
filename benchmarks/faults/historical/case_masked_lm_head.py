"""`keras_hub.layers.MaskedLMHead` as it comes: its layer normalisation has epsilon 1e-5 (keras-team/keras-hub#642)."""

from healthy import keras_side


def shared(layer, **variables):
    """Lets a built layer work on another's variables."""
    for name, variable in variables.items():
        object.__setattr__(layer, name, variable)


def side(setup):
    healthy = keras_side(setup)
    model = healthy.trainer.model

    import keras
    import keras_hub
    import tensorflow as tf

    embedding = keras_hub.layers.ReversibleEmbedding(setup.shape.vocabulary_size, setup.shape.embedding_size)
    head = keras_hub.layers.MaskedLMHead(
        token_embedding=embedding,
        intermediate_activation=lambda x: keras.activations.gelu(x, approximate=True),
    )
    embedding.build((None, None))
    head(tf.zeros((1, 2, setup.shape.hidden_size)), tf.zeros((1, 1), tf.int32))
    shared(embedding, _embeddings=model.tokens.embeddings)
    shared(head._intermediate_dense, _kernel=model.mlm_dense.kernel, bias=model.mlm_dense.bias)
    shared(head._intermediate_layer_norm, gamma=model.mlm_norm.gamma, beta=model.mlm_norm.beta)
    shared(head, _bias=model.mlm_bias)

    def mlm_logits(hidden):
        """`hidden` (rows, slots, H): the masked positions, gathered."""
        every = tf.repeat(tf.range(hidden.shape[1])[None], tf.shape(hidden)[0], axis=0)
        return head(hidden, every)

    model.mlm_logits = mlm_logits
    return healthy
