"""All sections of a page, in the order of a reader's questions."""

from dataclasses import dataclass

from lossary.findings.engine import Checked
from lossary.reports.html.charts.dots import dots_chart
from lossary.reports.html.charts.theme import ChartView
from lossary.reports.html.links import Anchors, Ids
from lossary.reports.html.render import require_packages
from lossary.reports.html.views.curves import CurvesView, curves_view, static_charts
from lossary.reports.html.views.decisions import DecisionsView, decisions_view
from lossary.reports.html.views.diagnosis import DiagnosesView, diagnoses_view
from lossary.reports.html.views.examples import ExamplesView, examples_view
from lossary.reports.html.views.findings import FindingsView, findings_view
from lossary.reports.html.views.losses import LossesView, RunHead, losses_view, run_heads
from lossary.reports.html.views.mixture import MixtureView, mixture_view
from lossary.reports.html.views.origins import OriginsView, origins_view
from lossary.reports.html.views.pairs import PairsView, pairs_view
from lossary.reports.html.views.provenance import ProvenanceView, provenance_view
from lossary.reports.html.views.verdict import VerdictView, verdict_view
from lossary.tables.load import OpenTable
from lossary.tables.model import Table, is_across_vocabularies

__all__ = ["SECTIONS", "DotsView", "PageView", "dots_view", "page_view"]

# Id, which is the template's name too, and title.
SECTIONS = [
    ("verdict", "Verdict"),
    ("findings", "Findings"),
    ("losses", "Loss by dataset"),
    ("dots", "Dots"),
    ("decisions", "Decisions"),
    ("pairs", "Run against run"),
    ("diagnosis", "Diagnosis"),
    ("curves", "Curves"),
    ("mixture", "Mixture"),
    ("examples", "Examples"),
    ("provenance", "Provenance"),
]


@dataclass(frozen=True, kw_only=True)
class DotsView:
    """A chart for each loss."""

    charts: list[ChartView]
    notes: list[str]
    has_floor: bool


@dataclass(frozen=True, kw_only=True)
class PageView:
    """What templates are given."""

    heads: list[RunHead]
    verdict: VerdictView
    findings: FindingsView
    losses: LossesView
    dots: DotsView
    decisions: DecisionsView
    pairs: PairsView
    diagnosis: DiagnosesView
    curves: CurvesView
    mixture: MixtureView
    examples: ExamplesView
    provenance: ProvenanceView
    origins: OriginsView | None

    @property
    def sections(self) -> list[tuple[str, str]]:
        """Those that have something to say, by id and title."""
        return [(id, title) for id, title in SECTIONS if id != "decisions" or self.decisions.says_something]

    @property
    def charts(self) -> list[ChartView]:
        """Every chart of the page with its values, as a static picture needs it; curves on linear axes."""
        found = [*self.dots.charts, *self.decisions.charts, *self.pairs.charts, *static_charts(self.curves)]
        if self.mixture.chart is not None:
            found.append(self.mixture.chart)
        return found + [of_dataset.chart for of_dataset in self.examples.datasets if of_dataset.chart is not None]


def page_view(opened: OpenTable, checked: Checked) -> PageView:
    """Views of all sections of a study, or of imported tables; links lead to places of the page itself.

    Raises MissingPackage if there is nothing to make templates or charts with.
    """
    require_packages()
    table = opened.table
    ids = Ids([run.name for run in table.runs], [row.name for row in table.datasets])
    curves = curves_view(opened, ids)
    bare = Anchors(ids, charts=(), examples=())
    examples = examples_view(opened, ids, run_heads(table, bare))
    origins = origins_view(table, ids)
    links = Anchors(
        ids,
        charts=[chart.id for chart in curves.charts],
        examples=[found.id for found in examples.datasets],
        origins=origins.ids if origins is not None else (),
    )
    return PageView(
        heads=run_heads(table, links),
        verdict=verdict_view(table, checked),
        findings=findings_view(checked, links),
        losses=losses_view(table, links),
        dots=dots_view(table),
        decisions=decisions_view(opened),
        pairs=pairs_view(opened, links, ids),
        diagnosis=diagnoses_view(opened.folder, checked),
        curves=curves,
        mixture=mixture_view(opened, ids),
        examples=examples,
        provenance=provenance_view(opened),
        origins=origins,
    )


def dots_view(table: Table) -> DotsView:
    """Dots of losses; of bits a byte instead where runs have several vocabularies, which only these compare."""
    across = [metric for metric in table.compared if is_across_vocabularies(metric)]
    found = [chart for metric in across or table.losses if (chart := dots_chart(table, metric)) is not None]
    return DotsView(
        charts=[chart for chart, _ in found],
        notes=list(dict.fromkeys(note for _, note in found if note)),
        has_floor=not across and any(cell.floor is not None for cell in table.cells),
    )
