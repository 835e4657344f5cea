"""The files of a source: a path, a glob, a URL that fsspec opens, or `builtin:NAME`; what kind each is, by its suffix.

files = list_files(dataset, root, where="study.toml: $.datasets.wiki.source")
"""

import difflib
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import fsspec
import orjson

from lossary.data.builtin import BUILTIN_FIELDS, builtin_rows, is_at_hand
from lossary.data.source_folders import Member, folder_members
from lossary.errors import SourceError, StudyError, UnreadSource
from lossary.failures import explain

if TYPE_CHECKING:
    # Workers import this module and need no study file, nor the quarter of their start that pydantic would take.
    from lossary.study import Dataset

__all__ = ["Kind", "SourceFile", "list_files", "open_source"]

Kind = Literal[
    "parquet",
    "jsonl",
    "json",
    "csv",
    "text",
    "table",
    "arrow",
    "tar",
    "mds",
    "megatron",
    "tokens",
    "yt",
    "beside",
    "builtin",
]
_KINDS: dict[str, Kind] = {
    ".parquet": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "text",
    ".arrow": "arrow",
    ".ipc": "arrow",
    ".feather": "arrow",
    ".tar": "tar",
    ".bin": "megatron",
    ".idx": "megatron",
}
_NEVER_COMPRESSED = ("parquet", "arrow", "megatron")
_LONG = {".tgz": [".tar", ".gz"]}
_COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
_KNOWN = (
    "Known: .parquet, .arrow, .bin (Megatron), .tar, .jsonl, .json, .csv, .tsv and .txt, "
    "all but the first three also with .gz or .zst."
)


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """One file of a source."""

    path: str
    kind: Kind
    compression: str | None = None
    bytes: int
    stamp: str  # changes when the file does
    layout: Mapping[str, Any] = field(default_factory=dict)  # what an index beside it says of it
    held: object = field(default=None, compare=False, repr=False)  # what has to live while it is read

    def open(self) -> BinaryIO:
        """The file's bytes as they lie there."""
        return open_source(self.path)


def open_source(path: str) -> BinaryIO:
    """A file of a source; fsspec would take `::` in the name of a local one for a chain of its own."""
    return fsspec.open(path, "rb").open() if "://" in path else open(path, "rb")


def list_files(dataset: "Dataset", root: Path, *, where: str, waits: bool = True) -> list[SourceFile]:
    """The files of a dataset in the order they are read: by source as listed, then by name; each once.

    Raises SourceError (`where` is the study file's path of the source) if nothing matches or a suffix is unknown;
    UnreadSource for what takes long to list, files elsewhere and builtin text at its first use, unless `waits`.
    """
    files: dict[str, SourceFile] = {}
    for source in dataset.sources:
        if not waits and not _is_quick(source):
            raise UnreadSource("it takes long to list", where=where)
        for file in _of_source(source, root, where):
            # Two paths, or a link and what it leads to, are one file.
            files.setdefault(file.path if "://" in file.path else os.path.realpath(file.path), file)
    return _with_tokenizer(list(files.values()), dataset, root, where)


def _with_tokenizer(files: list[SourceFile], dataset: "Dataset", root: Path, where: str) -> list[SourceFile]:
    """The files, those of tokens with the tokenizer that makes text of them; it is one of the dataset's files, too."""
    tokenised = [file for file in files if file.kind == "megatron"]
    if not tokenised and dataset.tokenizer is None:
        return files
    where = where.removesuffix(".source") + ".tokenizer"
    if not tokenised:
        raise StudyError("a tokenizer is named, and no source holds tokens", where=where, hint="Take the line out.")
    if dataset.tokenizer is None:
        raise StudyError(
            f"{tokenised[0].path} holds tokens, and no tokenizer is named",
            where=where,
            hint='Name the one that it was made with, as tokenizer = "tokenizer.json".',
        )
    path = root / Path(dataset.tokenizer).expanduser()
    if not path.is_file():
        raise StudyError(f"no such file: {path}", where=where)
    beside = _described(fsspec.filesystem("file"), str(path), kind="beside")
    named = {"tokenizer": (beside.path, beside.stamp, where)}
    full = [replace(file, layout={**file.layout, **named}) if file.kind == "megatron" else file for file in files]
    return [*full, beside]


def _of_source(source: str, root: Path, where: str) -> list[SourceFile]:
    if source.startswith("builtin:"):
        return [_builtin_file(source, where)]
    if source.startswith("yt://"):
        from lossary.data.yt_source import yt_files

        return yt_files(source, where=where)
    return _found(source, root, where)


def _found(source: str, root: Path, where: str) -> list[SourceFile]:
    url = source if "://" in source else str(root / Path(source).expanduser())
    try:
        is_url = "://" in source
        system, pattern = fsspec.core.url_to_fs(url) if is_url else _here(url)
        # A file whose name has brackets or stars is meant by its name, and the study's own folder is no pattern.
        is_pattern = any(c in source for c in "*?[") and not system.exists(pattern)
        asked = pattern.replace(str(root), escape(str(root)), 1) if not is_url else pattern
        paths = sorted(system.glob(asked)) if is_pattern else [pattern]
        found = [file for path in paths for file in _at(system, path, where, is_named=not is_pattern)]
    except SourceError:
        raise
    except (ImportError, OSError, ValueError, RuntimeError) as error:
        raise SourceError(f"{source}: {str(error) or type(error).__name__}", where=where) from None
    except Exception as error:
        told = explain(error)
        if told is None:
            raise
        raise SourceError(f"{source}: {told.message}", where=where, hint=told.hint) from None
    if not found:
        if is_url and not is_pattern:
            _refuse_silence(system, pattern, source, where)
        raise SourceError(f"no file matches {source!r}", where=where, hint=f"Looked for {pattern}.")
    return found


def _here(path: str) -> tuple[Any, str]:
    system = fsspec.filesystem("file")
    return system, system._strip_protocol(path)


def _refuse_silence(system: Any, path: str, source: str, where: str) -> None:
    """Raises SourceError where a file elsewhere is not missing, but nobody could say whether it is there."""
    try:
        system.info(path)
    except Exception as error:
        # fsspec tells every failure as a missing file, and keeps what it was behind that.
        cause = error.__cause__ or error.__context__
        told = None if cause is None or isinstance(cause, FileNotFoundError) else explain(cause)
        if told is not None:
            raise SourceError(f"{source}: {told.message}", where=where, hint=told.hint) from None


def _at(system: Any, path: str, where: str, *, is_named: bool) -> list[SourceFile]:
    """What lies at a path: a file, or the files of a folder that is a dataset. A pattern passes over other folders."""
    if not system.exists(path):
        # Megatron's own programs name the two files without their suffixes.
        return _tokens(system, path, where) if is_named and system.exists(f"{path}.idx") else []
    if not system.isdir(path):
        file = _file(system, path, where)
        return _tokens(system, path.rpartition(".")[0], where) if file.kind == "megatron" else [file]
    members = folder_members(system, path)
    if members is None and is_named:
        raise SourceError(f"{path} is a folder", where=where, hint=f"Name its files, as {path}/*.parquet.")
    return [_member(system, member) for member in members or []]


def _tokens(system: Any, stem: str, where: str) -> list[SourceFile]:
    """The two files of a tokenised dataset."""
    for path, other in ((f"{stem}.bin", f"{stem}.idx"), (f"{stem}.idx", f"{stem}.bin")):
        if not system.exists(path):
            raise SourceError(f"{path} is missing, which {other} belongs to", where=where)
    index = _described(system, f"{stem}.idx", kind="beside")
    return [index, _described(system, f"{stem}.bin", kind="megatron", layout={"index": index.path})]


def _is_quick(source: str) -> bool:
    name = source.removeprefix("builtin:")
    return "://" not in source if name == source else name not in BUILTIN_FIELDS or is_at_hand(name)


def _builtin_file(source: str, where: str) -> SourceFile:
    name = source.removeprefix("builtin:")
    if name not in BUILTIN_FIELDS:
        near = difflib.get_close_matches(name, BUILTIN_FIELDS, n=1, cutoff=0.5)
        hint = f"Did you mean 'builtin:{near[0]}'?" if near else f"There are {', '.join(sorted(BUILTIN_FIELDS))}."
        raise StudyError(f"no builtin dataset is called {name!r}", where=where, hint=hint)
    rows = builtin_rows(name)
    data = orjson.dumps(rows)
    return SourceFile(path=source, kind="builtin", bytes=len(data), stamp=f"{zlib.crc32(data):08x}")


def _file(system: Any, path: str, where: str) -> SourceFile:
    suffixes = [suffix for written in Path(path).suffixes for suffix in _LONG.get(written.lower(), [written.lower()])]
    compression = _COMPRESSIONS.get(suffixes[-1]) if suffixes else None
    bare = suffixes[:-1] if compression else suffixes
    kind = _KINDS.get(bare[-1]) if bare else None
    if kind is None or (kind in _NEVER_COMPRESSED and compression):
        raise SourceError(f"{path} is of no known kind", where=where, hint=_KNOWN)
    return _described(system, path, kind=kind, compression=compression)


def _member(system: Any, member: Member) -> SourceFile:
    return _described(system, member.path, kind=member.kind, layout=member.layout)


def _described(system: Any, path: str, **more: Any) -> SourceFile:
    info = system.info(path)
    stamp = next((str(info[key]) for key in ("mtime", "LastModified", "ETag", "updated") if info.get(key)), "")
    return SourceFile(
        path=system.unstrip_protocol(path) if "file" not in system.protocol else path,
        bytes=int(info.get("size") or 0),
        stamp=stamp,
        **more,
    )
