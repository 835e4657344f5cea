"""Each micro batch is divided by its own count, and nothing by their number: the logged loss and the gradient grow with
accumulation (huggingface/transformers#37766)."""

from healthy import torch_side


def side(setup):
    healthy = torch_side(setup)
    trainer = healthy.trainer
    backward = trainer.backward
    trainer.backward = lambda micro_batches: sum(backward([batch]) for batch in micro_batches)
    return healthy
