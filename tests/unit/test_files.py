"""Files are whole or absent."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from lossary.errors import DataError
from lossary.files import (
    clear_leftovers,
    digest_bytes,
    digest_file,
    digest_json,
    made_folder,
    read_json,
    write_atomic,
    write_directory_atomic,
    write_json,
)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError), write_atomic(path) as temporary:
        temporary.write_bytes(b"half")
        raise RuntimeError
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_a_device_stays_a_device() -> None:
    with write_atomic(Path(os.devnull)) as temporary:
        temporary.write_bytes(b"all of it")
    assert Path(os.devnull).is_char_device()


def test_a_full_device_says_so_and_stays() -> None:
    with pytest.raises(OSError, match="No space left"), write_atomic(Path("/dev/full")) as temporary:
        temporary.write_bytes(b"all of it")
    assert Path("/dev/full").is_char_device()


def test_a_pipe_is_given_all_and_nothing_of_what_failed(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read = []
    for content in (b"whole" * 100_000, None):
        reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()), daemon=True)
        reader.start()
        if content is None:
            with pytest.raises(RuntimeError), write_atomic(pipe) as temporary:
                temporary.write_bytes(b"half")
                raise RuntimeError
            assert len(read) == 1
            pipe.write_bytes(b"")  # lets the reader end
        else:
            with write_atomic(pipe) as temporary:
                temporary.write_bytes(content)
        reader.join(10)
    assert read == [b"whole" * 100_000, b""]
    assert pipe.is_fifo()
    assert os.listdir(tmp_path) == ["pipe"]


def test_standard_output_by_its_name_is_written_to(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from lossary.files import write_atomic\n"
        "with write_atomic(Path('/dev/stdout')) as temporary: temporary.write_text('whole')"
    )
    with (tmp_path / "out.txt").open("w") as out:
        subprocess.run([sys.executable, "-c", code], stdout=out, check=True)
    assert (tmp_path / "out.txt").read_text() == "whole"
    assert Path("/dev/stdout").is_symlink()


def test_a_directory_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "d"
    for content in (b"one", b"two"):
        with write_directory_atomic(path) as temporary:
            (temporary / "f").write_bytes(content)
        assert (path / "f").read_bytes() == content
    with pytest.raises(RuntimeError), write_directory_atomic(path) as temporary:
        (temporary / "f").write_bytes(b"three")
        raise RuntimeError
    assert (path / "f").read_bytes() == b"two"
    assert os.listdir(tmp_path) == ["d"]


def test_json_refuses_nan_and_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"b": 1, "a": "ё"})
    assert read_json(path) == {"a": "ё", "b": 1}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert read_json(path) == {"a": "ё", "b": 1}


def test_damaged_json_is_a_data_error_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"a": ')
    with pytest.raises(DataError, match=r"x\.json"):
        read_json(path)
    with pytest.raises(DataError, match="no such file"):
        read_json(tmp_path / "y.json")


def test_digests_agree(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    assert digest_file(path) == digest_bytes(b"abc")
    assert digest_json({"a": 1, "b": 2}) == digest_json({"b": 2, "a": 1})


def test_what_killed_writes_left_is_cleared_and_nothing_else(tmp_path: Path) -> None:
    script = "import os, sys; from pathlib import Path; from lossary.files import {0} as write\n"
    script += "with write(Path(sys.argv[1])) as temporary: os._exit(9)"
    for kind in ("write_atomic", "write_directory_atomic"):
        subprocess.run([sys.executable, "-c", script.format(kind), str(tmp_path / kind)], check=False)
    kept = [".hidden", ".lock", ".a.tmp", "a.0123456789ab.tmp", ".data.partial"]
    for name in kept:
        (tmp_path / name).write_text("")
    assert len(os.listdir(tmp_path)) == len(kept) + 2
    clear_leftovers(tmp_path, "write_directory_atomic")
    assert len(os.listdir(tmp_path)) == len(kept) + 1
    clear_leftovers(tmp_path, older_than_s=3600)
    assert len(os.listdir(tmp_path)) == len(kept) + 1
    left = next(path for path in tmp_path.iterdir() if path.name not in kept)
    os.utime(left, (0, 0))
    clear_leftovers(tmp_path, older_than_s=3600)
    assert sorted(os.listdir(tmp_path)) == sorted(kept)


def test_folders_that_were_made_for_a_write_go_again_when_it_fails(tmp_path: Path) -> None:
    def failing(path: Path, write: Callable[[Path], AbstractContextManager[Path]]) -> None:
        with pytest.raises(ZeroDivisionError), write(path):
            raise ZeroDivisionError

    for write in (write_atomic, write_directory_atomic, made_folder):
        failing(tmp_path / "a" / "b" / "out", write)
        assert list(tmp_path.iterdir()) == []
    # What stood before stays, and so does what others put there meanwhile.
    (tmp_path / "a").mkdir()
    failing(tmp_path / "a" / "b" / "out", write_atomic)
    assert list(tmp_path.rglob("*")) == [tmp_path / "a"]
    with pytest.raises(ZeroDivisionError), made_folder(tmp_path / "a" / "b") as folder:
        (folder / "kept").touch()
        raise ZeroDivisionError
    assert (tmp_path / "a" / "b" / "kept").is_file()
