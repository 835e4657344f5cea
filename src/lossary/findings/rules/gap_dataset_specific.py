"""The gap between two runs is not the same on all datasets: a cause that rides on the data, not on the whole run."""

from collections.abc import Mapping

from lossary.findings.bearing import LEAST, bears
from lossary.findings.model import LEVEL, Finding, Key, Rule, Test, passed, skipped
from lossary.findings.sentences import few, metric_name
from lossary.findings.subject import Subject
from lossary.objectives import OBJECTIVES
from lossary.statistics.estimates import Estimate
from lossary.statistics.paired import heterogeneity_p
from lossary.tables.model import Metric

__all__ = ["RULE", "gaps"]

_ID = ("L105", "gap-dataset-specific")
# Smaller spreads are real with enough examples and of no consequence.
_LEAST_SPREAD = 0.1
_LEAST_FRACTION = 0.05


def gaps(subject: Subject, run: str, base: str, metric: Metric) -> dict[str, Estimate]:
    """Differences of a run to the base by dataset: paired and tested of own scores, as printed of imported ones."""
    found = {}
    for row in subject.table.datasets:
        if not subject.table.is_imported:
            delta = subject.table.delta(run, row.name, metric) if base == subject.table.base else None
            if delta is not None and bears(_ID[0], delta):
                found[row.name] = Estimate(
                    value=delta.value,
                    low=delta.low,
                    high=delta.high,
                    n=delta.n,
                    variance=delta.variance,
                    degrees=delta.n - 1,
                )
            continue
        values = [subject.table.cell(which, row.name, metric).value for which in (base, run)]
        if values[0] is not None and values[1] is not None:
            found[row.name] = Estimate(value=values[1] - values[0])
    return found


def _comparisons(subject: Subject) -> list[tuple[str, str, Metric, dict[str, Estimate]]]:
    """Runs against the base, each within the section of the page that it stands in."""
    found = []
    sections = dict.fromkeys(run.section for run in subject.table.runs)
    measured = [objective.loss for objective in OBJECTIVES.values() if objective.loss in subject.table.measured]
    for metric in measured if subject.table.is_imported else subject.table.losses:
        bases = {section: _base(subject, section, metric) for section in sections}
        for run in subject.table.runs:
            base = bases[run.section]
            if base is not None and run.name != base:
                of_run = gaps(subject, run.name, base, metric)
                if len(of_run) >= 2:
                    found.append((run.name, base, metric, of_run))
    return found


def _base(subject: Subject, section: str | None, metric: Metric) -> str | None:
    if subject.table.base is not None:
        return subject.table.base
    sums: dict[str, list[float]] = {run.name: [] for run in subject.table.runs if run.section == section}
    for cell in subject.cells(metric):
        if cell.run in sums:
            sums[cell.run].append(cell.value or 0.0)
    full = {name: sum(values) / len(values) for name, values in sums.items() if values}
    return min(full, key=lambda name: full[name]) if full else None


def _tests(subject: Subject) -> list[Test]:
    if subject.table.is_imported:
        return []
    found = []
    for run, base, metric, of_run in _comparisons(subject):
        p = heterogeneity_p(list(of_run.values()))
        if p is not None:
            found.append(Test(key=(run, base, metric), p=p))
    return found


def _conclude(subject: Subject, adjusted: Mapping[Key, float]) -> list[Finding]:
    comparisons = _comparisons(subject)
    if not comparisons:
        why = "no two runs have a loss on two datasets"
        if not subject.table.is_imported:
            why += f" with {LEAST[_ID[0]].n} common examples or more on each"
        return [skipped(_ID, "gaps", why)]
    findings = []
    for run, base, metric, of_run in comparisons:
        values = {name: estimate.value or 0.0 for name, estimate in of_run.items()}
        spread = max(values.values()) - min(values.values())
        level = max(subject.table.cell(base, name, metric).value or 0.0 for name in values)
        is_large = spread > max(_LEAST_SPREAD, _LEAST_FRACTION * level)
        if is_large and (subject.table.is_imported or adjusted.get((run, base, metric), 1.0) < LEVEL):
            findings.append(_finding(subject, (run, base, metric), values, adjusted))
        else:
            shown = f"gaps differ by {spread:.3f}"
            subject_text = f"{run} − {base}, {metric_name(metric)}"
            findings.append(passed(_ID, subject_text, shown, f"≤ {_LEAST_SPREAD}, or not shown to be more"))
    return findings


def _finding(
    subject: Subject, key: tuple[str, str, Metric], values: dict[str, float], adjusted: Mapping[Key, float]
) -> Finding:
    run, base, metric = key
    tested = key in adjusted
    worst = sorted(values, key=lambda name: -abs(values[name]))
    low, high = min(values, key=lambda name: values[name]), max(values, key=lambda name: values[name])
    return Finding(
        code=_ID[0],
        name=_ID[1],
        severity="warning",
        subject=f"{run} − {base} · {metric_name(metric)}",
        measured=few(f"{name} {values[name]:+.3f}" for name in worst),
        gist=f"{run}: how far its {metric_name(metric)} is from that of {base} depends on the dataset: "
        f"{values[high]:+.3f} on {high}, {values[low]:+.3f} on {low}",
        expected=f"one gap on all datasets, to within {_LEAST_SPREAD} nats or {100 * _LEAST_FRACTION:.0f} %",
        test="interaction of run and dataset (Cochran's Q of paired differences), Holm over all tests of the check"
        if tested
        else "as printed; no n, so no test",
        means=f"the cause comes with the data, not with the run as a whole: {worst[0]} most, {worst[-1]} least",
        ranked=(
            f"what is fed of {worst[0]}: documents, fields, masks, padding",
            "the datasets' shares in training were not as planned in one of the runs",
            "the optimizer: but it would show on all datasets",
        ),
        next_step=subject.command("compare", base, run),
        p=adjusted.get(key),
        runs=[run, base],
        datasets=worst,
        evidence=[{"dataset": name, "gap": value} for name, value in values.items()],
    )


RULE = Rule(
    code=_ID[0],
    name=_ID[1],
    about="Differences between a run and the base that are not one on all datasets: Cochran's Q over paired "
    f"differences, and a spread above {_LEAST_SPREAD} nats and {100 * _LEAST_FRACTION:.0f} % of the loss.",
    tests=_tests,
    conclude=_conclude,
)
