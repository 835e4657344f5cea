"""A disk that fills up at any moment: one message, nothing half-written, and the next attempt gives the same bytes."""

import errno
import hashlib
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lossary import pipeline
from lossary.errors import MachineError
from lossary.failures import explain
from lossary.files import read_json, write_atomic, write_directory_atomic, write_json
from lossary.findings.folder import check_table
from lossary.folder import StudyFolder
from lossary.reports.page import write_report
from lossary.study_file import load_study
from lossary.tables.load import open_paired

_STAMP = re.compile(rb'"(stamp|checksum|seal)": "[^"]*"')


class Silent:
    def progress(self, *_: object) -> None: ...
    def event(self, *_: object) -> None: ...
    def note(self, *_: object) -> None: ...


@contextmanager
def full_after(calls: int, operation: str, *, until: int = 10**9) -> Iterator[list[int]]:
    """The disk is full once `operation` was called so often, up to a later call; gives how often it was called."""
    real = getattr(os, operation)
    count = [0]

    def counted(*arguments: Any, **more: Any) -> Any:
        count[0] += 1
        if calls < count[0] <= until:
            # As the system says it: with the name, where it was called with one.
            names = arguments if operation == "replace" else ()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), *map(str, names[:1]))
        return real(*arguments, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, operation, counted)
        yield count


def contents(root: Path) -> dict[str, str]:
    """Every file that a reader may find; leases are no results, nor is by which inode a source is known again."""
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(_STAMP.sub(b"", path.read_bytes())).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not {"leases", "logs"} & set(path.relative_to(root).parts)
    }


def prepare(root: Path) -> None:
    pipeline.prepare(load_study(root), StudyFolder(root), workers=1, listener=Silent())


def report(root: Path) -> None:
    opened = open_paired(root)
    write_report(opened, check_table(opened, where=str(root)))


def at_every_moment(operation: str, work: Callable[[Path], None], source: Path, tmp_path: Path) -> None:
    """Fails at the first call, at the second, …; then again without a fault, and compares."""
    root = tmp_path / "study"

    def again() -> None:
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(source, root)

    again()
    with full_after(10**9, operation) as count:
        work(root)
    whole, moments = contents(root), count[0]
    assert moments > 3
    # A few near both ends and some between: each costs as much as the work.
    chosen = sorted({*range(min(4, moments)), *range(0, moments, max(1, moments // 8)), moments - 1})
    for calls in chosen:
        again()
        with full_after(calls, operation), pytest.raises(OSError, match="No space left") as caught:
            work(root)
        told = explain(caught.value)
        assert isinstance(told, MachineError)
        assert told.where is not None
        assert "MB left" in (told.hint or "")
        assert not [path for path in root.rglob("*.tmp") if ".partial" not in str(path)]
        for name, digest in contents(root).items():
            assert ".partial" in name or whole[name] == digest, name
        work(root)
        assert contents(root) == whole


@pytest.mark.slow
@pytest.mark.parametrize("operation", ["fsync", "replace"])
def test_prepare(operation: str, tmp_path: Path, write_study: Callable[..., None]) -> None:
    write_study(tmp_path / "source")
    at_every_moment(operation, prepare, tmp_path / "source", tmp_path)


@pytest.mark.slow
def test_report(tmp_path: Path, synthetic: Callable[..., Any], planted: Any) -> None:
    study = synthetic({"a": "torch", "b": "tensorflow"})
    for run in ("a", "b"):
        study.score(run, {name: planted() for name in ("reform", "views", "dialogue")})
    at_every_moment("fsync", report, Path(study.folder.root), tmp_path)


@pytest.mark.parametrize("operation", ["fsync", "replace"])
def test_a_file_that_stands_stays_whole(operation: str, tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    write_json(path, {"old": 1})
    with full_after(0, operation), pytest.raises(OSError, match=r"value\.json") as caught:
        write_json(path, {"new": 2})
    assert caught.value.filename == str(path)
    assert [*tmp_path.iterdir()] == [path]
    assert read_json(path) == {"old": 1}


@pytest.mark.parametrize("calls", [0, 1])
def test_a_directory_that_stands_stays_whole(calls: int, tmp_path: Path) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old").write_text("old")
    full, failure = full_after(calls, "replace", until=calls + 1), pytest.raises(OSError, match="folder")
    with full, failure, write_directory_atomic(path) as new:
        (new / "new").write_text("new")
    assert [*tmp_path.iterdir()] == [path]
    assert [*path.iterdir()] == [path / "old"]


def test_an_error_says_how_much_was_written_and_whose_it_is(tmp_path: Path) -> None:
    path = tmp_path / "big"
    with pytest.raises(OSError, match="No space") as caught, write_atomic(path) as temporary:
        temporary.write_bytes(b"x" * 5000)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    told = explain(caught.value)
    assert told is not None
    assert (told.where, "5,000 bytes of it were written" in told.message) == (str(path), True)
    with pytest.raises(OSError, match="source") as other, write_atomic(path):
        raise OSError(errno.EACCES, "denied", str(tmp_path / "source"))
    assert other.value.filename == str(tmp_path / "source")


def test_what_a_library_in_rust_or_c_says_is_understood(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    for said in (
        "I/O error: No space left on device (os error 28)",
        "[Errno 28] writing",
        "IO Error: no space left on device",
    ):
        with pytest.raises(OSError, match="weights"), write_atomic(path):
            raise RuntimeError(said)
    with pytest.raises(RuntimeError, match="shapes"), write_atomic(path):
        raise RuntimeError("shapes differ")


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002, 0o027])
def test_modes_follow_the_umask(mask: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        write_json(tmp_path / "deep" / "file", 1)
        with write_directory_atomic(tmp_path / "folder") as temporary:
            (temporary / "inside").write_text("x")
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    assert {modes["file"], modes["inside"]} == {0o666 & ~mask}
    assert {modes["deep"], modes["folder"]} == {0o777 & ~mask}
