"""Numbers that a page reports of a run, held against the run's own scores: which other way of scoring gives them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lossary.data.tokenizer import open_tokenizer
from lossary.data.validation import load_validation
from lossary.diagnosis.counterfactual import Counterfactual, Printed, rescore, total_weightings
from lossary.diagnosis.experiments.pair import Experiment, Pair
from lossary.diagnosis.model import Cause, Gap
from lossary.diagnosis.rescoring import as_computed
from lossary.diagnosis.session import NotCompared
from lossary.diagnosis.stored import Scores, read_scores
from lossary.folder import StudyFolder
from lossary.tables.imported import imported_table
from lossary.tables.model import METRICS, Metric, Table
from lossary.tables.own_scores import score_files

__all__ = ["REPORTED_NUMBERS", "newest_scores"]

_TITLE = "What the page reports"
_MOST = 3
Given = Mapping[str, Mapping[Metric, Printed]]


@dataclass(frozen=True, kw_only=True)
class _Reported:
    """What a page says of one run."""

    run: str
    numbers: Given
    totals: Mapping[Metric, Printed]

    @classmethod
    def of(cls, page: Table, run: str) -> "_Reported":
        numbers: dict[str, dict[Metric, Printed]] = {}
        for cell in page.cells:
            if cell.run == run and cell.reported is not None:
                numbers.setdefault(cell.dataset, {})[cell.metric] = Printed.of(cell.reported, cell.metric)
        totals = {
            total.metric: Printed.of(total.reported, total.metric)
            for total in page.totals
            if total.run == run and total.reported is not None
        }
        return cls(run=run, numbers=numbers, totals=totals)


def newest_scores(folder: StudyFolder, run: str) -> Path | None:
    """The scores of a run's last step that has any."""
    files = score_files(folder, run)
    return files[-1] if files else None


def _run(pair: Pair) -> Iterator[Gap]:
    if pair.reported is None:
        return
    page = imported_table(pair.reported)
    told = [column.name for column in page.runs]
    runs = [run for run in pair.runs if run in told]
    if not runs:
        raise NotCompared(
            f"{pair.reported} reports {', '.join(told)}, none of the runs that are diagnosed; "
            "give its column the name of a run: lossary import --map"
        )
    for run in runs:
        path = newest_scores(pair.folder, run)
        if path is None:
            raise NotCompared(f"{run} has no scores yet: lossary evaluate")
        scores = read_scores(path, load_validation(pair.folder).datasets)
        yield _compared(pair, scores, _Reported.of(page, run))


def _compared(pair: Pair, scores: Scores, reported: _Reported) -> Gap:
    usual = {name: as_computed(scores.of(name)) for name in scores.datasets}
    off = _deviations(usual, reported.numbers)
    found = rescore(scores, reported.numbers, vocabulary_size=open_tokenizer(pair.folder).vocabulary_size)
    leading = [one for one in found if one.leads][:_MOST]
    rows = [_row(name, metric, usual, reported.numbers, leading) for name, metric in _cells(usual, reported.numbers)]
    text = [f"{reported.run}: {_said(off, rows)}"]
    text += [f"{'+'.join(one.names)}: {one.says}{_where(one)} gives what is reported" for one in leading]
    text += _totals(pair, usual, scores, reported)
    causes = _causes(reported, leading[0], off) if leading and off else ()
    return Gap(title=_TITLE, text=tuple(text), rows=tuple(rows), causes=causes)


def _cells(usual: Mapping[str, Mapping[Metric, float]], given: Given) -> list[tuple[str, Metric]]:
    return [(name, m) for name in usual for m in METRICS if m in usual[name] and m in given.get(name, {})]


def _deviations(usual: Mapping[str, Mapping[Metric, float]], given: Given) -> dict[tuple[str, Metric], float]:
    """Of numbers that differ from those reported, by how many roundings."""
    return {
        (name, metric): abs(usual[name][metric] - given[name][metric].value) / given[name][metric].rounding
        for name, metric in _cells(usual, given)
        if not given[name][metric].fits(usual[name][metric])
    }


def _said(off: Mapping[tuple[str, Metric], float], rows: list[dict[str, Any]]) -> str:
    if not rows:
        return "no number of the page is of a dataset and metric that was scored"
    if not off:
        return f"all {len(rows)} reported numbers are the scores', to their printed digits"
    return f"{len(off)} of {len(rows)} reported numbers are not what the scores give"


def _row(
    dataset: str,
    metric: Metric,
    usual: Mapping[str, Mapping[Metric, float]],
    given: Given,
    leading: list[Counterfactual],
) -> dict[str, Any]:
    row: dict[str, Any] = {"dataset": dataset, "metric": metric}
    row |= {"reported": given[dataset][metric].value, "as scored": usual[dataset][metric]}
    for one in leading[:1]:
        holds = not one.datasets or dataset in one.datasets
        row["+".join(one.names)] = (one.numbers.get(dataset, {}) if holds else {}).get(metric, usual[dataset][metric])
    return row


def _where(one: Counterfactual) -> str:
    return f" (in {', '.join(one.datasets)})" if one.datasets else ""


def _totals(
    pair: Pair, usual: Mapping[str, Mapping[Metric, float]], scores: Scores, reported: _Reported
) -> Iterator[str]:
    """Which weights over datasets give the totals of the page."""
    parts = {name: scores.of(name) for name in scores.datasets}
    weightings: dict[str, dict[str, float]] = {
        "examples": {name: float(len(part)) for name, part in parts.items()},
        "masked positions": {name: float(part.masked.sum()) for name, part in parts.items()},
    }
    for name, shares in (
        ("train share", pair.study.mixture.shares),
        ("validation share", pair.study.validation.shares),
    ):
        if not isinstance(shares, str):
            weightings[name] = dict(shares)
    for metric, printed in reported.totals.items():
        values = {name: numbers[metric] for name, numbers in usual.items() if metric in numbers}
        given = {name: given[metric].value for name, given in reported.numbers.items() if metric in given}
        for source, of in (("the reported numbers", given), ("the scores", values)):
            fitting = [one.weighting for one in total_weightings(of, printed, weightings) if one.reproduces_reported]
            if of and fitting:
                yield f"total {metric} {printed.value:g} is the mean of {source} by {' or '.join(fitting)}"
                break


def _causes(reported: _Reported, one: Counterfactual, off: Mapping[tuple[str, Metric], float]) -> tuple[Cause, ...]:
    after = [
        abs(value - reported.numbers[name][metric].value) / reported.numbers[name][metric].rounding
        for name, numbers in one.numbers.items()
        for metric, value in numbers.items()
        if metric in reported.numbers.get(name, {}) and (not one.datasets or name in one.datasets)
    ]
    return tuple(
        Cause(
            name=name,
            says=f"the page's numbers are scored otherwise: {one.says}",
            stage="evaluation",
            side=f"{reported.run} as reported",
            values=dict(one.values),
            datasets=one.datasets,
            before=max(off.values()),
            after=max(after, default=0.0),
        )
        for name in one.names
    )


REPORTED_NUMBERS = Experiment(
    name="reported",
    title=_TITLE,
    about="Numbers of an imported page (`--reported`) against the run's scores: which way of scoring gives them.",
    run=_run,
)
