"""A dataset whose loss rises while the total of its run falls: the total hides what it is paid with."""

from collections.abc import Mapping, Sequence

from lossary.findings.bearing import LEAST
from lossary.findings.model import LEVEL, Finding, Key, Rule, Test, passed, skipped
from lossary.findings.sentences import few, metric_name
from lossary.findings.subject import LEAST_RISE, Subject
from lossary.statistics.paired import one_sided_p
from lossary.tables.history import Rise

__all__ = ["RULE"]

_ID = ("L405", "falls-at-a-price")
# A rise below this share of the loss matters to nobody.
_LEAST_SHARE = 0.01


def _traded(subject: Subject) -> list[tuple[Rise, float]]:
    """Rises of enough examples under a total that falls, and p that it is not so, for all steps it could have been."""
    found = []
    for rise in subject.rises:
        down = rise.total_change.value is not None and rise.total_change.value < 0
        if not down or rise.change.n < LEAST[_ID[0]].n or rise.value - rise.best <= _LEAST_SHARE * rise.best:
            continue
        p = _p(rise)
        if p is not None:
            found.append((rise, p))
    return found


def _p(rise: Rise) -> float | None:
    """Both have to be shown: that the dataset rises, and that the total falls."""
    change, total = rise.change, rise.total_change
    up = one_sided_p(change, 0.0)
    down = one_sided_p(total, 0.0)
    if up is None or down is None:
        return None
    return min(1.0, max(up, 1 - down) * rise.earlier)


def _key(rise: Rise) -> Key:
    return (rise.run, rise.metric, rise.dataset)


def _tests(subject: Subject) -> list[Test]:
    return [Test(key=_key(rise), p=p) for rise, p in _traded(subject)]


def _conclude(subject: Subject, adjusted: Mapping[Key, float]) -> list[Finding]:
    steps: dict[str, set[int]] = {}
    for point in subject.evaluations:
        steps.setdefault(point.run, set()).add(point.step)
    runs = [run for run, of_run in steps.items() if len(of_run) > 1]
    if not runs:
        return [skipped(_ID, "evaluations", "no run was scored at two steps")]
    shown = [rise for rise, _ in _traded(subject) if adjusted.get(_key(rise), 1.0) < LEVEL]
    findings = []
    for run in runs:
        of_run = [rise for rise in shown if rise.run == run]
        if of_run:
            findings.append(_finding(subject, of_run, adjusted))
        else:
            told = f"{len(steps[run])} steps: no dataset is shown to rise while the total falls"
            findings.append(passed(_ID, run, told, f"by {LEAST_RISE} nats and {_LEAST_SHARE:.0%} from its lowest step"))
    return findings


def _finding(subject: Subject, rises: Sequence[Rise], adjusted: Mapping[Key, float]) -> Finding:
    worst = max(rises, key=lambda rise: rise.change.value or 0.0)
    name = metric_name(worst.metric)
    return Finding(
        code=_ID[0],
        name=_ID[1],
        severity="warning",
        subject=f"{worst.run} · {name} · {len(rises)} of {len(subject.table.datasets)} datasets",
        measured=few(
            f"{rise.dataset} {rise.change.value:+.3f} since step {rise.best_step:,}, in total "
            f"{rise.total_change.value:+.3f}"
            for rise in rises
        ),
        gist=f"{worst.run}: since step {worst.best_step:,} the total {name} falls by "
        f"{abs(worst.total_change.value or 0.0):.3f} while that of {worst.dataset} rises by "
        f"{worst.change.value or 0.0:.3f}",
        expected=f"no dataset {LEAST_RISE} nats and {_LEAST_SHARE:.0%} above its lowest step while the total falls",
        test="one-sided t of both paired changes, the larger p, times the earlier steps, Holm over all tests",
        means="the total improves at the expense of what it weighs less",
        ranked=(
            "the dataset's share in training is too small for it, or it was seen too often: look at its epochs",
            "its validation examples are unlike what it is trained on",
        ),
        next_step=subject.command("rank", more=f"--all --run {worst.run} --by {worst.metric}:macro"),
        n=min(rise.change.n for rise in rises),
        p=max(adjusted[_key(rise)] for rise in rises),
        runs=[worst.run],
        datasets=[rise.dataset for rise in rises],
        evidence=[
            {
                "dataset": rise.dataset,
                "best": rise.best,
                "best_step": rise.best_step,
                "value": rise.value,
                "step": rise.step,
                "change": rise.change.value,
                "total_change": rise.total_change.value,
            }
            for rise in rises
        ],
    )


RULE = Rule(
    code=_ID[0],
    name=_ID[1],
    about=f"The total of a run falls while the loss of a dataset is {LEAST_RISE} nats and {_LEAST_SHARE:.0%} above "
    "that of its lowest earlier step; both changes paired by example and shown by one-sided t tests.",
    tests=_tests,
    conclude=_conclude,
)
