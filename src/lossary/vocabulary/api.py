"""What lossary asks of a vocabulary, whoever made it.

vocabulary = open_vocabulary(Path("model/tokenizer.json"))
encoded = vocabulary.encode(["first text", "second text"])
framed = vocabulary.frame(encoded[0].ids, encoded[1].ids)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Encoded", "Framed", "Specials", "Vocabulary", "folds_case"]

_CASES = ["Paris", "THE", "And", "Of", "IN", "A"]


@dataclass(frozen=True, kw_only=True)
class Specials:
    """Special ids by role; None where the vocabulary has none."""

    pad: int | None = None
    unk: int | None = None
    cls: int | None = None
    sep: int | None = None
    mask: int | None = None
    bos: int | None = None
    eos: int | None = None


class Encoded(NamedTuple):
    """Pieces (n,) of one text, none of them special, and the bytes of its UTF-8 that each stands for.

    `begin` and `end` never descend. White space may belong to the piece after it, or to none; pieces of one character
    that takes several (a byte each) may all have its range.
    """

    ids: NDArray[np.int32]
    begin: NDArray[np.int32]
    end: NDArray[np.int32]


class Framed(NamedTuple):
    """An input with its special pieces, (n,) each."""

    ids: NDArray[np.int32]
    type_ids: NDArray[np.int32]
    first: int  # where the first segment begins
    second: int  # where the second one begins; len(ids) if there is none


class Vocabulary(Protocol):
    """A tokenizer with its special ids by role, its template, and byte offsets of its pieces."""

    @property
    def digest(self) -> str:
        """Of what it does: pieces, how text is cut, specials, template."""
        ...

    @property
    def title(self) -> str:
        """For people: "WordPiece 30,522"."""
        ...

    @property
    def size(self) -> int:
        """How many ids there are, V."""
        ...

    @property
    def specials(self) -> Specials:
        """Special ids by role."""
        ...

    @property
    def kind(self) -> Literal["masked", "causal"]:
        """Whether it has a piece that hides others."""
        ...

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """The pieces of each text."""
        ...

    def frame(self, first: NDArray[np.int32], second: NDArray[np.int32] | None = None) -> Framed:
        """One or two segments as the template has them."""
        ...

    @property
    def num_added(self) -> tuple[int, int]:
        """How many special pieces the template adds to one segment, and to two."""
        ...

    @property
    def pieces(self) -> list[str]:
        """(V,) the text of each piece as the vocabulary lists it."""
        ...

    @property
    def is_special(self) -> NDArray[np.bool_]:
        """(V,) ids that no text yields, and that no random replacement draws."""
        ...


def folds_case(vocabulary: Vocabulary) -> bool:
    """Whether capitals are lost in it: models are then not asked for them, and their bits a byte are fewer."""
    given, lowered = (
        [encoded.ids.tolist() for encoded in vocabulary.encode(words)]
        for words in (_CASES, [word.lower() for word in _CASES])
    )
    # A piece for everything unknown says nothing of case.
    known = [at for at, ids in enumerate(lowered) if vocabulary.specials.unk not in ids]
    return bool(known) and all(given[at] == lowered[at] for at in known)
