"""Evaluations that stop early: random order, the same rows as whole scoring, and answers that say what they are."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from tests.unit.scoring.test_score import Counting
from typer.testing import CliRunner

import lossary
from lossary.cli.main import app
from lossary.data.examples import Examples
from lossary.data.validation import load_validation, prepare_examples
from lossary.errors import ScoreError, UsageError
from lossary.folder import StudyFolder
from lossary.launcher import NotesOnly
from lossary.pipeline import Decide, evaluate_until_decided
from lossary.results.records import ScoreHeader, read_header, write_score_windows
from lossary.results.stopped import Stopped
from lossary.results.whole_scores import check_scores
from lossary.scoring.score import score_windows
from lossary.scoring.sequential import Until, frozen_order, score_in_windows
from lossary.scoring.views import open_view
from lossary.study import Study
from lossary.tables.build import build_table, scored_files
from lossary.tables.sequential import sequential_answers
from lossary.verify import verify

SHARES = {"pairs": 0.25, "stories": 0.5, "lines": 0.25}


class Shifted(Counting):
    """As `Counting`, with more nats a target where `by` says so of an example."""

    def __init__(self, by: Callable[[Examples], np.ndarray[Any, Any]]) -> None:
        super().__init__()
        self._by = by

    def score(self, examples: Examples) -> Any:
        found = super().score(examples)
        more = self._by(examples).astype(np.float32)[:, None] * (examples.weights > 0)
        found.position_nats = found.position_nats + more
        found.rows.mlm_nats = found.position_nats.sum(axis=1, dtype=np.float64)
        return found


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory, write_study: Callable[..., None]) -> tuple[Study, StudyFolder]:
    """The tiny study with 900 frozen examples, of which `torch_a` was scored whole."""
    from lossary.data.prepare import prepare_datasets
    from lossary.study_file import load_study

    root = tmp_path_factory.mktemp("large")
    write_study(root)
    lines = (root / "lines.txt").read_text().splitlines()
    (root / "lines.txt").write_text("".join(f"{line} {number % 97}.\n" for number in range(6) for line in lines))
    path = root / "study.toml"
    text = path.read_text().replace("examples = 60", "examples = 900\nmax_fraction = 0.5")
    path.write_text(
        text.replace("pairs = 0.25, stories = 0.5, lines = 0.25", "pairs = 0.15, stories = 0.15, lines = 0.7")
    )
    study, folder = load_study(path), StudyFolder(root)
    prepare_datasets(study, folder, workers=1)
    prepare_examples(study, folder)
    view = open_view(folder, None, "mlm")
    header = header_of(folder, "torch_a")
    scores = score_windows(Counting(), view.windows(), header, total=len(view), emit=lambda _: None)
    write_score_windows(folder.scores("torch_a", 12), scores, header)
    return study, folder


@pytest.fixture
def study(large: tuple[Study, StudyFolder], tmp_path: Path) -> tuple[Study, StudyFolder]:
    shutil.copytree(large[1].root, tmp_path / "study")
    return large[0], StudyFolder(tmp_path / "study")


def header_of(folder: StudyFolder, run: str) -> ScoreHeader:
    validation = load_validation(folder)
    return ScoreHeader(
        run=run,
        step=12,
        objectives=("mlm", "sop"),
        validation_digest=validation.digest,
        validation=validation.parts,
        weights_digest=f"blake2b:{run}",
        backend="torch",
    )


def stop(
    folder: StudyFolder, by: Callable[[Examples], np.ndarray[Any, Any]], **more: Any
) -> tuple[Stopped, list[dict[str, Any]]]:
    """Scores `torch_stories` against `torch_a` until it is decided."""
    told: list[dict[str, Any]] = []
    until = Until(base=folder.scores("torch_a", 12), shares=SHARES, **more)
    path, view = folder.sequential("torch_stories", 12), open_view(folder, None, "mlm")
    header = header_of(folder, "torch_stories")
    return score_in_windows(path, Shifted(by), view, header, until, emit=lambda event: told.append(dict(event))), told


def noise(examples: Examples) -> np.ndarray[Any, Any]:
    """A deviation of about 0.2 with mean 0, that follows from the example."""
    return np.sin(examples.example.astype(np.float64) * 12.9898) * 0.3


def test_the_order_is_a_permutation_and_no_order_of_the_source() -> None:
    order = frozen_order("blake2b:1", 5000)
    assert np.array_equal(np.sort(order), np.arange(5000))
    assert np.array_equal(order, frozen_order("blake2b:1", 5000))
    assert not np.array_equal(order, frozen_order("blake2b:2", 5000))
    # Every window has examples of every part of the source, as many as chance gives.
    windows = order.reshape(10, 500)
    counts = np.stack([np.bincount(window * 10 // 5000, minlength=10) for window in windows])
    assert ((counts - 50) ** 2 / 50).sum() < 130  # χ² with 81 degrees of freedom: 1 in 2,000
    assert abs(np.corrcoef(order, np.arange(5000))[0, 1]) < 0.05


def test_a_large_difference_stops_early_with_the_rows_that_whole_scoring_has(study: tuple[Study, StudyFolder]) -> None:
    folder = study[1]
    stopped, told = stop(folder, lambda examples: 1.0 + noise(examples))
    assert {part.answer for part in stopped.parts.values()} == {"differs"}
    assert stopped.parts["lines"].examples < 0.5 * stopped.parts["lines"].available
    assert told[-1]["text"].endswith("examples were scored; all datasets are decided")
    path = folder.sequential("torch_stories", 12)
    header = check_scores(path)
    assert header.part("lines") is None
    assert header.stopped == stopped
    found = {
        (row["objective"], row["dataset"], row["example"]): row["targets"] for row in pq.read_table(path).to_pylist()
    }
    base = pq.read_table(folder.scores("torch_a", 12)).to_pylist()
    whole = {(row["objective"], row["dataset"], row["example"]): row["targets"] for row in base}
    assert found.items() < whole.items()
    examples = {key for key in found if key[:2] == ("mlm", "lines")}
    assert len(examples) == stopped.parts["lines"].examples
    for part in stopped.parts.values():
        assert part.low is not None
        assert part.high is not None
        assert part.low < 1.0 < part.high


def test_what_does_not_differ_is_scored_whole_or_called_equal_before(study: tuple[Study, StudyFolder]) -> None:
    folder = study[1]
    stopped, _ = stop(folder, noise)
    lines = stopped.parts["lines"]
    assert (lines.answer, lines.examples) == ("undecided", lines.available)
    header = read_header(folder.sequential("torch_stories", 12))
    # A dataset that was scored whole has whole scores; the others have none.
    assert header.part("lines") == lines.part
    equal, _ = stop(folder, noise, margin=0.2)
    assert equal.parts["lines"].answer == "equal"
    assert equal.parts["lines"].examples < lines.available
    anytime, _ = stop(folder, lambda examples: 1.0 + noise(examples), rule="anytime")
    assert {part.answer for part in anytime.parts.values()} == {"differs"}


class MoreRight(Counting):
    """As `Counting`, with one more right answer on every other example."""

    def score(self, examples: Examples) -> Any:
        found = super().score(examples)
        found.rows.mlm_correct = found.rows.mlm_correct + (examples.example % 2 == 0)
        return found


def test_any_metric_that_was_scored_decides(study: tuple[Study, StudyFolder]) -> None:
    opened, folder = study

    def decided(metric: str, scorer: Counting) -> Stopped:
        until = Until(base=folder.scores("torch_a", 12), shares=SHARES, metric=metric)
        path, view = folder.sequential("torch_stories", 12), open_view(folder, None, "mlm")
        return score_in_windows(path, scorer, view, header_of(folder, "torch_stories"), until, emit=lambda _: None)

    right = decided("mlm_accuracy", MoreRight())
    lines = right.parts["lines"]
    assert (right.metric, lines.answer) == ("mlm_accuracy", "differs")
    assert lines.examples < lines.available
    base = pq.read_table(folder.scores("torch_a", 12)).to_pylist()
    rows = [row for row in base if (row["objective"], row["dataset"]) == ("mlm", "lines")]
    whole = sum(row["example"] % 2 == 0 for row in rows) / sum(row["targets"] for row in rows)
    assert lines.low is not None
    assert lines.high is not None
    assert lines.low < whole < lines.high
    # Where no answer changed there is no interval, however many examples were scored.
    same = decided("sop_accuracy", Counting()).parts["stories"]
    assert (same.answer, same.low, same.value) == ("undecided", None, 0.0)
    assert "0 examples are answered otherwise" in str(same.reason)
    shown = sequential_answers(opened, folder, ["torch_stories"], superseded=True)[0]
    assert {answer.metric for answer in shown} == {"sop_accuracy"}
    for metric, told in (("sop", "no metric is called 'sop'"), ("clm_loss", "no run has whole scores with clm_loss")):
        with pytest.raises(UsageError, match=told):
            evaluate_until_decided(opened, folder, Decide(metric=metric), listener=NotesOnly())


def test_losses_that_are_no_numbers_decide_nothing(study: tuple[Study, StudyFolder]) -> None:
    def broken(examples: Examples) -> np.ndarray[Any, Any]:
        return np.where(examples.example % 5 == 0, np.nan, 1.0)

    stopped, _ = stop(study[1], broken)
    part = stopped.parts["lines"]
    assert (part.answer, part.value, part.low) == ("undecided", None, None)
    assert "gave no finite loss" in str(part.reason)


def test_a_base_of_other_examples_is_refused(study: tuple[Study, StudyFolder]) -> None:
    folder = study[1]
    path = folder.scores("torch_a", 12)
    table, header = pq.read_table(path), read_header(path)
    write_score_windows(path, [table.slice(0, 50)], header)
    with pytest.raises(ScoreError, match="not those of its frozen examples"):
        stop(folder, noise)
    write_score_windows(path, [table], replace(header, validation={**header.validation, "lines": "blake2b:other"}))
    with pytest.raises(ScoreError, match="not scored on the present examples of lines"):
        stop(folder, noise)


def test_readers_show_it_beside_the_table_and_never_in_it(study: tuple[Study, StudyFolder]) -> None:
    opened, folder = study
    stop(folder, lambda examples: 1.0 + noise(examples))
    table = build_table(opened, folder)
    assert [run.name for run in table.runs] == ["torch_a"]
    total = table.sequential[-1]
    assert (total.run, total.base, total.dataset, total.answer) == ("torch_stories", "torch_a", None, "differs")
    assert total.low is not None
    assert total.low < 1.0 < (total.high or 0)
    notes = "\n".join(table.notes)
    assert "torch_stories: not scored on all examples; left out" in notes
    assert f"was scored on {total.examples:,} of {total.available:,} examples" in notes
    result = lossary.table(folder.root)
    assert result.to_dict()["sequential"][-1]["answer"] == "differs"
    assert result.to_arrow("sequential").num_rows == len(table.sequential)
    shown = CliRunner().invoke(app, ["show", str(folder.root)]).stdout
    assert "decided early: does it differ?" in shown
    checked = {finding.code: finding for finding in lossary.check(folder.root)}
    assert checked["L109"].severity == "info"
    assert "3 of 3 datasets differ" in str(checked["L109"].gist)
    for arguments in (["compare", "torch_a", "torch_stories", str(folder.root)], ["rank", str(folder.root)]):
        refused = CliRunner().invoke(app, arguments).exception
        assert isinstance(refused, ScoreError)
        assert "torch_stories" in str(refused.hint)
    assert [file.state for file in verify(folder) if file.kind == "sequential"] == ["whole"]
    # A copy among whole scores has cells of the datasets that were scored whole, and of no other.
    folder.scores("torch_stories", 13).parent.mkdir()
    shutil.copy(folder.sequential("torch_stories", 12), folder.scores("torch_stories", 13))
    copied = build_table(opened, folder)
    assert copied.cell("torch_stories", "lines", "mlm_loss").value is None
    assert copied.cell("torch_stories", "pairs", "mlm_loss").value is not None


def test_what_is_out_of_date_is_left_out_and_whole_scores_take_its_place(study: tuple[Study, StudyFolder]) -> None:
    opened, folder = study
    stop(folder, lambda examples: 1.0 + noise(examples))
    path = folder.scores("torch_a", 12)
    table, header = pq.read_table(path), read_header(path)
    write_score_windows(path, [table], replace(header, weights_digest="blake2b:retrained"))
    found = build_table(opened, folder)
    assert found.sequential == []
    assert "the scores of torch_a that it was compared with are not there any more" in "\n".join(found.notes)
    write_score_windows(path, [table], header)
    write_score_windows(folder.scores("torch_stories", 12), [table], replace(header, run="torch_stories"))
    found = build_table(opened, folder)
    assert found.sequential == []
    assert len(found.runs) == 2
    assert len(scored_files(opened, folder)["torch_stories"]) == 1


def test_without_a_base_nothing_is_scored(study: tuple[Study, StudyFolder]) -> None:
    opened, folder = study

    def refused(decide: Decide, **more: Any) -> UsageError:
        with pytest.raises(UsageError) as caught:
            evaluate_until_decided(opened, folder, decide, listener=NotesOnly(), **more)
        return caught.value

    assert "compared with itself" in refused(Decide(base="torch_a"), runs=["torch_a"]).message
    lacking = refused(Decide(base="tf_a"))
    assert lacking.message == "tf_a has no whole scores in the study's vocabulary"


def test_no_base_is_chosen_among_runs_that_lack_different_datasets(synthetic: Any, planted: Any) -> None:
    study = synthetic({"torch_a": "torch", "torch_b": "torch", "new": "torch"})
    for run, missing in (("torch_a", "views"), ("torch_b", "reform")):
        losses = {name: float("nan") if name == missing else 2.0 for name in ("reform", "views", "dialogue")}
        study.score(run, {name: planted(mlm=mlm, sop=None) for name, mlm in losses.items()})
    with pytest.raises(UsageError, match="no run has a loss of every dataset") as caught:
        evaluate_until_decided(study.study, study.folder, Decide(), runs=["new"], listener=NotesOnly())
    assert "torch_a: no mlm_loss of views" in str(caught.value.hint)
    assert "torch_b: no mlm_loss of reform" in str(caught.value.hint)


def test_where_no_example_is_left_out_the_scores_are_those_of_whole_scoring(study: tuple[Study, StudyFolder]) -> None:
    opened, folder = study
    whole, early = folder.scores("torch_stories", 12), folder.sequential("torch_stories", 12)
    stopped, _ = stop(folder, noise, margin=0.001)
    assert stopped.is_whole, stopped.parts
    # In part of them nothing is written among whole scores.
    written = whole.read_bytes()
    whole.unlink()
    assert not stop(folder, lambda examples: 1.0 + noise(examples))[0].is_whole
    assert not whole.exists()

    view, header = open_view(folder, None, "mlm"), header_of(folder, "torch_stories")
    scores = score_windows(Shifted(noise), view.windows(), header, total=len(view), emit=lambda _: None)
    write_score_windows(whole, scores, header)
    assert whole.read_bytes() == written
    table = build_table(opened, folder)
    assert [run.name for run in table.runs] == ["torch_a", "torch_stories"]
    assert not [note for note in table.notes if "not scored on all examples" in note]
    assert early.is_file()
    assert sequential_answers(opened, folder, ["torch_stories"]) == ([], [])
    compared = lossary.compare("torch_a", "torch_stories", folder.root, within=0.001)
    assert compared.decisions


def test_runs_are_told_what_lacks_for_a_comparison(study: tuple[Study, StudyFolder]) -> None:
    opened, folder = study
    with pytest.raises(UsageError) as caught:
        evaluate_until_decided(opened, folder, Decide(), runs=["torch_a"], listener=NotesOnly())
    assert caught.value.message == "no run but torch_a has whole scores, and a run cannot be its own base"
    assert "for one of: tf_a, torch_stories" in str(caught.value.hint)
    stop(folder, lambda examples: 1.0 + noise(examples))
    with pytest.raises(ScoreError, match="torch_stories: not scored on all examples") as early:
        lossary.compare("torch_a", "torch_stories", folder.root)
    assert "lossary evaluate --run torch_stories" in str(early.value.hint)
    with pytest.raises(ScoreError, match="there are no scores of this validation set for tf_a"):
        lossary.compare("torch_a", "tf_a", folder.root)
    arguments = ["evaluate", str(folder.root), "--until", "decided", "--within"]
    margin = CliRunner().invoke(app, [*arguments, "-1"]).exception
    assert isinstance(margin, UsageError)
    assert margin.hint == "Expected a number above 0: nats of a loss, as 0.01."
