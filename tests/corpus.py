"""One small corpus in several scripts, for tests that read it in many formats."""

import json
import re
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from lossary.data.prepare import prepare_datasets
from lossary.folder import StudyFolder
from lossary.study_file import parse_study

__all__ = ["ROWS", "SCRIPTS", "jsonl", "prepared", "study_text", "tokenizer_model"]

SCRIPTS = {
    "en": "The mill by the river turned all night, and nobody slept.",
    "de": "Größe, Straße und Übermut: „Wörter“ mit Zeichen.\nZweite Zeile.",
    "ru": "Мельница у реки крутилась всю ночь.",
    "ar": "كتب الولد رسالة طويلة إلى جدته.",
    "ja": "川のそばの水車は一晩中回っていた。",
    "hi": "नदी के पास की चक्की रात भर चलती रही।",
    "emoji": "👩‍🚀 sees 🌍; e\u0301 is é, and \t tabs\r\nstay.",
}.values()
_LANGUAGES = ("en", "de", "ru", "ar", "ja", "hi", "emoji")
WORDS = ["barn", "candle", "dusk", "ember", "fallow", "gravel", "hollow", "ivory", "juniper", "kettle", "lantern"]
ROWS: list[dict[str, Any]] = [
    {
        "text": f"{number}: {text} {WORDS[number % 7]} {WORDS[number % 11]}",
        "lang": lang,
        "meta": {"title": f"Title {number} “{lang}”", "score": number / 10},
    }
    for number, (lang, text) in enumerate([*zip(_LANGUAGES, SCRIPTS, strict=True)] * 6)
]


def jsonl(rows: Sequence[dict[str, Any]] = ROWS) -> bytes:
    """The rows as JSON Lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


@cache
def tokenizer_model() -> Path:
    """A tokenizer of the corpus, trained once a process."""
    root = Path(tempfile.mkdtemp())
    (root / "a.jsonl").write_bytes(jsonl() * 4)
    text = 'name = "t"\n[tokenizer]\nvocabulary_size = 160\n[datasets.d]\nsource = "a.jsonl"\n'
    text += '[runs.r]\nbackend = "torch"\nsize = "base"\n'
    prepare_datasets(parse_study(text), StudyFolder(root), workers=1)
    return root / "tokenizer" / "spiece.model"


def study_text(source: str, more: str = "") -> str:
    """A study of one dataset `d`."""
    return (
        f'name = "v"\n[tokenizer]\nmodel = "{tokenizer_model()}"\n[datasets.d]\nsource = {json.dumps(source)}\n{more}\n'
        '[runs.r]\nbackend = "torch"\nsize = "base"\n'
    )


def prepared(root: Path, text: str, *, name: str = "study") -> dict[str, Any]:
    """Prepares a study whose sources lie in `root`; of its dataset's manifest what does not depend on its files."""
    for key in ("source", "tokenizer"):
        text = re.sub(rf'^{key} = "(?!\w+:)', f'{key} = "../', text, flags=re.MULTILINE)
    (root / name).mkdir(exist_ok=True)
    manifest = prepare_datasets(parse_study(text), StudyFolder(root / name), workers=1)["d"]
    return {key: value for key, value in manifest.items() if key not in ("request", "source", "files")}
