"""What is evaluated on: is it masked, the same at every evaluation, and kept apart from training?"""

from dataclasses import replace

from lossary.diagnosis.checks.examples import encoded, feed_told
from lossary.diagnosis.engine import Check, Told
from lossary.diagnosis.feeds.explain import explain_validation
from lossary.diagnosis.subject import Subject

__all__ = ["VALIDATION"]


def _run(subject: Subject) -> Told:
    first, second = (subject.made("validation", attempt=attempt) for attempt in range(2))
    apart = subject.splits and subject.session.can("examples")
    training = subject.made("examples", epoch=0) if apart else None
    fit = explain_validation(
        first,
        subject.documents,
        setup=subject.setup,
        second=second,
        training=training,
        side_ids=encoded(subject),
    )
    what = f"{len(first):,} examples of two evaluations" + (", and training examples" if apart else "")
    told = feed_told(fit, subject, what)
    if apart:
        return told
    why = "the adapter has no `examples`" if subject.splits else "the adapter does not say that it `splits`"
    return replace(told, skipped={**told.skipped, "documents that are trained on": why})


VALIDATION = Check(
    name="validation",
    stage="validation",
    about="Evaluation examples: masked as declared, the same at every evaluation, of no document that is trained on.",
    needs=("validation",),
    run=_run,
)
