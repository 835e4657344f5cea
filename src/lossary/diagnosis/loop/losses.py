"""The loss of a loop: which targets, divided by what; and whether gradients are those of that loss.

The reference is the mean over all targets of a step, whatever micro batches it comes in.
"""

from dataclasses import replace

import numpy as np

from lossary.diagnosis.calibration import (
    LOOP_GRADIENT_FP32,
    LOOP_GRADIENT_LOW,
    LOOP_LOSS_FP32,
    LOOP_LOSS_LOW,
    LOOP_UNEXPLAINED,
)
from lossary.diagnosis.engine import Told
from lossary.diagnosis.fit import Candidate, Fit
from lossary.diagnosis.loop.record import Floats, Micro, Record, Step
from lossary.diagnosis.loop.solver import Knob, Settings, Stage, choice, solve
from lossary.diagnosis.session import NotCompared

__all__ = ["conditions", "gradients", "loss"]

_DIVISORS = (
    choice(
        "loss-times-micro-batches",
        "each micro batch is divided by its own targets, and their sum by nothing: `num_items_in_batch` is ignored, "
        "loss and gradient are as many times too large as there are micro batches",
        divisor="own",
    ),
    choice(
        "mean-of-micro-batch-means",
        "the means of micro batches are averaged: a target in a micro batch with few of them counts for more",
        divisor="own and micro batches",
    ),
    choice(
        "loss-divided-twice",
        "the mean over all targets of a step is divided by the number of micro batches once more",
        divisor="all and micro batches",
    ),
    choice(
        "targets-counted-before-shift",
        "the first position of each row is counted, and is no target once labels are shifted: loss and gradient are "
        "too small",
        divisor="unshifted",
    ),
    choice("loss-over-all-positions", "the sum is divided by all positions, pads and others too", divisor="slots"),
    choice("loss-summed", "losses of targets are added up and divided by nothing", divisor="one"),
    choice("loss-by-rows", "the sum is divided by the number of rows, not of targets", divisor="rows"),
)
_TARGETS = (
    choice("unlabelled-positions-in-loss", "positions without a label are targets, too (pads among them)", kind="all"),
    Knob(
        name="labels-shifted-otherwise",
        says="a target stands {shift} places behind what predicts it, as the loss has it",
        change=lambda settings, *_: ({"shift": n} for n in (0, 1, 2) if n != settings["shift"]),
    ),
    Knob(
        name="label-smoothing-otherwise",
        says="label smoothing is {smoothing:.3g} in the loss",
        change=lambda settings, *_: ({"smoothing": e} for e in (0.0, 0.05, 0.1, 0.2) if e != settings["smoothing"]),
    ),
)


def _scales(settings: Settings, stage: Stage, observed: Floats) -> "list[dict[str, float]]":
    predicted = stage.predict({**settings, "scale": 1.0})
    found = float(np.median(observed / np.where(predicted == 0, np.nan, predicted)))
    return [{"scale": float(f"{found:.3g}")}, {"scale": found}] if np.isfinite(found) else []


_SCALE = Knob(name="loss-scaled", says="it is {scale:.4g} times as large", change=lambda *a: iter(_scales(*a)))


def _divisor(kind: str, micro: Micro, step: Step, of: str, shift: int) -> float:
    """What the sum of a micro batch is divided by."""
    k = len(step.micro)
    everything = sum(one.sums[of][2] for one in step.micro)
    found = {
        "all": everything,
        "own": micro.sums[of][2],
        "own and micro batches": k * micro.sums[of][2],
        "all and micro batches": k * everything,
        "unshifted": sum(one.sums[of.split("@")[0] + "@0"][2] for one in step.micro) if shift else np.nan,
        "slots": sum(one.slots for one in step.micro),
        "one": 1.0,
        "rows": sum(one.rows for one in step.micro),
    }
    return float(found[kind]) or np.nan


def _predict(record: Record, settings: Settings) -> Floats:
    of = f"{settings['kind']}@{settings['shift']}"
    smoothing, scale = settings["smoothing"], settings["scale"]
    values = []
    for step in record.steps:
        for micro in step.micro:
            targets, uniform, _ = micro.sums[of]
            total = (1 - smoothing) * targets + smoothing * uniform
            values.append(scale * total / _divisor(settings["divisor"], micro, step, of, settings["shift"]))
    return np.array(values)


def _settings(record: Record) -> dict[str, object]:
    smoothing = float(record.declared["label_smoothing_factor"])
    return {"kind": "labels", "shift": record.shift, "divisor": "all", "smoothing": smoothing, "scale": 1.0}


def _low(record: Record) -> bool:
    return bool(record.declared["bf16"] or record.declared["fp16"])


def conditions(record: Record) -> Told:
    """Whether forward passes of training are in training mode, and are told which places are pads."""
    micro = [one for step in record.steps for one in step.micro]
    if not micro or any(one.training is None for one in micro):
        raise NotCompared("a forward pass a micro batch")
    still, pads = sum(not one.training for one in micro), sum(one.pads_seen for one in micro)
    says = {}
    if still and record.dropout:
        says["dropout-off-in-training"] = f"{still} of {len(micro)} forward passes are in evaluation mode: no dropout"
    # A causal model's pads stand behind what is read, and change nothing there.
    if pads and not record.shift:
        says["attention-mask-missing"] = f"the model is not told of {pads:,} pads, and attends to them"
    text = f"{len(micro)} forward passes; {still} in evaluation mode, {pads:,} pads without a mask"
    if not says:
        return Told(fit=Fit(distance=0.0, tried=(), how="read from the passes"), measured=text)
    found = Candidate(names=tuple(says), says="; ".join(says.values()), residual=0.0, values={"sentences": says})
    return Told(fit=Fit(distance=float("inf"), tried=(found,), how="read from the passes"), measured=text)


def loss(record: Record) -> Told:
    """The losses that a Trainer adds up, micro batch by micro batch, against those of its own logits."""
    _need_logits(record)
    observed = np.array([micro.loss for step in record.steps for micro in step.micro])
    relative = LOOP_LOSS_LOW if _low(record) else LOOP_LOSS_FP32
    stage = Stage(
        settings=_settings(record),
        predict=lambda settings: _predict(record, settings),
        noise=relative * np.maximum(np.abs(observed), 1e-3),
        how=f"{relative:.0e} of each loss: sums of logarithms in the precision of the logits",
        knobs=(*_DIVISORS, *_TARGETS, _SCALE),
    )
    expected = _predict(record, stage.settings)
    count = [sum(micro.sums[f"labels@{record.shift}"][2] for micro in step.micro) for step in record.steps]
    k = max(len(step.micro) for step in record.steps)
    return Told(
        fit=solve(stage, observed),
        measured=f"{len(observed)} micro batches of {len(record.steps)} steps ({k} a step, {min(count):.0f} to "
        f"{max(count):.0f} targets a step): the first step's loss is {_first(record, observed):.6g}, the mean over its "
        f"targets {_first(record, expected):.6g}",
    )


def _first(record: Record, values: Floats) -> float:
    return float(values[: len(record.steps[0].micro)].sum())


def gradients(record: Record) -> Told:
    """Gradients of steps, as a combination of those of their micro batches, against the loss that was reported."""
    _need_logits(record)
    if any(micro.part is None for step in record.steps for micro in step.micro):
        raise NotCompared("the gradients of the model's logits")
    observed, residuals, weights, left = [], [], [], []
    for step in record.steps:
        parts = np.stack([micro.part for micro in step.micro if micro.part is not None], 1)
        begun = step.micro[0].left
        if begun is not None and begun.any():
            parts = np.column_stack([parts, begun])
        found, *_ = np.linalg.lstsq(parts, step.micro[-1].gradient, rcond=None)
        size = np.linalg.norm(step.micro[-1].gradient)
        residuals.append(float(np.linalg.norm(parts @ found - step.micro[-1].gradient) / size) if size else 0.0)
        total = sum(micro.sums[f"labels@{record.shift}"][2] for micro in step.micro)
        left.append(float(found[-1]) if parts.shape[1] > len(step.micro) else 0.0)
        observed += list(found[: len(step.micro)] * total)
        weights += [total / micro.sums[f"labels@{record.shift}"][2] for micro in step.micro]
    relative = LOOP_GRADIENT_LOW if _low(record) else LOOP_GRADIENT_FP32
    stage = Stage(
        settings=_settings(record),
        predict=lambda settings: _factors(record, settings),
        noise=relative * np.maximum(np.abs(_factors(record, _settings(record))), np.abs(observed)),
        how=f"{relative:.0e} of a factor: a backward pass in the model's precision",
        knobs=(*_DIVISORS, _LAST, _SCALE),
    )
    fit = solve(stage, np.array(observed))
    if fit.equal and max(np.abs(left), default=0.0) > relative:
        return Told(fit=_not_cleared(left, relative), measured="gradients do not begin at 0 in a step")
    if not fit.confirmed and not fit.equal and (clipped := _clipped_each(record, relative)) is not None:
        fit = replace(fit, tried=(clipped, *fit.tried))
    worst = max(residuals)
    measured = (
        f"the gradient of a step is a combination of those of its micro batches to {worst:.1e}; their factors, times "
        f"the step's targets, are {min(observed):.4g} to {max(observed):.4g}, and 1 where a mean over all is meant"
    )
    if worst > LOOP_UNEXPLAINED * relative:
        fit = replace(fit, distance=max(fit.distance, worst / relative), tried=())
        measured = f"{worst:.1e} of a step's gradient is no combination of those of its micro batches' loss"
    return Told(fit=fit, measured=measured)


def _not_cleared(left: list[float], relative: float) -> Fit:
    """Gradients of the step before are still there."""
    kept = max(np.abs(left))
    says = f"gradients are not cleared: {kept:.3g} times what stood there at a step's beginning is in its gradient"
    again = max(abs(value - 1.0) for value in left[1:]) / relative if len(left) > 1 else 0.0
    found = Candidate(names=("gradients-not-cleared",), says=says, residual=again, values={"left": left})
    return Fit(distance=kept / relative, tried=(found,), how=f"{relative:.0e} of a factor")


def _clipped_each(record: Record, relative: float) -> Candidate | None:
    """Whether gradients are clipped after every micro batch: each time scaled down to one and the same norm."""
    worst, bounds = 0.0, []
    for step in record.steps:
        total = sum(micro.sums[f"labels@{record.shift}"][2] for micro in step.micro)
        before = np.zeros_like(step.micro[0].gradient)
        for micro in step.micro:
            if micro.part is None:
                return None
            whole = before + micro.part / total
            factor = float(whole @ micro.gradient / max(float(whole @ whole), 1e-300))
            size = max(float(np.linalg.norm(micro.gradient)), 1e-300)
            worst = max(worst, float(np.linalg.norm(factor * whole - micro.gradient)) / size)
            if factor < 1 - relative:
                bounds.append(float(np.linalg.norm(micro.norms)))
            before = micro.gradient
    if not bounds:
        return None
    bound = float(np.median(bounds))
    worst = max(worst, max(abs(one / bound - 1) for one in bounds))
    says = f"gradients are clipped, to {bound:.4g}, after each micro batch and not once a step"
    return Candidate(names=("clipped-each-micro-batch",), says=says, residual=worst / relative, values={"bound": bound})


_LAST = choice("last-micro-batch-only", "only the last micro batch of a step is trained on", only="last")


def _factors(record: Record, settings: Settings) -> Floats:
    """By what the gradient of each micro batch's sum is multiplied, times all targets of its step."""
    of = f"labels@{record.shift}"
    factors = []
    for step in record.steps:
        total = sum(one.sums[of][2] for one in step.micro)
        for number, micro in enumerate(step.micro):
            counted = settings.get("only") != "last" or number == len(step.micro) - 1
            divisor = _divisor(settings["divisor"], micro, step, of, record.shift)
            factors.append(settings["scale"] * total / divisor if counted else 0.0)
    return np.array(factors)


def _need_logits(record: Record) -> None:
    if not record.whole:
        why = record.problems[0] if record.problems else "no training step was recorded"
        raise NotCompared(f"{why}: `input_ids`, `labels` and `logits` of one forward pass a micro batch")
