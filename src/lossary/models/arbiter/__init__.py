"""The arbiter: ALBERT forward and backward in NumPy, in any precision, with every setting that shapes do not show.

    architecture = Architecture.of(shape)
    outputs = forward(parameters, architecture, feed)                  # float64: who is right
    forward(parameters, replace(architecture, num_heads=32), feed)     # what another setting would give
    forward(parameters, architecture, feed, precision="bf16")          # what low precision would do

A feed is anything with token_ids, attention_mask, segment_ids and positions. It is written for being right and for
small models; a published xlarge model runs two short sequences in some seconds.
"""

from lossary.models.arbiter.architecture import (
    Activation,
    Architecture,
    AttentionScale,
    Mask,
    ModelInputs,
    Norm,
    Pooling,
    Segments,
)
from lossary.models.arbiter.arithmetic import Arithmetic, Order, Precision
from lossary.models.arbiter.backward import (
    Gradients,
    LossGradients,
    Recording,
    gradients,
    loss_gradients,
    record,
)
from lossary.models.arbiter.forward import (
    Dropout,
    Outputs,
    attention,
    embeddings,
    feedforward,
    forward,
    layer,
    mapped,
    mlm_hidden,
    mlm_logits_from_hidden,
    pooled,
    sop_logits,
)

__all__ = [
    "Activation",
    "Architecture",
    "Arithmetic",
    "AttentionScale",
    "Dropout",
    "Gradients",
    "LossGradients",
    "Mask",
    "ModelInputs",
    "Norm",
    "Order",
    "Outputs",
    "Pooling",
    "Precision",
    "Recording",
    "Segments",
    "attention",
    "embeddings",
    "feedforward",
    "forward",
    "gradients",
    "layer",
    "loss_gradients",
    "mapped",
    "mlm_hidden",
    "mlm_logits_from_hidden",
    "pooled",
    "record",
    "sop_logits",
]
