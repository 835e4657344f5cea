"""ALBERT, stage by stage, on a machine: what `forward` chains and a diagnosis calls one at a time.

    stages = Stages(Weights(parameters, machine), architecture)
    hidden = stages.mapped(stages.embeddings(feed))

Stages in order: embeddings, mapped, attention and feedforward of each layer, then pooled and sop, mlm_hidden and mlm.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossary.models.arbiter.architecture import Architecture, ModelInputs
from lossary.models.arbiter.arithmetic import Array
from lossary.models.arbiter.machine import Heads, Machine, Value
from lossary.models.parameters import LAYER

__all__ = ["DECODER", "WORDS", "Stages", "Weights"]

WORDS = "albert.embeddings.word_embeddings.weight"
DECODER = "predictions.decoder.weight"  # the word embeddings once more, to tell the two uses apart


class Weights:
    """Parameters on a machine, each converted when it is first used."""

    def __init__(self, parameters: Mapping[str, NDArray[Any]], machine: Machine) -> None:
        self.machine = machine
        self._parameters = parameters
        self._values: dict[str, Value] = {}

    def __getitem__(self, name: str) -> Value:
        if name not in self._values:
            if name == DECODER:
                # The same array, but a gradient of its own.
                self._values[name] = self.machine.leaf(self[WORDS].array)
            else:
                self._values[name] = self.machine.leaf(self._parameters[name])
        return self._values[name]

    def used(self) -> dict[str, Value]:
        """Those that took part so far."""
        return dict(self._values)


class Stages:
    """See the module. Hidden states are (B, T, H), embeddings (B, T, E)."""

    def __init__(self, weights: Weights, architecture: Architecture) -> None:
        self._weights = weights
        self._machine = weights.machine
        self._settings = architecture

    def _linear(self, x: Value, name: str) -> Value:
        return self._machine.linear(x, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"])

    def _norm(self, x: Value, name: str, epsilon: float) -> Value:
        gain, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        return self._machine.norm(x, gain, bias, epsilon, self._settings.norm)

    def embeddings(self, feed: ModelInputs) -> Value:
        """(B, T, E), normalised."""
        settings, machine, weights = self._settings, self._machine, self._weights
        tokens = np.asarray(feed.token_ids)
        result = machine.scale(machine.lookup(weights[WORDS], tokens), settings.embedding_scale)
        if settings.segments != "absent":
            given = np.asarray(feed.segment_ids)
            ids = {"ids": given, "zero": np.zeros_like(given), "flipped": 1 - given}[settings.segments]
            table = weights["albert.embeddings.token_type_embeddings.weight"]
            result = machine.add(result, machine.lookup(table, ids))
        if settings.position_embeddings:
            table = weights["albert.embeddings.position_embeddings.weight"]
            places = np.arange(tokens.shape[1]) + settings.position_offset
            result = machine.add(result, machine.lookup(table, places.clip(0, len(table.array) - 1)))
        if settings.embeddings_norm:
            result = self._norm(result, "albert.embeddings.LayerNorm", settings.epsilon_embeddings)
        return machine.drop(result)

    def mapped(self, embeddings: Value) -> Value:
        """(B, T, H)"""
        return self._linear(embeddings, "albert.encoder.embedding_hidden_mapping_in")

    def attention(self, hidden: Value, attention_mask: NDArray[Any]) -> Value:
        """The first half of a layer; (B, T, H)."""
        settings, machine = self._settings, self._machine
        name, before = f"{LAYER}.attention", settings.norm_placement == "pre" and settings.attention_norm
        x = self._norm(hidden, f"{name}.LayerNorm", settings.epsilon_layers) if before else hidden
        query, key, value = (self._linear(x, f"{name}.{part}") for part in ("query", "key", "value"))
        heads = self._heads(hidden.array.shape[-1], np.asarray(attention_mask))
        result = machine.drop(self._linear(machine.attention(query, key, value, heads), f"{name}.dense"))
        if settings.attention_residual:
            result = machine.add(result, hidden)
        if settings.norm_placement == "post" and settings.attention_norm:
            result = self._norm(result, f"{name}.LayerNorm", settings.epsilon_layers)
        return result

    def _heads(self, width: int, mask: NDArray[Any]) -> Heads:
        settings = self._settings
        size = width // settings.num_heads
        scale = {"head": size**-0.5, "hidden": width**-0.5, "none": 1.0, "twice": 1.0 / size}
        attended = (mask != 0)[:, None, None, :]
        allowed: Array | None = None
        if settings.mask in ("keys", "causal"):
            allowed = attended
        elif settings.mask == "inverted":
            allowed = ~attended
        if settings.mask == "causal":
            allowed = attended & np.tri(mask.shape[1], dtype=np.bool_)
        return Heads(
            number=settings.num_heads,
            scale=scale[settings.attention_scale],
            interleaved=settings.head_layout == "interleaved",
            merged_raw=settings.head_merge == "raw",
            over_queries=settings.softmax_over == "queries",
            allowed=allowed,
            added=mask[:, None, None, :] if settings.mask == "added" else None,
        )

    def feedforward(self, hidden: Value) -> Value:
        """The second half of a layer; (B, T, H)."""
        settings, machine = self._settings, self._machine
        name, pre = f"{LAYER}.full_layer_layer_norm", settings.norm_placement == "pre"
        normed = pre and settings.feedforward_norm
        x = self._norm(hidden, name, settings.epsilon_layers) if normed else hidden
        inner = machine.activate(self._linear(x, f"{LAYER}.ffn"), settings.activation)
        result = machine.drop(self._linear(inner, f"{LAYER}.ffn_output"))
        if settings.feedforward_residual:
            result = machine.add(result, hidden)
        if not pre and settings.feedforward_norm:
            result = self._norm(result, name, settings.epsilon_layers)
        return result

    def layer(self, hidden: Value, attention_mask: NDArray[Any]) -> Value:
        """(B, T, H) → (B, T, H)"""
        return self.feedforward(self.attention(hidden, attention_mask))

    def pooled(self, hidden: Value, attention_mask: NDArray[Any]) -> Value:
        """(B, H)"""
        settings, machine = self._settings, self._machine
        if settings.pooling == "first":
            x = machine.flat(machine.take(hidden, np.zeros((len(hidden.array), 1), np.int64)))
        else:
            attended = np.asarray(attention_mask) != 0
            counted = np.ones_like(attended) if settings.pooling == "mean_all" else attended
            x = machine.average(hidden, counted / np.maximum(counted.sum(axis=1, keepdims=True), 1))
        if not settings.pooler:
            return x
        return machine.activate(self._linear(x, "albert.pooler"), settings.pooler_activation)

    def sop(self, pooled: Value) -> Value:
        """(B, 2)"""
        logits = self._linear(pooled, "sop_classifier.classifier")
        return self._machine.reverse(logits) if self._settings.sop_swapped else logits

    def mlm_hidden(self, hidden: Value) -> Value:
        """(…, H) → (…, E), normalised."""
        settings = self._settings
        x = self._machine.activate(self._linear(hidden, "predictions.dense"), settings.activation_of_head)
        return self._norm(x, "predictions.LayerNorm", settings.epsilon_head) if settings.head_norm else x

    def mlm(self, mlm_hidden: Value) -> Value:
        """(…, E) → (…, V)"""
        machine, times = self._machine, self._settings.output_bias_times
        bias = self._weights["predictions.bias"]
        scaled = self._settings.decoder_scale != 1.0
        # As frameworks do, the bias is part of the product's rounding unless something comes between.
        logits = machine.linear(mlm_hidden, self._weights[DECODER], None if scaled or not times else bias)
        logits = machine.scale(logits, self._settings.decoder_scale)
        for _ in range(times if scaled else times - 1):
            logits = machine.add(logits, bias)
        return logits
