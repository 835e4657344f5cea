"""Numbers with intervals by name, around a line at zero: what may be best, what is decided, what shares do."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from lossary.reports.html.charts.theme import name_axis, run_scales, specification
from lossary.reports.html.marks import Mark

__all__ = ["Interval", "intervals_spec"]

_WIDTH, _HEIGHT = 300, 22


class Interval(NamedTuple):
    """A row: where it stands, its number with what bounds it, whether its mark is filled, and what that means."""

    name: str
    value: float
    low: float | None
    high: float | None
    filled: bool
    means: str
    run: str = ""


def intervals_spec(rows: Sequence[Interval], *, title: str, marks: Mapping[str, Mark] | None = None) -> dict[str, Any]:
    """The chart, in the order of its rows; `marks` colours them by run, without them they are of the text's colour."""
    import altair

    values = [
        {
            "name": row.name,
            "value": row.value,
            "low": row.value if row.low is None else row.low,
            "high": row.value if row.high is None else row.high,
            "filled": row.filled,
            "means": row.means,
            "run": row.run,
        }
        for row in rows
    ]
    order = list(dict.fromkeys(row.name for row in rows))
    y = altair.Y("name:N", sort=order, title=None, scale=altair.Scale(domain=order), axis=name_axis(altair, order))
    x = altair.X("value:Q", title=title, axis=altair.Axis(tickCount=5))
    tooltip = [
        altair.Tooltip("name:N", title=" "),
        *(altair.Tooltip(f"{field}:Q", format="+.4f") for field in ("value", "low", "high")),
        altair.Tooltip("means:N", title="answer"),
    ]
    look: dict[str, Any] = {"color": altair.value("currentColor")}
    filled: dict[str, Any] = {"fill": altair.value("currentColor")}
    if marks is not None:
        runs = list(dict.fromkeys(row.run for row in rows))
        colour, shape, _ = run_scales(altair, dict(marks), runs)
        look, filled = {"color": colour}, {"fill": colour, "shape": shape}
    fill = altair.condition("datum.filled", altair.value(1), altair.value(0))
    chart = altair.Chart(altair.NamedData("rows"))
    layers = [
        altair.Chart(altair.NamedData("zero")).mark_rule(strokeWidth=1.2, opacity=0.7).encode(x="zero:Q"),
        chart.mark_rule(strokeWidth=1.6, opacity=0.8).encode(
            x=altair.X("low:Q", title=title), x2="high:Q", y=y, **look
        ),
        chart.mark_point(filled=False, size=50, strokeWidth=1.6, opacity=1).encode(
            x=x, y=y, fillOpacity=fill, tooltip=tooltip, **look, **filled
        ),
    ]
    both = altair.layer(*layers).properties(width=_WIDTH, height=_HEIGHT * len(order) + 8)
    return specification(both, rows=values, zero=[{"zero": 0}])
