"""Curves of training by dataset: every step's loss with its extremes kept, means over windows, evaluations, the floor.

A curve is kept packed (`decimation.pack`); x is a step, and each run says for how many tokens and examples it stands.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lossary.folder import StudyFolder
from lossary.objectives import objective_of
from lossary.reports.html.charts.curves import curves_spec, filled
from lossary.reports.html.charts.theme import ChartView, DataTable
from lossary.reports.html.decimation import min_max, pack
from lossary.reports.html.limits import largest_datasets
from lossary.reports.html.links import Ids
from lossary.reports.html.views.coincidence import Course, Scale, coincide_text, grouped
from lossary.reports.text import metric_title, number, plain
from lossary.results.records import read_steps
from lossary.tables.history import Evaluation, evaluations
from lossary.tables.imported import CURVES, imported_curves
from lossary.tables.load import OpenTable
from lossary.tables.model import Metric, Table

__all__ = [
    "Axis",
    "CurveChart",
    "CurvesView",
    "Record",
    "curves_view",
    "imported_series",
    "positions",
    "recorded",
    "static_charts",
]

# Points of all curves together that a page takes: some six bytes each.
_MOST_POINTS = 48_000
_FEWEST_BUCKETS, _MOST_BUCKETS = 40, 480
_WINDOWS = 60
_KNOTS = 80
_STATIC_POINTS = 8_000
_COLUMNS = ["step", "dataset", "examples", "masked", "mlm_nats", "sop_pairs", "sop_nats", "total_tokens"]


class Record(NamedTuple):
    """What one run saw of one dataset. step: (N,) ascending; nats and what they are divided by: (N,)."""

    step: NDArray[np.int64]
    nats: NDArray[np.float64]
    weight: NDArray[np.float64]


class Series(NamedTuple):
    """A curve. step: (N,) ascending; loss: (N,)."""

    step: NDArray[np.int64]
    loss: NDArray[np.float64]


class Axis(NamedTuple):
    """What steps of a run stand for, at some of them; in between they grow evenly. All (K,)."""

    step: list[int]
    tokens: list[int]
    examples: list[int]


@dataclass(frozen=True, kw_only=True)
class Line:
    """A run in a chart: what every step lost, decimated, and means over windows."""

    run: str
    raw: Series
    mean: Series
    broken: int  # steps whose loss is no number
    course: Course


@dataclass(frozen=True, kw_only=True)
class CurveChart:
    """The curves of one dataset and metric; lines and points that coincide stand together and are drawn as one."""

    id: str
    dataset: str
    metric: Metric
    title: str
    about: str
    floor: float | None
    lines: list[list[Line]]
    points: list[list[Evaluation]]
    same: list[str]  # which runs coincide, a sentence each
    data: DataTable


@dataclass(frozen=True, kw_only=True)
class CurvesView:
    """The section; `payload` is what a page's script draws from."""

    runs: list[str]
    charts: list[CurveChart]
    axes: dict[str, Axis]
    notes: list[str]
    why_none: str = ""
    payload: dict[str, Any] = field(default_factory=dict)

    @property
    def units(self) -> list[str]:
        """What x may be: tokens and examples only where runs counted them."""
        counted = bool(self.axes) and all(axis.tokens for axis in self.axes.values())
        return ["tokens", "examples", "steps"] if counted else ["steps"]


def curves_view(opened: OpenTable, ids: Ids) -> CurvesView:
    """The curves of a study's runs, or of an import."""
    table, study, folder = opened
    runs = [run.name for run in table.runs]
    part = largest_datasets(table, max(1, _MOST_POINTS // (4 * _FEWEST_BUCKETS * max(len(runs), 1))))
    datasets = [row.name for row in part.datasets]
    if study is None:
        series, points = imported_series(folder.root / CURVES, runs), list[Evaluation]()
        axes: dict[str, Axis] = {}
    else:
        series, axes = recorded(folder, runs)
        points = evaluations(table, folder)
    series = {key: found for key, found in series.items() if key[1] in datasets and len(found.step)}
    if not series:
        return CurvesView(
            runs=[], charts=[], axes={}, notes=[], why_none="No step records: these runs were not trained here."
        )
    buckets = int(np.clip(_MOST_POINTS // (3 * len(series)), _FEWEST_BUCKETS, _MOST_BUCKETS))
    charts = [
        chart
        for metric in dict.fromkeys(metric for _, _, metric in sorted(series, key=lambda key: key[2]))
        for dataset in datasets
        if (chart := _chart(table, dataset, metric, series, _Evaluated(points, axes), buckets, ids)) is not None
    ]
    notes = [part.note] if part.note else []
    broken = sum(line.broken for chart in charts for group in chart.lines for line in group)
    if broken:
        notes.append(f"{broken:,} steps have a loss that is no number and are left out.")
    shown = [run for run in runs if any(line.run == run for chart in charts for group in chart.lines for line in group)]
    view = CurvesView(runs=shown, charts=charts, axes=axes, notes=notes)
    return CurvesView(**{**vars(view), "payload": _payload(view)})


def _chart(
    table: Table,
    dataset: str,
    metric: Metric,
    series: dict[tuple[str, str, str], Record],
    evaluated: "_Evaluated",
    buckets: int,
    ids: Ids,
) -> CurveChart | None:
    lines = [
        _line(run.name, series[run.name, dataset, metric], buckets)
        for run in table.runs
        if (run.name, dataset, metric) in series
    ]
    if not lines:
        return None
    having = {line.run for line in lines}
    of_chart = [p for p in evaluated.points if (p.dataset, p.metric) == (dataset, metric) and p.run in having]
    floor = next((cell.floor for cell in table.cells if (cell.dataset, cell.metric) == (dataset, metric)), None)
    objective = objective_of(metric)
    name = "chance" if objective is not None and not objective.is_of_tokens else "unigram entropy"
    scale = _scale(lines, of_chart, floor)
    groups = grouped(lines, lambda a, b: evaluated.same_axis(a.run, b.run) and scale.same(a.course, b.course))
    drawn = grouped(of_chart, lambda a, b: evaluated.same(a, b, scale))
    same = _same_text(groups, drawn)
    about = f"{metric_title(metric)} of {_runs_text(len(lines))} in training on {plain(dataset)}"
    about = "; ".join([about if floor is None else f"{about}; dashed: {name}, {number(floor, metric)}", *same])
    return CurveChart(
        id=ids.curves(dataset, metric),
        dataset=plain(dataset),
        metric=metric,
        title=metric_title(metric),
        about=about,
        floor=floor,
        lines=groups,
        points=drawn,
        same=same,
        data=_numbers(lines, of_chart, metric),
    )


def _runs_text(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"


class _Evaluated(NamedTuple):
    """Scores on the way, and what steps of their runs stand for."""

    points: Sequence[Evaluation]
    axes: dict[str, Axis]

    def same_axis(self, run: str, other: str) -> bool:
        """Whether a step of both is at one place of every axis."""
        return self.axes.get(run) == self.axes.get(other)

    def same(self, one: Evaluation, other: Evaluation, scale: Scale) -> bool:
        """Whether two are at one place of a chart, whatever x is, with their intervals."""
        if one.run == other.run or one.step != other.step or not self.same_axis(one.run, other.run):
            return False
        ends = [(one.value, other.value), (one.low, other.low), (one.high, other.high)]
        return all(a == b if a is None or b is None else scale.near(a, b) for a, b in ends)


def _scale(lines: Sequence[Line], points: Sequence[Evaluation], floor: float | None) -> Scale:
    steps = [float(at) for line in lines for at in line.course.step[[0, -1]]] + [float(p.step) for p in points]
    losses = [float(v) for line in lines for v in (line.course.loss.min(), line.course.loss.max())]
    losses += [v for p in points for v in (p.value, p.low, p.high) if v is not None]
    losses += [] if floor is None else [floor]
    return Scale(min(steps), max(steps), min(losses), max(losses))


def _same_text(lines: Sequence[Sequence[Line]], points: Sequence[Sequence[Evaluation]]) -> list[str]:
    """Which curves coincide, and which evaluations of other runs do."""
    curves = [[plain(line.run) for line in group] for group in lines if len(group) > 1]
    at: dict[tuple[str, ...], list[int]] = {}
    for group in points:
        names = tuple(plain(point.run) for point in group)
        if len(group) > 1 and not any(set(names) <= set(of_curve) for of_curve in curves):
            at.setdefault(names, []).append(group[0].step)
    return [coincide_text(names) for names in curves] + [
        coincide_text(names, f" where evaluated, step {', '.join(f'{step:,}' for step in steps)}")
        for names, steps in at.items()
    ]


def _line(run: str, found: Record, buckets: int) -> Line:
    finite = np.isfinite(found.nats)
    of_finite = Record(found.step[finite], found.nats[finite], found.weight[finite])
    loss = of_finite.nats / of_finite.weight
    kept = min_max(of_finite.step, loss, linear=buckets, logarithmic=buckets // 2)
    mean = _window_means(of_finite)
    return Line(
        run=run,
        raw=Series(of_finite.step[kept], loss[kept]),
        mean=mean,
        broken=int((~finite).sum()),
        course=Course(of_finite.step, loss, *mean),
    )


def _window_means(found: Record) -> Series:
    """Σ nats / Σ count over windows of steps, each at the middle of its window; every step where there are few."""
    if len(found.step) <= _WINDOWS:
        return Series(found.step, found.nats / found.weight)
    first, last = found.step[0], found.step[-1]
    window = (found.step - first) * _WINDOWS // (last - first + 1)
    rows, nats, count, middle = (
        np.bincount(window, weights=values, minlength=_WINDOWS)
        for values in (np.ones(len(window)), found.nats, found.weight, found.step)
    )
    having = rows > 0
    return Series(np.rint(middle[having] / rows[having]).astype(np.int64), nats[having] / count[having])


def _numbers(lines: Iterable[Line], points: Sequence[Evaluation], metric: Metric) -> DataTable:
    """The lowest and the last mean of each run, and every evaluation."""
    rows = []
    for line in lines:
        step, loss = line.mean
        best = int(np.argmin(loss)) if len(loss) else 0
        rows += [
            [plain(line.run), what, f"{int(step[at]):,}", number(float(loss[at]), metric), ""]
            for what, at in (("training, lowest", best), ("training, last", len(step) - 1))
            if len(step)
        ]
        for point in points:
            if point.run == line.run:
                half = "" if point.low is None or point.high is None else f"±{(point.high - point.low) / 2:.3f}"
                rows.append([plain(line.run), "validation", f"{point.step:,}", number(point.value, metric), half])
    return DataTable(columns=["run", "what", "step", metric_title(metric), "95 %"], rows=rows)


def recorded(folder: StudyFolder, runs: Sequence[str]) -> tuple[dict[tuple[str, str, str], Record], dict[str, Axis]]:
    """What the step records of runs hold, by run, dataset and metric; and what their steps stand for."""
    series: dict[tuple[str, str, str], Record] = {}
    axes = {}
    for run in runs:
        steps = read_steps(folder.steps(run), _COLUMNS)
        if not steps.num_rows:
            continue
        names = steps.column("dataset").combine_chunks()
        columns = {name: steps.column(name).to_numpy() for name in _COLUMNS if name != "dataset"}
        axes[run] = _axis(columns)
        code = names.indices.to_numpy()
        for index, dataset in enumerate(names.dictionary.to_pylist()):
            of_dataset = np.flatnonzero(code == index)
            of_dataset = of_dataset[np.argsort(columns["step"][of_dataset], kind="stable")]
            for metric, nats, count in (("mlm_loss", "mlm_nats", "masked"), ("sop_loss", "sop_nats", "sop_pairs")):
                rows = of_dataset[columns[count][of_dataset] > 0]
                series[run, dataset, metric] = Record(
                    columns["step"][rows], columns[nats][rows], columns[count][rows].astype(np.float64)
                )
    return series, axes


def _axis(columns: dict[str, NDArray[Any]]) -> Axis:
    step, place = np.unique(columns["step"], return_inverse=True)
    examples = np.cumsum(np.bincount(place, weights=columns["examples"]))
    tokens = np.zeros(len(step), np.int64)
    tokens[place] = columns["total_tokens"]
    knots = np.unique(np.linspace(0, len(step) - 1, min(len(step), _KNOTS)).round().astype(int))
    return Axis(*(np.asarray(values[knots], np.int64).tolist() for values in (step, tokens, examples)))


def _is_drawn(metric: str, split: str) -> bool:
    return metric.endswith("loss") and split != "test"


def imported_series(path: Path, runs: Sequence[str]) -> dict[tuple[str, str, str], Record]:
    """Curves of an import by run as the table calls it; of training where there are any, else of evaluation."""
    if not path.is_file():
        return {}
    found: dict[tuple[str, str, str], Record] = {}
    for curve in imported_curves(path.parent):
        key = (curve.run, curve.dataset, curve.metric)
        if _is_drawn(curve.metric, curve.split) and curve.run in runs and (key not in found or curve.split == "train"):
            rows = curve.step > 0
            found[key] = Record(curve.step[rows], curve.value[rows], np.ones(int(rows.sum())))
    return found


def _payload(view: CurvesView) -> dict[str, Any]:
    index = {run: number for number, run in enumerate(view.runs)}
    return {
        "template": curves_spec([plain(run) for run in view.runs]),
        "runs": [plain(run) for run in view.runs],
        "units": view.units,
        "axes": [list(view.axes[run]) if run in view.axes else None for run in view.runs],
        "charts": {
            chart.id: {
                "floor": chart.floor,
                "lines": [
                    [[index[line.run] for line in group], pack(*group[0].raw), pack(*group[0].mean)]
                    for group in chart.lines
                ],
                "points": [
                    [[index[p.run] for p in group], group[0].step, group[0].value, group[0].low, group[0].high]
                    for group in chart.points
                ],
            }
            for chart in view.charts
        },
    }


def static_charts(view: CurvesView) -> list[ChartView]:
    """The charts with their values in them, on linear axes, as few points as a static picture shows."""
    if not view.charts:
        return []
    template = curves_spec([plain(run) for run in view.runs])
    count = sum(len(chart.lines) for chart in view.charts)
    buckets = int(np.clip(_STATIC_POINTS // (2 * count), 30, 165))
    return [
        ChartView(
            id=chart.id,
            title=chart.title,
            about=chart.about,
            spec=filled(template, _values(view, chart, buckets), x_title=view.units[0]),
            data=chart.data,
        )
        for chart in view.charts
    ]


def _values(view: CurvesView, chart: CurveChart, buckets: int) -> dict[str, list[dict[str, Any]]]:
    unit = view.units[0]
    raw, mean = list[dict[str, Any]](), list[dict[str, Any]]()
    for group in chart.lines:
        line = group[0]
        step, loss = line.raw
        kept = min_max(step, loss, linear=buckets, logarithmic=1)
        for target, series in ((raw, Series(step[kept], loss[kept])), (mean, line.mean)):
            x = positions(view.axes.get(line.run), series.step, unit)
            target += [_names(group) | {"x": a, "y": b} for a, b in zip(x, series.loss.tolist(), strict=True)]
    points = [
        _names(group)
        | {
            "x": positions(view.axes.get(p.run), np.array([p.step]), unit)[0],
            "y": p.value,
            "low": p.value if p.low is None else p.low,
            "high": p.value if p.high is None else p.high,
        }
        for group in chart.points
        for p in group[:1]
    ]
    floor = [] if chart.floor is None else [{"y": chart.floor}]
    return {"raw": raw, "mean": mean, "points": points, "floor": floor}


def _names(group: Sequence[Line] | Sequence[Evaluation]) -> dict[str, Any]:
    """Whose mark is drawn, and for whom it stands."""
    return {"run": plain(group[0].run), "runs": ", ".join(plain(item.run) for item in group)}


def positions(axis: Axis | None, step: NDArray[np.int64], unit: str) -> list[float]:
    """Where steps stand on an axis of tokens, examples or steps; steps where a run counted nothing else."""
    if unit == "steps" or axis is None:
        return [float(value) for value in step]
    found: list[float] = np.interp(step, axis.step, getattr(axis, unit)).tolist()
    return found
