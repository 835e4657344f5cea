"""A sealed file with any byte changed is an error that names it; whole ones and those without a seal are read."""

from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lossary.errors import DataError, ScoreError
from lossary.files import check_json, read_json, write_json, write_plain_json
from lossary.results.parquet import ask, file_name
from lossary.seals import check_sealed, read_sealed, write_sealed

TABLE = pa.table({"name": ["a", "b", "a"] * 40, "value": np.arange(120.0), "count": range(120)})
SCHEMA = TABLE.schema.with_metadata({b"lossary": b'{"step": 12}'})


def put(path: Path, data: bytes) -> None:
    """Writes a file that takes the other's place, as a copy does."""
    new = path.with_suffix(".new")
    new.write_bytes(data)
    new.replace(path)


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sealed") / "scores.parquet"
    write_sealed(path, TABLE.cast(SCHEMA), row_group_size=50)
    return path


def test_a_sealed_file_is_an_ordinary_parquet_file(sealed: Path) -> None:
    assert check_sealed(sealed)
    assert pq.read_table(sealed).equals(TABLE)
    assert read_sealed(sealed, ["count"]).num_columns == 1
    assert pq.read_schema(sealed).metadata[b"lossary"] == b'{"step": 12}'
    assert ask("SELECT sum(value) FROM read_parquet(?)", [file_name(sealed)]) == [(7140.0,)]


def test_every_single_byte_is_covered(sealed: Path, tmp_path: Path) -> None:
    whole, path = sealed.read_bytes(), tmp_path / "x.parquet"
    rng = np.random.default_rng(0)
    for at in range(len(whole)):
        data = bytearray(whole)
        data[at] ^= int(rng.integers(1, 256))
        put(path, bytes(data))
        with pytest.raises(ScoreError, match="not what was written") as refused:
            check_sealed(path)
        assert str(path) in str(refused.value)


@pytest.mark.parametrize("cut", [0, 1, 7, 300, -1, -9])
def test_a_file_that_was_cut_short_is_not_read(sealed: Path, tmp_path: Path, cut: int) -> None:
    path = tmp_path / "x.parquet"
    put(path, sealed.read_bytes()[:cut])
    with pytest.raises(ScoreError) as refused:
        read_sealed(path)
    assert str(path) in str(refused.value)


def test_files_of_earlier_versions_have_no_seal_and_are_read(tmp_path: Path) -> None:
    pq.write_table(TABLE, tmp_path / "old.parquet")
    assert not check_sealed(tmp_path / "old.parquet")
    assert read_sealed(tmp_path / "old.parquet").equals(TABLE)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)  # every write waits for the disk
@given(
    content=st.dictionaries(st.text().filter(lambda key: key != "checksum"), json_values, max_size=4), data=st.data()
)
def test_json_is_read_back_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: dict, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "record.json"
    write_json(path, content)
    assert read_json(path) == content
    whole = path.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    path.write_bytes(whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :])
    with suppress(DataError):
        found = read_json(path)
        # White space, or another spelling of a number.
        assert found == content
        with pytest.raises(DataError):
            check_json(path)


def test_json_with_keys_that_are_numbers_is_read_back(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {10: [1], 9: (2, {3: "x"})})
    assert read_json(tmp_path / "x.json") == {"10": [1], "9": [2, {"3": "x"}]}


def test_json_of_earlier_versions_and_of_others_is_read(tmp_path: Path) -> None:
    write_plain_json(tmp_path / "x.json", {"rows": 3})
    assert read_json(tmp_path / "x.json") == {"rows": 3}
