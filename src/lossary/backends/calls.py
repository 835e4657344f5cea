"""What a user's call has to give to be scored, in whatever framework: found, expected, where."""

import os
import tempfile
from pathlib import Path
from typing import Any

from lossary.data.examples import Examples
from lossary.errors import UsageError
from lossary.vocabulary.api import Vocabulary
from lossary.vocabulary.open import open_vocabulary

__all__ = ["check_logits", "check_objectives", "pad_of", "vocabulary_of"]

_OBJECTIVES = (("mlm",), ("clm",), ("mlm", "sop"))


def check_objectives(objectives: tuple[str, ...], where: str) -> None:
    """UsageError unless they are what one forward pass can give."""
    if objectives not in _OBJECTIVES:
        expected = ", ".join(map(str, _OBJECTIVES))
        raise UsageError(f"objectives are {objectives!r}; expected is one of {expected}", where=where)


def check_logits(
    given: Any, examples: Examples, *, objectives: tuple[str, ...], vocabulary: Vocabulary | None, where: str
) -> tuple[Any, Any]:
    """Logits (B, T, V) and those of the order (B, 2), or None; UsageError where a call gave something else."""
    if "sop" in objectives and not (isinstance(given, tuple | list) and len(given) == 2):
        raise UsageError(f"the call gives {type(given).__name__}; a pair is expected: logits, and order", where=where)
    logits, order = given if "sop" in objectives else (given, None)
    rows, length = examples.token_ids.shape
    pieces = vocabulary.size if vocabulary is not None else int(examples.labels.max(initial=0)) + 1
    shape = tuple(getattr(logits, "shape", ()))
    if len(shape) != 3 or shape[:2] != (rows, length) or shape[2] < pieces:
        found, expected = shape or type(logits).__name__, f"({rows}, {length}, {pieces:,} or more)"
        raise UsageError(f"the call gives {found}; logits {expected} are expected", where=where)
    if order is not None and tuple(getattr(order, "shape", ())) != (rows, 2):
        raise UsageError(f"logits of the order are {getattr(order, 'shape', order)}, not ({rows}, 2)", where=where)
    return logits, order


def pad_of(vocabulary: Vocabulary | None) -> int:
    """The id that stands where no token does."""
    pad = None if vocabulary is None else vocabulary.specials.pad
    return 0 if pad is None else pad


def vocabulary_of(tokenizer: Any) -> Vocabulary | None:
    """A vocabulary of what a user has: one, the path of a file or folder, a tokenizer of transformers; None stays None.

    VocabularyError if it cannot be used, UsageError if it is something else.
    """
    if tokenizer is None:
        return None
    if isinstance(tokenizer, str | os.PathLike):
        return open_vocabulary(Path(tokenizer))
    if hasattr(tokenizer, "encode") and hasattr(tokenizer, "frame") and hasattr(tokenizer, "digest"):
        vocabulary: Vocabulary = tokenizer
        return vocabulary
    if hasattr(tokenizer, "save_pretrained"):
        with tempfile.TemporaryDirectory(prefix="lossary-tokenizer-") as folder:
            tokenizer.save_pretrained(folder)
            return open_vocabulary(Path(folder))
    raise UsageError(
        f"{type(tokenizer).__name__} is no tokenizer", hint="Give a folder, a tokenizer.json, or one of transformers."
    )
