"""Every place of a padded row may be a target, as where the mask of special tokens lacks padding
(huggingface/transformers#11155)."""

import numpy as np
from healthy import torch_side

IGNORE, MASK = -100, 4


def with_pad_targets(batch, seed):
    rng = np.random.default_rng(seed)
    padding = batch["attention_mask"] == 0
    chosen = padding & (rng.random(padding.shape) < 0.15)
    shown = chosen & (rng.random(padding.shape) < 0.8)
    return {
        **batch,
        "mlm_labels": np.where(chosen, batch["token_ids"], batch["mlm_labels"]),
        "token_ids": np.where(shown, MASK, batch["token_ids"]),
    }


def side(setup):
    healthy = torch_side(setup)
    batch = healthy.pipeline.batch
    healthy.pipeline.batch = lambda examples: with_pad_targets(batch(examples), setup.seed)
    return healthy
