"""What tables, findings, curves and examples of a study are read from, and whether any of it changed."""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

__all__ = ["INPUTS", "FileIdentity", "identities"]

# Below the folder of a study.
INPUTS = (
    "imported*",
    "tokenizer/manifest.json",
    "validation/manifest.json",
    "validation/*/*",
    "prepared/*/manifest.json",
    "prepared/*/spans-*/manifest.json",
    "runs/*/run.json",
    "runs/*/steps.parquet",
    "runs/*/scores/*.parquet",
    "diagnosis/*.md",
    "diagnosis/*.json",
)


class FileIdentity(NamedTuple):
    """Name, inode, time and size of a file: another one takes its place as a whole."""

    name: str
    inode: int
    time_ns: int
    size: int


def identities(root: Path, patterns: Sequence[str] = INPUTS) -> Iterator[FileIdentity]:
    """The files that are there; hidden ones are being written."""
    for pattern in patterns:
        for file in root.glob(pattern):
            if not file.name.startswith("."):
                with suppress(OSError):
                    status = os.stat(file)
                    name = file.relative_to(root).as_posix()
                    yield FileIdentity(name, status.st_ino, status.st_mtime_ns, status.st_size)
