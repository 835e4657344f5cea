"""The validation set: nothing straddles, shares hold, frozen means frozen."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.scored import score_run

from lossary.data.batches import open_spans
from lossary.data.parts import examples_plan
from lossary.data.philox import stream_key
from lossary.data.prepare import prepare_datasets
from lossary.data.shards import open_dataset
from lossary.data.spans import StoredSpans, cut_spans, example_rows, packed_spans
from lossary.data.validation import held_out_hashes, load_validation, prepare_examples
from lossary.errors import DataError, ShardError
from lossary.files import read_json, write_json
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
    blocks = open_spans(folder, name, length).blocks
    rows = [StoredSpans(blocks.read(number)).document_rows() for number in range(len(blocks))]
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
    with pytest.raises(DataError, match="too few, 2 in all: none is left for"):
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
def test_a_change_is_taken_while_nothing_depends_on_it(
    tiny_study: Study, make_study: Callable[..., Study], tiny_folder: StudyFolder, change: tuple[str, str]
) -> None:
    prepare(tiny_study, tiny_folder)
    before = load_validation(tiny_folder).digest
    prepare(make_study(change), tiny_folder)
    assert load_validation(tiny_folder).digest != before
    prepare(tiny_study, tiny_folder)
    assert load_validation(tiny_folder).digest == before


def test_another_seed_is_refused_once_a_run_depends_on_the_set(
    tiny_study: Study, make_study: Callable[..., Study], tiny_folder: StudyFolder
) -> None:
    prepare(tiny_study, tiny_folder)
    before = load_validation(tiny_folder).digest
    tiny_folder.checkpoints("torch_a").mkdir(parents=True)
    with pytest.raises(DataError, match=r"another validation set than the frozen one.*torch_a"):
        prepare(make_study(("seed = 3", "seed = 4")), tiny_folder)
    assert load_validation(tiny_folder).digest == before


@pytest.mark.parametrize("change", [("examples = 60", "examples = 40"), ("pairs = 0.25", "pairs = 0.5")])
def test_counts_and_shares_change_nothing_that_is_used_and_it_is_said(
    tiny_study: Study, make_study: Callable[..., Study], tiny_folder: StudyFolder, change: tuple[str, str]
) -> None:
    prepare(tiny_study, tiny_folder)
    before = load_validation(tiny_folder).digest
    score_run(tiny_folder, "torch_a")
    other = make_study(change)
    assert all(
        plan.fate == "kept" and "depend on them" in plan.why for plan in examples_plan(other, tiny_folder).values()
    )
    prepare(other, tiny_folder)
    validation = load_validation(tiny_folder)
    assert validation.digest == before
    assert any("stay as they were frozen" in note and "pairs 15" in note for note in validation.manifest["notes"])


def files_of(path: Path) -> dict[str, bytes]:
    """What every file of a folder holds."""
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


# The new dataset repeats every second story: none of those may become validation text, the old runs trained on them.
GROWN = (
    '[datasets.lines]\nsource = "lines.txt"',
    '[datasets.more]\nsource = "more.jsonl"\n[datasets.lines]\nsource = "lines.txt"',
)
GROWN_SHARES = ("shares = { pairs = 0.25, stories = 0.5,", "shares = { more = 0.25, pairs = 0.25, stories = 0.5,")


def write_more(folder: StudyFolder) -> None:
    stories = (folder.root / "stories.jsonl").read_text().splitlines()
    own = [json.dumps({"text": f"{json.loads(line)['text']} {index} more."}) for index, line in enumerate(stories)]
    (folder.root / "more.jsonl").write_text("\n".join([*stories[::2], *own]) + "\n")


@pytest.mark.parametrize("used", [False, True])
def test_a_new_dataset_freezes_its_own_part_and_leaves_the_others_byte_for_byte(
    tiny_study: Study, make_study: Callable[..., Study], tiny_folder: StudyFolder, used: bool
) -> None:
    prepare(tiny_study, tiny_folder)
    before = load_validation(tiny_folder)
    kept = {name: files_of(tiny_folder.validation_part(name)) for name in before.datasets}
    spans = {name: files_of(tiny_folder.spans(name, 32)) for name in before.datasets}
    trained = {name: training_hashes(tiny_folder, name) for name in before.datasets}
    if used:
        score_run(tiny_folder, "torch_a")
        tiny_folder.checkpoints("torch_a").mkdir(parents=True)
    write_more(tiny_folder)
    study = with_model(make_study(GROWN, GROWN_SHARES), tiny_folder)
    prepare_datasets(study, tiny_folder, workers=1)
    plans = examples_plan(study, tiny_folder)
    assert {name: plan.fate for name, plan in plans.items()} == {
        "pairs": "kept",
        "stories": "kept",
        "more": "frozen",
        "lines": "kept",
    }
    prepare_examples(study, tiny_folder)
    after = load_validation(tiny_folder)
    assert after.digest != before.digest
    assert after.parts.items() >= before.parts.items()
    for name in before.datasets:
        assert files_of(tiny_folder.validation_part(name)) == kept[name]
        assert files_of(tiny_folder.spans(name, 32)) == spans[name]
    counts = np.bincount(after.examples.dataset).tolist()
    assert dict(zip(after.datasets, counts, strict=True)) == {"pairs": 15, "stories": 30, "more": 12, "lines": 15}
    rows = example_rows(after.examples.example[after.examples.dataset == after.datasets.index("more")])
    new = hashes_of(tiny_folder, "more", rows)
    assert not any(new & texts for texts in trained.values())
    held_out = set(held_out_hashes(tiny_folder).tolist())
    assert new <= held_out
    assert not held_out & training_hashes(tiny_folder, "more")
    part = read_json(tiny_folder.validation_part("more") / "manifest.json")
    assert part["checked_against"] == {
        name: open_dataset(tiny_folder, name).manifest["digest"] for name in before.datasets
    }
    assert any("stay as they were frozen" in note for note in after.manifest["notes"])


def with_model(study: Study, folder: StudyFolder) -> Study:
    """The study with the tokenizer that the folder has: what is tokenised already stays as it is."""
    model = folder.root / "kept.model"
    model.write_bytes((folder.tokenizer / "spiece.model").read_bytes())
    tokenizer = study.tokenizer.model_copy(update={"model": str(model)})
    return study.model_copy(update={"tokenizer": tokenizer})


def test_a_removed_dataset_leaves_the_others_and_comes_back_as_it_was(
    tiny_study: Study, tiny_folder: StudyFolder
) -> None:
    tiny_study = with_prepared_model(tiny_study, tiny_folder)
    prepare(tiny_study, tiny_folder)
    before = load_validation(tiny_folder)
    files = files_of(tiny_folder.validation_part("pairs"))
    score_run(tiny_folder, "torch_a")
    fewer = tiny_study.model_copy(update={"datasets": {n: d for n, d in tiny_study.datasets.items() if n != "lines"}})
    prepare(fewer, tiny_folder)
    without = load_validation(tiny_folder)
    assert without.datasets == ["pairs", "stories"]
    assert without.parts == {name: before.parts[name] for name in without.datasets}
    assert files_of(tiny_folder.validation_part("pairs")) == files
    prepare(tiny_study, tiny_folder)
    assert load_validation(tiny_folder).digest == before.digest


def with_prepared_model(study: Study, folder: StudyFolder) -> Study:
    prepare_datasets(study, folder, workers=1)
    return with_model(study, folder)


def test_a_dataset_that_changed_is_frozen_anew_until_a_run_depends_on_it(
    tiny_study: Study, tiny_folder: StudyFolder
) -> None:
    tiny_study = with_prepared_model(tiny_study, tiny_folder)
    prepare(tiny_study, tiny_folder)
    score_run(tiny_folder, "torch_a")
    with (tiny_folder.root / "lines.txt").open("a") as file:
        file.write("one more line.\n")
    assert examples_plan(tiny_study, tiny_folder, anew=["lines"])["lines"].fate == "refused"
    prepare_datasets(tiny_study, tiny_folder, workers=1)
    plans = examples_plan(tiny_study, tiny_folder)
    assert {name: plan.fate for name, plan in plans.items()} == {"pairs": "kept", "stories": "kept", "lines": "refused"}
    assert "torch_a" in plans["lines"].why
    with pytest.raises(DataError, match=r"lines: its documents.*torch_a"):
        prepare_examples(tiny_study, tiny_folder)
    tiny_folder.scores("torch_a", 12).unlink()
    prepare_examples(tiny_study, tiny_folder)
    assert load_validation(tiny_folder).manifest["per_dataset"]["lines"]["examples"] == 15


def test_a_freezing_that_was_cut_short_ends_as_if_it_had_not_been(tiny_study: Study, tiny_folder: StudyFolder) -> None:
    prepare(tiny_study, tiny_folder)
    whole = files_of(tiny_folder.validation)
    # As after a kill between the second part and the list of parts.
    (tiny_folder.validation / "manifest.json").unlink()
    shutil.rmtree(tiny_folder.validation_part("lines"))
    prepare(tiny_study, tiny_folder)
    assert files_of(tiny_folder.validation) == whole


def test_a_set_in_one_piece_is_refused_where_runs_depend_on_it_and_made_anew_elsewhere(
    tiny_study: Study, tiny_folder: StudyFolder, prepared: tuple[Study, StudyFolder]
) -> None:
    prepare_datasets(tiny_study, tiny_folder, workers=1)
    earlier = {"schema": 1, "digest": "blake2b:0", "datasets": list(tiny_study.datasets), "request": "blake2b:1"}
    write_json(tiny_folder.validation / "manifest.json", earlier)
    with pytest.raises(ShardError, match="earlier lossary"):
        load_validation(tiny_folder)
    tiny_folder.checkpoints("torch_a").mkdir(parents=True)
    with pytest.raises(DataError, match=r"earlier lossary.*torch_a"):
        prepare_examples(tiny_study, tiny_folder)
    tiny_folder.checkpoints("torch_a").rmdir()
    prepare_examples(tiny_study, tiny_folder)
    assert load_validation(tiny_folder).digest == load_validation(prepared[1]).digest


def test_tampering_is_found(tiny_study: Study, tiny_folder: StudyFolder) -> None:
    prepare(tiny_study, tiny_folder)
    path = tiny_folder.validation_part("pairs") / "examples.arrow"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ShardError, match="not what was written"):
        _ = load_validation(tiny_folder).examples


def test_entropies_are_those_of_the_frozen_targets(prepared: tuple[Study, StudyFolder]) -> None:
    validation = load_validation(prepared[1])
    number = validation.datasets.index("stories")
    examples = validation.examples.take(np.flatnonzero(validation.examples.dataset == number))
    labels = examples.labels[examples.weights > 0].tolist()
    shares = np.array([labels.count(piece) / len(labels) for piece in set(labels)])
    described = validation.manifest["per_dataset"]["stories"]
    assert described["masked"] == len(labels)
    assert described["unigram_entropy_nats"] == pytest.approx(-(shares * np.log(shares)).sum())


@pytest.mark.parametrize("taken", [[], [0], [0, 1, 2], [5], [-1], list(range(0, 300, 2)), list(range(300))])
def test_stored_spans_name_the_documents_that_have_one(prepared: tuple[Study, StudyFolder], taken: list[int]) -> None:
    """Whichever documents were taken out, the first of a block among them."""
    study, folder = prepared
    shard = open_dataset(folder, "stories").shards[0]
    spans = cut_spans(shard, length=32, short_rate=0.1, key=stream_key(study.seed, "spans", "stories", 32))
    rows = example_rows(spans.example)
    kept = spans.take(~np.isin(rows, shard.row[[i for i in taken if i < len(shard.row)]]))
    stored = StoredSpans(packed_spans(kept, shard))
    assert np.array_equal(stored.document_rows(), np.unique(example_rows(kept.example)))
    again = stored.rows(np.arange(len(stored)))
    assert np.array_equal(again.example, kept.example)
