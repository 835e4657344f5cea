"""What all charts have in common: ink in the colour of the page's text, so that light and dark need no second picture,
and a scale that gives every run its mark.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lossary.reports.html.marks import Mark
from lossary.reports.text import short_names

__all__ = ["CONFIG", "ChartView", "DataTable", "name_axis", "run_scales", "specification"]

_INK = "currentColor"
# Of a name on an axis: characters, and pixels that they take in a wide font.
_LONGEST, _LABEL_LIMIT = 25, 210
CONFIG: dict[str, Any] = {
    "background": "transparent",
    "font": "system-ui, sans-serif",
    "view": {"stroke": None, "continuousWidth": 320, "continuousHeight": 190},
    "axis": {
        "labelColor": _INK,
        "titleColor": _INK,
        "domainColor": _INK,
        "tickColor": _INK,
        "gridColor": _INK,
        "gridOpacity": 0.13,
        "domainOpacity": 0.4,
        "tickOpacity": 0.4,
        "labelFontSize": 11,
        "titleFontSize": 11,
        "titleFontWeight": "normal",
        "labelLimit": 150,
    },
    "text": {"color": _INK, "fontSize": 11},
    "rule": {"color": _INK},
    "tick": {"color": _INK},
}


@dataclass(frozen=True, kw_only=True)
class DataTable:
    """The numbers of a chart; the first column names the row, the others are text or numbers as they are written."""

    columns: list[str]
    rows: list[list[str]]


@dataclass(frozen=True, kw_only=True)
class ChartView:
    """A chart: its specification, what it shows in one sentence, and its numbers."""

    id: str
    title: str
    about: str
    spec: dict[str, Any]
    data: DataTable


def specification(chart: Any, **values: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A chart of Altair as Vega-Lite, in the page's theme, with the values that it names; numbers are rounded.

    Altair's own check of what it made takes longer than all else; the tests make it.
    """
    spec: dict[str, Any] = chart.to_dict(validate=False)
    spec["config"] = CONFIG
    spec["datasets"] = {name: [_rounded(row) for row in rows] for name, rows in values.items()}
    # The validator's address is of no use in a page that asks no network.
    spec.pop("$schema", None)
    return spec


def _rounded(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: round(value, 5) if isinstance(value, float) else value for key, value in row.items()}


def name_axis(altair: Any, names: Sequence[str]) -> Any:
    """An axis of datasets without lines; long names are cut in their middle, tooltips and tables have them whole."""
    short = short_names(names, _LONGEST)
    shown = {"labelExpr": f"{json.dumps(short)}[datum.value] || datum.label"} if short else {}
    return altair.Axis(grid=False, ticks=False, domain=False, labelPadding=6, labelLimit=_LABEL_LIMIT, **shown)


def run_scales(altair: Any, marks: dict[str, Mark], runs: Sequence[str]) -> tuple[Any, Any, Any]:
    """Colour, shape and dash of runs, without legends: the page has its own."""
    of_runs = [marks[run] for run in runs]
    kept = list(runs)
    colour = altair.Color(
        "run:N", legend=None, scale=altair.Scale(domain=kept, range=[mark.colour for mark in of_runs])
    )
    shape = altair.Shape("run:N", legend=None, scale=altair.Scale(domain=kept, range=[mark.shape for mark in of_runs]))
    dash = altair.StrokeDash(
        "run:N", legend=None, scale=altair.Scale(domain=kept, range=[list(mark.dash) or [1, 0] for mark in of_runs])
    )
    return colour, shape, dash
