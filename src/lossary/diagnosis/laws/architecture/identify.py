"""Which forward function does a side compute? See `identify_architecture`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lossary.diagnosis.fit import Candidate, Fit
from lossary.diagnosis.laws.architecture.evidence import FALSE_ALARMS, Observation, Tolerances, ways_of
from lossary.diagnosis.laws.architecture.precision import low_precision
from lossary.diagnosis.laws.architecture.search import Search, Side, Trial, values_of
from lossary.diagnosis.laws.architecture.settings import Setting, settings_of
from lossary.models.arbiter import Architecture, Precision

__all__ = ["ArchitectureFit", "identify_architecture", "stage_distances"]

_TOLD = 12  # candidates
_PRECISIONS: dict[str, Precision] = {
    "fp32": "float32",
    "float32": "float32",
    "tf32": "tf32",
    "bf16": "bf16",
    "fp16": "fp16",
    "float64": "float64",
}


_Tried = tuple[Candidate, Architecture | None]


@dataclass(frozen=True, kw_only=True)
class ArchitectureFit(Fit):
    """A fit that knows the architecture with the leading hypothesis put in."""

    architecture: Architecture | None  # None: nothing reproduces the side, or a precision does, which is no setting


def identify_architecture(
    observations: Sequence[Observation],
    architecture: Architecture,
    *,
    candidates: Sequence[Setting] | None = None,
    precision: str = "float32",
    ways: int = 8,
) -> ArchitectureFit:
    """Which settings, put into the reference, reproduce a side's logits.

    `architecture` is what the side should compute, `precision` what it should compute it in (fp32, tf32, bf16, fp16).
    `candidates` are the settings to be tried, by default all that are known. `ways` are the runs that measure the
    tolerance: fewer are faster, for large models, and make it wider; four is few.

    A side within the tolerance is not searched. What no single setting reproduces is tried with two and three. Units,
    and how the tolerance is measured: see `evidence`. Raises ValueError if no observation has logits.
    """
    answers = [name for one in observations for name in one.answers()]
    if not answers:
        raise ValueError("no observation has logits; mlm or sop is expected")
    kind = _PRECISIONS[precision]
    tolerances = [Tolerances.measured(one, architecture, kind, len(answers), ways=ways) for one in observations]
    sides = [Side(one, found) for one, found in zip(observations, tolerances, strict=True)]
    distance = max(max(side.outputs(architecture).values()) for side in sides)
    how = _how(kind, ways, len(answers))
    if distance <= 1.0:
        return ArchitectureFit(distance=distance, tried=(), how=how, architecture=architecture)
    settings = settings_of(architecture, observations[0].parameters) if candidates is None else candidates
    search = Search(sides, tolerances, architecture, settings, kind)
    tried: list[_Tried] = []
    for number, trials in enumerate(search.found() if np.isfinite(distance) else [[]]):
        tried += [(_candidate(trial), search.with_settings(trial.settings)) for trial in _agreeing(_distinct(trials))]
        # What is reproduced within the rounding of the declared precision is no lower precision.
        if number == 0 and candidates is None and not _any_reproduces(tried):
            tried += _low_precision(observations, search, trials[:1], kind)
        if _any_reproduces(tried):
            break
    tried.sort(key=lambda one: (one[0].rank, len(one[0].names)))
    leading = tried[0] if tried else None
    return ArchitectureFit(
        distance=distance,
        tried=tuple(candidate for candidate, _ in tried[:_TOLD]),
        how=how,
        architecture=leading[1] if leading is not None and leading[0].reproduces else None,
    )


def stage_distances(
    observations: Sequence[Observation], architecture: Architecture, *, precision: str = "float32", ways: int = 8
) -> dict[str, float]:
    """How far each stage that a side shows is from the reference, in units of the tolerance.

    Each is computed from the side's own result of the nearest stage before it that it shows, so that errors do not add
    up: what is beyond 1 is wrong in that stage. Worst over observations, in the order of the stages.
    """
    shown = [one for one in observations if one.activations]
    comparisons = sum(len(one.activations) + len(one.answers()) for one in shown)
    worst: dict[str, float] = {}
    for one in shown:
        found = Tolerances.measured(one, architecture, _PRECISIONS[precision], comparisons, ways=ways)
        for name, value in Side(one, found).stages(architecture).items():
            worst[name] = max(worst.get(name, 0.0), value)
    return worst


def _any_reproduces(tried: Sequence[_Tried]) -> bool:
    return any(candidate.reproduces for candidate, _ in tried)


def _low_precision(
    observations: Sequence[Observation], search: Search, leading: Sequence[Trial], declared: Precision
) -> list[_Tried]:
    """Of the model as it is, and of the model with the leading fault put in."""
    alone = low_precision(observations, search.with_settings(()), declared=declared)
    if any(candidate.reproduces for candidate in alone) or not leading:
        return [(candidate, None) for candidate in alone]
    fault = _candidate(leading[0])
    both = [
        replace(
            candidate,
            names=fault.names + candidate.names,
            says=f"{fault.says}; {candidate.says}",
            values={**fault.values, **candidate.values},
        )
        for candidate in low_precision(observations, search.with_settings(leading[0].settings), declared=declared)
    ]
    return [(candidate, None) for candidate in (*alone, *both)]


def _distinct(trials: Sequence[Trial]) -> list[Trial]:
    """The same faults found in another order are the same: the closest is kept."""
    best: dict[frozenset[tuple[str, str]], Trial] = {}
    for trial in trials:
        # What is fitted may differ by its last digits.
        key = frozenset(
            (setting.slug, str(sorted(setting.changes) if setting.fitted else sorted(setting.changes.items())))
            for setting in trial.settings
        )
        if key not in best or trial.residual < best[key].residual:
            best[key] = trial
    return list(best.values())


def _agreeing(trials: Sequence[Trial]) -> list[Trial]:
    """Where one hypothesis reproduces logits and stages, those that reproduce the logits alone do not."""
    if not any(trial.residual <= 1.0 and trial.inside <= 1.0 for trial in trials):
        return list(trials)
    return [replace(trial, residual=max(trial.residual, trial.inside)) for trial in trials]


def _candidate(trial: Trial) -> Candidate:
    return Candidate(
        names=tuple(setting.slug for setting in trial.settings),
        says="; ".join(setting.sentence() for setting in trial.settings),
        residual=trial.residual,
        values=dict(values_of(trial.settings)),
    )


def _how(precision: Precision, ways: int, comparisons: int) -> str:
    runs = min(ways, len(ways_of(precision)))
    return (
        f"RMS deviation of {comparisons} outputs from float64; tolerance: the bound that the next program stays below "
        f"but with probability {FALSE_ALARMS / comparisons:.2g}, from {runs} runs of the reference in {precision} "
        "(sums in other orders, weights moved by one ulp) and the side's own noise"
    )
