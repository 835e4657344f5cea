"""The tokenizer: SentencePiece unigram with ALBERT's special pieces, trained on the mixture, or one taken as it is.

    tokenizer = open_tokenizer(folder)
    tokenizer.encode(["first line", "second line"])      # two lists of ids

Special ids of SentencePiece models: <pad> 0, <unk> 1, [CLS] 2, [SEP] 3, [MASK] 4. They are control symbols: no text
yields them. A tokenizer.json has its own (data/json_tokenizer.py); who reads a study asks its tokenizer.
Source: Kudo: Subword regularization (ACL 2018); google-research/albert's vocabulary for the special ids.
"""

import io
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import sentencepiece
from numpy.typing import NDArray

from lossary.data.json_tokenizer import CutLines, install_json, json_file, json_request, open_json
from lossary.errors import DataError, LossaryError, ShardError, StudyError
from lossary.files import digest_file, read_json, write_directory_atomic, write_json
from lossary.folder import StudyFolder
from lossary.vocabulary.api import Specials
from lossary.vocabulary.open import TOKENIZER_JSON
from lossary.vocabulary.templates import Template, classic

__all__ = [
    "CLS",
    "FIRST_PIECE",
    "MASK",
    "PAD",
    "SEP",
    "UNK",
    "StudyTokenizer",
    "TokenizerModel",
    "VocabularyTooLarge",
    "install_model",
    "model_digest",
    "model_fault",
    "named_model",
    "open_tokenizer",
    "train_model",
]

PAD, UNK, CLS, SEP, MASK = range(5)
FIRST_PIECE = 5
_SPECIALS = {PAD: "<pad>", UNK: "<unk>", CLS: "[CLS]", SEP: "[SEP]", MASK: "[MASK]"}
_WORD_START = "▁"
_TERMINAL = frozenset(".!?…。！？")
# Closing quotes and brackets may stand between the full stop and the next word.
_CLOSING = "\"'”’»)]}"
MODEL = "spiece.model"
MODELS = (MODEL, TOKENIZER_JSON)  # what a study's tokenizer may be
# Pieces that training begins with and thins out: 30 for each one wanted give as short an encoding as SentencePiece's
# own million, and a small vocabulary in less than half the time.
_SEED_PIECES = 30
_SEED_BOUNDS = (20_000, 1_000_000)


class StudyTokenizer(Protocol):
    """What a study's data is made and read with."""

    @property
    def digest(self) -> str:
        """Of what it does."""
        ...

    @property
    def path(self) -> Path:
        """Its file; `files` are all that a checkpoint needs of it."""
        ...

    @property
    def files(self) -> list[Path]: ...

    @property
    def vocabulary_size(self) -> int: ...

    @property
    def specials(self) -> Specials: ...

    @property
    def template(self) -> Template: ...

    @property
    def pieces(self) -> list[str]:
        """(V,) as the vocabulary lists them; `texts` are for people, with a space where a piece spells one."""
        ...

    @property
    def texts(self) -> list[str]: ...

    @property
    def ordinary(self) -> NDArray[np.int32]:
        """Pieces that texts are made of, ascending: those that random replacement draws."""
        ...

    @property
    def is_word_start(self) -> NDArray[np.bool_] | None:
        """(V,) pieces that start a word; None where the white space in front of them says so."""
        ...

    @property
    def piece_bytes(self) -> NDArray[np.int32]:
        """(V,) UTF-8 bytes of each piece, the space in front of a word among them if `counts_spaces`; specials 0."""
        ...

    @property
    def counts_spaces(self) -> bool: ...

    def encode(self, lines: list[str]) -> list[NDArray[np.int32]]:
        """The pieces of each line."""
        ...

    def cut(self, lines: list[str]) -> CutLines:
        """The pieces of lines, with words and sentences."""
        ...

    def places(self, lines: Sequence[bytes]) -> list[tuple[NDArray[np.int32], NDArray[np.int64]]]:
        """The pieces (n,) of each line, given as UTF-8, and the bytes of it (n, 2) that each is from."""
        ...

    def is_blank(self, character: str) -> bool:
        """Whether a character is white space, or is nothing else to this tokenizer."""
        ...

    def decode(self, ids: list[int]) -> str:
        """Text of pieces."""
        ...


@dataclass(frozen=True)
class TokenizerModel:
    """A SentencePiece model and the tables that examples are made with."""

    path: Path
    digest: str

    specials = Specials(pad=PAD, unk=UNK, cls=CLS, sep=SEP, mask=MASK)
    template = classic(CLS, SEP)
    counts_spaces = True

    @property
    def files(self) -> list[Path]:
        return [self.path]

    @property
    def processor(self) -> sentencepiece.SentencePieceProcessor:
        return _processor(self.path, self.digest)

    @property
    def vocabulary_size(self) -> int:
        return int(self.processor.vocab_size())

    @cached_property
    def pieces(self) -> list[str]:
        return list(self.processor.id_to_piece(list(range(self.vocabulary_size))))

    @cached_property
    def is_word_start(self) -> NDArray[np.bool_]:
        """(V,) pieces that start a word."""
        return np.array([piece.startswith(_WORD_START) for piece in self.pieces])

    @cached_property
    def ends_sentence(self) -> NDArray[np.bool_]:
        """(V,) pieces that end a sentence if a word starts after them."""
        stripped = [piece.rstrip(_CLOSING) for piece in self.pieces]
        return np.array([bool(piece) and piece[-1] in _TERMINAL for piece in stripped])

    @cached_property
    def piece_bytes(self) -> NDArray[np.int32]:
        """(V,) UTF-8 bytes of each piece, a word start counted as the space it stands for; specials 0."""
        sizes = [len(piece.replace(_WORD_START, " ").encode()) for piece in self.pieces]
        sizes[:FIRST_PIECE] = [0, 1, 0, 0, 0]
        return np.array(sizes, np.int32)

    @cached_property
    def texts(self) -> list[str]:
        """(V,) the text of every piece; one that starts a word begins with a space."""
        return [piece.replace(_WORD_START, " ") for piece in self.pieces]

    @cached_property
    def ordinary(self) -> NDArray[np.int32]:
        """Pieces that texts are made of."""
        return np.arange(FIRST_PIECE, self.vocabulary_size, dtype=np.int32)

    def encode(self, lines: list[str]) -> list[NDArray[np.int32]]:
        """The pieces of each line; one thread, since callers are parallel themselves."""
        return list(self.processor.encode(lines, return_type="numpy", num_threads=1))

    def cut(self, lines: list[str]) -> CutLines:
        """The pieces of lines, with sentences; words are told by pieces."""
        kind = np.uint16 if self.vocabulary_size <= 1 << 16 else np.int32
        encoded = self.encode(lines)
        ids = np.concatenate(encoded).astype(kind)
        line_ends = np.cumsum(np.fromiter(map(len, encoded), np.int64, len(encoded)))
        ends_here = np.zeros(len(ids) + 1, np.bool_)
        ends_here[1:-1] = self.ends_sentence[ids[:-1]] & self.is_word_start[ids[1:]]
        ends_here[line_ends] = True
        ends_here[0] = False  # an empty first line
        return CutLines(ids=ids, line_ends=line_ends, sentence_ends=np.flatnonzero(ends_here), starts=None)

    def places(self, lines: Sequence[bytes]) -> list[tuple[NDArray[np.int32], NDArray[np.int64]]]:
        """The pieces (n,) of each line, given as UTF-8, and the bytes of it (n, 2) that each is from.

        Of several pieces that one character is normalised to, the last has its bytes, the others none.
        """
        found = self.processor.encode(list(lines), return_type="offset_mapping", num_threads=1)
        return [(np.array(one["ids"], np.int32), np.array(one["offsets"], np.int64).reshape(-1, 2)) for one in found]

    def is_blank(self, character: str) -> bool:
        """Whether a character is white space, or is nothing else to this tokenizer."""
        return character.isspace() or not self.processor.normalize(character).strip(_WORD_START)

    def decode(self, ids: list[int]) -> str:
        """Text of pieces; special ones are written as they are called."""
        return "".join(self.pieces[i] for i in ids).replace(_WORD_START, " ").strip()


@lru_cache(maxsize=4)
def _processor(path: Path, digest: str) -> sentencepiece.SentencePieceProcessor:
    del digest  # Of the file's content: another file in its place is another model.
    return sentencepiece.SentencePieceProcessor(model_file=str(path))


def open_tokenizer(folder: StudyFolder) -> StudyTokenizer:
    """The tokenizer of a prepared study."""
    if not (folder.tokenizer / "manifest.json").is_file():
        raise ShardError("the study has no tokenizer yet", where=str(folder.tokenizer), hint="Run `lossary prepare`.")
    manifest = read_json(folder.tokenizer / "manifest.json")
    if "files" in manifest:
        return open_json(folder, manifest)
    path, digest = folder.tokenizer / MODEL, manifest["digest"]
    if not path.is_file() or digest_file(path) != digest:
        raise ShardError(
            "the study's tokenizer is missing or not what was written",
            where=str(path),
            hint="Restore it from a copy: every checkpoint of the study holds one, spiece.model.",
        )
    return TokenizerModel(path, digest)


def train_model(
    folder: StudyFolder, sentences: Iterator[str], *, vocabulary_size: int, lowercase: bool, record: Mapping[str, Any]
) -> None:
    """Trains a tokenizer on sentences; the same sentences give the same model.

    `record` (what it is made from) goes to the manifest. Raises StudyError if the text is too small for the
    vocabulary, with the largest size that it allows.
    """
    model, told = io.BytesIO(), _Told(sentences)
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(told),
            model_writer=model,
            vocab_size=vocabulary_size,
            model_type="unigram",
            pad_id=PAD,
            unk_id=UNK,
            bos_id=-1,
            eos_id=-1,
            pad_piece=_SPECIALS[PAD],
            unk_piece=_SPECIALS[UNK],
            control_symbols=[_SPECIALS[i] for i in (CLS, SEP, MASK)],
            normalization_rule_name="nmt_nfkc_cf" if lowercase else "nmt_nfkc",
            character_coverage=0.9995,
            seed_sentencepiece_size=min(max(_SEED_PIECES * vocabulary_size, _SEED_BOUNDS[0]), _SEED_BOUNDS[1]),
            max_sentence_length=8192,
            # The result must not depend on the machine's cores.
            num_threads=2,
            minloglevel=2,
        )
    except (RuntimeError, OSError, ValueError) as error:
        if told.error is not None:
            raise told.error from None
        where = f"{folder.study_file}: $.tokenizer.vocabulary_size"
        failure = _training_failure(str(error), told.sentences)
        raise (VocabularyTooLarge if _allowed(str(error)) else StudyError)(failure, where=where) from None
    with write_directory_atomic(folder.tokenizer) as temporary:
        (temporary / MODEL).write_bytes(model.getvalue())
        _write_manifest(temporary, source="trained", record=record)


class _Told:
    """Sentences as they are read: what goes wrong there is remembered, since SentencePiece would wrap it."""

    def __init__(self, sentences: Iterator[str]) -> None:
        self._source = sentences
        self.sentences = 0
        self.error: Exception | None = None

    def __iter__(self) -> Iterator[str]:
        try:
            for sentence in self._source:
                self.sentences += 1
                yield sentence
        except Exception as error:
            self.error = error
            raise


class VocabularyTooLarge(StudyError):
    """The text is too small for so many pieces; its message says how many it allows."""

    @property
    def allowed(self) -> int:
        """The most pieces that the text allows."""
        return int(re.findall(r"allows (\d+) pieces", self.message)[0])


def _allowed(message: str) -> bool:
    return re.search(r"value <= (\d+)", message) is not None


def _training_failure(message: str, sentences: int) -> str:
    """What SentencePiece could not do, in the words of the study file."""
    if found := re.search(r"value <= (\d+)", message):
        return f"too large for this text, which allows {found[1]} pieces at most"
    if found := re.search(r"required_chars\. \d+ vs (\d+)", message):
        return f"too small for this text, whose characters alone need {found[1]} pieces"
    lines = "1 line" if sentences == 1 else f"{sentences:,} lines"
    return f"no tokenizer can be trained on this text: {lines} with too few different pieces"


def install_model(folder: StudyFolder, path: Path, *, sop: bool, record: Mapping[str, Any]) -> None:
    """Takes an existing tokenizer.json or SentencePiece model; StudyError if examples cannot be made with it."""
    where = f"{folder.study_file}: $.tokenizer.model"
    if path.is_dir() and json_file(path) is None and (path / MODEL).is_file():
        path = path / MODEL
    if (file := json_file(path)) is not None and file.is_file():
        install_json(folder, file, sop=sop, record=record)
        return
    if not path.is_file():
        what = "a folder with neither tokenizer.json nor spiece.model" if path.is_dir() else "no such file"
        raise StudyError(f"{what}: {path}", where=where)
    try:
        # SentencePiece takes an empty file, and complains of it on standard error later.
        if not path.stat().st_size:
            raise OSError("empty")
        processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
    except (RuntimeError, OSError):
        hint = "Expected the file of a SentencePiece model, as spiece.model, or a tokenizer.json."
        raise StudyError(f"{path} is no SentencePiece model", where=where, hint=hint) from None
    found = {i: processor.id_to_piece(i) for i in _SPECIALS if i < processor.vocab_size()}
    wrong = [f"{i} is {found.get(i)!r}, not {name!r}" for i, name in _SPECIALS.items() if found.get(i) != name]
    if wrong:
        raise StudyError(
            f"the special pieces of {path} are not ALBERT's: {'; '.join(wrong)}",
            where=where,
            hint="Expected <pad>, <unk>, [CLS], [SEP], [MASK] as ids 0 to 4.",
        )
    with write_directory_atomic(folder.tokenizer) as temporary:
        (temporary / MODEL).write_bytes(path.read_bytes())
        _write_manifest(temporary, source=path.name, record=record)


def named_model(folder: StudyFolder, model: str) -> Path:
    """The file or folder that a study names as its tokenizer."""
    return folder.root / Path(model).expanduser()


def model_fault(folder: StudyFolder, path: Path, *, sop: bool) -> str | None:
    """What is wrong with an existing tokenizer that a study would take; None if it can be taken."""
    with tempfile.TemporaryDirectory() as place:
        try:
            install_model(StudyFolder(Path(place)), path, sop=sop, record={})
        except LossaryError as error:
            return "; ".join(filter(None, [error.message, f"{folder.study_file}: $.tokenizer.model", error.hint]))
    return None


def model_digest(path: Path) -> str | None:
    """The digest of a file or folder that a study names as its tokenizer; None if it is gone."""
    if (file := json_file(path)) is not None:
        return json_request(file)
    file = path / MODEL if path.is_dir() else path
    return digest_file(file) if file.is_file() else None


def _write_manifest(directory: Path, *, source: str, record: Mapping[str, Any]) -> None:
    processor = sentencepiece.SentencePieceProcessor(model_file=str(directory / MODEL))
    for i, name in _SPECIALS.items():
        if processor.encode(f"{name} {name}", out_type=int).count(i) and i != UNK:
            raise DataError(f"text that holds {name} would yield the special id {i}", where=source)
    manifest = {
        "schema": 1,
        "digest": digest_file(directory / MODEL),
        "vocabulary_size": processor.vocab_size(),
        "source": source,
        **record,
    }
    write_json(directory / "manifest.json", manifest)
