"""The study that `benchmarks.page` reads: scores of several runs at several steps, step records, texts.

It is made once, from a seed, and kept in `$XDG_CACHE_HOME/lossary/benchmarks`, by its size.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from tests.schema1 import rows_of

from lossary.data.examples import Examples
from lossary.data.freeze import write_examples
from lossary.data.manifests import write_manifest
from lossary.data.parts import EXAMPLES
from lossary.data.tokenizer import CLS, FIRST_PIECE, MASK, SEP, train_model
from lossary.files import read_json, write_json
from lossary.folder import StudyFolder
from lossary.results.records import STEP_SCHEMA, ScoreHeader, write_scores, write_steps

__all__ = ["Shape", "page_study"]

_TOKENS, _VOCABULARY = 24, 600


@dataclass(frozen=True)
class Shape:
    """How large the study is."""

    runs: int
    steps: int  # at which each run was scored
    datasets: int
    examples: int  # of validation, in each dataset
    trained: int = 20_000  # steps on record

    @property
    def scores(self) -> int:
        return self.runs * self.steps * self.datasets * self.examples

    @property
    def run_names(self) -> list[str]:
        return [f"{('torch', 'tf')[index % 2]}_{index:02d}" for index in range(self.runs)]

    @property
    def dataset_names(self) -> list[str]:
        return [f"dataset_{index:02d}" for index in range(self.datasets)]


def page_study(shape: Shape) -> StudyFolder:
    """The folder of the study, made if it is not there."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lossary" / "benchmarks"
    name = f"page-{shape.runs}x{shape.steps}x{shape.datasets}x{shape.examples}"
    folder = StudyFolder(cache / name)
    if not (folder.root / "whole").is_file():
        folder.root.mkdir(parents=True, exist_ok=True)
        _write_study(folder, shape)
        validation = _write_validation(folder, shape)
        for index, run in enumerate(shape.run_names):
            _write_steps(folder, shape, run, index)
            _write_scores(folder, shape, run, index, validation)
        (folder.root / "whole").write_text("made by benchmarks.page\n", encoding="utf-8")
    return folder


def _write_study(folder: StudyFolder, shape: Shape) -> None:
    datasets = "".join(
        f'[datasets.{name}]\nsource = "{name}.txt"\nlink = "https://example.org/{name}"\n'
        for name in shape.dataset_names
    )
    runs = "".join(
        f'[runs.{run}]\nbackend = "{"torch" if run.startswith("torch") else "tensorflow"}"\nsize = "base"\n'
        for run in shape.run_names
    )
    recipe = f"[recipe]\nsteps = {shape.trained}\n"
    (folder.root / "study.toml").write_text(f'name = "page benchmark"\n{datasets}{recipe}{runs}', encoding="utf-8")
    for index, name in enumerate(shape.dataset_names):
        rows = 10**6 * (index + 1)
        write_json(folder.spans(name, 512) / "manifest.json", {"rows": rows, "examples": rows})
        manifest = {"digest": f"blake2b:{name}", "rows": rows, "bad_rows": 0, "shards": []}
        write_json(folder.dataset(name) / "manifest.json", manifest)


def _write_validation(folder: StudyFolder, shape: Shape) -> Examples:
    """A tokenizer, and frozen examples of random pieces with three to five masked positions."""
    rng = np.random.default_rng(0)
    syllables = ["ba", "ke", "lo", "mi", "nu", "pra", "sto", "vel", "zan", "qui", "rof", "tis"]
    words = [a + b + c for a in syllables for b in syllables for c in ("", *syllables[:5])]
    sentences = (" ".join(rng.choice(words, 12)) for _ in range(5000))
    train_model(folder, sentences, vocabulary_size=_VOCABULARY, lowercase=True, record={"request": "page"})
    examples = _examples(shape, rng)
    for index, name in enumerate(shape.dataset_names):
        part = folder.validation_part(name)
        part.mkdir(parents=True)
        blocks = write_examples(part / EXAMPLES, [examples.take(examples.dataset == index)]).blocks
        write_manifest(part, {"dataset": name, "digest": "blake2b:0", "files": {EXAMPLES: blocks}})
    described = {
        name: {
            "share": 1 / shape.datasets,
            "examples": shape.examples,
            "unigram_entropy_nats": 6.2,
            "sop_entropy_nats": 0.6931,
        }
        for name in shape.dataset_names
    }
    manifest = {
        "digest": "blake2b:0",
        "parts": dict.fromkeys(shape.dataset_names, "blake2b:0"),
        "tokenizer_digest": read_json(folder.tokenizer / "manifest.json")["digest"],
        "datasets": shape.dataset_names,
        "notes": [],
        "per_dataset": described,
    }
    write_manifest(folder.validation, manifest)
    return examples


def _examples(shape: Shape, rng: np.random.Generator) -> Examples:
    n = shape.datasets * shape.examples
    masked = rng.integers(3, 6, n).astype(np.int32)
    ids = rng.integers(FIRST_PIECE, _VOCABULARY, (n, _TOKENS), dtype=np.int32)
    ids[:, 0], ids[:, 12], ids[:, -1] = CLS, SEP, SEP
    positions = np.broadcast_to(np.array([2, 5, 8, 14, 18], np.int32), (n, 5)).copy()
    used = np.arange(5) < masked[:, None]
    positions[~used] = 0
    labels = np.where(used, rng.integers(FIRST_PIECE, _VOCABULARY, (n, 5), dtype=np.int32), 0)
    rows = np.broadcast_to(np.arange(n)[:, None], used.shape)[used]
    ids[rows, positions[used]] = MASK
    return Examples(
        dataset=np.repeat(np.arange(shape.datasets, dtype=np.int16), shape.examples),
        example=np.tile(np.arange(shape.examples, dtype=np.uint64) << np.uint64(24), shape.datasets),
        token_ids=ids,
        segment_ids=np.broadcast_to((np.arange(_TOKENS) > 12).astype(np.int32), (n, _TOKENS)).copy(),
        lengths=np.full(n, _TOKENS, np.int32),
        positions=positions,
        labels=labels.astype(np.int32),
        masked=masked,
        sop_labels=(np.arange(n) % 2).astype(np.int8),
        bytes=np.full(n, 60, np.int32),
    )


def _write_steps(folder: StudyFolder, shape: Shape, run: str, index: int) -> None:
    rng = np.random.default_rng(index)
    step = np.repeat(np.arange(1, shape.trained + 1), shape.datasets)
    n = len(step)
    loss = (2 + 0.1 * index + 5 * (step + 20.0) ** -0.3) * rng.gamma(400, 1 / 400, n)
    masked = np.full(n, 4000)
    pairs = np.full(n, 300)
    table = pa.table(
        {
            "run": _name(run, n),
            "step": step,
            "dataset": _names(shape.dataset_names, np.tile(np.arange(shape.datasets), shape.trained)),
            "examples": np.full(n, 512),
            "tokens": np.full(n, 50_000),
            "masked": masked,
            "mlm_nats": loss * masked,
            "mlm_correct": masked // 3,
            "sop_pairs": pairs,
            "sop_nats": rng.gamma(400, 0.6 / 400, n) * pairs,
            "sop_correct": pairs // 2,
            "learning_rate": np.full(n, 1e-3),
            "gradient_norm": np.full(n, 1.0),
            "total_tokens": step * 50_000 * shape.datasets,
            "elapsed_s": step * 1.0,
        }
    )
    write_steps(folder.steps(run), table.select(STEP_SCHEMA.names))
    recipe = {"learning_rate": 0.001 * (1 + index % 3), "steps": shape.trained}
    record = {"backend": "torch", "size": "base", "datasets": shape.dataset_names, "recipe": recipe}
    write_json(folder.run(run) / "run.json", record)


def _write_scores(folder: StudyFolder, shape: Shape, run: str, index: int, validation: Examples) -> None:
    n = len(validation)
    offsets = np.concatenate([[0], np.cumsum(validation.masked)]).astype(np.int32)
    labels = validation.labels[validation.weights > 0]
    hard = np.random.default_rng(7).gamma(4, 0.25, len(labels)).astype(np.float32)
    for number in range(shape.steps):
        rng = np.random.default_rng([index, number])
        step = shape.trained * (number + 1) // shape.steps
        nats = hard * np.float32(2 + 0.1 * index + 3 / (number + 1)) + rng.random(len(labels), np.float32) / 4
        right = nats < 1.5
        sop = rng.gamma(1, 0.4, n)
        table = pa.table(
            {
                "run": _name(run, n),
                "step": np.full(n, step),
                "dataset": _names(shape.dataset_names, validation.dataset),
                "example": validation.example,
                "tokens": validation.lengths,
                "bytes": validation.bytes,
                "masked": validation.masked,
                "mlm_nats": np.add.reduceat(nats.astype(np.float64), offsets[:-1]),
                "mlm_correct": np.add.reduceat(right.astype(np.int32), offsets[:-1]).astype(np.int32),
                "sop_label": validation.sop_labels,
                "sop_nats": sop,
                "sop_correct": sop < 0.69,
                "position_nats": pa.ListArray.from_arrays(pa.array(offsets), pa.array(nats)),
                "predicted": pa.ListArray.from_arrays(
                    pa.array(offsets), pa.array(np.where(right, labels, 7).astype(np.int32))
                ),
            }
        )
        write_scores(folder.scores(run, step), rows_of(table), _header(folder, run, step))


def _header(folder: StudyFolder, run: str, step: int) -> ScoreHeader:
    return ScoreHeader(
        run=run,
        step=step,
        validation_digest="blake2b:0",
        tokenizer_digest=str(read_json(folder.tokenizer / "manifest.json")["digest"]),
        weights_digest=f"blake2b:{run}-{step}",
        backend="torch" if run.startswith("torch") else "tensorflow",
        device="cpu",
        precision="fp32",
        size="base",
        tokens=step * 400_000,
        objectives=("mlm", "sop"),
        lossary="0",
    )


def _name(name: str, count: int) -> pa.DictionaryArray:
    return _names([name], np.zeros(count, np.int32))


def _names(names: list[str], index: NDArray[np.integer]) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(index.astype(np.int32)), pa.array(names))
