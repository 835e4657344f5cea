"""A configuration with twice as many heads, as the published ones of xlarge: 16 or 32, and every tensor fits
(google-research/albert#180, huggingface/transformers#3164)."""

import dataclasses

from healthy import torch_side


def side(setup):
    shape = dataclasses.replace(setup.shape, num_heads=2 * setup.shape.num_heads)
    return torch_side(dataclasses.replace(setup, shape=shape))
