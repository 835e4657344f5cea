"""Learning rates on record that are not those of the recipe."""

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
        recipe = subject.recipes[run]
        steps = read_steps(path, ["step", "learning_rate"])
        step, first_rows = np.unique(steps.column("step").to_numpy(), return_index=True)
        rates = steps.column("learning_rate").to_numpy()[first_rows]
        realised = dict(zip(step.tolist(), rates.tolist(), strict=True))
        peak = recipe.optimizer.learning_rate
        # Records count the steps done; the rate is that of the update before.
        off = {
            step: rate
            for step, rate in realised.items()
            if abs(rate - learning_rate(step - 1, recipe.optimizer, recipe.steps)) > _TOLERANCE * peak
        }
        if not off:
            findings.append(passed(_ID, run, f"{len(realised):,} steps", "the recipe's warm-up and decay"))
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
                expected=f"{learning_rate(first - 1, recipe.optimizer, recipe.steps):.3g} at that step",
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


RULE = Rule(
    code=_ID[0],
    name=_ID[1],
    about=f"A recorded learning rate that differs from the recipe's schedule by more than {_TOLERANCE:g} of the peak.",
    conclude=_conclude,
)
