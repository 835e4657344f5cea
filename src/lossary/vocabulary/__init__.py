"""Vocabularies: tokenizers with special ids by role, a template, and the bytes that their pieces stand for."""

from lossary.vocabulary.api import Encoded, Framed, Specials, Vocabulary
from lossary.vocabulary.open import open_vocabulary, require_mask

__all__ = ["Encoded", "Framed", "Specials", "Vocabulary", "open_vocabulary", "require_mask"]
