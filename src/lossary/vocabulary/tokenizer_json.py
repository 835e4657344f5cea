"""Vocabularies of the `tokenizers` library: any tokenizer.json, as the file says and not as its defaults would have it.

Truncation, padding and dropout of the file are left out. No text yields a special piece: the text tokenizer knows them
by names that no text holds, since the library would otherwise find them as added tokens or, `encode_special_tokens` or
not, as pieces of its model. One thread encodes: the library's own are set by environment variables, which are the
user's.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lossary.errors import MissingPackage, VocabularyError
from lossary.files import digest_json
from lossary.vocabulary.api import Encoded, Framed, Specials
from lossary.vocabulary.offsets import Ranges, Text, byte_ranges, settled
from lossary.vocabulary.piece_texts import Spelling, byte_counts, is_white, piece_text
from lossary.vocabulary.roles import Beside, configured_template, find_specials
from lossary.vocabulary.templates import Template, template_of

__all__ = ["JsonVocabulary", "json_vocabulary"]

# Texts whose offsets are worked on at once.
_TEXTS_AT_ONCE = 1024
_TITLES = {"WordPiece": "WordPiece", "BPE": "BPE", "Unigram": "Unigram", "WordLevel": "words"}


class Together(NamedTuple):
    """The pieces (N,) of several texts, their ranges in all of them with a line break between two."""

    text: Text
    ids: NDArray[np.int32]
    ranges: Ranges
    sizes: NDArray[np.int64]  # pieces of each text
    text_starts: NDArray[Any]  # where each text begins, in bytes

    @property
    def firsts(self) -> NDArray[np.int64]:
        """The first piece of each text that has one."""
        return (np.cumsum(self.sizes) - self.sizes)[self.sizes > 0]

    def apart(self) -> list[Encoded]:
        """Each text with ranges of its own."""
        stops = np.cumsum(self.sizes).tolist()
        return [
            Encoded(
                self.ids[start:stop],
                (self.ranges.begin[start:stop] - offset).astype(np.int32),
                (self.ranges.end[start:stop] - offset).astype(np.int32),
            )
            for start, stop, offset in zip([0, *stops[:-1]], stops, self.text_starts.tolist(), strict=True)
        ]


@dataclass(frozen=True, kw_only=True)
class JsonVocabulary:
    """A tokenizer.json; fulfils `Vocabulary`."""

    digest: str
    title: str
    specials: Specials
    kind: Literal["masked", "causal"]
    template: Template
    spelling: Spelling
    pieces: list[str]  # (V,); "" where no piece has the id
    is_special: NDArray[np.bool_]  # (V,)
    tokenizer: Any  # `tokenizers.Tokenizer` that knows no special piece by its name

    @property
    def size(self) -> int:
        return len(self.pieces)

    @property
    def num_added(self) -> tuple[int, int]:
        return self.template.num_added

    def frame(self, first: NDArray[np.int32], second: NDArray[np.int32] | None = None) -> Framed:
        """One or two segments as the template has them."""
        return self.template.frame(first, second)

    @cached_property
    def _is_white(self) -> NDArray[np.bool_]:
        return is_white(self.pieces, self.spelling)

    @cached_property
    def piece_bytes(self) -> NDArray[np.int32]:
        """(V,) UTF-8 bytes that each piece is spelled with, without white space; special ones 0, the unknown one 1."""
        sizes = np.where(self.is_special, 0, byte_counts(self.pieces, self.spelling)).astype(np.int32)
        if self.specials.unk is not None:
            sizes[self.specials.unk] = 1
        return sizes

    @cached_property
    def texts(self) -> list[str]:
        """(V,) pieces for people: white space as such, bytes that are no character as �."""
        return [
            piece if special else piece_text(piece, self.spelling)
            for piece, special in zip(self.pieces, self.is_special, strict=True)
        ]

    def is_blank(self, character: str) -> bool:
        """Whether a character is white space, or is nothing else to this vocabulary."""
        return character.isspace() or bool(self._is_white[self.encode([character])[0].ids].all())

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """The pieces of each text and their bytes."""
        result: list[Encoded] = []
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            result += self.encode_together(texts[start : start + _TEXTS_AT_ONCE]).apart()
        return result

    def encode_together(self, texts: Sequence[str]) -> Together:
        """The pieces of some texts, one after another."""
        found = [self.tokenizer.encode(text, add_special_tokens=False) for text in texts]
        ids = np.array([piece for one in found for piece in one.ids], np.int32)
        sizes = np.array([len(one) for one in found], np.int64)
        joined = Text("\n".join(texts))
        before = np.cumsum([0, *(len(text) + 1 for text in texts[:-1])])
        offsets = np.array([place for one in found for place in one.offsets], np.int32).reshape(-1, 2)
        offsets += np.repeat(before, sizes).astype(np.int32)[:, None]
        ranges = settled(joined, byte_ranges(joined, offsets), self._is_white[ids])
        starts = before if joined.is_ascii else joined.byte_starts[before]
        return Together(text=joined, ids=ids, ranges=ranges, sizes=sizes, text_starts=starts)


def json_vocabulary(value: dict[str, Any], beside: Beside, where: Path) -> JsonVocabulary:
    """The vocabulary of a tokenizer.json's content. VocabularyError says what is wrong with it."""
    library = _library()
    canonical = _canonical(value, library, where)
    ids = _ids(value, where)
    added = [token for token in canonical["added_tokens"] if token["special"]]
    try:
        template = template_of(canonical.get("post_processor"))
    except ValueError as error:
        raise VocabularyError(str(error), where=str(where)) from None
    taken = set(ids.values())
    everything = ids | {name: number for name, number in beside.added.items() if number not in taken}
    usual = {token["content"]: token["id"] for token in added} or ids
    specials = _with_unknown(find_specials(everything, usual, beside, template), canonical["model"], ids)
    template = configured_template(template, specials, beside)
    roles = {number for number in asdict(specials).values() if number is not None}
    special = roles | template.ids | {token["id"] for token in added}
    pieces = [""] * (1 + max(everything.values()))
    for name, number in everything.items():
        pieces[number] = name
    if special and max(special) >= len(pieces):
        raise VocabularyError(f"its template adds id {max(special)}, which no piece has", where=str(where))
    is_special = np.array([not piece for piece in pieces])
    is_special[list(special)] = True
    return JsonVocabulary(
        digest=_digest(canonical, specials, template),
        title=f"{_title(canonical)} {len(everything):,}",
        specials=specials,
        kind="causal" if specials.mask is None else "masked",
        template=template,
        spelling=_spelling(canonical),
        pieces=pieces,
        is_special=is_special,
        tokenizer=_text_tokenizer(canonical, special, library, where),
    )


def _library() -> ModuleType:
    try:
        import tokenizers
    except ImportError:
        raise MissingPackage(
            "a tokenizer.json needs the package tokenizers, which is not installed",
            hint='Install: pip install "lossary[tokenizers]"',
        ) from None
    return tokenizers


def _canonical(value: dict[str, Any], library: ModuleType, where: Path) -> dict[str, Any]:
    """The file as the library understands it; its forms of other years become today's."""
    if not isinstance(value.get("model"), dict):
        hint = "Expected the file that `tokenizers` writes, as transformers' save_pretrained does."
        raise VocabularyError("no tokenizer.json: it has no `model`", where=str(where), hint=hint)
    kept = value | {"truncation": None, "padding": None}
    try:
        found: dict[str, Any] = json.loads(library.Tokenizer.from_str(json.dumps(kept)).to_str())
    except Exception as error:  # The library raises no other class.
        hint = f"Was it written by a newer version? Here is tokenizers {library.__version__}."
        raise VocabularyError(f"no tokenizer.json that it can read: {error}", where=str(where), hint=hint) from None
    if isinstance(found["model"].get("dropout"), float):
        found["model"]["dropout"] = None
    _check_added(value, found, where)
    return found


def _check_added(value: Mapping[str, Any], found: Mapping[str, Any], where: Path) -> None:
    """The library numbers added tokens anew where ids before them are missing: a model's rows would be others."""
    now = {token["content"]: token["id"] for token in found["added_tokens"]}
    for token in value.get("added_tokens") or []:
        if now.get(token["content"]) != token["id"]:
            raise VocabularyError(
                f"the added token {token['content']!r} has id {token['id']}, and ids before it have no piece: "
                f"the tokenizers library reads it as {now.get(token['content'])}",
                where=f"{where}: $.added_tokens",
                hint="Add the missing pieces, so that ids have no hole in front of added tokens.",
            )


def _ids(value: Mapping[str, Any], where: Path) -> dict[str, int]:
    """Pieces of the model and added tokens, with their ids. VocabularyError if two have the same one."""
    listed = value["model"].get("vocab") or {}
    rows = list(listed.items()) if isinstance(listed, dict) else [(row[0], n) for n, row in enumerate(listed)]
    rows += [(token["content"], token["id"]) for token in value.get("added_tokens") or []]
    found: dict[str, int] = {}
    by_id: dict[int, str] = {}
    for name, number in rows:
        if found.setdefault(name, number) != number:
            raise VocabularyError(f"the piece {name!r} has the ids {found[name]} and {number}", where=str(where))
        if by_id.setdefault(number, name) != name:
            raise VocabularyError(f"id {number} is {by_id[number]!r} and {name!r}", where=str(where))
    if not found:
        raise VocabularyError("its vocabulary has no piece", where=str(where))
    return found


def _with_unknown(specials: Specials, model: Mapping[str, Any], ids: Mapping[str, int]) -> Specials:
    """The unknown piece is what the model makes of unknown characters, whatever other files call it."""
    name, number = model.get("unk_token"), model.get("unk_id")
    found = ids.get(name) if isinstance(name, str) else number
    return specials if found is None else Specials(**(asdict(specials) | {"unk": int(found)}))


def _text_tokenizer(canonical: Mapping[str, Any], special: set[int], library: ModuleType, where: Path) -> Any:
    """A tokenizer of the same ids in which no special piece has a name that a text may hold."""
    # Characters that Unicode keeps free, around something of this file.
    mark = digest_json(canonical["added_tokens"])[-16:]

    def hidden(number: int) -> str:
        return f"\U0010fffe{mark}:{number}\U0010ffff"

    model = dict(canonical["model"])
    vocabulary = model["vocab"]
    if isinstance(vocabulary, dict):
        gone = {name: hidden(number) for name, number in vocabulary.items() if number in special}
        model["vocab"] = {gone.get(name, name): number for name, number in vocabulary.items()}
        if isinstance(model.get("unk_token"), str):
            model["unk_token"] = gone.get(model["unk_token"], model["unk_token"])
        if model.get("merges"):
            model["merges"] = [pair for pair in model["merges"] if not {*pair, "".join(pair)} & gone.keys()]
    else:
        model["vocab"] = [[hidden(n) if n in special else row[0], *row[1:]] for n, row in enumerate(vocabulary)]
    added = [
        token | {"content": hidden(token["id"])} if token["id"] in special else token
        for token in canonical["added_tokens"]
    ]
    value = dict(canonical) | {"model": model, "added_tokens": added, "post_processor": None}
    try:
        return library.Tokenizer.from_str(json.dumps(value))
    except Exception as error:  # The library raises no other class.
        raise VocabularyError(f"its special pieces cannot be told from text: {error}", where=str(where)) from None


def _digest(canonical: Mapping[str, Any], specials: Specials, template: Template) -> str:
    """Of all that decides which ids a text gets; options of the model that are off count as not there."""
    model = {key: value for key, value in canonical["model"].items() if value not in (None, False)}
    added = sorted(canonical["added_tokens"], key=lambda token: int(token["id"]))
    parts = [canonical.get("normalizer"), canonical.get("pre_tokenizer"), added, asdict(specials)]
    return digest_json([model, *parts, template.single, template.pair])


def _kinds(part: Any) -> set[str]:
    """Types of a normaliser or pre-tokenizer and of its parts."""
    if not isinstance(part, Mapping):
        return set()
    inner = [*(part.get("normalizers") or []), *(part.get("pretokenizers") or [])]
    return {str(part.get("type"))}.union(*map(_kinds, inner))


def _spelling(canonical: Mapping[str, Any]) -> Spelling:
    normaliser, splitter = canonical.get("normalizer"), canonical.get("pre_tokenizer")
    if "ByteLevel" in _kinds(normaliser) | _kinds(splitter):
        return "bytes"
    if canonical["model"].get("type") == "WordPiece":
        return "wordpiece"
    # Llama's files replace spaces in the normaliser.
    if "Metaspace" in _kinds(splitter) or "▁" in json.dumps(normaliser, ensure_ascii=False):
        return "metaspace"
    return "metaspace" if canonical["model"].get("byte_fallback") else "plain"


def _title(canonical: Mapping[str, Any]) -> str:
    kind = str(canonical["model"].get("type"))
    return f"byte-level {kind}" if _spelling(canonical) == "bytes" else _TITLES.get(kind, kind)
