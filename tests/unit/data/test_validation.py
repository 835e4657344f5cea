"""The validation set: nothing straddles, shares hold, frozen means frozen."""

import json
from collections.abc import Callable

import numpy as np
import pytest

from lossary.data.prepare import prepare_datasets
from lossary.data.shards import open_dataset
from lossary.data.spans import example_rows, read_spans
from lossary.data.validation import load_validation, prepare_examples
from lossary.errors import DataError, ShardError
from lossary.files import read_json
from lossary.folder import StudyFolder
from lossary.study import Study


def prepare(study: Study, folder: StudyFolder) -> None:
    prepare_datasets(study, folder, workers=1)
    prepare_examples(study, folder)


def hashes_of(folder: StudyFolder, name: str, rows: np.ndarray) -> set[int]:
    """Text hashes of some rows of a dataset."""
    found = set()
    for shard in open_dataset(folder, name).shards:
        found |= set(shard.text_hash[np.isin(shard.row, rows)].tolist())
    return found


def training_hashes(folder: StudyFolder, name: str, length: int = 32) -> set[int]:
    rows = [
        example_rows(read_spans(folder.spans(name, length) / path.name).example)
        for path in open_dataset(folder, name).shard_paths
    ]
    return hashes_of(folder, name, np.concatenate(rows))


def test_shares_hold_to_one_example(prepared: tuple[Study, StudyFolder]) -> None:
    validation = load_validation(prepared[1])
    counts = np.bincount(validation.examples.dataset)
    assert dict(zip(validation.datasets, counts.tolist(), strict=True)) == {"pairs": 15, "stories": 30, "lines": 15}


def test_no_text_stands_on_both_sides(prepared: tuple[Study, StudyFolder]) -> None:
    study, folder = prepared
    validation = load_validation(folder)
    held_out: set[int] = set()
    for number, name in enumerate(study.datasets):
        chosen = validation.examples.example[validation.examples.dataset == number]
        held_out |= hashes_of(folder, name, example_rows(chosen))
    for name in study.datasets:
        assert not held_out & training_hashes(folder, name), name


def test_duplicates_leave_training_in_every_dataset_and_stand_once(tiny_study: Study, tiny_folder: StudyFolder) -> None:
    stories = (tiny_folder.root / "stories.jsonl").read_text()
    texts = [json.loads(line)["text"] for line in stories.splitlines()]
    (tiny_folder.root / "stories.jsonl").write_text(stories * 3)
    # The same texts in other clothes: upper case, other spaces.
    (tiny_folder.root / "lines.txt").write_text("\n".join("  ".join(text.upper().split()) for text in texts) + "\n")
    prepare(tiny_study, tiny_folder)
    validation = load_validation(tiny_folder)
    number = validation.datasets.index("stories")
    rows = example_rows(validation.examples.example[validation.examples.dataset == number])
    held_out = hashes_of(tiny_folder, "stories", rows)
    assert len(held_out) == len(np.unique(rows))
    for name in ("stories", "lines"):
        assert not held_out & training_hashes(tiny_folder, name)


def test_a_short_dataset_shrinks_the_total_and_keeps_the_shares(
    make_study: Callable[..., Study], tiny_folder: StudyFolder
) -> None:
    study = make_study(("examples = 60", "examples = 4000"))
    prepare(study, tiny_folder)
    manifest = load_validation(tiny_folder).manifest
    assert manifest["examples"] < 4000 == manifest["asked"]
    counts = {name: described["examples"] for name, described in manifest["per_dataset"].items()}
    assert abs(counts["stories"] - 2 * counts["pairs"]) <= 2
    assert any(f"{manifest['examples']:,} examples where 4,000" in note for note in manifest["notes"])
    for name in study.datasets:
        left = read_json(tiny_folder.spans(name, 32) / "manifest.json")["rows"]
        assert left >= 0.79 * open_dataset(tiny_folder, name).manifest["rows"]


def test_too_few_examples_for_all_datasets_is_refused(
    make_study: Callable[..., Study], tiny_folder: StudyFolder
) -> None:
    study = make_study(("examples = 60", "examples = 2"))
    with pytest.raises(DataError, match="too few: none is left for"):
        prepare(study, tiny_folder)


def test_frozen_again_it_is_the_same(
    tiny_study: Study, tiny_folder: StudyFolder, prepared: tuple[Study, StudyFolder]
) -> None:
    prepare(tiny_study, tiny_folder)
    first = load_validation(tiny_folder)
    prepare(tiny_study, tiny_folder)
    assert load_validation(tiny_folder).digest == first.digest == load_validation(prepared[1]).digest


@pytest.mark.parametrize(
    "change", [("seed = 3", "seed = 4"), ("examples = 60", "examples = 40"), ("pairs = 0.25", "pairs = 0.5")]
)
def test_a_change_is_taken_while_nothing_depends_on_it_and_refused_then(
    tiny_study: Study, make_study: Callable[..., Study], tiny_folder: StudyFolder, change: tuple[str, str]
) -> None:
    prepare(tiny_study, tiny_folder)
    before = load_validation(tiny_folder).digest
    other = make_study(change)
    prepare(other, tiny_folder)
    assert load_validation(tiny_folder).digest != before
    tiny_folder.checkpoints("torch_a").mkdir(parents=True)
    with pytest.raises(DataError, match=r"another validation set than the frozen one.*torch_a"):
        prepare(tiny_study, tiny_folder)
    assert load_validation(tiny_folder).digest != before


def test_tampering_is_found(tiny_study: Study, tiny_folder: StudyFolder) -> None:
    prepare(tiny_study, tiny_folder)
    path = tiny_folder.validation / "examples.arrow"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ShardError, match="missing or was changed"):
        load_validation(tiny_folder)


def test_entropies_are_those_of_the_frozen_targets(prepared: tuple[Study, StudyFolder]) -> None:
    validation = load_validation(prepared[1])
    number = validation.datasets.index("stories")
    examples = validation.examples.take(np.flatnonzero(validation.examples.dataset == number))
    labels = examples.labels[examples.weights > 0].tolist()
    shares = np.array([labels.count(piece) / len(labels) for piece in set(labels)])
    described = validation.manifest["per_dataset"]["stories"]
    assert described["masked"] == len(labels)
    assert described["unigram_entropy_nats"] == pytest.approx(-(shares * np.log(shares)).sum())
