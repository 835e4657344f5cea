"""Which step of imported curves a table shows."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from lossary.errors import UsageError
from lossary.reports.markdown import markdown_table
from lossary.reports.terminal import terminal_text
from lossary.results.importers.model import Curve, Imported, Split
from lossary.tables.best import Best, parse_step
from lossary.tables.imported import imported_table, save_import
from lossary.tables.model import Table

Points = Mapping[int, float]


def _curve(points: Points, *, run: str = "a", dataset: str = "x", metric: str = "loss", split: Split = "eval") -> Curve:
    return Curve(
        run=run,
        dataset=dataset,
        metric=metric,
        split=split,
        step=np.array(list(points), np.int64),
        value=np.array(list(points.values()), np.float64),
        place="line 1",
    )


def _folder(tmp_path: Path, *curves: Curve) -> Path:
    save_import(tmp_path / "out", "t", [Imported(path=str(tmp_path / "log"), kind="log", curves=list(curves))])
    return tmp_path / "out"


def _values(table: Table, metric: str = "loss") -> dict[tuple[str, str], float | None]:
    return {(c.run, c.dataset): c.value for c in table.cells if c.metric == metric}


def test_the_best_step_is_of_all_datasets_of_a_run_and_the_rule_is_said(tmp_path: Path) -> None:
    root = _folder(
        tmp_path,
        # The lowest of x alone is at 4, where y was not evaluated; the lowest mean is at 2.
        _curve({1: 5.0, 2: 3.0, 3: 3.0, 4: 1.0}),
        _curve({1: 5.0, 2: 3.0, 3: 4.0}, dataset="y"),
        _curve({1: 9.0, 3: 8.0}, run="b"),
        _curve({1: 7.0, 2: 6.0, 3: 5.0}, split="train"),
    )
    table = imported_table(root, step=Best())
    assert _values(table) == {("a", "x"): 3.0, ("a", "y"): 3.0, ("b", "x"): 8.0, ("b", "y"): None}
    assert _values(table, "train_loss")["a", "x"] == 6.0
    notes = "\n".join(table.notes)
    assert "a: step 2 is the best of 3 evaluated by loss, total by macro: 3.0000" in notes
    assert "b: step 3 is the best of 2 evaluated by loss: 8.0000" in notes


def test_training_losses_choose_a_step_only_where_they_are_named(tmp_path: Path) -> None:
    root = _folder(tmp_path, _curve({1: 5.0, 2: 3.0, 3: 4.0}, split="train"))
    with pytest.raises(UsageError, match="no loss of evaluation") as raised:
        imported_table(root, step=Best())
    assert "best:train_loss" in str(raised.value.hint)
    assert _values(imported_table(root, step=parse_step("best:train_loss")), "train_loss") == {("a", "x"): 3.0}


def test_a_step_that_is_not_there_is_refused_with_the_nearest_that_are(tmp_path: Path) -> None:
    root = _folder(tmp_path, _curve(dict.fromkeys(range(0, 1000, 10), 1.0) | {500: float("nan")}))
    for step in (500, 501):
        with pytest.raises(UsageError, match=f"nothing was measured at step {step}") as raised:
            imported_table(root, step=step)
        assert "480, 490, 510, 520" in str(raised.value.hint)


def test_a_run_or_metric_without_the_step_is_named_and_has_no_number(tmp_path: Path) -> None:
    root = _folder(
        tmp_path,
        _curve({1: 3.0, 2: 2.0}),
        _curve({10: 3.0}, run="b"),
        _curve({10: 3.0, 1: 3.5}, split="test"),
    )
    table = imported_table(root, step=2)
    assert [run.name for run in table.runs] == ["a"]
    assert any(note.startswith("b: no loss at step 2") for note in table.notes)
    assert any(note.startswith("a: no test loss at step 2") for note in table.notes)
    with pytest.raises(UsageError, match="at step 2"):
        imported_table(root, runs=["b"], step=2)
    with pytest.raises(UsageError, match="no run is called 'c'"):
        imported_table(root, runs=["c"])


def test_cells_of_different_steps_say_theirs_in_every_format(tmp_path: Path) -> None:
    root = _folder(tmp_path, _curve({1: 3.0, 2000: 2.0}), _curve({1: 4.0}, dataset="y"))
    table = imported_table(root)
    assert {cell.dataset for cell in table.cells if cell.has_own_step} == {"x", "y"}
    for text in (terminal_text(table), markdown_table(table, ["a"]), markdown_table(table, ["a"], intervals=False)):
        assert "2 @2,000" in text
        assert "4 @1" in text
    assert any("different steps, 1 to 2,000" in note for note in table.notes)
    same = imported_table(root, step=1)
    assert not any(cell.has_own_step for cell in same.cells)
    assert "@" not in terminal_text(same)


@pytest.mark.parametrize("text", ["best:", "worst", "-1", "1.5", "²"])
def test_steps_are_not_guessed(text: str) -> None:
    with pytest.raises(UsageError):
        parse_step(text)
