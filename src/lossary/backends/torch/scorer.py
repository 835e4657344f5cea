"""Masked and causal language models of transformers as scorers.

    scorer = HuggingFaceScorer(model, tokenizer)
    scorer.score(examples)

The head over the vocabulary runs on targets only: what leaves the encoder (or enters the last projection) is gathered.
Whether that gives what the model gives is tried on the first batch, against all of its logits; where it does not, all
logits are computed from there on, and a note says so.
"""

import inspect
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import PreTrainedModel
from transformers.models.auto import modeling_auto

from lossary.backends.api import OutOfDeviceMemory, ScoreOutput
from lossary.backends.calls import vocabulary_of
from lossary.backends.context import check_context, few_of
from lossary.backends.torch.targets import (
    Inputs,
    alone,
    array_of,
    check_padding,
    inputs_of,
    is_same,
    score_logits,
    target_head,
    trimmed,
    undisturbed,
    weights_digest_of,
)
from lossary.data.examples import Examples
from lossary.errors import UsageError
from lossary.study import Precision
from lossary.vocabulary.api import Vocabulary

__all__ = ["NO_HEAD", "HuggingFaceScorer", "Language", "language_of", "longest_input"]

Language = Literal["mlm", "clm"]

# Logits of a batch, and what their softmax takes beside them, are kept below this.
_LOGIT_BYTES = {"cpu": 1 << 30, "cuda": 8 << 30}
# Of a model whose weights have no head over the vocabulary.
NO_HEAD = (
    "Without its head over the vocabulary a model cannot be scored; loaded as AutoModelForMaskedLM or "
    "AutoModelForCausalLM it would get one of random numbers. Score the checkpoint of pretraining, which has it."
)
_LENGTHS = ("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length", "n_ctx")


def language_of(names: list[str]) -> Language | None:
    """What the first known class among names of classes predicts; None where there is none."""
    known: list[tuple[Mapping[str, Any], Language]] = [
        (modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES, "mlm"),
        (modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, "clm"),
    ]
    for name in names:
        if name.endswith("ForPreTraining") and name in modeling_auto.MODEL_FOR_PRETRAINING_MAPPING_NAMES.values():
            return "mlm"
        for mapping, language in known:
            if any(name == value or (isinstance(value, tuple) and name in value) for value in mapping.values()):
                return language
    return None


class HuggingFaceScorer:
    """A model of transformers with a head over its vocabulary, masked (`mlm`) or causal (`clm`).

    `tokenizer` is its own: a folder, a file, one of transformers, or a vocabulary; None is the study's own. The class
    says the objective unless it is given. `precision`: "bf16" computes under autocast; weights of 16 bits are used as
    they are. The model stays where it is and as it is, in training mode if it was. Notes say what a reader of the
    scores should know.

    UsageError: a model without a head over a vocabulary, an encoder with a decoder, a vocabulary of more pieces than
    the model has.
    """

    few_shapes = False
    framework = "transformers"

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any = None,
        *,
        objective: Language | None = None,
        precision: Precision = "fp32",
        max_length: int | None = None,
        max_tokens: int | None = None,
    ) -> None:
        self.model = _unwrapped(model)
        self.vocabulary: Vocabulary | None = vocabulary_of(tokenizer)
        self.language = objective or _told_by_class(self.model)
        self.notes: list[str] = []
        _output_head(self.model)
        self._config = self.model.config.get_text_config()
        self._sees_order = hasattr(self.model, "sop_classifier")
        self.objectives: tuple[str, ...] = (self.language, "sop") if self._sees_order else (self.language,)
        if hasattr(self.model, "cls") and hasattr(self.model.cls, "seq_relationship"):
            self.notes.append("its head for the next sentence (NSP) is of another objective: not scored")
        self.num_outputs = int(self._config.vocab_size)
        self._compare_sizes()
        first = next(self.model.parameters())
        self.weights_dtype = first.dtype
        self._bf16 = precision == "bf16" and first.dtype == torch.float32
        narrow = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float64: "fp64"}
        self.precision: str = narrow.get(first.dtype, precision)
        self._bits = 16 if self.precision in ("bf16", "fp16") else 32
        self._device = first.device
        self.device = str(first.device)
        if first.device.type == "cuda":
            self.device += f" {torch.cuda.get_device_name(first.device)}"
        self.max_length = max_length or longest_input(self.model, self._config)
        self.max_tokens = max_tokens or self._tokens_at_once()
        self._pad_id = self._choose_pad()
        self._arguments = _arguments(self.model)
        self._types = _num_types(self._config)
        self._way: _Way | None = None
        self._is_context_unchecked = self._is_padding_unchecked = True

    def score(self, examples: Examples) -> ScoreOutput:
        """Nats and predictions of each target; OutOfDeviceMemory where the batch is too large."""
        examples = trimmed(examples)
        self._check(examples)
        try:
            with undisturbed(self.model, self._device, bf16=self._bf16):
                if self._way is None:
                    self._way = self._find_way(examples)
                if self._is_context_unchecked:
                    self._check_context(examples, self._way)
                inputs = inputs_of(examples, pad_id=self._pad_id, device=self._device)
                seen = self._forward(inputs, self._way)
                if self._is_padding_unchecked:
                    self._check_padding(examples, seen.logits, self._way)
                return score_logits(examples, seen.logits, seen.order)
        except torch.OutOfMemoryError as error:
            raise OutOfDeviceMemory(str(error).splitlines()[0]) from None

    def weights_digest(self) -> str:
        """What the scores are of."""
        return weights_digest_of(self.model)

    def targets(self, examples: Examples) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (N, V) and labels (N,) of all targets, row by row, for who trains the model as it stands.

        In the graph where gradients are wanted, and under the caller's own autocast and generator.
        """
        examples = trimmed(examples)
        self._check(examples)
        if self._way is None:
            with undisturbed(self.model, self._device, bf16=self._bf16):
                self._way = self._find_way(examples)
        inputs = inputs_of(examples, pad_id=self._pad_id, device=self._device)
        return self._forward(inputs, self._way).logits, inputs.labels

    def _forward(self, inputs: Inputs, way: "_Way") -> "_Seen":
        with way.around(inputs.flat):
            given: dict[str, Any] = {"input_ids": inputs.token_ids, "attention_mask": inputs.attention_mask}
            if self._types > 1 and "token_type_ids" in self._arguments:
                given["token_type_ids"] = inputs.segment_ids
            if "use_cache" in self._arguments:
                given["use_cache"] = False
            output = self.model(**given, return_dict=True)
        logits = _first_of(output, ("prediction_logits", "logits"))
        if logits is None or logits.ndim != 3 or logits.shape[-1] < self.num_outputs:
            found = None if logits is None else tuple(logits.shape)
            expected = f"(examples, tokens, {self.num_outputs:,})"
            raise UsageError(f"{type(self.model).__name__} gives logits {found}; {expected} are expected")
        flat = logits.reshape(-1, logits.shape[-1])
        if way.is_gathered:
            if len(flat) != len(inputs.flat):
                raise _NotGathered
        else:
            flat = flat.index_select(0, inputs.flat.to(flat.device))
        return _Seen(flat, _first_of(output, ("sop_logits",)) if self._sees_order else None)

    def _find_way(self, examples: Examples) -> "_Way":
        """How the head is computed on targets only, tried on the shortest two examples that have some."""
        with_targets = np.flatnonzero(examples.masked > 0)
        shortest = with_targets[np.argsort(examples.lengths[with_targets], kind="stable")][:2]
        full = _Way("full", _as_it_is, is_gathered=False)
        if len(shortest) == 0:
            return full
        # Two rows, even if they are one: an order of rows and columns that is mixed up shows.
        few = trimmed(examples.take(np.resize(shortest, 2)))
        inputs = inputs_of(few, pad_id=self._pad_id, device=self._device)
        expected = self._forward(inputs, full).logits
        for way in _ways(self.model):
            try:
                found = self._forward(inputs, way).logits
            except torch.OutOfMemoryError:
                raise
            except (_NotGathered, RuntimeError, ValueError, TypeError, IndexError, AttributeError, KeyError):
                # A forward pass that is not made for rows of targets fails in its own way; full logits do not.
                continue
            if is_same(found, expected):
                return way
        self.notes.append(f"{type(self.model).__name__} is not scored on targets only: all logits are computed, slower")
        return full

    def _check_context(self, examples: Examples, way: "_Way") -> None:
        """Tried on a few examples of the first batch that has some."""
        if (few := few_of(examples, self.num_outputs)) is None:
            return

        def answers(asked: Examples) -> NDArray[Any]:
            return array_of(self._forward(inputs_of(asked, pad_id=self._pad_id, device=self._device), way).logits)

        what = type(self.model).__name__
        check_context(answers, trimmed(few), objective=self.language, bits=self._bits, what=what)
        self._is_context_unchecked = False

    def _check_padding(self, examples: Examples, logits: torch.Tensor, way: "_Way") -> None:
        """Tried on the first example that is padded."""
        if (found := alone(examples)) is None:
            return
        row, single = found
        inputs = inputs_of(single, pad_id=self._pad_id, device=self._device)
        begin = int(examples.masked[:row].sum())
        in_batch = logits[begin : begin + int(examples.masked[row])]
        check_padding(in_batch, self._forward(inputs, way).logits, bits=self._bits, what=type(self.model).__name__)
        self._is_padding_unchecked = False

    def _check(self, examples: Examples) -> None:
        most = int(max(examples.token_ids.max(initial=0), examples.labels.max(initial=0)))
        if most >= self.num_outputs:
            raise UsageError(
                f"the examples have the piece {most:,}, and the model {self.num_outputs:,} pieces",
                hint="They are of another vocabulary: give the model's own tokenizer.",
            )
        if self.max_length is not None and examples.token_ids.shape[1] > self.max_length:
            raise UsageError(
                f"an example has {examples.token_ids.shape[1]:,} tokens, and the model takes {self.max_length:,}"
            )
        if self._types > 1 and int(examples.segment_ids.max(initial=0)) >= self._types:
            raise UsageError(
                f"the tokenizer's template has {int(examples.segment_ids.max()) + 1} token types, "
                f"the model {self._types}",
                hint="It is not the model's own tokenizer.",
            )

    def _compare_sizes(self) -> None:
        if self.vocabulary is None:
            return
        size = self.vocabulary.size
        if size > self.num_outputs:
            raise UsageError(
                f"the tokenizer ({self.vocabulary.title}) has {size:,} pieces, and the model {self.num_outputs:,}",
                hint="It is not the model's own tokenizer, or pieces were added to it and the model was not resized "
                "(model.resize_token_embeddings).",
            )
        if size < self.num_outputs:
            # Heads are filled up to a round number, or have places for pieces to come: a few per cent.
            asks = "" if size > 0.9 * self.num_outputs else ". Is it the model's own tokenizer?"
            self.notes.append(
                f"its head has {self.num_outputs:,} outputs for {size:,} pieces; the rest are never right{asks}"
            )

    def _choose_pad(self) -> int:
        """The id where lengths end. Masked, but RoBERTa and others count positions by what is not the config's pad."""
        config = getattr(self._config, "pad_token_id", None)
        own = None if self.vocabulary is None else self.vocabulary.specials.pad
        chosen = config if isinstance(config, int) and config >= 0 else own
        return 0 if chosen is None or chosen >= self.num_outputs else int(chosen)

    def _tokens_at_once(self) -> int:
        kind = "cpu" if self._device.type == "cpu" else "cuda"
        tokens = 8192 if kind == "cpu" else 65536
        if self.language == "clm":
            # Every token is a target: logits, their float32 copy and the softmax of it.
            tokens = min(tokens, max(64, _LOGIT_BYTES[kind] // (12 * self.num_outputs)))
        return tokens


class _Seen(NamedTuple):
    logits: torch.Tensor  # (N, V)
    order: torch.Tensor | None  # (B, 2)


class _NotGathered(Exception):
    """The model's logits are not one for each target."""


class _Way(NamedTuple):
    """How logits of targets are got."""

    name: str
    around: Callable[[torch.Tensor], AbstractContextManager[None]]
    is_gathered: bool


def _as_it_is(_: torch.Tensor) -> AbstractContextManager[None]:
    """Nothing around a forward pass."""
    return nullcontext()


def _ways(model: nn.Module) -> list[_Way]:
    base, head = getattr(model, "base_model", model), _output_head(model)
    ways = []
    if base is not model:
        ways.append(_Way("encoder", lambda flat: target_head(base, flat, before=False), is_gathered=True))
    ways.append(_Way("projection", lambda flat: target_head(head, flat, before=True), is_gathered=True))
    return ways


def _first_of(output: Any, names: tuple[str, ...]) -> torch.Tensor | None:
    found = [output[name] for name in names if name in output]
    return found[0] if found else None


def _unwrapped(model: nn.Module) -> Any:
    """The model inside what parallel training and compilation put around it; their forward passes know no hooks."""
    while isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel) or hasattr(model, "_orig_mod"):
        model = getattr(model, "_orig_mod", None) or model.module
    if not isinstance(model, PreTrainedModel):
        raise UsageError(
            f"{type(model).__name__} is no model of transformers",
            hint="ModuleScorer scores any other module; adapters of PEFT are merged first: model.merge_and_unload().",
        )
    return model


def _told_by_class(model: Any) -> Language:
    if getattr(model.config, "is_encoder_decoder", False):
        raise UsageError(
            f"{type(model).__name__} is an encoder with a decoder; scored are encoders (MLM) and decoders (CLM)",
            hint="ModuleScorer scores what a call of yours gives.",
        )
    names = [kind.__name__ for kind in type(model).__mro__]
    language = language_of(names)
    if language is None:
        raise UsageError(
            f"{type(model).__name__} is neither a masked nor a causal language model that transformers knows",
            hint=f'Of a class of your own, objective="mlm" or objective="clm" says what its head predicts. {NO_HEAD}',
        )
    return language


def _output_head(model: Any) -> Any:
    head = model.get_output_embeddings()
    if head is None or getattr(head, "weight", None) is None:
        raise UsageError(
            f"{type(model).__name__} has no head over its vocabulary",
            hint=NO_HEAD,
        )
    return head


def longest_input(model: nn.Module, config: Any) -> int | None:
    """Tokens of the longest example: the config's, less what RoBERTa and its like leave for the pad id."""
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding) and module.padding_idx is not None:
            return int(module.num_embeddings) - int(module.padding_idx) - 1
    for name in _LENGTHS:
        value = getattr(config, name, None)
        if isinstance(value, int) and value > 0:
            return value
    return None


def _num_types(config: Any) -> int:
    """Token types that the model tells apart; 0 or 1 where it does not."""
    value = getattr(config, "type_vocab_size", 0)
    return value if isinstance(value, int) else 0


def _arguments(model: Any) -> set[str]:
    """What the forward pass takes by name; a class of one's own may hand on what it does not list."""
    forwards = [vars(kind)["forward"] for kind in type(model).__mro__ if "forward" in vars(kind)]
    return {name for forward in forwards for name in inspect.signature(forward).parameters}
