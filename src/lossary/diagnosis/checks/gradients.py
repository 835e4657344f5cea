"""Which gradients does the side accumulate for a step, and which loss does it log for it?"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import log_softmax

from lossary.diagnosis.adapter import Feed
from lossary.diagnosis.engine import Check, Told
from lossary.diagnosis.fit import Fit
from lossary.diagnosis.laws.gradients import GradientObservation, identify_gradients, micro_gradients
from lossary.diagnosis.laws.reported import ReportedObservation, identify_reported_loss
from lossary.diagnosis.session import NotCompared
from lossary.diagnosis.subject import Subject
from lossary.models.arbiter import Arithmetic, forward

__all__ = ["GRADIENTS", "REPORTED"]

_ORDERS = {
    "bf16": (Arithmetic("bf16_products"), Arithmetic("bf16")),
    "fp16": (Arithmetic("fp16_products"),),
}
# Micro batches of a step, by the shares of its rows; unequal, so that a mean of means shows.
_CUTS: tuple[tuple[float, ...], ...] = ((), (0.3,), (0.15, 0.4, 0.8))


def _steps(feed: Feed) -> list[list[Feed]]:
    """The same examples as 1, 2 and 4 micro batches, those with the most masked positions first."""
    order = np.argsort(-(feed.weights > 0).sum(axis=1), kind="stable")
    return [
        [feed.take(rows) for rows in np.split(order, [max(1, round(cut * len(feed))) for cut in cuts]) if len(rows)]
        for cuts in _CUTS
    ]


def _require_forward(subject: Subject) -> None:
    """NotCompared where what a step computes follows from passes that are random, or wrong."""
    if subject.known.get("drops"):
        raise NotCompared("training passes drop at random; diagnose the same code with its dropout at 0")
    if subject.known.get("random"):
        raise NotCompared("evaluation passes differ at random; mend that first (see the check `dropout`)")
    if subject.known.get("forward deviates"):
        raise NotCompared("logits differ without a known cause; what follows from them cannot be judged")


def _run_gradients(subject: Subject) -> Told:
    _require_forward(subject)
    steps = _steps(subject.probes.feed)
    if subject.probes.is_large or not subject.session.description["accumulates"]:
        steps = steps[:1]
    large = "the model is large: one micro batch is what a probe may cost"
    several = (
        {}
        if len(steps) > 1
        else {
            "several micro batches": large if subject.probes.is_large else "the adapter says that it never accumulates"
        }
    )
    weights = subject.probes.plain
    asked = [
        subject.session.ask("gradients", weights=weights, micro_batches=[part.arrays() for part in parts])
        for parts in steps
    ]
    fit = _identified(subject, steps, asked, {})
    laws = _laws(subject)
    if not fit.equal and laws:
        # Where the loss is another one, its gradient is no second fault.
        under = _identified(subject, steps, asked, laws)
        fit = under if under.equal or under.confirmed else fit
    return Told(
        fit=fit,
        measured=f"gradients of steps of {', '.join(str(len(parts)) for parts in steps)} micro batches differ from the "
        f"reference's by {fit.distance:,.3g} × the tolerance",
        skipped=several,
    )


def _laws(subject: Subject) -> dict[str, Any]:
    found = subject.known.get("losses", {})
    laws = {"mlm": found.get("mlm_loss"), "sop": found.get("sop_loss")}
    return {name: law for name, law in laws.items() if law is not None and law.parts}


def _identified(
    subject: Subject, steps: Sequence[Sequence[Feed]], asked: Sequence[dict[str, Any]], laws: dict[str, Any]
) -> Fit:
    options: dict[str, Any] = dict(laws)
    if subject.precision in _ORDERS:
        options["orders"] = _ORDERS[subject.precision]
    try:
        observations = [
            GradientObservation(
                gradients=gradients,
                micro=tuple(
                    micro_gradients(subject.probes.plain, subject.architecture, part, **options) for part in parts
                ),
            )
            for parts, gradients in zip(steps, asked, strict=True)
        ]
    except ValueError as error:
        raise NotCompared(f"the gradient of the side's loss is not known: {error}") from None
    return identify_gradients(observations)


def _run_reported(subject: Subject) -> Told:
    _require_forward(subject)
    observations = [_reported(subject, parts) for parts in _logged_steps(subject)]

    def identified(**laws: Any) -> Fit:
        return identify_reported_loss(observations, precision=subject.precision, **laws)  # type: ignore[arg-type]

    fit = identified()
    known = subject.known.get("losses", {})
    laws = {"mlm": known.get("mlm_loss"), "sop": known.get("sop_loss")}
    weights = subject.known.get("loss weights", (1.0, 1.0))
    if not fit.equal and (any(laws.values()) or weights != (1.0, 1.0)):
        # Where the loss is another one, that it is logged is no second fault.
        under = identified(**laws, weights=weights)
        fit = under if under.equal or (under.confirmed and not fit.confirmed) else fit
    return Told(
        fit=fit,
        measured=f"losses logged for {len(observations)} steps differ by {fit.distance:,.3g} × the tolerance",
    )


def _logged_steps(subject: Subject) -> list[list[Feed]]:
    """Micro batches of the same examples, and steps of other examples, in which the objectives' shares differ."""
    feed = subject.probes.feed
    output = forward(subject.probes.plain, subject.architecture, feed)
    labels = np.maximum(feed.sop_labels, 0)
    order = log_softmax(output.sop.astype(np.float64), axis=-1)[np.arange(len(feed)), labels]
    easy = np.argsort(np.where(feed.sop_labels >= 0, -order, np.inf), kind="stable")[: max(1, len(feed) // 2)]
    hard = np.setdiff1d(np.arange(len(feed)), easy)
    steps = _steps(feed) if subject.session.description["accumulates"] else _steps(feed)[:1]
    return [*steps, *([feed.take(rows)] for rows in (easy, hard) if len(rows))]


def _reported(subject: Subject, parts: list[Feed]) -> ReportedObservation:
    weights = subject.probes.plain
    reported = subject.session.ask("reported_loss", weights=weights, micro_batches=[part.arrays() for part in parts])
    outputs = [forward(weights, subject.architecture, part, positions="all") for part in parts]
    single = [forward(weights, subject.architecture, part, precision=_precision(subject)) for part in parts]
    near = max(float(np.abs(a.mlm[_at(part)] - b.mlm).max()) for a, b, part in zip(outputs, single, parts, strict=True))
    micro = tuple(({"mlm": one.mlm, "sop": one.sop}, part) for one, part in zip(outputs, parts, strict=True))
    # A logit off by δ moves a cross entropy by 2δ at most, and there are two of them.
    return ReportedObservation(micro=micro, reported=reported, rounding=4 * near)


def _at(part: Feed) -> tuple[Any, Any]:
    return np.arange(len(part))[:, None], part.positions


def _precision(subject: Subject) -> Any:
    return {"bf16": "bf16_products", "fp16": "fp16_products"}.get(subject.precision, "float32")


GRADIENTS = Check(
    name="gradients",
    stage="gradients",
    about="Gradients of steps of 1, 2 and 4 micro batches, tensor by tensor, as combinations of the reference's parts.",
    needs=("load", "gradients"),
    run=_run_gradients,
)
REPORTED = Check(
    name="reported loss",
    stage="loss",
    about="The loss logged for steps of 1, 2 and 4 micro batches, against that of the whole step.",
    needs=("load", "reported_loss"),
    run=_run_reported,
)
