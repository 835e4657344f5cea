"""Traces: what a side was asked and what it answered, as files that can be looked at and replayed.

A value of dicts, lists, numbers, text and NumPy arrays is stored as JSON beside a safetensors file: arrays go there,
and the JSON names them. Files are called after the digest of what they hold, so that equal inputs are stored once.

    path = store(folder, {"token_ids": ids, "step": 3})
    load(path)
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from lossary.errors import DataError
from lossary.files import write_atomic

__all__ = ["load", "store", "write"]

_ARRAY = "$array"
_NUMBER = "$number"
_TENSORS = ".safetensors"


def store(folder: Path, value: Any) -> Path:
    """Stores a value under the digest of what it holds; returns the path of its JSON."""
    arrays: dict[str, NDArray[Any]] = {}
    text = _text(value, arrays)
    hasher = hashlib.blake2b(text.encode(), digest_size=12)
    for name in arrays:
        hasher.update(f"{name}{arrays[name].dtype}{arrays[name].shape}".encode())
        hasher.update(np.ascontiguousarray(arrays[name]).data)
    path = folder / f"{hasher.hexdigest()}.json"
    if not path.is_file():
        _write(path, text, arrays)
    return path


def write(path: Path, value: Any) -> None:
    """Stores a value at a path of the caller's choice, whole or not at all."""
    arrays: dict[str, NDArray[Any]] = {}
    _write(path, _text(value, arrays), arrays)


def load(path: Path) -> Any:
    """Reads a value back; DataError if it is missing or damaged."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        tensors = path.with_suffix(_TENSORS)
        arrays = load_file(tensors) if tensors.is_file() else {}
        return _decoded(value, arrays)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise DataError(f"not a trace that can be read: {error}", where=str(path)) from None


def _write(path: Path, text: str, arrays: dict[str, NDArray[Any]]) -> None:
    if arrays:
        # The JSON comes last: where it is, its arrays are.
        with write_atomic(path.with_suffix(_TENSORS)) as temporary:
            save_file({name: np.ascontiguousarray(value) for name, value in arrays.items()}, temporary)
    with write_atomic(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def _text(value: Any, arrays: dict[str, NDArray[Any]]) -> str:
    return json.dumps(_encoded(value, "value", arrays), ensure_ascii=False, allow_nan=False)


def _encoded(value: Any, path: str, arrays: dict[str, NDArray[Any]]) -> Any:
    if isinstance(value, np.ndarray):
        if value.dtype == object:
            raise TypeError(f"{path} is an array of objects; numbers are expected")
        arrays[path] = value
        return {_ARRAY: path}
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return {_NUMBER: str(value)}
    if isinstance(value, Mapping):
        return {str(key): _encoded(item, f"{path}.{key}", arrays) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_encoded(item, f"{path}.{number}", arrays) for number, item in enumerate(value)]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise TypeError(f"{path} is {type(value).__name__}; numbers, text, lists, dicts and NumPy arrays are expected")


def _decoded(value: Any, arrays: dict[str, NDArray[Any]]) -> Any:
    if isinstance(value, dict):
        if set(value) == {_ARRAY}:
            return arrays[value[_ARRAY]]
        if set(value) == {_NUMBER}:
            return float(value[_NUMBER])
        return {key: _decoded(item, arrays) for key, item in value.items()}
    if isinstance(value, list):
        return [_decoded(item, arrays) for item in value]
    return value
