"""Do two evaluation passes agree, and two training passes differ as declared?"""

import numpy as np

from lossary.diagnosis.engine import Check, Told
from lossary.diagnosis.laws.dropout import identify_dropout, spread_of
from lossary.diagnosis.subject import Subject
from lossary.models.arbiter import Dropout, forward

__all__ = ["DROPOUT"]

_PASSES = 3


def _run(subject: Subject) -> Told:
    feed, weights = subject.probes.feed, subject.probes.plain
    evaluation = spread_of([o["sop"] for o in subject.forward(weights, feed, repeats=_PASSES)])
    training = spread_of([o["sop"] for o in subject.forward(weights, feed, training=True, repeats=_PASSES)])
    exact = forward(weights, subject.architecture, feed).sop
    single = forward(weights, subject.architecture, feed, precision="float32").sop

    def reference(rate: float, seed: int) -> float:
        passes = [
            forward(weights, subject.architecture, feed, precision="float32", dropout=Dropout(rate, 10 * seed + n)).sop
            for n in range(_PASSES)
        ]
        return spread_of([one.astype(np.float32) for one in passes])

    # Threads may sum in another order from pass to pass; that is rounding, and no more than the whole of it.
    noise = max(float(np.sqrt(np.mean(np.square(single - exact)))), float(np.spacing(np.abs(single)).max()))
    declared = float(subject.declared.get("dropout", 0.0))
    fit = identify_dropout(evaluation, training, reference, noise=_allowed(noise, subject.precision), declared=declared)
    if evaluation > noise and not fit.equal:
        subject.known["random"] = True
    subject.known["drops"] = training > _allowed(noise, subject.precision)
    return Told(
        fit=fit,
        measured=f"order logits of evaluation passes differ by {evaluation:.2g}, of training passes by {training:.2g}",
    )


def _allowed(noise: float, precision: str) -> float:
    """In low precision a pass may round each number otherwise: by its 8 or 11 bits instead of 24."""
    return noise * {"fp32": 1.0, "fp16": 2.0**13, "bf16": 2.0**16}.get(precision, 1.0)


DROPOUT = Check(
    name="dropout",
    stage="forward",
    about="Repeated passes over one feed: evaluation must not vary, training must vary as declared.",
    needs=("load", "forward"),
    run=_run,
)
