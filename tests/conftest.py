"""Fixtures that several suites share: a tiny study of three datasets, prepared once."""

import json
import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from tests.schema1 import SCHEMA_1, rows_of

from lossary.data.prepare import prepare_datasets
from lossary.data.validation import prepare_examples
from lossary.files import write_json
from lossary.folder import StudyFolder
from lossary.results.records import ScoreHeader, write_scores
from lossary.study import Study
from lossary.study_file import parse_study

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


@dataclass(frozen=True, kw_only=True)
class Planted:
    """What a synthetic run scores on one dataset: losses and accuracies by example, around these means."""

    mlm: float = 4.0
    mlm_accuracy: float = 0.3
    sop: float | None = 0.5
    sop_accuracy: float = 0.75


SYNTHETIC = """
name = {name}
[datasets.reform]
source = "reform.jsonl"
text = ["query", "reformulation"]
link = "https://example.org/reform"
[datasets.views]
source = "views.jsonl"
[datasets.dialogue]
source = "dialogue.jsonl"
link = "{link}"
[links]
run = "https://example.org/{{run}}/{{metric}}?dataset={{dataset}}"
{runs}
"""
SYNTHETIC_ROWS = {"reform": 314_000_000, "views": 256_000_000, "dialogue": 312_000_000}
SYNTHETIC_SHARES = {"reform": 0.08, "views": 0.65, "dialogue": 0.27}


class SyntheticStudy:
    """Writes manifests and scores of a study with three datasets; numbers follow from a seed."""

    def __init__(self, root: Path, runs: dict[str, str], *, name: str = "reform views web", link: str = "") -> None:
        tables = "".join(f'[runs."{run}"]\nbackend = "{backend}"\nsize = "xxlarge"\n' for run, backend in runs.items())
        text = SYNTHETIC.format(name=json.dumps(name), link=link or "https://example.org/dialogue", runs=tables)
        root.mkdir(parents=True, exist_ok=True)
        (root / "study.toml").write_text(text, encoding="utf-8")
        self.study = parse_study(text)
        self.folder = StudyFolder(root)
        self.digest = "blake2b:0123456789abcdef0123456789abcdef"
        self.tokenizer_digest = "blake2b:tokenizer"
        self.wide: dict[tuple[str, int], pa.Table] = {}
        self._manifests()

    def _manifests(self) -> None:
        described = {}
        for name, share in SYNTHETIC_SHARES.items():
            described[name] = {
                "share": share,
                "examples": round(3000 * share),
                "unigram_entropy_nats": 6.5,
                "sop_entropy_nats": 0.6931,
            }
            write_json(self.folder.spans(name, 512) / "manifest.json", {"rows": SYNTHETIC_ROWS[name], "examples": 10})
            write_json(
                self.folder.dataset(name) / "manifest.json",
                {
                    "digest": f"blake2b:{name}",
                    "rows": SYNTHETIC_ROWS[name],
                    "bad_rows": 3 if name == "views" else 0,
                    "shards": [],
                },
            )
        manifest = {
            "digest": self.digest,
            "tokenizer_digest": "blake2b:tokenizer",
            "datasets": list(SYNTHETIC_SHARES),
            "notes": [],
            "per_dataset": described,
        }
        write_json(self.folder.validation / "manifest.json", manifest)

    def score(self, run: str, planted: dict[str, Planted], *, step: int = 100, digest: str | None = None) -> pa.Table:
        """Writes scores of a run; returns them."""
        rng = np.random.default_rng(zlib.crc32(f"{run}{step}".encode()))
        rows: list[dict[str, object]] = []
        for dataset, means in planted.items():
            for example in range(round(3000 * SYNTHETIC_SHARES[dataset])):
                masked = int(rng.integers(2, 30))
                rows.append(
                    {
                        "run": run,
                        "step": step,
                        "dataset": dataset,
                        "example": example,
                        "tokens": 7 * masked,
                        "bytes": 30 * masked,
                        "masked": masked,
                        "mlm_nats": float(masked * means.mlm * rng.gamma(20, 1 / 20)),
                        "mlm_correct": int(rng.binomial(masked, means.mlm_accuracy)),
                        "sop_label": None if means.sop is None else int(example % 2),
                        "sop_nats": None if means.sop is None else float(means.sop * rng.gamma(2, 0.5)),
                        "sop_correct": None if means.sop is None else bool(rng.random() < means.sop_accuracy),
                        "position_nats": [means.mlm] * masked,
                        "predicted": [5] * masked,
                    }
                )
        table = pa.Table.from_pylist(rows, schema=SCHEMA_1)
        self.wide[run, step] = table
        header = ScoreHeader(
            run=run,
            step=step,
            validation_digest=digest or self.digest,
            tokenizer_digest=self.tokenizer_digest,
            weights_digest=f"blake2b:{run}",
            backend=self.study.runs[run].backend if run in self.study.runs else "torch",
            device="cpu",
            precision="fp32",
            size="xxlarge",
            tokens=1_000_000 * step,
            objectives=("mlm", *(["sop"] if any(means.sop is not None for means in planted.values()) else [])),
            lossary="0",
            tokenizer="same",
        )
        write_scores(self.folder.scores(run, step), rows_of(table), header)
        return table


@pytest.fixture
def planted() -> type[Planted]:
    return Planted


@pytest.fixture
def synthetic(tmp_path: Path) -> Callable[..., SyntheticStudy]:
    """Makes synthetic studies in a folder of their own."""

    def make(runs: dict[str, str], **more: str) -> SyntheticStudy:
        return SyntheticStudy(tmp_path / "synthetic", runs, **more)

    return make


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tests of the page that no browser ran are said loudly, not as one more dot."""
    reasons = {str(report.longrepr[2]) for report in terminalreporter.stats.get("skipped", []) if report.longrepr}
    for reason in sorted(reason for reason in reasons if "NOT TESTED IN A BROWSER" in reason):
        terminalreporter.write_line(reason, red=True, bold=True)
