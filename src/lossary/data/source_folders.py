"""Folders that are one dataset: what Hugging Face's `save_to_disk` wrote, and MosaicML's shards with their index.

folder_members(system, "corpus")     # its files in order, each with what it is; None for any other folder
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Literal

import orjson

from lossary.errors import SourceError

__all__ = ["Member", "folder_members"]

_PACKED = ("zstd", "gz", "br", "bz2", "snappy")


@dataclass(frozen=True, kw_only=True)
class Member:
    """A file of a folder, and what the folder's index says of it."""

    path: str
    kind: Literal["arrow", "mds", "beside"]
    layout: Mapping[str, Any] = field(default_factory=dict)


def folder_members(system: Any, folder: str) -> list[Member] | None:
    """The files of a folder that is a dataset. Raises SourceError if one is missing, or what the index says is odd."""
    if system.exists(f"{folder}/dataset_dict.json"):
        raise _has_splits(system, folder)
    if system.exists(f"{folder}/state.json"):
        return _saved_dataset(system, folder)
    if system.exists(f"{folder}/index.json"):
        return _shards(system, f"{folder}/index.json")
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


def _shards(system: Any, index: str) -> list[Member]:
    """Shards of MDS, and their index itself: other names of columns are another dataset."""
    found = _index(system, index)
    shards = found.get("shards")
    if found.get("version") != 2 or not isinstance(shards, list) or not shards:
        said = f"version {found['version']!r}" if "version" in found else "no version"
        raise SourceError(f"it says {said} of {len(shards or [])} shards; MDS of version 2 is expected", where=index)
    members = [Member(path=index, kind="beside")]
    for number, shard in enumerate(shards):
        odd = _oddity(shard)
        if odd is not None:
            raise SourceError(f"the shard {number} of it {odd}", where=index)
        members.append(_shard(system, index, shard))
    return members


def _shard(system: Any, index: str, shard: dict[str, Any]) -> Member:
    """A shard as it lies there: as it is, or compressed."""
    told, packed = shard["raw_data"], shard.get("zip_data")
    zipped = packed is not None and not system.exists(f"{index.rpartition('/')[0]}/{told['basename']}")
    if packed is not None and zipped:
        told = packed
    path = _beside(system, index, told["basename"])
    size = int(system.info(path)["size"])
    if size != told["bytes"]:
        raise SourceError(f"it has {size:,} bytes; {told['bytes']:,} stand in index.json", where=path)
    return Member(path=path, kind="mds", layout={**shard, "zipped": zipped})


def _oddity(shard: Any) -> str | None:
    """What of an entry is not as MDS has it."""
    if not isinstance(shard, dict):
        return "is no object"
    if shard.get("format") != "mds":
        return f"has the format {shard.get('format')!r}; 'mds' is expected"
    lists = [shard.get(key) for key in ("column_names", "column_encodings", "column_sizes")]
    if not all(isinstance(found, list) and len(found) == len(lists[0] or []) for found in lists):
        return "does not name as many columns as encodings and sizes"
    names, encodings, sizes = ([*found] if found else [] for found in lists)
    if not all(isinstance(name, str) for name in [*names, *encodings]) or len(set(names)) != len(names):
        return "has columns of the same name, or of none"
    if not all(size is None or _is_count(size) for size in sizes) or not _is_count(shard.get("samples")):
        return "says no sizes, or no number of samples"
    if not _is_file(shard.get("raw_data")) or not (shard.get("zip_data") is None or _is_file(shard["zip_data"])):
        return "does not say file and size of its data"
    compression = shard.get("compression")
    if shard.get("zip_data") is not None and str(compression).partition(":")[0] not in _PACKED:
        return f"is compressed as {compression!r}; {', '.join(_PACKED)} are known"
    return None


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 32


def _is_file(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("basename"), str)
        and _is_count(value.get("bytes"))
        and isinstance(value.get("hashes", {}), dict)
    )


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
