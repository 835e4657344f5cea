"""Names and plain words for what differs between two update laws.

faults_between(declared, settings)      # [Fault("epsilon-placement", "ε is added to the uncorrected √v", …)]
describe_law(settings)                  # "AdamW, ε hat 1e-07, decay 0.004 on everything, no clipping"
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from lossary.diagnosis.fit import Candidate
from lossary.diagnosis.laws.update_same import is_loss_scale
from lossary.diagnosis.laws.update_space import LawSettings, preset

__all__ = ["Fault", "candidate_of", "describe_law", "faults_between", "settings_of"]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One name, what it says, and the fitted values."""

    name: str
    says: str
    values: Mapping[str, Any]


def candidate_of(declared: LawSettings, settings: LawSettings, *, other: str | None, residual: float) -> Candidate:
    """The hypothesis that the side follows `settings`, or `other`, an optimizer of another name, with changes.

    `values` has the fitted values of each name, `law` (a plain line), `changes` (fields of LawSettings) and `sentences`
    (one for each name).
    """
    faults = faults_between(declared, settings, other=other)
    values: dict[str, Any] = {}
    sentences: dict[str, str] = {}
    for fault in faults:
        values |= fault.values
        said = sentences.get(fault.name)
        sentences[fault.name] = f"{said}; {fault.says}" if said else fault.says
    changes = {
        field.name: _plain(getattr(settings, field.name))
        for field in fields(settings)
        if getattr(settings, field.name) != getattr(declared, field.name)
    }
    return Candidate(
        names=tuple(sentences),
        says="; ".join(fault.says for fault in faults),
        residual=residual,
        values={**values, "law": describe_law(settings), "changes": changes, "sentences": sentences},
    )


def settings_of(declared: LawSettings, candidate: Candidate) -> LawSettings:
    """The law that a candidate of `identify_update` stands for."""
    given = dict(candidate.values["changes"])
    for name in ("decay_flips", "adapt_flips", "frozen"):
        if name in given:
            given[name] = frozenset(given[name])
    if "step_factors" in given:
        given["step_factors"] = tuple(given["step_factors"])
    return replace(declared, **given)


def faults_between(declared: LawSettings, settings: LawSettings, *, other: str | None = None) -> list[Fault]:
    """What has to be put into the declared law to make it another."""
    found = []
    if other is not None:
        found.append(Fault(name="other-optimizer", says=f"the optimizer is {other}", values={"name": other}))
        declared = preset(other, declared)
    for part in (_correction, _epsilon, _decay, _decayed, _clipping, _betas, _ratio, _rate):
        found.extend(part(declared, settings))
    return found


def describe_law(settings: LawSettings) -> str:
    """The law in a line."""
    s = settings
    parts = [_family(s)]
    if s.family in ("adam", "lamb"):
        parts[0] += "" if s.correct_m == s.correct_v else f" with bias correction of {'m' if s.correct_m else 'v'} only"
        placed = {"root": "", "hat": "hat ", "inside": "inside the root "}[s.epsilon_at]
        parts += [f"ε {placed}{s.epsilon:g}", f"β {s.beta1:g}, {s.beta2:g}"]
    elif s.family != "sgd":
        parts.append(f"ε {s.epsilon:g}" if s.family == "adagrad" else f"β {s.beta1:g}")
    where = "everything" if s.decayed == "all" else "matrices"
    if s.decay_flips:
        where += f" but for {len(s.decay_flips)} parameters"
    how = {"gradient": "in the gradient ", "unscaled": "not multiplied by the rate ", "update": "in the update "}
    parts.append(f"decay {s.decay:g} {how.get(s.decay_at, '')}on {where}" if s.decay else "no decay")
    if s.family == "lamb":
        parts.append("ratio on everything" if s.adapted == "all" else "ratio on matrices")
        if s.adapt_flips:
            parts[-1] += f" but for {len(s.adapt_flips)} parameters"
        if np.isfinite(s.ratio_high) or s.ratio_low > 0:
            parts[-1] += f", held to [{s.ratio_low:g}, {s.ratio_high:g}]"
        if np.isfinite(s.norm_high):
            parts[-1] += f", the weights' norm held below {s.norm_high:g}"
    kind = {"global": "global norm", "tensor": "norm of each parameter", "value": "value"}
    clipped = "no clipping" if s.clip == "none" else f"clipping by {kind.get(s.clip, '')} {s.bound:g}"
    if s.clip == "always":
        clipped = f"gradients brought to the norm {s.bound:g}"
    parts.append(clipped + (" before the replicas are averaged" if s.clip_replicas and s.clip != "none" else ""))
    if s.rate_scale != 1:
        parts.append(f"rate × {s.rate_scale:g}")
    if s.gradient_scale != 1:
        parts.append(f"gradients × {s.gradient_scale:g}")
    if s.frozen:
        parts.append(f"{len(s.frozen)} parameters not updated")
    if s.grid != "float32":
        parts.append(f"weights kept in {s.grid}")
    return ", ".join(parts)


def _family(s: LawSettings) -> str:
    named = {
        "adagrad": "Adagrad",
        "momentum": "SGD with momentum",
        "nesterov": "SGD with Nesterov momentum",
        "sgd": "SGD",
    }
    if s.family == "lamb":
        return "LAMB" + (" with bias correction" if s.correct_m and s.correct_v else "")
    if s.family == "adam":
        name = "Adam" if s.decay_at == "gradient" else "AdamW"
        return name + ("" if s.correct_m or s.correct_v else " without bias correction")
    return named[s.family] + (", gradients times 1 − β1" if s.dampened else "")


def _correction(a: LawSettings, b: LawSettings) -> Iterator[Fault]:
    pairs = (("m", a.correct_m, b.correct_m), ("v", a.correct_v, b.correct_v))
    missing = [name for name, before, after in pairs if before and not after]
    present = [name for name, before, after in pairs if after and not before]
    if missing:
        yield Fault(
            name="no-bias-correction",
            says=f"bias correction of {' and '.join(missing)} is missing",
            values={"missing": missing},
        )
    if present:
        yield Fault(
            name="bias-correction",
            says=f"{' and '.join(present)} is bias corrected" if len(present) == 1 else "m and v are bias corrected",
            values={"present": present},
        )


def _epsilon(a: LawSettings, b: LawSettings) -> Iterator[Fault]:
    # Without a correction of v, its root is the same before and after.
    same = not b.correct_v and {a.epsilon_at, b.epsilon_at} == {"root", "hat"}
    if a.epsilon_at != b.epsilon_at and not same:
        says = {
            "root": "ε is added to the corrected root of v",
            "hat": "ε is added to the uncorrected root of v (ε hat)",
            "inside": "ε is added inside the root",
        }[b.epsilon_at]
        yield Fault(name="epsilon-placement", says=says, values={"placement": b.epsilon_at})
    if a.epsilon != b.epsilon:
        yield Fault(
            name="epsilon-value", says=f"ε is {b.epsilon:.3g}, not {a.epsilon:.3g}", values={"epsilon": b.epsilon}
        )


def _decay(a: LawSettings, b: LawSettings) -> Iterator[Fault]:
    if a.decay != b.decay and not _decays_alike(a, b):
        says = f"weight decay is {b.decay:.3g}, not {a.decay:.3g}"
        yield Fault(name="weight-decay-value", says=says, values={"weight_decay": b.decay})
    if a.decay_at == b.decay_at or b.decay == 0:
        return
    if b.decay_at == "unscaled":
        yield Fault(
            name="weight-decay-value",
            says="weight decay is not multiplied by the learning rate",
            values={"weight_decay": b.decay, "times_rate": False},
        )
    elif b.decay_at == "gradient":
        yield Fault(
            name="decay-coupled", says="weight decay is added to the gradient (L2)", values={"weight_decay": b.decay}
        )
    elif b.decay_at == "update" and b.family == "lamb":
        yield Fault(name="decay-in-update", says="weight decay is part of what the trust ratio scales", values={})
    elif b.family == "lamb" and a.decay_at == "update":
        yield Fault(
            name="trust-ratio",
            says="weight decay stands outside the trust ratio",
            values={"variant": "decay-outside-ratio"},
        )
    else:
        yield Fault(name="decay-decoupled", says="weight decay is kept apart from the gradient", values={})


def _decayed(a: LawSettings, b: LawSettings) -> Iterator[Fault]:
    if b.decay == 0 or (a.decayed, a.decay_flips) == (b.decayed, b.decay_flips):
        return
    flips = sorted(a.decay_flips ^ b.decay_flips)
    says = []
    if a.decayed != b.decayed:
        says.append(
            "biases and layer normalisation decay, too"
            if b.decayed == "all"
            else "biases and layer normalisation do not decay"
        )
    if flips:
        says.append(f"weight decay is the other way round for {_listed(flips)}")
    values: dict[str, Any] = {"parameters": flips or ["biases and layer normalisation"]}
    yield Fault(name="decay-excluded-wrong", says=" and ".join(says), values=values)


def _clipping(a: LawSettings, b: LawSettings) -> Iterator[Fault]:
    if b.clip == "none":
        if a.clip != "none":
            yield Fault(name="no-clipping", says="gradients are not clipped", values={})
        return
    bound = {"bound": b.bound, "clip": b.clip}
    after = _after_clipping(a, b)
    if a.clip != b.clip and b.clip == "tensor":
        says = f"each parameter's gradient is clipped by its own norm, at {b.bound:.3g}"
        yield Fault(name="clip-per-tensor", says=says, values=bound)
    elif a.clip != b.clip and b.clip == "always":
        says = (
            f"gradients are brought to the norm {b.bound:.3g} in every step, smaller ones, too, "
            "as where they are clipped while a large scale is on them"
        )
        yield Fault(name="clipped-always", says=says, values=bound)
    elif a.clip != b.clip:
        how = {"value": "by value", "global": "by global norm"}[b.clip]
        yield Fault(name="clip-value", says=f"gradients are clipped {how}, at {b.bound:.3g}", values=bound)
    elif a.bound != b.bound and b.clip == "global" and is_loss_scale(a.bound / b.bound) and not after:
        scale = a.bound / b.bound
        says = (
            f"gradients are clipped while they are still multiplied by the loss scale {scale:,.0f}: "
            f"in effect at {b.bound:.3g}, not {a.bound:.3g}"
        )
        yield Fault(name="clipped-before-unscaling", says=says, values=bound | {"loss_scale": scale})
    elif a.bound != b.bound and not after:
        yield Fault(name="clip-value", says=f"gradients are clipped at {b.bound:.3g}, not {a.bound:.3g}", values=bound)
    if b.norm_of != a.norm_of and b.clip in ("global", "always") and not b.clip_replicas:
        whose = {
            "mean": "their mean",
            "first": "the first replica",
            "last": "the last replica",
            "all": "all replicas added",
        }
        says = f"gradients are clipped by the norm of {whose[b.norm_of]}, not of {whose[a.norm_of]}"
        yield Fault(name="clipped-by-other-norm", says=says, values={"norm_of": b.norm_of})
    if b.clip_replicas and not a.clip_replicas:
        says = "each replica's gradients are clipped before they are averaged"
        yield Fault(name="clipped-before-all-reduce", says=says, values={})


def _betas(a: LawSettings, b: LawSettings) -> Iterator[Fault]:
    for name, before, after in (("beta1", a.beta1, b.beta1), ("beta2", a.beta2, b.beta2)):
        if before != after:
            says = f"{name.replace('beta', 'β')} is {after:.5g}, not {before:.5g}"
            yield Fault(name="beta-value", says=says, values={name: after})


def _ratio(a: LawSettings, b: LawSettings) -> Iterator[Fault]:
    if b.family != "lamb":
        return
    if (a.adapted, a.adapt_flips) != (b.adapted, b.adapt_flips):
        flips = sorted(a.adapt_flips ^ b.adapt_flips)
        changed = a.adapted != b.adapted
        says = "biases and layer normalisation have a trust ratio, too" if changed else ""
        says += " but" if changed and flips else ""
        says += f" the trust ratio is the other way round for {_listed(flips)}" if flips else ""
        variant = f"adapted-{b.adapted}" if changed else "adapted-other"
        yield Fault(name="trust-ratio", says=says.strip(), values={"variant": variant, "adapted": flips})
    if (a.ratio_low, a.ratio_high) != (b.ratio_low, b.ratio_high):
        yield Fault(
            name="trust-ratio",
            says=f"the trust ratio is held to [{b.ratio_low:.3g}, {b.ratio_high:.3g}]",
            values={"variant": "ratio-clamped", "low": b.ratio_low, "high": b.ratio_high},
        )
    if a.norm_high != b.norm_high:
        yield Fault(
            name="trust-ratio",
            says=f"the weights' norm in the trust ratio is held below {b.norm_high:.3g}",
            values={"variant": "norm-clamped", "high": b.norm_high},
        )


def _after_clipping(a: LawSettings, b: LawSettings) -> bool:
    """Whether gradients are multiplied once they are clipped: bound and gradients are by the same factor."""
    factor = b.gradient_scale / a.gradient_scale
    return b.clip not in ("none", "always") and factor != 1 and bool(np.isclose(b.bound, factor * a.bound, rtol=1e-3))


def _decays_alike(a: LawSettings, b: LawSettings) -> bool:
    """Whether weights decay as declared though the step is another: the rate's factor is not that of the decay."""
    apart = b.decay_at == "decoupled" and a.rate_scale != b.rate_scale and b.rate_scale * b.decay != 0
    return apart and bool(np.isclose(b.rate_scale * b.decay, a.rate_scale * a.decay, rtol=1e-3))


def _rate(a: LawSettings, b: LawSettings) -> Iterator[Fault]:
    if a.gradient_scale != b.gradient_scale:
        when = "" if b.clip == "none" else " after" if _after_clipping(a, b) else " before"
        says = f"gradients are {b.gradient_scale:.5g} times what they should be" + (
            f"{when} they are clipped" if when else ""
        )
        yield Fault(name="gradient-scaled", says=says, values={"gradient_factor": b.gradient_scale})
    if a.rate_scale != b.rate_scale:
        but = ", its decay is not" if a.decay != b.decay and _decays_alike(a, b) else ""
        says = f"the step is {b.rate_scale:.5g} times what the learning rate says{but}"
        yield Fault(name="learning-rate-scaled", says=says, values={"factor": b.rate_scale})
    if b.step_factors:
        listed = ", ".join(f"{factor:.4g}" for factor in b.step_factors)
        says = f"the steps are {listed} times what the learning rates say"
        yield Fault(name="learning-rate-scaled", says=says, values={"factors": list(b.step_factors)})
    if b.frozen - a.frozen:
        missing = sorted(b.frozen - a.frozen)
        yield Fault(
            name="parameters-not-updated", says=f"{_listed(missing)} are not updated", values={"not_updated": missing}
        )
    if a.grid != b.grid:
        says = f"weights are kept in {b.grid}, so that updates below its resolution are lost"
        yield Fault(name="updates-lost", says=says, values={"precision": b.grid})


def _listed(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _plain(value: Any) -> Any:
    if isinstance(value, frozenset):
        return sorted(value)
    return list(value) if isinstance(value, tuple) else value
