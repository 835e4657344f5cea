"""Totals over datasets, one for each weighting; a total that leaves a dataset out says so."""

from collections.abc import Callable, Sequence
from math import inf

from lossary.statistics.estimates import Estimate, weighted_mean, within
from lossary.tables.model import METRICS, WEIGHTINGS, Cell, DatasetRow, Metric, Table, Total, Weighting, measure_of

__all__ = ["best_in_total", "estimate_of", "of_parts", "totals_of", "weight_of"]

Link = Callable[[Metric], str | None]
_HEADLINES: tuple[Weighting, ...] = ("reported", "validation_share", "macro")


def totals_of(
    run: str,
    datasets: Sequence[DatasetRow],
    cells: Sequence[Cell],
    *,
    link: Link = lambda *_: None,
    metrics: Sequence[Metric] = METRICS,
) -> list[Total]:
    """Every metric under every weighting, from the cells of one run; `link` gives a total's link."""
    return [_total(run, metric, weighting, datasets, cells, link) for metric in metrics for weighting in WEIGHTINGS]


def weight_of(row: DatasetRow, weighting: Weighting) -> float | None:
    """What a dataset counts for; None where the page does not say."""
    return {"validation_share": row.validation_share, "train_share": row.train_share}.get(weighting, 1.0)


def estimate_of(cell: Cell) -> Estimate:
    """The estimate behind a cell."""
    return Estimate(
        value=cell.value,
        low=cell.low,
        high=cell.high,
        n=cell.n,
        variance=cell.variance,
        degrees=cell.n - 1,
        method=cell.interval,
    )


def of_parts(parts: Sequence[tuple[float, Estimate]], *, is_whole: bool) -> Estimate:
    """Σ w·value / Σ w; of one part that is all there is, that part with the interval that its own kind has."""
    return parts[0][1] if is_whole and len(parts) == 1 and parts[0][0] > 0 else weighted_mean(parts)


def best_in_total(table: Table, metric: Metric) -> str | None:
    """The run that is the best in total, as the page reports it or by validation share; None if none has a total."""
    found = []
    for run in table.runs:
        totals = [table.find_total(run.name, metric, weighting) for weighting in _HEADLINES]
        values = [total.value for total in totals if total is not None and total.value is not None]
        if values:
            found.append((values[0] if measure_of(metric).lower_is_better else -values[0], run.name))
    return min(found)[1] if found else None


def _total(
    run: str,
    metric: Metric,
    weighting: Weighting,
    datasets: Sequence[DatasetRow],
    cells: Sequence[Cell],
    link: Link,
) -> Total:
    of_run = {cell.dataset: cell for cell in cells if cell.run == run and cell.metric == metric}
    weights = {row.name: weight_of(row, weighting) for row in datasets}
    left_out = [name for name in weights if of_run[name].value is None]
    if any(weight is None for weight in weights.values()):
        total = Estimate(value=None, reason=f"the page gives no {weighting.replace('_', ' ')}")
    else:
        known = [(weight or 0.0, of_run[name]) for name, weight in weights.items()]
        parts = [(weight, estimate_of(cell)) for weight, cell in known if cell.value is not None]
        total = within(of_parts(parts, is_whole=not left_out), 0.0, 1.0 if metric.endswith("accuracy") else inf)
    # Why there is no interval is no reason to mark the number.
    reason = total.reason if total.value is None else None
    if left_out and total.value is not None:
        reason = f"without {', '.join(left_out)}, which has no such value; weights of the others are scaled up"
    return Total(
        run=run,
        metric=metric,
        weighting=weighting,
        value=total.value,
        low=total.low,
        high=total.high,
        n=total.n,
        interval=total.method,
        reason=reason,
        link=link(metric),
        variance=total.variance,
    )
