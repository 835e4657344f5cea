"""One file that holds a whole report: markup, style, scripts and data; it asks the network for nothing.

A content security policy with hashes lets exactly these styles and scripts in, so that no name or text of a study can
ever become one.
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from lossary.reports.html.charts.svg import inline_svg
from lossary.reports.html.charts.theme import CONFIG, ChartView
from lossary.reports.html.engine import chart_engine
from lossary.reports.html.render import asset, environment
from lossary.reports.html.view import PageView

__all__ = ["chart_data", "content_policy", "html_report", "json_block"]


# Pictures are drawn outside of Python.
_THREADS = 2


class _Page(NamedTuple):
    """What the shell takes in as it is; `Markup` strings of this package and its libraries."""

    policy: str
    style: str
    scripts: list[str]
    data: str
    engine: str


def html_report(view: PageView) -> str:
    """The report as one HTML file."""
    from markupsafe import Markup

    charts = view.charts
    curves = {chart.id for chart in view.curves.charts}
    others = [chart for chart in charts if chart.id not in curves]
    engine, style, script = chart_engine(), asset("page.css"), asset("page.js")
    page = _Page(
        policy=content_policy([style], [script, engine.script]),
        style=Markup(style),
        scripts=[Markup(script)],
        data=Markup(chart_data(others, [head.name for head in view.heads], view.curves.payload)),
        engine=Markup(engine.packed),
    )
    with ThreadPoolExecutor(_THREADS) as pool:
        drawn = pool.map(lambda chart: Markup(inline_svg(chart.spec)), charts)
        pictures = dict(zip([chart.id for chart in charts], drawn, strict=True))
    template = environment().get_template("report.html")
    return template.render(view=view, page=page, pictures=pictures, sections=view.sections)


def chart_data(charts: Sequence[ChartView], runs: Sequence[str], curves: Mapping[str, Any]) -> str:
    """What the page's script draws charts and curves from; their theme stands in it once."""
    specs = {chart.id: {name: value for name, value in chart.spec.items() if name != "config"} for chart in charts}
    return json_block({"config": CONFIG, "charts": specs, "runs": list(runs), "curves": dict(curves)})


def json_block(value: Any) -> str:
    """JSON that can stand in a script element: no text in it can end the element or begin a comment."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def content_policy(styles: Sequence[str], scripts: Sequence[str]) -> str:
    """Nothing is allowed but these styles and scripts, and pictures that the page itself holds."""
    parts = [
        "default-src 'none'",
        f"script-src {' '.join(map(_hash, scripts))}",
        f"style-src {' '.join(map(_hash, styles))}",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    return "; ".join(parts)


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
