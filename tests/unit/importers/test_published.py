"""What tools and people publish, a kind each: frames of pandas, spans, languages, logs, exports of trackers."""

import json
from pathlib import Path
from typing import NamedTuple

import pytest

from lossary.errors import SourceError
from lossary.results.importers.frames import frame_at
from lossary.results.importers.grids import read_cell
from lossary.results.importers.maps import Maps, map_text, parse_maps
from lossary.results.importers.model import Imported, metric_name
from lossary.results.importers.names import read_name, split_word
from lossary.results.importers.recognise import read_any
from lossary.results.importers.sheets import read_csv_grid, tables_of


class Case(NamedTuple):
    """Files of one import by their names, and its last values by `run|dataset|metric`."""

    files: dict[str, str]
    expected: dict[str, float]


def read(root: Path, files: dict[str, str], maps: Maps | None = None) -> Imported:
    for name, text in files.items():
        path = root / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    first = Path(next(iter(files)))
    return read_any(root / "in" / (first if len(files) == 1 else first.parts[0]), maps or Maps())


def last_values(found: Imported) -> dict[str, float]:
    values = {f"{n.run}|{n.dataset or 'total'}|{n.metric}": n.value for n in found.numbers}
    curves = {f"{c.run}|{c.dataset}|{metric_name(c.metric, c.split)}": float(c.value[-1]) for c in found.curves}
    assert len(values | curves) == len(found.numbers) + len(found.curves), "two numbers have one place"
    return values | curves


BOTH = {"base|wiki|loss": 2.5, "base|books|loss": 3.5, "large|wiki|loss": 2.25, "large|books|loss": 3.25}
CURVES = {"t|all|train_loss": 2.5, "t|all|loss": 2.75}
CASES = {
    "pandas, two rows of headers": Case(
        {"t.txt": "         wiki         books       \n         loss    acc   loss    acc\nmodel\n"
         "base    2.500  0.500  3.500  0.250\nlarge   2.250  0.750  3.250  0.500\n"},
        {**BOTH, "base|wiki|accuracy": 0.5, "base|books|accuracy": 0.25, "large|wiki|accuracy": 0.75,
         "large|books|accuracy": 0.5},
    ),
    "pandas, two levels of rows": Case(
        {"t.txt": "               val_loss\nmodel dataset\nbase  wiki          2.5\n      books         3.5\n"
         "large wiki         2.25\n      books        3.25\n"},
        BOTH,
    ),
    "RST, cells over rows and columns": Case(
        {"t.rst": "+-------+-----------------+\n| Model | Validation loss |\n|       +-------+---------+\n"
         "|       | wiki  | books   |\n+=======+=======+=========+\n| base  | 2.5   | 3.5     |\n"
         "+-------+-------+---------+\n| large | 2.25  | 3.25    |\n+-------+-------+---------+\n"},
        BOTH,
    ),
    "a box, a cell over columns, no lines between rows": Case(
        {"t.txt": "┌───────┬──────────────┐\n│ Model │     loss     │\n"
         "│       ├──────┬───────┤\n│       │ wiki │ books │\n"
         "├───────┼──────┼───────┤\n│ base  │ 2.5  │ 3.5   │\n│ large │ 2.25 │ 3.25  │\n└───────┴──────┴───────┘\n"},
        BOTH,
    ),
    "Textile": Case(
        {"t.textile": "h3. Validation loss\n\n|_. Model |_. wiki |_>. books |\n| base | 2.5 |>. 3.5 |\n"
         "| large | *2.25* | 3.25 |\n"},
        BOTH,
    ),
    "HTML, headers that reach down beside one that spans": Case(
        {"t.html": "<table><tr><th rowspan=2>Model</th><th rowspan=2>Params</th><th colspan=3>val loss</th></tr>"
         "<tr><th>wiki</th><th>books</th><th>avg</th></tr><tr><td>base<sup>1</sup></td><td>110M</td><td>2.5<sup>a</sup>"
         "</td><td>3.5</td><td>3.0</td></tr></table>"},
        {"base|wiki|loss": 2.5, "base|books|loss": 3.5, "base|total|loss": 3.0},
    ),
    "a second row of units": Case(
        {"t.csv": "Dataset,Tokens,Train loss,Val loss\n,(B),(nats/token),(nats/token)\nwiki,4.2,2.5,2.75\n"},
        {"run|wiki|train_loss": 2.5, "run|wiki|loss": 2.75},
    ),
    "several tables in one CSV": Case(
        {"t.csv": "Validation loss,\nModel,wiki,books\nbase,2.5,3.5\n\nlarge,2.25,3.25\n"
         "\nTraining loss\nModel,wiki\nbase,2.0\n"},
        {**BOTH, "base|wiki|train_loss": 2.0},
    ),
    "tables side by side": Case(
        {"t.csv": "Model,val loss,,Model,train loss\nbase,2.5,,large,2.25\nsmall,3.5,,tiny,3.25\n"},
        {"base|all|loss": 2.5, "small|all|loss": 3.5, "large|all|train_loss": 2.25, "tiny|all|train_loss": 3.25},
    ),
    "marks of footnotes": Case(
        {"t.md": "Validation loss\n\n| Model | wiki<sup>a</sup> | books‡ |\n|---|---|---|\n| base[1] | 2.5† | 3.5 ¹ |\n"
         "| large | 2.25<sup>b</sup> | 3.25ᵃ |\n"},
        BOTH,
    ),
    "French": Case(
        {"t.md": "| Jeu de données | Perte d’entraînement | Perte de validation |\n|---|---|---|\n"
         "| wiki | 2,5 | 2,75 |\n"},
        {"run|wiki|train_loss": 2.5, "run|wiki|loss": 2.75},
    ),
    "Russian, steps with thin spaces": Case(
        {"t.md": "| Шаг | Потери (обучение) | Потери (валидация) |\n|---|---|---|\n| 1\u2009000 | 5,5 | 5,75 |\n"
         "| 10\u2009000 | 2,5 | 2,75 |\n"},
        CURVES,
    ),
    "Chinese, sets in one word with the loss": Case(
        {"t.md": "| 训练轮数 | 训练集损失 | 验证集损失 |\n|---|---|---|\n"
         "| 1 | 5.5 | 5.75 |\n| 2 | 2.5 | 2.75 |\n"}, CURVES
    ),
    "LightGBM": Case(
        {"t.log": "[10]\ttrain's loss: 5.5\tvalid's loss: 5.75\n[20]\ttrain's loss: 2.5\tvalid's loss: 2.75\n"}, CURVES
    ),
    "mesh-transformer-jax": Case(
        {"t.log": "step 500 done in 0.5s\nvalidation loss for step 500, set pile: 2.5\n"
         "validation loss for step 500, set owt: 3.5\n"},
        {"t|pile|loss": 2.5, "t|owt|loss": 3.5},
    ),
    "EasyLM's dicts over several lines": Case(
        {"t.log": "{'learning_rate': 0.001,\n 'loss': 5.5,\n 'step': 10}\n\n\n{'eval_loss': 2.75,\n"
         " 'learning_rate': 0.001,\n"
         " 'loss': 2.5,\n 'step': 20}\n"},
        CURVES,
    ),
    "indented JSON, one object after another": Case(
        {"t.json": "".join(json.dumps({"step": at, "loss": loss, "eval": {"loss": loss + 0.25}}, indent=2) + "\n"
                           for at, loss in ((9, 3.5), (10, 2.5)))},
        CURVES,
    ),
    "t5x": Case(
        {"t.log": "".join(f"I0301 10:00:00.1 140 logging_writer.py:48] [9] collection={a} loss={b}\n" for a, b in
         (("train", 2.5), ("training_eval/c4_span", 2.75), ("training_eval/wiki_span", 3.5)))},
        {"t|all|train_loss": 2.5, "t|c4_span|loss": 2.75, "t|wiki_span|loss": 3.5},
    ),
    "nanoGPT": Case(
        {"t.log": "step 0: train loss 9.5, val loss 9.75\niter 0: loss 9.25, time 8ms, mfu 1.00%\n"
         "step 9: train loss 2.25, val loss 2.75\niter 9: loss 2.5, time 8ms, mfu 1.00%\n"},
        CURVES,
    ),
    "accuracies by their kind": Case(
        {"t.log": "[batch=9/9]:\n\t Train metrics/train/MaskedAccuracy: 0.25\n"
         "\t Eval metrics/eval/MaskedAccuracy: 0.5\n"},
        {"t|all|train_accuracy": 0.25, "t|all|accuracy": 0.5},
    ),
    "DeepSpeed's monitor": Case(
        {"job/Train_Samples_train_loss.csv": "step,Train/Samples/train_loss\n32,5.5\n64,2.5\n",
         "job/Eval_Samples_eval_loss.csv": "step,Eval/Samples/eval_loss\n64,2.75\n"},
        {"job|all|train_loss": 2.5, "job|all|loss": 2.75},
    ),
    "ClearML's scalars": Case(
        {"t.json": json.dumps({"loss": {"train": {"name": "train", "x": [1, 2], "y": [5.5, 2.5]},
                                        "validation": {"name": "validation", "x": [1, 2], "y": [5.75, 2.75]}}})},
        CURVES,
    ),
    "Comet's metrics, with numbers in quotes": Case(
        {"t.json": json.dumps([{"metricName": name, "metricValue": value, "step": 9, "epoch": None}
                               for name, value in (("train_loss", "2.5"), ("val_loss", "2.75"))])},
        CURVES,
    ),
    "Neptune's table of runs": Case(
        {"t.csv": "sys/id,sys/name,sys/owner,metrics/val/loss\nLM-1,base,me,2.5\nLM-2,large,me,2.25\n"},
        {"base|all|loss": 2.5, "large|all|loss": 2.25},
    ),
    "one header below two headings": Case(
        {"t.md": "## Validation\n\n| Model | wiki loss |\n|---|---|\n| base | 2.5 |\n\n## Test\n\n"
         "| Model | wiki loss |\n|---|---|\n| base | 3.5 |\n"},
        {"base|wiki|loss": 2.5, "base|wiki|test_loss": 3.5},
    ),
    "InternLM, a dict at the end of the line": Case(
        {"t.log": "INFO train.py:323 in record -- step=9,loss=2.5,lr=3e-05,grad_norm={'0_default': 1.23}\n"},
        {"t|all|train_loss": 2.5},
    ),
    "fairseq2, the step in brackets": Case(
        {"t.log": "INFO fairseq2.trainer - Train Metrics (step 9) - NLL Loss: 2.5 | Gradient Norm: 1.21\n"
         "INFO fairseq2.trainer - Validation Metrics (step 9) - NLL Loss: 2.75 | Elapsed Time: 1s\n"},
        CURVES,
    ),
    "what train() gives back is no point": Case(
        {"t.log": "{'loss': 2.5, 'learning_rate': 0.1, 'epoch': 1.0}\n"
         "{'eval_loss': 2.75, 'epoch': 1.0}\n"
         "TrainOutput(global_step=9, training_loss=9.5, metrics={'train_runtime': 6.5, 'train_loss': 9.5})\n"},
        CURVES,
    ),
    "AllenNLP": Case(
        {"r/metrics.json": '{"epoch": 4, "training_loss": 2.5, "validation_loss": 2.75, "best_validation_loss": 2}'},
        {"r|all|train_loss": 2.5, "r|all|loss": 2.75},
    ),
    "MLflow's table of runs": Case(
        {"t.csv": "Start Time,Run ID,Name,Source Type,Source Name,User,val_loss\n"
         "2025-01-01,ab,base,LOCAL,train.py,me,2.5\n"
         "2025-01-02,cd,large,LOCAL,train.py,me,2.25\n"},
        {"base|all|loss": 2.5, "large|all|loss": 2.25},
    ),
    "deviations in columns of their own": Case(
        {"t.md": "Validation loss\n\n| Model | wiki | ± | books | ± |\n|---|---|---|---|---|\n"
         "| base | 2.5 | 0.1 | 3.5 | 0.2 |\n"
         "| large | 2.25 | 0.1 | 3.25 | 0.3 |\n"},
        BOTH,
    ),
    "pandas' JSON, split": Case(
        {"t.json": json.dumps({"columns": ["model", "val_loss"], "index": [0], "data": [["base", 2.5]]})},
        {"base|all|loss": 2.5},
    ),
    "pandas' JSON, by columns": Case(
        {"t.json": json.dumps({"model": {"0": "base"}, "val_loss": {"0": 2.5}})}, {"base|all|loss": 2.5}
    ),
    "a list a column": Case({"t.json": json.dumps({"model": ["base"], "val_loss": [2.5]})}, {"base|all|loss": 2.5}),
    "polars": Case(
        {"t.txt": "shape: (1, 2)\n┌───────┬──────────┐\n│ model ┆ val_loss │\n"
         "│ ---   ┆ ---      │\n│ str   ┆ f64      │\n"
         "╞═══════╪══════════╡\n│ base  ┆ 2.5      │\n└───────┴──────────┘\n"},
        {"base|all|loss": 2.5},
    ),
    "R's tibble": Case(
        {"t.txt": "# A tibble: 2 × 2\n  model val_loss\n  <chr>    <dbl>\n1 base       2.5\n2 large     2.25\n"},
        {"base|all|loss": 2.5, "large|all|loss": 2.25},
    ),
}  # fmt: skip


def test_json_that_ends_in_the_middle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="not JSON"):
        read(tmp_path, {"t.json": '{\n "step": 9,\n "loss": 2.5\n}\n{\n "step": 10,\n "lo'})


def test_a_history_with_steps_has_them(tmp_path: Path) -> None:
    found = read(tmp_path, {"t.json": json.dumps({"step": [10, 20], "loss": [3.5, 2.5], "val_loss": [3.75, 2.75]})})
    assert last_values(found) == CURVES
    assert [curve.step.tolist() for curve in found.curves] == [[10, 20]] * 2
    with pytest.raises(SourceError, match="has 1 values and 'step' 2"):
        read(tmp_path, {"u.json": json.dumps({"step": [10, 20], "loss": [3.5]})})


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_every_number_is_of_what_its_file_says(case: Case, tmp_path: Path) -> None:
    found = read(tmp_path, case.files)
    assert last_values(found) == pytest.approx(case.expected)
    # The reading that is saved reads the same.
    (tmp_path / "map.toml").write_text(map_text([found]), encoding="utf-8")
    maps = parse_maps([str(tmp_path / "map.toml")])
    assert last_values(read(tmp_path, case.files, maps)) == pytest.approx(case.expected)
    maps.check_all_used()


def test_excels_sheet_of_two_tables_is_two(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in (["Model", "wiki", None, "books"], [None, "val loss", "test loss", "val loss"], ["base", 2.5, 2.75, 3.5],
                [], ["Training loss"], ["Model", "wiki"], ["base", 2.0]):  # fmt: skip
        book.active.append(row)
    book.save(tmp_path / "t.xlsx")
    assert last_values(read_any(tmp_path / "t.xlsx", parse_maps([]))) == {
        "base|wiki|loss": 2.5, "base|wiki|test_loss": 2.75, "base|books|loss": 3.5, "base|wiki|train_loss": 2.0,
    }  # fmt: skip


@pytest.mark.parametrize("text", ["2.31 2.05", "1,234,5", "192.168.0.1", "2.31→2.05", "1 2345", "10<sup>6</sup>"])
def test_what_is_more_than_one_number_is_none(text: str) -> None:
    assert read_cell(text).number is None
    assert read_cell(text).odd == text


@pytest.mark.parametrize(
    ("text", "value"),
    [("1 234 567,5", 1234567.5), ("1'234.5", 1234.5), ("12,34,567", 1234567), ("−0.5", -0.5), ("2.41+-0.02", 2.41)],
)
def test_numbers_with_groups_and_signs(text: str, value: float) -> None:
    parsed = read_cell(text).number
    assert parsed is not None
    assert parsed.value == value


@pytest.mark.parametrize(
    ("text", "split", "rest"),
    [
        ("Verlust auf dem Testsatz", "test", ""),
        ("Perte de validation sur Wikipédia", "eval", "Wikipédia"),
        ("Функция потерь на обучающей выборке", "train", ""),
        ("検証データの損失", "eval", ""),
        ("검증 손실", "eval", ""),
        ("de validation loss", "eval", "de"),
        ("val loss en", "eval", "en"),
        ("Loss (Validierung)", "eval", ""),
    ],
)
def test_a_loss_in_another_language_keeps_its_dataset(text: str, split: str, rest: str) -> None:
    name = read_name(text)
    assert (name.quantity, name.split, name.rest) == ("loss", split, rest)


def test_words_for_splits_in_other_languages() -> None:
    words = ("Validierung", "обучение", "训练集", "тестовая", "wiki")
    assert [split_word(word) for word in words] == ["eval", "train", "train", "test", None]


@pytest.mark.parametrize(
    "lines",
    [
        # A text stands across the place where the second level begins.
        ["                val_loss", "model dataset", "base and large    2.500", "      books       3.500"],
        # The value does not end below its header.
        ["      val_loss", "model", "base       2.5 x"],
        # Nothing names the first row.
        ["      val_loss", "model", "           2.5"],
    ],
)
def test_what_does_not_stand_in_columns_is_no_frame(lines: list[str]) -> None:
    found = frame_at(lines, 0, "")
    assert found is None or found.rows[0][0] == "model dataset"


def test_rows_below_an_empty_one_go_on_with_their_table() -> None:
    path = Path("t.csv")
    whole = read_csv_grid("model,loss\nbase,2.5\n\nlarge,OOM\nhuge,2.0\n\nmodel,params\nbase,9\n", path)
    first, second = tables_of(whole, "t.csv")
    assert [first.line(at) for at in range(len(first.rows))] == [1, 2, 4, 5]
    assert second.rows == [["model", "params"], ["base", "9"]]


def test_an_empty_line_above_a_csv_is_no_row(tmp_path: Path) -> None:
    with pytest.raises(SourceError):
        read(tmp_path, {"t.log": "\nno, table\n\nat, all\n"})
    assert last_values(read(tmp_path, {"u.csv": "\nmodel,loss\n\na,2.5\n"})) == {"a|all|loss": 2.5}
