"""Operations on arrays in a chosen arithmetic, recorded where gradients are wanted.

    machine = Machine(Arithmetic("float64"), record=True)
    y = machine.linear(machine.leaf(x), w, b)
    machine.backward([(y, dy)])        # then w.gradient

Each operation computes its result and, if the machine records, leaves a function that passes a gradient on; `backward`
calls them in reverse. That makes gradients follow every setting of the forward function by construction.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix
from scipy.special import erf, expit

from lossary.models.arbiter.architecture import Activation, Norm
from lossary.models.arbiter.arithmetic import Arithmetic, Array

__all__ = ["Heads", "Machine", "Value", "activate"]

_ROOT_2_PI = 0.7978845608028654  # √(2/π)
_CUBIC = 0.044715
_ROOT_HALF = 0.7071067811865476
_ROOT_2PI_INVERSE = 0.3989422804014327


class Value:
    """An array of a computation; `gradient` is that of the scalar last differentiated."""

    __slots__ = ("array", "gradient")

    def __init__(self, array: Array) -> None:
        self.array = array
        self.gradient: Array | None = None

    def receive(self, gradient: Array) -> None:
        """Adds a part of the gradient."""
        self.gradient = gradient if self.gradient is None else self.gradient + gradient


class Heads(NamedTuple):
    """How attention splits, scales, masks and merges."""

    number: int
    scale: float
    interleaved: bool
    merged_raw: bool
    over_queries: bool
    allowed: Array | None  # boolean, broadcasts against (B, heads, T, T)
    added: Array | None  # to the scores


class Machine:
    """See the module."""

    def __init__(
        self, arithmetic: Arithmetic, *, record: bool = False, dropout: tuple[float, np.random.Generator] | None = None
    ) -> None:
        self.arithmetic = arithmetic
        self._record = record
        self._tape: list[Callable[[], None]] = []
        self._made: list[Value] = []
        self._dropout = dropout

    def leaf(self, array: Array) -> Value:
        """An input of the computation, or a parameter."""
        return self._keep(self.arithmetic.stored(array))

    def _keep(self, array: Array) -> Value:
        value = Value(array)
        if self._record:
            self._made.append(value)
        return value

    def _made_by(self, array: Array, back: Callable[[Array], None]) -> Value:
        value = self._keep(array)
        if self._record:

            def step() -> None:
                if value.gradient is not None:
                    back(value.gradient)

            self._tape.append(step)
        return value

    def backward(self, seeds: Sequence[tuple[Value, Array]]) -> None:
        """Gradients of Σ value·seed, in every value that took part; may be called again."""
        for value in self._made:
            value.gradient = None
        for value, seed in seeds:
            value.receive(np.asarray(seed, self.arithmetic.dtype))
        for step in reversed(self._tape):
            step()

    def linear(self, x: Value, weight: Value, bias: Value | None = None) -> Value:
        """x (…, n) times weight (m, n) transposed, plus bias (m,)."""
        flat = x.array.reshape(-1, x.array.shape[-1])
        result = self.arithmetic.product(flat, weight.array.T)
        if bias is not None:
            result += bias.array
        result = self.arithmetic.rounded(result)

        def back(gradient: Array) -> None:
            rows = gradient.reshape(result.shape)
            x.receive(self.arithmetic.product(rows, weight.array).reshape(x.array.shape))
            weight.receive(self.arithmetic.product(rows.T, flat))
            if bias is not None:
                bias.receive(rows.sum(axis=0))

        return self._made_by(result.reshape(*x.array.shape[:-1], -1), back)

    def add(self, x: Value, y: Value) -> Value:
        """The sum of two of one shape, or of y broadcast over leading axes."""

        def back(gradient: Array) -> None:
            x.receive(gradient)
            extra = tuple(range(gradient.ndim - y.array.ndim))
            y.receive(gradient.sum(axis=extra) if extra else gradient)

        return self._made_by(self.arithmetic.rounded(x.array + y.array), back)

    def scale(self, x: Value, factor: float) -> Value:
        """Times a number; nothing is computed if it is 1."""
        if factor == 1.0:
            return x
        result = self.arithmetic.rounded(x.array * factor)
        return self._made_by(result, lambda gradient: x.receive(gradient * factor))

    def lookup(self, table: Value, rows: Array) -> Value:
        """table (V, E) at rows (…)."""

        def back(gradient: Array) -> None:
            flat, count = rows.reshape(-1), rows.size
            chosen = csr_matrix((np.ones(count), (flat, np.arange(count))), shape=(len(table.array), count))
            table.receive(chosen @ gradient.reshape(count, -1))

        return self._made_by(table.array[rows], back)

    def take(self, x: Value, positions: Array) -> Value:
        """x (B, T, H) at positions (B, P)."""
        rows = np.arange(len(x.array))[:, None]

        def back(gradient: Array) -> None:
            passed = np.zeros_like(x.array)
            np.add.at(passed, (rows, positions), gradient)
            x.receive(passed)

        return self._made_by(x.array[rows, positions], back)

    def flat(self, x: Value) -> Value:
        """x (B, 1, H) as (B, H)."""
        return self._made_by(x.array[:, 0], lambda gradient: x.receive(gradient[:, None]))

    def average(self, x: Value, weights: Array) -> Value:
        """Σ over T of x (B, T, H) times weights (B, T)."""
        shares = weights.astype(x.array.dtype)
        result = self.arithmetic.rounded(np.einsum("bth,bt->bh", x.array, shares))
        return self._made_by(result, lambda gradient: x.receive(gradient[:, None, :] * shares[:, :, None]))

    def reverse(self, x: Value) -> Value:
        """The last axis the other way round."""
        return self._made_by(x.array[..., ::-1], lambda gradient: x.receive(gradient[..., ::-1]))

    def activate(self, x: Value, name: Activation) -> Value:
        """An activation function, elementwise."""
        if name == "none":
            return x
        result, slope = _ACTIVATIONS[name](x.array, self._record)

        def back(gradient: Array) -> None:
            assert slope is not None
            x.receive(gradient * slope)

        return self._made_by(self.arithmetic.rounded(result), back)

    def drop(self, x: Value) -> Value:
        """Dropout, on a machine that was given a rate."""
        if self._dropout is None:
            return x
        rate, random = self._dropout
        kept = (random.random(x.array.shape) >= rate).astype(x.array.dtype) / (1.0 - rate)
        return self._made_by(self.arithmetic.rounded(x.array * kept), lambda gradient: x.receive(gradient * kept))

    def norm(self, x: Value, gain: Value, bias: Value, epsilon: float, kind: Norm) -> Value:
        """Normalisation over the last axis."""
        math, half = self.arithmetic, self.arithmetic.norm_rounded
        count = x.array.shape[-1]
        entered, gains, biases = (
            half(value.array.copy()) if math.precision == "fp16_norms" else value.array for value in (x, gain, bias)
        )
        degrees = count - 1 if kind == "unbiased" else count
        mean = half(math.mean(entered)) if kind != "rms" else np.zeros_like(entered[..., :1])
        centred = half(entered - mean) if kind != "rms" else entered
        variance = half(math.mean(half(np.square(centred))))
        if degrees != count:
            variance *= count / degrees
        with np.errstate(all="ignore"):
            deviation = np.sqrt(half(variance + half(np.full(1, epsilon, variance.dtype))))
            root = half(1.0 / deviation)
            if math.order == "blocks" and math.precision == "fp16_norms":
                standard = half(centred / half(deviation))
                result = half(standard * gains) + biases
            elif math.order == "blocks":
                slope = root * gains
                result = entered * slope + (biases - mean * slope)
                standard = centred * root if self._record else centred
            else:
                standard = half(centred * root)
                result = half(standard * gains)
                result = result + biases
        result = half(math.rounded(result))

        def back(gradient: Array) -> None:
            gain.receive((gradient * standard).reshape(-1, count).sum(axis=0))
            bias.receive(gradient.reshape(-1, count).sum(axis=0))
            inner = gradient * gain.array
            passed = inner - standard * ((inner * standard).sum(axis=-1, keepdims=True) / degrees)
            if kind != "rms":
                passed -= inner.mean(axis=-1, keepdims=True)
            x.receive(passed * root)

        return self._made_by(result, back)

    def attention(self, query: Value, key: Value, value: Value, heads: Heads) -> Value:
        """Of (B, T, H) each."""
        math = self.arithmetic
        scale = heads.scale
        q, k, v = (_split(part.array, heads) for part in (query, key, value))
        # Programs differ in where they scale; each way is as good.
        early = math.order == "blocks"
        scores = math.product(math.rounded(q * scale) if early else q, k.swapaxes(-1, -2))
        if not early:
            scores *= scale
        scores = math.rounded(scores)
        if heads.added is not None:
            scores = math.rounded(scores + heads.added.astype(scores.dtype))
        if heads.allowed is not None:
            # The most negative finite number, so that a query without any key attends all alike and gives no NaN.
            lowest = -65504.0 if math.half else float(np.finfo(np.float32).min)
            np.copyto(scores, lowest, where=~heads.allowed)
        axis = -2 if heads.over_queries else -1
        shares = self._softmax(scores, axis)
        kept = self._dropped_shares(shares.shape)
        used = shares if kept is None else math.rounded(shares * kept)
        context = _merge(math.product(used, v), heads)

        def back(gradient: Array) -> None:
            inner = _unmerge(gradient, heads)
            d_shares = math.product(inner, v.swapaxes(-1, -2))
            value.receive(_join(math.product(used.swapaxes(-1, -2), inner), heads))
            if kept is not None:
                d_shares *= kept
            d_scores = shares * (d_shares - (d_shares * shares).sum(axis=axis, keepdims=True))
            if heads.allowed is not None:
                d_scores *= heads.allowed
            d_scores *= scale
            query.receive(_join(math.product(d_scores, k), heads))
            key.receive(_join(math.product(d_scores.swapaxes(-1, -2), q), heads))

        return self._made_by(context, back)

    def _softmax(self, scores: Array, axis: int) -> Array:
        half = self.arithmetic.half_rounded
        scores -= scores.max(axis=axis, keepdims=True)
        np.exp(scores, out=scores)
        half(scores)
        scores /= half(scores.sum(axis=axis, keepdims=True))
        return self.arithmetic.rounded(scores)

    def _dropped_shares(self, size: tuple[int, ...]) -> Array | None:
        if self._dropout is None:
            return None
        rate, random = self._dropout
        return np.asarray((random.random(size) >= rate).astype(self.arithmetic.dtype) / (1.0 - rate))


def activate(x: Array, name: Activation) -> Array:
    """An activation function of an array, in its precision."""
    return _ACTIVATIONS[name](x, False)[0]


def _gelu_new(x: Array, sloped: bool) -> tuple[Array, Array | None]:
    """½·x·(1 + tanh u) with u = √(2/π)·(x + 0.044715·x³)."""
    inner = np.square(x)
    inner *= _CUBIC
    inner += 1.0
    inner *= x
    inner *= _ROOT_2_PI
    if x.dtype == np.float64:
        # ½·(1 + tanh u) is the logistic function of 2u, which is faster; in lower precision rounding would differ.
        inner *= 2.0
        half = expit(inner, out=inner)
    else:
        half = np.tanh(inner, out=inner)
        half += 1.0
        half *= 0.5
    slope = None
    if sloped:
        slope = 1.0 - half
        slope *= x
        slope *= (2.0 * _ROOT_2_PI) * (1.0 + (3.0 * _CUBIC) * np.square(x))
        slope += 1.0
        slope *= half
    return x * half, slope


def _gelu(x: Array, sloped: bool) -> tuple[Array, Array | None]:
    share = 0.5 * (1.0 + erf(x * _ROOT_HALF))
    return x * share, share + x * _ROOT_2PI_INVERSE * np.exp(-0.5 * np.square(x)) if sloped else None


def _relu(x: Array, sloped: bool) -> tuple[Array, Array | None]:
    return np.maximum(x, 0.0), (x > 0.0).astype(x.dtype) if sloped else None


def _logistic(x: Array, sloped: bool, steep: float) -> tuple[Array, Array | None]:
    """x times the logistic function of steep·x."""
    share = expit(steep * x)
    return x * share, share * (1.0 + steep * x * (1.0 - share)) if sloped else None


def _tanh(x: Array, sloped: bool) -> tuple[Array, Array | None]:
    level = np.tanh(x)
    return level, 1.0 - np.square(level) if sloped else None


_ACTIVATIONS: dict[Activation, Callable[[Array, bool], tuple[Array, Array | None]]] = {
    "gelu_new": _gelu_new,
    "gelu": _gelu,
    "relu": _relu,
    "silu": lambda x, sloped: _logistic(x, sloped, 1.0),
    "quick_gelu": lambda x, sloped: _logistic(x, sloped, 1.702),
    "tanh": _tanh,
    "none": lambda x, sloped: (x, np.ones_like(x) if sloped else None),
}


def _split(x: Array, heads: Heads) -> Array:
    """(B, T, H) → (B, heads, T, d)."""
    rows, length, width = x.shape
    if heads.interleaved:
        return x.reshape(rows, length, width // heads.number, heads.number).transpose(0, 3, 1, 2)
    return x.reshape(rows, length, heads.number, width // heads.number).transpose(0, 2, 1, 3)


def _join(x: Array, heads: Heads) -> Array:
    """The inverse of `_split`."""
    rows, count, length, size = x.shape
    order = (0, 2, 3, 1) if heads.interleaved else (0, 2, 1, 3)
    return x.transpose(order).reshape(rows, length, count * size)


def _merge(x: Array, heads: Heads) -> Array:
    """(B, heads, T, d) → (B, T, H)."""
    rows, count, length, size = x.shape
    return x.reshape(rows, length, count * size) if heads.merged_raw else _join(x, heads)


def _unmerge(x: Array, heads: Heads) -> Array:
    """The inverse of `_merge`."""
    rows, length, width = x.shape
    return x.reshape(rows, heads.number, length, width // heads.number) if heads.merged_raw else _split(x, heads)
