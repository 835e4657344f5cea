"""A vocab.txt as the tokenizer.json that it stands for, where what is done with it is known to the letter.

BERT and its kin cut words alike. Whether they fold case is said by tokenizer_config.json; where it is not, those
without a capital letter in any piece do, since every word with one would be unknown to them. ESM reads amino acids one
by one. Other tokenizers have files of this name, too, and are refused.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lossary.errors import VocabularyError
from lossary.failures import reason
from lossary.vocabulary.roles import Beside

__all__ = ["HOW_TO_MAKE", "from_vocab_txt"]

HOW_TO_MAKE = (
    "Make one with transformers: AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER); "
    "a tokenizer without a fast form cannot be used."
)
_SPECIAL = re.compile(r"\[[A-Za-z0-9_]+\]")
_BERT = re.compile(r"(Bert|Electra|DistilBert|bert|electra|distilbert)(Tokenizer(Fast)?)?")


def from_vocab_txt(path: Path, beside: Beside) -> tuple[dict[str, Any], Beside]:
    """The tokenizer.json of a vocab.txt, and what stands beside it with the defaults of its kind."""
    kind = beside.kind
    bert, esm = _BERT.fullmatch(kind), kind in ("EsmTokenizer", "esm")
    if not esm and not bert:
        raise VocabularyError(
            f"a vocab.txt alone, and is for a {kind or 'tokenizer unknown'}: a tokenizer.json is needed",
            where=str(path),
            hint=HOW_TO_MAKE,
        )
    try:
        # As the libraries do: one piece a line, whatever else a line may end with.
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError) as error:
        raise VocabularyError(f"not readable: {reason(error)}", where=str(path)) from None
    names = [line.strip() if esm else line.rstrip("\r") for line in lines]
    while names and not names[-1]:
        names.pop()
    if len(set(names)) != len(names):
        double = next(name for number, name in enumerate(names) if name in names[:number])
        raise VocabularyError(f"the piece {double!r} stands twice in it", where=str(path))
    ids = {name: number for number, name in enumerate(names)}
    if esm:
        defaults = {role: f"<{role}>" for role in ("unk", "cls", "pad", "mask", "eos")}
        return _known(ids, defaults, beside, path, _esm)
    if not isinstance(beside.config.get("do_lower_case"), bool):
        if any(name != name.lower() for name in names if not _SPECIAL.fullmatch(name)):
            raise VocabularyError(
                "a vocab.txt with capital letters, and nothing beside it says whether it folds case",
                where=str(path),
                hint='Write {"do_lower_case": false}, or true, to a tokenizer_config.json beside it.',
            )
        beside = replace(beside, config={**beside.config, "do_lower_case": True})
    defaults = {role: f"[{role.upper()}]" for role in ("unk", "cls", "sep", "pad", "mask")}
    return _known(ids, defaults, beside, path, _bert)


def _known(
    ids: dict[str, int], defaults: Mapping[str, str], beside: Beside, path: Path, make: Any
) -> tuple[dict[str, Any], Beside]:
    beside = replace(beside, names={**defaults, **beside.names})
    missing = [name for role, name in beside.names.items() if role in defaults and name not in ids]
    if missing:
        raise VocabularyError(f"it lacks the special piece {missing[0]!r}", where=str(path), hint=HOW_TO_MAKE)
    return {"version": "1.0", **make(ids, beside)}, beside


def _added(name: str, number: int) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": number, "content": name, **flags, "special": True}


def _bert(ids: dict[str, int], beside: Beside) -> dict[str, Any]:
    names, config = beside.names, beside.config
    cls, sep = ([names[role], ids[names[role]]] for role in ("cls", "sep"))
    return {
        "added_tokens": sorted((_added(name, ids[name]) for name in set(names.values())), key=lambda one: one["id"]),
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": config.get("tokenize_chinese_chars", True),
            "strip_accents": config.get("strip_accents"),
            "lowercase": config["do_lower_case"],
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "sep": sep, "cls": cls},
        "model": {
            "type": "WordPiece",
            "unk_token": names["unk"],
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": ids,
        },
    }


def _esm(ids: dict[str, int], beside: Beside) -> dict[str, Any]:
    names = beside.names
    special = {name for name in ids if re.fullmatch(r"<.*>", name)} | set(names.values())
    letters = sorted((re.escape(name) for name in ids if name not in special), key=len, reverse=True)
    around = {role: {"SpecialToken": {"id": names[role], "type_id": 0}} for role in ("cls", "eos")}
    texts = [{"Sequence": {"id": name, "type_id": 0}} for name in "AB"]
    return {
        "added_tokens": sorted((_added(name, ids[name]) for name in special), key=lambda one: one["id"]),
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "WhitespaceSplit"},
                {"type": "Split", "pattern": {"Regex": "|".join(letters)}, "behavior": "Isolated", "invert": False},
            ],
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [around["cls"], texts[0], around["eos"]],
            "pair": [around["cls"], texts[0], around["eos"], texts[1], around["eos"]],
            "special_tokens": {
                names[role]: {"id": names[role], "ids": [ids[names[role]]], "tokens": [names[role]]}
                for role in ("cls", "eos")
            },
        },
        "model": {"type": "WordLevel", "vocab": ids, "unk_token": names["unk"]},
    }
