"""Shares of datasets side by side, and how losses of examples are spread."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from lossary.reports.html.charts.theme import name_axis, run_scales, specification
from lossary.reports.html.marks import marks_of

__all__ = ["Spread", "histogram_spec", "shares_spec"]

_WIDTH = 430
# Okabe and Ito's again; shapes tell them apart, too.
_KINDS = {
    "train share, planned": ("#0072B2", "circle"),
    "train share, realised": ("#56B4E9", "triangle-up"),
    "validation share": ("#D55E00", "square"),
    "share of the loss": ("#009E73", "diamond"),
}


def shares_spec(rows: Sequence[dict[str, Any]], order: Sequence[str]) -> dict[str, Any]:
    """Dots of shares: rows have dataset, kind and share (a fraction)."""
    import altair

    kinds = [kind for kind in _KINDS if any(row["kind"] == kind for row in rows)]
    legend = altair.Legend(
        orient="top", title=None, labelColor="currentColor", symbolSize=60, columns=2, columnPadding=30, labelLimit=200
    )
    axis = name_axis(altair, order)
    y = altair.Y("dataset:N", sort=list(order), title=None, scale=altair.Scale(domain=list(order)), axis=axis)
    x = altair.X("share:Q", title="share", axis=altair.Axis(format=".0%", tickCount=6), scale=altair.Scale(zero=True))
    colour = altair.Color(
        "kind:N", legend=legend, scale=altair.Scale(domain=kinds, range=[_KINDS[k][0] for k in kinds])
    )
    shape = altair.Shape("kind:N", legend=legend, scale=altair.Scale(domain=kinds, range=[_KINDS[k][1] for k in kinds]))
    # Shares of one dataset are often equal: each kind has its lane, so that none hides another.
    lane = altair.YOffset("kind:N", sort=kinds, scale=altair.Scale(domain=kinds))
    chart = altair.Chart(altair.NamedData("shares"))
    tooltip = [altair.Tooltip("dataset:N"), altair.Tooltip("kind:N"), altair.Tooltip("share:Q", format=".1%")]
    layers = [
        chart.mark_line(opacity=0.35, strokeWidth=1, color="currentColor").encode(x=x, y=y, detail="dataset:N"),
        chart.mark_point(filled=True, size=60, opacity=1).encode(
            x=x, y=y, yOffset=lane, color=colour, shape=shape, tooltip=tooltip
        ),
    ]
    both = altair.layer(*layers).properties(width=_WIDTH, height=(8 * len(kinds) + 6) * len(order) + 10)
    return specification(both, shares=rows)


class Spread(NamedTuple):
    """How many examples of a run have a loss in each of the bins."""

    run: str
    counts: list[int]


def histogram_spec(edges: Sequence[float], spreads: Sequence[Spread], all_runs: Sequence[str]) -> dict[str, Any]:
    """Histograms of several runs as steps over the same bins; the last bin takes what lies beyond."""
    import altair

    values = [
        {"run": spread.run, "loss": edge, "share": round(count / max(sum(spread.counts), 1), 4)}
        for spread in spreads
        for edge, count in zip(edges, [*spread.counts, 0], strict=True)
    ]
    runs = [spread.run for spread in spreads]
    colour, _, dash = run_scales(altair, marks_of(all_runs), runs)
    tooltip = [
        altair.Tooltip("run:N"),
        altair.Tooltip("loss:Q", format=".2f", title="loss from"),
        altair.Tooltip("share:Q", format=".1%", title="of examples"),
    ]
    chart = (
        altair.Chart(altair.NamedData("bins"))
        .mark_line(interpolate="step-after", strokeWidth=1.4)
        .encode(
            x=altair.X("loss:Q", title="loss of an example, nats a target", axis=altair.Axis(tickCount=6)),
            y=altair.Y("share:Q", title="of examples", axis=altair.Axis(format=".0%", tickCount=4)),
            color=colour,
            strokeDash=dash,
            tooltip=tooltip,
        )
        .properties(width=306, height=130)
    )
    return specification(chart, bins=values)
