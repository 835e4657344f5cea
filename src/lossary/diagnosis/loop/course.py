"""What a loop does over its steps: learning rates, what it logs, what its evaluation says."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from lossary.diagnosis.calibration import (
    LOOP_COUNT_IS_WHOLE,
    LOOP_LOGGED,
    LOOP_LOSS_FP32,
    LOOP_LOSS_LOW,
    LOOP_MOST_DIGITS,
    LOOP_RATE_IS_ZERO,
)
from lossary.diagnosis.engine import Told
from lossary.diagnosis.fit import Candidate, Fit
from lossary.diagnosis.laws.schedules import ScheduleSettings, identify_course
from lossary.diagnosis.loop.record import Floats, Record
from lossary.diagnosis.loop.solver import Knob, Settings, Stage, choice, solve
from lossary.diagnosis.session import NotCompared

__all__ = ["evaluation", "logged", "schedule"]

_RATE = 1e-6  # of the peak: a factor of double precision times a rate


def schedule(record: Record) -> list[Told]:
    """The rates of steps against the schedule's own law, and this law against the arguments up to the end."""
    about = record.schedule
    if not record.steps:
        raise NotCompared("a step of the optimizer")
    if not about["near"]:
        raise NotCompared(f"a schedule that is a function of the step; {about['class']} is none")
    stepped, law = _stepped(record), _law(record)
    if not law:
        why = f"`{about['kind']}` with these settings is not known" if about["declared"] else "arguments declare none"
        stepped = replace(stepped, measured=f"{stepped.measured}; that law itself is not compared: {why}")
    return [stepped, *law]


def _stepped(record: Record) -> Told:
    """Whether the schedule advances once with every step."""
    near, groups = np.array(record.schedule["near"]), record.optimizer["groups"]
    peaks = np.array([group["rate"] for group in groups])
    rates = np.array([step.rates for step in record.steps])
    k = int(record.declared["gradient_accumulation_steps"])
    laws = near if len(near) == len(peaks) else np.repeat(near[:1], len(peaks), 0)

    def predict(settings: Settings) -> Floats:
        at = settings["speed"] * np.arange(len(rates)) + settings["ahead"]
        at = np.clip(at, 0, near.shape[1] - 1).astype(int)
        return np.asarray((laws[:, at].T * peaks).ravel())

    speeds = sorted({2, k} - {1})
    stage = Stage(
        settings={"speed": 1, "ahead": 0},
        predict=predict,
        noise=_RATE * max(float(peaks.max()), 1e-30),
        how=f"{_RATE:.0e} of the peak",
        knobs=(
            Knob(
                name="schedule-times-n",
                says="the schedule advances {speed} steps with every step of the optimizer"
                + (" (there are as many micro batches)" if k > 1 else ""),
                change=lambda *_: ({"speed": n} for n in speeds),
            ),
            Knob(
                name="schedule-shifted",
                says="the schedule is {ahead:+d} steps off",
                change=lambda *_: ({"ahead": n} for n in sorted({1, -1, 2, k - 1} - {0})),
            ),
            choice("schedule-never-steps", "the rate stays as it is at the first step", speed=0),
        ),
    )
    return Told(
        fit=solve(stage, rates.ravel()),
        measured=f"rates of {len(rates)} steps, {rates.min():.4g} to {rates.max():.4g}, against the schedule's own law "
        "once a step",
    )


def _law(record: Record) -> list[Told]:
    """The schedule's own law against what the arguments say."""
    about, total = record.schedule, record.total_steps
    k = int(record.declared["gradient_accumulation_steps"])
    if not about["declared"]:
        return [_micro_batches(record, k)] if k > 1 else []
    settings = _settings(about, total, record.optimizer["default rate"])
    if settings is None:
        return []
    far = about["far"]
    fit = identify_course(np.array(far["values"]), np.array(far["steps"], np.float64), settings)
    measured = (
        f"its law at {len(far['steps'])} of {total:,} steps against `{about['kind']}` with a warm-up of "
        f"{about['warmup']:,} steps, as the arguments say: {fit.distance:,.3g} × the tolerance"
    )
    return [Told(fit=_counted(fit, k), measured=measured)]


def _counted(fit: Fit, k: int) -> Fit:
    """A schedule that is k times too slow counts micro batches."""
    best = fit.best
    if (
        best is None
        or k == 1
        or best.names != ("schedule-times-n",)
        or abs(best.values["n"] * k - 1) > LOOP_COUNT_IS_WHOLE
    ):
        return fit
    says = f"warm-up and length are counted in micro batches, {k} a step: the schedule is {k} times too slow"
    changed = Candidate(
        names=best.names, says=says, residual=best.residual, values={"n": 1 / k, "sentences": {best.names[0]: says}}
    )
    return Fit(distance=fit.distance, tried=(changed, *fit.tried[1:]), how=fit.how)


def _micro_batches(record: Record, k: int) -> Told:
    """Arguments say nothing; a schedule that ends exactly at k times the steps counts micro batches."""
    at_end, before, after = record.schedule["ends"]
    slow = abs(after) < LOOP_RATE_IS_ZERO < before and at_end > 0.0
    measured = (
        "arguments are at their defaults, so that the schedule's own law is what is meant; "
        f"at the last of {record.total_steps:,} steps it is at {at_end:.3g} of its peak"
    )
    if not slow:
        return Told(fit=Fit(distance=0.0, tried=(), how="where it ends"), measured=measured)
    says = f"the schedule ends after {k} times the steps that there are: it counts micro batches"
    candidate = Candidate(names=("schedule-times-n",), says=says, residual=0.0, values={"n": 1 / k})
    return Told(fit=Fit(distance=float("inf"), tried=(candidate,), how="where it ends"), measured=measured)


def _settings(about: Mapping[str, Any], total: int, rate: float) -> ScheduleSettings | None:
    """The law of the arguments, at a peak of 1; None where it is not known."""
    more, peak = about["more"], 1.0
    shape: dict[str, Any] = {
        "linear": {"shape": "linear after warm-up"},
        "cosine": {"shape": "cosine", "cycles": 2 * more.get("num_cycles", 0.5)},
        "cosine_with_restarts": {"shape": "cosine with restarts", "cycles": more.get("num_cycles", 1.0)},
        "constant": {"shape": "constant", "warmup": 0.0},
        "constant_with_warmup": {"shape": "constant"},
        "inverse_sqrt": {"shape": "inverse root", "timescale": more.get("timescale", about["warmup"] or 10_000.0)},
        "polynomial": {"shape": "polynomial", "power": more.get("power", 1.0), "end": more.get("lr_end", 1e-7) / rate},
    }.get(about["kind"], {})
    known = {"num_cycles", "timescale", "power", "lr_end"}
    if not shape or set(more) - known:
        return None
    return ScheduleSettings(**{"peak": peak, "steps": float(total), "warmup": float(about["warmup"]), **shape})


# --- logs -----------------------------------------------------------------------------------------------------------


def logged(record: Record) -> Told:
    """The loss of each line of the log against those of the steps that it is of."""
    logs = [log for log in record.logs if 0 < log["step"] <= len(record.steps)]
    if not logs:
        raise NotCompared("a line in the log with `loss`")
    losses = np.array([sum(micro.loss for micro in step.micro) for step in record.steps])
    k = np.array([len(step.micro) for step in record.steps])
    ends = [int(log["step"]) for log in logs]
    spans = list(zip([0, *ends[:-1]], ends, strict=True))

    def predict(settings: Settings) -> Floats:
        of = settings["of"]
        values = {
            "mean": [losses[a:b].mean() for a, b in spans],
            "sum": [losses[a:b].sum() for a, b in spans],
            "last": [losses[b - 1] for _, b in spans],
            "so far": [losses[:b].mean() for _, b in spans],
            "lines": np.cumsum([losses[a:b].mean() for a, b in spans]) / np.arange(1, len(spans) + 1),
            "micro": [losses[a:b].sum() / k[a:b].sum() for a, b in spans],
            "times": [losses[a:b].mean() * k[a:b].max() for a, b in spans],
        }[of]
        return np.asarray(values, np.float64) * float(settings["scale"])

    observed = np.array([log["loss"] for log in logs])
    expected = predict({"of": "mean", "scale": 1.0})
    factor = float(np.median(observed / np.where(expected == 0, np.nan, expected)))
    scales = [{"scale": float(f"{factor:.3g}")}] if np.isfinite(factor) else []
    stage = Stage(
        settings={"of": "mean", "scale": 1.0},
        predict=predict,
        noise=np.maximum(LOOP_LOGGED * np.abs(observed), [_half_digit(value) for value in observed]),
        how=f"{LOOP_LOGGED:.0e}: sums in float32; half a unit of the last digit logged",
        knobs=(
            choice("logged-times-micro-batches", "what is logged is multiplied by the micro batches", of="times"),
            choice("logged-by-micro-batch", "what is logged is divided by the micro batches once more", of="micro"),
            choice("logged-last-step", "only the last step is logged, not the mean since the line before", of="last"),
            choice("logged-sum", "losses of steps are added up, not averaged", of="sum"),
            choice("logged-since-the-start", "the mean of all steps since the start is logged", of="so far"),
            choice("logged-since-the-start", "the mean of all lines since the start is logged", of="lines"),
            Knob(name="logged-scaled", says="what is logged is {scale:.4g} times it", change=lambda *_: iter(scales)),
        ),
    )
    worst = int(np.argmax(np.abs(observed - expected)))
    a, b = spans[worst]
    return Told(
        fit=solve(stage, observed),
        measured=f"{len(logs)} lines of the log; that of step {b} says {observed[worst]:.6g}, the mean of steps "
        f"{a + 1} to {b} is {expected[worst]:.6g}",
    )


def _half_digit(value: float) -> float:
    """Half a unit of the last digit of a number that was rounded for the log; 0 of one in full."""
    digits = len(repr(value).partition(".")[2])
    return 0.5 * 10.0**-digits if 2 <= digits <= LOOP_MOST_DIGITS and "e" not in repr(value) else 0.0


# --- evaluation -----------------------------------------------------------------------------------------------------


def evaluation(record: Record) -> Told:
    """`eval_loss` against the losses of the batches that were run for it."""
    seen = record.evaluated
    if seen is None:
        raise NotCompared("rows to evaluate: an `eval_dataset` with a length")
    if seen["reported"] is None or not seen["batches"]:
        raise NotCompared("`eval_loss` of `evaluate`, and forward passes with `labels` and `logits`")
    sums = np.array([batch["sums"] for batch in seen["batches"]])
    rows = np.array([batch["rows"] for batch in seen["batches"]], np.float64)
    kept = sums[:, 2] > 0
    smoothing = float(record.declared["label_smoothing_factor"])
    totals = (1 - smoothing) * sums[:, 0] + smoothing * sums[:, 1]
    means = totals[kept] / sums[kept, 2]
    values = {
        "targets": totals.sum() / max(sums[:, 2].sum(), 1.0),
        "batches": means.mean() if kept.any() else np.nan,
        "rows": float(np.average(means, weights=rows[kept])) if kept.any() else np.nan,
        "plain": sums[:, 0].sum() / max(sums[:, 2].sum(), 1.0),
        "sum": totals.sum(),
    }
    stock = {kind: abs(values[kind] - seen["reported"]) for kind in ("batches", "rows")}
    meant = min(stock, key=lambda kind: stock[kind]) if seen["stock"] else "targets"
    if any(batch["training"] for batch in seen["batches"]):
        return Told(fit=_dropping(), measured="forward passes of the evaluation are in training mode")
    if rows.sum() != seen["rows"]:
        return Told(fit=_other_rows(int(rows.sum()), seen["rows"]), measured=f"{rows.sum():.0f} rows were run")
    relative = LOOP_LOSS_LOW if record.declared["bf16"] or record.declared["fp16"] else LOOP_LOSS_FP32
    stage = Stage(
        settings={"kind": meant, "scale": 1.0},
        predict=lambda settings: np.array([settings["scale"] * values[settings["kind"]]]),
        noise=relative * max(abs(seen["reported"]), 1e-3),
        how=f"{relative:.0e} of the loss",
        knobs=(
            choice(
                "mean-of-batch-means",
                "means of batches are averaged, a short last one as much as others",
                kind="batches",
            ),
            choice(
                "mean-of-batch-means", "means of batches are averaged by their rows, not by their targets", kind="rows"
            ),
            choice("label-smoothing-otherwise", "the evaluation's loss has no label smoothing", kind="plain"),
            choice("loss-summed", "losses are added up and divided by nothing", kind="sum"),
        ),
    )
    about = "; transformers averages means of batches" if seen["stock"] else ""
    return Told(
        fit=solve(stage, np.array([seen["reported"]])),
        measured=f"`eval_loss` of {seen['rows']} rows in {len(rows)} batches is {seen['reported']:.6g}; the mean over "
        f"all {sums[:, 2].sum():.0f} targets is {values['targets']:.6g}{about}",
    )


def _dropping() -> Fit:
    says = "the evaluation runs in training mode, with dropout"
    found = Candidate(names=("dropout-in-evaluation",), says=says, residual=0.0, values={})
    return Fit(distance=float("inf"), tried=(found,), how="read from the model")


def _other_rows(ran: int, given: int) -> Fit:
    says = f"the evaluation ran {ran} rows where `eval_dataset` has {given}"
    found = Candidate(names=("evaluates-other-rows",), says=says, residual=0.0, values={"ran": ran, "given": given})
    return Fit(distance=float("inf"), tried=(found,), how="counts")
