"""Masked language models of transformers in training: any family with a head over its vocabulary, on torch.

    shape, notes = resolve(shape)                     # all settings; where they are not those that were asked for
    backend = TorchEncoder(shape, seed=3)
    backend.load_parameters(initial_weights(shape, 3))

The vocabulary's size, its special ids and the number of positions come from the study. The head over the vocabulary
runs on targets only, tried against all logits on the first batch (`scorer.py`). Dropout is the family's; what it drops
follows from the seed, the step and the micro batch, so that a run that is resumed is the same run.
"""

import dataclasses
import difflib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from huggingface_hub.errors import StrictDataclassError
from torch import nn
from transformers import AutoModelForMaskedLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES
from transformers.utils import logging

from lossary.backends.api import Logits, ScoreOutput, Sizes
from lossary.backends.torch.scorer import HuggingFaceScorer, longest_input
from lossary.backends.torch.training import Forward, TorchTraining
from lossary.data.examples import Examples
from lossary.data.philox import stream_key
from lossary.errors import CheckpointError, StudyError, UsageError
from lossary.families import setting_names
from lossary.models.architectures import EncoderShape, takes_no_decay
from lossary.models.parameters import Parameters
from lossary.study import Precision

__all__ = ["TorchEncoder", "initial_weights", "resolve", "sizes"]

_BROKEN = (
    *(ValueError, TypeError, KeyError, RuntimeError, AttributeError, AssertionError, ImportError, IndexError),
    StrictDataclassError,
)


def resolve(shape: EncoderShape) -> tuple[EncoderShape, list[str]]:
    """All settings of a model, the study's in their places, and what the study file or a config.json said otherwise.

    StudyError: no such family, a setting that it does not have, a model that transformers cannot make of these.
    """
    if shape.family not in MODEL_FOR_MASKED_LM_MAPPING_NAMES or shape.family not in CONFIG_MAPPING:
        raise StudyError(f"transformers knows no masked language model of the family {shape.family!r}")
    kind: Any = CONFIG_MAPPING[shape.family]
    known = setting_names(shape.family) or _declared(kind)
    asked = shape.config
    unknown = sorted(asked.keys() - known)
    notes = []
    if unknown and shape.strict:
        near = difflib.get_close_matches(unknown[0], known, n=1, cutoff=0.5)
        raise StudyError(
            f"unknown key {unknown[0]!r}: {shape.family} has no such setting",
            hint=f"Did you mean {near[0]!r}?" if near else f"Known here: {', '.join(sorted(known))}.",
        )
    if unknown:
        notes.append(f"{shape.family} has no settings {', '.join(unknown)}: left out")
    given = {key: value for key, value in asked.items() if key in known}
    ours = {key: value for key, value in _of_study(shape).items() if key in known and value is not None}
    for key, value in ours.items():
        if given.get(key) is not None and given[key] != value:
            notes.append(f"{key} is {value:,}, as the study's vocabulary has it, not {given[key]!r}")
    if shape.initializer_range is not None and "initializer_range" in known:
        given.setdefault("initializer_range", shape.initializer_range)
    config = _configured(kind, given | ours)
    _set_positions(shape, config, given, notes)
    config.architectures = [_class_name(shape.family)]
    return shape.with_config({key: value for key, value in config.to_dict().items() if key in known}), notes


def _of_study(shape: EncoderShape) -> dict[str, int | None]:
    """What the study's vocabulary decides, under the names that transformers has for it."""
    ids = shape.specials
    return {
        "vocab_size": shape.vocabulary_size,
        "pad_token_id": ids.pad,
        "unk_token_id": ids.unk,
        "bos_token_id": ids.cls if ids.bos is None else ids.bos,
        "cls_token_id": ids.cls,
        "eos_token_id": ids.sep if ids.eos is None else ids.eos,
        "sep_token_id": ids.sep,
        "mask_token_id": ids.mask,
    }


def _declared(kind: Any) -> frozenset[str]:
    return frozenset({field.name for field in dataclasses.fields(kind)} | set(kind.attribute_map))


def _configured(kind: Any, settings: Mapping[str, Any]) -> Any:
    try:
        config = kind(**settings)
    except _BROKEN as error:
        raise StudyError(f"transformers takes no such configuration: {_said(error)}") from None
    if getattr(config, "is_decoder", False) or getattr(config, "is_encoder_decoder", False):
        raise StudyError("it has a decoder; lossary trains encoders", hint="is_decoder = false, or another family.")
    return config


def _set_positions(shape: EncoderShape, config: Any, given: Mapping[str, Any], notes: list[str]) -> None:
    """As many positions as the longest example takes, where the family or the configuration has fewer."""
    found = longest_input(_made(config, "meta"), config)
    if found is None or found >= shape.max_positions:
        return
    if not hasattr(config, "max_position_embeddings"):
        raise StudyError(f"it takes {found:,} tokens, and examples have up to {shape.max_positions:,}")
    before = config.max_position_embeddings
    config.max_position_embeddings += shape.max_positions - found
    if "max_position_embeddings" in given:
        notes.append(
            f"max_position_embeddings is {config.max_position_embeddings:,}, as examples of up to "
            f"{shape.max_positions:,} tokens take it, not {before:,}"
        )


def _class_name(family: str) -> str:
    name = MODEL_FOR_MASKED_LM_MAPPING_NAMES[family]
    return str(name if isinstance(name, str) else name[0])


def _made(config: Any, device: str) -> Any:
    """A model with the initial weights of its family, drawn from torch's generator as it stands."""
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with torch.device(device):
            return AutoModelForMaskedLM.from_config(config, dtype=torch.float32)
    except _BROKEN as error:
        raise StudyError(f"transformers cannot make this model: {_said(error)}") from None
    finally:
        logging.set_verbosity(level)


def _said(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return "; ".join(lines[:3]) or repr(error)


def _model(shape: EncoderShape, seed: int) -> Any:
    """On the CPU, so that a seed gives the same weights wherever it is trained."""
    kind: Any = CONFIG_MAPPING[shape.family]
    with torch.random.fork_rng([]):
        torch.manual_seed(stream_key(seed, "initial", shape.digest))
        return _made(kind.from_dict(shape.config), "cpu")


def initial_weights(shape: EncoderShape, seed: int) -> Parameters:
    """The initial weights of the family, drawn on the CPU under a seed of the run's own seed and its architecture."""
    trained, fixed = _stored(_model(shape, seed))
    return {name: tensor.detach().numpy().copy() for name, tensor in (trained | fixed).items()}


def _stored(model: nn.Module) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Parameters, tied ones once, and what is saved beside them: numbers that a model keeps and does not learn."""
    parameters: dict[str, torch.Tensor] = dict(model.named_parameters())
    places = {tensor.data_ptr() for tensor in parameters.values()}
    buffers = {
        name: tensor
        for name, tensor in model.state_dict().items()
        if name not in parameters and tensor.data_ptr() not in places and tensor.is_floating_point()
    }
    return parameters, buffers


@lru_cache(maxsize=32)
def sizes(shape: EncoderShape) -> Sizes:
    """Parameters, and multiplications forward a token: the matrices of all layers, without tables and the last head."""
    whole, _ = resolve(shape)
    kind: Any = CONFIG_MAPPING[whole.family]
    model = _made(kind.from_dict(whole.config), "meta")
    head = model.get_output_embeddings()
    matrices = {
        id(module.weight): module.weight.numel()
        for module in model.modules()
        if isinstance(module, nn.Linear) and module is not head
    }
    return Sizes(
        parameters=sum(tensor.numel() for tensor in model.parameters()), operations=float(sum(matrices.values()))
    )


class TorchEncoder(TorchTraining):
    """See `lossary.backends.api.Backend`; `shape` is one that was resolved."""

    def __init__(
        self, shape: EncoderShape, *, precision: Precision = "fp32", device: str | None = None, seed: int = 0
    ) -> None:
        super().__init__(precision=precision, device=device)
        self._seed = seed
        self.model = _model(shape, seed).to(self._device)
        self.model.train()
        self._scorer = HuggingFaceScorer(self.model, objective="mlm", precision=precision)
        parameters, fixed = _stored(self.model)
        reached = self._reached(parameters)
        trained = {name: tensor for name, tensor in parameters.items() if name in reached}
        for name in parameters.keys() - reached:
            parameters[name].requires_grad_(False)
        fixed |= {name: tensor for name, tensor in parameters.items() if name not in reached}
        adapted = [not takes_no_decay(name, tensor.ndim) for name, tensor in trained.items()]
        self._take(trained, adapted, fixed)

    def _reached(self, parameters: Mapping[str, torch.Tensor]) -> set[str]:
        """Parameters that the loss moves: some families have heads beside it, whose weights stay as they were drawn."""
        ids = torch.zeros((1, 4), dtype=torch.int64, device=self._device)
        with self._begin(0, 0):
            try:
                self.model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.sum().backward()
            except _BROKEN as error:
                raise UsageError(f"{type(self.model).__name__} cannot be trained here: {_said(error)}") from None
        found = {name for name, tensor in parameters.items() if tensor.grad is not None}
        for tensor in parameters.values():
            tensor.grad = None
        return found

    @contextmanager
    def _begin(self, step: int, part: int) -> Iterator[None]:
        devices = [self._device] if self._device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(stream_key(self._seed, "dropout", step, part))
            yield

    def load_parameters(self, parameters: Parameters) -> None:
        own = {*self._names, *self._fixed}
        if own != set(parameters):
            other = sorted(own ^ set(parameters))
            raise CheckpointError(
                f"its parameters are not those of {type(self.model).__name__}: {', '.join(other[:4])}",
                hint="Another version of transformers may have made it.",
            )
        super().load_parameters(parameters)

    def score(self, examples: Examples) -> ScoreOutput:
        return self._scorer.score(examples)

    def logits(self, examples: Examples) -> Logits:
        mlm = np.zeros((*examples.positions.shape, self._scorer.num_outputs), np.float32)
        with torch.no_grad():
            self.model.eval()
            out = self._forward(examples)
            self.model.train()
        mlm[examples.weights > 0] = out.mlm.cpu().numpy()
        return Logits(mlm=mlm, sop=np.zeros((len(examples), 2), np.float32))

    def _forward(self, examples: Examples) -> Forward:
        with self._autocast():
            logits, labels = self._scorer.targets(examples)
        return Forward(logits.float(), None, labels)
