"""Whose pieces a checkpoint's ids are: the vocabulary in its folder against the study's.

    compare_vocabulary(folder, study_model)      # "same", "unknown"; CheckpointError if they differ

Two SentencePiece models are the same if their pieces (text, score, kind, order), their normalisers and how they cut
are: files also differ where only the record of their training does. Other files (tokenizer.json, vocab.txt, vocab.json)
list the pieces by id; they must be the study's, one by one. A folder with none of these says nothing, and the table
says so.
"""

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import sentencepiece

from lossary.errors import CheckpointError
from lossary.files import digest_file, read_json
from lossary.vocabulary.open import TOKENIZER_JSON, open_vocabulary
from lossary.vocabulary.sentencepiece_model import model_digest

__all__ = ["MODELS", "Known", "compare_vocabulary"]

Known = Literal["same", "unknown"]

MODELS = ("spiece.model", "tokenizer.model", "sentencepiece.bpe.model")


def compare_vocabulary(folder: Path, study_model: Path, more: Iterable[Path] = ()) -> Known:
    """Compares every vocabulary that a checkpoint's folder holds, and SentencePiece models beside it, with the study's.

    Raises CheckpointError, naming both, if one is another.
    """
    if study_model.name == TOKENIZER_JSON:
        return _compare_json(folder, study_model, more)
    models = [*(folder / name for name in MODELS if (folder / name).is_file()), *more]
    for path in models:
        if digest_file(path) != digest_file(study_model) and _digest_of(path) != _digest_of(study_model):
            raise _differs(path, study_model, "its pieces, their scores or its normaliser are others")
    listed = {path: pieces for path in _lists(folder) if (pieces := _listed_pieces(path))}
    for path, pieces in listed.items():
        _check_pieces(path, pieces, study_model)
    return "same" if models or listed else "unknown"


def _compare_json(folder: Path, study_file: Path, more: Iterable[Path]) -> Known:
    """The same for a study whose tokenizer is a tokenizer.json: its pieces have to be the checkpoint's, one by one."""
    own = open_vocabulary(study_file).pieces
    listed = {path: pieces for path in _lists(folder) if (pieces := _listed_pieces(path))}
    models = [*(path for name in MODELS if (path := folder / name).is_file()), *more]
    for path in models if not listed else ():
        listed[path] = dict(enumerate(open_vocabulary(path).pieces))
    for path, pieces in listed.items():
        _check_listed(path, pieces, {number: piece for number, piece in enumerate(own) if piece}, study_file)
    return "same" if listed else "unknown"


def _digest_of(path: Path) -> str:
    try:
        return model_digest(path.read_bytes())
    except ValueError as error:
        raise CheckpointError(f"not readable as a SentencePiece model: {error}", where=str(path)) from None


def _lists(folder: Path) -> list[Path]:
    return [path for name in ("tokenizer.json", "vocab.txt", "vocab.json") if (path := folder / name).is_file()]


def _listed_pieces(path: Path) -> dict[int, str]:
    """Pieces by id."""
    try:
        if path.suffix == ".txt":
            return dict(enumerate(path.read_text(encoding="utf-8").splitlines()))
        value: Any = read_json(path)
        if path.name == "vocab.json":
            return {int(number): str(piece) for piece, number in value.items()}
        vocabulary = value["model"]["vocab"]
        if isinstance(vocabulary, dict):
            found = {int(number): str(piece) for piece, number in vocabulary.items()}
        else:
            found = {number: str(piece) for number, (piece, _) in enumerate(vocabulary)}
        return found | {int(added["id"]): str(added["content"]) for added in value.get("added_tokens") or []}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"not readable as a vocabulary: {error!r}", where=str(path)) from None


def _check_pieces(path: Path, pieces: dict[int, str], study_model: Path) -> None:
    processor = sentencepiece.SentencePieceProcessor(model_file=str(study_model))
    own = dict(enumerate(processor.id_to_piece(list(range(processor.vocab_size())))))
    _check_listed(path, pieces, own, study_model)


def _check_listed(path: Path, pieces: dict[int, str], own: dict[int, str], study_model: Path) -> None:
    other = [number for number in sorted({*own, *pieces}) if own.get(number) != pieces.get(number)]
    if other:
        first = other[0]
        told = f"id {first} is {pieces.get(first)!r} there and {own.get(first)!r} here"
        raise _differs(path, study_model, f"{len(other):,} of its pieces are others; {told}")


def _differs(path: Path, study_model: Path, why: str) -> CheckpointError:
    return CheckpointError(
        f"the checkpoint's tokenizer is not the study's ({study_model}): {why}",
        where=str(path),
        hint=f"Its ids mean other pieces. --tokenizer {shlex.quote(str(path.parent))} scores it in its own vocabulary; "
        "or score it in a study that is prepared with its tokenizer: "
        f'[tokenizer] model = "{path.name if path.suffix == ".model" else "…"}".',
    )
