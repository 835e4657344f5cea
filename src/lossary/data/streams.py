"""Bytes of a file as they are when it is open: what .gz and .zst hold, part by part, or as a file read forwards.

for part in decompressed(file): ...
stream = ForwardStream(decompressed(file))
"""

import gzip
import io
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

import zstandard

from lossary.data.parsing import first_line
from lossary.data.source_files import SourceFile
from lossary.errors import SourceError

__all__ = ["ForwardStream", "decompressed"]

_READ_BYTES = 1 << 20


def decompressed(file: SourceFile) -> Iterator[bytes]:
    """The bytes of a file, part by part. SourceError where its compression is damaged or cut short."""
    try:
        with file.open() as handle:
            if file.compression == "zstd":
                yield from _unzstd(handle)
                return
            stream: Any = gzip.GzipFile(fileobj=handle) if file.compression == "gzip" else handle
            while data := stream.read(_READ_BYTES):
                yield data
    except (EOFError, zlib.error, zstandard.ZstdError, OSError) as error:
        what = f"the {file.compression} stream" if file.compression else "the file"
        raise SourceError(f"{what} is damaged or cut short: {first_line(error)}", where=file.path) from None


def _unzstd(handle: BinaryIO) -> Iterator[bytes]:
    # The library's stream reader takes a stream that was cut short for a whole one; the frame's own end does not lie.
    frame: Any = None
    while data := handle.read(_READ_BYTES):
        while data:
            frame = frame or zstandard.ZstdDecompressor().decompressobj()
            yield frame.decompress(data)
            data = frame.unused_data
            if frame.eof:
                frame = None
    if frame is not None:
        raise EOFError("the last frame has no end")


class ForwardStream(io.RawIOBase):
    """Parts of a file as one that can be read, and sought in forwards alone."""

    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts = parts
        self._part = memoryview(b"")
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, place: int, whence: int = 0) -> int:
        if whence or place < self._place:
            raise io.UnsupportedOperation("the stream is read forwards")
        while self._place < place and self._filled():
            self._take(place - self._place)
        return self._place

    def read(self, size: int = -1) -> bytes:
        taken: list[memoryview] = []
        while size and self._filled():
            taken.append(self._take(size))
            size -= len(taken[-1]) if size > 0 else 0
        return b"".join(taken)

    def _filled(self) -> bool:
        while not self._part:
            part = next(self._parts, None)
            if part is None:
                return False
            self._part = memoryview(part)
        return True

    def _take(self, size: int) -> memoryview:
        """At most `size` bytes of the part in hand; all of it where `size` is below zero."""
        taken = self._part if size < 0 else self._part[:size]
        self._part = self._part[len(taken) :]
        self._place += len(taken)
        return taken
