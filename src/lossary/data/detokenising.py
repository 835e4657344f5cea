"""Text of tokens, by the tokenizer that made them: only where that gives back the very text that there was.

    tokenizer = open_detokeniser("gpt.json", "", "study.toml: $.datasets.web.tokenizer")
    tokenizer.texts([[17, 4, 2]])       # a text, or the reason why it cannot be told

A tokenizer that changes text (lower case, NFKC, blanks that it drops) is refused: texts that it makes of tokens would
look right, and not be those of the corpus. A document has to be made into its own tokens again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import sentencepiece

from lossary.errors import MissingPackage, SourceError, StudyError

__all__ = ["Detokeniser", "Lost", "open_detokeniser"]

# What normalisers and decoders that are not exact change: case, forms of letters, blanks, and those around marks.
_PROBES = (
    "The End",
    "a  b",
    " a",
    "a ",
    "a\tb",
    "a\nb",
    "a\r\nb",
    "a\u00a0b",
    "a , b . c",
    "do n't",
    "e\u0301",
    "\u00e9",
    "\ufb01n",
    "\uff21",
    "\u212b",
    "a\u200bb",
    "“a”",
    "…",
    "東京 に",
)


@dataclass(frozen=True)
class Lost:
    """Why the text of a document cannot be told."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class Detokeniser:
    """A tokenizer that keeps text as it is."""

    size: int
    unknown: int | None
    special: frozenset[int]
    encode: Callable[[list[str]], list[list[int]]]
    decode: Callable[[list[list[int]]], list[str]]

    def texts(self, documents: Sequence[list[int]], *, first: int, where: str) -> list[str | Lost]:
        """The text of each document. SourceError, with its number counted from `first`, for an id that is no piece."""
        plain = []
        for number, ids in enumerate(documents, first):
            odd = next((i for i in ids if not 0 <= i < self.size), None)
            if odd is not None:
                raise SourceError(
                    f"the document {number:,} has the token {odd:,}; the tokenizer has {self.size:,} pieces",
                    where=where,
                    hint="Is it the tokenizer that the file was made with?",
                )
            plain.append(self._without_ends(ids))
        texts = self.decode(plain)
        again = self.encode(texts)
        return [self._judged(*found) for found in zip(plain, texts, again, strict=True)]

    def _without_ends(self, ids: list[int]) -> list[int]:
        """A document without the special token that it may begin with, and that it may end with."""
        start = int(bool(ids) and ids[0] in self.special)
        end = len(ids) - int(len(ids) > start and ids[-1] in self.special)
        return ids[start:end]

    def _judged(self, ids: list[int], text: str, again: list[int]) -> str | Lost:
        if self.unknown is not None and self.unknown in ids:
            return Lost("it holds unknown tokens, whose text is lost")
        if not self.special.isdisjoint(ids):
            return Lost("a special token stands inside of it")
        return text if ids == again else Lost("its tokens are not those that the tokenizer makes of its text")


@lru_cache(maxsize=4)
def open_detokeniser(path: str, stamp: str, where: str) -> Detokeniser:
    """A SentencePiece model or a tokenizer.json; `stamp` tells one file of a name from the next.

    Raises StudyError if it is neither, or does not keep text as it is.
    """
    del stamp
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise StudyError(f"{path} is not readable: {error.strerror}", where=where) from None
    found = _of_json(data, path, where) if data.lstrip()[:1] == b"{" else _of_sentencepiece(data, path, where)
    for probe in _PROBES:
        (ids,) = found.encode([probe])
        # What has no piece comes out as an unknown one, and costs the documents that hold it.
        if ids and (found.unknown is None or found.unknown not in ids):
            (text,) = found.decode([ids])
            if text != probe:
                raise StudyError(
                    f"{path} does not keep text as it is: {probe!r} comes back as {text!r}",
                    where=where,
                    hint="What its documents were cannot be told from their tokens. Name the text itself as a source.",
                )
    return found


def _of_sentencepiece(data: bytes, path: str, where: str) -> Detokeniser:
    try:
        model = sentencepiece.SentencePieceProcessor(model_proto=data)
    except (RuntimeError, OSError):
        hint = "Expected a SentencePiece model, as tokenizer.model, or a tokenizer.json."
        raise StudyError(f"{path} is no tokenizer", where=where, hint=hint) from None
    size = model.vocab_size()
    return Detokeniser(
        size=size,
        unknown=model.unk_id(),
        special=frozenset(i for i in range(size) if model.is_control(i)),
        encode=lambda texts: model.encode(texts, num_threads=1),
        decode=lambda ids: model.decode(ids, num_threads=1) if ids else [],
    )


def _of_json(data: bytes, path: str, where: str) -> Detokeniser:
    try:
        import tokenizers
    except ImportError:
        raise MissingPackage(
            "a tokenizer.json needs the package tokenizers, which is not installed",
            hint='Install: pip install "lossary[tokenizers]"',
        ) from None
    try:
        model: Any = tokenizers.Tokenizer.from_buffer(data)
    except Exception as error:  # The library raises nothing more special.
        raise StudyError(f"{path} is no tokenizer.json: {str(error).splitlines()[0]}", where=where) from None
    model.no_padding()
    model.no_truncation()
    unknown = getattr(model.model, "unk_token", None)
    added = model.get_added_tokens_decoder()
    return Detokeniser(
        size=max(model.get_vocab(with_added_tokens=True).values(), default=-1) + 1,
        unknown=None if unknown is None else model.token_to_id(unknown),
        special=frozenset(i for i, token in added.items() if token.special and token.content != unknown),
        encode=lambda texts: [found.ids for found in model.encode_batch(texts, add_special_tokens=False)],
        decode=lambda ids: model.decode_batch(ids, skip_special_tokens=False),
    )
