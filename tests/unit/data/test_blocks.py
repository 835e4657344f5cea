"""Blocks give back what they were given, however they are packed, under one digest."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import lossary.data.blocks as blocks_module
from lossary.data.blocks import Blocks, BlockWriter, Place
from lossary.data.prepare import prepare_datasets
from lossary.data.validation import held_out_hashes, load_validation, prepare_examples
from lossary.files import digest_file
from lossary.folder import StudyFolder
from lossary.study import Study

KINDS = st.sampled_from([np.uint8, np.uint16, np.uint32, np.uint64])
VALUES = KINDS.flatmap(
    lambda kind: st.one_of(
        arrays.arrays(kind, st.integers(0, 200)),
        st.tuples(st.integers(1, 300), st.integers(0, 100)).map(lambda found: np.full(found[0], found[1], kind)),
    )
)
# How the first arrays are read.
KINDS_OF_READING = [
    {},
    {"whole": ["array 0", "array 1"]},
    {"stretches": ["array 0", "array 1"]},
    {"whole": ["array 1"], "stretches": ["array 0"]},
]


@settings(max_examples=40, deadline=None)
@given(
    values=st.lists(VALUES, min_size=1, max_size=4), compressed=st.booleans(), kinds=st.sampled_from(KINDS_OF_READING)
)
def test_what_is_read_is_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, values: list[np.ndarray], compressed: bool, kinds: dict[str, list[str]]
) -> None:
    path = tmp_path_factory.mktemp("blocks") / "some.arrow"
    given_arrays = {f"array {number}": array for number, array in enumerate(values)}
    with BlockWriter(path, compressed=compressed) as writer:
        writer.append(given_arrays, **kinds)
        writer.append(given_arrays, **kinds)
    blocks = Blocks([(path, writer.places)], hint="")
    for number in range(2):
        found = blocks.read(number)
        assert list(found) == list(given_arrays)
        for name, array in given_arrays.items():
            assert found[name].dtype == array.dtype
            np.testing.assert_array_equal(found[name], array)


# A few bytes for each number: none has two, some have, nearly all have, and two are too few.
@pytest.mark.parametrize(
    ("different", "kind"), [(1, np.uint16), (200, np.uint16), (5000, np.int32), (65_000, np.uint16)]
)
def test_stretches_are_those_of_the_array(tmp_path: Path, different: int, kind: type) -> None:
    rng = np.random.default_rng(different)
    values = np.minimum(rng.zipf(1.3, 300_001), different).astype(kind)
    if different == 65_000:
        values = np.arange(300_001).astype(kind)
    with BlockWriter(tmp_path / "some.arrow") as writer:
        writer.append({"values": values}, stretches=["values"])
    read = Blocks([(tmp_path / "some.arrow", writer.places)], hint="").read(0)
    np.testing.assert_array_equal(read["values"], values)
    count = rng.integers(0, 200, 500)
    start = rng.integers(0, len(values) - count)
    start[:3], count[:3] = [0, len(values), len(values) - 1], [130, 0, 1]
    expected = [values[at : at + size] for at, size in zip(start, count, strict=True)]
    np.testing.assert_array_equal(read.stretches("values", start, count), np.concatenate(expected))
    is_shorter = (tmp_path / "some.arrow").stat().st_size < values.nbytes
    assert is_shorter == (different < 65_000)


def test_ascending_numbers_are_what_they_were(tmp_path: Path) -> None:
    values = np.sort(np.random.default_rng(0).integers(0, 1 << 64, 40_000, np.uint64, endpoint=False))
    values[-1] = np.iinfo(np.uint64).max
    with BlockWriter(tmp_path / "some.arrow") as writer:
        writer.append({"values": values}, ascending=["values"])
    found = Blocks([(tmp_path / "some.arrow", writer.places)], hint="").read(0)["values"]
    assert found.dtype == values.dtype
    np.testing.assert_array_equal(found, values)
    assert (tmp_path / "some.arrow").stat().st_size < 0.85 * values.nbytes


def test_one_number_many_times_takes_no_space(tmp_path: Path) -> None:
    sizes = []
    for values in (np.ones(100_000, np.uint8), np.arange(100_000, dtype=np.uint32)):
        with BlockWriter(tmp_path / "some.arrow") as writer:
            writer.append({"values": values})
        sizes.append((tmp_path / "some.arrow").stat().st_size)
    assert sizes[0] < 1000 < 400_000 <= sizes[1]


def test_a_study_made_before_blocks_were_packed_is_the_same_study(
    tiny_folder: StudyFolder, tiny_study: Study, prepared: tuple[Study, StudyFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    def plain(arrays: dict[str, np.ndarray], **_: object) -> dict[str, np.ndarray]:
        return dict(arrays)

    monkeypatch.setattr(blocks_module, "_stored", plain)
    monkeypatch.setattr(blocks_module, "_COMPRESSION", None)
    prepare_datasets(tiny_study, tiny_folder, workers=1)
    prepare_examples(tiny_study, tiny_folder)
    monkeypatch.undo()
    before, now = load_validation(tiny_folder), load_validation(prepared[1])
    assert (before.digest, before.parts) == (now.digest, now.parts)
    assert before.examples.token_ids.tolist() == now.examples.token_ids.tolist()
    assert held_out_hashes(tiny_folder).tolist() == held_out_hashes(prepared[1]).tolist()
    packed, unpacked = (folder.validation_part("stories") / "examples.arrow" for folder in (prepared[1], tiny_folder))
    assert packed.stat().st_size < unpacked.stat().st_size


def test_the_digest_of_plain_blocks_is_that_of_their_file(tmp_path: Path) -> None:
    with BlockWriter(tmp_path / "plain.arrow") as writer:
        writer.append({"values": np.arange(1000)})
    assert writer.digest == digest_file(tmp_path / "plain.arrow")
    with BlockWriter(tmp_path / "packed.arrow", compressed=True) as packed:
        packed.append({"values": np.arange(1000)})
    assert packed.digest == writer.digest
    assert isinstance(packed.places[0], Place)
