"""Variants of a SentencePiece model: the same pieces with another normalisation.

    encode = variant(path, rule="nmt_nfkc", leading_space=False)
    encode(["Two Words"])

A model file is a protocol buffer. Of it the normaliser's settings are replaced byte by byte, so that no package for
protocol buffers is needed; everything else stays as it is.

Source: google/sentencepiece, sentencepiece_model.proto (NormalizerSpec: field 3 of ModelProto).
"""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import sentencepiece

from lossary.protobuf import fields, varint

__all__ = ["RULES", "Encode", "normalised_like", "variant"]

Encode = Callable[[list[str]], list[list[int]]]
RULES = ("nmt_nfkc", "nmt_nfkc_cf", "nfkc", "nfkc_cf", "identity")
_NORMALISER = 3
_CHARSMAP, _DUMMY_PREFIX, _EXTRA_SPACE, _RULES_TEXT = 2, 3, 4, 6
_SPACE = "▁"


@lru_cache(maxsize=32)
def variant(path: Path, *, rule: str | None = None, leading_space: bool = True, keep_spaces: bool = False) -> Encode:
    """The pieces of texts by a model whose normaliser follows another rule (its own if None).

    Without `leading_space` no space is put in front of a text; with `keep_spaces` spaces in a row stay.
    """
    dropped = {_DUMMY_PREFIX, _EXTRA_SPACE} | ({_CHARSMAP, _RULES_TEXT} if rule is not None else set())
    added = _flag(_DUMMY_PREFIX, leading_space) + _flag(_EXTRA_SPACE, not keep_spaces)
    processor = sentencepiece.SentencePieceProcessor(model_proto=_with_normaliser(path.read_bytes(), dropped, added))
    before = _rule(rule)

    def encode(texts: list[str]) -> list[list[int]]:
        return list(processor.encode([before(text) for text in texts], out_type=int, num_threads=1))

    return encode


def normalised_like(path: Path) -> Callable[[str], str]:
    """What a model makes of a text before it is cut into pieces."""
    processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
    return lambda text: str(processor.normalize(text)).replace(_SPACE, " ").strip()


def _rule(rule: str | None) -> Callable[[str], str]:
    if rule is None or rule == "identity":
        return lambda text: text
    normaliser = sentencepiece.SentencePieceNormalizer(
        rule_name=rule, add_dummy_prefix=False, escape_whitespaces=False, remove_extra_whitespaces=False
    )
    return lambda text: str(normaliser.normalize(text))


def _with_normaliser(model: bytes, dropped: set[int], added: bytes) -> bytes:
    """The model with some fields of its normaliser dropped and others added."""
    result, inner = b"", b""
    for number, raw, content in fields(model):
        if number == _NORMALISER:
            inner += b"".join(part for field, part, _ in fields(content) if field not in dropped)
        else:
            result += raw
    inner += added
    return result + varint(_NORMALISER << 3 | 2) + varint(len(inner)) + inner


def _flag(number: int, value: bool) -> bytes:
    return varint(number << 3) + varint(int(value))
