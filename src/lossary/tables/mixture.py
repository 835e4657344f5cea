"""What each dataset gains or loses by the shares that runs were trained with, and which run would say more.

    found = mixture(open_table(path).table, shares_of_runs(folder, runs))
    found.effects[0].value                 # nats that a loss changes when a share doubles

Runs are taken to differ in nothing but their shares: whoever names them answers for that. Shares are those that runs
were trained with here, or a file's: `run,wiki,code` and a line for each run.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lossary.errors import ScoreError, UsageError
from lossary.folder import StudyFolder
from lossary.results.importers.model import ALL
from lossary.statistics.mixture import FEWEST, Fit, Refused, fit, runs_for_all
from lossary.tables.comparability import differing_settings, realised_shares, run_settings
from lossary.tables.model import Metric, Table

__all__ = [
    "FittedLoss",
    "Mixtures",
    "ShareEffect",
    "Suggestion",
    "checked_shares",
    "mixtures",
    "other_differences",
    "read_shares",
    "shares_of_runs",
]

Shares = Mapping[str, Mapping[str, float]]
_SEARCHED, _SEED = 20_000, 20260
# Shares that are written with two digits add up to 1 only so well.
_ROUNDING = 0.02


@dataclass(frozen=True, kw_only=True)
class ShareEffect:
    """How the loss of a dataset changes when the share of one doubles; all effects of a fit hold at once at 95 %."""

    dataset: str | None  # whose loss; None: the total
    share: str  # whose share doubles
    value: float
    low: float
    high: float
    shown: bool  # whether the interval leaves out 0


@dataclass(frozen=True, kw_only=True)
class FittedLoss:
    """How well the loss of a dataset follows from shares; `kind` None: it does not, for a reason."""

    dataset: str | None
    kind: str | None  # "all": of the shares of all datasets; "own": of its own alone
    runs: int
    error: float | None  # root mean square on runs left out of the fit
    mean_error: float | None  # of the mean of the other runs
    reason: str | None


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """A run that has not been made: its shares, why, and the total that is expected of it with 95 % bounds."""

    why: str
    shares: dict[str, float]
    total: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True)
class Mixtures:
    """Everything that runs of several mixtures say."""

    metric: Metric
    runs: list[str]
    shares: dict[str, dict[str, float]]
    weighting: str  # of the total
    fits: list[FittedLoss]
    effects: list[ShareEffect]
    suggestions: list[Suggestion]
    notes: list[str]


def read_shares(path: Path) -> dict[str, dict[str, float]]:
    """Shares by run from a CSV: the first column names runs, the others datasets. UsageError for what is none."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header, *lines = [row for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise UsageError(f"no table of shares: {error}", where=str(path), hint=_HINT) from None
    if len(header) < 3 or len(set(header)) < len(header):
        raise UsageError("a column of runs and one for each of two datasets or more are expected", where=str(path))
    found: dict[str, dict[str, float]] = {}
    for number, line in enumerate(lines, start=2):
        place = f"{path}, line {number}"
        if len(line) != len(header) or line[0] in found:
            why = f"run {line[0]!r} stands twice" if line[0] in found else f"{len(line)} cells of {len(header)}"
            raise UsageError(why, where=place, hint=_HINT)
        shares = {name: _share(cell, place) for name, cell in zip(header[1:], line[1:], strict=True)}
        found[line[0]] = _normalised(shares, place)
    return found


def _share(cell: str, where: str) -> float:
    try:
        return float(cell or 0)
    except ValueError:
        raise UsageError(f"{cell!r} is no share", where=where, hint=_HINT) from None


_HINT = "Expected: `run,wiki,code`, then a line a run, with shares that add up to 1 or 100."


def _normalised(shares: dict[str, float], where: str) -> dict[str, float]:
    total = sum(shares.values())
    if (
        not shares
        or min(shares.values()) < 0
        or not any(abs(total - whole) <= _ROUNDING * whole for whole in (1.0, 100.0))
    ):
        raise UsageError(f"shares add up to {total:g}", where=where, hint=_HINT)
    return {name: value / total for name, value in shares.items()}


def checked_shares(shares: Shares) -> dict[str, dict[str, float]]:
    """Shares by run that add up to 1. UsageError for what does not."""
    return {run: _normalised(dict(of_run), f"shares of {run}") for run, of_run in shares.items()}


def shares_of_runs(folder: StudyFolder, runs: Sequence[str]) -> dict[str, dict[str, float]]:
    """The shares of examples that runs were trained on here; runs that were trained elsewhere have none."""
    return {run: shares for run in runs if (shares := realised_shares(folder, run))}


def other_differences(folder: StudyFolder, runs: Sequence[str]) -> list[str]:
    """Settings other than datasets and seeds in which runs that were trained here differ."""
    records = [settings for run in runs if (settings := run_settings(folder, run))]
    names = [setting.name for setting in differing_settings(records)] if records else []
    return [name for name in names if name not in ("datasets", "recipe.seed") and not name.startswith("recipe.mixture")]


def mixtures(
    table: Table, shares: Shares, *, metric: Metric | None = None, other_settings: Sequence[str] = ()
) -> Mixtures:
    """Fits the losses of a table to shares by run. ScoreError if fewer runs than can say anything have both.

    `other_settings` are those in which its runs are known to differ as well: they are told.
    """
    metric = metric or table.main_loss
    names = [row.name for row in table.datasets if row.name != ALL]
    losses = {run.name: _losses(table, run.name, names, metric) for run in table.runs}
    used = [run for run, found in losses.items() if run in shares and len(found) == len(names)]
    notes = [f"{run}: no shares are known; left out" for run in losses if run not in shares]
    notes += [f"{run}: it has shares and no losses; left out" for run in shares if run not in losses]
    notes += [
        f"{run}: no {metric} of {', '.join(name for name in names if name not in found)}; left out"
        for run, found in losses.items()
        if run in shares and len(found) < len(names)
    ]
    known = dict.fromkeys(name for run in used for name in shares[run])
    trained = [name for name in known if any(shares[run].get(name, 0.0) > 0 for run in used)]
    differing = len({tuple(round(shares[run].get(name, 0.0), 6) for name in trained) for run in used})
    if differing < FEWEST:
        raise ScoreError(
            f"{len(used)} runs have losses and shares, of {differing} mixtures; {FEWEST} mixtures are the fewest",
            hint="; ".join(notes[:4]) or "Runs that differ in their shares are needed; --shares names a file of them.",
        )
    x = np.array([[shares[run].get(name, 0.0) for name in trained] for run in used])
    y = np.array([[losses[run][name] for name in names] for run in used])
    weights, weighting = _weights(table, names)
    fitted: dict[str | None, Fit | Refused] = {
        name: fit(x, y[:, place], own=trained.index(name) if name in trained else None, tests=len(trained) * len(names))
        for place, name in enumerate(names)
    }
    fitted[None] = fit(x, y @ weights, own=None, tests=len(trained))
    if len(used) < runs_for_all(len(trained)):
        notes.append(
            f"{len(used)} runs do not tell {len(trained)} datasets apart ({runs_for_all(len(trained))} would): each "
            "loss is fitted to its own share alone, and has in it what the other shares did meanwhile"
        )
    if (x == 0).any():
        notes.append("half of the smallest share above 0 is added to all, so that a share of 0 has a logarithm")
    if other_settings:
        notes.append(f"runs differ in {', '.join(other_settings)}, too: what that does is in the effects")
    else:
        notes.append("the runs are taken to differ in their shares alone")
    return Mixtures(
        metric=metric,
        runs=used,
        shares={run: dict(zip(trained, map(float, row), strict=True)) for run, row in zip(used, x, strict=True)},
        weighting=weighting,
        fits=[_fitted(name, found, len(used)) for name, found in fitted.items()],
        effects=[effect for name, found in fitted.items() for effect in _effects(name, found, trained)],
        suggestions=_suggestions(fitted[None], x, trained),
        notes=notes,
    )


def _losses(table: Table, run: str, names: Sequence[str], metric: Metric) -> dict[str, float]:
    cells = [cell for cell in table.cells if (cell.run, cell.metric) == (run, metric) and cell.dataset in names]
    return {cell.dataset: cell.value for cell in cells if cell.value is not None}


def _weights(table: Table, names: Sequence[str]) -> tuple[NDArray[np.float64], str]:
    """Weights of the total: validation shares where they are known of all."""
    shares = {row.name: row.validation_share for row in table.datasets}
    known = [shares[name] for name in names]
    if any(share is None for share in known) or sum(share or 0.0 for share in known) <= 0:
        return np.full(len(names), 1 / len(names)), "macro"
    weights = np.array([share or 0.0 for share in known])
    return weights / weights.sum(), "validation_share"


def _fitted(name: str | None, found: Fit | Refused, runs: int) -> FittedLoss:
    if isinstance(found, Refused):
        return FittedLoss(dataset=name, kind=None, runs=runs, error=None, mean_error=None, reason=found.reason)
    return FittedLoss(
        dataset=name, kind=found.kind, runs=found.runs, error=found.error, mean_error=found.mean_error, reason=None
    )


def _effects(name: str | None, found: Fit | Refused, trained: Sequence[str]) -> list[ShareEffect]:
    if isinstance(found, Refused):
        return []
    rows = []
    for column, effect in found.effects.items():
        low, high = effect.low or 0.0, effect.high or 0.0
        rows.append(
            ShareEffect(
                dataset=name,
                share=trained[column],
                value=effect.value or 0.0,
                low=low,
                high=high,
                shown=low > 0 or high < 0,
            )
        )
    return rows


def _suggestions(total: Fit | Refused, x: NDArray[np.float64], trained: Sequence[str]) -> list[Suggestion]:
    """The mixture that is expected to be best, within what was tried, and the one that would tell most."""
    if isinstance(total, Refused):
        return []
    candidates = _between(x)
    predicted, leverages = total.values(candidates), total.leverages(candidates)
    # Far from all runs a straight line says what it likes.
    near = leverages <= np.quantile(total.leverages(x), 0.75)
    found = []
    if near.any():
        best = candidates[near][int(np.argmin(predicted[near]))]
        found.append(_suggested("the lowest total that is expected near what was tried", best, total, trained))
    told = candidates[int(np.argmax(leverages))]
    found.append(_suggested("the runs say least of it: it would tell most", told, total, trained))
    return found


def _suggested(why: str, row: NDArray[np.float64], total: Fit, trained: Sequence[str]) -> Suggestion:
    expected = total.predict(row)
    return Suggestion(
        why=why,
        shares=dict(zip(trained, map(float, row), strict=True)),
        total=expected.value,
        low=expected.low,
        high=expected.high,
    )


def _between(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mixtures (C, D) between the ones that were tried: of three of them each, in random parts."""
    rng = np.random.default_rng(_SEED)
    chosen = x[rng.integers(0, len(x), (_SEARCHED, 3))]
    parts = rng.dirichlet(np.ones(3), _SEARCHED)
    mixed: NDArray[np.float64] = np.einsum("cp,cpd->cd", parts, chosen)
    return mixed
