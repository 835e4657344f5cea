"""Does an evaluation look at the weights of the last step, at every example once, and leave all as it was?"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from lossary.diagnosis.adapter import Feed
from lossary.diagnosis.engine import Check, Told
from lossary.diagnosis.fit import Candidate, Fit
from lossary.diagnosis.laws.evaluated import COUNTS, LOSSES, Evaluated, Scored, identify_evaluation
from lossary.diagnosis.session import NotCompared
from lossary.diagnosis.subject import Subject
from lossary.models.arbiter import forward

__all__ = ["EVALUATION"]

_STEPS = 3
_BATCHES = (0.4, 0.8)  # of the examples: the last batch is the smaller one
_BEYOND = float("inf")
_PRECISIONS = {"bf16": "bf16_products", "fp16": "fp16_products"}


def _run(subject: Subject) -> list[Told]:
    session = subject.session
    if not session.can("evaluate") and not session.can("forward"):
        raise NotCompared("the adapter has neither `evaluate` nor `forward`")
    wrong = [name for name in ("weights", "dropout", "forward", "loss") if name in subject.known.get("deviating", [])]
    if wrong:
        raise NotCompared(f"what is evaluated differs by itself: {', '.join(wrong)}; mend that first")
    feed, steps = subject.probes.feed, session.can("restart", "train_step")
    cuts = [max(1, round(cut * len(feed))) for cut in _BATCHES]
    batches = [feed.take(rows) for rows in np.split(np.arange(len(feed)), cuts) if len(rows)]
    answer = session.ask(
        "evaluated",
        weights=subject.probes.plain,
        feeds=[batches[number % len(batches)].arrays() for number in range(_STEPS if steps else 0)],
        batches=[batch.arrays() for batch in batches],
        first=subject.first_update,
    )

    def score(weights: Mapping[str, NDArray[Any]]) -> Scored:
        return _scored(subject, weights, batches)

    evaluated = Evaluated(states=(subject.probes.plain, *answer["states"]), score=score)
    skipped = {} if session.can("evaluate") else {"its own numbers": "the adapter has no `evaluate`"}
    if not steps:
        skipped["after a step"] = "the adapter has no `restart` and `train_step`"
    elif not evaluated.shows_a_step:
        skipped["after a step"] = "a step moves the loss by less than rounding"
    return [*_numbers_told(answer, evaluated, batches, skipped), *_weights_told(answer, evaluated)]


def _scored(subject: Subject, weights: Mapping[str, NDArray[Any]], batches: list[Feed]) -> Scored:
    rows, near = [], 0.0
    precision: Any = _PRECISIONS.get(subject.precision, "float32")
    for batch in batches:
        exact = forward(weights, subject.architecture, batch)
        rough = forward(weights, subject.architecture, batch, precision=precision)
        near = max(near, *(float(np.abs(getattr(exact, k) - getattr(rough, k)).max()) for k in ("mlm", "sop")))
        rows.append(_nats(exact.mlm, exact.sop, batch))
    # A logit off by δ moves a cross entropy by 2δ at most, and there are two of them.
    return Scored(tuple(rows), 4 * near)


def _nats(mlm: NDArray[Any], sop: NDArray[Any], batch: Feed) -> NDArray[np.float64]:
    """(B, 4): nats of hidden pieces, their number, nats of the order, whether there is one."""
    used, labelled = batch.weights > 0, batch.sop_labels >= 0
    pieces = -np.take_along_axis(log_softmax(mlm.astype(np.float64), axis=-1), batch.labels[..., None], -1)[..., 0]
    order = -log_softmax(sop.astype(np.float64), axis=-1)[np.arange(len(batch)), np.maximum(batch.sop_labels, 0)]
    return np.stack([(pieces * used).sum(axis=1), used.sum(axis=1), order * labelled, labelled], axis=1).astype(float)


def _numbers_told(
    answer: dict[str, Any], evaluated: Evaluated, batches: list[Feed], skipped: dict[str, str]
) -> list[Told]:
    """By source of numbers (the side's own evaluation, its logits) what they follow from."""
    found = []
    if answer["told"] is not None:
        told = {name: value for name, value in answer["told"][0].items() if name in (*LOSSES, *COUNTS)}
        unknown = {f"its {name}": "no number that is known" for name in answer["told"][0] if name not in told}
        if not told:
            skipped["its own numbers"] = f"`evaluate` returns none of {', '.join((*LOSSES, *COUNTS))}"
        again = {name: answer["told"][1].get(name) for name in told}
        fit = identify_evaluation(told, evaluated)
        if (
            again != told
            and identify_evaluation({k: v for k, v in again.items() if v is not None}, evaluated).distance > 1
        ):
            # What varies is told as that: no law of weights gives it twice.
            fit = replace(fit, distance=max(fit.distance, _BEYOND), tried=())
        found.append(_told(fit, f"its own evaluation of {len(batches)} batches tells {_list(told)}", skipped | unknown))
    if answer["logits"]:
        parts = zip(answer["logits"], batches, strict=True)
        rows = np.concatenate([_nats(_placed(out["mlm"], part), out["sop"], part) for out, part in parts])
        sums = rows.sum(axis=0)
        told = {"mlm_loss": float(sums[0] / sums[1])} | ({"sop_loss": float(sums[2] / sums[3])} if sums[3] else {})
        fit = identify_evaluation(told, evaluated)
        found.append(_told(fit, f"logits of {len(batches)} batches after the steps give {_list(told)}", skipped))
    return found


def _placed(mlm: NDArray[Any], feed: Feed) -> NDArray[Any]:
    if mlm.shape[1] == feed.positions.shape[1] != feed.token_ids.shape[1]:
        return mlm
    return mlm[np.arange(len(feed))[:, None], feed.positions]


def _list(told: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.6g}" for name, value in told.items()) or "nothing"


def _told(fit: Fit, what: str, skipped: dict[str, str]) -> Told:
    return Told(fit=fit, measured=f"{what}: {fit.distance:,.3g} × the tolerance from the reference", skipped=skipped)


def _weights_told(answer: dict[str, Any], evaluated: Evaluated) -> list[Told]:
    """Whether the weights after the evaluation are those before it, to the bit."""
    before, after = evaluated.states[-1], answer["left"]
    if not answer["states"]:
        before = answer["loaded"]
    changed = [name for name in before if not np.array_equal(before[name], after[name], equal_nan=True)]
    how = "none: an evaluation changes no weight"
    if not changed:
        return [Told(fit=Fit(distance=0.0, tried=(), how=how), measured="weights are the same after an evaluation")]
    moved = {name: before[name].astype(np.float64) - after[name] for name in changed}
    # Between the first weights and the last, in all tensors at one place: an average was left in.
    whole = {name: before[name].astype(np.float64) - evaluated.states[0][name] for name in changed}
    products = sum(float((moved[name] * whole[name]).sum()) for name in changed)
    norm = sum(float(np.square(whole[name]).sum()) for name in changed)
    says = "training goes on from other weights than before: the evaluation does not put back what it evaluated"
    cause = Candidate(names=("evaluation-keeps-weights",), says=says, residual=0.0, values={"tensors": len(changed)})
    share = products / norm if norm else 0.0
    way = f"{share:.3g} of the way back to where they began"
    measured = f"an evaluation changed {len(changed)} of {len(before)} tensors, by {way}"
    return [Told(fit=Fit(distance=_BEYOND, tried=(cause,), how=how), measured=measured)]


EVALUATION = Check(
    name="evaluation",
    stage="evaluation",
    about="An evaluation after some steps: which weights it looks at, which examples it counts, what it leaves behind.",
    needs=("load", "weights"),
    run=_run,
)
