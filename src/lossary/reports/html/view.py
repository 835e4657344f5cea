"""All sections of a page, in the order of a reader's questions."""

from dataclasses import dataclass

from lossary.findings.engine import Checked
from lossary.reports.html.links import Links
from lossary.reports.html.views.findings import FindingsView, findings_view
from lossary.reports.html.views.losses import LossesView, losses_view
from lossary.reports.html.views.verdict import VerdictView, verdict_view
from lossary.tables.load import OpenTable

__all__ = ["SECTIONS", "PageView", "page_view"]

# Id, which is the template's name too, and title.
SECTIONS = [("verdict", "Verdict"), ("findings", "Findings"), ("losses", "Loss by dataset")]


@dataclass(frozen=True, kw_only=True)
class PageView:
    """What templates are given."""

    verdict: VerdictView
    findings: FindingsView
    losses: LossesView


def page_view(opened: OpenTable, checked: Checked, links: Links) -> PageView:
    """Views of all sections of a study, or of imported tables."""
    table = opened.table
    return PageView(
        verdict=verdict_view(table, checked),
        findings=findings_view(checked, links),
        losses=losses_view(table, links),
    )
