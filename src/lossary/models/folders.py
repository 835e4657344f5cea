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
from lossary.models.formats import WEIGHTS, check_whole, not_opened
from lossary.models.tf1 import family_of, step_of
from lossary.models.tf_bundle import Bundle, bundle_prefix

__all__ = [
    "STEP_FOLDER",
    "FolderModel",
    "Kind",
    "name_of",
    "read_config",
    "recognise",
    "step_of_folder",
    "weight_files",
]

# albert: lossary's own or transformers'; tf1: google-research/albert's files; transformers: any other class of it.
Kind = Literal["albert", "tf1", "transformers", "keras"]

# What a Trainer calls the folders of its checkpoints.
STEP_FOLDER = re.compile(r"checkpoint-\d+")
_STEP = re.compile(r"(?:checkpoint|ckpt|global_step|step|iter)[-_]?(\d+)(?!\d)")
_KERAS = {"config.json", "metadata.json", "model.weights.h5"}
# In which names of variables end that TensorFlow 2 saved.
_TF2_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
# Folders of the hub's cache: models--ORGANISATION--NAME/snapshots/REVISION.
_HUB = "models--"


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
    path = _place(path)
    if not (path / "config.json").is_file():
        if prefix := bundle_prefix(path):
            return _tensorflow_1(path, Bundle(prefix))
        if not path.exists():
            raise CheckpointError("there is no such file or folder", where=str(path))
        _refuse_adapter(path)
        raise not_opened(path)
    config = read_config(path)
    architecture = _architecture(path, config)
    kind: Kind = "albert" if architecture.startswith("Albert") else "transformers"
    if kind == "transformers":
        _refuse_code(path, config)
    if not (weights := weight_files(path)):
        raise not_opened(path)
    for file in weights:
        check_whole(file)
    return FolderModel(path=path, kind=kind, architecture=architecture, step=step_of_folder(path))


def _place(path: Path) -> Path:
    """The folder that is meant: of a file that would be read of it, and of the hub's cache with one snapshot."""
    if path.is_file() and (path.parent / "config.json").is_file():
        read = [path.parent / "config.json", *weight_files(path.parent), *_indices(path.parent)]
        return path.parent if path in read else path
    snapshots = list((path / "snapshots").glob("*/config.json")) if path.name.startswith(_HUB) else []
    return snapshots[0].parent if len(snapshots) == 1 else path


def name_of(path: Path) -> str:
    """What a checkpoint is called: its folder; of a step the folder above; of the hub's cache the model."""
    if STEP_FOLDER.fullmatch(path.name) and path.parent.name:
        return path.parent.name
    above = path.parent.parent.name
    return above.rpartition("--")[2] if path.parent.name == "snapshots" and above.startswith(_HUB) else path.name


def weight_files(folder: Path) -> list[Path]:
    """The files that transformers reads of a folder, whole ones before parts. CheckpointError if a part is missing."""
    for name in WEIGHTS:
        if (folder / name).is_file():
            return _parts(folder / name) if name.endswith(".json") else [folder / name]
    return []


def _indices(folder: Path) -> list[Path]:
    return [folder / name for name in WEIGHTS if name.endswith(".json")]


def _parts(index: Path) -> list[Path]:
    """Parts of weights lie in the folder itself, and are all there."""
    try:
        value = read_json(index)
    except DataError as error:
        raise CheckpointError(error.message, where=error.where) from None
    named = value.get("weight_map") if isinstance(value, dict) else None
    if not isinstance(named, dict) or not all(isinstance(part, str) for part in named.values()):
        raise CheckpointError("the index has no weight_map of names to files", where=str(index))
    parts = sorted(set(named.values()))
    for part in parts:
        if Path(part).name != part:
            raise CheckpointError(f"the index names a file outside the checkpoint: {part}", where=str(index))
        if not (index.parent / part).is_file():
            raise CheckpointError(
                f"a part of the weights is missing: {part}",
                where=str(index.parent),
                hint=f"There are {len(parts)} parts; copy it from where the others came from.",
            )
    return [index.parent / part for part in parts]


def _tensorflow_1(path: Path, bundle: Bundle) -> FolderModel:
    if any(name.endswith(_TF2_VALUE) for name in bundle.shapes):
        raise CheckpointError(
            "its files are of TensorFlow 2, whose names say of which objects of a program values are, not what is "
            "computed of them",
            where=str(path),
            hint="Load the model in Python: lossary.evaluate(lossary.KerasScorer(call, tokenizer), study, run=NAME); "
            "docs/checkpoints.md has the call.",
        )
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
            f"it is an adapter of PEFT{_base_of(path)}, not a whole model",
            where=str(path),
            hint=f"Merge it with peft: PeftModel.from_pretrained(base_model, {str(path)!r}).merge_and_unload()"
            ".save_pretrained(NEW), and score NEW, with the tokenizer beside it.",
        )


def _base_of(path: Path) -> str:
    try:
        found = read_json(path / "adapter_config.json")
    except DataError:
        return ""
    base = found.get("base_model_name_or_path") if isinstance(found, dict) else None
    return f" for {base}" if isinstance(base, str) and base else ""
