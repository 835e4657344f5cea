"""Checkpoints: canonical safetensors that any backend, and transformers, opens.

    step-00000100/
      model.safetensors        weights under Hugging Face's names
      config.json              opens as AlbertForPreTraining
      optimizer.safetensors    moments, m.<name> and v.<name>
      state.json               step, counts, digests
      spiece.model             the tokenizer, or a tokenizer.json and tokenizer_config.json

`load_checkpoint` also opens what transformers saved, and google-research's files of TensorFlow 1 (`tf_albert.py`).
A folder appears whole or not at all, and says of which step and of what training it is: one that was copied from
elsewhere into the folder of a run is refused. Weights are read in any floating point format and held as float32, the
vocabulary that a folder holds is compared with the study's (`models/vocabularies.py`). Pickled weights and weights that
are not finite are refused.
"""

import hashlib
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from lossary.data.json_tokenizer import JSON_FILES
from lossary.data.tokenizer import StudyTokenizer
from lossary.errors import CheckpointError, DataError, UsageError
from lossary.files import (
    check_json,
    digest_file,
    digest_json,
    read_json,
    write_directory_atomic,
    write_json,
    write_plain_json,
)
from lossary.models.architectures import EncoderShape, ModelShape, config_of, shape_from, shape_value
from lossary.models.parameters import Parameters, parameter_table, shape_from_config
from lossary.models.shapes import AlbertShape
from lossary.models.tensors import check_finite, read_tensors, read_weights, some
from lossary.models.tf_albert import read_tf_albert
from lossary.models.tf_bundle import bundle_prefix
from lossary.models.update_laws import Moments
from lossary.models.vocabularies import MODELS
from lossary.vocabulary.open import TOKENIZER_JSON

__all__ = [
    "Checkpoint",
    "begun_as",
    "check_checkpoint",
    "check_place",
    "checkpoint_step",
    "export_checkpoint",
    "list_checkpoints",
    "load_checkpoint",
    "load_own_checkpoint",
    "misplaced",
    "save_checkpoint",
    "weights_digest",
]

_SCHEMA = 1
_HINT = "Restore the checkpoint from a copy or delete it: `lossary run` goes on from the one before."
_WEIGHTS, _MOMENTS, _STATE = "model.safetensors", "optimizer.safetensors", "state.json"
_CONFIG, _VOCABULARY, _TOKENIZER = "config.json", "spiece.model", "tokenizer_config.json"
_TRAINER_STATE = "trainer_state.json"
_POOLER = ("albert.pooler.weight", "albert.pooler.bias")
_SOP_HEAD = ("sop_classifier.classifier.weight", "sop_classifier.classifier.bias")


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Weights, and for lossary's own the moments and the state of training."""

    path: Path
    shape: ModelShape
    parameters: Parameters
    moments: Moments | None
    state: dict[str, Any]
    has_sop: bool  # False where the folder has no sentence-order head
    vocabularies: tuple[Path, ...] = ()  # that lie beside it under names of their own


def weights_digest(parameters: Parameters) -> str:
    """The digest of names, shapes and bits of all weights."""
    hasher = hashlib.blake2b(digest_size=16)
    for name in sorted(parameters):
        array = np.ascontiguousarray(parameters[name], np.float32)
        hasher.update(f"{name}{array.shape}".encode())
        hasher.update(array.tobytes())
    return "blake2b:" + hasher.hexdigest()


def save_checkpoint(
    path: Path,
    *,
    shape: ModelShape,
    parameters: Parameters,
    moments: Moments,
    state: dict[str, Any],
    tokenizer: StudyTokenizer,
) -> dict[str, Any]:
    """Writes a checkpoint folder, whole or not at all; returns its state with the digests filled in."""
    with write_directory_atomic(path) as temporary:
        save_file(parameters, temporary / _WEIGHTS, {"format": "pt"})
        both = {f"m.{name}": value for name, value in moments.m.items()}
        both |= {f"v.{name}": value for name, value in moments.v.items()}
        save_file(both, temporary / _MOMENTS, {"format": "pt"})
        ends = {"bos_token_id": tokenizer.specials.cls, "eos_token_id": tokenizer.specials.sep}
        write_plain_json(temporary / _CONFIG, config_of(shape) | (ends if isinstance(shape, AlbertShape) else {}))
        for file in tokenizer.files:
            shutil.copyfile(file, temporary / file.name)
        names = {_WEIGHTS, _MOMENTS, _CONFIG, *(file.name for file in tokenizer.files)}
        if isinstance(shape, EncoderShape):
            # config.json has its settings; this is what the study decided.
            state = state | {"model": {k: v for k, v in shape_value(shape).items() if k != "settings"}}
            names |= _write_tokenizer_config(temporary, shape)
        full = {
            **state,
            "schema": _SCHEMA,
            "weights_digest": weights_digest(parameters),
            "files": {name: digest_file(temporary / name) for name in sorted(names)},
        }
        write_json(temporary / _STATE, full)
    return full


def export_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Writes weights, configuration and vocabulary as a new folder that transformers opens; UsageError if it exists.

    A checkpoint without a sentence-order head becomes an `AlbertForMaskedLM`.
    """
    if path.exists():
        raise UsageError("it exists already", where=str(path), hint="Name a folder that does not.")
    unread = () if checkpoint.has_sop else (*_POOLER, *_SOP_HEAD)
    config = config_of(checkpoint.shape)
    if isinstance(checkpoint.shape, AlbertShape) and not checkpoint.has_sop:
        config |= {"architectures": ["AlbertForMaskedLM"]}
    own = [file for file in (checkpoint.path / name for name in MODELS) if file.is_file()]
    with write_directory_atomic(path) as temporary:
        save_file(
            {name: value for name, value in checkpoint.parameters.items() if name not in unread},
            temporary / _WEIGHTS,
            {"format": "pt"},
        )
        write_plain_json(temporary / _CONFIG, config)
        for file in [*own, *checkpoint.vocabularies][:1]:
            shutil.copyfile(file, temporary / _VOCABULARY)
        for file in () if own else (checkpoint.path / name for name in JSON_FILES):
            if file.is_file():
                shutil.copyfile(file, temporary / file.name)
        if isinstance(checkpoint.shape, EncoderShape):
            _write_tokenizer_config(temporary, checkpoint.shape)
        if "step" in checkpoint.state:
            write_plain_json(temporary / _TRAINER_STATE, {"global_step": checkpoint.state["step"]})


def _write_tokenizer_config(folder: Path, shape: EncoderShape) -> set[str]:
    """With which `AutoTokenizer` reads the study's SentencePiece model, whose family is not the model's.

    Without it transformers takes the family's own tokenizer, finds no vocabulary, and every piece is unknown.
    """
    if not (folder / _VOCABULARY).is_file():
        return set()
    types = ["token_type_ids"] if shape.config.get("type_vocab_size", 0) > 1 else []
    config = {
        "tokenizer_class": "AlbertTokenizer",
        # The model's own normaliser does what the study asked for.
        "do_lower_case": False,
        "keep_accents": True,
        "remove_space": False,
        "model_max_length": shape.max_positions,
        "model_input_names": ["input_ids", *types, "attention_mask"],
    }
    write_plain_json(folder / _TOKENIZER, config)
    return {_TOKENIZER}


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a run, oldest first; leftovers of interrupted writes are not among them."""
    return sorted(path for path in folder.glob("step-*") if (path / _STATE).is_file())


def checkpoint_step(path: Path) -> int:
    """The step of one of a run's checkpoints, from its name."""
    return int(path.name.removeprefix("step-"))


def begun_as(record: Mapping[str, Any], step: int) -> str:
    """The digest of all in a run's `run.json`, as it is stored, that the weights up to a step follow from.

    Settings of nothing are none: what was trained before a key was known stays what it is.
    """
    keys = ("description", "datasets", "weights", "start")
    found = {key: _without_nothing(record.get(key)) for key in keys}
    return digest_json(found | {"history": [part for part in record["history"] if part["from"] < step]})


def _without_nothing(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    return {key: _without_nothing(item) for key, item in value.items() if item is not None}


def misplaced(path: Path) -> str:
    """Why a checkpoint in the folder of a run is not that run's at that step; empty if it is, or does not say.

    What is damaged is told by whoever opens it.
    """
    try:
        state, run = read_json(path / _STATE), path.absolute().parent.parent
        if path.parent.name != "checkpoints" or not path.name.startswith("step-"):
            return ""
        if state["step"] != checkpoint_step(path):
            return f"it is a checkpoint of step {state['step']:,}"
        record = read_json(run / "run.json") if "begun" in state else None
        if record is None or state["begun"] == begun_as(record, state["step"]):
            return ""
    except (OSError, DataError, KeyError, TypeError, ValueError):
        return ""
    return f"it was not trained as {run.name}/run.json says: by its own state it is of run {state['run']!r}"


def check_place(path: Path) -> None:
    """CheckpointError where a checkpoint is `misplaced`."""
    if why := misplaced(path):
        hint = "Was it copied from another run or another copy of the study? Put the run's own back, or move it away."
        raise CheckpointError(why, where=str(path), hint=hint)


def check_checkpoint(path: Path) -> bool:
    """Compares one of lossary's checkpoints with its state and its place; False if some file of it has no digest."""
    check_place(path)
    state = _read_object(path / _STATE)
    files = state.get("files", {})
    _check_files(path, state, files)
    vocabulary = _VOCABULARY if (path / _VOCABULARY).is_file() else TOKENIZER_JSON
    return check_json(path / _STATE) and {_WEIGHTS, _MOMENTS, _CONFIG, vocabulary} <= set(files)


def load_own_checkpoint(path: Path) -> Checkpoint:
    """One of lossary's checkpoints, its files checked against their digests; CheckpointError if it is damaged."""
    checkpoint = load_checkpoint(path)
    _check_files(path, checkpoint.state, [_MOMENTS])
    both = read_tensors(path / _MOMENTS)
    moments = Moments(
        {name: both[f"m.{name}"] for name in checkpoint.parameters},
        {name: both[f"v.{name}"] for name in checkpoint.parameters},
    )
    return Checkpoint(**(vars(checkpoint) | {"moments": moments}))


def load_checkpoint(path: Path) -> Checkpoint:
    """Any folder that transformers opens as an ALBERT with an MLM head, or google-research's files of TensorFlow 1.

    Raises CheckpointError: no such folder, pickled weights, another architecture, missing or misshapen parameters, or
    some that are not finite.
    Without a sentence-order head its parameters (and those of an absent pooler) are zeros and `has_sop` is False.
    """
    vocabularies: tuple[Path, ...] = ()
    if (path / _CONFIG).is_file():
        state = _read_state(path)
        config = _read_object(path / _CONFIG)
        if "model" in state:
            return _load_encoder(path, config, state)
        found = _canonical(read_weights(path))
    elif prefix := bundle_prefix(path):
        made, vocabularies = read_tf_albert(prefix)
        found, config = made.parameters, made.config
        state = {} if made.step is None else {"step": made.step}
    else:
        raise CheckpointError(f"no checkpoint: there is no {_CONFIG}", where=str(path))
    try:
        shape = shape_from_config(config)
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"not an ALBERT that can be computed here: {error}", where=str(path)) from None
    table = parameter_table(shape)
    has_sop = all(name in found for name in _SOP_HEAD)
    if not has_sop:
        # AlbertForMaskedLM has no pooler either; only the sentence-order head reads it.
        unread = [name for name in (*_POOLER, *_SOP_HEAD) if name not in found]
        found |= {name: np.zeros(table[name], np.float32) for name in unread}
    missing = [name for name in table if name not in found]
    if missing:
        raise CheckpointError(
            f"{len(missing)} parameters are missing: {some(missing)}",
            where=str(path),
            hint="A model without its MLM head cannot be scored; save it as AlbertForPreTraining or AlbertForMaskedLM.",
        )
    wrong = [f"{name} {found[name].shape}, not {size}" for name, size in table.items() if found[name].shape != size]
    if wrong:
        raise CheckpointError(f"shapes differ from config.json: {some(wrong)}", where=str(path))
    parameters = {name: np.ascontiguousarray(found[name], np.float32) for name in table}
    check_finite(parameters, path)
    return Checkpoint(
        path=path,
        shape=shape,
        parameters=parameters,
        moments=None,
        state=state,
        has_sop=has_sop,
        vocabularies=vocabularies,
    )


def _load_encoder(path: Path, config: Mapping[str, Any], state: dict[str, Any]) -> Checkpoint:
    """Another encoder that lossary trained; its names and shapes are compared where its model is made."""
    shape = shape_from({**state["model"], "settings": {}})
    assert isinstance(shape, EncoderShape)
    parameters = read_weights(path)
    check_finite(parameters, path)
    return Checkpoint(
        path=path,
        shape=shape.with_config(config),
        parameters=parameters,
        moments=None,
        state=state,
        has_sop=False,
    )


def _read_state(path: Path) -> dict[str, Any]:
    """What the folder says of its training: lossary's state, whose digests are compared, or that of a `Trainer`."""
    if (path / _STATE).is_file():
        check_place(path)
        state = _read_object(path / _STATE)
        _check_files(path, state, [name for name in state.get("files", {}) if name != _MOMENTS])
        return state
    trainer = path / _TRAINER_STATE
    step = _read_object(trainer).get("global_step") if trainer.is_file() else None
    return {"step": step} if isinstance(step, int) else {}


def _read_object(path: Path) -> dict[str, Any]:
    """A JSON object; CheckpointError if it is damaged."""
    try:
        value = read_json(path)
    except DataError as error:
        raise CheckpointError(error.message, where=error.where, hint=_HINT) from None
    if not isinstance(value, dict):
        raise CheckpointError("not a JSON object", where=str(path))
    return value


def _check_files(path: Path, state: Mapping[str, Any], names: Iterable[str]) -> None:
    """Compares files of one of lossary's checkpoints with the digests in its state."""
    for name in names:
        if not (path / name).is_file() or digest_file(path / name) != state["files"][name]:
            raise CheckpointError(f"{name} is missing or not what was written", where=str(path), hint=_HINT)


def _canonical(found: dict[str, Any]) -> dict[str, Any]:
    """Tied copies are dropped; older names of layer normalisation are brought up to date."""
    renamed = {
        name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias"): value
        for name, value in found.items()
    }
    if "predictions.bias" not in renamed and "predictions.decoder.bias" in renamed:
        renamed["predictions.bias"] = renamed["predictions.decoder.bias"]
    return renamed
