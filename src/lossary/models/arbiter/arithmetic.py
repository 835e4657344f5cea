"""How numbers are computed: the precision of every operation, and the order of every sum.

    Arithmetic("float64")                      # the arbiter
    Arithmetic("float32", order="shuffled", seed=3)   # the same function as any fp32 program may compute it
    Arithmetic("bf16")                         # every result rounded to bfloat16

Low precisions are emulated: computed in float32, then rounded. Two kinds of program are known: those that round every
result (bf16, fp16), and those that round what goes into and comes out of matrix products only, as automatic casting
does (bf16_products, fp16_products, and tf32, which rounds what goes in). Statistics of layer normalisation and softmax
are float32 but in pure fp16, where ε = 1e-12 rounds to 0; in fp16_norms, layer normalisation alone is fp16. Gradients
are rounded where products are: a gradient that is exactly 0, as of a bias that moves all keys alike, is noise.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

__all__ = ["Arithmetic", "Array", "Order", "Precision", "as_arithmetic"]

Array = NDArray[Any]
Precision = Literal["float64", "float32", "tf32", "bf16", "bf16_products", "fp16", "fp16_products", "fp16_norms"]
Order = Literal["plain", "shuffled", "blocks"]
_BLOCKS = 32
_SHORTEST_BLOCK = 8
_LANES = 8


@dataclass(frozen=True)
class Arithmetic:
    """A way of computing. `order` says in which order sums are taken: as BLAS does, of shuffled terms (by `seed`), or
    in up to 32 blocks one after another, with layer normalisation folded into one product and one sum."""

    precision: Precision = "float64"
    order: Order = "plain"
    seed: int = 0

    @property
    def dtype(self) -> DTypeLike:
        """What arrays are held in."""
        return np.float64 if self.precision == "float64" else np.float32

    @property
    def half(self) -> bool:
        """Whether everything, statistics included, is fp16."""
        return self.precision == "fp16"

    def stored(self, array: Array) -> Array:
        """A parameter as it takes part in elementwise operations."""
        return self.rounded(np.asarray(array, self.dtype).copy() if self._rounds_all else np.asarray(array, self.dtype))

    @property
    def _rounds_all(self) -> bool:
        return self.precision in ("bf16", "fp16")

    def rounded(self, array: Array) -> Array:
        """The result of an operation; rounded in place."""
        return _ROUNDING[self.precision](array) if self._rounds_all else array

    def half_rounded(self, array: Array) -> Array:
        """The result of an operation inside statistics."""
        return _to_fp16(array) if self.half else array

    def norm_rounded(self, array: Array) -> Array:
        """The result of an operation inside layer normalisation."""
        return _to_fp16(array) if self.precision in ("fp16", "fp16_norms") else array

    def product(self, left: Array, right: Array) -> Array:
        """left (…, n, k) @ right (…, k, m)."""
        name = self.precision
        result = self._summed(self.as_factor(left), self.as_factor(right))
        return result if name in ("float64", "float32", "tf32", "fp16_norms") else _ROUNDING[name](result)

    def as_factor(self, array: Array) -> Array:
        """What enters a product; a copy if it is rounded."""
        if self.precision in ("float64", "float32", "fp16_norms"):
            return array
        # In bf16 and fp16 everything is rounded already, but what comes from outside.
        return _ROUNDING[self.precision](np.array(array, np.float32))

    def _summed(self, left: Array, right: Array) -> Array:
        count = left.shape[-1]
        if self.order == "shuffled":
            order = np.random.default_rng([self.seed, count]).permutation(count)
            return np.asarray(np.matmul(left[..., order], right[..., order, :]))
        if self.order == "blocks":
            width = max(_SHORTEST_BLOCK, -(-count // _BLOCKS))
            result: Array = np.matmul(left[..., :width], right[..., :width, :])
            for start in range(width, count, width):
                result += np.matmul(left[..., start : start + width], right[..., start : start + width, :])
            return result
        return np.asarray(np.matmul(left, right))

    def mean(self, array: Array) -> Array:
        """Over the last axis, which is kept."""
        if self.order == "blocks" and self.precision == "fp16_norms":
            return _mean_of_halves(array)
        if self.order == "shuffled":
            order = np.random.default_rng([self.seed, array.shape[-1]]).permutation(array.shape[-1])
            array = array[..., order]
        return np.asarray(array.mean(axis=-1, keepdims=True))


def _mean_of_halves(array: Array) -> Array:
    """Summed in fp16 in eight lanes, as programs do that have no wider sum."""
    count = array.shape[-1]
    lanes = np.zeros((*array.shape[:-1], -(-count // _LANES) * _LANES), array.dtype)
    lanes[..., :count] = array
    steps = lanes.reshape(*array.shape[:-1], -1, _LANES)
    total = steps[..., 0, :]
    for step in range(1, steps.shape[-2]):
        total = _to_fp16(total + steps[..., step, :])
    while total.shape[-1] > 1:
        half = total.shape[-1] // 2
        total = _to_fp16(total[..., :half] + total[..., half:])
    return _to_fp16(total / count)


def as_arithmetic(precision: Precision | Arithmetic) -> Arithmetic:
    """An arithmetic, from itself or from the name of its precision."""
    return precision if isinstance(precision, Arithmetic) else Arithmetic(precision)


def _to_bf16(array: Array) -> Array:
    return _cut(array, 16)


def _to_tf32(array: Array) -> Array:
    return _cut(array, 13)


def _cut(array: Array, bits: int) -> Array:
    """Drops the last bits of float32 numbers, to the nearest, ties to even; infinities and NaN stay what they are."""
    array = np.ascontiguousarray(array)
    words = array.view(np.uint32)
    carry = (words >> np.uint32(bits)) & np.uint32(1)
    carry += np.uint32((1 << (bits - 1)) - 1)
    finite = np.isfinite(array)
    np.add(words, carry, out=words, where=finite)
    np.bitwise_and(words, np.uint32(0xFFFFFFFF << bits & 0xFFFFFFFF), out=words, where=finite)
    return array


def _to_fp16(array: Array) -> Array:
    with np.errstate(over="ignore", under="ignore"):
        array[...] = array.astype(np.float16)
    return array


_ROUNDING = {
    "tf32": _to_tf32,
    "bf16": _to_bf16,
    "bf16_products": _to_bf16,
    "fp16": _to_fp16,
    "fp16_products": _to_fp16,
}
