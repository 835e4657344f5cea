"""Titles above tables of points say what was measured where no header does; nothing else is taken for it."""

from collections.abc import Callable

import pytest

from lossary.errors import SourceError
from lossary.results.importers.model import Imported

CSV = "step,wiki,books,lr,elapsed,grad_norm,tokens_per_sec\n1,3.1,3.5,.1,12.1,.8,9.5\n2,2.8,3.2,.1,24.3,.7,9.6\n"
ORG = "#+CAPTION: {}\n#+NAME: tab:val\n| Step | wiki | books | lr |\n|------+------+-------+----|\n{}"
ROWS = "| 1000 | 3.1 | 3.5 | 0.1 |\n| 2000 | 2.8 | 3.2 | 0.1 |\n"


def curves_of(found: Imported) -> dict[tuple[str, str, str], list[float]]:
    return {(c.dataset, c.split, c.metric): [float(v) for v in c.value] for c in found.curves}


@pytest.mark.parametrize(
    ("title", "split", "metric"),
    [
        ("Validation loss by dataset", "eval", "loss"),
        ("MLM loss", "unknown", "mlm_loss"),
        ("Train MLM loss", "train", "mlm_loss"),
        ("Validation cross-entropy by dataset", "eval", "loss"),
        ("Perplexity on the test set", "test", "perplexity"),
    ],
)
@pytest.mark.parametrize("kind", ["csv", "blank", "org"])
def test_a_title_names_what_columns_of_points_measure(
    read: Callable[..., Imported], title: str, split: str, metric: str, kind: str
) -> None:
    text = {"csv": f"{title}\n{CSV}", "blank": f"{title}\n\n{CSV}", "org": ORG.format(title, ROWS)}[kind]
    found = read("t.org" if kind == "org" else "t.csv", text)
    assert curves_of(found) == {("wiki", split, metric): [3.1, 2.8], ("books", split, metric): [3.5, 3.2]}
    assert any(title in note for note in found.notes)


@pytest.mark.parametrize("title", ["Runs of March", "Difference of validation loss", "Loss and accuracy"])
def test_a_title_that_names_no_one_quantity_names_nothing(read: Callable[..., Imported], title: str) -> None:
    with pytest.raises(SourceError, match="no number in it is understood"):
        read("t.csv", f"{title}\n{CSV}")


def test_a_header_that_names_a_metric_counts_and_the_title_does_not(read: Callable[..., Imported]) -> None:
    found = read("t.csv", "Validation perplexity\nstep,wiki loss,books\n1,2.5,3.5\n2,2.4,3.4\n")
    assert curves_of(found) == {("wiki", "unknown", "loss"): [2.5, 2.4]}


def test_more_columns_than_a_table_has_are_refused_at_once(read: Callable[..., Imported]) -> None:
    names = ",".join(f"d{at}_loss" for at in range(5000))
    with pytest.raises(SourceError, match="5,000 columns are more than a table has"):
        read("wide.csv", f"{names}\n{','.join(['2.5'] * 5000)}\n")
