"""Traces: what a side was asked and what it answered, as files that can be looked at and replayed.

A value of dicts, lists, numbers, text and NumPy arrays is stored as JSON beside a safetensors file: arrays go there,
and the JSON names them, and holds checksums of both. Files are called after the digest of what they hold, so that equal
inputs are stored once.

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
from lossary.files import checksummed, digest_file, read_json, write_atomic

__all__ = ["check", "load", "store", "write"]

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
    if not path.is_file() or not _is_whole(path):
        _write(path, text, arrays)
    return path


def _is_whole(path: Path) -> bool:
    try:
        check(path)
    except DataError:
        return False
    return True


def write(path: Path, value: Any) -> None:
    """Stores a value at a path of the caller's choice, whole or not at all."""
    arrays: dict[str, NDArray[Any]] = {}
    _write(path, _text(value, arrays), arrays)


def load(path: Path) -> Any:
    """Reads a value back; DataError if it is missing or damaged."""
    value, tensors = check(path), path.with_suffix(_TENSORS)
    try:
        arrays = load_file(tensors) if value["tensors"] is not None else {}
        return _decoded(value["value"], arrays)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise _damaged(path, str(error)) from None


def check(path: Path) -> dict[str, Any]:
    """Compares both files of a trace with their checksums; returns what the JSON holds. DataError if one is damaged."""
    try:
        value = read_json(path)
    except DataError as error:
        raise _damaged(path, error.message) from None
    try:
        text = path.read_text(encoding="utf-8")
        tensors = path.with_suffix(_TENSORS)
        if not isinstance(value, dict) or value.keys() != {"value", "tensors"}:
            raise _damaged(path, "it has no checksum, or is of another version of lossary")
        if text != _line(json.loads(text)):
            raise _damaged(path, "its text is not what was written")
        if value["tensors"] is not None and digest_file(tensors) != value["tensors"]:
            raise _damaged(tensors, "its checksum is another")
    except (OSError, ValueError) as error:
        raise _damaged(path, str(error)) from None
    return dict(value)


def _damaged(path: Path, why: str) -> DataError:
    return DataError(f"not a trace that can be read: {why}", where=str(path))


def _write(path: Path, text: str, arrays: dict[str, NDArray[Any]]) -> None:
    digest = None
    if arrays:
        # The JSON comes last: where it is, its arrays are.
        with write_atomic(path.with_suffix(_TENSORS)) as temporary:
            save_file({name: np.ascontiguousarray(value) for name, value in arrays.items()}, temporary)
            digest = digest_file(temporary)
    with write_atomic(path) as temporary:
        # Keys keep their order, which may mean something to a side.
        temporary.write_text(_line(checksummed({"value": json.loads(text), "tensors": digest})), encoding="utf-8")


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n"


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
