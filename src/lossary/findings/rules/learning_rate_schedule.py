"""Learning rates on record that are not those of the recipe, each held against the schedule that its step was made by.

A run whose steps were raised has several: `run.json` says from which step on it was trained for how many.
"""

from collections.abc import Mapping

import numpy as np

from lossary.findings.model import Finding, Key, Rule, passed, skipped
from lossary.findings.subject import Subject
from lossary.models.update_laws import learning_rate
from lossary.results.records import read_steps

__all__ = ["RULE"]

_ID = ("L403", "learning-rate-not-as-scheduled")
_TOLERANCE = 1e-6


def _conclude(subject: Subject, adjusted: Mapping[Key, float]) -> list[Finding]:
    del adjusted
    if not subject.steps:
        return [skipped(_ID, "learning rates", "no run has steps on record")]
    findings = []
    for run, path in subject.steps.items():
        steps = read_steps(path, ["step", "learning_rate"])
        step, first_rows = np.unique(steps.column("step").to_numpy(), return_index=True)
        rates = steps.column("learning_rate").to_numpy()[first_rows]
        realised = dict(zip(step.tolist(), rates.tolist(), strict=True))
        peak = subject.recipes[run].optimizer.learning_rate
        planned = {step: _planned(subject, run, step) for step in realised}
        off = {step: rate for step, rate in realised.items() if abs(rate - planned[step]) > _TOLERANCE * peak}
        if not off:
            course = subject.begun[run].course if run in subject.begun else ""
            expected = f"the recipe's warm-up and decay{f', {course}' if course else ''}"
            findings.append(passed(_ID, run, f"{len(realised):,} steps", expected))
            continue
        first = min(off)
        findings.append(
            Finding(
                code=_ID[0],
                name=_ID[1],
                severity="error",
                subject=run,
                measured=f"{len(off):,} of {len(realised):,} steps, first {first:,}: {off[first]:.3g}",
                gist=f"{run}: the learning rate is not that of its recipe in {len(off):,} of {len(realised):,} steps, "
                f"first in step {first:,}",
                expected=f"{planned[first]:.3g} at that step",
                test=f"differs by more than {_TOLERANCE:g} of the peak",
                means="the run was not trained by the recipe that stands beside it",
                ranked=("the recipe was changed after training", "the schedule was lost on a resume"),
                next_step=f"compare runs/{run}/run.json with the study file",
                n=len(realised),
                runs=[run],
                evidence=[{"step": step, "learning_rate": rate} for step, rate in sorted(off.items())[:20]],
            )
        )
    return findings


def _planned(subject: Subject, run: str, step: int) -> float:
    """The rate of the update that led to a step, as records count them."""
    recipe, begun = subject.recipes[run], subject.begun.get(run)
    steps = recipe.steps if begun is None else begun.steps_at(step - 1)
    return learning_rate(step - 1, recipe.optimizer, steps)


RULE = Rule(
    code=_ID[0],
    name=_ID[1],
    about=f"A recorded learning rate that differs by more than {_TOLERANCE:g} of the peak from the recipe's schedule, "
    "of as many steps as the run was planned for at that step.",
    conclude=_conclude,
)
