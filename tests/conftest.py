"""Fixtures that several suites share: a tiny study of three datasets, prepared once."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from lossary.data.prepare import prepare_datasets
from lossary.data.validation import prepare_examples
from lossary.folder import StudyFolder
from lossary.study import Study, parse_study

# Made-up words of two or three syllables: enough of them for a vocabulary of 120 pieces.
_SYLLABLES = ["ba", "ke", "lo", "mi", "nu", "pra", "sto", "vel", "zan", "qui", "rof", "tis"]
WORDS = [a + b for a in _SYLLABLES for b in _SYLLABLES] + [a + b + a for a in _SYLLABLES[:6] for b in _SYLLABLES]

TINY = """
name = "tiny"
seed = 3
[tokenizer]
vocabulary_size = 120
sample_bytes = 200000
[datasets.pairs]
source = "pairs.jsonl"
text = ["query", "answer"]
[datasets.stories]
source = "stories.jsonl"
[datasets.lines]
source = "lines.txt"
[validation]
examples = 60
shares = { pairs = 0.25, stories = 0.5, lines = 0.25 }
[recipe]
sequence_length = 32
batch_size = 8
steps = 12
checkpoint_every = 4
[recipe.optimizer]
name = "adamw"
learning_rate = 0.003
warmup = 2
[runs.torch_a]
backend = "torch"
size = { from = "base", width = 0.0208, depth = 0.0833 }
[runs.tf_a]
backend = "tensorflow"
size = { from = "base", width = 0.0208, depth = 0.0833 }
[runs.torch_stories]
backend = "torch"
size = { from = "base", width = 0.0208, depth = 0.0833 }
datasets = ["stories"]
"""


def sentence(rng: random.Random, low: int = 3, high: int = 9) -> str:
    """Some words and a full stop."""
    return " ".join(rng.choices(WORDS, k=rng.randint(low, high))) + "."


def write_tiny_sources(root: Path, seed: int = 0) -> None:
    """Three small datasets: pairs, documents of several sentences, lines of text."""
    rng = random.Random(seed)
    root.mkdir(parents=True, exist_ok=True)
    pairs = [{"query": sentence(rng, 2, 4), "answer": sentence(rng)} for _ in range(300)]
    stories = [{"text": " ".join(sentence(rng) for _ in range(rng.randint(1, 8)))} for _ in range(300)]
    lines = [" ".join(sentence(rng) for _ in range(rng.randint(1, 3))) for _ in range(300)]
    (root / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    (root / "stories.jsonl").write_text("".join(json.dumps(row) + "\n" for row in stories))
    (root / "lines.txt").write_text("\n".join(lines) + "\n")


@pytest.fixture
def tiny_folder(tmp_path: Path) -> StudyFolder:
    """Sources and study file of the tiny study; nothing is prepared."""
    write_tiny_sources(tmp_path)
    (tmp_path / "study.toml").write_text(TINY)
    return StudyFolder(tmp_path)


@pytest.fixture
def tiny_study() -> Study:
    return parse_study(TINY)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, StudyFolder]:
    """The tiny study, prepared; tests only read it."""
    root = tmp_path_factory.mktemp("prepared")
    write_tiny_sources(root)
    (root / "study.toml").write_text(TINY)
    study, folder = parse_study(TINY), StudyFolder(root)
    prepare_datasets(study, folder, workers=1)
    prepare_examples(study, folder)
    return study, folder


@pytest.fixture
def make_study() -> Callable[..., Study]:
    """The tiny study with replacements in its text."""

    def make(*changes: tuple[str, str]) -> Study:
        text = TINY
        for old, new in changes:
            assert old in text, old
            text = text.replace(old, new)
        return parse_study(text)

    return make


@pytest.fixture(scope="session")
def write_study() -> Callable[..., None]:
    """Writes sources and study file of the tiny study; `until` cuts the file before a text."""

    def write(root: Path, until: str | None = None) -> None:
        write_tiny_sources(root)
        (root / "study.toml").write_text(TINY if until is None else TINY.split(until)[0])

    return write
