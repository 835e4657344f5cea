"""Tables that trackers print and export, and what programs print at a prompt: each with the numbers that it holds."""

import re
from collections.abc import Callable

import pytest

from lossary.results.importers.model import Imported, metric_name


def values(found: Imported) -> dict[str, float]:
    """The last values by `run|dataset|metric`."""
    numbers = {f"{n.run}|{n.dataset or 'total'}|{n.metric}": n.value for n in found.numbers}
    curves = {f"{c.run}|{c.dataset}|{metric_name(c.metric, c.split)}": float(c.value[-1]) for c in found.curves}
    return numbers | curves


FILES: dict[str, tuple[str, str, dict[str, float]]] = {
    "Guild: an operation called train is no split": (
        "compare.csv",
        "run,operation,started,status,label,step,loss,val_loss\n"
        "4c1d,train,2024-03-01 10:11:12,completed,lr=0.1,1000,2.25,2.5\n"
        "5a6b,train,2024-03-01 11:11:12,completed,lr=0.2,1000,2.0,2.375\n",
        {"4c1d|all|train_loss": 2.25, "4c1d|all|loss": 2.5, "5a6b|all|train_loss": 2.0, "5a6b|all|loss": 2.375},
    ),
    "Aim: dotted headers, of which a name is the run's": (
        "aim.csv",
        "run.hash,run.name,hparams.lr,metrics.loss.train,metrics.loss.val\n"
        "a1,base,0.1,2.25,2.5\nb2,large,0.1,2.0,2.375\n",
        {"base|all|train_loss": 2.25, "base|all|loss": 2.5, "large|all|train_loss": 2.0, "large|all|loss": 2.375},
    ),
    "Aim: runs of one name are called by their hashes": (
        "aim.csv",
        "run.hash,run.name,metrics.loss.val\na1,base,2.5\nb2,base,2.375\n",
        {"a1|all|loss": 2.5, "b2|all|loss": 2.375},
    ),
    "Aim: the context says split and dataset": (
        "aim.csv",
        'Run,"loss context.subset=""train""","loss context.subset=""val""","loss{subset=""val"",dataset=""wiki""}"\n'
        "base,2.25,2.5,3.5\n",
        {"base|all|train_loss": 2.25, "base|all|loss": 2.5, "base|wiki|loss": 3.5},
    ),
    "ClearML: a plot and its lines": (
        "scalars.csv",
        "title,series,iteration,value\nloss,train,100,2.5\nloss,validation,100,2.625\nloss,train,200,2.25\n"
        "loss,validation,200,2.375\nlr,lr,200,0.001\n",
        {"scalars|all|train_loss": 2.25, "scalars|all|loss": 2.375},
    ),
    "ClearML: lines of datasets, by task": (
        "scalars.csv",
        "task,metric,variant,iter,value\na,eval/loss,wiki,100,2.5\na,eval/loss,code,100,1.5\nb,eval/loss,wiki,100,2.25\n",
        {"a|wiki|loss": 2.5, "a|code|loss": 1.5, "b|wiki|loss": 2.25},
    ),
    "lm-evaluation-harness in plain columns, with empty cells below a task": (
        "t.txt",
        "Task          Metric             Value\nwikitext      bits_per_byte     0.9375\n"
        "              word_perplexity  37.5000\nlambada       acc               0.3750\n",
        {"run|wikitext|bits_per_byte": 0.9375, "run|wikitext|word_perplexity": 37.5, "run|lambada|accuracy": 0.375},
    ),
    "R: a data frame at a prompt": (
        "session.txt",
        "> library(dplyr)\n> print(df)\n  dataset val_loss   acc\n1    wiki     2.50 0.500\n2   books     3.25 0.375\n"
        "> summary(df$val_loss)\n   Min. 1st Qu.  Median \n  2.500   2.700   2.900 \n",
        {"run|wiki|loss": 2.5, "run|wiki|accuracy": 0.5, "run|books|loss": 3.25, "run|books|accuracy": 0.375},
    ),
    "R: a frame of steps": (
        "session.txt",
        "> print(log)\n  step train_loss val_loss\n1  100       2.50     2.75\n2  200       2.25     2.50\n> q()\n",
        {"session|all|train_loss": 2.25, "session|all|loss": 2.5},
    ),
    "RST: rulers above, between and below": (
        "t.rst",
        "Results\n=======\n\nValidation loss of all models.\n\n========  =====  =====\nDataset   Base   Large\n"
        "========  =====  =====\nwiki      2.50   2.25\nbooks     3.50   OOM\n========  =====  =====\n\nText below.\n",
        {"Base|wiki|loss": 2.5, "Large|wiki|loss": 2.25, "Base|books|loss": 3.5},
    ),
    "LaTeX: cells over several rows, with where they stand": (
        "t.tex",
        "\\begin{tabular}{llcc}\nDataset & Model & Loss & \\multirow[t]{2}{*}[2pt]{PPL} \\\\ \\hline\n"
        "\\multirow[c]{2}{2cm}{WikiText} & A & 2.50 & 12.18 \\\\\n & B & 2.25 & 9.49 \\\\ \\hline\n"
        "\\multirow{2}{*}{C4} & A & 3.50 & 33.1 \\\\\n & B & 3.25 & 25.8 \\\\\n\\end{tabular}\n",
        {"A|WikiText|loss": 2.5, "A|WikiText|perplexity": 12.18, "B|WikiText|loss": 2.25, "B|WikiText|perplexity": 9.49,
         "A|C4|loss": 3.5, "A|C4|perplexity": 33.1, "B|C4|loss": 3.25, "B|C4|perplexity": 25.8},
    ),
    "rows without a number": (
        "t.txt",
        "dataset    base   large\n-------    ----   -----\nval loss\nwiki       2.50   2.25\nbooks      OOM    3.00\n",
        {"base|wiki|loss": 2.5, "large|wiki|loss": 2.25, "large|books|loss": 3.0},
    ),
    "cells that are empty": (
        "t.txt",
        "dataset    val loss    acc\nwiki       2.50        0.50\nbooks                  0.25\nlaw\n",
        {"run|wiki|loss": 2.5, "run|wiki|accuracy": 0.5, "run|books|accuracy": 0.25},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("name", "text", "expected"), FILES.values(), ids=FILES.keys())
def test_every_number_is_of_what_its_file_says(
    name: str, text: str, expected: dict[str, float], read: Callable[..., Imported]
) -> None:
    assert values(read(name, text)) == pytest.approx(expected)


def bars(of: int, every: int, entry: str) -> str:
    """A training's output as a file holds it: bars that are drawn over, and dicts among them."""
    text = ""
    for step in range(1, of + 1):
        text += f"\r {100 * step // of:2d}%|{'█' * step}   | {step}/{of} [00:09<00:10,  1.90it/s]"
        if step % every == 0:
            text += entry.format(loss=3 - step / 20, epoch=step / every)
    return text + "\n"


@pytest.mark.parametrize(
    "entry",
    [
        "{{'loss': {loss:.3f}, 'learning_rate': 5e-05, 'epoch': {epoch:.2f}}}",
        "\r                 \r{{'loss': {loss:.3f}, 'learning_rate': 5e-05, 'epoch': {epoch:.2f}}}\n",
        "\r         \r{{'loss': '{loss:.3f}', 'learning_rate': '5e-05', 'epoch': '{epoch:.2f}'}}",
    ],
)
def test_dicts_among_bars_have_the_steps_of_the_bars(entry: str, read: Callable[..., Imported]) -> None:
    found = read("train.log", bars(20, 10, entry))
    [curve] = [curve for curve in found.curves if curve.metric == "loss"]
    assert (curve.split, curve.axis, list(curve.step), list(curve.value)) == ("train", "step", [10, 20], [2.5, 2.0])


def test_bars_of_an_evaluation_between_them_are_not_the_trainings(read: Callable[..., Imported]) -> None:
    evaluated = "\n 40%|████   | 2/5 [00:00<00:00, 12it/s]\r100%|███| 5/5 [00:00<00:00, 12it/s]\x1b[A\n"
    entry = "{{'eval_loss': {loss:.3f}, 'eval_runtime': 0.9, 'epoch': {epoch:.2f}}}\n"
    [curve] = read("train.log", bars(20, 10, evaluated + entry)).curves
    assert (curve.split, curve.axis, list(curve.step), list(curve.value)) == ("eval", "step", [10, 20], [2.5, 2.0])


def test_a_split_column_does_not_overrule_a_header_that_says_one(read: Callable[..., Imported]) -> None:
    found = read("t.csv", "dataset,split,loss,test_loss\nwiki,val,2.5,2.75\ncode,val,1.5,1.75\n")
    assert values(found) == {
        "run|wiki|loss": 2.5,
        "run|wiki|test_loss": 2.75,
        "run|code|loss": 1.5,
        "run|code|test_loss": 1.75,
    }


def test_scalars_without_a_number_are_told_by_their_lines(read: Callable[..., Imported]) -> None:
    found = read("s.csv", "title,series,iteration,value\nloss,val,1,2.5\nloss,val,x,2.25\nloss,val,3,\n")
    note = next(note for note in found.notes if "without a step or a number" in note)
    assert re.findall(r"line \d", note) == ["line 3", "line 4"]


def test_a_cell_below_two_headers_makes_it_no_table(read: Callable[..., Imported]) -> None:
    found = read("t.txt", "dataset    loss    acc\nwiki       2.50    0.50\nbooks\n\nlaw loss   3.25  0.50\n")
    assert values(found) == {"run|wiki|loss": 2.5, "run|wiki|accuracy": 0.5}
    assert found.unread.first[0].startswith("line 5")
