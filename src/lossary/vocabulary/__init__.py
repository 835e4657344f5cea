"""Vocabularies: tokenizers with special ids by role, a template, and the bytes that their pieces stand for."""
