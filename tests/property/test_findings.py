"""Rules on random small tables: none warns without a test, and no sentence contradicts the numbers of its cells."""

from math import log

import numpy as np
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from tests.columns import RunColumns, columns_of
from tests.unit.findings.simulated import subject_of

from lossary.findings.bearing import LEAST
from lossary.findings.engine import check
from lossary.findings.model import LEVEL, Finding
from lossary.findings.rules import RULES
from lossary.findings.sentences import metric_name
from lossary.findings.subject import LabelCounts, Subject
from lossary.reports.findings import FORMATS, findings_markdown, verdict_text
from lossary.tables.model import METRICS

# Rules that speak of sampled scores; the others count.
SAMPLED = {code for code, least in LEAST.items() if least.test != "none"}
NAMES = ("torch_xxl", "torch_xl", "tf_xxl", "tf_xl")
KINDS = ("random", "constant", "perfect", "wrong", "coin", "one label", "tiny", "huge")


def scores_of(sizes: list[int], kinds: list[str], seed: int) -> RunColumns:
    """Scores of one run: each dataset of its own kind; examples and labels are the same for all runs."""
    rng = np.random.default_rng(seed)
    masked, nats, correct, sop, right = [], [], [], [], []
    for index, (n, kind) in enumerate(zip(sizes, kinds, strict=True)):
        x = np.random.default_rng(index).integers(1, 20, n).astype(float)
        masked.append(x)
        per = {"constant": np.full(n, 5.0), "tiny": np.full(n, 1e-12), "huge": np.full(n, 1e9)}
        nats.append(x * per.get(kind, rng.gamma(4, 1, n)))
        share = {"perfect": 1.0, "wrong": 0.0, "constant": 0.5}.get(kind, rng.random())
        correct.append(np.round(x * share))
        is_right = np.full(n, kind not in ("wrong", "coin")) if kind != "random" else rng.random(n) < 0.7
        loss = np.where(is_right, rng.uniform(0, log(2), n), rng.uniform(log(2), 5, n))
        loss = {"coin": np.full(n, log(2)), "constant": np.full(n, 0.5), "huge": np.full(n, 1e9)}.get(kind, loss)
        sop.append(loss)
        right.append((loss < log(2)).astype(float))
    return columns_of(
        [f"d{index}" for index in range(len(sizes))],
        np.repeat(np.arange(len(sizes)), sizes),
        np.concatenate([np.arange(n, dtype=np.uint64) for n in sizes]),
        masked=np.concatenate(masked),
        mlm=(np.concatenate(nats), np.concatenate(correct)),
        sop=(np.concatenate(sop), np.concatenate(right)),
    )


@st.composite
def subjects(draw: st.DrawFn) -> Subject:
    sizes = draw(st.lists(st.integers(0, 30), min_size=1, max_size=5))
    assume(sum(sizes))
    runs = NAMES[: draw(st.integers(1, 4))]
    kind = st.lists(st.sampled_from(KINDS), min_size=len(sizes), max_size=len(sizes))
    scores = {run: scores_of(sizes, draw(kind), draw(st.integers(0, 1000))) for run in runs}
    names = [f"d{index}" for index in range(len(sizes))]
    floors = {
        name: (draw(st.sampled_from([0.5, 4.0, 8.0])), draw(st.sampled_from([0.0, 0.3, log(2)]))) for name in names
    }
    return subject_of(scores, floors=floors, shares={name: 1 / len(names) for name in names})


def contradictions(found: Finding, subject: Subject) -> list[str]:
    """What a finding says against the numbers of the cells that it is about."""
    said = []
    for run in found.runs:
        for dataset in found.datasets:
            values = {metric: subject.table.cell(run, dataset, metric).value for metric in subject.table.measured}
            if found.code == "L101" and not (values["sop_loss"] or 0) > log(2):
                said.append(f"above a coin: {values}")
            if found.code == "L101" and values["sop_accuracy"] == 1:
                said.append(f"confidently wrong: {values}")
            cell = subject.table.cell(run, dataset, "mlm_loss")
            if found.code == "L103" and cell.floor is not None and (cell.high or 0) < cell.floor:
                said.append("below the entropy")
    return said


@given(subjects())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_rule_warns_without_its_test_and_none_contradicts_its_cells(subject: Subject) -> None:
    checked = check(subject)
    for found in checked.findings:
        if found.severity in ("error", "warning") and found.code in SAMPLED:
            assert found.p is not None
            assert found.p < LEVEL
        if found.severity in ("error", "warning", "info"):
            assert not contradictions(found, subject), found
            reads_alone(found)
    for style in FORMATS.values():
        assert style(checked)
    assert findings_markdown(checked)


@given(subjects())
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_interval_of_a_table_holds_a_number_that_cannot_be(subject: Subject) -> None:
    table = subject.table
    for number in [*table.cells, *table.totals]:
        if number.low is not None and number.high is not None:
            assert 0 <= number.low <= number.high
            assert number.high <= 1 or not number.metric.endswith("accuracy")
    for delta in table.deltas:
        if delta.low is not None and delta.high is not None and delta.metric.endswith("accuracy"):
            assert -1 <= delta.low <= delta.high <= 1


def reads_alone(found: Finding) -> None:
    """A gist says of which run and metric it is, in one sentence of a line or two."""
    assert found.gist
    assert "\n" not in found.gist
    assert not found.gist.endswith(".")
    assert len(found.gist) < 240, found.gist
    if found.code in SAMPLED and found.runs:
        assert any(run in found.gist for run in found.runs), found.gist
        assert any(metric_name(metric) in found.gist for metric in METRICS), found.gist


@given(st.integers(0, 40), st.integers(0, 40))
def test_labels_warn_only_by_a_test(pairs: int, swapped: int) -> None:
    subject = subject_of({"torch_xl": scores_of([5], ["random"], 1)}, floors={"d0": (5.0, log(2))}, shares={"d0": 1.0})
    labels = {"d0": LabelCounts(pairs, min(pairs, swapped))}
    for found in check(Subject(**{**vars_of(subject), "labels": labels})).findings:
        if found.code == "L305" and found.severity == "warning":
            assert found.p is not None
            assert found.p < LEVEL
            assert "d0" in found.gist


def vars_of(subject: Subject) -> dict[str, object]:
    return {"table": subject.table, "where": subject.where, "vocabulary_size": subject.vocabulary_size}


def test_every_rule_has_a_line_in_the_table_of_what_scores_can_bear() -> None:
    assert list(LEAST) == [rule.code for rule in RULES]
    assert all(least.why and least.test for least in LEAST.values())
    assert all(
        (least.test != "none") == bool(rule.tests.__name__ != "_no_tests")
        for rule, least in zip(RULES, LEAST.values(), strict=True)
    )


def test_two_examples_of_one_label_are_no_headline() -> None:
    """The case that showed it: an SOP accuracy of 1.000 over two pairs, called confidently wrong."""
    subject = subject_of(
        {"torch_xl": scores_of([2, 2], ["one label", "one label"], 3)},
        floors={"d0": (9.0, 0.0), "d1": (9.0, 0.0)},
        shares={"d0": 0.5, "d1": 0.5},
    )
    checked = check(subject)
    assert not checked.fails("warning")
    assert verdict_text(checked) == "nothing to warn of"
    assert any(found.code == "L101" and found.severity == "skipped" for found in checked.findings)
