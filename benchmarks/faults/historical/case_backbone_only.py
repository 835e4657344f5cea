"""A converter that brings the backbone only: both heads stay as they were drawn (huggingface/transformers#9319)."""

from healthy import keras_side

HEADS = ("mlm_dense", "mlm_norm", "mlm_bias", "sop")


def side(setup):
    healthy = keras_side(setup)
    trainer = healthy.trainer
    restored = trainer.saved_and_restored

    def backbone_only():
        fresh = restored()
        drawn = type(trainer)(setup.shape, setup.recipe)
        for name, variable in fresh.named.items():
            if name.split("/")[0] in HEADS:
                variable.assign(drawn.named[name])
        return fresh

    trainer.saved_and_restored = backbone_only
    return healthy
