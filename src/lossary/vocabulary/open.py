"""Opens a vocabulary: a tokenizer's file, or a folder that holds one.

    vocabulary = open_vocabulary(Path("checkpoints/bert"))
    vocabulary.encode(["first text"])[0].begin

A folder's tokenizer.json comes first, as it does for transformers; but a spiece.model with ALBERT's five special pieces
in front is taken as it is, since its ids are those of the tokenizer.json and studies are made with it.
"""

import re
from pathlib import Path

import sentencepiece

from lossary.errors import VocabularyError
from lossary.failures import reason
from lossary.vocabulary.api import Vocabulary
from lossary.vocabulary.roles import read_beside, read_object
from lossary.vocabulary.sentencepiece_model import sentencepiece_vocabulary
from lossary.vocabulary.tokenizer_json import json_vocabulary
from lossary.vocabulary.vocab_txt import HOW_TO_MAKE, from_vocab_txt

__all__ = ["TOKENIZER_JSON", "open_vocabulary", "require_mask"]

TOKENIZER_JSON = "tokenizer.json"
_ALBERT = ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"]
_SENTENCEPIECE = ("spiece.model", "spm.model", "tokenizer.model", "sentencepiece.bpe.model")
_SLOW = ("vocab.json", "merges.txt", "vocab.bpe", "encoder.json")
_TIKTOKEN = ("tekken.json", "tiktoken.model", "qwen.tiktoken")


def open_vocabulary(path: Path) -> Vocabulary:
    """The vocabulary of a tokenizer.json, a SentencePiece model or a folder that holds one of them.

    Raises VocabularyError if it is damaged or of a kind that cannot be used, MissingPackage if its library is not
    installed.
    """
    if not path.exists():
        raise VocabularyError("no such file or folder", where=str(path))
    file = _in_folder(path) if path.is_dir() else path
    beside = read_beside(file.parent)
    if file.suffix == ".model":
        if _is_tiktoken(file):
            raise _tiktoken(file)
        return sentencepiece_vocabulary(file, beside)
    if file.suffix == ".txt":
        value, beside = from_vocab_txt(file, beside)
        return json_vocabulary(value, beside, file)
    if file.name in _TIKTOKEN or file.suffix == ".tiktoken":
        raise _tiktoken(file)
    if file.name in _SLOW:
        raise VocabularyError("one of the files of a slow tokenizer", where=str(file), hint=HOW_TO_MAKE)
    return json_vocabulary(read_object(file), beside, file)


def require_mask(vocabulary: Vocabulary, where: str | None) -> int:
    """The piece that hides others. VocabularyError if the vocabulary has none, as those of causal models."""
    if vocabulary.specials.mask is None:
        raise VocabularyError(
            f"the vocabulary ({vocabulary.title}) has no mask piece, so nothing can be hidden in it",
            where=where,
            hint="It is of a causal model (objective clm), or the files beside it do not name its mask_token.",
        )
    return vocabulary.specials.mask


def _in_folder(folder: Path) -> Path:
    """The file of a folder that says most."""
    if _is_albert(folder / "spiece.model"):
        return folder / "spiece.model"
    for name in (TOKENIZER_JSON, *_SENTENCEPIECE):
        if (folder / name).is_file():
            return folder / name
    if (folder / "vocab.txt").is_file():
        return folder / "vocab.txt"
    for name in _TIKTOKEN:
        if (folder / name).is_file():
            raise _tiktoken(folder / name)
    slow = [name for name in _SLOW if (folder / name).is_file()]
    if slow:
        message = f"only the files of a slow tokenizer ({', '.join(slow)}): a tokenizer.json is needed"
        raise VocabularyError(message, where=str(folder), hint=HOW_TO_MAKE)
    found = sorted(entry.name for entry in folder.iterdir())[:6]
    raise VocabularyError(
        f"no tokenizer in this folder, which holds {', '.join(found) or 'nothing'}",
        where=str(folder),
        hint=f"Expected {TOKENIZER_JSON}, spiece.model or tokenizer.model: copy them from where the model came from, "
        "or name the tokenizer's own folder (--tokenizer of a checkpoint).",
    )


def _is_albert(path: Path) -> bool:
    if not path.is_file():
        return False
    try:
        processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
    except (RuntimeError, OSError):
        return False
    return processor.vocab_size() > len(_ALBERT) and processor.id_to_piece(list(range(len(_ALBERT)))) == _ALBERT


def _is_tiktoken(path: Path) -> bool:
    """Lines of a piece in base64 and its rank, as tiktoken has them."""
    try:
        with path.open("rb") as file:
            return re.fullmatch(rb"[A-Za-z0-9+/]+=* \d+", file.readline(4096).strip()) is not None
    except OSError as error:
        raise VocabularyError(f"not readable: {reason(error)}", where=str(path)) from None


def _tiktoken(path: Path) -> VocabularyError:
    return VocabularyError("a tiktoken file: a tokenizer.json is needed", where=str(path), hint=HOW_TO_MAKE)
