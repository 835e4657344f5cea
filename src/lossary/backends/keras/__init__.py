"""The TensorFlow and JAX backends, one code on Keras 3; keras, keras_hub, tensorflow and jax are imported here only."""
