"""Tensors of safetensors files as NumPy arrays of float32, in whatever floating point format they were saved.

    weights = read_weights(folder)          # model.safetensors, or its parts by the index

bfloat16 is the upper half of a float32 and is widened bit by bit; float16 and float32 are exact, too. Integers and
8-bit floats are refused: they are quantised, and mean nothing without their scales.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from lossary.errors import CheckpointError
from lossary.files import read_json

__all__ = ["check_finite", "quantised", "read_tensors", "read_weights", "some"]

_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
_KINDS: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),  # the upper half of a float32
}


def read_weights(folder: Path) -> dict[str, NDArray[np.float32]]:
    """All tensors of a checkpoint folder by name, of one file or of several."""
    if (folder / _WEIGHTS).is_file():
        return read_tensors(folder / _WEIGHTS)
    index = folder / _INDEX
    if index.is_file():
        return _read_parts(folder, index)
    if any(folder.glob("*.bin")) or any(folder.glob("*.pt")):
        raise CheckpointError(
            "the weights are pickled; pickle files can run any code and are not opened",
            where=str(folder),
            hint="In an environment you trust: AlbertForPreTraining.from_pretrained(DIR).save_pretrained(NEW).",
        )
    raise CheckpointError("there is no model.safetensors", where=str(folder))


def _read_parts(folder: Path, index: Path) -> dict[str, NDArray[np.float32]]:
    value = read_json(index)
    parts = value.get("weight_map") if isinstance(value, dict) else None
    if not isinstance(parts, dict) or not all(isinstance(part, str) for part in parts.values()):
        raise CheckpointError("the index has no weight_map of names to files", where=str(index))
    if any(Path(part).name != part for part in parts.values()):
        raise CheckpointError("the index names files outside the checkpoint", where=str(index))
    return {name: value for part in sorted(set(parts.values())) for name, value in read_tensors(folder / part).items()}


def read_tensors(path: Path) -> dict[str, NDArray[np.float32]]:
    """The tensors of one file. CheckpointError if it is damaged or holds what is no floating point number."""
    kinds = _kinds(path)
    if other := sorted({kind for kind in kinds.values() if kind not in _KINDS}):
        raise CheckpointError(
            f"its tensors are {', '.join(other)}, not floating point numbers of 16 bits or more",
            where=str(path),
            hint="Save the weights as float32, float16 or bfloat16.",
        )
    # safetensors gives NumPy no bfloat16; what it has checked is read here by its offsets.
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header: dict[str, Any] = json.loads(file.read(size))
    data = np.memmap(path, np.uint8, "r", offset=8 + size) if path.stat().st_size > 8 + size else np.zeros(0, np.uint8)
    return {name: _array(data, header[name]) for name in kinds}


def quantised(path: Path) -> dict[str, str]:
    """Tensors of one file that are no floating point numbers of 16 bits or more, with what they are."""
    return {name: kind for name, kind in _kinds(path).items() if kind not in _KINDS}


def _kinds(path: Path) -> dict[str, str]:
    try:
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, TypeError, KeyError) as error:
        raise CheckpointError(f"not readable: {error}", where=str(path)) from None


def _array(data: NDArray[np.uint8], entry: dict[str, Any]) -> NDArray[np.float32]:
    start, stop = entry["data_offsets"]
    # A copy is aligned, and does not hold the file.
    values = np.array(data[start:stop]).view(_KINDS[entry["dtype"]])
    if entry["dtype"] == "BF16":
        values = (values.astype(np.uint32) << 16).view(np.float32)
    return np.asarray(values, np.float32).reshape(entry["shape"])


def check_finite(parameters: Mapping[str, NDArray[np.float32]], path: Path) -> None:
    """Weights that are no numbers give losses that are none; whoever asks is told which."""
    broken = {name: int(np.count_nonzero(~np.isfinite(value))) for name, value in parameters.items()}
    told = [f"{name} ({count:,} of {parameters[name].size:,})" for name, count in broken.items() if count]
    if told:
        raise CheckpointError(
            f"{len(told)} of {len(parameters)} parameters hold NaN or infinite values: {some(told)}",
            where=str(path),
            hint="The run diverged, or the file was made by a broken export: use an earlier checkpoint.",
        )


def some(items: Iterable[str]) -> str:
    """The first few, and how many more there are."""
    listed = list(items)
    return ", ".join(listed[:4]) + (f" and {len(listed) - 4} more" if len(listed) > 4 else "")
