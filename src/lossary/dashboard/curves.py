"""Curves for other programs, and for a closer look: step records with the extremes of every pixel kept, as JSON."""

from typing import Any

import numpy as np

from lossary.dashboard.ask import Ask, Wrong
from lossary.reports.html.decimation import min_max
from lossary.reports.html.views.curves import Axis, imported_series, positions, recorded
from lossary.tables.imported import CURVES

__all__ = ["curves_json"]

_METRICS = ("mlm_loss", "sop_loss")
_UNITS = ("tokens", "examples", "steps")


def curves_json(ask: Ask) -> dict[str, Any]:
    """Training losses of all runs on one dataset, at most four points a pixel: lowest, highest, first and last.

    The address says `dataset`, `metric`, `x` (tokens, examples or steps) and `width` in pixels.
    """
    opened = ask.opened
    dataset = ask.dataset("dataset")
    metrics = _METRICS if opened.study is not None else tuple(opened.table.losses) or _METRICS
    metric, unit = ask.choice("metric", metrics), ask.choice("x", _UNITS)
    width = ask.number("width", 800, low=10, high=10_000)
    runs = [run.name for run in opened.table.runs]
    axes: dict[str, Axis] = {}
    if opened.study is None:
        series = imported_series(opened.folder.root / CURVES, runs)
    else:
        series, axes = recorded(opened.folder, runs)
    if unit != "steps" and any((run, dataset, metric) in series and run not in axes for run in runs):
        raise Wrong(f"x is {unit!r}, which nobody counted for these runs; known: steps")
    curves = []
    for run in runs:
        found = series.get((run, dataset, metric))
        if found is None:
            continue
        finite = np.isfinite(found.nats)
        step, loss = found.step[finite], found.nats[finite] / found.weight[finite]
        kept = min_max(step, loss, linear=width, logarithmic=1)
        x = positions(axes.get(run), step[kept], unit)
        curves.append({"run": run, "x": x, "loss": loss[kept].tolist(), "steps": len(step)})
    cell = ask.table.cell(runs[0], dataset, metric) if runs else None
    floor = None if cell is None else cell.floor
    return {"dataset": dataset, "metric": metric, "x": unit, "unit": "nats", "floor": floor, "curves": curves}
