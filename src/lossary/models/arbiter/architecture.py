"""Every setting of ALBERT's forward function that the shapes of its parameters do not show.

    Architecture.of(shape)                                   # as published
    replace(Architecture.of(shape), num_heads=32)            # the same parameters, another function

Two programs with equal parameters may still differ in any of these; each one has been got wrong by somebody, and the
parameters load without complaint.
"""

from dataclasses import dataclass
from typing import Any, Literal, Protocol, Self

from numpy.typing import NDArray

from lossary.models.shapes import AlbertShape

__all__ = [
    "Activation",
    "Architecture",
    "AttentionScale",
    "Mask",
    "ModelInputs",
    "Norm",
    "Pooling",
    "Segments",
]

Activation = Literal["gelu_new", "gelu", "relu", "silu", "tanh", "quick_gelu", "none"]
AttentionScale = Literal["head", "hidden", "none", "twice"]
Mask = Literal["keys", "none", "inverted", "causal", "added"]
Norm = Literal["layer", "unbiased", "rms"]
Pooling = Literal["first", "mean", "mean_all"]
Segments = Literal["ids", "zero", "absent", "flipped"]


class ModelInputs(Protocol):
    """The input arrays of B examples; a feed and lossary's own examples are such."""

    @property
    def token_ids(self) -> NDArray[Any]:
        """(B, T)"""
        ...

    @property
    def attention_mask(self) -> NDArray[Any]:
        """(B, T) 1 where a token stands."""
        ...

    @property
    def segment_ids(self) -> NDArray[Any]:
        """(B, T)"""
        ...

    @property
    def positions(self) -> NDArray[Any]:
        """(B, P) where MLM logits are wanted."""
        ...


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What is computed from given parameters; the defaults are published ALBERT."""

    num_layers: int
    num_heads: int
    activation: Activation = "gelu_new"  # of the feed-forward part
    head_activation: Activation | None = None  # of the MLM head; None: as `activation`
    pooler_activation: Activation = "tanh"
    epsilon_embeddings: float = 1e-12
    epsilon_layers: float = 1e-12
    epsilon_head: float = 1e-12

    # Layer normalisation: with variance over n (layer) or n−1 (unbiased), or no mean taken off (rms).
    norm: Norm = "layer"
    norm_placement: Literal["post", "pre"] = "post"  # after the residual sum, or before attention and feed-forward
    embeddings_norm: bool = True
    attention_norm: bool = True
    feedforward_norm: bool = True
    head_norm: bool = True

    # keys: padded keys are not attended; inverted: only they are; causal: nor later ones; added: the mask of 0 and 1
    # is added to the scores as it stands.
    mask: Mask = "keys"
    segments: Segments = "ids"  # zero: all are segment 0; absent: no segment embedding at all
    position_embeddings: bool = True
    position_offset: int = 0  # token t reads position t + offset
    embedding_scale: float = 1.0  # word embeddings times this, in the lookup only

    # 1/√d of a head's d numbers; 1/√H; 1; or 1/d, where queries and scores both are scaled.
    attention_scale: AttentionScale = "head"
    softmax_over: Literal["keys", "queries"] = "keys"
    head_layout: Literal["blocks", "interleaved"] = "blocks"  # head h owns H/heads numbers in a row, or every heads-th
    head_merge: Literal["transposed", "raw"] = "transposed"  # raw: (heads, T, d) is read as (T, H) as it lies
    attention_residual: bool = True
    feedforward_residual: bool = True

    pooling: Pooling = "first"  # mean: of attended tokens; mean_all: of padding, too
    pooler: bool = True  # False: order logits straight from what is pooled
    sop_swapped: bool = False
    output_bias_times: int = 1
    decoder_scale: float = 1.0  # MLM logits times this, before the bias

    @classmethod
    def of(cls, shape: AlbertShape) -> Self:
        """Of a shape, as lossary's backends compute it."""
        return cls(
            num_layers=shape.num_layers,
            num_heads=shape.num_heads,
            epsilon_embeddings=shape.layer_norm_epsilon,
            epsilon_layers=shape.layer_norm_epsilon,
            epsilon_head=shape.layer_norm_epsilon,
        )

    @property
    def activation_of_head(self) -> Activation:
        """The activation of the MLM head."""
        return self.activation if self.head_activation is None else self.head_activation
