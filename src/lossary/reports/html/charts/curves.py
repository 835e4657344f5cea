"""Curves of training, one chart a dataset with all runs: every step faintly, means over windows of steps, evaluations
with intervals, and the floor.

There is one specification for all charts; whoever draws one puts its values in and chooses the axes.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

from lossary.reports.html.charts.theme import run_scales, specification
from lossary.reports.html.marks import marks_of

__all__ = ["HEIGHT", "WIDTH", "curves_spec", "filled"]

# Of one chart, in pixels.
WIDTH, HEIGHT = 306, 180


def curves_spec(runs: Sequence[str]) -> dict[str, Any]:
    """The specification of all charts of curves; its values are named `raw`, `mean`, `points` and `floor`."""
    import altair

    colour, shape, dash = run_scales(altair, marks_of(runs), runs)
    x = altair.X("x:Q", title="tokens", axis=altair.Axis(format="~s", tickCount=5), scale=altair.Scale(nice=False))
    y = altair.Y("y:Q", title="nats", axis=altair.Axis(tickCount=5, minExtent=30), scale=altair.Scale(zero=False))
    tooltip = [
        altair.Tooltip("runs:N", title="run"),
        altair.Tooltip("x:Q", format=",.0f", title="x"),
        altair.Tooltip("y:Q", format=".4f", title="loss"),
    ]
    raw, mean = altair.Chart(altair.NamedData("raw")), altair.Chart(altair.NamedData("mean"))
    points = altair.Chart(altair.NamedData("points"))
    layers = [
        altair.Chart(altair.NamedData("floor")).mark_rule(strokeDash=[3, 3], opacity=0.8).encode(y="y:Q"),
        raw.mark_line(strokeWidth=0.8, strokeJoin="round", opacity=0.22).encode(
            x=x, y=y, color=colour, order=altair.Order("x:Q")
        ),
        mean.mark_line(strokeWidth=1.7, strokeJoin="round").encode(
            x=x, y=y, color=colour, strokeDash=dash, order=altair.Order("x:Q"), tooltip=tooltip
        ),
        points.mark_rule(strokeWidth=1.8).encode(x=x, y=altair.Y("low:Q", title="nats"), y2="high:Q", color=colour),
        points.mark_point(filled=True, size=52, opacity=1).encode(
            x=x,
            y=y,
            color=colour,
            shape=shape,
            tooltip=[*tooltip, altair.Tooltip("low:Q", format=".4f"), altair.Tooltip("high:Q", format=".4f")],
        ),
    ]
    chart = altair.layer(*layers).properties(width=WIDTH, height=HEIGHT)
    return specification(chart, raw=[], mean=[], points=[], floor=[])


def filled(spec: Mapping[str, Any], values: Mapping[str, list[dict[str, Any]]], *, x_title: str) -> dict[str, Any]:
    """The specification with the values of one chart."""
    found: dict[str, Any] = deepcopy(dict(spec))
    found["datasets"] = dict(values)
    for layer in found["layer"]:
        if "x" in layer["encoding"]:
            layer["encoding"]["x"]["title"] = x_title
    return found
