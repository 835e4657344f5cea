"""The examples that make the gap, paired and in order; and their texts."""

import shutil
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.scored import score_run

from lossary.data.validation import load_validation
from lossary.errors import ScoreError, UsageError
from lossary.folder import StudyFolder
from lossary.results.records import read_header, write_scores
from lossary.results.scorefile import ScoreFile
from lossary.study import Study
from lossary.tables.deltas import compare_files
from lossary.tables.examples import Gap, Pair, open_gap
from lossary.tables.texts import open_texts, texts_of

PAIR = Pair(first="torch_a", second="tf_a", dataset="stories")


@pytest.fixture
def scored(prepared: tuple[Study, StudyFolder], tmp_path: Path) -> tuple[Study, StudyFolder]:
    """The tiny study with scores of two runs, in a folder whose name is a pattern to whoever expands patterns."""
    study, before = prepared
    root = tmp_path / "a[1]*?"
    shutil.copytree(before.root, root)
    folder = StudyFolder(root)
    score_run(folder, "torch_a")
    score_run(folder, "tf_a", mean=4.0)
    return study, folder


def gap_of(scored: tuple[Study, StudyFolder], pair: Pair = PAIR) -> Gap:
    return open_gap(*scored, pair)


@pytest.mark.parametrize("measure", ["mlm", "sop"])
def test_the_gap_is_the_difference_that_compare_shows(scored: tuple[Study, StudyFolder], measure: str) -> None:
    study, folder = scored
    pair = Pair(first="torch_a", second="tf_a", dataset="stories", measure=measure)
    gap = gap_of(scored, pair)
    files = [ScoreFile(folder.scores(run, 12)) for run in ("torch_a", "tf_a")]
    expected = compare_files(files[0], files[1], list(study.datasets)).estimates["stories"][f"{measure}_loss"]
    assert gap.delta == pytest.approx(expected.value, rel=1e-12)
    assert len(gap) == expected.n
    assert gap.histogram is not None
    assert sum(gap.histogram.counts) == len(gap)
    assert gap.worse + gap.better <= len(gap)


def test_pages_are_in_order_without_holes_and_agree_with_the_files(scored: tuple[Study, StudyFolder]) -> None:
    gap = gap_of(scored)
    pages = [row for start in range(0, len(gap) + 7, 7) for row in gap.page("worse", offset=start, limit=7)]
    assert [row.rank for row in pages] == list(range(1, len(gap) + 1))
    assert [row.delta for row in pages] == sorted((row.delta for row in pages), reverse=True)
    assert len({row.example for row in pages}) == len(gap)
    table = pq.read_table(scored[1].scores("tf_a", 12)).to_pylist()
    stored = {(row["objective"], row["example"]): row for row in table if row["dataset"] == "stories"}
    for row in pages:
        for objective, score in row.second.items():
            assert score._asdict().items() <= stored[objective, row.example].items()
        assert row.delta == row.second["mlm"].nats - row.first["mlm"].nats
        assert set(row.second) == {name for name, example in stored if example == row.example}
    assert [row.delta for row in gap.page("better", limit=3)] == sorted(row.delta for row in pages)[:3]
    largest = [abs(row.delta) for row in gap.page("largest", limit=len(gap))]
    assert largest == sorted((abs(row.delta) for row in pages), reverse=True)
    assert gap.share("worse", len(gap)) == pytest.approx(1.0)


def test_an_example_with_other_masks_is_no_partner(scored: tuple[Study, StudyFolder]) -> None:
    _, folder = scored
    path = folder.scores("tf_a", 12)
    table, before = pq.read_table(path), gap_of(scored)
    at = table.column("dataset").to_pylist().index("stories")
    targets = table.column("targets").to_pylist()
    targets[at] += 1
    changed = table.set_column(table.column_names.index("targets"), "targets", pa.array(targets, pa.int32()))
    write_scores(path, changed, read_header(path))
    after = gap_of(scored)
    assert (len(after), after.unmatched) == (len(before) - 1, before.unmatched + 2)


def test_scores_that_were_replaced_are_not_shown_as_those_that_were_paired(scored: tuple[Study, StudyFolder]) -> None:
    gap = gap_of(scored)
    score_run(scored[1], "tf_a", mean=9.0)
    with pytest.raises(ScoreError, match="replaced"):
        gap.page()
    path = scored[1].scores("tf_a", 12)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ScoreError, match="not readable"):
        gap.page()


def test_texts_are_those_of_the_validation_set_with_targets_in_their_places(scored: tuple[Study, StudyFolder]) -> None:
    folder = scored[1]
    gap = gap_of(scored)
    rows = gap.page(limit=len(gap))
    validation = load_validation(folder)
    examples, texts = validation.examples, open_texts(folder)
    index = validation.datasets.index("stories")
    at = {int(examples.example[i]): i for i in range(len(examples)) if examples.dataset[i] == index}
    for row, text in zip(rows, texts.of("stories", rows), strict=True):
        ids = examples.token_ids[at[row.example]].copy()
        second = row.second["mlm"]
        used = examples.positions[at[row.example], : second.targets]
        ids[used] = examples.labels[at[row.example], : second.targets]
        whole = texts.tokenizer.decode([int(i) for i in ids[: second.tokens] if i not in (2, 3)])
        assert text.plain.replace("\n", "").replace(" ", "") == whole.replace(" ", "")
        masked = [part.masked for segment in text.segments for part in segment if part.masked is not None]
        assert len(masked) == second.targets
        assert sum(piece.correct[1] for piece in masked) == second.correct
        assert {piece.seen for piece in masked if piece.seen == "[MASK]"} <= {"[MASK]"}
        assert len(text.segments) == (1 if row.label is None else 2)


def test_scores_outlive_the_texts_that_they_were_made_on(scored: tuple[Study, StudyFolder]) -> None:
    folder = scored[1]
    rows = gap_of(scored).page(limit=2)
    assert [text.reason for text in open_texts(folder).of("lines", rows)] == [
        "the frozen validation set has no such example"
    ] * 2
    (folder.validation_part("stories") / "examples.arrow").unlink()
    assert (
        texts_of(partial(open_texts, folder), "stories", rows)[0].reason
        == "the frozen validation set is not in this folder"
    )
    assert not texts_of(partial(open_texts, folder), "stories", rows)[0].segments


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (Pair(first="tf_a", second="tf_a", dataset="stories"), "with itself"),
        (Pair(first="tf_a", second="torch_a", dataset="../stories"), "no dataset is called"),
        (Pair(first="nobody", second="torch_a", dataset="stories"), "no run is called"),
    ],
)
def test_names_are_looked_up(scored: tuple[Study, StudyFolder], pair: Pair, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        gap_of(scored, pair)


def test_a_run_without_scores_says_so_and_no_pairs_are_no_gap(scored: tuple[Study, StudyFolder]) -> None:
    with pytest.raises(ScoreError, match="torch_stories"):
        gap_of(scored, Pair(first="tf_a", second="torch_stories", dataset="stories"))
    score_run(scored[1], "torch_stories", has_sop=False)
    gap = gap_of(scored, Pair(first="tf_a", second="torch_stories", dataset="stories", measure="sop"))
    assert (len(gap), gap.delta, gap.histogram, gap.page(), gap.share("worse", 3)) == (0, None, None, [], None)
