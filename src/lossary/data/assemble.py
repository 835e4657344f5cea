"""Spans to examples: segments, special tokens, masks. A pure function of (seed, dataset, example, epoch)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from lossary.data.examples import Examples
from lossary.data.masking import find_words, mask_budget, mask_words, replace_masked
from lossary.data.philox import stream_key
from lossary.data.segments import RaggedSpans, Segments, choose_segments
from lossary.data.spans import SPECIAL_TOKENS
from lossary.data.tokenizer import CLS, SEP, TokenizerModel
from lossary.study import Recipe

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
        self, tokenizer: TokenizerModel, datasets: Sequence[str], settings: Settings, *, seed: int, purpose: str
    ) -> None:
        self.settings = settings
        self.vocabulary_size = tokenizer.vocabulary_size
        self._starts_word = tokenizer.is_word_start
        self._piece_bytes = tokenizer.piece_bytes
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
            room=settings.length - SPECIAL_TOKENS,
            sop=settings.sop,
            keys=(keys["split"], keys["cut"]),
            epoch=epoch,
        )
        tokens, segment = _lay_out(spans, segments)
        lengths = (segment != -2).sum(axis=1).astype(np.int32)
        words = find_words(self._starts_word[tokens], segment)
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
        original_bytes = np.where(segment >= 0, self._piece_bytes[tokens], 0).sum(axis=1).astype(np.int32)
        replaced = replace_masked(
            labels, vocabulary_size=self.vocabulary_size, example=spans.example, key=keys["replace"], epoch=epoch
        )
        tokens[masked] = replaced[used]
        column = np.arange(tokens.shape[1])
        in_second = (column > segments.first_count[:, None] + 1) & (column < lengths[:, None])
        return Examples(
            dataset=spans.dataset,
            example=spans.example,
            token_ids=tokens,
            segment_ids=in_second.astype(np.int32),
            lengths=lengths,
            positions=positions,
            labels=labels,
            masked=count,
            sop_labels=segments.sop_labels,
            bytes=original_bytes,
        )


def _lay_out(spans: RaggedSpans, segments: Segments) -> tuple[NDArray[np.int32], NDArray[np.int8]]:
    """Tokens (B, T) with special ones, and (B, T): segment 0 or 1, -1 for special tokens, -2 for padding."""
    first, second = segments.first_count, segments.second_count
    has_second = segments.sop_labels >= 0
    lengths = first + second + np.where(has_second, 3, 2)
    rows = np.arange(len(first))
    tokens = np.zeros((len(first), int(lengths.max(initial=2))), np.int32)
    segment = np.full(tokens.shape, -2, np.int8)
    tokens[:, 0], segment[:, 0] = CLS, -1
    for number, start, count, place in (
        (0, segments.first_start, first, np.ones_like(first)),
        (1, segments.second_start, second, first + 2),
    ):
        row = np.repeat(rows, count)
        within = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
        column = place[row] + within
        tokens[row, column] = spans.ids[start[row] + within]
        segment[row, column] = number
    tokens[rows, first + 1], segment[rows, first + 1] = SEP, -1
    both = rows[has_second]
    tokens[both, lengths[both] - 1], segment[both, lengths[both] - 1] = SEP, -1
    return tokens, segment


def _mark(marks: NDArray[np.bool_], row: NDArray[np.int64], start: NDArray[np.int64], stop: NDArray[np.int64]) -> None:
    sizes = stop - start
    flat = np.repeat(start, sizes) + np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    marks[np.repeat(row, sizes), flat] = True
