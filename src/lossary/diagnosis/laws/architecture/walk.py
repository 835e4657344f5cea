"""The arbiter run again and again with other settings: a stage whose settings and input are as before is not repeated.

    walker = Walker(parameters, feed, activations, Arithmetic())
    key, mlm = walker.outputs(architecture)["mlm"]      # from the feed
    key, layer = walker.stages(architecture)["layer.2"] # from the side's own layer.1

Equal keys stand for equal results.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lossary.diagnosis.adapter import Feed
from lossary.models.arbiter import Architecture, Arithmetic
from lossary.models.arbiter.forward import quietly
from lossary.models.arbiter.machine import Machine, Value
from lossary.models.arbiter.stages import Stages, Weights

__all__ = ["STAGE_FIELDS", "Walker"]

# Which settings a stage looks at.
STAGE_FIELDS: dict[str, tuple[str, ...]] = {
    "embeddings": (
        "embedding_scale",
        "segments",
        "position_embeddings",
        "position_offset",
        "embeddings_norm",
        "epsilon_embeddings",
        "norm",
    ),
    "mapped": (),
    "attention": (
        "num_heads",
        "attention_scale",
        "softmax_over",
        "head_layout",
        "head_merge",
        "mask",
        "attention_residual",
        "attention_norm",
        "norm_placement",
        "epsilon_layers",
        "norm",
    ),
    "feedforward": (
        "activation",
        "feedforward_residual",
        "feedforward_norm",
        "norm_placement",
        "epsilon_layers",
        "norm",
    ),
    "pooled": ("pooling", "pooler", "pooler_activation"),
    "mlm_hidden": ("activation_of_head", "head_norm", "epsilon_head", "norm"),
    "mlm": ("output_bias_times", "decoder_scale"),
    "sop": ("sop_swapped",),
}
_KEPT = 192  # results; what the search needs lies close together

Key = Hashable


class _Result(NamedTuple):
    key: Key
    value: Value


class Walker:
    """See the module. `activations` are the side's, by the arbiter's names."""

    def __init__(
        self,
        parameters: Mapping[str, NDArray[Any]],
        feed: Feed,
        activations: Mapping[str, NDArray[Any]],
        arithmetic: Arithmetic,
    ) -> None:
        self._machine = Machine(arithmetic)
        self._weights = Weights(parameters, self._machine)
        self._feed = feed
        self._given = {name: self._machine.leaf(value) for name, value in activations.items()}
        self._kept: OrderedDict[Key, Value] = OrderedDict()

    def outputs(self, architecture: Architecture) -> dict[str, tuple[Key, NDArray[Any]]]:
        """MLM logits (B, P, V) and SOP logits (B, 2), from the feed."""
        found = self._walk(architecture, {})
        return {name: (found[name].key, found[name].value.array) for name in ("mlm", "sop")}

    def stages(self, architecture: Architecture) -> dict[str, tuple[Key, NDArray[Any]]]:
        """Every stage, from the side's own result of the nearest stage before it that it shows."""
        found = self._walk(architecture, self._given)
        return {name: (key, value.array) for name, (key, value) in found.items()}

    def _walk(self, architecture: Architecture, given: Mapping[str, Value]) -> dict[str, _Result]:
        stages, found = Stages(self._weights, architecture), {}
        mask = self._feed.attention_mask

        def step(kind: str, name: str, before: _Result, compute: Callable[[Value], Value]) -> _Result:
            own = tuple(getattr(architecture, field) for field in STAGE_FIELDS[kind])
            key = (kind, before.key, own)
            found[name] = _Result(key, self._computed(key, lambda: compute(before.value)))
            return _Result(("given", name), given[name]) if name in given else found[name]

        start = _Result("feed", Value(np.empty(0)))
        with quietly(self._machine.arithmetic):
            x = step("embeddings", "embeddings", start, lambda _: stages.embeddings(self._feed))
            x = step("mapped", "mapped", x, stages.mapped)
            for number in range(architecture.num_layers):
                x = step("attention", f"layer.{number}.attention", x, lambda hidden: stages.attention(hidden, mask))
                x = step("feedforward", f"layer.{number}", x, stages.feedforward)
            pooled = step("pooled", "pooled", x, lambda hidden: stages.pooled(hidden, mask))
            step("sop", "sop", pooled, stages.sop)
            hidden = step("mlm_hidden", "mlm_hidden", x, lambda hidden: stages.mlm_hidden(self._targets(hidden)))
            step("mlm", "mlm", hidden, stages.mlm)
        return found

    def _targets(self, hidden: Value) -> Value:
        return self._machine.take(hidden, self._feed.positions)

    def _computed(self, key: Key, compute: Callable[[], Value]) -> Value:
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        value = compute()
        self._kept[key] = value
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return value
