"""Losses that are no numbers, and sudden jumps of the training loss."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lossary.findings.model import Finding, Key, Rule, passed, skipped
from lossary.findings.sentences import few, metric_name
from lossary.findings.subject import Subject
from lossary.results.records import read_steps
from lossary.tables.scores import NO_NUMBER

__all__ = ["RULE"]

_ID = ("L402", "nan-or-spike")
_WINDOW = 25
_DEVIATIONS = 12.0
_LEAST = 0.3


def _conclude(subject: Subject, adjusted: Mapping[Key, float]) -> list[Finding]:
    del adjusted
    findings = []
    bad = [cell for cell in subject.table.cells if cell.value is None and NO_NUMBER in (cell.reason or "")]
    if bad:
        names = few((f"{cell.run} {cell.dataset} {metric_name(cell.metric)}" for cell in bad), 6)
        gist = f"{len(bad)} cells of the table are not a finite number: {names}"
        measured = f"{bad[0].reason}: {names}"
        findings.append(_finding("error", f"{len(bad)} cells", measured, [cell.run for cell in bad], gist))
    if subject.imported_curves is not None:
        return findings + _imported(subject)
    if not subject.steps:
        return findings or [skipped(_ID, "curves", "no curve is on record")]
    for run, path in subject.steps.items():
        table = _by_step(path)
        broken = table[~np.isfinite(table).all(axis=1), 0]
        jumps = _spikes(table[:, 0], table[:, 1])
        if len(broken):
            text = f"{len(broken)} steps without a finite loss or gradient, first {int(broken[0]):,}"
            gist = f"{run}: training MLM loss or gradient is no finite number from step {int(broken[0]):,} on"
            findings.append(_finding("error", run, text, [run], gist))
        elif jumps:
            findings.append(_jumps(run, run, jumps))
        else:
            findings.append(passed(_ID, run, *_sound([len(table)], "step")))
    return findings


def _sound(counts: Iterable[int], what: str) -> tuple[str, str]:
    """What was looked at, and for what: of a short curve nobody can say that it does not jump."""
    least, most = min(counts := list(counts)), max(counts)
    shown = f"{least:,} {what}{'' if least == 1 else 's'}" if least == most else f"{least:,} to {most:,} {what}s"
    if least > _WINDOW:
        return shown, "finite, no jump"
    return f"{shown}, too few to look for jumps", f"finite; jumps are looked for from {_WINDOW + 1} {what}s on"


def _by_step(path: Path) -> NDArray[np.float64]:
    """Step, loss over all datasets and largest gradient norm of every step that masked anything, (N, 3)."""
    steps = read_steps(path, ["step", "masked", "mlm_nats", "gradient_norm"])
    columns = {name: steps.column(name).to_numpy() for name in steps.column_names}
    step, place = np.unique(columns["step"], return_inverse=True)
    masked, nats = (np.bincount(place, columns[name], len(step)) for name in ("masked", "mlm_nats"))
    largest = np.full(len(step), -np.inf)
    np.maximum.at(largest, place, columns["gradient_norm"])
    having = masked > 0
    return np.column_stack([step[having], nats[having] / masked[having], largest[having]]).astype(np.float64)


def _imported(subject: Subject) -> list[Finding]:
    """Of imported curves each is looked at for itself: nobody knows how they add up. Alike ones are said once a run."""
    findings = []
    for run, curves in subject.curves.items():
        broken: dict[str, NDArray[np.float64]] = {}
        jumping: dict[str, list[tuple[int, float]]] = {}
        sound: dict[bool, dict[str, int]] = {}
        for name, curve in curves.items():
            missing = curve.step[~np.isfinite(curve.loss)]
            jumps = _spikes(curve.step, curve.loss)
            if len(missing):
                broken[name] = missing
            elif jumps:
                jumping[name] = jumps
            else:
                sound.setdefault(len(curve.step) > _WINDOW, {})[name] = len(curve.step)
        if broken:
            first = min(int(steps[0]) for steps in broken.values())
            count = sum(map(len, broken.values()))
            text = f"{count} points that are no number, first at {first:,}"
            title = curves[next(iter(broken))].title
            gist = f"{run}: {title} on {few(broken, 3)} is no finite number at {count} points of its curve"
            findings.append(_finding("error", f"{run} · {few(broken, 3)}", text, [run], gist))
        if jumping:
            highest = max(jumping, key=lambda name: max(loss for _, loss in jumping[name]))
            found = _jumps(run, f"{run} · {highest}", jumping[highest], curves[highest].title)
            others = few((name for name in jumping if name != highest), 3)
            findings.append(replace(found, gist=f"{found.gist}; so does it on {others}") if others else found)
        findings += [
            passed(_ID, f"{run} · {few(counts, 3)}", *_sound(counts.values(), "point")) for counts in sound.values()
        ]
    return findings


def _spikes(step: np.ndarray, loss: np.ndarray) -> list[tuple[int, float]]:
    """Steps whose loss is far above the median of those before: by many deviations, and by nats that matter."""
    if len(loss) <= _WINDOW:
        return []
    before = np.lib.stride_tricks.sliding_window_view(loss, _WINDOW)[:-1]
    middle = np.median(before, axis=1)
    height = loss[_WINDOW:] - middle
    # Spreads are only asked for where the height alone would do: few steps of many.
    high = np.flatnonzero(height > _LEAST)
    spread = 1.4826 * np.median(np.abs(before[high] - middle[high, None]), axis=1)
    jumps = high[height[high] > _DEVIATIONS * spread] + _WINDOW
    return [(int(step[index]), float(loss[index])) for index in jumps]


def _jumps(run: str, subject: str, jumps: list[tuple[int, float]], title: str = "training MLM loss") -> Finding:
    shown = few((f"step {step:,} to {loss:.2f}" for step, loss in jumps), 5)
    step, loss = max(jumps, key=lambda jump: jump[1])
    times = "once" if len(jumps) == 1 else f"{len(jumps)} times"
    gist = f"{subject}: {title} jumps {times} on its curve, highest to {loss:.2f} at step {step:,}"
    return _finding("warning", subject, f"jumps: {shown}", [run], gist)


def _finding(severity: str, subject: str, measured: str, runs: list[str], gist: str) -> Finding:
    return Finding(
        code=_ID[0],
        name=_ID[1],
        severity=severity,  # type: ignore[arg-type]
        subject=subject,
        measured=measured,
        gist=gist,
        expected="finite numbers and no jump",
        test=f"finite; at most {_DEVIATIONS:g} deviations and {_LEAST} nats above the median of {_WINDOW} steps",
        means="the update was too large, or an example is broken",
        ranked=("learning rate too high for the batch", "fp16 or bf16 overflow", "one bad example"),
        next_step="branch from the last good checkpoint with a third of the learning rate",
        runs=sorted(set(runs)),
    )


RULE = Rule(
    code=_ID[0],
    name=_ID[1],
    about=f"A loss or gradient that is not finite (error); a step {_DEVIATIONS:g} robust deviations and {_LEAST} nats "
    f"above the median of the {_WINDOW} before (warning).",
    conclude=_conclude,
)
