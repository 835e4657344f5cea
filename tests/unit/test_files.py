"""Files are whole or absent."""

import os
from pathlib import Path

import pytest

from lossary.errors import DataError
from lossary.files import (
    digest_bytes,
    digest_file,
    digest_json,
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
