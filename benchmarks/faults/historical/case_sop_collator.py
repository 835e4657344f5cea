"""Attention as transformers' `DataCollatorForSOP` made it: 0 at masked tokens, 1 at padding.

Seen as huggingface/transformers#6168.
"""

import numpy as np
from healthy import torch_side

IGNORE, PAD = -100, 0


def collated(batch):
    masked = batch["mlm_labels"] != IGNORE
    original = np.where(masked, batch["mlm_labels"], batch["token_ids"])
    attention = (~masked).astype(np.int32)
    attention[original == PAD] = 1
    return {**batch, "attention_mask": attention}


def side(setup):
    healthy = torch_side(setup)
    batch = healthy.pipeline.batch
    healthy.pipeline.batch = lambda examples: collated(batch(examples))
    return healthy
