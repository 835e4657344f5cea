"""Training loss that still falls at the end: the numbers are of a run under way, not of a converged one."""

from collections.abc import Mapping

import numpy as np

from lossary.findings.model import Finding, Key, Rule, passed, skipped
from lossary.findings.sentences import few, share_of
from lossary.findings.subject import Subject

__all__ = ["RULE"]

_ID = ("L401", "still-falling")
_PARTS = 20
_LEAST = 0.01


def _conclude(subject: Subject, adjusted: Mapping[Key, float]) -> list[Finding]:
    del adjusted
    if not subject.curves:
        return [skipped(_ID, "curves", "no curve is on record")]
    findings = []
    for run, curves in subject.curves.items():
        falls = {name: _fall(curve.loss) for name, curve in curves.items()}
        falling = {name: fall for name, fall in falls.items() if fall is not None}
        if not falling:
            findings.append(skipped(_ID, run, f"fewer than {2 * _PARTS} points"))
            continue
        worst = max(falling, key=lambda name: falling[name])
        shown = f"{worst} falls by {100 * falling[worst]:.1f} % over the last fifth"
        if falling[worst] < _LEAST:
            findings.append(passed(_ID, run, shown, f"< {100 * _LEAST:g} %"))
            continue
        names = [name for name in falling if falling[name] >= _LEAST]
        findings.append(
            Finding(
                code=_ID[0],
                name=_ID[1],
                severity="info",
                subject=f"{run} · {len(names)} of {len(falling)} datasets",
                measured=few(f"{name} −{100 * falling[name]:.1f} %" for name in names),
                gist=f"{run}: {curves[worst].title} still falls on {share_of(len(names), len(falling))}, "
                f"most on {worst}: by {100 * falling[worst]:.1f} % over the last fifth of training",
                expected=f"less than {100 * _LEAST:g} % over the last fifth of training",
                test="line through the last quarter of windows, more than twice its standard error",
                means="training longer would lower it: a difference between runs may only be one of speed",
                next_step="raise the recipe's steps, or compare runs at equal tokens",
                runs=[run],
                datasets=names,
                evidence=[{"dataset": name, "fall": value} for name, value in falling.items()],
            )
        )
    return findings


def _fall(losses: np.ndarray) -> float | None:
    """The fall over the last fifth, as a fraction; 0 if it is not shown to fall."""
    if len(losses) < 2 * _PARTS:
        return None
    windows = np.array([part.mean() for part in np.array_split(losses, _PARTS)])
    tail = windows[-(_PARTS // 4) :]
    if not np.isfinite(tail).all():
        return None
    x = np.arange(len(tail)) - (len(tail) - 1) / 2
    slope = float(x @ tail / (x @ x))
    rest = tail - tail.mean() - slope * x
    error = float(np.sqrt((rest @ rest) / (len(tail) - 2) / (x @ x)))
    if -slope < 2 * error:
        return 0.0
    return max(0.0, -slope * (_PARTS // 5) / float(tail.mean()))


RULE = Rule(
    code=_ID[0],
    name=_ID[1],
    about=f"Training loss of a dataset falls by {100 * _LEAST:g} % or more over the last fifth of the steps.",
    conclude=_conclude,
)
