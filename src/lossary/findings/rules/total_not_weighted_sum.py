"""A printed total that does not follow from its parts under any weighting that the page could mean.

Candidates are the validation shares, the train shares, the train rows and equal weights. The one that comes nearest to
all totals of the page is named; a total is judged by it, with the rounding of everything printed taken into account.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from lossary.findings.model import Finding, Key, Rule, passed, skipped
from lossary.findings.sentences import few, metric_name
from lossary.findings.subject import Subject
from lossary.tables.model import Cell, Total

__all__ = ["RULE", "Fit", "Weights", "fits", "weights_of"]

_ID = ("L201", "total-not-weighted-sum")
# Totals of one page come from one computation: one that is this far off while the others are near is another matter.
_NEAR = 0.05


@dataclass(frozen=True)
class Weights:
    """A weighting: weights that add up to 1, and by how much rounding may have moved each."""

    name: str
    weight: dict[str, float]
    rounding: dict[str, float]


@dataclass(frozen=True)
class Fit:
    """A printed total under a weighting: the sum of its parts, and the bounds that rounding leaves it."""

    total: Total
    cells: list[Cell]
    value: float
    low: float
    high: float

    @property
    def error(self) -> float:
        """Relative to the sum of the parts."""
        return ((self.total.value or 0.0) - self.value) / abs(self.value) if self.value else 0.0

    @property
    def is_exact(self) -> bool:
        printed = self.total.value or 0.0
        return self.low - self.total.rounding <= printed <= self.high + self.total.rounding


def weights_of(subject: Subject) -> list[Weights]:
    """The weightings that the page gives."""
    rows = subject.table.datasets
    columns: dict[str, list[tuple[float | None, float]]] = {
        "validation share": [(row.validation_share, row.validation_share_rounding) for row in rows],
        "train share": [(row.train_share, row.train_share_rounding) for row in rows],
        "train rows": [(row.train_rows, 0.0) for row in rows],
        "equal weights": [(1.0, 0.0) for _ in rows],
    }
    found = []
    for name, column in columns.items():
        values = [value for value, _ in column]
        total = sum(value or 0.0 for value in values)
        if None not in values and total > 0:
            weight = {row.name: (value or 0.0) / total for row, value in zip(rows, values, strict=True)}
            rounding = {row.name: part / total for row, (_, part) in zip(rows, column, strict=True)}
            found.append(Weights(name, weight, rounding))
    return found


def fits(subject: Subject, weights: Weights) -> list[Fit]:
    """Every printed total whose parts are all there, under a weighting."""
    found = []
    for total in subject.table.totals:
        if total.weighting != "reported" or total.value is None:
            continue
        cells = [subject.table.cell(total.run, row.name, total.metric) for row in subject.table.datasets]
        if all(cell.value is not None for cell in cells):
            value = sum(weights.weight[cell.dataset] * (cell.value or 0.0) for cell in cells)
            low, high = (_extreme(cells, weights, sign) for sign in (-1, 1))
            found.append(Fit(total, cells, value, low, high))
    return found


def _extreme(cells: Sequence[Cell], weights: Weights, sign: int) -> float:
    """The least (−1) or largest (1) sum that rounding of values and weights leaves; weights still add up to 1."""
    values = {cell.dataset: (cell.value or 0.0) + sign * cell.rounding for cell in cells}
    least = {name: max(0.0, weights.weight[name] - weights.rounding[name]) for name in values}
    left = 1.0 - sum(least.values())
    for name in sorted(values, key=lambda name: -sign * values[name]):
        added = min(left, 2 * weights.rounding[name])
        least[name] += added
        left -= added
    return sum(least[name] * values[name] for name in values)


def best_weights(subject: Subject) -> tuple[Weights, list[Fit]] | None:
    """The weighting that comes nearest to the printed totals: by the median error, so that one bad total has no say."""
    tried = [(weights, fits(subject, weights)) for weights in weights_of(subject)]
    tried = [(weights, found) for weights, found in tried if found]
    if not tried:
        return None
    return min(tried, key=lambda item: (median(abs(fit.error) for fit in item[1]), -len(item[1])))


def _any_weighting(found: list[Fit]) -> dict[str, float] | None:
    """Weights, whatever they are, that reproduce all totals to within rounding; None if there are none."""
    names = [cell.dataset for cell in found[0].cells]
    rows, bounds = [], []
    for fit in found:
        printed, half = fit.total.value or 0.0, fit.total.rounding
        high = [(cell.value or 0.0) + cell.rounding for cell in fit.cells]
        low = [(cell.value or 0.0) - cell.rounding for cell in fit.cells]
        rows += [[-value for value in high], low]
        bounds += [-(printed - half), printed + half]
    # It takes half a second to import, and few totals need it.
    from scipy.optimize import linprog

    answer = linprog(np.zeros(len(names)), A_ub=rows, b_ub=bounds, A_eq=[[1.0] * len(names)], b_eq=[1.0], bounds=(0, 1))
    return dict(zip(names, map(float, answer.x), strict=True)) if answer.success else None


def _conclude(subject: Subject, adjusted: Mapping[Key, float]) -> list[Finding]:
    del adjusted
    if not subject.table.is_imported:
        return [passed(_ID, "totals", "computed here from their cells", "Σ share · value, to the last bit")]
    best = best_weights(subject)
    if best is None:
        return [skipped(_ID, "totals", "the page prints no total whose parts are all there")]
    weights, found = best
    findings = [_off(subject, weights, fit) for fit in found if abs(fit.error) > _NEAR and not fit.is_exact]
    near = [fit for fit in found if abs(fit.error) <= _NEAR or fit.is_exact]
    exact = [fit for fit in near if fit.is_exact]
    if near and len(exact) < len(near):
        findings.append(_inexact(subject, weights, near, exact))
    elif near:
        shown = f"{len(exact)} of {len(near)} totals, to within rounding"
        findings.append(passed(_ID, f"totals by {weights.name}", shown, "Σ weight · value"))
    return findings


def _off(subject: Subject, weights: Weights, fit: Fit) -> Finding:
    printed = fit.total.reported or f"{fit.total.value:g}"
    same = [cell.dataset for cell in fit.cells if cell.value == fit.total.value]
    others = {other.name: _value(subject, other, fit) for other in weights_of(subject)}
    nearest = min(others, key=lambda name: abs(others[name] - (fit.total.value or 0.0)))
    means = f"no weighting of the page gives it; nearest: {nearest}, {others[nearest]:.3f}"
    if same:
        means = f"equals the value of {same[0]} to the last digit: perhaps copied from there"
    return Finding(
        code=_ID[0],
        name=_ID[1],
        severity="warning",
        subject=f"{fit.total.run} · {metric_name(fit.total.metric)}",
        measured=f"total printed {printed}",
        gist=f"{fit.total.run}: the printed total of {metric_name(fit.total.metric)}, {printed}, does not follow from "
        f"its parts, which give {fit.value:.3f} by {weights.name}",
        expected=f"{fit.value:.3f} by {weights.name} ({fit.low:.3f} to {fit.high:.3f} with rounding)",
        test="Σ weight · value, all printed digits taken as rounded",
        means=means,
        ranked=("the total was typed or copied by hand", "it is of another step than its parts"),
        next_step="follow the links of the total and of its parts: the same run, step and dataset?",
        runs=[fit.total.run],
        evidence=[{"weighting": name, "value": value} for name, value in others.items()],
    )


def _value(subject: Subject, weights: Weights, fit: Fit) -> float:
    return next(f.value for f in fits(subject, weights) if f.total is fit.total)


def _inexact(subject: Subject, weights: Weights, near: list[Fit], exact: list[Fit]) -> Finding:
    errors = few(
        f"{f.total.run} {metric_name(f.total.metric)} {f.value:.4g}, printed {f.total.reported} ({f.error:+.1%})"
        for f in near
    )
    free = _any_weighting(near)
    names = "no other weights reproduce these totals either"
    if free is not None:
        names = "weights that would, within rounding: " + few(f"{name} {weight:.3f}" for name, weight in free.items())
    compared = []
    for other in weights_of(subject):
        found = [fit for fit in fits(subject, other) if any(fit.total is kept.total for kept in near)]
        compared.append({"weighting": other.name, "largest_error": max(abs(fit.error) for fit in found)})
    largest = max(abs(fit.error) for fit in near)
    return Finding(
        code=_ID[0],
        name=_ID[1],
        severity="info",
        subject=f"totals by {weights.name}",
        measured=f"{errors}; {len(exact)} of {len(near)} exact",
        gist=f"the printed totals follow from their parts by {weights.name} only roughly: {len(exact)} of {len(near)} "
        f"to within rounding, the others to within {largest:.1%}",
        expected="totals that follow from the printed shares and values to within rounding",
        test=f"the nearest of {len(compared)} weightings, off by at most {largest:.1%}",
        means=f"{weights.name} comes nearest, and no weighting of the page gives all totals exactly; {names}",
        ranked=("totals are weighted by tokens or masked positions of each dataset", "shares changed after the run"),
        next_step="state the weighting beside each total",
        runs=sorted({fit.total.run for fit in near}),
        evidence=compared,
    )


RULE = Rule(
    code=_ID[0],
    name=_ID[1],
    about=f"A printed total that no weighting of the page reproduces to within {100 * _NEAR:.0f} % (warning) or to "
    "within the rounding of what is printed (info); names the weighting that comes nearest.",
    conclude=_conclude,
)
