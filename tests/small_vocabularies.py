"""Vocabularies of a few lines that fulfil lossary's protocol: bytes, characters, words, and pieces of two words."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lossary.files import digest_json
from lossary.vocabulary.api import Encoded, Framed, Specials

CUTS = {
    "bytes": None,
    "characters": r"\S",
    "words": r"\S+",
    "spaced words": r"\s*\S+",
    "two words": r"\S+(\s+\S+)?",
    "ASCII words": r"[!-~]+",
}


@dataclass(frozen=True)
class SmallVocabulary:
    """Cuts text by a rule of `CUTS`; a piece is known by its text, and those with another's number are its equals."""

    cut: str
    causal: bool = False
    bos: bool = False
    unknown: str = r"(?!)"  # pieces that it does not know
    size: int = 1009

    @property
    def digest(self) -> str:
        return digest_json([self.cut, self.causal, self.bos, self.unknown, self.size])

    @property
    def title(self) -> str:
        return f"{self.cut} {self.size:,}"

    @property
    def kind(self) -> Literal["masked", "causal"]:
        return "causal" if self.causal else "masked"

    @property
    def specials(self) -> Specials:
        if self.causal:
            return Specials(bos=4 if self.bos else None, unk=1)
        return Specials(pad=0, unk=1, cls=2, sep=3, mask=4)

    @property
    def num_added(self) -> tuple[int, int]:
        return (int(self.bos), int(self.bos)) if self.causal else (2, 3)

    @cached_property
    def pieces(self) -> list[str]:
        return [str(number) for number in range(self.size)]

    @cached_property
    def is_special(self) -> NDArray[np.bool_]:
        return np.arange(self.size) < 5

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        return [self._encoded(text) for text in texts]

    def _encoded(self, text: str) -> Encoded:
        data = text.encode()
        if self.cut == "bytes":
            places = [(at, at + 1) for at in range(len(data))]
        else:
            found = [match.span() for match in re.finditer(CUTS[self.cut] or "", text)]
            places = [(len(text[:a].encode()), len(text[:b].encode())) for a, b in found]
        ids = [self.id_of(data[a:b]) for a, b in places]
        begin, end = np.array(places, np.int32).reshape(-1, 2).T
        return Encoded(np.array(ids, np.int32), begin, end)

    def id_of(self, piece: bytes) -> int:
        if re.fullmatch(self.unknown, piece.decode(errors="replace"), re.DOTALL):
            return 1
        return 5 + int.from_bytes(piece, "big") % (self.size - 5)

    def frame(self, first: NDArray[np.int32], second: NDArray[np.int32] | None = None) -> Framed:
        if self.causal:
            front = np.full(int(self.bos), 4, np.int32)
            ids = np.concatenate([front, first, *([] if second is None else [second])])
            return Framed(ids, np.zeros(len(ids), np.int32), len(front), len(front) + len(first))
        parts = [[2], first, [3]] + ([] if second is None else [second, [3]])
        ids = np.concatenate([np.array(part, np.int32) for part in parts])
        types = np.zeros(len(ids), np.int32)
        types[len(first) + 2 :] = 1
        return Framed(ids, types, 1, len(first) + 2 if second is not None else len(ids))
