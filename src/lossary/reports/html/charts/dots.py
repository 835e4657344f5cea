"""Dots: datasets down, a dot with its interval for each run, floor and baseline as lines."""

from typing import Any

from lossary.reports.html.charts.theme import ChartView, DataTable, name_axis, run_scales, specification
from lossary.reports.html.limits import largest_datasets, leading_runs
from lossary.reports.html.marks import marks_of
from lossary.reports.text import metric_title, number, plain
from lossary.tables.model import Cell, Metric, Table, measure_of

__all__ = ["dots_chart"]

_MOST_DATASETS, _MOST_RUNS = 40, 24
_WIDTH = 430
_STEP, _GAP = 9, 9


def dots_chart(table: Table, metric: Metric) -> tuple[ChartView, str] | None:
    """The chart of a loss and what it leaves out; None if no run has it."""
    part = largest_datasets(table, _MOST_DATASETS)
    runs, note = leading_runs(table, _MOST_RUNS)
    cells = [table.cell(run.name, row.name, metric) for row in part.datasets for run in runs]
    if not any(cell.value is not None for cell in cells):
        return None
    names = [plain(run.name) for run in runs]
    order = [plain(row.name) for row in part.datasets]
    spec = _spec(table, metric, cells, names, order)
    has_floor = any(cell.floor is not None for cell in cells)
    lines = [*(["dashed: the floor"] if has_floor else []), *(["thin: the baseline"] if table.base else [])]
    about = f"{metric_title(metric)} of {len(names)} runs on {len(order)} datasets"
    chart = ChartView(
        id=f"dots-{metric}",
        title=metric_title(metric),
        about="; ".join([about, *lines]),
        spec=spec,
        data=_numbers(cells, metric),
    )
    return chart, " ".join(text for text in (part.note, note) if text)


def _numbers(cells: list[Cell], metric: Metric) -> DataTable:
    return DataTable(
        columns=["dataset", "run", metric_title(metric), "low", "high", "floor"],
        rows=[
            [
                plain(cell.dataset),
                plain(cell.run),
                *(number(v, metric) for v in (cell.value, cell.low, cell.high, cell.floor)),
            ]
            for cell in cells
            if cell.value is not None
        ],
    )


def _spec(table: Table, metric: Metric, cells: list[Cell], runs: list[str], order: list[str]) -> dict[str, Any]:
    import altair

    points = [
        {
            "run": plain(cell.run),
            "dataset": plain(cell.dataset),
            "value": cell.value,
            "low": cell.low if cell.low is not None else cell.value,
            "high": cell.high if cell.high is not None else cell.value,
        }
        for cell in cells
        if cell.value is not None
    ]
    floors = {plain(cell.dataset): cell.floor for cell in cells if cell.floor is not None}
    base = {plain(cell.dataset): cell.value for cell in cells if cell.run == table.base and cell.value is not None}
    lines = [{"dataset": name, "value": value, "line": "floor"} for name, value in floors.items()]
    lines += [{"dataset": name, "value": value, "line": "baseline"} for name, value in base.items()]
    marks = marks_of([run.name for run in table.runs])
    colour, shape, _ = run_scales(altair, {plain(name): mark for name, mark in marks.items()}, runs)
    y = altair.Y(
        "dataset:N",
        sort=order,
        title=None,
        scale=altair.Scale(domain=order, paddingInner=0.22, paddingOuter=0.1),
        axis=name_axis(altair, order),
    )
    offset = altair.YOffset("run:N", sort=runs, scale=altair.Scale(domain=runs))
    title = f"{metric_title(metric)}, {measure_of(metric).unit}"
    x = altair.X("value:Q", title=title, scale=altair.Scale(zero=False), axis=altair.Axis(tickCount=6))
    tooltip = [
        altair.Tooltip("dataset:N"),
        altair.Tooltip("run:N"),
        altair.Tooltip("value:Q", format=".4f"),
        altair.Tooltip("low:Q", format=".4f"),
        altair.Tooltip("high:Q", format=".4f"),
    ]
    points_chart = altair.Chart(altair.NamedData("points"))
    layers = [
        altair.Chart(altair.NamedData("lines"))
        .mark_point(
            shape="M0,-1L0,1",
            filled=False,
            color="currentColor",
            strokeWidth=1.4,
            size=max(_STEP * len(runs), 16) ** 2,
            opacity=0.75,
        )
        .encode(
            x=x,
            y=y,
            strokeDash=altair.StrokeDash(
                "line:N", legend=None, scale=altair.Scale(domain=["floor", "baseline"], range=[[3, 2], [1, 0]])
            ),
            strokeOpacity=altair.condition("datum.line == 'floor'", altair.value(0.9), altair.value(0.4)),
            tooltip=[altair.Tooltip("line:N"), altair.Tooltip("value:Q", format=".4f")],
        ),
        points_chart.mark_rule(strokeWidth=1.6, opacity=0.75).encode(
            x=altair.X("low:Q", title=title), x2="high:Q", y=y, yOffset=offset, color=colour
        ),
        points_chart.mark_point(filled=True, size=42, opacity=1).encode(
            x=x, y=y, yOffset=offset, color=colour, shape=shape, tooltip=tooltip
        ),
    ]
    height = len(order) * max(_STEP * len(runs) + _GAP, 20)
    chart = altair.layer(*layers).properties(width=_WIDTH, height=height)
    return specification(chart, points=points, lines=lines)
