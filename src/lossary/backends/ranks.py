"""Processes of one launch that do something together, and what each says to the others.

said = ranks.exchange(Word.HERE, b"what rank 0 is handed")
"""

from enum import IntEnum
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from lossary.errors import RunError

__all__ = ["OneRank", "OtherFailed", "Ranks", "Said", "Word", "raise_failed"]


class Word(IntEnum):
    """What a rank says in an exchange."""

    HERE = 0
    ENDED = 1
    FAILED = 2


class Said(NamedTuple):
    """What a rank said, and for rank 0 what it handed over."""

    word: Word
    payload: bytes


class Ranks(Protocol):
    """The processes of one launch."""

    rank: int
    size: int

    def exchange(self, word: Word, payload: bytes = b"") -> list[Said]:
        """What every rank says now, in their order; payloads are empty but on rank 0. All ranks call it alike."""
        ...

    def add(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The sum over ranks of an array that each has in one shape: the same bits on all. All ranks call it alike."""
        ...

    def add_tensors(self, tensors: list[Any]) -> None:
        """Sums tensors of the ranks' framework over ranks, in place. All ranks call it alike."""
        ...


class OneRank:
    """A process of its own."""

    rank = 0
    size = 1

    def exchange(self, word: Word, payload: bytes = b"") -> list[Said]:
        return [Said(word, payload)]

    def add(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return values

    def add_tensors(self, tensors: list[Any]) -> None:
        del tensors


class OtherFailed(RunError):
    """Another rank failed, and says why itself."""


def raise_failed(said: list[Said]) -> None:
    """OtherFailed if a rank said that it failed."""
    failed = [str(rank) for rank, other in enumerate(said) if other.word is Word.FAILED]
    if failed:
        raise OtherFailed(f"scoring failed on rank {', '.join(failed)}, which says why; nothing was stored")
