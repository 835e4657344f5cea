"""Files as people publish them, each a text and the numbers that it holds: what each is of, first of all."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from lossary.errors import SourceError
from lossary.results.importers.maps import parse_maps
from lossary.results.importers.model import Imported, metric_name
from lossary.results.importers.recognise import read_any


class Case(NamedTuple):
    """A file's name and text, and its last values by `run|dataset|metric`."""

    name: str
    text: str
    expected: dict[str, float]


def last_values(found: Imported) -> dict[str, float]:
    values = {f"{n.run}|{n.dataset or 'total'}|{n.metric}": n.value for n in found.numbers}
    curves = {f"{c.run}|{c.dataset}|{metric_name(c.metric, c.split)}": float(c.value[-1]) for c in found.curves}
    assert not values.keys() & curves.keys()
    assert len(values) + len(curves) == len(found.numbers) + len(found.curves), "two numbers have one place"
    return values | curves


def trainer(*entries: dict[str, float]) -> str:
    return json.dumps({"log_history": entries}, indent=1)


CASES = {
    "datasets called by words of the grammar": Case(
        "r/trainer_state.json",
        trainer(
            {"loss": 3.0, "step": 1},
            *({f"eval_{name}_loss": 2.0 + at / 8, "step": 1} for at, name in enumerate(
                ("dev_to", "test_set", "order_book", "train_news", "validation_wiki", "epoch_times", "loss_landscape")
            )),
        ),
        {"r|all|train_loss": 3.0, **{f"r|{name}|loss": 2.0 + at / 8 for at, name in enumerate(
            ("dev_to", "test_set", "order_book", "train_news", "validation_wiki", "epoch_times", "loss_landscape")
        )}},
    ),
    "accuracy of tokens": Case(
        "r/trainer_state.json",
        trainer({"loss": 1.5, "mean_token_accuracy": 0.5, "step": 1}, {"eval_mean_token_accuracy": 0.75, "step": 1}),
        {"r|all|train_loss": 1.5, "r|all|train_accuracy": 0.5, "r|all|accuracy": 0.75},
    ),
    "Keras' history": Case(
        "history.json",
        json.dumps({"loss": [3.0, 2.5], "val_loss": [3.2, 2.9]}),
        {"history|all|train_loss": 2.5, "history|all|loss": 2.9},
    ),
    "Keras' history of pandas, JSON": Case(
        "history.json",
        json.dumps({"loss": {"0": 3.0, "1": 2.5}, "val_loss": {"0": 3.2, "1": 2.9}}),
        {"history|all|train_loss": 2.5, "history|all|loss": 2.9},
    ),
    "Keras' history of pandas, CSV": Case(
        "history.csv",
        ",loss,val_loss\n0,3.0,3.2\n1,2.5,2.9\n",
        {"history|all|train_loss": 2.5, "history|all|loss": 2.9},
    ),
    "records that say their phase": Case(
        "log.jsonl",
        '{"mode": "train", "iter": 9, "loss": 2.5}\n{"mode": "val", "iter": 9, "loss": 3.5}\n',
        {"log|all|train_loss": 2.5, "log|all|loss": 3.5},
    ),
    "records that say their dataset": Case(
        "log.jsonl",
        '{"step": 9, "dataset": "wiki", "val_loss": 2.5}\n{"step": 9, "dataset": "code", "val_loss": 1.5}\n',
        {"log|wiki|loss": 2.5, "log|code|loss": 1.5},
    ),
    "GPT-NeoX": Case(
        "neox.log",
        " iteration  10/ 99 | lm_loss: 5.0E+00 |\n validation results at iteration 10 | lm_loss value: 4.5E+00 |\n",
        {"neox|all|train_loss": 5.0, "neox|all|loss": 4.5},
    ),
    "Composer with what is added to the loss": Case(
        "c.log",
        "[batch=20/100]:\n\t Train loss/train/total: 4.5\n\t Train metrics/train/LanguageCrossEntropy: 4.0\n"
        "\t Eval metrics/eval/LanguageCrossEntropy: 4.25\n",
        {"c|all|train_loss": 4.0, "c|all|loss": 4.25},
    ),
    "results without a step": Case(
        "x/eval_results.txt", "eval_loss = 2.25\nperplexity = 9.4877\n", {"x|all|loss": 2.25}
    ),
    "modded-nanogpt": Case(
        "o.log",
        "step:0/99 val_loss:10.5 train_time:0ms\nstep:99/99 val_loss:3.25 train_time:9ms\n",
        {"o|all|loss": 3.25},
    ),
    "columns of splits below a title": Case(
        "README.md",
        "### WikiText-103 perplexity\n\n| Model | valid | test |\n|---|---|---|\n| LSTM[^1] | 48.5 | 49.5 |\n",
        {"LSTM|all|perplexity": 48.5, "LSTM|all|test_perplexity": 49.5},
    ),
    "models as columns keep their names": Case(
        "README.md",
        "Validation loss\n\n| Dataset | GPT-2 | Ours |\n|---|---|---|\n| wiki | 3.1 ± 0.02 | **2.9** ± 0.01 |\n",
        {"GPT-2|wiki|loss": 3.1, "Ours|wiki|loss": 2.9},
    ),
    "a table of an evaluation with merged cells": Case(
        "README.md",
        "| Tasks | Metric | | Value | | Stderr |\n|---|---|---|---:|---|---|\n"
        "| wikitext | bits_per_byte | ↓ | 0.8125 | ± | N/A |\n| | word_perplexity | ↓ | 20.25 | ± | N/A |\n"
        "| lambada | acc | ↑ | 0.5 | ± | 0.01 |\n",
        {"run|wikitext|bits_per_byte": 0.8125, "run|wikitext|word_perplexity": 20.25, "run|lambada|accuracy": 0.5},
    ),
    "a metric of several words in the title": Case(
        "README.md",
        "Bits per byte on the Pile\n\n| Component | GPT-2 | GPT-3 |\n|---|---|---|\n| Books3 | 1.0 | 0.875 |\n",
        {"GPT-2|Books3|bits_per_byte": 1.0, "GPT-3|Books3|bits_per_byte": 0.875},
    ),
    "a difference is no loss": Case(
        "README.md",
        "| Dataset | old loss | new loss | Δ loss |\n|---|---|---|---|\n| wiki | 3.0 | 2.5 | -0.5 |\n",
        {"old|wiki|loss": 3.0, "new|wiki|loss": 2.5},
    ),
    "a summary of W&B's": Case(
        "x/wandb-summary.json",
        json.dumps({"_step": 9, "train/loss": 2.0, "eval/loss": 2.5, "eval/wiki/loss": 2.25, "_wandb": {"runtime": 1}}),
        {"x|all|train_loss": 2.0, "x|all|loss": 2.5, "x|wiki|loss": 2.25},
    ),
    "a discriminator is no dataset": Case(
        "x/eval_results.txt",
        "disc_accuracy = 0.75\ndisc_loss = 0.25\nglobal_step = 9\nmasked_lm_loss = 2.5\n",
        {"x|all|disc_accuracy": 0.75, "x|all|disc_loss": 0.25, "x|all|mlm_loss": 2.5},
    ),
    "fairseq with hydra": Case(
        "hydra_train.log",
        '[2026-01-02 03:04:05,678][train_inner][INFO] - {"epoch": 1, "loss": "7.0", "num_updates": "10"}\n'
        '[2026-01-02 03:04:06,678][valid][INFO] - {"epoch": 1, "valid_loss": "6.0", "valid_num_updates": "10"}\n',
        {"hydra_train|all|train_loss": 7.0 * math.log(2), "hydra_train|all|loss": 6.0 * math.log(2)},
    ),
    "Megatron-DeepSpeed": Case(
        "d.log",
        "[default7]: iteration 90/ 90 | consumed samples: 4 | lm loss: 1.5E+00 | number of nan iterations: 0 |\n"
        "[default7]:valid loss at iteration 90 | lm loss value: 2.0E+00 | lm loss PPL: 7.389056E+00 |\n",
        {"d|all|train_loss": 1.5, "d|all|loss": 2.0},
    ),
    "ALBERT's results, without a prefix": Case(
        "x/eval_results.txt",
        "global_step = 9\nloss = 2.5\nmasked_lm_accuracy = 0.5\nmasked_lm_loss = 2.25\nsentence_order_accuracy = 0.75\n"
        "sentence_order_loss = 0.25\n",
        {"x|all|loss": 2.5, "x|all|mlm_accuracy": 0.5, "x|all|mlm_loss": 2.25, "x|all|sop_accuracy": 0.75,
         "x|all|sop_loss": 0.25},
    ),
    "totals of training and of evaluation": Case(
        "t.md",
        "| Dataset | Train loss | Val loss |\n|---|---|---|\n| w | 1.5 | 2.5 |\n| c | 1.0 | 2.0 |\n"
        "| total | 1.25 | 2.25 |\n",
        {"run|w|train_loss": 1.5, "run|w|loss": 2.5, "run|c|train_loss": 1.0, "run|c|loss": 2.0,
         "run|total|train_loss": 1.25, "run|total|loss": 2.25},
    ),
    "German, a decimal comma, one word for split and loss": Case(
        "t.md",
        "| Datensatz | Validierungsverlust | Trainingsverlust |\n|---|---|---|\n| wiki | 2,53 | 2,41 |\n",
        {"run|wiki|loss": 2.53, "run|wiki|train_loss": 2.41},
    ),
    "French": Case("t.md", "| Modèle | Perte de validation |\n|---|---|\n| petit | 2,5 |\n", {"petit|all|loss": 2.5}),
    "Spanish": Case("t.md", "| Conjunto de datos | Pérdida |\n|---|---|\n| wiki | 2,5 |\n", {"run|wiki|loss": 2.5}),
    "Chinese": Case(
        "t.md",
        "| 数据集 | 验证损失 | 训练损失 |\n|---|---|---|\n| wiki | 2.5 | 2.25 |\n",
        {"run|wiki|loss": 2.5, "run|wiki|train_loss": 2.25},
    ),
    "Japanese": Case("t.md", "| モデル | 検証損失 |\n|---|---|\n| small | 2.5 |\n", {"small|all|loss": 2.5}),
    "Russian": Case(
        "t.md",
        "| Модель | Лосс на валидации | Лосс на трейне |\n|---|---|---|\n| a | 2,5 | 2,25 |\n",
        {"a|all|loss": 2.5, "a|all|train_loss": 2.25},
    ),
    "steps in short": Case(
        "t.md",
        "| Steps | Train loss | Val loss |\n|---|---|---|\n| 1k | 3.5 | 3.6 |\n| 2k | 2.5 | 2.75 |\n",
        {"t|all|train_loss": 2.5, "t|all|loss": 2.75},
    ),
    "a cell over two rows": Case(
        "t.html",
        "<table><tr><th>Model</th><th>Dataset</th><th>val loss</th></tr><tr><td rowspan=2>a</td><td>wiki</td>"
        "<td>2.5</td></tr><tr><td>code</td><td>1.5</td></tr></table>",
        {"a|wiki|loss": 2.5, "a|code|loss": 1.5},
    ),
    "two columns of one name": Case(
        "t.csv", "step,loss,loss\n1,2.5,3.5\n", {"t|all [loss]|loss": 2.5, "t|all [loss (column 3)]|loss": 3.5}
    ),
    "TensorBoard's CSV of one scalar": Case(
        "run-base-tag-eval_loss.csv", "Wall time,Step,Value\n1.5,10,3.5\n2.5,20,2.5\n", {"base|all|loss": 2.5}
    ),
    "JSON list of records": Case(
        "t.json",
        json.dumps([{"step": 10, "loss": 3.5, "val_loss": 3.25}, {"step": 20, "loss": 2.75, "val_loss": 2.5}]),
        {"t|all|train_loss": 2.75, "t|all|loss": 2.5},
    ),
    "JSON list of results": Case(
        "t.json",
        json.dumps([{"dataset": "wiki", "val_loss": 2.5}, {"dataset": "code", "val_loss": 1.5}], indent=1),
        {"run|wiki|loss": 2.5, "run|code|loss": 1.5},
    ),
    "lm-evaluation-harness": Case(
        "t.json",
        json.dumps({"results": {"wikitext": {"word_perplexity,none": 20.5, "bits_per_byte,none": 0.75},
                                "lambada": {"acc,none": 0.5, "acc_stderr,none": 0.01}}, "config": {"model": "hf"}}),
        {"run|wikitext|word_perplexity": 20.5, "run|wikitext|bits_per_byte": 0.75, "run|lambada|accuracy": 0.5},
    ),
    "LaTeX below a caption": Case(
        "t.tex",
        "\\begin{table}[t]\n\\caption{Validation loss of \\emph{all} sizes}\n"
        "\\begin{tabular}{l@{\\hspace{1em}}cc}\n\\toprule\n"
        "Dataset & Base & \\textbf{GPT-2} \\\\ % sizes\n\\midrule\nwiki & 2.50 & \\textbf{$2.25$} \\\\\n"
        "dev\\_to & 1.50 $\\pm$ 0.01 & 1{,}25 \\\\[2pt]\n\\bottomrule\n\\end{tabular}\n\\end{table}\n",
        {"Base|wiki|loss": 2.5, "GPT-2|wiki|loss": 2.25, "Base|dev_to|loss": 1.5, "GPT-2|dev_to|loss": 1.25},
    ),
    "W&B's table of runs, each at its own step": Case(
        "wandb.csv",
        "Name,State,Created,_step,eval/wiki/loss,eval/books/loss\n"
        "base,finished,2026-01-01,3000,2.5,2.9\nlong,crashed,2026-01-02,300,5.5,5.9\n",
        {"base|wiki|loss": 2.5, "base|books|loss": 2.9, "long|wiki|loss": 5.5, "long|books|loss": 5.9},
    ),
    "W&B's table of runs of one name": Case(
        "wandb.csv",
        "Name,ID,State,_step,eval/loss\nbase,a1,finished,3000,2.5\nbase,b2,crashed,300,5.5\n",
        {"base (a1)|all|loss": 2.5, "base (b2)|all|loss": 5.5},
    ),
    "runs without W&B's other columns": Case(
        "wandb.csv", "Name,_step,eval/loss\nbase,300,2.5\nlong,300,2.0\n", {"base|all|loss": 2.5, "long|all|loss": 2.0}
    ),
    "a history whose rows are called by their steps": Case(
        "h.csv", "Name,_step,eval/loss\nckpt-100,100,2.5\nckpt-200,200,2.0\n", {"h|all|loss": 2.0}
    ),
    "another word for the step": Case(
        "log.jsonl",
        '{"cur_step": 9, "train/loss": 2.5, "eval/loss": 2.0}\n',
        {"log|all|train_loss": 2.5, "log|all|loss": 2.0}
    ),
}  # fmt: skip


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Imported]:
    def of(files: dict[str, str]) -> Imported:
        for name, text in files.items():
            path = tmp_path / "in" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        only = next(iter(files))
        return read_any(tmp_path / "in" / only if len(files) == 1 else tmp_path / "in", parse_maps([]))

    return of


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_every_number_is_of_what_its_file_says(case: Case, read: Callable[..., Imported]) -> None:
    assert last_values(read({case.name: case.text})) == pytest.approx(case.expected)


def test_files_of_one_run_that_agree_are_one_and_keep_both_places(read: Callable[..., Imported]) -> None:
    found = read({"r/trainer_state.json": trainer({"eval_loss": 2.5, "step": 9}), "r/r.csv": "step,val_loss\n9,2.5\n"})
    assert last_values(found) == {"r|all|loss": 2.5}
    assert "log_history[0]" in found.curves[0].place
    assert "line 2" in found.curves[0].place


def test_files_of_one_run_that_differ_stand_apart_and_are_named(read: Callable[..., Imported]) -> None:
    found = read({"r/trainer_state.json": trainer({"eval_loss": 2.5, "step": 9}), "r/r.csv": "step,val_loss\n9,2.0\n"})
    assert sorted(last_values(found).values()) == [2.0, 2.5]
    assert len({curve.run for curve in found.curves}) == 2
    assert "trainer_state" in str(found.notes)
    assert "--map" in str(found.notes)
    assert all(mapped.conflict for mapped in found.mapping)


def test_files_of_one_name_in_two_folders_are_two_runs(read: Callable[..., Imported]) -> None:
    found = read({"a/log.csv": "step,val_loss\n9,2.5\n", "b/log.csv": "step,val_loss\n9,2.0\n"})
    assert sorted(last_values(found).values()) == [2.0, 2.5]
    assert {curve.run for curve in found.curves} == {"log (a/log.csv)", "log (b/log.csv)"}


def test_columns_that_may_be_steps_name_no_dataset(read: Callable[..., Imported]) -> None:
    table = "Validation loss\n\n| Model | 10k | 50k |\n|---|---|---|\n| a | 3.5 | 3.0 |\n"
    with pytest.raises(SourceError, match="no number in it") as caught:
        read({"README.md": table})
    assert "10k, 50k" in str(caught.value.hint)


def test_a_table_that_does_not_say_datasets_or_runs_says_so_and_the_map_decides(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text("| | wiki | code |\n|---|---|---|\n| val loss | 2.5 | 1.5 |\n", encoding="utf-8")
    assert "nothing says whether 'wiki', 'code'" in str(read_any(path, parse_maps([])).notes)
    decided = read_any(path, parse_maps(["=dataset"]))
    assert last_values(decided) == {"run|wiki|loss": 2.5, "run|code|loss": 1.5}
    assert "nothing says" not in str(decided.notes)


def test_a_csv_of_one_scalar_without_a_tag_in_its_name_says_what_to_call_it(read: Callable[..., Imported]) -> None:
    with pytest.raises(SourceError, match="whose name says no tag") as caught:
        read({"scalar.csv": "Wall time,Step,Value\n1.5,10,3.5\n"})
    assert "run-RUN-tag-TAG.csv" in str(caught.value.hint)


TOTALS = (
    "total", "**Overall**", "Mean:", "avg.", "Итого", "Gesamt", "**Gesamt:**", "GESAMT", "Summe", "Durchschnitt",
    "Mittelwert (macro)", "Insgesamt", "Moyenne", "Total général", "Media", "Promedio", "Średnia", "Media geral",
    "Média geral", "Totale", "Ortalama", "合計", "平均", "总计", "加权平均", "マクロ平均", "평균", "Ø", "Σ",
)  # fmt: skip


@pytest.mark.parametrize("name", TOTALS)
def test_totals_in_many_languages_are_totals_as_rows_and_as_columns(name: str, read: Callable[..., Imported]) -> None:
    down = f"| Dataset | Loss |\n|---|---|\n| wiki | 2.0 |\n| books | 3.0 |\n| {name} | 2.4 |\n"
    found = read({"t.md": down})
    assert last_values(found) == {"run|wiki|loss": 2.0, "run|books|loss": 3.0, "run|total|loss": 2.4}
    assert [dataset.name for dataset in found.datasets] == ["wiki", "books"]
    across = f"Validation loss\n\n| Model | wiki | books | {name} |\n|---|---|---|---|\n| a | 2.0 | 3.0 | 2.4 |\n"
    assert last_values(read({"t.md": across})) == {"a|wiki|loss": 2.0, "a|books|loss": 3.0, "a|total|loss": 2.4}


@pytest.mark.parametrize(
    "name",
    ["media", "Gesamtausgabe", "summeval", "Meantime", "totalitarianism", "mittelhochdeutsch", "Ørsted", "sum_up"],
)
def test_datasets_that_only_begin_like_a_total_stay_datasets(name: str, read: Callable[..., Imported]) -> None:
    table = f"| Dataset | Loss |\n|---|---|\n| {name} | 2.0 |\n| books | 3.0 |\n"
    assert last_values(read({"t.md": table})) == {f"run|{name}|loss": 2.0, "run|books|loss": 3.0}


def test_a_row_of_all_datasets_together_is_no_dataset_among_them(read: Callable[..., Imported]) -> None:
    table = "| Dataset | Loss |\n|---|---|\n| wiki | 2.0 |\n| books | 3.0 |\n| **Alle** | 2.4 |\n"
    assert last_values(read({"t.md": table}))["run|all|loss"] == 2.4


@pytest.mark.parametrize(
    ("header", "dates"),
    [
        ("date", ("2026-01-01", "2026-01-02")),
        ("", ("2026/1/1 10:00", "2026/1/2 10:00")),
        ("Datum", ("1. Jan 2026", "2. Jan 2026")),
        ("checked", ("01/02/2026", "02/02/2026")),
        ("time", ("10:30", "11:30:05")),
    ],
)
def test_dates_are_no_datasets_and_the_map_decides(header: str, dates: tuple[str, str], tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    rows = "".join(f"{date},2.{at},3.{at}\n" for at, date in enumerate(dates))
    path.write_text(f"{header},wiki loss,books loss\n{rows}", encoding="utf-8")
    with pytest.raises(SourceError) as caught:
        read_any(path, parse_maps([]))
    assert f"--map '{header}=run'" in str(caught.value.hint)
    decided = last_values(read_any(path, parse_maps([f"{header}=run"])))
    assert decided[f"{dates[1]}|books|loss"] == 3.1
    assert len(decided) == 4


def test_a_date_beside_a_name_of_rows_is_only_said_of_them(read: Callable[..., Imported]) -> None:
    found = read({"t.csv": "date,corpus name,loss\n2026-01-01,wiki,2.5\n2026-01-02,books,3.5\n"})
    assert last_values(found) == {"run|wiki|loss": 2.5, "run|books|loss": 3.5}
    found = read({"t.csv": "date,what,loss\n2026-01-01,wiki,2.5\n2026-01-02,books,3.5\n"})
    assert last_values(found) == {"run|wiki|loss": 2.5, "run|books|loss": 3.5}
    # A column called by a word for a date in one language names datasets in another.
    assert last_values(read({"t.csv": "data,loss\nwiki,2.5\nbooks,3.5\n"})) == {
        "run|wiki|loss": 2.5,
        "run|books|loss": 3.5,
    }


TWO_HEADERS = {
    "spread, empty": "model,wiki,,books,\n,loss,acc,loss,acc\na,2.0,0.5,3.0,0.25\n",
    "spread, shorter": "model,wiki,,books\n,loss,acc,loss,acc\na,2.0,0.5,3.0,0.25\n",
    "repeated": "dataset,wiki,wiki,books,books\nmodel,loss,acc,loss,acc\na,2.0,0.5,3.0,0.25\n",
    "tabs": "\twiki\t\tbooks\t\nmodel\tloss\tacc\tloss\tacc\na\t2.0\t0.5\t3.0\t0.25\n",
    "metrics above": "model,loss,,accuracy,\n,wiki,books,wiki,books\na,2.0,3.0,0.5,0.25\n",
    "pandas": "dataset,wiki,wiki,books,books\nmetric,loss,acc,loss,acc\nmodel,,,,\na,2.0,0.5,3.0,0.25\n",
    "Markdown": "|model|wiki| |books| |\n|---|---|---|---|---|\n| |loss|acc|loss|acc|\n|a|2.0|0.5|3.0|0.25|\n",
    "HTML": "<table><tr><th rowspan=2>model</th><th colspan=2>wiki</th><th colspan=2>books</th></tr>"
    "<tr><th>loss</th><th>acc</th><th>loss</th><th>acc</th></tr>"
    "<tr><td>a</td><td>2.0</td><td>0.5</td><td>3.0</td><td>0.25</td></tr></table>",
}


@pytest.mark.parametrize("text", TWO_HEADERS.values(), ids=TWO_HEADERS.keys())
def test_two_rows_of_headers_are_read_as_one(text: str, read: Callable[..., Imported]) -> None:
    assert last_values(read({"t.csv": text})) == {
        "a|wiki|loss": 2.0, "a|books|loss": 3.0, "a|wiki|accuracy": 0.5, "a|books|accuracy": 0.25,
    }  # fmt: skip


def test_two_rows_of_headers_without_a_name_for_the_rows(read: Callable[..., Imported]) -> None:
    found = read({"t.csv": "wiki,,books,\nloss,acc,loss,acc\n2.0,0.5,3.0,0.25\n"})
    assert last_values(found)["run|wiki|loss"] == 2.0
    assert last_values(found)["run|books|loss"] == 3.0


def test_two_rows_of_headers_over_steps_are_curves(read: Callable[..., Imported]) -> None:
    found = read({"t.csv": ",wiki,,books,\nstep,loss,acc,loss,acc\n100,2.0,0.5,3.0,0.25\n200,1.5,0.5,2.5,0.5\n"})
    assert last_values(found)["t|wiki|loss"] == 1.5
    assert last_values(found)["t|books|loss"] == 2.5
    assert "line 2" not in found.curves[0].place


@pytest.mark.parametrize("last", ["loss", "ppl"])
def test_an_upper_header_that_may_end_before_the_last_column_is_refused(
    last: str, read: Callable[..., Imported]
) -> None:
    with pytest.raises(SourceError, match="two rows of headers") as caught:
        read({"t.csv": f"model,wiki,,books,,\n,loss,acc,loss,acc,{last}\na,2.0,0.5,3.0,0.25,9.0\n"})
    assert "books" in caught.value.message


def test_a_first_row_of_texts_below_one_header_stays_a_row(read: Callable[..., Imported]) -> None:
    found = read({"t.csv": "model,wiki loss,,note\na,OOM,,late\nb,2.0,,fine\n"})
    assert last_values(found) == {"b|wiki|loss": 2.0}


@pytest.mark.parametrize(
    ("metric", "cells", "values"),
    [
        ("loss", ("2.5", "1,234"), (2.5, None)),
        ("loss", ("2.345", "1,234"), (2.345, None)),
        ("loss", ("2,5", "3,25", "1.234"), (2.5, 3.25, None)),
        ("loss", ("2,345", "1,234"), (2.345, 1.234)),
        ("loss", ("2.5", "0,234"), (2.5, 0.234)),
        ("loss", ("2.5", "1,23"), (2.5, 1.23)),
        ("perplexity", ("12.5", "1,234"), (12.5, None)),
        ("perplexity", ("987", "1,234"), (987, None)),
        ("perplexity", ("12,5", "1,234"), (12.5, 1.234)),
        ("perplexity", ("12.5", "1,234.5"), (12.5, 1234.5)),
    ],
)
@pytest.mark.parametrize("name", ["dataset", "step"])
def test_a_mark_that_may_separate_thousands_is_not_guessed(
    name: str, metric: str, cells: tuple[str, ...], values: tuple[float | None, ...], read: Callable[..., Imported]
) -> None:
    rows = "".join(f"{at + 1};{cell}\n" for at, cell in enumerate(cells))
    found = read({"t.csv": f"{name};{metric}\n{rows}"})
    if name == "step":
        numbers = dict(zip(found.curves[0].step.tolist(), found.curves[0].value.tolist(), strict=True))
    else:
        numbers = {int(number.dataset or 0): number.value for number in found.numbers}
    assert numbers == {at + 1: value for at, value in enumerate(values) if value is not None}
    assert ("may separate thousands" in str(found.notes)) == (None in values)


@pytest.mark.parametrize(
    "cell", ["2.5 ± 0.02", "2.5±0.02", "2.5 +/- 0.02", "2.5 (0.02)", "**2.5** ± 0.02", "2.5 [2.4, 2.6]"]
)
@pytest.mark.parametrize("name", ["dataset", "step"])
def test_a_deviation_beside_a_number_is_left_out_with_a_note(
    name: str, cell: str, read: Callable[..., Imported]
) -> None:
    found = read({"t.md": f"| {name} | loss |\n|---|---|\n| 1 | {cell} |\n| 2 | 2.25 |\n"})
    assert sorted(last_values(found).values()) in ([2.25, 2.5], [2.25])
    assert cell in str(found.notes)
    assert "2.25" not in str(found.notes)


@pytest.mark.parametrize(
    "text",
    [
        "{'step': 10, 'wiki': {'loss': 2.5}, 'done': False}\n{'step': 20, 'wiki': {'loss': 2.0}, 'best': None}\n",
        "[{'step': 10, 'wiki/loss': 2.5}, {'step': 20, 'wiki/loss': 2.0}]\n",
    ],
)
@pytest.mark.parametrize("name", ["t.log", "t.json", "t.txt"])
def test_dicts_as_python_prints_them_are_read(name: str, text: str, read: Callable[..., Imported]) -> None:
    assert list(last_values(read({name: text})).items()) == [("t|wiki|loss", 2.0)]


def test_dicts_without_a_step_are_refused_for_that(read: Callable[..., Imported]) -> None:
    with pytest.raises(SourceError) as caught:
        read({"t.log": "{'loss': 2.5, 'lr': 0.1}\n{'loss': 2.0, 'lr': 0.1}\n"})
    assert "without a step or epoch" in str(caught.value.hint)


def test_a_log_with_commas_is_refused_as_a_log(read: Callable[..., Imported]) -> None:
    with pytest.raises(SourceError, match="no line says a step or epoch and a loss") as caught:
        read({"t.log": "starting, training\nlosses: 2.3, 2.4, 2.5, 2.6\n"})
    assert "line 2" in str(caught.value.where)


def test_rows_that_say_what_was_measured_are_sections(read: Callable[..., Imported]) -> None:
    table = (
        "| dataset | base | big |\n|---|---|---|\n| **MLM loss** | | |\n| wiki | 2.5 | 2.0 |\n| books | 1.5 | 1.0 |\n"
        "| *SOP loss* | | |\n| wiki | 0.5 | 0.25 |\n| books | 0.75 | 0.125 |\n"
    )
    values = last_values(read({"t.md": table}))
    assert len(values) == 8
    assert values["big|books|mlm_loss"] == 1.0
    assert values["base|books|sop_loss"] == 0.75
    found = read({"t.md": f"Training loss\n\n{table}"})
    assert last_values(found)["big|books|train_mlm_loss"] == 1.0
    assert next(n.place for n in found.numbers if n.value == 0.125) == "line 10, big"


def test_rows_that_say_a_split_are_sections(read: Callable[..., Imported]) -> None:
    rows = "| **Train:** | |\n| wiki | 2.0 |\n| books | 3.0 |\n| **Val:** | |\n| wiki | 2.5 |\n| books | 3.5 |\n"
    assert last_values(read({"t.md": f"| dataset | loss |\n|---|---|\n{rows}"})) == {
        "run|wiki|train_loss": 2.0, "run|books|train_loss": 3.0, "run|wiki|loss": 2.5, "run|books|loss": 3.5,
    }  # fmt: skip


def test_a_metric_without_a_number_is_no_section(read: Callable[..., Imported]) -> None:
    found = read(
        {"t.md": "| metric | a | b |\n|---|---|---|\n| train loss | | |\n| val loss | 2.5 | 2.0 |\n| acc | | |\n"}
    )
    assert set(last_values(found).values()) == {2.5, 2.0}


def test_rows_that_head_others_by_a_name_are_told(read: Callable[..., Imported]) -> None:
    rows = "| **wiki** | |\n| a | 2.0 |\n| b | 2.5 |\n| **books** | |\n| c | 3.0 |\n"
    found = read({"t.md": f"| model | loss |\n|---|---|\n{rows}"})
    assert "'wiki' (line 3); 'books' (line 6)" in str(found.notes)


def test_a_column_of_losses_with_deviations_is_one_of_losses(read: Callable[..., Imported]) -> None:
    table = "| Corpus | loss ± std |\n|---|---|\n| wiki | 2.0 ± 0.1 |\n| books | 3.0 ± 0.1 |\n"
    assert last_values(read({"t.md": table})) == {"run|wiki|loss": 2.0, "run|books|loss": 3.0}


def test_nested_dicts_behind_a_loggers_prefix_are_read(read: Callable[..., Imported]) -> None:
    text = "".join(
        f"2026-01-01 10:00:00 INFO {{'step': {at}, 'loss': 2.5, 'val': {{'wiki_loss': 2.25}}}}\n" for at in (1, 2)
    )
    assert last_values(read({"t.log": text}))["t|wiki|loss"] == 2.25
