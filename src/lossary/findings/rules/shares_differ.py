"""Validation weights datasets otherwise than training: the total speaks for another mixture than was trained on."""

from collections.abc import Mapping

from lossary.findings.model import Finding, Key, Rule, passed, skipped
from lossary.findings.subject import Subject

__all__ = ["RULE"]

_ID = ("L202", "train-validation-shares-differ")
_WARN_RATIO, _WARN_POINTS, _INFO_POINTS = 2.0, 0.2, 0.05


def _conclude(subject: Subject, adjusted: Mapping[Key, float]) -> list[Finding]:
    del adjusted
    rows = [
        (row.name, row.train_share, row.validation_share)
        for row in subject.table.datasets
        if row.train_share is not None and row.validation_share is not None
    ]
    if not rows:
        return [skipped(_ID, "shares", "the table does not give both shares")]
    moved = max(rows, key=lambda row: abs(row[2] - row[1]))
    name, train, validation = moved
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
            next_step=f"lossary show {subject.where}: read the totals by validation and by train share side by side",
            datasets=[name],
            evidence=[{"dataset": n, "train_share": t, "validation_share": v} for n, t, v in rows],
        )
    ]


RULE = Rule(
    code=_ID[0],
    name=_ID[1],
    about=f"Train and validation share of a dataset differ by {100 * _INFO_POINTS:.0f} points (info), or by "
    f"{100 * _WARN_POINTS:.0f} points and a factor of {_WARN_RATIO:g} (warning).",
    conclude=_conclude,
)
