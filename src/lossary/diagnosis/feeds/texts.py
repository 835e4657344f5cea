"""Examples whose text is not the documents': which change before the tokenizer makes it the documents' again.

    found = retokenised(feed, observed, reference)
    found.corpus, found.changes

For a side that does not show its tokenizer. The change is made to the documents, they are tokenised anew, and examples
are looked up in them.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossary.data.tokenizer import UNK
from lossary.diagnosis.adapter import Feed
from lossary.diagnosis.calibration import LEAST_OF_SEGMENT, RETOKENISED_IN_PART
from lossary.diagnosis.calibration import RETOKENISED_LEFT as _LEFT
from lossary.diagnosis.calibration import RETOKENISED_SHARE as _SHARE
from lossary.diagnosis.calibration import UNKNOWN_SHARE as _UNKNOWN_SHARE
from lossary.diagnosis.feeds.corpus import Corpus, texts_of
from lossary.diagnosis.feeds.layout import FIRST
from lossary.diagnosis.feeds.observed import Observed, observe
from lossary.diagnosis.feeds.reference import Reference
from lossary.diagnosis.feeds.tokens import Change, changes, encode_with

__all__ = ["Retokenised", "retokenised"]

_SAMPLE = 240  # examples on which changes are tried


@dataclass(frozen=True, kw_only=True)
class Retokenised:
    """Documents by a changed tokenizer, and what the change is."""

    corpus: Corpus
    changes: tuple[Change, ...]
    datasets: tuple[str, ...]


def retokenised(feed: Feed, observed: Observed, reference: Reference) -> Retokenised | None:
    """The change under which altered examples are the documents' text again; None if there is none, or no need."""
    altered = _altered(observed)
    groups = len(reference.corpus.names)
    total = np.bincount(observed.group, minlength=groups + 1)
    share = np.bincount(observed.group, altered, groups + 1) / np.maximum(1, total)
    affected = share[observed.group] > _SHARE
    if not (altered & affected).any():
        return None
    rows = np.flatnonzero(altered & affected)
    rows = rows[:: max(1, len(rows) // _SAMPLE)][:_SAMPLE]
    search = _Texts(feed.take(rows), reference)
    found = search.best([*_lost_pieces(observed), *changes(reference.tokenizer)])
    if found is None:
        return None
    everywhere = search.corpus(found, np.ones(groups, bool))
    # Short texts may look right though they are not: a dataset has the change if more of it stands in the documents.
    better = _standing(observe(feed, everywhere, reference.tokenizer), groups) > _standing(observed, groups)
    names = tuple(name for name, part in zip(reference.corpus.names, better, strict=True) if part)
    return Retokenised(corpus=search.corpus(found, better), changes=found, datasets=names)


def _standing(observed: Observed, groups: int) -> NDArray[np.float64]:
    """(D,) the share of examples whose first segment stands in the documents as it is."""
    return np.asarray(np.bincount(observed.group, observed.aligned.first.whole, groups + 1)[:groups], np.float64)


def _lost_pieces(observed: Observed) -> list[Change]:
    """That all pieces behind the last one that is seen become <unk>, if there is much of that."""
    tokens = observed.layout.tokens[observed.layout.part >= FIRST]
    tokens = tokens[tokens >= 0]
    if not len(tokens) or (tokens == UNK).mean() < _UNKNOWN_SHARE:
        return []
    first = int(tokens.max()) + 1
    return [
        Change(
            name="unknown-pieces",
            says=f"pieces from {first} on become <unk>",
            ids=lambda ids, _: [UNK if piece >= first else piece for piece in ids],
            values={"first": first},
        )
    ]


def _altered(observed: Observed) -> NDArray[np.bool_]:
    first, second = observed.aligned.first, observed.aligned.second
    lost = (first.unmatched > 0) | first.spliced | (second.unmatched > 0) | second.spliced
    # Short segments that stand nowhere are altered, too.
    return (
        lost | ((first.size >= LEAST_OF_SEGMENT) & ~first.found) | ((second.size >= LEAST_OF_SEGMENT) & ~second.found)
    )


class _Texts:
    def __init__(self, sample: Feed, reference: Reference) -> None:
        self._sample, self._reference = sample, reference
        self._texts = texts_of(reference.documents)
        corpus = reference.corpus
        self._dataset = corpus.dataset[np.repeat(np.arange(len(corpus)), np.diff(corpus.line_offsets))]
        self._own = [corpus.ids[a:b] for a, b in zip(corpus.line_start, corpus.line_stop, strict=True)]
        # Only the datasets of the sample are tokenised anew for a trial, all of them if it does not tell.
        told = np.isin(np.arange(len(corpus.names)), sample.dataset)
        self._concerned = told if told.any() and (sample.dataset >= 0).all() else np.ones(len(corpus.names), bool)

    def best(self, tried: list[Change]) -> tuple[Change, ...] | None:
        """The fewest changes that explain the sample."""
        level: list[tuple[float, tuple[Change, ...]]] = []
        for change in tried:
            if (left := self._left((change,))) <= _LEFT:
                return (change,)
            level.append((left, (change,)))
        level.sort(key=lambda entry: entry[0])
        for left, (first,) in level[:2]:
            for _, (second,) in level:
                apart = second is not first and not set(first.model) & set(second.model)
                if left < RETOKENISED_IN_PART and apart and self._left((first, second)) <= _LEFT:
                    return (first, second)
        return None

    def _left(self, tried: tuple[Change, ...]) -> float:
        """The share of the sample that is still altered."""
        corpus = self.corpus(tried, self._concerned)
        if corpus is self._reference.corpus:
            return 1.0
        observed = observe(self._sample, corpus, self._reference.tokenizer)
        return float(_altered(observed).mean())

    def corpus(self, tried: tuple[Change, ...], datasets: NDArray[np.bool_]) -> Corpus:
        """The documents, those of some datasets (D,) by the changed tokenizer; the reference's if nothing changes."""
        rows = np.flatnonzero(datasets[self._dataset])
        ids = encode_with(tried, [self._texts[row] for row in rows], self._reference.tokenizer)
        lines: list[Any] = list(self._own)
        for row, found in zip(rows.tolist(), ids, strict=True):
            lines[row] = found
        if all(np.array_equal(lines[row], self._own[row]) for row in rows.tolist()):
            return self._reference.corpus
        return Corpus.of(self._reference.documents, self._reference.corpus.names, lines, self._reference.tokenizer)
