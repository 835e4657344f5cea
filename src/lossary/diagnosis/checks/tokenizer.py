"""Which ids does the side's tokenizer give to the documents' texts?"""

from lossary.diagnosis.checks.examples import encoded
from lossary.diagnosis.engine import Check, Told
from lossary.diagnosis.feeds.corpus import texts_of
from lossary.diagnosis.feeds.tokens import TokenFit, compare_tokens
from lossary.diagnosis.session import NotCompared
from lossary.diagnosis.subject import Subject

__all__ = ["TOKENIZER"]


def _run(subject: Subject) -> Told:
    ids = encoded(subject)
    if ids is None:
        raise NotCompared("`encode` raised an error")
    return _told(compare_tokens(ids, texts_of(subject.documents), subject.tokenizer))


def _told(fit: TokenFit) -> Told:
    if fit.where is None:
        return Told(fit=fit, measured=f"{fit.total:,} texts have the same ids")
    where = fit.where
    return Told(
        fit=fit,
        measured=f"{fit.differing:,} of {fit.total:,} texts have other ids, first at piece {where.position} of "
        f"{where.excerpt!r}: {' '.join(where.side)} instead of {' '.join(where.reference)}",
    )


TOKENIZER = Check(
    name="tokenizer",
    stage="tokenizer",
    about="Ids of the documents' texts, compared exactly; changes of text and of the model are searched.",
    needs=("encode",),
    run=_run,
)
