"""Pictures beside report.md, as SVG and as PNG: training curves by dataset, and differences between runs."""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from lossary.files import write_atomic
from lossary.reports.html.charts.svg import file_svg, on_white
from lossary.reports.html.charts.theme import ChartView
from lossary.reports.html.views.curves import CurveChart, CurvesView, static_charts
from lossary.reports.markdown import escape_markdown
from lossary.reports.text import metric_title
from lossary.tables.model import Metric

__all__ = ["write_curves", "write_forests"]

# Of one picture: more panels nobody reads, and no renderer draws in time.
_MOST_PANELS = 12


def write_curves(out: Path, curves: CurvesView, *, png: bool = False) -> str:
    """Writes curves-mlm and curves-sop (.svg, and .png if asked); returns Markdown that shows them, or says why not."""
    if not curves.charts:
        return curves.why_none
    charts = {chart.id: chart for chart in static_charts(curves)}
    shown = [
        "Training loss; faint: every step, strong: means over windows of steps, points: the validation set with 95 % "
        "intervals, dashed: the floor."
    ]
    for metric in dict.fromkeys(chart.metric for chart in curves.charts):
        of_metric = [chart for chart in curves.charts if chart.metric == metric]
        panels = [(chart, charts[chart.id].spec) for chart in of_metric]
        if len(panels) > _MOST_PANELS:
            shown.append(f"{_MOST_PANELS} of {len(panels)} datasets; report.html shows the others.")
        if panels:
            file = _write_picture(out, f"curves-{_short(metric)}", _panels(panels[:_MOST_PANELS]), png=png)
            title = f"{metric_title(metric)} in training by dataset, against {curves.units[0]}"
            shown.append(f"![{title}]({file})")
            same = [f"{chart.dataset}: {text}" for chart in of_metric[:_MOST_PANELS] for text in chart.same]
            shown += [escape_markdown(f"{'; '.join(same)}. They are drawn as one.")] if same else []
    return "\n\n".join(shown)


def write_forests(out: Path, charts: Sequence[ChartView], metrics: Sequence[Metric], *, png: bool = False) -> list[str]:
    """Writes a forest of each metric that has one, differences to the base; returns Markdown that shows them."""
    shown = []
    for chart in charts:
        metric = max((metric for metric in metrics if chart.id.endswith(metric)), key=len)
        file = _write_picture(out, f"forest-{_short(metric)}", chart.spec, png=png)
        shown.append(f"![{metric_title(metric)}, paired differences by dataset]({file})")
    return shown


def _short(metric: Metric) -> str:
    return metric.removesuffix("_loss").replace("_", "-")


def _panels(charts: Sequence[tuple[CurveChart, dict[str, Any]]]) -> dict[str, Any]:
    """Charts of one specification side by side, with one legend; each keeps its own values."""
    panels = []
    datasets = {}
    for index, (chart, spec) in enumerate(charts):
        panel = deepcopy(spec)
        for name, rows in panel.pop("datasets").items():
            datasets[f"{name}-{index}"] = rows
        for layer in panel["layer"]:
            layer["data"] = {"name": f"{layer['data']['name']}-{index}"}
            if "strokeDash" in layer["encoding"]:
                layer["encoding"]["color"]["legend"] = {"title": None, "orient": "bottom", "labelColor": "currentColor"}
        config = panel.pop("config")
        title: dict[str, Any] = {"text": chart.dataset, "anchor": "start", "fontSize": 12, "color": "currentColor"}
        if chart.same:
            title |= {"subtitle": chart.same, "subtitleFontSize": 10, "subtitleColor": "currentColor"}
        panels.append({**panel, "title": title})
    # Runs share a legend, axes are each panel's own.
    resolve = {"scale": {"x": "independent", "y": "independent"}}
    return {"concat": panels, "columns": 2, "datasets": datasets, "config": config, "resolve": resolve}


def _write_picture(out: Path, name: str, spec: dict[str, Any], *, png: bool) -> str:
    """Writes a picture; returns the name of the file that Markdown is to show."""
    with write_atomic(out / f"{name}.svg") as temporary:
        temporary.write_text(file_svg(spec), encoding="utf-8")
    if not png:
        return f"{name}.svg"
    import vl_convert

    picture = vl_convert.vegalite_to_png(on_white(spec), scale=2)
    with write_atomic(out / f"{name}.png") as temporary:
        temporary.write_bytes(picture)
    return f"{name}.png"
