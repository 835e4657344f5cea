"""One file that holds a whole report: markup, style, scripts and data; it asks the network for nothing.

A content security policy with hashes lets exactly these styles and scripts in, so that no name or text of a study can
ever become one.
"""

import base64
import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from lossary.findings.engine import Checked
from lossary.reports.html.links import Anchors
from lossary.reports.html.render import asset, environment, require_packages
from lossary.reports.html.view import SECTIONS, page_view
from lossary.tables.load import OpenTable

__all__ = ["content_policy", "html_report"]


class _Page(NamedTuple):
    """What the shell takes in as it is; `Markup` strings of this package and its libraries."""

    policy: str
    style: str
    scripts: list[str]


def html_report(opened: OpenTable, checked: Checked) -> str:
    """The report as one HTML file. Raises MissingPackage if templates or charts have nothing to be made with."""
    require_packages()
    from markupsafe import Markup

    table = opened.table
    anchors = Anchors([run.name for run in table.runs], [row.name for row in table.datasets])
    view = page_view(opened, checked, anchors)
    style, scripts = asset("page.css"), [asset("page.js")]
    page = _Page(content_policy([style], scripts), Markup(style), [Markup(script) for script in scripts])
    return environment().get_template("report.html").render(view=view, page=page, sections=SECTIONS)


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
