"""What is evaluated on: is it masked, the same at every evaluation, and kept apart from training?"""

from lossary.diagnosis.adapter import as_feed
from lossary.diagnosis.checks.examples import encoded, feed_told
from lossary.diagnosis.engine import Check, Told
from lossary.diagnosis.feeds.explain import explain_validation
from lossary.diagnosis.subject import Subject

__all__ = ["VALIDATION"]


def _run(subject: Subject) -> Told:
    first, second = (
        as_feed(
            subject.session.ask("validation", documents=subject.documents, attempt=attempt),
            where=f"{subject.label}: validation",
        )
        for attempt in range(2)
    )
    training = None
    if subject.splits and subject.session.can("examples"):
        arrays = subject.session.ask("examples", documents=subject.documents, epoch=0)
        training = as_feed(arrays, where=f"{subject.label}: examples")
    fit = explain_validation(
        first,
        subject.documents,
        setup=subject.setup,
        second=second,
        training=training,
        side_ids=encoded(subject),
    )
    apart = ", and training examples" if training is not None else ""
    return feed_told(fit, subject, f"{len(first):,} examples of two evaluations{apart}")


VALIDATION = Check(
    name="validation",
    stage="validation",
    about="Evaluation examples: masked as declared, the same at every evaluation, of no document that is trained on.",
    needs=("validation",),
    run=_run,
)
