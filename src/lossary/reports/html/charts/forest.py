"""Forest plot: the paired difference of every run to the base by dataset, with intervals, around a line at zero."""

from typing import Any

from lossary.reports.html.charts.theme import ChartView, DataTable, name_axis, run_scales, specification
from lossary.reports.html.limits import largest_datasets
from lossary.reports.html.marks import marks_of
from lossary.reports.text import TOTAL, metric_title, plain
from lossary.tables.model import Delta, Metric, Table, measure_of

__all__ = ["forest_chart"]

# Rows of marks that still fit a screen or two.
_MOST_MARKS = 180
_WIDTH = 370
_STEP, _GAP = 10, 9


def forest_chart(table: Table, metric: Metric) -> tuple[ChartView, str] | None:
    """The chart of a loss and what it leaves out; None if nothing is paired with a base."""
    others = [run.name for run in table.runs if run.name != table.base]
    part = largest_datasets(table, max(1, _MOST_MARKS // max(len(others), 1) - 1))
    places: list[str | None] = [*(row.name for row in part.datasets), None]
    found = [table.delta(run, dataset, metric) for dataset in places for run in others]
    deltas = [delta for delta in found if delta is not None and delta.value is not None and delta.low is not None]
    if not deltas:
        return None
    chart = ChartView(
        id=f"forest-{metric}",
        title=f"{metric_title(metric)} against {plain(table.base or '')}",
        about=f"Paired differences of {metric_title(metric)} with 95 % intervals; filled: differs after Holm",
        spec=_spec(table, metric, deltas, others),
        data=_numbers(deltas),
    )
    return chart, part.note


def _place(delta: Delta) -> str:
    return TOTAL if delta.dataset is None else plain(delta.dataset)


def _numbers(deltas: list[Delta]) -> DataTable:
    return DataTable(
        columns=["dataset", "run", "difference", "low", "high", "p after Holm", "n", "unmatched"],
        rows=[
            [
                _place(delta),
                plain(delta.run),
                *(f"{value:+.4f}" for value in (delta.value, delta.low, delta.high) if value is not None),
                "—" if delta.adjusted_p is None else f"{delta.adjusted_p:.2g}",
                f"{delta.n:,}",
                f"{delta.unmatched:,}",
            ]
            for delta in deltas
        ],
    )


def _spec(table: Table, metric: Metric, deltas: list[Delta], runs: list[str]) -> dict[str, Any]:
    import altair

    values = [
        {
            "dataset": _place(delta),
            "run": plain(delta.run),
            "difference": delta.value,
            "low": delta.low,
            "high": delta.high,
            "verdict": "differs" if delta.differs else "not shown to differ",
        }
        for delta in deltas
    ]
    names = list(dict.fromkeys(plain(run) for run in runs))
    order = list(dict.fromkeys(_place(delta) for delta in deltas))
    marks = {plain(name): mark for name, mark in marks_of([run.name for run in table.runs]).items()}
    colour, shape, _ = run_scales(altair, marks, names)
    axis = name_axis(altair, order)
    y = altair.Y("dataset:N", sort=order, title=None, scale=altair.Scale(domain=order, paddingInner=0.22), axis=axis)
    offset = altair.YOffset("run:N", sort=names, scale=altair.Scale(domain=names))
    # Metric and base stand in the caption: a longer title would be wider than a telephone.
    title = f"difference, {measure_of(metric).unit} (left: lower)"
    x = altair.X("difference:Q", title=title, axis=altair.Axis(tickCount=6))
    tooltip = [
        altair.Tooltip("dataset:N"),
        altair.Tooltip("run:N"),
        *(altair.Tooltip(f"{field}:Q", format="+.4f") for field in ("difference", "low", "high")),
        altair.Tooltip("verdict:N"),
    ]
    chart = altair.Chart(altair.NamedData("deltas"))
    fill = altair.condition("datum.verdict == 'differs'", altair.value(1), altair.value(0))
    layers = [
        altair.Chart(altair.NamedData("zero")).mark_rule(strokeWidth=1.2, opacity=0.7).encode(x="zero:Q"),
        chart.mark_rule(strokeWidth=1.6, opacity=0.8).encode(
            x=altair.X("low:Q", title=title), x2="high:Q", y=y, yOffset=offset, color=colour
        ),
        chart.mark_point(filled=False, size=46, strokeWidth=1.6, opacity=1).encode(
            x=x, y=y, yOffset=offset, color=colour, fill=colour, fillOpacity=fill, shape=shape, tooltip=tooltip
        ),
    ]
    height = len(order) * max(_STEP * len(names) + _GAP, 20)
    both = altair.layer(*layers).properties(width=_WIDTH, height=height)
    return specification(both, deltas=values, zero=[{"zero": 0}])
