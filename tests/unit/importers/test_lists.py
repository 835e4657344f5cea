"""Lists as people paste them: names with numbers, with bullets or without, below a line that says what they measure."""

from collections.abc import Callable

import pytest

from lossary.errors import SourceError
from lossary.results.importers.model import Imported

Read = Callable[..., Imported]


def numbers_of(found: Imported) -> dict[tuple[str, str | None, str], float]:
    return {(n.run, n.dataset, n.metric): n.value for n in found.numbers}


@pytest.mark.parametrize("bullet", ["- ", "* ", "• ", "  - ", "1. ", "2) ", ""])
@pytest.mark.parametrize(("sign", "split", "prefix"), [(": ", "Validation", ""), (" = ", "Train", "train_")])
def test_a_list_below_a_line_that_names_the_metric(read: Read, bullet: str, sign: str, split: str, prefix: str) -> None:
    text = f"# Results\n\n{split} MLM loss by dataset:\n\n{bullet}wiki{sign}2.5\n{bullet}**books**{sign}3.25\n"
    found = read("notes.md", text)
    assert numbers_of(found) == {
        ("run", "wiki", f"{prefix}mlm_loss"): 2.5,
        ("run", "books", f"{prefix}mlm_loss"): 3.25,
    }
    assert [number.place[:6] for number in found.numbers] == ["line 5", "line 6"]


def test_a_metric_of_each_number_stands_in_the_items(read: Read) -> None:
    text = "## {}\n- wiki: val loss {}, acc 0.5\n- books: val loss: 3.5; acc = 0.25\n"
    found = read("notes.md", text.format("torch", 2.5) + "\n" + text.format("tf", 2.75))
    assert numbers_of(found) == {
        ("torch", "wiki", "loss"): 2.5,
        ("torch", "books", "loss"): 3.5,
        ("tf", "wiki", "loss"): 2.75,
        ("tf", "books", "loss"): 3.5,
        **{(run, "wiki", "accuracy"): 0.5 for run in ("torch", "tf")},
        **{(run, "books", "accuracy"): 0.25 for run in ("torch", "tf")},
    }


def test_items_that_are_metrics_are_of_the_run_above_them(read: Read) -> None:
    text = (
        "**base**\n- val_loss: 2.5\n- train_loss: 2.25\n- lr: 0.1\n\n**large**\n- val_loss: 2.0\n- train_loss: 1.75\n"
    )
    assert numbers_of(read("notes.md", text)) == {
        ("base", "all", "loss"): 2.5,
        ("base", "all", "train_loss"): 2.25,
        ("large", "all", "loss"): 2.0,
        ("large", "all", "train_loss"): 1.75,
    }


def test_items_below_items_are_of_them(read: Read) -> None:
    text = "Validation loss\n\n* torch\n  * wiki 2.5\n  * books 3.5\n* tf\n  * wiki 2.75\n  * books 3.25\n"
    assert numbers_of(read("notes.md", text)) == {
        ("torch", "wiki", "loss"): 2.5,
        ("torch", "books", "loss"): 3.5,
        ("tf", "wiki", "loss"): 2.75,
        ("tf", "books", "loss"): 3.25,
    }


@pytest.mark.parametrize("text", ["- wiki: 2.5\n- books: 3.5\n", "# run 7\nwiki: 2.5\nbooks: 3.5\n"])
def test_numbers_of_which_nothing_says_what_they_measure_are_refused(read: Read, text: str) -> None:
    with pytest.raises(SourceError, match="'wiki', and nothing says what they measure"):
        read("notes.md", text)


@pytest.mark.parametrize(
    "text",
    [
        "# Notes\n- trained for 3.5 days\n- lr: 0.001\n- batch: 256\n- the loss was 2.5 in the end\n",
        "Validation loss\n- wiki: 2.5\n- wiki: 2.75\n",
        "Validation loss and accuracy\n- wiki: 2.5\n- books: 2.75\n",
    ],
)
def test_other_lists_are_not_read(read: Read, text: str) -> None:
    with pytest.raises(SourceError):
        read("notes.md", text)


def test_a_loss_without_a_step_alone_makes_no_log(read: Read) -> None:
    with pytest.raises(SourceError):
        read("run.txt", "val loss 2.5\ndone\nval loss 2.75\n")
    before = read("run.txt", "val loss 10.5\nstep 1 | loss 9.5\nval loss 9.25\n")
    assert {(c.split, tuple(c.step), tuple(c.value)) for c in before.curves} == {
        ("eval", (0, 1), (10.5, 9.25)),
        ("train", (1,), (9.5,)),
    }


def test_tables_of_one_form_below_names_of_runs_stand_side_by_side(read: Read) -> None:
    table = "| dataset | val loss |\n|---|---|\n| wiki | {} |\n"
    found = read("t.md", f"## torch\n\n{table.format(2.5)}\n## tf\n\n{table.format(2.75)}")
    assert {(n.run, n.section, n.value) for n in found.numbers} == {("torch", None, 2.5), ("tf", None, 2.75)}
    assert "tables of one form are of the runs that their headings name: torch; tf" in found.notes
    by_split = read("t.md", f"## Train loss\n\n{table.format(2.5)}\n## Test loss\n\n{table.format(2.75)}")
    assert {n.run for n in by_split.numbers} == {"run", "run (2)"}
