"""The study that the benchmark of faults runs on: three kinds of text, of which a fault may concern one alone.

    manual     long documents of many sentences: the language reference
    names      one-line documents: first lines of docstrings
    fortunes   paragraphs, a sentence a line, in another script: docstrings, letter by letter in Cyrillic
    pairs      name of a function and first line of its docstring, two fields; only for what pairs alone can have

All of it is carried by Python itself, so that the benchmark needs no network.
"""

import shutil
from pathlib import Path
from typing import Any

import orjson

from lossary.data.builtin import builtin_rows
from lossary.data.prepare import prepare_datasets
from lossary.data.validation import prepare_examples
from lossary.folder import StudyFolder
from lossary.study import Study
from lossary.study_file import parse_study

__all__ = ["DATASETS", "SHARES", "benchmark_study"]

DATASETS = ("manual", "names", "fortunes")
SHARES = {"manual": 0.4, "names": 0.2, "fortunes": 0.3, "pairs": 0.1}  # in training and in validation
_TO_CYRILLIC = str.maketrans(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "абцдефгхийклмнопярстувщыжзАБЦДЕФГХИЙКЛМНОПЯРСТУВЩЫЖЗ",
)

STUDY = """
name = "faults"
seed = 5
[tokenizer]
vocabulary_size = 800
lowercase = false
[datasets.manual]
source = "manual.jsonl"
[datasets.names]
source = "names.jsonl"
[datasets.fortunes]
source = "fortunes.jsonl"
[datasets.pairs]
source = "pairs.jsonl"
text = ["name", "summary"]
[mixture]
shares = {shares}
[validation]
examples = 300
shares = {shares}
[recipe]
sequence_length = 64
batch_size = 16
steps = 400
max_ngram = 1
short_rate = 0
seed = {seed}
mask_rate = {mask_rate}
precision = "{precision}"
[recipe.optimizer]
name = "{optimizer}"
learning_rate = {learning_rate}
warmup = {warmup}
weight_decay = {weight_decay}
epsilon = {epsilon}
clip_norm = {clip_norm}
[runs.torch]
backend = "torch"
size = {size}
[runs.tensorflow]
backend = "tensorflow"
size = {size}
"""

DEFAULTS: dict[str, Any] = {
    "seed": 5,
    "optimizer": "adamw",
    "learning_rate": 1e-3,
    "precision": "fp32",
    "mask_rate": 0.15,
    "warmup": 40,
    "weight_decay": 0.01,
    "epsilon": 1e-6,
    "clip_norm": 1.0,
    "size": '{ from = "base", width = 0.0625, depth = 0.1667 }',
}


def benchmark_study(root: Path, *, like: Path | None = None, **recipe: Any) -> tuple[Study, StudyFolder]:
    """Writes and prepares the study; a folder that holds it already is taken as it is.

    `recipe` overrides `DEFAULTS`. `like` is a prepared folder of the same text, which is copied first: what does not
    depend on the recipe need not be made again.
    """
    unknown = set(recipe) - set(DEFAULTS)
    if unknown:
        raise ValueError(f"no setting of the benchmark's recipe: {sorted(unknown)}; there are {sorted(DEFAULTS)}")
    shares = ", ".join(f"{name} = {share}" for name, share in SHARES.items())
    text = STUDY.format(shares=f"{{ {shares} }}", **(DEFAULTS | recipe))
    study, folder = parse_study(text), StudyFolder(root)
    if not (root / "study.toml").is_file() or (root / "study.toml").read_text() != text:
        if like is not None and like.is_dir() and not root.is_dir():
            shutil.copytree(like, root, ignore=shutil.ignore_patterns("diagnosis", "logs"))
        root.mkdir(parents=True, exist_ok=True)
        for name, texts in (("manual", _manual()), ("names", _names()), ("fortunes", _fortunes())):
            (root / f"{name}.jsonl").write_bytes(b"".join(orjson.dumps({"text": text}) + b"\n" for text in texts))
        pairs = [{"name": row["name"], "summary": row["summary"]} for row in builtin_rows("names")[:1500]]
        (root / "pairs.jsonl").write_bytes(b"".join(orjson.dumps(pair) + b"\n" for pair in pairs))
        (root / "study.toml").write_text(text)
        prepare_datasets(study, folder, workers=1)
        prepare_examples(study, folder)
    return study, folder


def _manual() -> list[str]:
    """Parts of the reference, so that there are enough documents to sample."""
    parts = []
    for row in builtin_rows("reference"):
        paragraphs = [part for part in (row["text"] or "").split("\n\n") if len(part.split()) > 12]
        joined = [" ".join(" ".join(paragraphs[i : i + 3]).split()) for i in range(0, len(paragraphs), 3)]
        parts += [text for text in joined if text.count(". ") >= 3]
    return parts[:1500]


def _names() -> list[str]:
    lines = [" ".join((row["summary"] or "").split()) for row in builtin_rows("names")]
    return list(dict.fromkeys(line for line in lines if len(line.split()) >= 4))[:1500]


def _fortunes() -> list[str]:
    texts = []
    for row in builtin_rows("docstrings"):
        lines = [" ".join(line.split()) for line in (row["text"] or "").split("\n") if len(line.split()) > 3]
        if 2 <= len(lines) <= 8:
            texts.append("\n".join(lines).translate(_TO_CYRILLIC))
    return list(dict.fromkeys(texts))[:1500]
