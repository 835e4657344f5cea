"""Does the side's optimizer go on where it was once its state was saved and loaded?"""

from lossary.diagnosis.engine import Check, Told
from lossary.diagnosis.laws.resume import identify_resume
from lossary.diagnosis.laws.update_evidence import UpdateObservation
from lossary.diagnosis.laws.update_probe import probe_gradients, probe_weights
from lossary.diagnosis.laws.update_space import LawSettings
from lossary.diagnosis.session import NotCompared
from lossary.diagnosis.subject import Subject
from lossary.models.update_laws import UpdateLaw, learning_rate

__all__ = ["RESUME"]

_STEPS, _AT = 6, 3  # the third update has a large gradient, whose moments show in those that follow


def _run(subject: Subject) -> Told:
    if subject.probes.is_large:
        raise NotCompared("the model is too large for this fit; a law shows at a small size, too (--like)")
    wrong = [name for name in ("schedule", "weights", "update") if name in subject.known.get("deviating", [])]
    if wrong:
        raise NotCompared(f"updates differ without a resume: {', '.join(wrong)}; mend that first")
    optimizer, steps, first = subject.setup.recipe.optimizer, subject.setup.recipe.steps, subject.first_update
    weights = probe_weights(subject.probes.plain, seed=subject.setup.seed)
    bound = optimizer.clip_norm or 1.0
    gradients = probe_gradients(weights, seed=subject.setup.seed, steps=_STEPS, bound=bound)
    answer = subject.session.ask("resumed", weights=weights, gradients=gradients, first=first, at=_AT)
    fit = identify_resume(
        UpdateObservation(start=weights, gradients=gradients, weights=answer["weights"], first=first),
        LawSettings.of(UpdateLaw.of(optimizer), subject.declared),
        rates=[learning_rate(first + step, optimizer, steps) for step in range(_STEPS)],
        rate_of=lambda step: learning_rate(step, optimizer, steps),
        at=_AT,
        loaded=answer["loaded"],
        precision=subject.precision,
    )
    return Told(
        fit=fit,
        measured=f"{_STEPS} updates, with a resume before update {_AT + 1}, differ from ones without it by "
        f"{fit.distance:,.3g} × the tolerance",
    )


RESUME = Check(
    name="resume",
    stage="training",
    about="Updates from given gradients with the training state saved and loaded between two of them.",
    needs=("load", "weights", "restart", "update", "resume"),
    run=_run,
)
