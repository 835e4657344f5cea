"""Parts of a loss, deviations in LaTeX, uneven spans, unnamed indexes, unmarked logs: each read right, or refused."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from lossary.errors import SourceError
from lossary.results.importers.maps import parse_maps
from lossary.results.importers.model import Imported
from lossary.results.importers.recognise import read_any


def numbers_of(found: Imported) -> dict[tuple[str, str | None, str], float]:
    return {(n.run, n.dataset, n.metric): n.value for n in found.numbers}


PARTS = ("value", "policy", "entropy", "aux", "kl", "vf", "policy_gradient", "value_function")


@pytest.mark.parametrize("prefix", ["", "train/", "losses/"])
def test_a_part_of_a_loss_is_no_loss_and_no_dataset(read: Callable[..., Imported], prefix: str) -> None:
    names = [f"{prefix}{part}_loss" for part in PARTS]
    rows = [f"{step},{','.join(f'{step * 0.001 + at:.3f}' for at in range(len(PARTS)))},2.5" for step in (100, 200)]
    found = read("ppo.csv", "\n".join([f"step,{','.join(names)},{prefix}loss", *rows]))
    values = {(curve.dataset, curve.metric): curve.value[0] for curve in found.curves}
    assert values == {("all", f"{part}_loss"): 0.1 + at for at, part in enumerate(PARTS)} | {("all", "loss"): 2.5}
    assert not any(mapped.conflict for mapped in found.mapping)


def test_parts_across_a_table_stand_beside_its_loss(read: Callable[..., Imported]) -> None:
    found = read("t.md", "| model | value_loss | entropy_loss | loss |\n|---|---|---|---|\n| a | 0.5 | 1.2 | 2.31 |\n")
    assert {(n.dataset, n.metric): n.value for n in found.numbers} == {
        ("all", "value_loss"): 0.5,
        ("all", "entropy_loss"): 1.2,
        ("all", "loss"): 2.31,
    }


def test_the_value_of_a_loss_is_a_loss(read: Callable[..., Imported]) -> None:
    found = read("log.csv", "step,wiki/cross_entropy_loss,books/loss_value\n100,2.5,3.5\n200,2.4,3.4\n")
    assert {(c.dataset, c.metric) for c in found.curves} == {("wiki", "loss"), ("books", "loss")}


@pytest.mark.parametrize(
    "cell",
    [
        r"2.31 {\small $\pm$ 0.04}",
        r"$2.31_{\pm .04}$",
        r"2.31 $\pm$ 0.04",
        r"$2.31_{\scriptstyle \pm 0.04}$",
        r"\textbf{2.31} {\scriptsize $\pm$ 0.04}",
        r"$\mathbf{2.31} \pm 0.04$",
        r"2.31\textsubscript{$\pm$0.04}",
        r"2.31$\pm${\footnotesize .04}",
        r"$2.31^{\pm 0.04}$",
        r"2.31 \std{0.04}",
        r"\num{2.31(4)}",
        r"\textcolor{red}{2.31} {\tiny (0.04)}",
    ],
)
def test_a_deviation_in_latex_leaves_its_value(read: Callable[..., Imported], cell: str) -> None:
    body = rf"\begin{{tabular}}{{lc}} Dataset & base loss \\ wiki & {cell} \\ books & 3.5 \\ \end{{tabular}}"
    found = read("t.tex", body)
    assert numbers_of(found) == {("base", "wiki", "loss"): 2.31, ("base", "books", "loss"): 3.5}
    told = [note for note in found.notes if note.startswith("what stands behind ±")]
    assert len(told) == 1
    assert "4" in told[0].partition("2.31")[2]
    assert "size" not in told[0]


@pytest.mark.parametrize("cell", ["2.31$^{2}$", r"2.31\textsuperscript{2}", "$10^{2}$", "$2_{3}$"])
def test_what_is_set_higher_or_lower_joins_no_number(read: Callable[..., Imported], cell: str) -> None:
    body = (
        rf"\begin{{tabular}}{{lc}} Dataset & base loss \\ wiki & {cell} \\ books & 3.5 \\ code & 1.5 \\ \end{{tabular}}"
    )
    assert numbers_of(read("t.tex", body)) == {("base", "books", "loss"): 3.5, ("base", "code", "loss"): 1.5}


HEAD = "<table><tr><th>dataset</th><th>a loss</th><th>b loss</th></tr>"


@pytest.mark.parametrize(
    ("rows", "of_b"),
    [
        # The rows below one that ends early keep their columns.
        (
            "<tr><td>wiki</td><td>2.3</td><td rowspan=2>2.2</td></tr><tr><td>books</td><td>2.4</td></tr>"
            "<tr><td>code</td><td>1.4</td><td>1.5</td></tr>",
            {"wiki": 2.2, "code": 1.5},
        ),
        (
            "<tr><td>wiki</td><td rowspan=0>2.3</td><td>2.4</td></tr><tr><td>books</td><td>3.1</td></tr>",
            {"wiki": 2.4, "books": 3.1},
        ),
        ("<tr><td>wiki</td><td>2.3</td></tr><tr><td>books</td><td>3.1</td><td>3.2</td></tr>", {"books": 3.2}),
    ],
)
def test_uneven_spans_leave_every_cell_in_its_column(
    read: Callable[..., Imported], rows: str, of_b: dict[str, float]
) -> None:
    found = read("t.html", f"{HEAD}{rows}</table>")
    assert {n.dataset: n.value for n in found.numbers if n.run == "b"} == of_b


def test_a_name_stands_in_every_row_that_it_reaches(read: Callable[..., Imported]) -> None:
    rows = "<tr><td rowspan=3>wiki</td><td>train</td><td>2.3</td></tr><tr><td>eval</td><td>2.4</td></tr>"
    found = read("t.html", f"<table><tr><th>dataset</th><th>split</th><th>loss</th></tr>{rows}</table>")
    assert {(n.dataset, n.metric): n.value for n in found.numbers} == {
        ("wiki", "train_loss"): 2.3,
        ("wiki", "loss"): 2.4,
    }


def test_cells_in_one_place_are_refused(read: Callable[..., Imported]) -> None:
    rows = "<tr><td>wiki</td><td rowspan=2>2.3</td><td>2.4</td></tr><tr><td colspan=2>books</td><td>3.1</td></tr>"
    with pytest.raises(SourceError, match="'books' spans 2 columns"):
        read("t.html", f"{HEAD}{rows}</table>")


@pytest.mark.parametrize(
    ("name", "text", "split"),
    [
        ("a.jsonl", '{"step":100,"loss":2.9,"lr":0.001}\n{"step":200,"loss":2.8,"lr":0.001}\n', "train"),
        ("a.csv", "step,loss,learning_rate\n100,2.9,0.001\n200,2.8,0.0009\n", "train"),
        ("a.csv", "step,loss\n100,2.9\n200,2.8\n", "unknown"),
        ("eval.csv", "step,loss,learning_rate\n100,2.9,0.001\n200,2.8,0.0009\n", "unknown"),
        ("a.csv", "step,loss,lr\n100,2.9,\n200,2.8,0.0009\n", "unknown"),
    ],
)
def test_a_learning_rate_beside_a_loss_tells_of_training(
    read: Callable[..., Imported], name: str, text: str, split: str
) -> None:
    found = read(name, text)
    assert [(c.dataset, c.metric, c.split, c.value.tolist()) for c in found.curves] == [
        ("all", "loss", split, [2.9, 2.8])
    ]
    assert any("read as of training: loss" in note for note in found.notes) == (split == "train")


@pytest.mark.parametrize("more", ["", ",accuracy"])
def test_the_nameless_levels_of_an_index_are_two_columns(read: Callable[..., Imported], more: str) -> None:
    rows = [
        ("wiki", "small", "2.31"),
        ("wiki", "large", "2.20"),
        ("books", "small", "3.02"),
        ("books", "large", "2.91"),
    ]
    lines = [",".join([*row, *(["0.5"] if more else [])]) for row in rows]
    found = read("index.csv", "\n".join([f",,loss{more}", *lines]))
    losses = {key[:2]: value for key, value in numbers_of(found).items() if key[2] == "loss"}
    assert losses == {(run, dataset): float(value) for dataset, run, value in rows}
    assert any("told apart by 'level_1'" in note for note in found.notes)
    assert numbers_of(read("index.csv", f",,loss{more}\n" + "\n".join(lines), "level_0=run", "level_1=dataset"))[
        "wiki", "small", "loss"
    ] == pytest.approx(2.31)


def test_a_column_of_splits_is_one_whatever_its_heading(read: Callable[..., Imported]) -> None:
    text = ",,loss\nwiki,valid,2.31\nwiki,test,2.40\nbooks,valid,3.02\nbooks,test,3.11\n"
    for found in (read("a.csv", text), read("b.csv", text.replace(",,loss", "corpus,phase,loss"))):
        values = {(dataset, metric): value for (_, dataset, metric), value in numbers_of(found).items()}
        assert values == {
            ("wiki", "loss"): 2.31,
            ("wiki", "test_loss"): 2.40,
            ("books", "loss"): 3.02,
            ("books", "test_loss"): 3.11,
        }


def test_a_pipe_is_told_how_to_be_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SourceError, match="not an ordinary file") as caught:
        read_any(tmp_path / "pipe", parse_maps([]))
    assert "lossary import -" in (caught.value.hint or "")
