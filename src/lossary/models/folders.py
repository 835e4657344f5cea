"""Folders of models that others saved: what a checkpoint is, told by its content; no framework is loaded.

    what = recognise(Path("checkpoint-500"))      # .kind "transformers", .step 500

Nothing is run that lies in a folder: code of its own (`auto_map`) and attention kernels from elsewhere are refused by
name, and so are adapters of PEFT.
"""

import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lossary.errors import CheckpointError, DataError
from lossary.files import read_json
from lossary.models.tf1 import family_of, step_of
from lossary.models.tf_bundle import Bundle, bundle_prefix

__all__ = ["STEP_FOLDER", "FolderModel", "Kind", "read_config", "recognise", "step_of_folder"]

# albert: lossary's own or transformers'; tf1: google-research/albert's files; transformers: any other class of it.
Kind = Literal["albert", "tf1", "transformers", "keras"]

# What a Trainer calls the folders of its checkpoints.
STEP_FOLDER = re.compile(r"checkpoint-\d+")
_STEP = re.compile(r"(?:checkpoint|ckpt|global_step|step|iter)[-_]?(\d+)(?!\d)")
_KERAS = {"config.json", "metadata.json", "model.weights.h5"}
_WEIGHT_FILES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".hdf5", ".npz", ".msgpack", ".gguf", ".onnx")
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")


@dataclass(frozen=True, kw_only=True)
class FolderModel:
    """What a path holds."""

    path: Path
    kind: Kind
    architecture: str = ""  # the class of transformers
    step: int | None = None  # of training, where something says so
    tensorflow_1: Path | None = None  # what the files of a google-research/bert checkpoint start with


def recognise(path: Path) -> FolderModel:
    """What kind of checkpoint a path is. CheckpointError where it is none, or one that is not opened."""
    if path.is_file() and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if set(archive.namelist()) >= _KERAS:
                return FolderModel(path=path, kind="keras", step=step_of_folder(path))
    if not (path / "config.json").is_file():
        if prefix := bundle_prefix(path):
            return _tensorflow_1(path, Bundle(prefix))
        if not path.exists():
            raise CheckpointError("there is no such file or folder", where=str(path))
        _refuse_adapter(path)
        what, hint = _told_by_suffix(path)
        raise CheckpointError(f"not recognised as a checkpoint: {what}", where=str(path), hint=hint)
    config = read_config(path)
    architecture = _architecture(path, config)
    kind: Kind = "albert" if architecture.startswith("Albert") else "transformers"
    if kind == "transformers":
        _refuse_code(path, config)
        if not any((path / name).is_file() for name in _WEIGHTS):
            raise CheckpointError(f"there are no weights: {', '.join(_WEIGHTS)}", where=str(path))
    return FolderModel(path=path, kind=kind, architecture=architecture, step=step_of_folder(path))


def _told_by_suffix(path: Path) -> tuple[str, str]:
    """What a path is that is no checkpoint, and what to do with it."""
    if path.is_dir():
        known = "Known are folders that transformers saves, and google-research's files of TensorFlow 1."
        return "there is no config.json", known
    if path.suffix == ".py":
        return "it is Python code", (
            "An adapter is scored from Python, lossary.evaluate(adapter, study, run=NAME), and compared by "
            "`lossary diagnose`; the script that trains your model can call lossary.evaluate, too: docs/checkpoints.md."
        )
    if path.suffix in _WEIGHT_FILES:
        return "it is a file of weights, which do not say what is computed of them", (
            "Name the folder in which it lies with its config.json, or load the model in Python: "
            "lossary.evaluate(model, study, run=NAME), and lossary.KerasScorer(call, tokenizer) for Keras; "
            "docs/checkpoints.md."
        )
    return "it is neither a folder nor a file of TensorFlow 1", (
        "Name the folder that save_pretrained wrote, or google-research's model.ckpt-N."
    )


def _tensorflow_1(path: Path, bundle: Bundle) -> FolderModel:
    if family_of(bundle) == "albert":
        return FolderModel(path=path, kind="tf1")
    return FolderModel(
        path=path,
        kind="transformers",
        architecture="BertForPreTraining",
        step=step_of(bundle),
        tensorflow_1=bundle.prefix,
    )


def step_of_folder(path: Path) -> int | None:
    """The step of training: what a `Trainer` wrote beside the weights, or the number in a name like checkpoint-500."""
    state = path / "trainer_state.json"
    if state.is_file():
        try:
            found = read_json(state)
        except DataError as error:
            raise CheckpointError(error.message, where=error.where) from None
        step = found.get("global_step") if isinstance(found, dict) else None
        if isinstance(step, int) and not isinstance(step, bool) and step >= 0:
            return step
    named = _STEP.match(path.resolve().name)
    return int(named[1]) if named else None


def read_config(path: Path) -> dict[str, Any]:
    """The config.json of a folder; CheckpointError if it is damaged."""
    try:
        config = read_json(path / "config.json")
    except DataError as error:
        raise CheckpointError(error.message, where=error.where) from None
    if not isinstance(config, dict):
        raise CheckpointError("not a JSON object", where=str(path / "config.json"))
    return config


def _architecture(path: Path, config: dict[str, Any]) -> str:
    names = config.get("architectures")
    if isinstance(names, list) and names and isinstance(names[0], str):
        return names[0]
    if config.get("model_type") == "albert":
        # Old checkpoints of google's on the hub say no more.
        return "AlbertForPreTraining"
    raise CheckpointError(
        "config.json does not say which class it is of (architectures)",
        where=str(path / "config.json"),
        hint='Save the model with save_pretrained, or add for instance "architectures": ["BertForMaskedLM"].',
    )


def _refuse_code(path: Path, config: dict[str, Any]) -> None:
    where = str(path / "config.json")
    if config.get("auto_map"):
        raise CheckpointError(
            "it asks for code of its own to be run (auto_map); code from a folder is never run",
            where=where,
            hint="If you trust it, load the model yourself and give it to lossary.evaluate. If transformers has the "
            "class, remove auto_map from a copy of config.json.",
        )
    attention = config.get("attn_implementation") or config.get("_attn_implementation")
    if isinstance(attention, str) and "/" in attention:
        raise CheckpointError(f"it asks for attention code from elsewhere: {attention!r}", where=where)
    if isinstance(method := config.get("quantization_config"), dict):
        raise CheckpointError(
            f"its weights are quantised ({method.get('quant_method') or 'quantization_config'}); opened are those of "
            "16 bits or more",
            where=where,
            hint="Load it as its makers say, and give the model and its tokenizer to lossary.evaluate in Python, or "
            "save what model.dequantize() gives.",
        )
    _refuse_adapter(path)


def _refuse_adapter(path: Path) -> None:
    if (path / "adapter_config.json").is_file():
        raise CheckpointError(
            "it is an adapter of PEFT, not a whole model",
            where=str(path),
            hint="Save what model.merge_and_unload() gives.",
        )
