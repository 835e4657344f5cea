"""What no reader took and looks like data is counted, and its first lines are shown: in notes, at the end, on pages."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lossary.cli.main import app
from lossary.errors import SourceError
from lossary.results.importers.lines import LONGEST, MOST_LINE, log_lines
from lossary.results.importers.maps import parse_maps
from lossary.results.importers.model import Imported
from lossary.results.importers.recognise import read_any
from lossary.results.importers.unread import looks_like_data
from lossary.tables.imported import imported_table, save_import

LOG = "step 100 | loss 2.5 | lr 3e-4\n"
MEGATRON = " iteration 10/ 99 | lm loss: 5.0E+00 |\n"
TABLE = "| dataset | val loss |\n|---|---|\n| wiki | 2.5 |\n"


@pytest.mark.parametrize(
    "line",
    [
        "final loss: 2.31",
        "eval done: wiki loss 2.31, books loss 3.1",
        "best val loss improved from 2.31 to 2.05",
        "wiki: 2.31 nats",
        "| wikitext | 2.31 | 2.40 |",
        "wiki     2.31   2.40 ± 0.02",
        "books\t2.31\t18%",
        "pile & 2.31 & 2.40 \\\\",
        "perplexity = 9.5",
        "Validation accuracy is 61.2%",
    ],
)
def test_lines_of_a_metric_or_of_a_row_look_like_data(line: str) -> None:
    assert looks_like_data(line)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "2026-01-02 03:04:05 INFO args: Namespace(lr=0.0003, loss_scale=1.0, acc_steps=4)",
        "Model has 124.4M parameters, d_model 768",
        "| NVIDIA-SMI 535.104.05   Driver Version: 535.104.05   CUDA Version: 12.2     |",
        "| N/A   32C    P0    60W / 400W |      0MiB / 81920MiB |      0%      Default |",
        "saved checkpoint in 2.31 s",
        "loss_fn ......... cross_entropy",
        "0 | model | GPT | 124 M",
        "computing the loss of all datasets",
    ],
)
def test_settings_machines_and_times_do_not(line: str) -> None:
    assert not looks_like_data(line)


@pytest.mark.parametrize(
    ("name", "text", "unread"),
    [
        ("a.log", LOG + "books done, loss 3.1\n", ["line 2"]),
        ("a.log", MEGATRON + "books: ppl 9.5\nsaved\nwiki  2.5  2.25\n", ["line 2", "line 4"]),
        ("a.log", "2026 | epoch 001 | loss 5.0 | num_updates 9\n| final loss = 4.0\n", ["line 2"]),
        ("README.md", TABLE + "\n| code | 3.5 |\n\ncode   3.5\n", ["line 5", "line 7"]),
        ("t.txt", "dataset  loss\nwiki     2.5\n\nbooks    3.5\n", ["line 4"]),
    ],
)
def test_lines_that_no_reader_takes_are_told_by_their_places(
    name: str, text: str, unread: list[str], read: Callable[..., Imported]
) -> None:
    found = read(name, text)
    assert found.unread.total == len(unread)
    assert [shown.split(":")[0] for shown in found.unread.first] == unread
    assert any("not read: " + unread[0] in note for note in found.notes)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.log", LOG + LOG.replace("100", "200")),
        ("k.log", "Epoch 1/2\n 5/10 - 1s - loss: 3.0\n10/10 - 2s - loss: 2.5 - val_loss: 2.4\n"),
        ("README.md", "We trained for 3.5 days on 8 GPUs.\n\n" + TABLE + "| total | 2.5 |\n"),
        ("t.csv", "step,val_loss\n1,2.5\n2,2.25\n"),
    ],
)
def test_a_file_that_is_read_whole_has_none(name: str, text: str, read: Callable[..., Imported]) -> None:
    found = read(name, text)
    assert found.unread.total == 0
    assert "not read" not in str(found.notes)


def test_only_the_first_are_shown_and_all_are_counted(read: Callable[..., Imported]) -> None:
    found = read("a.log", LOG + "books loss 3.1\n" * 1200)
    assert found.unread.total == 1200
    note = next(note for note in found.notes if "not read" in note)
    assert note.startswith("1,200 lines look like data and were not read: line 2: ")
    assert note.endswith("and 1195 more")
    assert note.count("books") == 5


def test_lines_of_a_folder_are_told_with_their_file_and_stand_on_the_page(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "a.log").write_text(LOG + "books loss 3.1\n", encoding="utf-8")
    (folder / "b.log").write_text(LOG, encoding="utf-8")
    save_import(tmp_path / "out", "x", [read_any(folder, parse_maps([]))])
    table = imported_table(tmp_path / "out")
    assert any("a.log, line 2: 'books loss 3.1'" in note for note in table.notes)


def test_they_stand_in_the_closing_count(tmp_path: Path) -> None:
    file = tmp_path / "a.log"
    file.write_text(LOG + "books loss 3.1\n", encoding="utf-8")
    told = CliRunner().invoke(app, ["import", str(file), "--dry-run"])
    assert "left out with reasons 0 names; not read 1 line; in conflict 0" in told.output


def test_rows_without_a_step_and_rows_of_other_metrics_are_told(read: Callable[..., Imported]) -> None:
    points = read("c.csv", "step,val_loss\n1,2.5\nmean,2.25\n")
    assert "rows without a step are left out: line 3" in str(points.notes)
    rows = read("t.md", "| Tasks | Metric | Value |\n|---|---|---|\n| wiki | ppl | 9.5 |\n| qa | bleu | 20.5 |\n")
    assert "no loss, accuracy or perplexity are left out: line 4, 'bleu'" in str(rows.notes)


def test_records_that_are_left_out_are_told_by_their_lines(read: Callable[..., Imported]) -> None:
    found = read("r.jsonl", '{"step": 1, "loss": 2.5}\n{"final_loss": 2.25}\nloss is 2.5\n')
    assert "without a step or epoch are left out: line 2 (final_loss)" in str(found.notes)
    assert "no JSON are left out: line 3: 'loss is 2.5" in str(found.notes)


LONG = 2_000_000


@pytest.mark.parametrize("filling", ["a", " ", "loss ", "1", "train loss 1.5 "])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.log", LOG),
        ("a.log", MEGATRON),
        ("a.log", "[step=10/100]\n    train/CrossEntropyLoss=5.0\n"),
        ("a.log", "train_loss=5.0, global_step=10\n"),
        ("a.log", "| epoch 001 | loss 5.0 | num_updates 9\n"),
    ],
)
def test_a_line_that_no_log_has_is_not_looked_at_and_told(
    name: str, text: str, filling: str, read: Callable[..., Imported]
) -> None:
    count = text.count("\n")
    found = read(name, text + (filling * LONG)[:LONG] + "\n" + text)
    assert found.curves
    assert found.unread.total == 1
    assert found.unread.first[0].startswith(f"line {count + 1}: 'a line of 2,000,000 bytes'")


def test_bars_that_are_drawn_over_each_other_are_lines_of_any_length_together(read: Callable[..., Imported]) -> None:
    bars = "".join(
        f"\r{at // 100:3d}%|##| {at}/9999 [00:01<00:02, 9it/s, loss={2.5 + at % 7 / 8}]" for at in range(1, 9999)
    )
    assert len(bars * 3) > MOST_LINE
    [curve] = read("a.log", bars * 3 + "\n").curves
    assert len(curve.step) == 9998


@pytest.mark.parametrize("end", ["\n", "\r\n", ""])
def test_lines_of_a_log_are_counted_as_an_editor_counts_them(end: str, tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    long = "x" * (LONGEST + 1)
    path.write_bytes(f"one\r\ntwo\rthree\n\n{long}\r{long[:-1]}\nlast{end}".encode())
    found = [(line.number, line.text.strip(), line.length) for line in log_lines(path) if line.length > 1]
    assert found == [
        (1, "one", 3),
        (2, "two", 3),
        (2, "three", 5),
        (4, "", LONGEST + 1),
        (4, "x" * LONGEST, LONGEST),
        (5, "last", 4),
    ]


def test_texts_of_a_folder_that_seem_to_hold_losses_are_named_where_they_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text(LOG, encoding="utf-8")
    (tmp_path / "notes.txt").write_text("run of Monday\nfinal loss: 2.5\n", encoding="utf-8")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "scores.json").write_text('{"eval_loss": 2.5}', encoding="utf-8")
    (tmp_path / "config.json").write_text('{"hidden_size": 768, "layer_norm_eps": 1e-12}', encoding="utf-8")
    (tmp_path / "vocab.txt").write_text("loss\naccuracy\n", encoding="utf-8")
    note = next(note for note in read_any(tmp_path, parse_maps([])).notes if "were not looked at" in note)
    assert note.endswith("name those that are to be read: notes.txt; more/scores.json")


def test_a_folder_of_nothing_that_is_read_is_refused_with_those_files(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("final loss: 2.5\n", encoding="utf-8")
    with pytest.raises(SourceError) as caught:
        read_any(tmp_path, parse_maps([]))
    assert "notes.txt" in str(caught.value.hint)


def test_outputs_of_a_notebook_that_are_not_read_are_told_by_their_cells(read: Callable[..., Imported]) -> None:
    def cell(text: str) -> dict[str, object]:
        output = {"output_type": "stream", "name": "stdout", "text": text}
        return {"cell_type": "code", "source": "", "outputs": [output]}

    notebook = {"nbformat": 4, "cells": [cell(LOG), cell("final loss on books: 2.5\n"), cell("done in 2.5 s\n")]}
    found = read("n.ipynb", json.dumps(notebook))
    assert found.unread.first == ("cell 2, line 1: 'final loss on books: 2.5'",)


def test_lines_beside_the_tables_of_pages_and_papers_are_told(read: Callable[..., Imported]) -> None:
    html = """<title>loss: 9.5</title><script>var loss = 2.5</script>
<p>Final <b>validation loss</b>
on wiki: 2.5</p><pre>step 1
loss: 2.75</pre><table><tr><th>dataset<th>loss<tr><td>news<td>3.5</table>"""
    assert read("t.html", html).unread.first == (
        "line 2: 'Final validation loss on wiki: 2.5'",
        "line 4: 'loss: 2.75'",
    )
    latex = (
        "The final loss: 2.5 on wiki.\n\\begin{tabular}{lr}\nmodel & wiki loss \\\\ \\hline\nbase &\n 2.5 \\\\\n"
        "large & 2.25\n\\end{tabular}\nbooks: 2.75 nats\n"
    )
    found = read("t.tex", latex)
    assert found.unread.first == ("line 1: 'The final loss: 2.5 on wiki.'", "line 8: 'books: 2.75 nats'")
    assert [number.place for number in found.numbers] == ["line 4, wiki loss", "line 6, wiki loss"]
