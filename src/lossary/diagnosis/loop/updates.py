"""What happens to a gradient once it is whole: clipping, and the step that the optimizer makes of it.

Clipping is judged by the gradient that the optimizer was given against that of the micro batches. Steps of weights are
judged group by group, from the gradients given, under the group's own settings; and these settings against what the
arguments say where they are not left at their defaults, which declare nothing.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from lossary.diagnosis.calibration import LOOP_GRADIENT_FP32
from lossary.diagnosis.engine import Told
from lossary.diagnosis.fit import Candidate, Fit
from lossary.diagnosis.laws.update_evidence import Evidence, UpdateObservation
from lossary.diagnosis.laws.update_space import LawSettings
from lossary.diagnosis.laws.updates import identify_update
from lossary.diagnosis.loop.record import Floats, Record, Step
from lossary.diagnosis.loop.solver import Settings, Stage, choice, solve
from lossary.diagnosis.session import NotCompared

__all__ = ["clipping", "update"]

_SLACK = 1e-6  # PyTorch divides by the norm and this
_CLIPPING = (
    choice("no-clipping", "gradients are not clipped before the optimizer steps", kind="none"),
    choice("clip-per-tensor", "each tensor's gradient is clipped by its own norm, at {bound:.3g}", kind="tensor"),
    choice("clip-value", "gradients are clipped by value, at {bound:.3g}", kind="value"),
    choice("clipped-always", "gradients are brought to the norm {bound:.3g} in every step", kind="always"),
)


def clipping(record: Record) -> Told:
    """The gradient that the optimizer is given, against that of the micro batches, clipped as declared."""
    if not record.steps:
        raise NotCompared("a step of the optimizer")
    if record.declared["fp16"]:
        raise NotCompared("gradients before a loss scale is taken off them")
    bound = float(record.declared["max_grad_norm"] or 0.0)
    sizes = np.concatenate([_size(step) for step in record.steps])
    stage = Stage(
        settings={"kind": "global" if bound else "none", "bound": bound},
        predict=lambda settings: np.concatenate([_clipped(step, record, settings) for step in record.steps]),
        noise=LOOP_GRADIENT_FP32 * sizes,
        how=f"{LOOP_GRADIENT_FP32:.0e} of the largest gradient kept of a step",
        knobs=_CLIPPING if bound else (),
    )
    norms = [float(np.linalg.norm(step.micro[-1].norms)) for step in record.steps]
    bites = sum(norm > bound for norm in norms) if bound else 0
    fit = solve(stage, np.concatenate([step.used for step in record.steps]))
    declared = f"clipping at {bound:g}" if bound else "no clipping"
    return Told(
        fit=fit,
        measured=f"{declared} is declared; gradients of {len(norms)} steps have norms of {min(norms):.4g} to "
        f"{max(norms):.4g}, and the optimizer is given {_shares(record)} of them; the bound bites in {bites}",
    )


def _shares(record: Record) -> str:
    found = []
    for step in record.steps:
        size = float(np.linalg.norm(step.micro[-1].gradient))
        found.append(float(np.linalg.norm(step.used)) / size if size else 1.0)
    return f"{min(found):.4g} to {max(found):.4g} times"


def _size(step: Step) -> Floats:
    """The largest element kept of a step, for each of its elements (E,)."""
    largest = max(float(np.abs(step.used).max(initial=0.0)), float(np.abs(step.micro[-1].gradient).max(initial=0.0)))
    return np.full(len(step.used), largest or 1.0)


def _clipped(step: Step, record: Record, settings: Settings) -> Floats:
    gradient, norms = step.micro[-1].gradient, step.micro[-1].norms
    bound, kind = settings["bound"], settings["kind"]
    if kind == "none":
        return gradient
    if kind == "value":
        return np.asarray(np.clip(gradient, -bound, bound))
    if kind == "tensor":
        return gradient * record.spread(np.minimum(1.0, bound / (norms + _SLACK)))
    factor = bound / (float(np.linalg.norm(norms)) + _SLACK)
    return np.asarray(gradient * (factor if kind == "always" else min(1.0, factor)))


# --- updates --------------------------------------------------------------------------------------------------------


def update(record: Record) -> list[Told]:
    """Steps of weights by group of the optimizer, its settings against the arguments, and what no group holds."""
    optimizer = record.optimizer
    if optimizer["family"] is None or any(group["odd"] for group in optimizer["groups"]):
        raise NotCompared(f"the law of {optimizer['class']}: AdamW's and Adam's are known, without amsgrad")
    if not record.float32:
        raise NotCompared("weights in float32: steps in a coarser one are not told from its rounding")
    if not record.steps:
        raise NotCompared("a step of the optimizer")
    groups = [group for group in optimizer["groups"] if group["names"]]
    told = [one for number, group in enumerate(optimizer["groups"]) if group["names"] for one in _group(record, number)]
    without = {name for step in record.steps for name in step.without}
    return [*_merged(told, groups, without), _left_out(record)]


def _group(record: Record, number: int) -> Iterator[tuple[dict[str, Any], Told]]:
    """The law of one group under its own settings, and its settings against the arguments."""
    group = record.optimizer["groups"][number]
    seen = _observation(record, group["names"])
    rates = [step.rates[number] for step in record.steps]
    if seen is None or not any(rates):
        return
    own = LawSettings(
        family="adam",
        epsilon=group["epsilon"],
        beta1=group["betas"][0],
        beta2=group["betas"][1],
        decay=group["decay"],
        decayed="all",
        decay_at="decoupled" if record.optimizer["family"] == "AdamW" else "gradient",
    )
    law = identify_update(seen, own, rates=rates)
    yield group, Told(fit=law, measured="")
    if declared := _declared(record, group, own):
        yield group, Told(fit=_settings(seen, rates, own, declared, law), measured="settings")


def _observation(record: Record, names: list[str]) -> UpdateObservation | None:
    """Kept elements of the tensors that have a gradient in every step."""
    without = {name for step in record.steps for name in step.without}
    kept = [name for name in names if name not in without]
    if not kept:
        return None

    def some(values: Floats) -> dict[str, Floats]:
        found = record.of_tensor(values)
        return {name: found[name] for name in kept}

    return UpdateObservation(
        start=some(record.steps[0].before),
        gradients=[[some(step.used)] for step in record.steps],
        weights=[some(step.after) for step in record.steps],
    )


def _declared(record: Record, group: Mapping[str, Any], own: LawSettings) -> list[tuple[str, str, LawSettings]]:
    """Where the group is not what arguments say that are not at their defaults: a name, a sentence, and their law."""
    said, defaults = record.declared, record.optimizer["defaults"]
    found = []
    for key, name, field in (
        ("adam_beta1", "beta-value", "beta1"),
        ("adam_beta2", "beta-value", "beta2"),
        ("adam_epsilon", "epsilon-value", "epsilon"),
    ):
        mine = getattr(own, field)
        if said[key] != defaults[key] and said[key] != mine:
            says = f"{field} is {mine:g}, not {said[key]:g} as `{key}` says"
            found.append((name, says, replace(own, **{field: said[key]})))
    decay = said["weight_decay"]
    if decay == defaults["weight_decay"]:
        return found
    decays = set(record.optimizer["decayed"])
    mixed = [name for name in group["names"] if (name in decays) != bool(group["decay"])]
    if own.decay_at == "gradient" and own.decay:
        says = "weight decay is added to the gradient (Adam's), not kept apart (AdamW's)"
        found.append(("decay-coupled", says, replace(own, decay_at="decoupled")))
    if group["decay"] and mixed:
        says = f"weight decay {group['decay']:g} is on biases and norms, too: {_listed(mixed)}"
        found.append(("decay-excluded-wrong", says, replace(own, decay_flips=frozenset(mixed))))
    elif not group["decay"] and mixed:
        says = f"weight decay {decay:g} is asked for, and {_listed(mixed)} have none"
        flips = frozenset(set(group["names"]) - set(mixed))
        found.append(("weight-decay-value", says, replace(own, decay=decay, decay_flips=flips)))
    elif group["decay"] and group["decay"] != decay:
        says = f"weight decay is {group['decay']:g}, not {decay:g} as `weight_decay` says"
        found.append(("weight-decay-value", says, replace(own, decay=decay)))
    return found


def _settings(
    seen: UpdateObservation,
    rates: list[float],
    own: LawSettings,
    declared: list[tuple[str, str, LawSettings]],
    law: Fit,
) -> Fit:
    """The group's settings put into the law that is declared; what rounding hides was still read."""
    evidence = Evidence.of(seen, rates).measured(own)
    before = max(evidence.distance(one) for _, _, one in declared)
    sentences = {name: says for name, says, _ in declared}
    after = law.distance if law.equal or law.best is None else law.best.residual
    candidate = Candidate(
        names=tuple(sentences),
        says="; ".join(sentences.values()),
        residual=after,
        values={"sentences": sentences},
    )
    how = "1 ulp of each weight and the rounding of a step in float32; settings are read, with no tolerance"
    return Fit(distance=max(before, 1.0 + 1e-9), tried=(candidate,), how=how)


def _merged(told: list[tuple[dict[str, Any], Told]], groups: list[dict[str, Any]], without: set[str]) -> list[Told]:
    """One outcome for all groups that follow their law, one for each distinct cause."""
    tensors = sum(name not in without for group in groups for name in group["names"])
    equal = [one for _, one in told if one.fit.equal]
    found: dict[tuple[str, ...], Told] = {}
    for group, one in told:
        if one.fit.equal:
            continue
        names = one.fit.best.names if one.fit.best else ()
        where = f"a group of {len(group['names'])} of {tensors} tensors ({_listed(group['names'])})"
        what = "its settings, as the optimizer has them," if one.measured else "its steps"
        measured = f"{where}: {what} are {one.fit.distance:,.3g} × the tolerance from what is declared"
        found.setdefault(names, replace(one, measured=measured))
    if found:
        return list(found.values())
    if not equal:
        raise NotCompared("a step with a learning rate above 0 and gradients of its tensors")
    worst = max(equal, key=lambda one: one.fit.distance)
    rates = sorted({group["rate"] for group in groups})
    decays = sorted({group["decay"] for group in groups})
    text = (
        f"steps of {tensors} tensors in {len(groups)} groups follow their law: rates {_range(rates)}, weight decay "
        f"{', '.join(f'{decay:g}' for decay in decays)}"
    )
    return [replace(worst, measured=text)]


def _left_out(record: Record) -> Told:
    """Tensors with a gradient that no group of the optimizer holds."""
    held = {name for group in record.optimizer["groups"] for name in group["names"]}
    stale = sum(group["stale"] for group in record.optimizer["groups"])
    without = {name for step in record.steps for name in step.without}
    missing = [name for name in record.parameters if name not in held and name not in without]
    measured = f"{len(record.parameters)} trained tensors, {len(missing)} of them in no group of the optimizer"
    if not missing:
        return Told(fit=Fit(distance=0.0, tried=(), how="names"), measured=measured)
    ends = record.of_tensor(record.steps[-1].after - record.steps[0].before)
    moved = [name for name in missing if ends[name].any()]
    says = f"{_listed(missing)} have gradients and stand in no group of the optimizer: they never move"
    if stale:
        says += (
            f"; it holds {stale} tensors that are not the model's, as where it was made before the model was changed"
        )
    candidate = Candidate(
        names=("parameters-not-in-optimizer",),
        says=says,
        residual=float("inf") if moved else 0.0,
        values={"not_updated": missing, "stale": stale},
    )
    return Told(fit=Fit(distance=float("inf"), tried=(candidate,), how="names; what stands still"), measured=measured)


def _listed(names: list[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _range(values: list[float]) -> str:
    return f"{values[0]:g}" if len(values) == 1 else f"{values[0]:g} to {values[-1]:g}"
