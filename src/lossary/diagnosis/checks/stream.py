"""In which order are examples trained on: shares, epochs, repeats, and what a process that resumes goes on with?"""

from dataclasses import replace

import numpy as np

from lossary.diagnosis.checks.examples import encoded, feed_told
from lossary.diagnosis.engine import Check, Told
from lossary.diagnosis.feeds.explain import explain_stream
from lossary.diagnosis.feeds.order import REDRAWN
from lossary.diagnosis.feeds.outcome import FeedFit
from lossary.diagnosis.subject import Subject

__all__ = ["STREAM"]

# So many epochs of the documents tell how evenly examples come, and whether orders and masks come again.
_EPOCHS = 3
_EXAMPLES_A_DOCUMENT = 2
_MOST_EXAMPLES = 12_000


def _run(subject: Subject) -> Told:
    batch = subject.setup.recipe.batch_size
    wanted = min(_MOST_EXAMPLES, _EPOCHS * _EXAMPLES_A_DOCUMENT * len(subject.documents))
    stop = max(4, -(-wanted // batch))
    # Early, so that a run that skips as much as it had done is still seen.
    resume = stop // 4
    whole, later = (subject.made("stream", start=start, stop=stop) for start in (0, resume))

    examples = subject.made("examples", epoch=0) if subject.session.can("examples") else None

    def explained(*, repeats: bool) -> FeedFit:
        return explain_stream(
            whole,
            subject.documents,
            setup=subject.setup,
            resumed=later,
            resumed_at=resume * (len(whole) // stop),
            side_ids=encoded(subject),
            repeats=repeats,
            grouped=tuple(subject.declared.get("grouped", ())),
            examples=examples,
        )

    fit = explained(repeats=True)
    if any(REDRAWN in candidate.names for candidate in fit.tried):
        again = subject.made("stream", start=0, stop=stop, attempt=1)
        if not np.array_equal(again.labels, whole.labels) or not np.array_equal(again.positions, whole.positions):
            fit = explained(repeats=False)
    told = feed_told(fit, subject, f"{len(whole):,} examples of steps 0 to {stop:,}, and a resume at {resume:,}")
    if examples is not None:
        return told
    return replace(told, skipped={**told.skipped, "documents that never come": "the adapter has no `examples`"})


STREAM = Check(
    name="stream",
    stage="stream",
    about="Training examples in their order: shares, repeats, what comes together, epochs' orders and masks; a resume.",
    needs=("stream",),
    run=_run,
)
