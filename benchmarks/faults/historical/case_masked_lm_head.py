"""`keras_hub.layers.MaskedLMHead` as it comes: its layer normalisation has epsilon 1e-5 (keras-team/keras-hub#642)."""

from healthy import keras_side


def side(setup):
    healthy = keras_side(setup)
    model = healthy.trainer.model

    import keras
    import keras_hub
    import tensorflow as tf

    head = keras_hub.layers.MaskedLMHead(
        token_embedding=keras_hub.layers.ReversibleEmbedding(setup.shape.vocabulary_size, setup.shape.embedding_size),
        intermediate_activation=lambda x: keras.activations.gelu(x, approximate=True),
    )
    head.token_embedding.build((None, None))
    head(tf.zeros((1, 2, setup.shape.hidden_size)), tf.zeros((1, 1), tf.int32))
    places = tf.range(setup.shape.max_positions)[None]

    def logits(hidden):
        """`hidden` (rows, slots, H): the masked positions, gathered."""
        head.token_embedding.embeddings.assign(model.tokens.embeddings)
        own = [model.mlm_dense.kernel, model.mlm_dense.bias, model.mlm_norm.gamma, model.mlm_norm.beta, model.mlm_bias]
        theirs = [
            head._intermediate_dense.kernel,
            head._intermediate_dense.bias,
            head._intermediate_layer_norm.gamma,
            head._intermediate_layer_norm.beta,
            head.output_bias,
        ]
        for ours, variable in zip(own, theirs, strict=True):
            variable.assign(ours)
        rows = tf.shape(hidden)[0]
        return head(hidden, tf.repeat(places[:, : hidden.shape[1]], rows, axis=0))

    def predict(batch, training=False):
        from keras_trainer import tensors

        batch = tensors(batch)
        hidden = model.encode(batch["token_ids"], batch["attention_mask"], batch["segment_ids"], training=training)
        pooled = tf.tanh(model.pooler(hidden[:, 0]))
        return logits(tf.gather(hidden, batch["positions"], batch_dims=1)), model.sop(pooled)

    healthy.trainer.predict = predict
    return healthy
