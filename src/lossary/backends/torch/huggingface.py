"""Models of transformers from a folder, as scorers; nothing but numbers is read from it.

    scorer = open_huggingface(Path("checkpoint-500"), vocabulary, device="cuda", precision="bf16")

config.json says the class. Weights are safetensors, whole or in parts; a pytorch_model.bin is read by
`torch.load(weights_only=True)`, which builds tensors and runs nothing. No hub is asked.
"""

import pickle
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from transformers.utils import logging

from lossary.backends.torch.scorer import NO_HEAD, HuggingFaceScorer, language_of
from lossary.backends.torch.targets import usable_device
from lossary.errors import CheckpointError
from lossary.models.folders import read_config, recognise, weight_files
from lossary.models.formats import WEIGHTS
from lossary.models.tensors import quantised, some
from lossary.models.tf_bert import GELU_NOTE, read_tf_bert
from lossary.study import Precision
from lossary.vocabulary.api import Vocabulary

__all__ = ["open_huggingface"]

_BROKEN = (
    *(OSError, ValueError, RuntimeError, KeyError, TypeError, ImportError, EOFError),
    *(SafetensorError, pickle.UnpicklingError),
)
# What compilation and parallel training put into the names of parameters; what is computed is the same.
_WRAPPERS = {r"^(?:module\.|_orig_mod\.)+": "", r"\._orig_mod\.": "."}


def open_huggingface(
    folder: Path, vocabulary: Vocabulary | None = None, *, device: str | None = None, precision: Precision = "fp32"
) -> HuggingFaceScorer:
    """The model in a folder, or of google-research/bert's files, on a device (a GPU if there is one), ready to score.

    "bf16" keeps weights of 16 bits as they are saved and computes others under autocast; "fp32" widens all.
    CheckpointError: a class without a head over a vocabulary, code in the folder, weights that are missing, damaged or
    no numbers.
    """
    found = recognise(folder)
    _check_class(found.architecture, folder)
    place = usable_device(device)
    if found.tensorflow_1 is not None:
        model, notes = _load_tf_bert(found.tensorflow_1)
    else:
        source = {"pretrained_model_name_or_path": folder, "local_files_only": True, "weights_only": True}
        kind = getattr(transformers, found.architecture)
        model, notes = _load(kind, folder, source, torch.float32 if precision == "fp32" else "auto")
        _check_kinds(model, folder)
    _check_finite(model, folder)
    scorer = HuggingFaceScorer(model.to(place), vocabulary, precision=precision)
    scorer.notes += [*notes, *_unread(folder)]
    return scorer


def _check_class(name: str, folder: Path) -> None:
    """CheckpointError unless transformers has the class, and it has a head over its vocabulary."""
    if (language := language_of([name])) == "clm":
        return
    where = str(folder / "config.json")
    if (folder / "config.json").is_file() and read_config(folder).get("is_encoder_decoder"):
        raise CheckpointError(
            f"{name} is an encoder with a decoder; scored are encoders (MLM) and decoders (CLM)",
            where=where,
            hint="lossary.ModuleScorer scores what a call of yours gives.",
        )
    if language is not None:
        return
    if not hasattr(transformers, name):
        raise CheckpointError(
            f"transformers {transformers.__version__} has no class {name}",
            where=where,
            hint="Is it of a newer version, or code of its own? Load the model yourself, and give it and its tokenizer "
            "to lossary.evaluate.",
        )
    kind = "has a head of another kind" if "For" in name else "has no head"
    raise CheckpointError(
        f"{name} {kind}: it is neither a masked nor a causal language model", where=where, hint=NO_HEAD
    )


def _unread(folder: Path) -> list[str]:
    """A note where weights lie in a folder twice, which may be of two models."""
    first, *more = [name for name in WEIGHTS if (folder / name).is_file()] or [""]
    return [f"its weights are read from {first}; {', '.join(more)}: not read"] if more else []


def _load_tf_bert(prefix: Path) -> tuple[Any, list[str]]:
    """The model of a google-research/bert checkpoint, and what to know of it."""
    made = read_tf_bert(prefix)
    kind = getattr(transformers, made.config["architectures"][0])
    source = {
        "pretrained_model_name_or_path": None,
        "config": transformers.BertConfig.from_dict(made.config),
        "state_dict": {name: torch.from_numpy(value) for name, value in made.parameters.items()},
    }
    model, notes = _load(kind, prefix, source, torch.float32)
    return model, notes + ([GELU_NOTE] if made.config["hidden_act"] == "gelu_new" else [])


def _load(kind: Any, folder: Path, source: dict[str, Any], dtype: Any) -> tuple[Any, list[str]]:
    """The model, and what to know of how its file was read. CheckpointError unless all of its parameters are there."""
    model, info = _from_pretrained(kind, folder, source, dtype)
    wrapped = [name for name in info["unexpected_keys"] if _plain_name(name) != name]
    if wrapped:
        model, info = _from_pretrained(kind, folder, {**source, "key_mapping": _WRAPPERS}, dtype)
    missing, more = sorted(info["missing_keys"]), sorted(info["unexpected_keys"])
    if missing:
        raise CheckpointError(
            f"{len(missing)} parameters of {kind.__name__} are missing: {some(missing)}",
            where=str(folder),
            hint=_instead(more),
        )
    # Another layer of a kind that the model has: scored would be a part of what was trained.
    own = {re.sub(r"\d+", "0", name) for name, _ in model.named_parameters()}
    if cut := [name for name in more if re.sub(r"\d+", "0", name) in own]:
        raise CheckpointError(
            f"{len(cut)} parameters of its file have no place in the model that config.json describes: {some(cut)}",
            where=str(folder),
            hint="Has config.json fewer layers than were trained? Its numbers have to be those of the weights.",
        )
    notes = [f"names of its weights are read without what wraps them: {wrapped[0]}"] if wrapped else []
    return model, notes + ([f"not of {kind.__name__}, and not used: {some(more)}"] if more else [])


def _instead(more: list[str]) -> str:
    """What to do where parameters are missing, by what else the file has."""
    if any(".lora_" in name or ".base_layer." in name for name in more):
        return "The file holds adapters that are not merged: save what model.merge_and_unload() gives."
    if any(name.endswith((".qweight", ".qzeros", ".scales", ".absmax")) for name in more):
        return "The file holds quantised weights: save what model.dequantize() gives, or score what was quantised."
    other = f"The file has {some(more)}, which the class has not: is it of another class? " if more else ""
    return other + NO_HEAD


def _from_pretrained(kind: Any, folder: Path, source: dict[str, Any], dtype: Any) -> tuple[Any, dict[str, Any]]:
    with _silent():
        try:
            model, info = kind.from_pretrained(**source, dtype=dtype, output_loading_info=True)
        except _BROKEN as error:
            if isinstance(error, pickle.UnpicklingError):
                raise CheckpointError(
                    "its pickle holds more than tensors, or is damaged; nothing is run to read it",
                    where=str(folder),
                    hint=f"If you trust it: {kind.__name__}.from_pretrained({str(folder)!r}, weights_only=False)"
                    ".save_pretrained(NEW) writes safetensors.",
                ) from None
            said = next((line for line in str(error).splitlines() if line.strip()), repr(error))
            raise CheckpointError(
                f"transformers cannot open it as {kind.__name__}: {said}", where=str(folder)
            ) from None
    return model, info


def _plain_name(name: str) -> str:
    for wrapper, plain in _WRAPPERS.items():
        name = re.sub(wrapper, plain, name)
    return name


def _check_kinds(model: torch.nn.Module, folder: Path) -> None:
    """Integers and 8-bit floats mean nothing without their scales; transformers widens them as they stand."""
    own = {name for name, _ in model.named_parameters()}
    for path in weight_files(folder):
        found = quantised(path) if path.suffix == ".safetensors" else _pickled_kinds(path)
        if narrow := {name: kind for name, kind in found.items() if _plain_name(name) in own}:
            kinds = ", ".join(sorted(set(narrow.values())))
            raise CheckpointError(
                f"{len(narrow)} of its parameters are quantised ({kinds}), without what their scales are: "
                f"{some(narrow)}",
                where=str(path),
                hint="Save the weights as float32, float16 or bfloat16.",
            )


def _pickled_kinds(path: Path) -> dict[str, str]:
    """As `quantised`, of a pickled file; no value is read."""
    state = torch.load(path, map_location="meta", weights_only=True)
    tensors = {name: value.dtype for name, value in state.items() if isinstance(value, torch.Tensor)}
    return {
        name: str(kind).removeprefix("torch.")
        for name, kind in tensors.items()
        if not kind.is_floating_point or kind.itemsize < 2
    }


def _check_finite(model: torch.nn.Module, folder: Path) -> None:
    broken = [name for name, tensor in model.named_parameters() if not bool(torch.isfinite(tensor).all())]
    if broken:
        more = f" and {len(broken) - 4} more" if len(broken) > 4 else ""
        raise CheckpointError(
            f"{len(broken)} parameters hold NaN or infinite values: {', '.join(broken[:4])}{more}",
            where=str(folder),
            hint="The run diverged, or the file was made by a broken export: use an earlier checkpoint.",
        )


@contextmanager
def _silent() -> Iterator[None]:
    """What transformers says while it loads is for its own users; what matters is raised here."""
    level, shown = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()
