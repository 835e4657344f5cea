"""What a number is of: split, dataset, objective, run and step, for each kind as its programs write it."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from lossary.errors import SourceError, UsageError
from lossary.results.importers.maps import map_text, parse_maps
from lossary.results.importers.model import Imported
from lossary.results.importers.recognise import read_any
from lossary.tables.imported import imported_table, save_import
from lossary.tables.model import Table


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Table]:
    """The table of a file with a text in it."""

    def table(name: str, text: str) -> Table:
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        save_import(tmp_path / "out", "t", [read_any(path, parse_maps([]))])
        return imported_table(tmp_path / "out")

    return table


def cells(table: Table) -> dict[tuple[str, str, str], float | None]:
    return {(c.run, c.dataset, c.metric): c.value for c in table.cells if c.value is not None}


def near(expected: dict[tuple[str, str, str], float]) -> object:
    return pytest.approx(expected)


def test_a_test_set_is_no_validation(read: Callable[..., Table]) -> None:
    log = (
        " iteration      500/     500 | lm loss: 1.6E+00 | loss scale: 1.0 |\n"
        " validation loss at iteration 500 on validation set | lm loss value: 2.9E+00 |\n"
        " validation loss at iteration 500 on test set | lm loss value: 2.8E+00 |\n"
    )
    assert cells(read("train.log", log)) == near(
        {("train", "all", "train_loss"): 1.6, ("train", "all", "loss"): 2.9, ("train", "all", "test_loss"): 2.8}
    )


@pytest.mark.parametrize("said", ["validation loss at iteration 9 [{}]", "validation-{} loss at iteration 9"])
def test_a_log_of_megatron_names_its_datasets(read: Callable[..., Table], said: str) -> None:
    lines = [f"{said.format(name)} | lm loss value: {value} |" for name, value in (("en", 2.5), ("de", 3.5))]
    table = read("train.log", "banner\n" * 20_000 + "\n".join(lines) + "\n")
    assert cells(table) == near({("train", "en", "loss"): 2.5, ("train", "de", "loss"): 3.5})


def test_a_best_so_far_is_no_loss_and_subsets_are_datasets(read: Callable[..., Table]) -> None:
    lines = [
        f"| epoch 001 | valid on '{name}' subset | loss {value} | ppl 2 | num_updates 90 | best_loss 0.5"
        for name, value in (("valid", 1.25), ("books", 1.75))
    ]
    assert cells(read("train.log", "\n".join(lines))) == near(
        {("train", "valid", "loss"): 1.25 * math.log(2), ("train", "books", "loss"): 1.75 * math.log(2)}
    )


def test_the_mean_over_a_run_is_no_point_and_an_entry_without_a_step_is_noted(read: Callable[..., Table]) -> None:
    history = [
        {"step": 1, "loss": 3.0},
        {"step": 2, "loss": 2.0, "eval_train_loss": 1.0},
        {"step": 2, "eval_eval_loss": 2.5},
        {"epoch": 1.0, "predict_loss": 9.0},
        {"step": 2, "train_loss": 2.5, "train_runtime": 1.0},
    ]
    table = read("run/checkpoint-2/trainer_state.json", json.dumps({"log_history": history}))
    assert cells(table) == {
        ("run", "all", "train_loss"): 2.0,
        ("run", "train", "loss"): 1.0,
        ("run", "eval", "loss"): 2.5,
    }
    assert any("has no step" in note for note in table.notes)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("| dataset | val loss | train loss |\n|---|---|---|\n| w | 2.5 | 1.5 |\n",
         {("run", "w", "loss"): 2.5, ("run", "w", "train_loss"): 1.5}),
        ("| Model | MLM loss |\n|---|---|\n| small | 2.5 |\n| large | 1.5 |\n",
         {("small", "all", "mlm_loss"): 2.5, ("large", "all", "mlm_loss"): 1.5}),
        ("| dataset | model | val loss |\n|---|---|---|\n| w | a | 3 |\n| w | b | 2 |\n",
         {("a", "w", "loss"): 3.0, ("b", "w", "loss"): 2.0}),
        ("| dataset | steps tried | val loss |\n|---|---|---|\n| w | x | 3 |\n| w | y | 2 |\n",
         {("x", "w", "loss"): 3.0, ("y", "w", "loss"): 2.0}),
        ("| Task | MLM perplexity | SOP performance |\n|---|---|---|\n| w | 5.5 | 0.9 |\n",
         {("run", "w", "mlm_perplexity"): 5.5}),
        ("| dataset | a loss | b loss |\n|---|---|---|\n| **w** | ~1.8 | OOM |\n| v | 2.2 (0.01) | 2.3 (rising) |\n",
         {("a", "w", "loss"): 1.8, ("a", "v", "loss"): 2.2, ("b", "v", "loss"): 2.3}),
        ("| Epoch | Training Loss | Validation Loss |\n|---|---|---|\n| 1 | No log | 3.0 |\n| 2 | 2.0 | 2.5 |\n",
         {("t", "all", "train_loss"): 2.0, ("t", "all", "loss"): 2.5}),
        ("| metric | small | large |\n|---|---|---|\n| val loss | 3 | 2 |\n",
         {("small", "all", "loss"): 3.0, ("large", "all", "loss"): 2.0}),
    ],
)  # fmt: skip
def test_tables_are_oriented(
    read: Callable[..., Table], text: str, expected: dict[tuple[str, str, str], float]
) -> None:
    assert cells(read("t.md", text)) == near(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("run,dataset,step,mlm_loss\na,w,1,3\na,w,2,2.5\nb,w,2,2.6\n",
         {("a", "w", "mlm_loss"): 2.5, ("b", "w", "mlm_loss"): 2.6}),
        ('"Name","State","train/loss","val/loss"\n"a","finished",1.1,1.4\n',
         {("a", "all", "train_loss"): 1.1, ("a", "all", "loss"): 1.4}),
        ('"train/global_step","a - eval/loss","a - eval/loss__MIN"\n1,6.2,6.1\n2,5.1,5.0\n',
         {("a", "all", "loss"): 5.1}),
        ("epoch,step,train_loss_step,train_loss_epoch,val_loss\n0,9,3,,\n0,9,,2.5,2.8\n",
         {("t", "all", "train_loss"): 3.0, ("t", "all", "loss"): 2.8}),
        ("dataset,val/loss_mean,val/loss_std\nw,1.5,0.02\n", {("run", "w", "loss"): 1.5}),
        ('epoch,loss,f1,val_loss\n0,5,"[0.1]",4\n', {("t", "all", "train_loss"): 5.0, ("t", "all", "loss"): 4.0}),
    ],
)  # fmt: skip
def test_csv_files_are_told_apart(
    read: Callable[..., Table], text: str, expected: dict[tuple[str, str, str], float]
) -> None:
    assert cells(read("t.csv", text)) == near(expected)


def test_two_numbers_that_nothing_tells_apart_are_refused_with_both_named(tmp_path: Path) -> None:
    path = tmp_path / "t.md"
    path.write_text("| dataset | val loss |\n|---|---|\n| w | 3.0 |\n| w | 2.0 |\n", encoding="utf-8")
    with pytest.raises(SourceError, match=r"3\.0 on line 3 and 2\.0 on line 4") as error:
        read_any(path, parse_maps([]))
    assert "--map" in str(error.value.hint)


def test_runs_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    found = []
    for name in ("a", "b", "c"):
        path = tmp_path / name / "train.log"
        path.parent.mkdir()
        path.write_text(" iteration 1/ 2 | lm loss: 3.0 |\n", encoding="utf-8")
        found.append(read_any(path, parse_maps([])))
    save_import(tmp_path / "out", "t", found)
    assert [run.name for run in imported_table(tmp_path / "out").runs] == ["a", "b", "c"]


def test_a_step_can_be_asked_for_and_datasets_of_other_steps_say_theirs(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    entries = [{"step": 1, "eval_a_loss": 3.0, "eval_b_loss": 4.0}, {"step": 2, "eval_a_loss": 2.0}]
    path.write_text("\n".join(map(json.dumps, entries)), encoding="utf-8")
    save_import(tmp_path / "out", "t", [read_any(path, parse_maps([]))])
    last = imported_table(tmp_path / "out")
    cells = [last.cell("log", name, "loss") for name in ("a", "b")]
    assert [(cell.reported, cell.step, cell.has_own_step) for cell in cells] == [("2", 2, True), ("4", 1, True)]
    assert [imported_table(tmp_path / "out", step=1).cell("log", name, "loss").value for name in ("a", "b")] == [
        3.0,
        4.0,
    ]
    with pytest.raises(UsageError, match="nothing was measured at step 7"):
        imported_table(tmp_path / "out", step=7)


def test_a_saved_map_gives_the_same_reading_and_says_where_it_no_longer_fits(tmp_path: Path) -> None:
    path, saved = tmp_path / "log.jsonl", tmp_path / "map.toml"
    path.write_text('{"step": 1, "eval_a_loss": 3.0, "lr": 0.1, "train_loss": 2.0}\n', encoding="utf-8")
    found = read_any(path, parse_maps([]))
    saved.write_text(map_text([found]), encoding="utf-8")
    maps = parse_maps([str(saved)])
    again = read_any(path, maps)
    maps.check_all_used()
    assert [(c.run, c.dataset, c.metric, c.split) for c in again.curves] == [
        (c.run, c.dataset, c.metric, c.split) for c in found.curves
    ]
    path.write_text('{"step": 1, "eval_b_loss": 3.0}\n', encoding="utf-8")
    read_any(path, other := parse_maps([str(saved)]))
    with pytest.raises(UsageError, match="no file has the name") as error:
        other.check_all_used()
    assert "map.toml" in str(error.value)


def places(found: Imported) -> set[tuple[str, str, str, str, float]]:
    return {(c.run, c.dataset, c.metric, c.split, float(c.value[-1])) for c in found.curves}


def two_files(folder: Path) -> Path:
    for name, value in (("a", 2.5), ("b", 3.5)):
        (folder / name).mkdir(parents=True)
        (folder / name / "log.csv").write_text(f"step,val_loss\n9,{value}\n", encoding="utf-8")
    return folder


def test_a_map_names_a_file_among_two_that_have_one_series(tmp_path: Path) -> None:
    folder, path = two_files(tmp_path / "logs"), tmp_path / "map.toml"
    path.write_text(
        '[[name]]\nsource = "val_loss"\nfile = "a/log.csv"\nrun = "one"\ndataset = "wiki"\nmetric = "mlm_loss"\n'
        '[[name]]\nsource = "val_loss"\nrun = "other"\nmetric = "loss"\n',
        encoding="utf-8",
    )
    found = read_any(folder, maps := parse_maps([str(path)]))
    maps.check_all_used()
    assert places(found) == {("one", "wiki", "mlm_loss", "eval", 2.5), ("other", "all", "loss", "eval", 3.5)}


def test_a_saved_map_keeps_files_and_runs_apart_that_have_one_series(tmp_path: Path) -> None:
    folder, path = two_files(tmp_path / "logs"), tmp_path / "map.toml"
    found = read_any(folder, parse_maps([]))
    path.write_text(map_text([found]), encoding="utf-8")
    again = read_any(folder, maps := parse_maps([str(path)]))
    maps.check_all_used()
    assert places(again) == places(found)
    assert len(places(found)) == 2


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ('source = "val_loss"\nfile = "c/log.csv"\nmetric = "loss"', "no file or run that was read is 'c/log.csv'"),
        ('source = "valid_loss"\nfile = "a/log.csv"\nmetric = "loss"', "'a/log.csv' has no name 'valid_loss'"),
    ],
)
def test_an_entry_that_no_longer_fits_its_file_says_where(entry: str, said: str, tmp_path: Path) -> None:
    folder, path = two_files(tmp_path / "logs"), tmp_path / "map.toml"
    path.write_text(f"[[name]]\n{entry}\n", encoding="utf-8")
    read_any(folder, maps := parse_maps([str(path)]))
    with pytest.raises(UsageError, match=re.escape(said)) as error:
        maps.check_all_used()
    assert "$.name[0]" in str(error.value.where)


def test_a_name_that_stands_twice_in_a_map_is_refused_without_a_file(tmp_path: Path) -> None:
    path = tmp_path / "map.toml"
    path.write_text('[[name]]\nsource = "x"\nis = "run"\n[[name]]\nsource = "x"\nis = "ignore"\n', encoding="utf-8")
    with pytest.raises(UsageError, match="stands there twice") as error:
        parse_maps([str(path)])
    assert "file =" in str(error.value.hint)


def test_a_map_that_puts_two_runs_in_one_place_is_refused(tmp_path: Path) -> None:
    log, path = tmp_path / "log.jsonl", tmp_path / "map.toml"
    lines = [{"step": 9, "run": run, "val_loss": value} for run, value in (("a", 2.5), ("b", 3.5))]
    log.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    path.write_text('[[name]]\nsource = "val_loss"\nrun = "x"\nmetric = "loss"\n', encoding="utf-8")
    with pytest.raises(SourceError, match="both at x all loss"):
        read_any(log, parse_maps([str(path)]))
    path.write_text('[[name]]\nsource = "val_loss"\nfile = "b"\nrun = "x"\nmetric = "loss"\n', encoding="utf-8")
    assert {place[0] for place in places(read_any(log, parse_maps([str(path)])))} == {"a", "x"}


def test_imports_of_an_earlier_version_are_refused_clearly(tmp_path: Path) -> None:
    from lossary.errors import DataError

    old = {"schema": 1, "name": "t", "sources": [{"path": "/a/log.csv"}]}
    (tmp_path / "imported.json").write_text(json.dumps(old), encoding="utf-8")
    with pytest.raises(DataError, match="another version") as error:
        imported_table(tmp_path)
    assert "/a/log.csv" in str(error.value.hint)


def test_what_a_model_card_leaves_unmarked_is_evaluated(read: Callable[..., Table]) -> None:
    text = "| Training Loss | Step | Validation Loss | Accuracy |\n|---|---|---|---|\n| 2.1 | 200 | 2.2 | 0.6 |\n"
    assert cells(read("card.md", text)) == near(
        {("card", "all", "train_loss"): 2.1, ("card", "all", "loss"): 2.2, ("card", "all", "accuracy"): 0.6}
    )


def test_a_log_of_nemo_is_none_of_megatron(read: Callable[..., Table]) -> None:
    lines = [
        "Training epoch 0, iteration 9/99 | lr: 1e-4 | global_step: 9 | reduced_train_loss: 10.5",
        "Training epoch 0, iteration 19/99 | global_step: 19 | reduced_train_loss: 9.5 | val_loss: 9.25",
    ]
    assert cells(read("nemo.log", "\n".join(lines))) == near(
        {("nemo", "all", "train_loss"): 9.5, ("nemo", "all", "loss"): 9.25}
    )
