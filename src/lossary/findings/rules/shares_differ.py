"""Validation weights datasets otherwise than training: the total speaks for another mixture than was trained on."""

from collections.abc import Mapping
from typing import NamedTuple

from lossary.findings.model import Finding, Key, Rule, passed, skipped
from lossary.findings.subject import Subject

__all__ = ["RULE"]

_ID = ("L202", "train-validation-shares-differ")
_WARN_RATIO, _WARN_POINTS, _INFO_POINTS = 2.0, 0.2, 0.05


def _conclude(subject: Subject, adjusted: Mapping[Key, float]) -> list[Finding]:
    del adjusted
    mixtures = _mixtures(subject)
    if not mixtures:
        return [skipped(_ID, "shares", "the table does not give both shares")]
    rows = max(mixtures, key=lambda rows: max(map(_moved, rows)))
    name, train, validation = max(rows, key=_moved)
    points = abs(validation - train)
    shown = f"{name}: {100 * validation:.0f} % of validation, {100 * train:.0f} % of training"
    if points < _INFO_POINTS:
        return [passed(_ID, "shares", shown, f"within {100 * _INFO_POINTS:.0f} points")]
    ratio = max(validation, train) / max(min(validation, train), 1e-9)
    return [
        Finding(
            code=_ID[0],
            name=_ID[1],
            severity="warning" if ratio >= _WARN_RATIO and points >= _WARN_POINTS else "info",
            subject="the total by validation share",
            measured=shown,
            gist=f"the totals by validation share speak for another mixture than was trained on: {name} has "
            f"{100 * validation:.0f} % of their weight and {100 * train:.0f} % of training",
            expected=f"shares within {100 * _INFO_POINTS:.0f} points",
            test=f"largest difference of a share; a warning from {100 * _WARN_POINTS:.0f} points and a factor of "
            f"{_WARN_RATIO:g}",
            means="the total by validation share speaks for another mixture than was trained on",
            ranked=("meant so: the validation shares are those of use",),
            next_step=f"{subject.command('show')}: read the totals by validation and by train share side by side",
            datasets=[name],
            evidence=[{"dataset": n, "train_share": t, "validation_share": v} for n, t, v in rows],
        )
    ]


class _Shares(NamedTuple):
    """What a dataset is of training and of validation."""

    name: str
    train: float
    validation: float


def _moved(row: _Shares) -> float:
    return abs(row.validation - row.train)


def _mixtures(subject: Subject) -> list[list[_Shares]]:
    """Shares by dataset, of each mixture that runs were begun with, or of the planned one where nobody knows these.

    Runs that are given datasets of their own are meant to differ.
    """
    validation = {row.name: row.validation_share for row in subject.table.datasets}
    own = [dict(begun.shares) for begun in subject.begun.values() if begun.shares and not begun.chosen]
    if own and None not in validation.values():
        weights = {name: share or 0.0 for name, share in validation.items()}
        return [
            [_Shares(n, mixture.get(n, 0.0), weights.get(n, 0.0)) for n in {**weights, **mixture}] for mixture in own
        ]
    rows = [
        _Shares(row.name, row.train_share, row.validation_share)
        for row in subject.table.datasets
        if row.train_share is not None and row.validation_share is not None
    ]
    return [rows] if rows else []


RULE = Rule(
    code=_ID[0],
    name=_ID[1],
    about=f"Train and validation share of a dataset differ by {100 * _INFO_POINTS:.0f} points (info), or by "
    f"{100 * _WARN_POINTS:.0f} points and a factor of {_WARN_RATIO:g} (warning).",
    conclude=_conclude,
)
