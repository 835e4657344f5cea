"""Rows that sum others up, count them or are parts of a sum are no datasets; cells that name none are not filled."""

import json
from collections.abc import Callable

import pytest

from lossary.errors import SourceError
from lossary.results.importers.model import Imported, metric_name

SIZES = (("wiki", 1000, 2.5), ("code", 2000, 1.5))
ROWS = "| wiki | 2.5 | 2.4 |\n| books | 3.1 | 3.0 |\n| code | 1.6 | 1.5 |\n"


def table(rows: str, head: str = "| Dataset | A loss | B loss |") -> str:
    return f"{head}\n{'|---' * head.count(' | ')}|---|\n{rows}"


def datasets(found: Imported) -> set[str | None]:
    return {number.dataset for number in found.numbers} | {curve.dataset for curve in found.curves}


@pytest.mark.parametrize(
    "name",
    ["# domains", "n", "count", "num datasets", "Worst-case", "worst domain", "Std", "std. dev.", "Std over seeds",
     "Median", "Min", "Max", "Rank", "Avg. rank", "Wins", "Win rate", "95% CI", "p-value", "Δ", "Improvement", "params",
     "seconds"],
)  # fmt: skip
def test_what_counts_or_sums_up_the_others_is_no_dataset_and_is_told(name: str, read: Callable[..., Imported]) -> None:
    found = read("t.md", table(ROWS + f"| {name} | 2 | 2 |\n"))
    assert datasets(found) == {"wiki", "books", "code"}
    assert {dataset.name for dataset in found.datasets} == {"wiki", "books", "code"}
    assert f"left out; --map NAME=dataset says that one is a dataset: '{name}' (line 6)" in str(found.notes)
    assert name in datasets(read("t.md", table(ROWS + f"| {name} | 2 | 2 |\n"), f"{name}=dataset"))


@pytest.mark.parametrize(
    "name", ["paloma macro", "macro avg", "micro avg", "pile average", "Average (all)", "GLUE mean"]
)
def test_the_mean_of_the_others_is_a_total(name: str, read: Callable[..., Imported]) -> None:
    found = read("t.md", table(ROWS + f"| {name} | 2.4 | 2.3 |\n"))
    assert {(n.run, n.value) for n in found.numbers if n.dataset is None} == {("A", 2.4), ("B", 2.3)}
    assert datasets(found) == {"wiki", "books", "code", None}


def test_a_micro_mean_stands_below_and_between_the_others(read: Callable[..., Imported]) -> None:
    found = read("t.md", table(ROWS + "| paloma micro | 2.2 | 2.1 |\n"))
    assert {(n.run, n.value) for n in found.numbers if n.dataset is None} == {("A", 2.2), ("B", 2.1)}


def test_a_name_with_a_word_for_a_mean_is_a_dataset_where_its_numbers_are_no_mean(
    read: Callable[..., Imported],
) -> None:
    found = read("t.md", table("| average joe | 2.6 | 2.7 |\n" + ROWS))
    assert "average joe" in datasets(found)


def test_where_nothing_decides_it_is_left_out_and_both_readings_are_named(read: Callable[..., Imported]) -> None:
    found = read("t.md", table(ROWS + "| mean girls | 2.2 | 2.1 |\n"))
    assert datasets(found) == {"wiki", "books", "code"}
    assert "a dataset or a total of the others, which nothing decides: left out" in str(found.notes)
    assert "'mean girls' (line 6)" in str(found.notes)
    assert "mean girls" in datasets(read("t.md", table(ROWS + "| mean girls | 2.2 | 2.1 |\n"), "mean girls=dataset"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.md", table("| language | 2.1 | 1.9 |\n| router | 0.3 | 0.2 |\n| total | 2.4 | 2.1 |\n")),
        ("t.csv", "model,text_loss,image_loss,total_loss\nA,2.1,0.3,2.4\nB,1.9,0.2,2.1\n"),
        ("t.csv", "step,text_loss,image_loss,total_loss\n1,2.1,0.3,2.4\n2,1.9,0.2,2.1\n"),
        (
            "t.log",
            "step 1 | text_loss 2.1 | image_loss 0.3 | loss 2.4\nstep 2 | text_loss 1.9 | image_loss 0.2 | loss 2.1\n",
        ),
    ],
)
def test_parts_of_a_sum_are_no_datasets_beside_it(name: str, text: str, read: Callable[..., Imported]) -> None:
    found = read(name, text)
    assert datasets(found) == {"all"}
    values = {n.value for n in found.numbers} | {float(v) for curve in found.curves for v in curve.value}
    assert values == {2.4, 2.1}
    assert "add up" in str(found.notes) or any("adds up" in (m.reason or "") for m in found.mapping)


def test_datasets_that_hardly_add_up_stay(read: Callable[..., Imported]) -> None:
    found = read("t.csv", "step,wiki_loss,code_loss,loss\n1,2.1,0.3,2.0\n2,1.9,0.2,1.8\n")
    assert datasets(found) == {"wiki", "code", "all"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", "model,val_loss,vocab_loss\nA,2.5,0.1\nB,2.4,0.2\n"),
        ("t.md", table("| Val Loss | 2.5 | 2.4 |\n| Vocab Loss | 0.1 | 0.2 |\n", "| Metric | A | B |")),
    ],
)
def test_one_word_before_one_of_two_losses_is_asked_about(name: str, text: str, read: Callable[..., Imported]) -> None:
    found = read(name, text)
    assert datasets(found) == {"all"}
    assert any("a dataset, a run or a part of the loss" in (m.reason or "") for m in found.mapping)


def test_a_series_of_one_word_is_told_as_what_it_may_be(read: Callable[..., Imported]) -> None:
    found = read("t.csv", "step,loss,val_loss,vocab_loss\n1,2.5,2.6,0.1\n2,2.4,2.5,0.2\n")
    assert "a dataset or a part of the loss; read as a dataset: vocab_loss" in str(found.notes)
    assert "part of the loss" not in str(read("t.csv", "step,loss,wiki_loss\n1,2.5,0.1\n").notes)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", "domain,n_tokens,loss\nwiki,1000,2.5\ncode,2000,1.5\n"),
        ("t.csv", "dataset,n_tokens,metric,value\nwiki,1000,loss,2.5\nwiki,1000,acc,0.5\ncode,2000,loss,1.5\n"),
        ("t.json", json.dumps([{"domain": name, "n_tokens": n, "loss": v} for name, n, v in SIZES])),
        ("t.jsonl", "\n".join(json.dumps({"name": name, "n_tokens": n, "loss": v}) for name, n, v in SIZES)),
    ],
)
def test_how_many_tokens_a_dataset_has_is_no_axis(name: str, text: str, read: Callable[..., Imported]) -> None:
    found = read(name, text)
    assert not found.curves
    losses = {n.dataset: (n.value, n.step) for n in found.numbers if n.metric == "loss"}
    assert losses == {"wiki": (2.5, None), "code": (1.5, None)}


def test_tokens_of_one_dataset_that_grow_are_an_axis(read: Callable[..., Imported]) -> None:
    lines = '{"dataset": "wiki", "tokens": 10, "loss": 2.5}\n{"dataset": "wiki", "tokens": 20, "loss": 2.25}\n'
    [curve] = read("t.jsonl", lines).curves
    assert (curve.axis, curve.dataset, list(curve.step)) == ("tokens", "wiki", [10, 20])


@pytest.mark.parametrize(
    "rows",
    [
        "| Dataset | Model | loss |\n|--|--|--|\n| wiki | A | 2.5 |\n| | B | 2.4 |\n| code | A | 1.5 |\n| | B | 1.4 |",
        "| Model | Dataset | loss |\n|--|--|--|\n| A | wiki | 2.5 |\n| | code | 1.5 |\n"
        "| B | wiki | 2.4 |\n| | code | 1.4 |",
    ],
)
def test_merged_cells_go_on_with_the_name_above(rows: str, read: Callable[..., Imported]) -> None:
    found = read("t.md", rows)
    assert {(n.run, n.dataset, n.value) for n in found.numbers} == {
        ("A", "wiki", 2.5),
        ("B", "wiki", 2.4),
        ("A", "code", 1.5),
        ("B", "code", 1.4),
    }


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        ("A,wiki,2.5\nA,code,1.5\nB,,2.8\n", 4),
        ("A,wiki,2.5\n,code,1.5\nB,,2.8\n", 4),
        ("A,wiki,2.5\nA,,2.9\nB,wiki,2.4\n", 3),
    ],
)
def test_a_cell_behind_a_name_of_its_own_row_takes_no_dataset_from_above(
    rows: str, line: int, read: Callable[..., Imported]
) -> None:
    found = read("t.csv", "run,dataset,val_loss\n" + rows)
    assert f"lines that name no dataset are left out: line {line}" in str(found.notes)
    assert not {n.value for n in found.numbers} & {2.8, 2.9}


def test_a_run_is_not_taken_from_another_dataset(read: Callable[..., Imported]) -> None:
    found = read("t.csv", "dataset,run,val_loss\nwiki,A,2.5\ncode,,2.9\nwiki,B,2.4\n")
    assert {(n.run, n.dataset, metric_name(n.metric, "eval")) for n in found.numbers} == {
        ("A", "wiki", "loss"),
        ("B", "wiki", "loss"),
    }
    assert "lines that name no run are left out: line 3" in str(found.notes)


def test_two_empty_rows_of_one_dataset_are_refused(read: Callable[..., Imported]) -> None:
    with pytest.raises(SourceError, match="nothing tells them apart"):
        read(
            "t.md",
            "| Dataset | Model | val loss |\n|---|---|---|\n| wiki | A | 2.5 |\n| | A | 2.4 |\n| code | B | 1.5 |\n",
        )


@pytest.mark.parametrize("header", ["Diff", "Rel. change (%)", "p-value", "Rank", "Best", "Δ", "Wins", "Std"])
def test_columns_that_say_something_of_the_others_are_no_runs(header: str, read: Callable[..., Imported]) -> None:
    text = f"# Validation loss\n\n| Dataset | Base | Large | {header} |\n|--|--|--|--|\n| wiki | 2.5 | 2.4 | 0.1 |\n"
    found = read("t.md", text)
    assert {(n.run, n.value) for n in found.numbers} == {("Base", 2.5), ("Large", 2.4)}
    assert any(mapped.source == header and mapped.reason for mapped in found.mapping)


def test_bounds_of_an_interval_are_no_runs(read: Callable[..., Imported]) -> None:
    found = read("t.csv", "dataset,loss,loss_lower,loss_upper\nwiki,2.5,2.4,2.6\ncode,1.5,1.4,1.6\n")
    assert {n.run for n in found.numbers} == {"run"}
    assert {mapped.source for mapped in found.mapping if mapped.reason} == {"loss_lower", "loss_upper"}


def test_rows_over_seeds_are_no_seeds(read: Callable[..., Imported]) -> None:
    rows = "base,1,wiki,2.5\nbase,2,wiki,2.6\nbase,mean,wiki,2.55\nbase,std,wiki,0.05\n"
    found = read("t.csv", "run,seed,dataset,val_loss\n" + rows)
    assert {n.run for n in found.numbers} == {"base · seed 1", "base · seed 2"}
    assert "over runs are left out: line 4, 'mean'; line 5, 'std'" in str(found.notes)


@pytest.mark.parametrize(
    ("rows", "whole"),
    [
        ("| easy | 1.5 |\n| hard | 3.5 |\n| easy+hard | 2.5 |\n", "easy+hard"),
        ("| Pile | 2.5 |\n| - ArXiv | 2.1 |\n| - GitHub | 1.2 |\n| C4 | 3.1 |\n", "Pile"),
    ],
)
def test_a_whole_beside_its_parts_is_told(rows: str, whole: str, read: Callable[..., Imported]) -> None:
    found = read("t.md", "| Subset | loss |\n|--|--|\n" + rows)
    assert whole not in datasets(found)
    assert len(found.numbers) == rows.count("\n") - 1
    assert f"'{whole}' (line" in str(found.notes)


def test_models_beside_methods_are_runs(read: Callable[..., Imported]) -> None:
    text = "Perplexity\n\n| Method | LLaMA-7B | LLaMA-13B |\n|--|--|--|\n| FP16 | 5.5 | 5.0 |\n| GPTQ | 6.0 | 5.25 |\n"
    found = read("t.md", text)
    assert {(n.run, n.dataset) for n in found.numbers} == {
        (f"{method} · {model}", "all") for method in ("FP16", "GPTQ") for model in ("LLaMA-7B", "LLaMA-13B")
    }
    assert "sound like models" in str(found.notes)


def test_numbers_of_a_line_that_nothing_names_a_metric_are_told(read: Callable[..., Imported]) -> None:
    found = read("a.log", "iter 100: loss 2.5, time 1.5\niter 100: val loss 2.6 (wiki 2.7, code 2.5)\n")
    note = next(note for note in found.notes if "of which no line says what they are" in note)
    assert note.endswith("left out: wiki (line 2); code (line 2)")


@pytest.mark.parametrize("name", ["Best on books", "worst over domains"])
def test_an_extreme_of_others_is_no_dataset(name: str, read: Callable[..., Imported]) -> None:
    assert datasets(read("t.md", table(ROWS + f"| {name} | 2.0 | 2.0 |\n"))) == {"wiki", "books", "code"}


def test_a_weighted_mean_is_asked_about_and_a_geometric_one_is_a_total(read: Callable[..., Imported]) -> None:
    found = read("t.md", table(ROWS + "| Geo. mean | 2.3 | 2.2 |\n| Weighted by tokens | 2.2 | 2.1 |\n"))
    assert {(n.run, n.value) for n in found.numbers if n.dataset is None} == {("A", 2.3), ("B", 2.2)}
    assert "which nothing decides: left out" in str(found.notes)
    assert "'Weighted by tokens' (line 7)" in str(found.notes)


def test_what_is_set_in_below_a_corpus_is_a_part_of_it(read: Callable[..., Imported]) -> None:
    rows = "wiki & 2.5 \\\\\n\\quad en & 2.4 \\\\\n\\quad de & 2.6 \\\\\ncode & 1.5 \\\\\n"
    found = read("t.tex", "\\begin{tabular}{lr}\nCorpus & Loss \\\\\n" + rows + "\\end{tabular}\n")
    assert {n.dataset: n.value for n in found.numbers} == {"en": 2.4, "de": 2.6, "code": 1.5}
    assert {dataset.name for dataset in found.datasets} == {"en", "de", "code"}
    assert "'wiki' (line" in str(found.notes)


def test_the_best_step_at_the_end_of_a_log_is_no_evaluation_of_its_own(read: Callable[..., Imported]) -> None:
    found = read("a.log", "[Epoch 1] val loss: 2.5\n[Epoch 2] val loss: 2.75\nDone. Best epoch 1 with val loss 2.5\n")
    assert datasets(found) == {"all"}
    assert found.unread.first == ("line 3: 'Done. Best epoch 1 with val loss 2.5'",)


def test_columns_that_sound_like_corpora_above_rows_of_metrics_are_datasets(read: Callable[..., Imported]) -> None:
    found = read("t.csv", "Metric,wiki,books,Mean,Std\nloss,2.5,3.1,2.8,0.3\nppl,12.2,22.2,17.2,5.0\n")
    assert datasets(found) == {"wiki", "books", None}
    assert "read as datasets: --map 'Metric=run' says runs" in str(found.notes)


def test_a_table_that_names_no_metric_either_way_is_refused(read: Callable[..., Imported]) -> None:
    text = ">>> Evaluating on wiki\n    loss = 2.50, ppl = 12.18\n>>> Evaluating on code\n    loss = 1.50, ppl = 4.48\n"
    with pytest.raises(SourceError, match="no number in it is understood"):
        read("t.log", text)
