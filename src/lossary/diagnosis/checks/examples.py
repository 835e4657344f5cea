"""What is fed: examples made of documents, aligned with them, fact by fact, against the reference's."""

from typing import Any

import numpy as np

from lossary.diagnosis.engine import Check, Told
from lossary.diagnosis.feeds.corpus import texts_of
from lossary.diagnosis.feeds.explain import explain_examples
from lossary.diagnosis.feeds.outcome import FeedFit
from lossary.diagnosis.session import NotCompared
from lossary.diagnosis.subject import Subject

__all__ = ["EXAMPLES", "encoded", "feed_told"]

_MOST_FACTS = 4


def encoded(subject: Subject) -> list[list[int]] | None:
    """The side's own pieces of every text; None where it cannot tell them."""
    if not subject.session.can("encode"):
        return None
    try:
        answer = subject.session.ask("encode", texts=texts_of(subject.documents))
    except NotCompared:
        return None
    return [ids.tolist() for ids in np.split(answer["ids"], np.cumsum(answer["counts"])[:-1])]


def feed_told(fit: FeedFit, subject: Subject, what: str) -> Told:
    """The words for a fit of a feed."""
    if fit.equal:
        return Told(
            fit=fit, measured=f"{what}: no fact is beyond what healthy makers of examples do", skipped=fit.skipped
        )
    worst = fit.deviations[:_MOST_FACTS]
    facts = "; ".join(found.says for found in worst)
    more = len(fit.deviations) - len(worst)
    return Told(
        fit=fit,
        measured=f"{what}: {facts}" + (f"; and {more} more facts" if more > 0 else ""),
        datasets=_datasets(fit, subject),
        facts=tuple(dict.fromkeys(found.fact for found in fit.deviations)),
        skipped=fit.skipped,
    )


def _datasets(fit: FeedFit, subject: Subject) -> tuple[str, ...]:
    """Where the leading fault is, if not everywhere."""
    doses: dict[str, Any] = fit.best.values.get("datasets", {}) if fit.best is not None else {}
    return () if len(doses) == len(subject.setup.datasets) else tuple(doses)


def _run(subject: Subject) -> Told:
    feed, later = (subject.made("examples", epoch=epoch) for epoch in range(2))
    fit = explain_examples(feed, subject.documents, setup=subject.setup, side_ids=encoded(subject), next_epoch=later)
    return feed_told(fit, subject, f"{len(feed):,} examples of {len(subject.documents):,} documents")


EXAMPLES = Check(
    name="examples",
    stage="examples",
    about="Examples made of raw documents are aligned with them; pairs, labels, masks, layout, by dataset, with doses.",
    needs=("examples",),
    run=_run,
)
