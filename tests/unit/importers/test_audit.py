"""What names seem to say is held against the numbers: what cannot be is left out, what looks odd is told."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossary.errors import SourceError
from lossary.results.importers.audit import contradiction
from lossary.results.importers.model import Imported


@given(st.lists(st.floats(0, 19), min_size=1))
def test_what_a_language_model_can_have_is_let_be(losses: list[float]) -> None:
    values = np.array(losses) + 0.25
    assert contradiction("mlm_loss", values) is None
    assert contradiction("perplexity", np.exp(values)) is None
    assert contradiction("accuracy", values / 20) is None


@pytest.mark.parametrize(
    ("metric", "values"),
    [
        ("loss", [0.5, -0.1]),
        ("loss", [5000.0, 4000.0]),
        ("loss", [3.0, 5.0, 7.0, 9.0]),
        ("perplexity", [0.9, 1.1]),
        ("accuracy", [0.5, 1.5]),
        ("bits_per_byte", [30.0]),
    ],
)
def test_what_cannot_be_is_named(metric: str, values: list[float]) -> None:
    assert contradiction(metric, values)
    assert contradiction("policy_loss", values) is None


@pytest.mark.parametrize(
    "text",
    [
        "| Domain | loss |\n|---|---|\n| wiki | +0.598 |\n| books | +0.382 |\n",
        "| Corpus | loss |\n|---|---|\n| wiki | -0.171 |\n| books | 0.382 |\n",
        "| Team | Win | Loss |\n|---|---|---|\n| a | 3 | 2 |\n| b | 5 | 1 |\n",
    ],
)
def test_correlations_differences_and_counts_are_no_losses(text: str, read: Callable[..., Imported]) -> None:
    with pytest.raises(SourceError) as caught:
        read("t.md", text)
    assert "'loss' is no loss" in (caught.value.hint or "").lower()


def test_a_map_s_word_stands_against_the_numbers(read: Callable[..., Imported]) -> None:
    found = read("t.csv", "dataset,loss\nwiki,-0.5\nbooks,0.25\n", "loss=base:loss")
    assert {n.dataset: n.value for n in found.numbers} == {"wiki": -0.5, "books": 0.25}


def test_a_negative_series_is_left_out_and_the_others_stay(read: Callable[..., Imported]) -> None:
    found = read(
        "t.log", "step 1: val_loss = 4.5, neg_log_perplexity = -4.5\nstep 2: val_loss = 4, neg_log_perplexity = -4\n"
    )
    assert [curve.value.tolist() for curve in found.curves] == [[4.5, 4.0]]
    assert any("below 0" in (mapped.reason or "") for mapped in found.mapping)


def test_losses_whose_perplexity_is_a_power_of_two_are_bits(read: Callable[..., Imported]) -> None:
    found = read("t.csv", "epoch,train_loss,train_ppl\n1,5.0,32.0\n2,4.0,16.0\n")
    assert [curve.metric for curve in found.curves] == ["loss"]
    assert found.curves[0].value == pytest.approx(np.array([5, 4]) * math.log(2))
    assert any("ln 2" in note for note in found.notes)


def test_rows_of_other_seeds_or_sizes_are_other_runs(read: Callable[..., Imported]) -> None:
    seeds = read("s.csv", "seed,step,val_loss\n1,100,4.5\n1,200,3.5\n2,100,4.25\n2,200,3.25\n")
    assert {c.run: c.value.tolist() for c in seeds.curves} == {"seed 1": [4.5, 3.5], "seed 2": [4.25, 3.25]}
    sizes = read("n.csv", "params,tokens,loss\n70,1400,3.5\n160,3200,3.0\n410,8200,2.75\n")
    assert {n.run: n.value for n in sizes.numbers} == {"params 70": 3.5, "params 160": 3.0, "params 410": 2.75}
    assert read("m.md", "| Params | Val loss |\n|---|---|\n| 70M | 3.5 |\n| 160M | 3.0 |\n").runs == {"70M", "160M"}


def test_one_word_before_one_of_several_losses_is_no_run(read: Callable[..., Imported]) -> None:
    found = read("t.csv", "dataset,packet_loss,val_loss\nwiki,0.25,2.5\nbooks,0.5,3.0\n")
    assert {(n.run, n.dataset): n.value for n in found.numbers} == {("run", "wiki"): 2.5, ("run", "books"): 3.0}


def test_a_row_that_is_the_mean_of_the_others_is_told(read: Callable[..., Imported]) -> None:
    rows = "corpus,valid_loss\nen,2.31\nde,2.61\nfr,2.51\nxx,{}\n"
    assert any("'xx' is the mean" in note for note in read("t.csv", rows.format("2.477")).notes)
    assert not any("is the mean" in note for note in read("u.csv", rows.format("2.521")).notes)


def test_copies_and_best_values_so_far_are_told(read: Callable[..., Imported]) -> None:
    values = [5.0, 4.5, 4.5, 4.25, 4.25, 4.0, 3.5, 3.5]
    rows = "".join(f"{at},{value},{value}\n" for at, value in enumerate(values))
    notes = " ".join(read("t.csv", "step,train_loss,val_loss\n" + rows).notes)
    assert "same values everywhere" in notes
    assert "best so far" in notes
