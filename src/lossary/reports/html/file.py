"""One file that holds a whole report: markup, style, scripts and data; it asks the network for nothing.

A content security policy with hashes lets exactly these styles and scripts in, so that no name or text of a study can
ever become one.
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from lossary.reports.html.charts.svg import inline_svg
from lossary.reports.html.charts.theme import CONFIG
from lossary.reports.html.engine import chart_engine
from lossary.reports.html.render import asset, environment
from lossary.reports.html.view import SECTIONS, PageView

__all__ = ["content_policy", "html_report", "json_block"]


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
    data = {
        "config": CONFIG,
        "charts": {chart.id: _bare(chart.spec) for chart in charts if chart.id not in curves},
        "runs": [head.name for head in view.heads],
        "curves": view.curves.payload,
    }
    engine, style, script = chart_engine(), asset("page.css"), asset("page.js")
    page = _Page(
        policy=content_policy([style], [script, engine.script]),
        style=Markup(style),
        scripts=[Markup(script)],
        data=Markup(json_block(data)),
        engine=Markup(engine.packed),
    )
    pictures = {chart.id: Markup(inline_svg(chart.spec)) for chart in charts}
    template = environment().get_template("report.html")
    return template.render(view=view, page=page, pictures=pictures, sections=SECTIONS)


def _bare(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A specification without its theme, which stands in the page once."""
    return {name: value for name, value in spec.items() if name != "config"}


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
