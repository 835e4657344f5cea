"""Which step of imported curves a table shows: each curve's last, each run's best by a total, or one that is asked for.

    numbers, notes = numbers_at(numbers, curves, chosen_steps(curves, 500))

The best is among the steps at which all datasets of a run were evaluated; of equal ones it is the earliest.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lossary.errors import UsageError
from lossary.results.importers.model import ALL, Curve, Number, metric_name
from lossary.tables.best import Best, Criterion, StepChoice
from lossary.tables.model import DatasetRow, Metric, Weighting, measure_of
from lossary.tables.totals import weight_of

__all__ = ["Chosen", "chosen_steps", "mixed_steps", "numbers_at"]

_NEAREST = 4
# By run: the step that is shown of it, and why; None where every curve shows its last.
Chosen = Mapping[str, int | None] | None


def chosen_steps(curves: Sequence[Curve], step: StepChoice, rows: Sequence[DatasetRow], notes: list[str]) -> Chosen:
    """The step of each run; None of a run without such a step, which is noted. UsageError if none has one."""
    if step is None:
        return None
    runs = list(dict.fromkeys(curve.run for curve in curves))
    if not runs:
        raise UsageError("no step is known: the imports hold no curve", where="--step", hint="Leave it out.")
    if isinstance(step, Best):
        return _best_steps(curves, runs, _criterion(curves, step, rows), rows, notes)
    having = {curve.run for curve in curves if step in _finite(curve)}
    if not having:
        raise UsageError(f"nothing was measured at step {step:,}", where="--step", hint=_nearest(curves, step))
    series: dict[tuple[str, Metric], list[Curve]] = defaultdict(list)
    for curve in curves:
        series[curve.run, metric_name(curve.metric, curve.split)].append(curve)
    for (run, metric), of_metric in series.items():
        if not any(step in _finite(curve) for curve in of_metric):
            notes.append(f"{run}: no {measure_of(metric).title} at step {step:,}. {_nearest(of_metric, step)}")
    return {run: step if run in having else None for run in runs}


def _nearest(curves: Iterable[Curve], step: int) -> str:
    steps = sorted({value for curve in curves for value in _finite(curve)})
    if not steps:
        return "No step has a number."
    near = sorted(sorted(steps, key=lambda other: abs(other - step))[:_NEAREST])
    shown = ", ".join(f"{value:,}" for value in near)
    return f"Nearest of {len(steps):,} steps, {steps[0]:,} to {steps[-1]:,}: {shown}."


def _finite(curve: Curve) -> dict[int, float]:
    finite = np.isfinite(curve.value)
    return dict(zip(curve.step[finite].tolist(), curve.value[finite].tolist(), strict=True))


def _criterion(curves: Sequence[Curve], best: Best, rows: Sequence[DatasetRow]) -> Criterion:
    metrics = list(dict.fromkeys(metric_name(curve.metric, curve.split) for curve in curves))
    has_shares = bool(rows) and all(row.validation_share is not None for row in rows)
    weighting: Weighting = "validation_share" if has_shares else "macro"
    if best.criterion:
        return Criterion.parse(best.criterion, where="--step", metrics=metrics, weighting=weighting)
    losses = [name for name in metrics if (m := measure_of(name)).unit == "nats" and m.split is None]
    preferred = [name for name in ("mlm_loss", "clm_loss", "loss") if name in losses]
    if not losses:
        raise UsageError(
            "no loss of evaluation is in the file to choose the best step by",
            where="--step",
            hint=f"Name what to choose by, as best:{metrics[0]}. Metrics: {', '.join(metrics)}.",
        )
    return Criterion([*preferred, *losses][0], weighting)


def _best_steps(
    curves: Sequence[Curve], runs: Sequence[str], criterion: Criterion, rows: Sequence[DatasetRow], notes: list[str]
) -> Chosen:
    weights = {row.name: weight_of(row, criterion.weighting) for row in rows}
    found: dict[str, int | None] = {}
    for run in runs:
        of_run = _points(curves, run, criterion.metric)
        of_run = {name: points for name, points in of_run.items() if name != ALL or len(of_run) == 1}
        if any(weights[name] is None for name in of_run) and len(of_run) > 1:
            hint = (
                f"The files give no {criterion.weighting.replace('_', ' ')}; best:{criterion.metric}:macro needs none."
            )
            raise UsageError(f"no step is the best by {criterion}", where="--step", hint=hint)
        common = set.intersection(*map(set, of_run.values())) if of_run else set()
        totals = {at: _total({n: points[at] for n, points in of_run.items()}, weights) for at in sorted(common)}
        best: int | None = None
        for at, total in totals.items():
            if best is None or criterion.better(total, totals[best]):
                best = at
        found[run] = best
        if best is None:
            notes.append(f"{run}: no step has {criterion.metric} of all its datasets; left out")
        else:
            by = f"{criterion}" if len(of_run) > 1 else criterion.metric
            several = f"{len(totals):,} evaluated" if len(totals) > 1 else "the only one evaluated"
            notes.append(
                f"{run}: step {best:,} is the best of {several} by {by}: {totals[best]:.4f}, chosen by these numbers"
            )
    if all(step is None for step in found.values()):
        raise UsageError(
            f"no run has a step with {criterion.metric} of all its datasets", where="--step", hint="Give a step."
        )
    return found


def _points(curves: Iterable[Curve], run: str, metric: Metric) -> dict[str, dict[int, float]]:
    """By dataset: the finite values of a run's metric by step."""
    found: dict[str, dict[int, float]] = {}
    for curve in curves:
        if curve.run == run and metric_name(curve.metric, curve.split) == metric:
            found.setdefault(curve.dataset, {}).update(_finite(curve))
    return found


def _total(values: Mapping[str, float], weights: Mapping[str, float | None]) -> float:
    if len(values) == 1:
        return next(iter(values.values()))
    parts = [(weights.get(name) or 0.0, value) for name, value in values.items()]
    return sum(weight * value for weight, value in parts) / (sum(weight for weight, _ in parts) or 1.0)


def numbers_at(numbers: Sequence[Number], curves: Iterable[Curve], chosen: Chosen, notes: list[str]) -> list[Number]:
    """Printed numbers and one number of each curve: its last finite point, or that of the step chosen for its run."""
    found = list(numbers)
    if chosen is not None:
        found = [n for n in numbers if n.step is not None and n.step == chosen.get(n.run)]
        stepless = dict.fromkeys(n.run for n in numbers if n.step is None)
        if stepless:
            notes.append(f"{', '.join(stepless)}: printed numbers that name no step are left out with --step")
    for curve in curves:
        finite = np.isfinite(curve.value)
        at = np.flatnonzero(finite & (True if chosen is None else curve.step == _or_none(chosen.get(curve.run))))
        if len(at):
            number = _number(curve, int(at[-1]), above=bool(curve.value[finite].max() > 1))
            found.append(replace(number, statistic=_which(curve, finite, number.step, is_last=chosen is None)))
    return found


def _which(curve: Curve, finite: NDArray[np.bool_], step: int | None, *, is_last: bool) -> str:
    count = len(finite)
    if count == 1:
        return "the only point"
    if not is_last:
        return f"the point of {curve.axis} {step:,}, of {count:,}"
    return f"the last of {count:,} points" if finite[-1] else f"the last finite of {count:,} points"


def _or_none(step: int | None) -> int:
    return -1 if step is None else step


def _number(curve: Curve, at: int, *, above: bool) -> Number:
    """A point of a curve; accuracies of a curve that goes above 1 are in per cent."""
    metric, value = metric_name(curve.metric, curve.split), float(curve.value[at])
    return Number(
        run=curve.run,
        dataset=curve.dataset,
        metric=metric,
        value=value * (0.01 if measure_of(metric).unit == "fraction" and above else 1.0),
        text=f"{value:.6g}",
        rounding=0.0,
        section=curve.section,
        step=int(curve.step[at]),
        place=f"from {curve.place} on, {curve.axis} {int(curve.step[at]):,}" if curve.place else "",
    )


def mixed_steps(numbers: Iterable[Number]) -> dict[tuple[str, Metric], list[int]]:
    """By run and metric: the steps of its datasets, where they are not all of one."""
    steps: dict[tuple[str, Metric], set[int]] = defaultdict(set)
    for number in numbers:
        if number.step is not None:
            steps[number.run, number.metric].add(number.step)
    return {key: sorted(found) for key, found in steps.items() if len(found) > 1}
