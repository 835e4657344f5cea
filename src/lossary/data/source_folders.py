"""Folders that are one dataset: what Hugging Face's `save_to_disk` wrote.

folder_members(system, "corpus")     # its files in order, each with what it is; None for any other folder
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Literal

import orjson

from lossary.errors import SourceError

__all__ = ["Member", "folder_members"]


@dataclass(frozen=True, kw_only=True)
class Member:
    """A file of a folder, and what the folder's index says of it."""

    path: str
    kind: Literal["arrow"]
    layout: Mapping[str, Any] = field(default_factory=dict)


def folder_members(system: Any, folder: str) -> list[Member] | None:
    """The files of a folder that is a dataset. Raises SourceError if one is missing, or what the index says is odd."""
    if system.exists(f"{folder}/dataset_dict.json"):
        raise _has_splits(system, folder)
    if system.exists(f"{folder}/state.json"):
        return _saved_dataset(system, folder)
    return None


def _has_splits(system: Any, folder: str) -> SourceError:
    splits = _index(system, f"{folder}/dataset_dict.json").get("splits")
    names = [str(name) for name in splits] if isinstance(splits, list) else []
    return SourceError(
        f"{folder} has the splits {', '.join(names) or 'of no name'}; one is a dataset",
        where=f"{folder}/dataset_dict.json",
        hint=f"Name its folder, as {folder}/{names[0]}." if names else None,
    )


def _saved_dataset(system: Any, folder: str) -> list[Member]:
    index = f"{folder}/state.json"
    state = _index(system, index)
    listed = state.get("_data_files")
    if not isinstance(listed, list) or not listed or not all(isinstance(file, dict) for file in listed):
        raise SourceError("it names no data files", where=index, hint="Is it of a dataset that save_to_disk wrote?")
    if state.get("_indices_files") or state.get("_indices_data_files"):
        raise SourceError(
            "rows are chosen by a file of indices",
            where=index,
            hint="Save it anew: dataset.flatten_indices().save_to_disk(…).",
        )
    return [Member(path=_beside(system, index, file.get("filename")), kind="arrow") for file in listed]


def _index(system: Any, path: str) -> dict[str, Any]:
    try:
        found = orjson.loads(system.cat_file(path))
    except orjson.JSONDecodeError as error:
        raise SourceError(f"not JSON: {error}", where=path) from None
    if not isinstance(found, dict):
        raise SourceError("a JSON object is expected", where=path)
    return found


def _beside(system: Any, index: str, name: Any) -> str:
    """The path of a file that an index names, which is there and lies beside it or below."""
    parts = PurePosixPath(name).parts if isinstance(name, str) else ()
    if not parts or parts[0] == "/" or ".." in parts:
        raise SourceError(f"it names the file {name!r}; one beside it is expected", where=index)
    path = f"{index.rpartition('/')[0]}/{name}"
    if not system.exists(path):
        raise SourceError(f"the file {name} that it names is missing", where=index, hint="Was all of it copied?")
    return path
