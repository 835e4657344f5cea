"""Pictures beside report.md, as SVG and as PNG: training curves by dataset, and differences between runs."""

from typing import Any, NamedTuple

from lossary.errors import MissingPackage
from lossary.files import write_atomic
from lossary.folder import StudyFolder
from lossary.reports.html.charts.forest import forest_chart
from lossary.reports.html.charts.svg import file_svg, on_white
from lossary.reports.html.render import require_packages
from lossary.reports.text import METRIC_TITLES
from lossary.results.records import read_steps
from lossary.tables.model import Metric, Table

__all__ = ["Charts", "write_curves", "write_forests"]

# Okabe and Ito's colours, told apart by colour-blind readers too; dashes repeat the distinction.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442"]
_POINTS = 80


class Charts(NamedTuple):
    """Markdown that shows the charts, or says why there are none."""

    text: str


def write_curves(folder: StudyFolder, table: Table, *, png: bool = False) -> Charts:
    """Writes curves-mlm and curves-sop (.svg, .png if asked) into the report's folder; needs altair and vl-convert."""
    points = [point for run in table.runs for point in _points(folder, run.name)]
    if not points:
        return Charts("No step records: these runs were not trained here.")
    try:
        import altair
        import vl_convert
    except ImportError:
        return Charts('Charts need altair and vl-convert: `pip install "lossary[report]"`.')
    shown = []
    for metric, name in (("mlm_loss", "curves-mlm"), ("sop_loss", "curves-sop")):
        of_metric = [point for point in points if point["metric"] == metric]
        if of_metric:
            chart = _chart(altair, table, of_metric, metric)  # type: ignore[arg-type]
            spec = chart.to_dict()
            file = _write_picture(folder, name, vl_convert.vegalite_to_svg(spec), spec, png=png)
            title = METRIC_TITLES[metric]  # type: ignore[index]
            shown.append(f"![{title} in training by dataset, against tokens]({file})")
    text = "Training loss against tokens of the run; means over windows of steps, no smoothing; dashed: the floor."
    return Charts("\n\n".join([text, *shown]))


def write_forests(folder: StudyFolder, table: Table, *, png: bool = False) -> list[str]:
    """Writes forest-mlm and forest-sop, differences to the base; Markdown that shows them, if it can draw."""
    try:
        require_packages()
    except MissingPackage:
        return []
    shown = []
    for metric, name in (("mlm_loss", "forest-mlm"), ("sop_loss", "forest-sop")):
        found = forest_chart(table, metric)  # type: ignore[arg-type]
        if found is not None:
            spec = found[0].spec
            file = _write_picture(folder, name, file_svg(spec), spec, png=png)
            shown.append(f"![{METRIC_TITLES[metric]}, paired differences by dataset]({file})")  # type: ignore[index]
    return shown


def _write_picture(folder: StudyFolder, name: str, svg: str, spec: dict[str, Any], *, png: bool) -> str:
    """Writes a picture; returns the name of the file that Markdown is to show."""
    with write_atomic(folder.report / f"{name}.svg") as temporary:
        temporary.write_text(svg, encoding="utf-8")
    if not png:
        return f"{name}.svg"
    import vl_convert

    picture = vl_convert.vegalite_to_png(on_white(spec), scale=2)
    with write_atomic(folder.report / f"{name}.png") as temporary:
        temporary.write_bytes(picture)
    return f"{name}.png"


def _points(folder: StudyFolder, run: str) -> list[dict[str, Any]]:
    """Means over windows of steps: about `_POINTS` a dataset and metric."""
    import duckdb

    steps = read_steps(folder.steps(run))
    if not steps.num_rows:
        return []
    query = f"""
    WITH numbered AS (SELECT *, step * {_POINTS} // (1 + max(step) OVER ()) AS part FROM steps)
    SELECT dataset, max(total_tokens) AS tokens, sum(mlm_nats) / nullif(sum(masked), 0) AS mlm_loss,
      sum(sop_nats) / nullif(sum(sop_pairs), 0) AS sop_loss
    FROM numbered GROUP BY dataset, part ORDER BY dataset, tokens
    """
    with duckdb.connect() as connection:
        connection.register("steps", steps)
        rows = connection.execute(query).fetchall()
    return [
        {"run": run, "dataset": dataset, "tokens": tokens, "metric": metric, "loss": loss}
        for dataset, tokens, *losses in rows
        for metric, loss in zip(("mlm_loss", "sop_loss"), losses, strict=True)
        if loss is not None
    ]


def _chart(altair: Any, table: Table, points: list[dict[str, Any]], metric: Metric) -> Any:
    runs = [run.name for run in table.runs]
    first = runs[0]
    floors = [
        {"dataset": row.name, "floor": table.cell(first, row.name, metric).floor}
        for row in table.datasets
        if table.cell(first, row.name, metric).floor is not None
    ]
    colour = altair.Color("run:N", scale=altair.Scale(domain=runs, range=COLOURS[: len(runs)] or COLOURS), title="run")
    lines = (
        altair.Chart(altair.Data(values=[{**point, "floor": None} for point in points]))
        .mark_line(strokeWidth=1.6, clip=True)
        .encode(
            x=altair.X("tokens:Q", title="tokens", axis=altair.Axis(format="~s", tickCount=4)),
            y=altair.Y("loss:Q", title=f"{METRIC_TITLES[metric]}, nats", scale=altair.Scale(zero=False)),
            color=colour,
            strokeDash=altair.StrokeDash("run:N", scale=altair.Scale(domain=runs), title="run"),
        )
    )
    rules = altair.Chart(altair.Data(values=floors)).mark_rule(strokeDash=[4, 4], color="#666666").encode(y="floor:Q")
    panels = [
        altair.layer(
            lines.transform_filter(altair.datum.dataset == row.name),
            rules.transform_filter(altair.datum.dataset == row.name),
        ).properties(width=260, height=170, title=row.name)
        for row in table.datasets
        if any(point["dataset"] == row.name for point in points)
    ]
    return altair.concat(*panels, columns=2).resolve_scale(y="independent", x="shared")
