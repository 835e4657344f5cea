"""Vocabularies of SentencePiece models whose ids are the models' own: ALBERT's, DeBERTa's, Llama's and T5's.

sentencepiece_vocabulary(Path("spiece.model"), beside)
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import sentencepiece
from numpy.typing import NDArray

from lossary.errors import VocabularyError
from lossary.failures import reason
from lossary.files import digest_json
from lossary.protobuf import fields, read_varint, varint
from lossary.vocabulary.api import Encoded, Framed, Specials
from lossary.vocabulary.offsets import Ranges, Text, settled
from lossary.vocabulary.piece_texts import is_white, piece_text
from lossary.vocabulary.roles import Beside, configured_template, find_specials
from lossary.vocabulary.templates import BARE, Template, classic

__all__ = ["SentencePieceVocabulary", "model_digest", "sentencepiece_vocabulary"]

# Fields of SentencePiece's ModelProto, and those of its TrainerSpec that change how text is cut, with their defaults.
# Source: google/sentencepiece, sentencepiece_model.proto.
_PIECES, _TRAINER, _NORMALISER, _DENORMALISER = 1, 2, 3, 5
_CUTTING = {3: b"\x01", 24: b"\x00", 35: b"\x00"}  # model_type, treat_whitespace_as_suffix, byte_fallback
_KIND, _CONTROL, _USER_DEFINED = 3, 3, 4  # a piece's field for its kind, and two kinds
# Tokenizers that number the pieces of their SentencePiece model anew.
_RENUMBERED = (
    *("XLMRoberta", "xlm-roberta", "Camembert", "camembert", "MBart", "mbart", "Barthez", "XGLM", "xglm", "Pegasus"),
    *("pegasus", "Nllb", "M2M100", "m2m_100", "Speech2Text", "Plbart", "plbart"),
)


@dataclass(frozen=True, kw_only=True)
class SentencePieceVocabulary:
    """A SentencePiece model; fulfils `Vocabulary`."""

    digest: str
    title: str
    specials: Specials
    kind: Literal["masked", "causal"]
    template: Template
    pieces: list[str]
    is_special: NDArray[np.bool_]
    processor: sentencepiece.SentencePieceProcessor

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
        return is_white(self.pieces, "metaspace")

    @cached_property
    def texts(self) -> list[str]:
        """(V,) pieces for people: white space as such."""
        return [
            piece if special else piece_text(piece, "metaspace")
            for piece, special in zip(self.pieces, self.is_special, strict=True)
        ]

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """The pieces of each text and their bytes; one thread, since callers are parallel themselves."""
        found = self.processor.encode(list(texts), return_type="offset_mapping", return_bytes=True, num_threads=1)
        return [self._encoded(text, one["ids"], one["offsets"]) for text, one in zip(texts, found, strict=True)]

    def _encoded(self, text: str, ids: list[int], offsets: list[tuple[int, int]]) -> Encoded:
        kept, places = np.array(ids, np.int32), np.array(offsets, np.int32).reshape(-1, 2)
        ranges = settled(Text(text), Ranges(places[:, 0], places[:, 1]), self._is_white[kept])
        return Encoded(kept, ranges.begin, ranges.end)


def sentencepiece_vocabulary(path: Path, beside: Beside) -> SentencePieceVocabulary:
    """Opens a model. VocabularyError if it is none, or a tokenizer beside it gives its pieces other ids."""
    if path.name == "sentencepiece.bpe.model" or beside.kind.startswith(_RENUMBERED):
        what = beside.kind or "XLM-R and its kin"
        hint = "Open its tokenizer.json; transformers writes one: AutoTokenizer.from_pretrained(…).save_pretrained(…)."
        raise VocabularyError(f"{what} number the pieces of this model anew", where=str(path), hint=hint)
    try:
        content = path.read_bytes()
        if not content:
            # SentencePiece takes nothing for a model, and complains of it on standard error later.
            raise RuntimeError("empty")
        processor = sentencepiece.SentencePieceProcessor(model_proto=content)
    except OSError as error:
        raise VocabularyError(f"not readable: {reason(error)}", where=str(path)) from None
    except RuntimeError:
        hint = "Expected the file of a SentencePiece model, as spiece.model. Is it cut short?"
        raise VocabularyError("no SentencePiece model", where=str(path), hint=hint) from None
    own = range(processor.vocab_size())
    pieces = list(processor.id_to_piece(list(own)))
    controls = {n for n in own if processor.is_control(n) or processor.is_unknown(n) or processor.is_unused(n)}
    ids = {name: number for number, name in enumerate(pieces)}
    added = {name: number for name, number in beside.added.items() if name not in ids and number >= len(pieces)}
    pieces += [""] * (1 + max(added.values(), default=len(pieces) - 1) - len(pieces))
    for name, number in added.items():
        pieces[number] = name
    usual = {pieces[number]: number for number in controls} | added
    specials = find_specials(ids | added, usual, beside, BARE)
    numbers = asdict(specials)
    for role, number in (("pad", processor.pad_id()), ("unk", processor.unk_id())):
        numbers[role] = number if number >= 0 and numbers[role] is None else numbers[role]
    specials = Specials(**numbers)
    template = _template(specials, beside)
    special = controls | {number for number in numbers.values() if number is not None} | set(added.values())
    is_special = np.array([not piece for piece in pieces])
    is_special[list(special)] = True
    return SentencePieceVocabulary(
        digest=digest_json([_does(content, path), numbers, sorted(added.items()), template.single, template.pair]),
        title=f"SentencePiece {len(pieces):,}",
        specials=specials,
        kind="causal" if specials.mask is None else "masked",
        template=template,
        pieces=pieces,
        is_special=is_special,
        processor=_without(processor, content, special),
    )


def _template(specials: Specials, beside: Beside) -> Template:
    cls, sep = specials.cls, specials.sep
    found = classic(cls, sep) if cls is not None and sep is not None and specials.mask is not None else BARE
    return configured_template(found, specials, beside)


def _does(content: bytes, path: Path) -> str:
    try:
        return model_digest(content)
    except ValueError as error:
        raise VocabularyError(f"not readable as a SentencePiece model: {error}", where=str(path)) from None


def model_digest(model: bytes) -> str:
    """The digest of what a SentencePiece model does. ValueError if it is none."""
    kept = {_PIECES: b"", _NORMALISER: b"", _DENORMALISER: b""}
    cutting = dict(_CUTTING)
    for number, whole, content in fields(model):
        if number in kept:
            kept[number] += whole
        elif number == _TRAINER:
            cutting |= {field: value for field, _, value in fields(content) if field in cutting}
    if not kept[_PIECES]:
        raise ValueError("it has no pieces")
    return digest_json([part.hex() for part in (*kept.values(), *cutting.values())])


def _without(
    processor: sentencepiece.SentencePieceProcessor, content: bytes, special: set[int]
) -> sentencepiece.SentencePieceProcessor:
    """The same model in which no text yields a special piece: those that a user defined become control pieces."""
    parts, changed, at = [], False, 0
    for number, whole, inner in fields(content):
        if number == _PIECES:
            if at in special and _kind(inner) == _USER_DEFINED:
                inner = b"".join(part for field, part, _ in fields(inner) if field != _KIND)
                inner += varint(_KIND << 3) + varint(_CONTROL)
                whole, changed = varint(_PIECES << 3 | 2) + varint(len(inner)) + inner, True
            at += 1
        parts.append(whole)
    return sentencepiece.SentencePieceProcessor(model_proto=b"".join(parts)) if changed else processor


def _kind(piece: bytes) -> int:
    return next((read_varint(value, 0)[0] for field, _, value in fields(piece) if field == _KIND), 1)
