"""ALBERT's sizes: the four published ones, and smaller models in their shape.

    shape_of("xlarge", vocabulary_size=30000)
    shape_of(ScaledSize.model_validate({"from": "xlarge", "width": 0.0625, "depth": 0.25}), vocabulary_size=4000)

Sources: Lan et al., ALBERT (ICLR 2020), table 2; the configuration files of google-research/albert.
"""

from dataclasses import dataclass
from typing import Any

from lossary.study import ScaledSize, SizeName

__all__ = ["SIZES", "AlbertShape", "operations", "shape_of"]


@dataclass(frozen=True, kw_only=True)
class AlbertShape:
    """Everything that fixes the parameters and the function of an ALBERT model; no dropout, as version 2 has it."""

    vocabulary_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    embedding_size: int = 128
    max_positions: int = 512
    initializer_range: float = 0.02
    layer_norm_epsilon: float = 1e-12
    pad_id: int | None = 0  # PyTorch's embedding gives its row no gradient

    @property
    def described(self) -> dict[str, Any]:
        """As digests have it: what later versions added is named only where it is not as before."""
        return {name: value for name, value in vars(self).items() if (name, value) != ("pad_id", 0)}


@dataclass(frozen=True)
class _Size:
    hidden_size: int
    num_layers: int
    intermediate_size: int
    num_heads: int


# xlarge: published configurations have 16 and 32 heads with the same parameter shapes; 16 is version 2's.
SIZES: dict[SizeName, _Size] = {
    "base": _Size(768, 12, 3072, 12),
    "large": _Size(1024, 24, 4096, 16),
    "xlarge": _Size(2048, 24, 8192, 16),
    "xxlarge": _Size(4096, 12, 16384, 64),
}
_FEWEST_HEADS = 4


def shape_of(
    size: SizeName | ScaledSize,
    *,
    vocabulary_size: int,
    max_positions: int = 512,
    initializer_range: float | None = None,
    pad_id: int | None = 0,
) -> AlbertShape:
    """The shape of a size.

    A scaled width changes hidden and intermediate size (multiples of 8) and the number of heads, of which at least
    four are kept. Unless given, the initial standard deviation is the published 0.02, and for a scaled width H
    0.02·(2048/H)^0.58: at 128 that is 0.1, at 64 0.15. With 0.02 at such widths neither objective starts to fall.
    """
    scaled = size if isinstance(size, ScaledSize) else ScaledSize.model_validate({"from": size})
    full = SIZES[scaled.from_]
    hidden = full.hidden_size
    if scaled.width != 1.0:
        hidden = max(8, round(hidden * scaled.width / 8) * 8)
    heads = max(min(_FEWEST_HEADS, full.num_heads), round(full.num_heads * scaled.width))
    while hidden % heads:
        heads -= 1
    default_range = 0.02 if scaled.width == 1.0 else max(0.02, 0.02 * (2048 / hidden) ** 0.58)
    return AlbertShape(
        vocabulary_size=vocabulary_size,
        hidden_size=hidden,
        num_layers=max(1, round(full.num_layers * scaled.depth)),
        num_heads=heads,
        intermediate_size=hidden * (full.intermediate_size // full.hidden_size),
        embedding_size=min(128, hidden),
        max_positions=max(512, max_positions),
        initializer_range=initializer_range or round(default_range, 4),
        pad_id=pad_id,
    )


def operations(shape: AlbertShape) -> float:
    """Multiplications forward a token: the matrices of all layers."""
    h, i = shape.hidden_size, shape.intermediate_size
    return float(shape.num_layers * (4 * h * h + 2 * h * i) + shape.embedding_size * h)
