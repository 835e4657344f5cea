"""What stands where in the examples of a feed: labels put back, special pieces, padding, the two segments.

    layout = lay_open(feed, tokenizer)
    layout.tokens[0][layout.part[0] == FIRST]          # pieces of the first segment

Nothing that the feed says of itself is used where the pieces can tell: padding is where no piece stands, segments end
at [SEP]. Where there is no [SEP] at all, `segment_ids` say where the second segment starts.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lossary.data.tokenizer import CLS, MASK, PAD, SEP, TokenizerModel
from lossary.diagnosis.adapter import Feed
from lossary.diagnosis.calibration import FOREIGN_SHARE as _FOREIGN_SHARE

__all__ = ["FIRST", "PADDING", "SECOND", "SPECIAL", "UNKNOWN", "Layout", "lay_open", "split_specials"]

PADDING, SPECIAL, FIRST, SECOND = -2, -1, 0, 1
UNKNOWN = -3  # in `tokens`: a scored place whose label says nothing


@dataclass(frozen=True, kw_only=True)
class Layout:
    """B examples of T places."""

    tokens: NDArray[np.int32]  # (B, T) labels at scored places; UNKNOWN where the label is [MASK] or no piece
    inputs: NDArray[np.int32]  # (B, T) as fed
    scored: NDArray[np.bool_]  # (B, T)
    labels: NDArray[np.int32]  # (B, T) 0 where not scored
    part: NDArray[np.int8]  # (B, T) PADDING, SPECIAL, FIRST, SECOND, or higher
    starts_right: NDArray[np.bool_]  # (B,) [CLS] in front
    ends_right: NDArray[np.bool_]  # (B,) a [SEP] after each segment and nowhere else
    split: NDArray[np.bool_]  # (B, 2) holds the pieces of the text "[CLS]" in front, of the text "[SEP]" anywhere

    def __len__(self) -> int:
        return len(self.tokens)

    def sizes(self, part: int) -> NDArray[np.int64]:
        """(B,) pieces of a part."""
        return (self.part == part).sum(axis=1)


def lay_open(feed: Feed, tokenizer: TokenizerModel) -> Layout:
    """The layout of a feed; tokens of single segments are FIRST."""
    scored, labels = _scored(feed)
    valid = (labels >= 0) & (labels < tokenizer.vocabulary_size) & (labels != MASK)
    tokens = np.where(scored, np.where(valid, labels, UNKNOWN), feed.token_ids).astype(np.int32)
    layout = _laid_open(feed, tokens, scored, labels, tokenizer)
    # A label that says [CLS] or [SEP] in the wrong place is a wrong label, no special piece.
    doubtful = scored & ((labels == CLS) | (labels == SEP))
    inner = (layout.part == SPECIAL) & (labels == CLS) & scored
    inner[:, :1] = False
    suspect = (~layout.ends_right & doubtful.any(axis=1)) | inner.any(axis=1)
    if not suspect.any():
        return layout
    tokens = np.where(doubtful, UNKNOWN, tokens).astype(np.int32)
    again = _laid_open(feed, tokens, scored, labels, tokenizer)
    return _chosen(again, layout, suspect & again.ends_right)


def _chosen(yes: Layout, no: Layout, rows: NDArray[np.bool_]) -> Layout:
    """Rows of one or the other."""
    return Layout(
        **{
            name: np.where(rows.reshape(-1, *[1] * (column.ndim - 1)), getattr(yes, name), column)
            for name, column in vars(no).items()
        }
    )


def _laid_open(
    feed: Feed,
    tokens: NDArray[np.int32],
    scored: NDArray[np.bool_],
    labels: NDArray[np.int32],
    tokenizer: TokenizerModel,
) -> Layout:
    stands = tokens != PAD
    width = tokens.shape[1]
    length = np.where(stands.any(axis=1), width - np.argmax(stands[:, ::-1], axis=1), 0)
    first = np.argmax(stands, axis=1)
    column = np.arange(width)
    inside = (column >= first[:, None]) & (column < length[:, None])
    rows = np.arange(len(tokens))
    in_front = (tokens[rows, first] == CLS) | (feed.token_ids[rows, first] == CLS)
    special = inside & ((tokens == CLS) | (tokens == SEP))
    special[rows[in_front], first[in_front]] = True
    ends = inside & (tokens == SEP)
    split = np.zeros((len(tokens), 2), bool)
    foreign = np.concatenate([~in_front, ~ends.any(axis=1)])
    if foreign.sum() > _FOREIGN_SHARE * len(tokens):
        found = [_occurrences(tokens, inside, sequences) for sequences in split_specials(tokenizer)]
        split[:, 0] = found[0][0][rows, first]
        split[:, 1] = found[1][0].any(axis=1)
        special |= (found[0][1] & (np.cumsum(found[0][0], axis=1) == 1)) | found[1][1]
        ends |= found[1][0]
    number = np.cumsum(ends, axis=1) - ends
    number = np.where(ends.any(axis=1)[:, None], number, _second_by_ids(feed.segment_ids, inside))
    part = np.where(inside, np.where(special, SPECIAL, number), PADDING).astype(np.int8)
    segments = np.maximum(part.max(axis=1, initial=SPECIAL) + 1, 1)
    last = np.maximum(length - 1, 0)
    ends_right = (ends.sum(axis=1) == segments) & (tokens[rows, last] == SEP) & (segments <= 2)
    return Layout(
        tokens=tokens,
        inputs=feed.token_ids,
        scored=scored,
        labels=labels,
        part=part,
        starts_right=in_front,
        ends_right=ends_right,
        split=split,
    )


def _scored(feed: Feed) -> tuple[NDArray[np.bool_], NDArray[np.int32]]:
    """(B, T) scored places and their labels."""
    scored, labels = np.zeros(feed.token_ids.shape, bool), np.zeros(feed.token_ids.shape, np.int32)
    inside = (feed.positions >= 0) & (feed.positions < feed.token_ids.shape[1])
    rows, slots = np.nonzero((feed.weights > 0) & inside)
    places = feed.positions[rows, slots]
    scored[rows, places] = True
    labels[rows, places] = feed.labels[rows, slots]
    return scored, labels


@lru_cache(maxsize=4)
def split_specials(tokenizer: TokenizerModel) -> tuple[tuple[tuple[int, ...], ...], ...]:
    """The ids that the texts "[CLS]" and "[SEP]" fall into, at a word's start and inside; longest first."""
    found = []
    for text in ("[CLS]", "[SEP]"):
        alone, behind = (tokenizer.processor.encode(form, out_type=int) for form in (text, f"a{text}"))
        start = len(tokenizer.processor.encode("a", out_type=int))
        sequences = {tuple(alone), tuple(behind[start:]), tuple(alone[1:])}
        found.append(tuple(sorted((s for s in sequences if len(s) > 1), key=len, reverse=True)))
    return tuple(found)


def _occurrences(
    tokens: NDArray[np.int32], inside: NDArray[np.bool_], sequences: tuple[tuple[int, ...], ...]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(B, T) where one of the sequences starts, and what it covers."""
    starts, covered = np.zeros(tokens.shape, bool), np.zeros(tokens.shape, bool)
    for sequence in sequences:
        width = tokens.shape[1] - len(sequence) + 1
        if width <= 0:
            continue
        here = inside[:, :width] & ~covered[:, :width]
        for shift, piece in enumerate(sequence):
            here &= tokens[:, shift : shift + width] == piece
        starts[:, :width] |= here
        for shift in range(len(sequence)):
            covered[:, shift : shift + width] |= here
    return starts, covered


def _second_by_ids(segment_ids: NDArray[np.int32], inside: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(B, T) 1 from the first place on where segment ids change."""
    change = np.zeros(segment_ids.shape, bool)
    change[:, 1:] = (segment_ids[:, 1:] != segment_ids[:, :-1]) & inside[:, 1:]
    return np.minimum(np.cumsum(change, axis=1), 1)
