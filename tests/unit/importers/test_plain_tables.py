"""Tables of plain text: drawn, aligned, in the markup of wikis and documentation, and in the outputs of notebooks."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lossary.errors import SourceError
from lossary.results.importers.grids import is_total
from lossary.results.importers.maps import parse_maps
from lossary.results.importers.model import Imported, metric_name
from lossary.results.importers.recognise import read_any

BOTH = {"t|all|train_loss": 2.5, "t|all|loss": 2.75}
TABLE = {"a|wiki|loss": 2.5, "b|wiki|loss": 2.25, "a|books|loss": 3.5, "b|books|loss": 3.25}
METRICS = {"run|wiki|loss": 2.5, "run|books|loss": 3.5, "run|wiki|accuracy": 0.5, "run|books|accuracy": 0.25}
# What people publish, by its kind: each says the same, a title where its columns name no metric.
DRAWN = {
    "RST's grid": (
        "Validation loss\n\n"
        "+---------+------+------+\n| Dataset | a    | b    |\n+=========+======+======+\n"
        "| wiki    | 2.5  | 2.25 |\n+---------+------+------+\n| books   | 3.5  | 3.25 |\n+---------+------+------+\n",
        TABLE,
    ),
    "RST's simple table": (
        "=======  ====  ====\nDataset  loss  acc\n=======  ====  ====\n"
        "wiki     2.5   0.5\nbooks    3.5   0.25\n=======  ====  ====\n",
        METRICS,
    ),
    "RST's list-table": (
        ".. list-table:: Validation loss\n   :header-rows: 1\n\n   * - Dataset\n     - a\n     - b\n"
        "   * - wiki\n     - 2.5\n     - 2.25\n   * - books\n     - 3.5\n     - 3.25\n",
        TABLE,
    ),
    "RST's csv-table": (
        '.. csv-table:: Validation loss\n   :header: "Dataset", "a", "b"\n\n'
        '   "wiki", 2.5, 2.25\n   "books", 3.5, 3.25\n',
        TABLE,
    ),
    "MediaWiki": (
        '{| class="wikitable"\n|+ Validation loss\n! Dataset !! a !! style="width:3em" | b\n'
        "|-\n| [[Wikipedia|wiki]] || 2.5\n"
        "| 2.25\n|-\n| books<ref>Old ones</ref> || '''3.5''' || 3.25\n|}\n",
        TABLE,
    ),
    "Jira": ("h2. Validation loss\n||Dataset||a||b||\n|wiki|2.5|2.25|\n|books|3.5|3.25|\n", TABLE),
    "DokuWiki": ("Validation loss\n\n^ Dataset ^ a ^ b ^\n| wiki | 2.5 | 2.25 |\n| books | 3.5 | 3.25 |\n", TABLE),
    "AsciiDoc": (
        '.Validation loss\n[cols="1,1,1"]\n|===\n|Dataset |a |b\n\n|wiki\n|2.5\n|2.25\n|books |3.5 |3.25\n|===\n',
        TABLE,
    ),
    "psql": (
        " dataset | loss | acc\n---------+------+------\n wiki    |  2.5 |  0.5\n books   |  3.5 | 0.25\n(2 rows)\n",
        METRICS,
    ),
    "Org": (
        "| dataset | loss |  acc |\n|---------+------+------|\n| wiki    |  2.5 |  0.5 |\n| books   |  3.5 | 0.25 |\n",
        METRICS,
    ),
    "rich": (
        "┏━━━━━━━━━┳━━━━━━┳━━━━━━┓\n┃ dataset ┃ loss ┃ acc  ┃\n┡━━━━━━━━━╇━━━━━━╇━━━━━━┩\n"
        "│ wiki    │ 2.5  │ 0.5  │\n│ books   │ 3.5  │ 0.25 │\n└─────────┴──────┴──────┘\n",
        METRICS,
    ),
    "tabulate": (
        "dataset      loss    acc\n---------  ------  -----\nwiki          2.5   0.5\nbooks         3.5   0.25\n",
        METRICS,
    ),
    "pandas": ("  dataset  loss   acc\n0    wiki   2.5  0.50\n1   books   3.5  0.25\n", METRICS),
}  # fmt: skip


def last_values(found: Imported) -> dict[str, float]:
    values = {f"{n.run}|{n.dataset or 'total'}|{n.metric}": n.value for n in found.numbers}
    curves = {f"{c.run}|{c.dataset}|{metric_name(c.metric, c.split)}": float(c.value[-1]) for c in found.curves}
    assert len(values) + len(curves) == len(found.numbers) + len(found.curves), "two numbers have one place"
    return values | curves


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Imported]:
    def read(text: str, *maps: str, name: str = "t.txt") -> Imported:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return read_any(path, parse_maps(maps))

    return read


@pytest.mark.parametrize("kind", DRAWN)
def test_a_table_of_plain_text_is_read(kind: str, read: Callable[..., Imported]) -> None:
    text, expected = DRAWN[kind]
    found = read(f"Our results\n\n{text}")
    assert last_values(found) == expected


@pytest.mark.parametrize("kind", DRAWN)
def test_each_number_says_its_line(kind: str, read: Callable[..., Imported]) -> None:
    text, _ = DRAWN[kind]
    lines = text.split("\n")
    for number in read(text).numbers:
        line = int(number.place.split(",")[0].removeprefix("line "))
        # A row may go over several lines; it says its first one.
        assert number.dataset in " ".join(lines[line - 1 : line + 1])
        assert any(number.text in row for row in lines[line - 1 : line + 3])


def test_columns_that_do_not_stand_below_their_headers_are_no_table(read: Callable[..., Imported]) -> None:
    with pytest.raises(SourceError):
        read("dataset    loss    acc\nwiki               0.5    2.5\nbooks    3.5    0.25\n")
    with pytest.raises(SourceError):
        read("dataset      loss    acc\n---------  ------  -----\nwiki and all of it   2.5   0.5\n")


def test_rows_with_more_cells_than_the_header_are_no_table(read: Callable[..., Imported]) -> None:
    with pytest.raises(SourceError):
        read("+------+------+\n| data | loss |\n+------+------+\n| wiki | 2.5 | 3.5 |\n+------+------+\n")


def test_cells_that_span_rows_and_columns_of_a_wiki_are_understood(read: Callable[..., Imported]) -> None:
    text = (
        '{|\n! rowspan="2" | Dataset !! colspan="2" | small !! colspan="2" | large\n|-\n! loss !! acc !! loss !! acc\n'
        "|-\n| wiki || 2.5 || 0.5 || 2.25 || 0.75\n|}\n"
    )
    values = last_values(read(text))
    assert values == {
        "small|wiki|loss": 2.5, "small|wiki|accuracy": 0.5, "large|wiki|loss": 2.25, "large|wiki|accuracy": 0.75
    }  # fmt: skip


def test_epochs_in_a_box_are_a_curve(read: Callable[..., Imported]) -> None:
    text = "+-------+------------+----------+\n| epoch | train_loss | val_loss |\n+-------+------------+----------+\n"
    found = read(text + "| 1 | 3.5 | 3.75 |\n| 2 | 2.5 | 3.25 |\n+-------+------------+----------+\n", name="log.txt")
    assert last_values(found) == {"log|all|train_loss": 2.5, "log|all|loss": 3.25}
    assert {curve.axis for curve in found.curves} == {"epoch"}


def notebook(*outputs: object) -> str:
    cells = [{"cell_type": "code", "source": [], "outputs": [output]} for output in outputs]
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})


def test_a_notebook_s_outputs_are_read(read: Callable[..., Imported]) -> None:
    shown = {"output_type": "display_data", "data": {"text/html": [
        "<table><tr><th>Step</th><th>Training Loss</th><th>Validation Loss</th></tr>", "<tr><td>10</td><td>2.5</td>",
        "<td>2.75</td></tr></table>"], "text/plain": ["<HTML>"]}}  # fmt: skip
    found = read(notebook({"output_type": "error"}, shown), name="tune.ipynb")
    assert found.kind == "notebook"
    assert last_values(found) == {"tune|all|train_loss": 2.5, "tune|all|loss": 2.75}
    assert all(curve.place.startswith("cell 2, line ") for curve in found.curves)


def test_two_cells_of_a_notebook_that_differ_are_two_runs(read: Callable[..., Imported]) -> None:
    printed = [
        {"output_type": "stream", "text": [f"step 10: train loss 3.5, val loss {loss}\n"]} for loss in (2.5, 2.75)
    ]
    found = read(notebook(*printed), name="tune.ipynb")
    losses = {curve.run: float(curve.value[-1]) for curve in found.curves if curve.split == "eval"}
    assert sorted(losses.values()) == [2.5, 2.75]
    assert any("different values" in note for note in found.notes)


def test_a_notebook_without_numbers_is_refused(read: Callable[..., Imported]) -> None:
    with pytest.raises(SourceError, match="none of whose outputs"):
        read(notebook({"output_type": "stream", "text": "hello\n"}), name="tune.ipynb")


NAMES = "| | wiki | | books | |\n|---|---|---|---|---|\n| | base | large | base | large |\n"
LOSSES = "| MLM loss | 2.5 | 2.25 | 3.5 | 3.25 |\n| SOP loss | 0.5 | 0.25 | 0.75 | 0.125 |\n"


def test_datasets_above_models_are_read_as_both(read: Callable[..., Imported]) -> None:
    found = read(NAMES + LOSSES, name="t.md")
    expected = {
        "base|wiki|mlm_loss": 2.5, "large|wiki|mlm_loss": 2.25, "base|books|mlm_loss": 3.5,
        "large|books|mlm_loss": 3.25,
        "base|wiki|sop_loss": 0.5, "large|wiki|sop_loss": 0.25, "base|books|sop_loss": 0.75,
        "large|books|sop_loss": 0.125,
    }  # fmt: skip
    assert last_values(found) == expected
    assert any("'wiki', 'books' read as datasets, 'base', 'large' as runs" in note for note in found.notes)
    above = "| | base | | large | |\n|---|---|---|---|---|\n| | wiki | books | wiki | books |\n"
    losses = "| MLM loss | 2.5 | 3.5 | 2.25 | 3.25 |\n| SOP loss | 0.5 | 0.75 | 0.25 | 0.125 |\n"
    assert last_values(read(above + losses, name="t.md")) == expected


def test_a_map_says_which_row_of_names_are_runs(read: Callable[..., Imported]) -> None:
    values = last_values(read(NAMES + LOSSES, "=run", name="t.md"))
    assert values["wiki|base|mlm_loss"] == 2.5
    assert values["books|large|sop_loss"] == 0.125


TOTALS = (
    "total", "Average (macro)", "macro avg.", "weighted average", "mean over datasets", "total by validation share",
    "Mean of 5 runs", "micro/macro", "Overall mean",
)  # fmt: skip
DATASETS = (
    "totally", "total recall", "sum-of-us", "average joe", "mean girls", "macro-economics", "micro-blogs", "meanwhile",
    "overall-news", "summe-der-teile",
)  # fmt: skip


def test_a_total_is_one_by_all_of_its_words() -> None:
    assert [name for name in TOTALS if not is_total(name)] == []
    assert [name for name in DATASETS if is_total(name)] == []


@pytest.mark.parametrize("name", DATASETS)
def test_a_dataset_that_begins_like_a_total_is_a_row(name: str, read: Callable[..., Imported]) -> None:
    found = read(f"| dataset | mlm loss |\n|---|---|\n| wiki | 2.5 |\n| {name} | 3.5 |\n", name="t.md")
    assert last_values(found) == {"run|wiki|mlm_loss": 2.5, f"run|{name}|mlm_loss": 3.5}


def test_losses_in_bits_are_turned_into_nats_and_stand_once(read: Callable[..., Imported]) -> None:
    both = read("| Domain | Loss (nats) | Loss (bits) |\n|---|---|---|\n| wiki | 2.31 | 3.33 |\n", name="t.md")
    assert last_values(both) == {"run|wiki|loss": 2.31}
    alone = read("| Domain | Loss (bits) |\n|---|---|\n| wiki | 3.0 |\n", name="t.md")
    assert last_values(alone) == {"run|wiki|loss": pytest.approx(2.0794415)}
    assert any("ln 2" in note for note in alone.notes)
    curve = read("step,loss_bits\n1,4.0\n2,3.0\n", name="c.csv")
    assert last_values(curve)["c|all|loss"] == pytest.approx(2.0794415)


def test_tokens_are_an_axis_where_nothing_else_names_the_rows(read: Callable[..., Imported]) -> None:
    found = read("| Tokens (B) | wiki loss |\n|---|---|\n| 10 | 3.5 |\n| 20 | 2.5 |\n", name="t.md")
    (curve,) = found.curves
    assert (curve.axis, curve.dataset, curve.step.tolist()) == ("tokens", "wiki", [10**10, 2 * 10**10])
    sizes = read("| dataset | Tokens | loss |\n|---|---|---|\n| wiki | 10 | 3.5 |\n| books | 20 | 2.5 |\n", name="t.md")
    assert [number.step for number in sizes.numbers] == [None, None]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("metrics.json", {"epoch": 5, "training_loss": 2.5, "validation_loss": 2.75, "best_validation_loss": 2.25},
         {"|all|train_loss": 2.5, "|all|loss": 2.75}),
        ("log.jsonl", [{"loss": 2.5, "global_step/max_steps": "10/20", "epoch": 0.5},
                       {"loss": 2.25, "global_step/max_steps": "20/20", "epoch": 1.0},
                       {"eval_loss": 3.5, "global_step/max_steps": "20/20", "epoch": 1.0},
                       {"train_loss": 2.4, "train_runtime": 9.0, "global_step/max_steps": "20/20"}],
         {"|all|train_loss": 2.25, "|all|loss": 3.5}),
        ("result.json", [{"loss": 2.5, "val_loss": 3.5, "training_iteration": 1}],
         {"|all|train_loss": 2.5, "|all|loss": 3.5}),
    ],
)  # fmt: skip
def test_records_of_trainers_are_read(
    name: str, text: object, expected: dict[str, float], read: Callable[..., Imported]
) -> None:
    lines = "\n".join(map(json.dumps, text)) if isinstance(text, list) else json.dumps(text, indent=1)
    values = last_values(read(lines, name=f"r/{name}"))
    assert {key.partition("|")[1] + key.partition("|")[2]: value for key, value in values.items()} == expected


def test_two_columns_that_name_runs_are_one_and_what_tells_its_rows_apart(read: Callable[..., Imported]) -> None:
    text = "### Perplexity\n\n| Model | Method | Bits | C4 |\n|---|---|---|---|\n| 7B | RTN | 4 | 7.5 |\n"
    text += "| 7B | GPTQ | 4 | 7.25 |\n"
    assert last_values(read(text, name="t.md")) == {"7B · RTN|C4|perplexity": 7.5, "7B · GPTQ|C4|perplexity": 7.25}


def test_cells_that_were_merged_name_every_row(read: Callable[..., Imported]) -> None:
    text = (
        "\\begin{tabular}{llr}\nSize & Model & wiki loss \\\\\n\\multirow{2}{*}{Small} & GPT & 3.5 \\\\\n"
        " & ours & 3.25 \\\\\n\\multirow{2}{*}{Large} & GPT & 2.5 \\\\\n & ours & 2.25 \\\\\n\\end{tabular}\n"
    )
    assert last_values(read(text, name="t.tex")) == {
        "GPT · Small|wiki|loss": 3.5, "ours · Small|wiki|loss": 3.25,
        "GPT · Large|wiki|loss": 2.5, "ours · Large|wiki|loss": 2.25,
    }  # fmt: skip


def test_dvclive_s_folders_say_the_split_and_the_run(tmp_path: Path) -> None:
    for split, loss in (("train", 2.5), ("eval", 2.75)):
        path = tmp_path / "exp" / "dvclive" / "plots" / "metrics" / split / "loss.tsv"
        path.parent.mkdir(parents=True)
        path.write_text(f"step\tloss\n1\t3.5\n2\t{loss}\n")
    assert last_values(read_any(tmp_path, parse_maps([]))) == {"exp|all|train_loss": 2.5, "exp|all|loss": 2.75}


LINES = {
    "TensorFlow's Estimator": (
        "INFO:tensorflow:loss = 7.5, step = 100 (12.3 sec)\n"
        "INFO:tensorflow:Saving dict for global step 100: global_step = 100, loss = 7.25, masked_lm_loss = 6.75\n",
        {"t|all|train_loss": 7.5, "t|all|loss": 7.25, "t|all|mlm_loss": 6.75},
    ),
    "a split in brackets before the count": (
        "Iter(train) [10/20]  lr: 1.0e-4  loss: 2.5\nIter(val) [10/20]  loss: 2.75\n",
        BOTH,
    ),
    "dots before the count": ("Step... (500 | Loss: 2.5, Learning Rate: 5e-05)\n", {"t|all|train_loss": 2.5}),
    "a split before the dataset, in the log of a loop of one's own": (
        'INFO - __log__:{"epoch": 1, "valid_en_mlm_ppl": 12.5, "valid_fr_mlm_ppl": 13.5, "test_en_mlm_ppl": 14.5}\n',
        {"t|en|mlm_perplexity": 12.5, "t|fr|mlm_perplexity": 13.5, "t|en|test_mlm_perplexity": 14.5},
    ),
    "two splits on one line": (
        "1epoch results: [train] nll=3.5, time=1 hour, [valid] nll=3.75\n"
        "2epoch results: [train] nll=2.5, [valid] nll=2.75\n",
        BOTH,
    ),
    "counts of parts": (
        "| split 1/2 | 200/500 batches | loss 2.5\n"
        "| end of split 1 / 2 | epoch 1 | valid loss 2.75 | learning rate 20\n"
        "| split 2/2 | 200/500 batches | loss 2.25\n"
        "| end of split 2 / 2 | epoch 1 | valid loss 2.625 | learning rate 20\n",
        {"t|all|train_loss": 2.25, "t|all|loss": 2.625},
    ),
    "an epoch on a line of its own": (
        "2021-01-01 10:00:00:\nepoch:  0\ntrain loss : 3.5\nvalidation loss: 3.75\nepoch:  1\ntrain loss : 2.5\n"
        "validation loss: 2.75\n",
        BOTH,
    ),
    "JAX' loops": (
        "I0801 logging_writer.py:48] [100] loss=2.5\nI0801 logging_writer.py:48] [100] eval_loss=2.75\n",
        BOTH,
    ),
    "names in brackets behind names": (
        "host=a, epoch=0, train loss <loss>=2.5\nhost=a, epoch=0, validation loss <loss>=2.75\n",
        BOTH,
    ),
    "names and numbers alone": (
        "[epoch 1] train loss 2.5 val loss 2.75 time 3.1s\n",
        BOTH,
    ),
    "losses on datasets": (
        "step 9: validation loss on wiki: 2.5\nstep 9: validation loss on news: 2.75\n",
        {"t|wiki|loss": 2.5, "t|news|loss": 2.75},
    ),
    "a best value beside the loss": ("step 9: loss 2.5, best_val 2.25, lr 1e-3\n", {"t|all|train_loss": 2.5}),
    "DLLogger": (
        'DLLL {"type": "LOG", "step": [0, 9], "data": {"train_loss": 2.5, "lr": 0.1}}\n',
        {"t|all|train_loss": 2.5},
    ),
    "acc is a step of accumulation": ("step: 10  acc: 0  loss: 2.5  lr: 1e-5\n", {"t|all|train_loss": 2.5}),
}


@pytest.mark.parametrize("kind", LINES)
def test_lines_of_logs_say_their_split(kind: str, read: Callable[..., Imported]) -> None:
    text, expected = LINES[kind]
    assert last_values(read(text)) == expected


TABLES = {
    "splits below datasets": (
        "\\begin{table}\\caption{Perplexity on two corpora}\\begin{tabular}{lcccc}\n"
        " & \\multicolumn{2}{c}{wiki} & \\multicolumn{2}{c}{books} \\\\ Model & val & test & val & test \\\\\n"
        "a~\\cite{x} & 2.5 & 2.75 & 3.5 & 3.75 \\\\\n\\end{tabular}\\end{table}\n",
        {"a|wiki|perplexity": 2.5, "a|wiki|test_perplexity": 2.75,
         "a|books|perplexity": 3.5, "a|books|test_perplexity": 3.75},
    ),
    "a run that is called by an objective": (
        "Held-out perplexity\n\n| Corpus | a | b-clm |\n|---|---|---|\n| wiki | 2.5 | 2.75 |\n",
        {"a|wiki|perplexity": 2.5, "b-clm|wiki|perplexity": 2.75},
    ),
    "a unit of the title": (
        "Word perplexities\n\n| Corpus | a | b |\n|---|---|---|\n| wiki | 2.5 | 2.75 |\n",
        {"a|wiki|word_perplexity": 2.5, "b|wiki|word_perplexity": 2.75},
    ),
    "the best beside the last": (
        "| Model | Best val loss | Step | Final val loss |\n|---|---|---|---|\n| a | 2.5 | 90 | 2.75 |\n",
        {"a|all|loss": 2.75}
    ),
    "sizes of a model above its losses": (
        "| | a | b |\n|---|---|---|\n| Params | 1B | 2B |\n| Val loss | 2.5 | 2.25 |\n",
        {"a|all|loss": 2.5, "b|all|loss": 2.25}
    ),
    "teams": ("| Rank | Team | Public BPB |\n|---|---|---|\n| 1 | a | 1.25 |\n| 2 | b | 1.5 |\n",
              {"a|Public|bits_per_byte": 1.25, "b|Public|bits_per_byte": 1.5}),
    "units in names": ("dataset,loss_bits_per_token,loss_nats_per_token\nwiki,3.333,2.31\n", {"run|wiki|loss": 2.31}),
    "tokens of tidy rows": ("model,domain,tokens_seen,metric,value\na,web,10,loss,3.5\na,web,20,loss,2.5\n",
                            {"a|web|loss": 2.5}),
    "remarks above a CSV": ("# run: base\nstep,train_loss,val_loss\n1,2.5,2.75\n", BOTH),
    "a header behind a mark": ("# step,train_loss,val_loss\n1,2.5,2.75\n", BOTH),
    "columns one blank apart": (
        "# iter train_loss val_loss lr\n0 3.5 3.75 0.1\n9 2.5 2.75 0.1\n", BOTH
    ),
    "a training loss beside datasets' losses": (
        "| Model | wiki val loss | news val loss | train loss |\n|---|---|---|---|\n| a | 2.5 | 2.75 | 2.25 |\n",
        {"a|wiki|loss": 2.5, "a|news|loss": 2.75, "a|all|train_loss": 2.25},
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", TABLES)
def test_tables_say_what_they_measured(kind: str, read: Callable[..., Imported]) -> None:
    text, expected = TABLES[kind]
    name = "t.tex" if text.startswith("\\") else "t.csv" if "," in text.split("\n")[1] else "t.md"
    assert last_values(read(text, name=name)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "Validation loss\n\n| N \\ D | 1B | 10B |\n|---|---|---|\n| 100M | 3.5 | 3.25 |\n| 1B | 2.5 | 2.25 |\n",
        "<h2>Validation loss</h2><table><tr><th rowspan=2>Domain<th colspan=2>125M</tr>"
        "<tr><th>step 10k<th>step 20k</tr>"
        "<tr><td>web<td>3.1<td>2.9</tr></table>",
    ],
)
def test_axes_that_nobody_names_are_refused(text: str, read: Callable[..., Imported]) -> None:
    with pytest.raises(SourceError):
        read(text, name="t.md")


def test_rows_without_a_name_are_told(read: Callable[..., Imported]) -> None:
    found = read("| dataset | loss |\n|---|---|\n| wiki | 2.5 |\n| | 2.75 |\n", name="t.md")
    assert any(note == "lines that name no dataset are left out: line 4" for note in found.notes)


def test_a_file_of_one_metric_is_called_by_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "exp" / "metrics"
    folder.mkdir(parents=True)
    for name, loss in (("train_loss", 2.5), ("eval_loss", 2.75)):
        (folder / f"{name}.csv").write_text(f"step,timestamp,value\n1,2024-01-01 10:00:00,{loss}\n")
    assert last_values(read_any(tmp_path, parse_maps([]))) == {"exp|all|train_loss": 2.5, "exp|all|loss": 2.75}
