"""Any PyTorch code as a scorer: a call from token ids to logits.

scorer = ModuleScorer(lambda ids, mask, types: net(ids, mask), vocabulary, module=net)
"""

from collections.abc import Callable
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn

from lossary.backends.api import OutOfDeviceMemory, ScoreOutput
from lossary.backends.calls import check_logits, check_objectives, pad_of, vocabulary_of
from lossary.backends.context import check_context, few_of
from lossary.backends.torch.targets import (
    alone,
    array_of,
    check_padding,
    inputs_of,
    score_logits,
    trimmed,
    undisturbed,
    usable_device,
    weights_digest_of,
)
from lossary.data.examples import Examples
from lossary.vocabulary.api import Vocabulary

__all__ = ["ModuleCall", "ModuleScorer"]

# (token_ids, attention_mask, token_type_ids), int64 (B, T) each, to logits (B, T, V), or them and (B, 2) of the order.
ModuleCall = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], Any]


class ModuleScorer:
    """`call(token_ids, attention_mask, token_type_ids)` gives logits (B, T, V) of a batch, on any device.

    The three are int64 (B, T); the mask is 1 where a token stands, types are 0 and 1 for two segments where the
    vocabulary's template says so. Logits are scored at hidden pieces (`objectives=("mlm",)`) or, of ("clm",), position
    i against the token after it. With ("mlm", "sop") the call gives a pair: logits, and (B, 2) of the order of the
    segments (0 in order, 1 swapped).

    `tokenizer`: a folder, a file, one of transformers, or a vocabulary; None is the study's own. `module` (the call
    itself, if it is one) is in evaluation mode meanwhile, and says the device. `max_length`: tokens of the longest
    example that it takes.
    """

    few_shapes = False
    framework = "torch"

    def __init__(
        self,
        call: ModuleCall,
        tokenizer: Any = None,
        *,
        module: nn.Module | None = None,
        objectives: tuple[str, ...] = ("mlm",),
        device: str | None = None,
        max_length: int | None = None,
        max_tokens: int = 8192,
    ) -> None:
        check_objectives(objectives, where="ModuleScorer")
        self._call = call
        self._module = call if module is None and isinstance(call, nn.Module) else module
        own = None if self._module is None else next(self._module.parameters(), None)
        self._device = own.device if own is not None and device is None else usable_device(device)
        self.device = str(self._device)
        self.vocabulary: Vocabulary | None = vocabulary_of(tokenizer)
        self.objectives = objectives
        self.max_length, self.max_tokens = max_length, max_tokens
        self.precision = "fp32"
        self.notes: list[str] = []
        self._pad_id = pad_of(self.vocabulary)
        self._is_unchecked = True
        self._is_padding_unchecked = True

    def score(self, examples: Examples) -> ScoreOutput:
        """Nats and predictions of each target. UsageError where the call gives something else than logits."""
        examples = trimmed(examples)
        inputs = inputs_of(examples, pad_id=self._pad_id, device=self._device)
        try:
            with undisturbed(self._module, self._device):
                given = self._call(inputs.token_ids, inputs.attention_mask, inputs.segment_ids)
                logits, order = check_logits(
                    given, examples, objectives=self.objectives, vocabulary=self.vocabulary, where="ModuleScorer"
                )
                if self._is_unchecked:
                    self._check_context(examples, logits)
                if self._is_padding_unchecked:
                    self._check_padding(examples, logits)
                flat = logits.reshape(-1, logits.shape[-1])
                return score_logits(examples, flat.index_select(0, inputs.flat.to(flat.device)), order)
        except torch.OutOfMemoryError as error:
            raise OutOfDeviceMemory(str(error).splitlines()[0]) from None

    def _check_context(self, examples: Examples, logits: torch.Tensor) -> None:
        """Tried on a few examples of the first batch that has some."""
        if (few := few_of(examples, logits.shape[-1])) is None:
            return

        def answers(asked: Examples) -> NDArray[Any]:
            inputs = inputs_of(asked, pad_id=self._pad_id, device=self._device)
            given = self._call(inputs.token_ids, inputs.attention_mask, inputs.segment_ids)
            seen = given[0] if "sop" in self.objectives else given
            flat = seen.reshape(-1, seen.shape[-1])
            return array_of(flat.index_select(0, inputs.flat.to(flat.device)))

        bits = torch.finfo(logits.dtype).bits
        check_context(answers, trimmed(few), objective=self.objectives[0], bits=bits, what="the call of ModuleScorer")
        self._is_unchecked = False

    def _check_padding(self, examples: Examples, logits: torch.Tensor) -> None:
        """Tried on the first example that is padded."""
        if (found := alone(examples)) is None:
            return
        row, single = found
        inputs = inputs_of(single, pad_id=self._pad_id, device=self._device)
        given = self._call(inputs.token_ids, inputs.attention_mask, inputs.segment_ids)
        expected = given[0] if "sop" in self.objectives else given
        in_batch = logits[row : row + 1, : expected.shape[1]]
        bits = torch.finfo(logits.dtype).bits
        check_padding(in_batch, expected, bits=bits, what="the call of ModuleScorer")
        self._is_padding_unchecked = False

    def weights_digest(self) -> str:
        """What the scores are of; empty where the module is not known."""
        return "" if self._module is None else weights_digest_of(self._module)
