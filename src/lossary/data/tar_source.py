"""WebDataset: archives whose members, up to the first dot of their names, are the fields of one row.

    0001.txt 0001.json 0001.jpg        # a row with the fields txt, json.… and a picture that is passed over

Members are read one after another; nothing is unpacked to disk. What is no text is not read, and counted.
"""

import tarfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lossary.data.parsing import MOST_DOCUMENT_BYTES, Reading, first_line
from lossary.data.row_lines import json_value
from lossary.data.source_files import SourceFile
from lossary.data.streams import ForwardStream, decompressed
from lossary.errors import SourceError

__all__ = ["TarRows"]

_JSON = ("json", "jsn")
_PICTURES = ["jpg", "jpeg", "png", "ppm", "pgm", "pbm", "gif", "bmp", "tif", "tiff", "webp", "ico", "pdf"]
_SOUNDS = ["wav", "flac", "mp3", "mp4", "m4a", "ogg", "opus", "avi", "mov", "mkv", "webm"]
_ARRAYS = ["npy", "npz", "pt", "pth", "pkl", "pickle", "pyd", "ten", "tb", "safetensors", "mp", "msg", "msgpack", "bin"]
_PACKED = ["h5", "parquet", "arrow", "zip", "tar", "gz", "zst", "bz2", "xz"]
_NO_TEXT = frozenset(_PICTURES + _SOUNDS + _ARRAYS + _PACKED)


class _Header(tarfile.TarInfo):
    """A member's header. The library takes a damaged one, or none at all, for the end of the archive."""

    @classmethod
    def frombuf(cls, buf: Any, encoding: str, errors: str) -> "_Header":
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"{error} where a member or the archive's end is expected") from None


class TarRows:
    """The rows of an archive, in order; `skipped` counts the members that were passed over so far."""

    def __init__(self, file: SourceFile, reading: Reading) -> None:
        self.file = file
        self.columns = reading.columns
        self.skipped: Counter[str] = Counter()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        row: dict[str, Any] = {}
        for key, field, value in self._members():
            if row and row["__key__"] != key:
                yield row
                row = {}
            row = row or {"__key__": key}
            if field in row:
                raise SourceError(f"the member {key}.{field} is there twice", where=self.file.path)
            row[field] = value
        if row:
            yield row

    def _members(self) -> Iterator[tuple[str, str, Any]]:
        """Key, field and value of each member that belongs to a row; None for those that are not read."""
        with self._reported():
            stream = ForwardStream(decompressed(self.file))
            archive = tarfile.TarFile(fileobj=stream, tarinfo=_Header, errorlevel=2)
            while (member := archive.next()) is not None:
                archive.members = []  # type: ignore[attr-defined]  # It would keep all of them.
                key, field = _key_and_field(member.name)
                if member.isdir():
                    continue
                if not member.isreg() or not field:
                    self.skipped["links and others" if not member.isreg() else "without a suffix"] += 1
                    continue
                yield key, field, self._value(archive, member, field)
            self._check_end(stream)

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except (tarfile.TarError, OSError, ValueError, OverflowError) as error:
            raise SourceError(
                f"the archive is damaged or cut short: {first_line(error)}", where=self.file.path
            ) from None

    def _value(self, archive: tarfile.TarFile, member: tarfile.TarInfo, field: str) -> Any:
        wanted = any(name == field or name.startswith(f"{field}.") for name in self.columns)
        if field.rpartition(".")[2] in _NO_TEXT:
            if wanted:
                hint = "A field is the suffix of members that are text, as txt, or a place in JSON, as json.text."
                raise SourceError(f"the member {member.name} is no text", where=self.file.path, hint=hint)
            self.skipped[f".{field}"] += 1
            return None
        if not wanted:
            return None
        if member.size > MOST_DOCUMENT_BYTES:
            most = f"{MOST_DOCUMENT_BYTES >> 20} MiB"
            raise SourceError(f"the member {member.name} is longer than {most}", where=self.file.path)
        opened = archive.extractfile(member)
        assert opened is not None, member.name
        data = opened.read()
        if len(data) != member.size:
            raise tarfile.ReadError(f"{member.name} has {len(data):,} of {member.size:,} bytes")
        return json_value(data) if field.rpartition(".")[2] in _JSON else data

    def _check_end(self, stream: ForwardStream) -> None:
        """Behind the end are zeros; archives that were put one after another would lose all but the first."""
        while data := stream.read(1 << 20):
            if data.strip(b"\0"):
                raise SourceError(
                    "more follows the end of the archive",
                    where=self.file.path,
                    hint="Were several put into one file? Name them one by one, or as a glob.",
                )


def _key_and_field(name: str) -> tuple[str, str]:
    """`a/b.seg.txt` is the field `seg.txt` of the row `a/b`."""
    folder, slash, base = name.rpartition("/")
    key, _, field = base.partition(".")
    if not key or (key.startswith("__") and key.endswith("__")):
        return "", ""  # Hidden files, and what WebDataset keeps for itself.
    return f"{folder}{slash}{key}", field.lower()
