"""Segments that are their document's text, but cut into other pieces.

    aligned = cut_otherwise(aligned, layout, Surface(corpus, tokenizer))

A row of signs (the rules of a table) can be cut in several equally likely ways; which one a tokenizer takes depends on
what stands beside the row. Such rows are compared here as text and all else piece by piece, so that a tokenizer that
cuts words otherwise is still seen.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lossary.data.tokenizer import TokenizerModel
from lossary.diagnosis.feeds.align import Aligned, Segments
from lossary.diagnosis.feeds.corpus import Corpus
from lossary.diagnosis.feeds.layout import FIRST, SECOND, Layout

__all__ = ["Surface", "cut_otherwise"]

_WORD_START = "▁"
_BETWEEN = "\0"  # pieces, but those of one row


@dataclass
class Surface:
    """Documents and segments as text."""

    corpus: Corpus
    tokenizer: TokenizerModel
    documents: dict[int, str] = field(default_factory=dict)

    def holds(self, tokens: NDArray[np.int32], document: int) -> bool:
        """Whether a segment stands in a document; no, where a label says nothing of what stood there."""
        if document < 0 or not len(tokens) or not self._known(tokens):
            return False
        return self._text(tokens).lstrip(_BETWEEN).removeprefix(_WORD_START) in self._document(document)

    def _known(self, tokens: NDArray[np.int32]) -> bool:
        return bool(((tokens >= 0) & (tokens < self.tokenizer.vocabulary_size)).all())

    def _document(self, number: int) -> str:
        if number not in self.documents:
            ids = self.corpus.ids[self.corpus.start[number] : self.corpus.stop[number]]
            self.documents[number] = self._text(ids) if self._known(ids) else ""
        return self.documents[number]

    def _text(self, ids: NDArray[np.int32]) -> str:
        parts, pieces, of_signs, goes_on = [], self.tokenizer.pieces, self._of_signs, False
        for piece in ids.tolist():
            if not (goes_on and of_signs[piece]):
                parts.append(_BETWEEN)
            parts.append(pieces[piece])
            goes_on = of_signs[piece]
        return "".join(parts)

    @cached_property
    def _of_signs(self) -> list[bool]:
        """(V) whether a piece has neither a letter nor a digit."""
        return [not any(sign.isalnum() for sign in piece) for piece in self.tokenizer.pieces]


def cut_otherwise(aligned: Aligned, layout: Layout, surface: Surface) -> Aligned:
    """The same, with segments that are their document's text in other pieces no longer taken for altered ones."""
    return replace(
        aligned,
        first=_cut_otherwise(aligned.first, FIRST, layout, surface),
        second=_cut_otherwise(aligned.second, SECOND, layout, surface),
    )


def _cut_otherwise(segments: Segments, part: int, layout: Layout, surface: Surface) -> Segments:
    doubtful = (segments.unmatched > 0) | segments.spliced | segments.crosses
    same = np.zeros(len(doubtful), bool)
    for row in np.flatnonzero(doubtful & segments.found):
        same[row] = surface.holds(layout.tokens[row][layout.part[row] == part], int(segments.document[row]))
    return replace(
        segments,
        unmatched=np.where(same, 0, segments.unmatched),
        spliced=segments.spliced & ~same,
        crosses=segments.crosses & ~same,
    )
