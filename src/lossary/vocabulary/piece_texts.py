"""What pieces stand for, from how a vocabulary spells them: `Ġthe`, `▁the`, `##ing`, `<0xE4>`.

byte_counts(pieces, spelling)          # (V,) UTF-8 bytes
is_white(pieces, spelling)             # (V,) white space alone
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["Spelling", "byte_counts", "is_white", "piece_text"]

# How white space and bytes are spelled: GPT-2's letters for bytes, SentencePiece's ▁, BERT's ## inside words, or as is.
Spelling = Literal["bytes", "metaspace", "wordpiece", "plain"]
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@lru_cache(maxsize=1)
def _byte_letters() -> dict[str, int]:
    """The letter of each byte. Source: openai/gpt-2, encoder.py: printable ones as they are, others from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [value for value in range(256) if value not in printable]
    return {chr(value): value for value in printable} | {chr(256 + n): value for n, value in enumerate(others)}


def _bytes_of(piece: str, spelling: Spelling) -> bytes:
    if spelling == "bytes":
        letters = _byte_letters()
        if all(letter in letters for letter in piece):
            return bytes(letters[letter] for letter in piece)
    elif spelling == "metaspace":
        if found := _BYTE.fullmatch(piece):
            return bytes([int(found[1], 16)])
        return piece.replace("▁", " ").encode()
    elif spelling == "wordpiece" and piece.startswith("##"):
        return piece[2:].encode()
    return piece.encode()


def piece_text(piece: str, spelling: Spelling) -> str:
    """A piece for people, a space in front where a word starts; bytes that are no whole character as �."""
    if spelling == "wordpiece" and not piece.startswith("##"):
        return f" {piece}"
    return _bytes_of(piece, spelling).decode(errors="replace")


def byte_counts(pieces: Sequence[str], spelling: Spelling) -> NDArray[np.int32]:
    """(V,) UTF-8 bytes that each piece stands for, without white space around them."""
    return np.array([len(_bytes_of(piece, spelling).strip()) for piece in pieces], np.int32)


def is_white(pieces: Sequence[str], spelling: Spelling) -> NDArray[np.bool_]:
    """(V,) pieces of white space alone."""
    return np.array([_bytes_of(piece, spelling).decode(errors="replace").isspace() for piece in pieces], np.bool_)
