"""A loss of evaluation that was far lower at an earlier step of the same run."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lossary.findings.bearing import LEAST
from lossary.findings.model import LEVEL, Finding, Key, Rule, Test, passed, skipped
from lossary.findings.sentences import few, share_of
from lossary.findings.subject import Subject
from lossary.results.importers.model import metric_name as table_name
from lossary.statistics.estimates import Estimate
from lossary.statistics.paired import one_sided_p
from lossary.tables.history import Evaluation
from lossary.tables.imported import imported_curves
from lossary.tables.model import Metric, measure_of

__all__ = ["RULE", "is_much", "judged"]

_ID = ("L404", "worse-than-its-best")
# Less than this matters to nobody, however well it is shown.
_LEAST_NATS, _LEAST_SHARE = 0.1, 0.05
# Of imported curves, which have no n: points that are needed, points of which a median is a level, and how many times
# the rise has to be the usual way from one point to the next, and the highest rise before the best that was undone.
# `python -m benchmarks.best_steps` shows how often curves that only wander are told of, and ones that rose are not.
_FEWEST_POINTS, _LEVEL_POINTS, _TIMES, _TIMES_UNDONE = 8, 3, 3.0, 1.5


class _Rise(NamedTuple):
    """From the lowest loss of a run to the one it has now."""

    run: str
    metric: Metric
    dataset: str
    best: float
    best_step: int
    now: float
    step: int
    p: float | None  # before Holm; None where nothing is tested
    n: int | None
    shown: bool = True  # of an import: whether it stands out of the curve

    @property
    def matters(self) -> bool:
        return self.shown and is_much(self.now - self.best, self.best)


def is_much(rise: float, best: float) -> bool:
    """Whether a rise matters to anybody, however well it is shown."""
    return rise > max(_LEAST_NATS, _LEAST_SHARE * best)


def _rises(subject: Subject) -> list[_Rise]:
    return _of_curves(subject) if subject.table.is_imported else _of_scores(subject)


def _of_scores(subject: Subject) -> list[_Rise]:
    """Of every cell and the lowest evaluation of an earlier step; p is times the steps among which it was chosen."""
    found = []
    earlier: dict[tuple[str, str, str], list[Evaluation]] = {}
    for point in subject.evaluations:
        if point.n >= LEAST[_ID[0]].n and point.variance is not None:
            earlier.setdefault((point.run, point.dataset, point.metric), []).append(point)
    for metric in subject.table.losses:
        for cell in subject.cells(metric):
            before = [
                point
                for point in earlier.get((cell.run, cell.dataset, metric), [])
                if cell.step is not None and point.step < cell.step
            ]
            if not before or cell.value is None or cell.variance is None or cell.n < LEAST[_ID[0]].n:
                continue
            best = min(before, key=lambda point: point.value)
            # Both are of the same examples, which makes their difference surer than this says.
            rise = Estimate(
                value=cell.value - best.value,
                variance=cell.variance + (best.variance or 0.0),
                degrees=min(cell.n, best.n) - 1,
            )
            p = one_sided_p(rise, 0.0)
            p = None if p is None else min(1.0, p * len(before))
            now, at = cell.value, cell.step or 0
            found.append(_Rise(cell.run, metric, cell.dataset, best.value, best.step, now, at, p, cell.n))
    return found


def _of_curves(subject: Subject) -> list[_Rise]:
    """Of every imported curve of evaluation: medians of neighbours, against the usual way between neighbours."""
    if subject.imported_curves is None:
        return []
    found = []
    for curve in imported_curves(subject.imported_curves.parent):
        metric = table_name(curve.metric, curve.split)
        finite = np.isfinite(curve.value)
        step, loss = curve.step[finite], curve.value[finite]
        if curve.split == "train" or measure_of(metric).unit != "nats" or len(loss) < _FEWEST_POINTS:
            continue
        levels, lowest, shown = judged(loss)
        best, at, now = float(levels[lowest]), int(step[lowest + 1]), float(levels[-1])
        found.append(_Rise(curve.run, metric, curve.dataset, best, at, now, int(step[-1]), None, None, shown))
    return found


def judged(loss: NDArray[np.float64]) -> tuple[NDArray[np.float64], int, bool]:
    """Levels of a curve, where the lowest is, and whether the last one stands out of what the curve does anyway.

    loss: (N,) by step, finite. A curve that wanders rises and falls again before its best, and as high as after it.
    """
    levels = np.median(np.lib.stride_tricks.sliding_window_view(loss, _LEVEL_POINTS), axis=1)
    lowest = int(np.argmin(levels))
    before = levels[: lowest + 1]
    undone = float((before - np.minimum.accumulate(before)).max())
    usual = float(np.median(np.abs(np.diff(loss))))
    return levels, lowest, bool(levels[-1] - levels[lowest] > max(_TIMES * usual, _TIMES_UNDONE * undone))


def _tests(subject: Subject) -> list[Test]:
    return [Test(key=rise[:3], p=rise.p) for rise in _rises(subject) if rise.p is not None]


def _conclude(subject: Subject, adjusted: Mapping[Key, float]) -> list[Finding]:
    rises = _rises(subject)
    if not rises:
        why = f"no curve of evaluation has {_FEWEST_POINTS} points or more"
        if not subject.table.is_imported:
            why = f"no run was scored at two steps on {LEAST[_ID[0]].n} examples or more"
        return [skipped(_ID, "evaluations", why)]
    by_run: dict[tuple[str, Metric], list[_Rise]] = {}
    for rise in rises:
        by_run.setdefault((rise.run, rise.metric), []).append(rise)
    findings = []
    for (run, metric), of_run in by_run.items():
        high = [r for r in of_run if r.matters and (r.p is None or adjusted.get(r[:3], 1.0) < LEVEL)]
        worst = max(of_run, key=lambda r: r.now - r.best)
        if high:
            findings.append(_finding(subject, of_run, high, adjusted))
            continue
        title = measure_of(metric).title
        shown = (
            f"{title}, most on {worst.dataset}: {worst.now:.3f} against {worst.best:.3f} at step {worst.best_step:,}"
        )
        findings.append(passed(_ID, run, shown, f"not shown to be {_LEAST_NATS} nats and {_LEAST_SHARE:.0%} above"))
    return findings


def _finding(
    subject: Subject, of_run: Sequence[_Rise], high: Sequence[_Rise], adjusted: Mapping[Key, float]
) -> Finding:
    worst = max(high, key=lambda r: r.now - r.best)
    title = measure_of(worst.metric).title
    p_values = [adjusted[r[:3]] for r in high if r[:3] in adjusted]
    tested = "one-sided t of the rise, times the earlier steps, Holm over all tests of the check"
    printed = (
        f"medians of {_LEVEL_POINTS} points; more than {_TIMES:g} times the usual way between two and "
        f"{_TIMES_UNDONE:g} times what rose before the best and fell again; no n, so no test"
    )
    return Finding(
        code=_ID[0],
        name=_ID[1],
        severity="warning",
        subject=f"{worst.run} · {title} · {len(high)} of {len(of_run)} datasets",
        measured=few(f"{r.dataset} {r.best:.3f} at step {r.best_step:,}, {r.now:.3f} at step {r.step:,}" for r in high),
        gist=f"{worst.run}: {title} was lower earlier on {share_of(len(high), len(of_run))}, most on {worst.dataset}: "
        f"{worst.best:.3f} at step {worst.best_step:,}, {worst.now:.3f} at step {worst.step:,}",
        expected=f"at most {_LEAST_NATS} nats or {_LEAST_SHARE:.0%} above the lowest of an earlier step",
        test=tested if p_values else printed,
        means="the numbers shown are not those of the best model that this run had",
        ranked=(
            "the run learns its training examples by heart: compare its training loss",
            "the run diverged: look at its curve and gradient norms",
        ),
        next_step=subject.command("show", more="--step best"),
        n=min((r.n for r in high if r.n), default=None),
        p=max(p_values) if p_values else None,
        runs=[worst.run],
        datasets=[r.dataset for r in high],
        evidence=[
            {"dataset": r.dataset, "best": r.best, "best_step": r.best_step, "value": r.now, "step": r.step}
            for r in of_run
        ],
    )


RULE = Rule(
    code=_ID[0],
    name=_ID[1],
    about=f"A loss of evaluation more than {_LEAST_NATS} nats and {_LEAST_SHARE:.0%} above the lowest of an earlier "
    "step of its run; one-sided t test. Imported curves have no n: medians of "
    f"{_LEVEL_POINTS} points of {_FEWEST_POINTS} or more, {_TIMES:g} times the usual way between two and "
    f"{_TIMES_UNDONE:g} times what rose before the best and fell again.",
    tests=_tests,
    conclude=_conclude,
)
