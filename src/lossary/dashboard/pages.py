"""One function a page: what was asked for → views → HTML. Templates escape everything that they are given."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType, SimpleNamespace
from typing import Any, NamedTuple

from lossary.dashboard.ask import Ask, Missing
from lossary.dashboard.site import Site
from lossary.dashboard.views import about_findings, compare_view, dataset_view, progress_rows, run_view
from lossary.errors import LossaryError
from lossary.findings.engine import Checked
from lossary.reports.examples import GapView, headline, label_text
from lossary.reports.html.charts.forest import forest_chart
from lossary.reports.html.charts.theme import ChartView
from lossary.reports.html.view import dots_view
from lossary.reports.html.views.curves import CurvesView
from lossary.reports.html.views.decisions import decisions_view
from lossary.reports.html.views.diagnosis import diagnoses_view
from lossary.reports.html.views.findings import findings_view
from lossary.reports.html.views.losses import RunHead, losses_view, run_heads
from lossary.reports.html.views.mixture import mixture_view
from lossary.reports.html.views.origins import origins_view
from lossary.reports.html.views.provenance import provenance_view
from lossary.reports.html.views.verdict import verdict_view
from lossary.reports.progress import holder_text
from lossary.reports.text import metric_title, plain
from lossary.tables.examples import ORDERS, GapRow, Pair
from lossary.tables.load import OpenTable
from lossary.tables.model import Metric, Table
from lossary.tables.texts import ExampleText, texts_of

__all__ = ["PAGES", "Content"]

# More cells than this in all metrics together: one metric at a time.
_MANY_CELLS = 4000
_ROWS_A_PAGE = 25
_MOST_PAGES = 10**9


class Content(NamedTuple):
    """A template and what it shows; `heads` are the runs of its charts, `curves` what its curves are drawn from."""

    template: str
    values: Mapping[str, Any]
    heads: Sequence[RunHead] = ()
    charts: Sequence[ChartView] = ()
    curves: Mapping[str, Any] = MappingProxyType({})


def losses(site: Site, ask: Ask) -> Content:
    """The landing page: progress, verdict, loss by dataset; differences to any run that the address names."""
    snapshot = ask.snapshot
    values: dict[str, Any] = {
        "progress": progress_rows(snapshot.progress, ask.links),
        "working": [holder_text(holder) for holder in snapshot.working],
        "reason": snapshot.reason,
    }
    if snapshot.opened is None:
        return Content("losses.html", values | {"view": None, "metrics": []})
    opened, checked = _based(site, ask)
    table = opened.table
    metrics = _measured(table)
    shown = metrics
    if len(table.cells) > _MANY_CELLS and metrics:
        shown = [ask.choice("metric", metrics)]
    view = SimpleNamespace(
        heads=run_heads(table, ask.links),
        verdict=verdict_view(table, checked),
        losses=losses_view(table, ask.links, metrics=shown),
        dots=dots_view(table),
        mixture=mixture_view(opened, site.ids(table)),
        provenance=provenance_view(opened),
        origins=None,  # of each run on its own page
    )
    charts = [*view.dots.charts, *([view.mixture.chart] if view.mixture.chart else [])]
    query = {"base": ask.query.get("base")}
    tabs = [(metric_title(metric), ask.links.page("", metric=metric, **query), metric in shown) for metric in metrics]
    values |= {"view": view, "metrics": tabs if shown != metrics else []}
    return Content("losses.html", values, view.heads, charts)


def _based(site: Site, ask: Ask) -> tuple[OpenTable, Checked]:
    snapshot = ask.snapshot
    opened = ask.opened
    assert snapshot.checked is not None
    if opened.study is None or "base" not in ask.query or ask.run("base") == opened.table.base:
        return opened, snapshot.checked
    return site.with_base(snapshot, ask.run("base"))


def _measured(table: Table) -> list[Metric]:
    return table.metrics


def findings(site: Site, ask: Ask) -> Content:
    """All findings, what passed and what was skipped."""
    _, checked = _based(site, ask)
    return Content("findings.html", {"view": SimpleNamespace(findings=findings_view(checked, ask.links))})


def run(site: Site, ask: Ask) -> Content:
    """One run."""
    name = ask.run()
    opened, checked = _based(site, ask)
    progress = [row for row in progress_rows(ask.snapshot.progress, ask.links) if row.name == plain(name)]
    values = {
        "run": run_view(opened, name, ask.links),
        "progress": progress,
        "working": [holder_text(holder) for holder in ask.snapshot.working if holder.run == name],
        "name": name,
        "origins": origins_view(opened.table, site.ids(opened.table), run=name),
        "others": [other.name for other in opened.table.runs if other.name != name],
        "view": SimpleNamespace(findings=findings_view(about_findings(checked, run=name), ask.links)),
    }
    return Content("run.html", values, run_heads(opened.table, ask.links))


def dataset(site: Site, ask: Ask) -> Content:
    """One dataset."""
    name = ask.dataset()
    opened, checked = _based(site, ask)
    curves = _curves_of(
        site.curves(ask.snapshot), [site.ids(opened.table).curves(name, m) for m in opened.table.losses]
    )
    view = SimpleNamespace(
        heads=run_heads(opened.table, ask.links),
        curves=curves,
        findings=findings_view(about_findings(checked, dataset=name), ask.links),
    )
    values = {"dataset": dataset_view(opened, name, ask.links), "view": view}
    return Content("dataset.html", values, view.heads, curves=curves.payload)


def _curves_of(view: CurvesView, ids: Sequence[str]) -> CurvesView:
    """The part of all curves that some charts show."""
    charts = [chart for chart in view.charts if chart.id in ids]
    payload = {**view.payload, "charts": {chart.id: view.payload["charts"][chart.id] for chart in charts}}
    return replace(view, charts=charts, notes=[], payload=payload if charts else {})


def curves(site: Site, ask: Ask) -> Content:
    """Training and evaluation of all runs, a chart a dataset."""
    view = SimpleNamespace(heads=run_heads(ask.table, ask.links), curves=site.curves(ask.snapshot))
    return Content("curves.html", {"view": view}, view.heads, curves=view.curves.payload)


def compare(site: Site, ask: Ask) -> Content:
    """Two runs; the address holds which, and of which other study the second one is."""
    table = ask.table
    others = {slug: watched for slug, watched in site.studies.items() if watched.path != ask.snapshot.path}
    theirs = ask
    if ask.query.get("other"):
        watched = others[ask.choice("other", list(others), "")]
        snapshot = watched.snapshot()
        theirs = ask._replace(snapshot=snapshot)
    names = [run.name for run in table.runs]
    their_names = [run.name for run in theirs.table.runs]
    if len(names) + (len(their_names) if theirs is not ask else 0) < 2:
        why = "A single run: there is none to compare it with."
        return Content("nothing.html", {"title": "Run against run", "why": why})
    first = ask.run("first", default=table.base or names[0] if names else None)
    second = theirs.run(
        "second", default=next((name for name in their_names if name != first or theirs is not ask), None)
    )
    found, problem = None, None
    try:
        found = site.comparison((ask.snapshot, first), (theirs.snapshot, second))
    except LossaryError as error:
        problem = error
    here = theirs is ask and ask.opened.study is not None
    values: dict[str, Any] = {
        "runs": names,
        "their_runs": their_names,
        "others": list(others),
        "other": ask.query.get("other", ""),
        "first": first,
        "second": second,
        "swap": ask.links.page("compare", first=second, second=first) if theirs is ask else None,
        "compared": None if found is None else compare_view(found, ask.links, examples=here),
        "problem": problem,
    }
    paired = None if found is None else found.table
    if paired is None:
        return Content("compare.html", values | {"view": None, "forest": []})
    charts = [chart for metric in paired.compared if (chart := forest_chart(paired, metric)) is not None]
    values |= {"view": SimpleNamespace(losses=losses_view(paired, ask.links)), "forest": charts}
    return Content("compare.html", values, run_heads(paired, ask.links), [chart for chart, _ in charts])


def decide(_: Site, ask: Ask) -> Content:
    """Which may be best, what was decided early, what shares do."""
    view = SimpleNamespace(decisions=decisions_view(ask.opened))
    if not view.decisions.says_something:
        why = (
            "Three scored runs are ranked, repeats with other seeds say what noise explains, runs of several "
            "mixtures what shares do, and `lossary evaluate --until decided` what is clear early: none of them is here."
        )
        return Content("nothing.html", {"title": "Decisions", "why": why})
    return Content("decide.html", {"view": view}, run_heads(ask.table, ask.links), view.decisions.charts)


def examples(site: Site, ask: Ask) -> Content:
    """The examples that make the gap between two runs on a dataset, a page at a time."""
    opened = ask.opened
    table = opened.table
    if opened.study is None or len(table.runs) < 2:
        imported = opened.study is None
        why = "Imported numbers have no examples." if imported else "A single run has no gap to another one."
        return Content("nothing.html", {"title": "Examples that make the gap", "why": why})
    names = [run.name for run in table.runs]
    first = ask.run("first", default=table.base or names[0])
    second = ask.run("second", default=next(name for name in names if name != first))
    pair = Pair(
        first=first,
        second=second,
        dataset=ask.dataset("dataset", table.datasets[0].name),
        measure=ask.choice("measure", table.objectives),
    )
    order = ask.choice("order", ORDERS)
    page = ask.number("page", 1, low=1, high=_MOST_PAGES)
    values: dict[str, Any] = {
        "runs": names,
        "datasets": [row.name for row in table.datasets],
        "pair": pair,
        "order": order,
        "orders": ORDERS,
        "measures": table.objectives,
    }
    if first == second:
        return Content("examples.html", values | {"gap": None, "problem": "A run is compared with itself: choose two."})
    gap = site.gap(ask.snapshot, pair)
    pages = max(1, -(-len(gap) // _ROWS_A_PAGE))
    if page > pages:
        raise Missing(
            f"there is no page {page:,}", what="pages", known=[("the last one", _page(ask, pair, order, pages))]
        )
    rows = gap.page(order, offset=(page - 1) * _ROWS_A_PAGE, limit=_ROWS_A_PAGE)
    view = GapView(
        gap=gap, order=order, rows=rows, texts=texts_of(lambda: site.texts(ask.snapshot), pair.dataset, rows)
    )
    values |= {
        "gap": gap,
        "headline": [plain(line) for line in headline(view)],
        "bars": _bars(view),
        "rows": [_example(row, text, pair) for row, text in zip(rows, view.texts, strict=True)],
        "page": page,
        "pages": pages,
        "turns": {
            name: _page(ask, pair, order, to) if 1 <= to <= pages and to != page else None
            for name, to in (("first", 1), ("previous", page - 1), ("next", page + 1), ("last", pages))
        },
        "problem": None,
    }
    return Content("examples.html", values)


def _page(ask: Ask, pair: Pair, order: str, page: int) -> str:
    return ask.links.page("examples", **vars(pair), order=order, page=page)


def _bars(view: GapView) -> list[dict[str, Any]]:
    """The histogram as bars: where each begins and ends, how many examples, its height from 0 to 1."""
    found = view.gap.histogram
    if found is None:
        return []
    most = max(found.counts)
    return [
        {"low": low, "high": high, "count": count, "part": count / most}
        for low, high, count in zip(found.edges, found.edges[1:], found.counts, strict=False)
    ]


def _example(row: GapRow, text: ExampleText, pair: Pair) -> dict[str, Any]:
    scores = row.by_token or row.of(pair.measure) or ()
    return {
        "row": row,
        "order": label_text(row.label),
        "nats": [score.nats for score in row.of(pair.measure) or ()],
        "targets": " → ".join(dict.fromkeys(str(score.targets) for score in scores)),
        "right": [score.correct for score in scores],
        "text": text,
        "length": sum(len(part.text) for segment in text.segments for part in segment),
    }


def diagnosis(_: Site, ask: Ask) -> Content:
    """What `lossary diagnose` wrote of this study, or what findings suggest."""
    checked = ask.snapshot.checked
    assert checked is not None
    return Content("diagnosis.html", {"view": SimpleNamespace(diagnosis=diagnoses_view(ask.opened.folder, checked))})


# By address; the landing page has none.
PAGES: dict[str, Callable[[Site, Ask], Content]] = {
    "": losses,
    "curves": curves,
    "decide": decide,
    "compare": compare,
    "examples": examples,
    "findings": findings,
    "diagnosis": diagnosis,
    "run": run,
    "dataset": dataset,
}
