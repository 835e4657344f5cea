"""Spans to examples: segments, special tokens, masks. A pure function of (seed, dataset, example, epoch)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from lossary.data.examples import Examples
from lossary.data.masking import find_words, mask_budget, mask_words, replace_masked
from lossary.data.philox import stream_key
from lossary.data.ragged import ranges
from lossary.data.segments import RaggedSpans, Segments, choose_segments
from lossary.data.shards import WORD_START
from lossary.data.tokenizer import StudyTokenizer
from lossary.study import Recipe
from lossary.vocabulary.templates import Layout, Template

__all__ = ["Assembler", "Settings"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What examples are made by."""

    length: int
    sop: bool
    mask_rate: float
    max_ngram: int
    max_predictions: int | None

    @classmethod
    def of(cls, recipe: Recipe) -> Self:
        return cls(
            length=recipe.sequence_length,
            sop=recipe.has_sop,
            mask_rate=recipe.mask_rate,
            max_ngram=recipe.max_ngram,
            max_predictions=recipe.max_predictions,
        )


class Assembler:
    """Makes examples for one seed and purpose ("train", "validation")."""

    def __init__(
        self, tokenizer: StudyTokenizer, datasets: Sequence[str], settings: Settings, *, seed: int, purpose: str
    ) -> None:
        self.settings = settings
        self.vocabulary_size = tokenizer.vocabulary_size
        self._template = tokenizer.template
        self._starts_word = tokenizer.is_word_start
        self._piece_bytes, self._counts_spaces = tokenizer.piece_bytes, tokenizer.counts_spaces
        self._ordinary = tokenizer.ordinary
        assert tokenizer.specials.mask is not None, "the study's vocabulary has no mask piece"
        self._mask = tokenizer.specials.mask
        self._keys = {
            draw: np.array([stream_key(seed, purpose, draw, name) for name in datasets], np.uint64)
            for draw in ("split", "cut", "mask", "replace")
        }

    def assemble(self, spans: RaggedSpans, epoch: NDArray[np.int64] | int) -> Examples:
        """Examples (B) of spans (B) in an epoch, a number or one for each."""
        settings = self.settings
        keys = {draw: key[spans.dataset] for draw, key in self._keys.items()}
        segments = choose_segments(
            spans,
            room=settings.length - self._template.num_added[1],
            sop=settings.sop,
            keys=(keys["split"], keys["cut"]),
            epoch=epoch,
        )
        tokens, segment, types = _lay_out(spans, segments, self._template)
        lengths = (segment != -2).sum(axis=1).astype(np.int32)
        starts_word, tokens = self._word_starts(tokens)
        words = find_words(starts_word, segment)
        budget = mask_budget(lengths, rate=settings.mask_rate, most=settings.max_predictions)
        masked_words = mask_words(
            words, budget, max_ngram=settings.max_ngram, example=spans.example, key=keys["mask"], epoch=epoch
        )
        masked = np.zeros(tokens.shape, bool)
        _mark(masked, words.row[masked_words], words.start[masked_words], words.stop[masked_words])
        count = masked.sum(axis=1).astype(np.int32)
        used = np.arange(max(1, count.max(initial=0))) < count[:, None]
        positions, labels = np.zeros(used.shape, np.int32), np.zeros(used.shape, np.int32)
        positions[used] = np.nonzero(masked)[1]
        labels[used] = tokens[masked]
        piece_bytes = self._piece_bytes[tokens]
        if not self._counts_spaces:
            piece_bytes = piece_bytes + starts_word
        original_bytes = np.where(segment >= 0, piece_bytes, 0).sum(axis=1).astype(np.int32)
        replaced = replace_masked(
            labels,
            mask=self._mask,
            ordinary=self._ordinary,
            example=spans.example,
            key=keys["replace"],
            epoch=epoch,
        )
        tokens[masked] = replaced[used]
        return Examples(
            dataset=spans.dataset,
            example=spans.example,
            token_ids=tokens,
            segment_ids=types,
            lengths=lengths,
            positions=positions,
            labels=labels,
            masked=count,
            sop_labels=segments.sop_labels,
            bytes=original_bytes,
        )

    def _word_starts(self, tokens: NDArray[np.int32]) -> tuple[NDArray[np.bool_], NDArray[np.int32]]:
        """Where words start (B, T), as pieces say it or as they are marked; and the pieces without marks."""
        if self._starts_word is not None:
            return self._starts_word[tokens], tokens
        return (tokens & WORD_START) > 0, tokens & (WORD_START - 1)


class _LaidOut(NamedTuple):
    """Examples (B, T) with their special pieces."""

    tokens: NDArray[np.int32]
    segment: NDArray[np.int8]  # 0 or 1, -1 for special pieces, -2 for padding
    types: NDArray[np.int32]


def _lay_out(spans: RaggedSpans, segments: Segments, template: Template) -> _LaidOut:
    """Puts segments where the template has them."""
    first, second = segments.first_count, segments.second_count
    has_second = segments.sop_labels >= 0
    lengths = first + second + np.where(has_second, template.num_added[1], template.num_added[0])
    size = (len(first), int(lengths.max(initial=2)))
    found = _LaidOut(np.zeros(size, np.int32), np.full(size, -2, np.int8), np.zeros(size, np.int32))
    for layout, rows in ((template.single, ~has_second), (template.pair, has_second)):
        _lay_out_rows(found, spans, segments, layout, np.flatnonzero(rows))
    return found


def _lay_out_rows(
    found: _LaidOut, spans: RaggedSpans, segments: Segments, layout: Layout, rows: NDArray[np.int64]
) -> None:
    """The rows of one layout, from left to right."""
    stretches = ((segments.first_start, segments.first_count), (segments.second_start, segments.second_count))
    at = np.zeros(len(rows), np.int64)
    for number, added in enumerate(layout.around):
        for piece, kind in added:
            found.tokens[rows, at], found.segment[rows, at], found.types[rows, at] = piece, -1, kind
            at += 1
        if number < len(layout.types):
            start, count = stretches[number][0][rows], stretches[number][1][rows]
            row, column = np.repeat(rows, count), ranges(at, count)
            found.tokens[row, column] = spans.ids[ranges(start, count)]
            found.segment[row, column], found.types[row, column] = number, layout.types[number]
            at += count


def _mark(marks: NDArray[np.bool_], row: NDArray[np.int64], start: NDArray[np.int64], stop: NDArray[np.int64]) -> None:
    sizes = stop - start
    flat = np.repeat(start, sizes) + np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    marks[np.repeat(row, sizes), flat] = True
