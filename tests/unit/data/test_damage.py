"""One flipped byte anywhere in prepared data or the validation set is found, or changes nothing."""

import random
import shutil
from pathlib import Path

import pytest

from lossary.data.batches import TrainingData, training_shares
from lossary.data.examples import Examples
from lossary.data.frozen_texts import FrozenTexts, read_texts
from lossary.data.parts import find_examples
from lossary.data.shards import open_dataset
from lossary.data.validation import held_out_hashes, load_validation
from lossary.errors import LossaryError, ShardError
from lossary.files import digest_bytes, digest_json
from lossary.folder import StudyFolder
from lossary.study import Study

_TRIES = 150


@pytest.fixture
def study_copy(prepared: tuple[Study, StudyFolder], tmp_path: Path) -> tuple[Study, StudyFolder]:
    shutil.copytree(prepared[1].root, tmp_path / "study")
    return prepared[0], StudyFolder(tmp_path / "study")


def all_of(examples: Examples | FrozenTexts) -> list[str]:
    return [digest_bytes(value.tobytes()) for value in vars(examples).values()]


def everything(study: Study, folder: StudyFolder) -> str:
    """A digest of every number that training, evaluation, tables and findings read."""
    validation = load_validation(folder)
    first = int(validation.examples.example[0])
    found: list[object] = [validation.digest, validation.manifest, held_out_hashes(folder).tolist()]
    found += [all_of(validation.examples), all_of(find_examples(folder, validation.datasets[0], {first}))]
    found.append(training_shares(study, folder, 32))
    data = TrainingData(study, folder, "torch_a")
    found += [all_of(data.batch(step)) for step in range(40)]
    for name in study.datasets:
        for texts in read_texts(folder, name) or []:
            found.append(all_of(texts))
        dataset = open_dataset(folder, name)
        # Which files were read, and what somebody may look at in them, is no number.
        found.append([dataset.manifest["digest"], dataset.manifest["rows"], dataset.manifest["documents"]])
        for shard in dataset.shards:
            found.append([digest_bytes(value.tobytes()) for value in vars(shard).values() if hasattr(value, "tobytes")])
    return digest_json(found)


def test_a_flipped_byte_is_found_or_harmless(study_copy: tuple[Study, StudyFolder]) -> None:
    study, folder = study_copy
    expected = everything(study, folder)
    files = [path for part in ("prepared", "validation") for path in sorted((folder.root / part).rglob("*.*"))]
    files = [path for path in files if path.is_file()]
    assert {path.name for path in files} >= {
        "manifest.json",
        "documents-00000.arrow",
        "spans-00000.arrow",
        "examples.arrow",
        "hashes.arrow",
        "texts.arrow",
    }
    rng = random.Random(17)
    found: list[LossaryError] = []
    for _ in range(_TRIES):
        path = rng.choice(files)
        data = path.read_bytes()
        place = rng.randrange(len(data))
        path.write_bytes(data[:place] + bytes([data[place] ^ (1 << rng.randrange(8))]) + data[place + 1 :])
        try:
            assert everything(study, folder) == expected, (path, place)
        except LossaryError as error:
            found.append(error)
        path.write_bytes(data)
    assert len(found) > 0.95 * _TRIES
    for error in found:
        assert isinstance(error, ShardError)
        assert error.where
        assert error.hint


@pytest.mark.parametrize("file", ["prepared/lines/documents-00000.arrow", "validation/lines/examples.arrow"])
def test_a_file_that_is_cut_short_or_gone_is_found(study_copy: tuple[Study, StudyFolder], file: str) -> None:
    study, folder = study_copy
    path = folder.root / file
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ShardError, match="cut short"):
        everything(study, folder)
    path.unlink()
    with pytest.raises(ShardError, match="not readable"):
        everything(study, folder)
