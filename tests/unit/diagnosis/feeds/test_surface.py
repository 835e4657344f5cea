"""Rows of signs that are cut otherwise than in their document are the same text; words cut otherwise are not."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lossary.diagnosis.feeds.surface import Surface

PIECES = [
    "<pad>",
    "<unk>",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "▁",
    "▁|",
    "-",
    "--",
    "+--",
    "--+",
    "▁tab",
    "le",
    "▁table",
    "=",
    "a",
]
NUMBER = {piece: number for number, piece in enumerate(PIECES)}


def ids(*pieces: str) -> Any:
    return np.array([NUMBER[piece] for piece in pieces], np.int32)


def surface(*pieces: str) -> Surface:
    document = ids(*pieces)
    corpus: Any = SimpleNamespace(ids=document, start=np.array([0]), stop=np.array([len(document)]))
    tokenizer: Any = SimpleNamespace(pieces=PIECES, vocabulary_size=len(PIECES))
    return Surface(corpus, tokenizer)


DOCUMENT = ("▁table", "▁|", "▁", "+--", "--", "--+", "▁|", "<unk>", "▁tab", "le", "=", "=")


@pytest.mark.parametrize(
    "segment",
    [
        DOCUMENT,
        ("▁table", "▁|", "▁", "+--", "-", "-"),  # ends within the row
        ("--", "--", "--+", "▁|", "<unk>"),  # starts within the row, where the document has another cut
        ("▁|", "▁", "+--", "-", "-", "--+"),
        ("▁tab", "le", "=", "="),
    ],
)
def test_the_same_text_in_other_pieces_is_the_same(segment: tuple[str, ...]) -> None:
    assert surface(*DOCUMENT).holds(ids(*segment), 0)


@pytest.mark.parametrize(
    "segment",
    [
        ("▁tab", "le", "▁|", "▁"),  # a word cut otherwise
        ("▁table", "▁|", "▁", "+--", "--", "--", "--+"),  # a longer row
        ("--+", "▁|", "▁tab"),  # a piece left out
        ("=", "=", "▁table"),
    ],
)
def test_other_text_is_not(segment: tuple[str, ...]) -> None:
    assert not surface(*DOCUMENT).holds(ids(*segment), 0)


def test_nothing_is_said_of_what_is_not_known() -> None:
    said = surface(*DOCUMENT)
    assert not said.holds(np.array([NUMBER["▁table"], -3], np.int32), 0)
    assert not said.holds(np.array([len(PIECES)], np.int32), 0)
    assert not said.holds(ids(), 0)
    assert not said.holds(ids("▁table"), -1)
