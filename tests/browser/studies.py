"""Studies of any size whose numbers follow from a seed: manifests, scores, steps, validation examples, a tokenizer."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import sentencepiece
from tests.schema1 import SCHEMA_1, rows_of

from lossary.data.examples import Examples
from lossary.data.freeze import write_examples
from lossary.data.manifests import write_manifest
from lossary.data.parts import EXAMPLES
from lossary.files import digest_file, read_json, write_json
from lossary.folder import StudyFolder
from lossary.results.importers.maps import parse_maps
from lossary.results.importers.recognise import read_any
from lossary.results.records import STEP_SCHEMA, ScoreHeader, read_header, write_scores, write_steps
from lossary.results.stopped import Stopped, StoppedPart
from lossary.tables.imported import save_import

WORDS = ["alpha", "beta", "gamma", "delta", "שלום", "عالم", "<b>bold</b>", "</script><script>alert(1)</script>"]


class Shape(NamedTuple):
    """How large a study is."""

    runs: int = 3
    datasets: int = 3
    examples: int = 60  # of a dataset
    steps: int = 300
    sop: bool = True
    missing: bool = False  # the last run was scored on the first dataset only
    twins: bool = False  # the first two runs have the same losses


def write_study(root: Path, shape: Shape, *, name: str = "a study", link: str = "https://example.org/data") -> Path:
    """Writes a study that is finished; returns its folder."""
    folder = StudyFolder(root)
    root.mkdir(parents=True, exist_ok=True)
    datasets = [f"dataset_{index:03d}" for index in range(shape.datasets)]
    runs = [f"run_{index:02d}" for index in range(shape.runs)]
    (root / "study.toml").write_text(_study_file(name, link, datasets, runs), encoding="utf-8")
    pieces = _write_tokenizer(folder)
    rng = np.random.default_rng(1)
    examples = _examples(rng, shape, pieces)
    _write_manifests(folder, datasets, examples, shape)
    for index, run in enumerate(runs):
        for step in (shape.steps // 2, shape.steps):
            only = [0] if shape.missing and index == len(runs) - 1 else list(range(shape.datasets))
            _write_scores(folder, run, step, datasets, examples, shape, (_losses_of(index, shape), only))
        _write_steps(folder, run, datasets, shape, _losses_of(index, shape))
        recipe = {"steps": shape.steps, "optimizer": {"learning_rate": 0.001 * (1 + index)}}
        record = {"backend": "torch", "size": "base", "datasets": datasets, "recipe": recipe}
        write_json(folder.run(run) / "run.json", record)
    return root


def _losses_of(index: int, shape: Shape) -> int:
    return 0 if shape.twins and index == 1 else index


def _study_file(name: str, link: str, datasets: list[str], runs: list[str]) -> str:
    parts = [f"name = {json.dumps(name)}"]
    parts += [f'[datasets.{d}]\nsource = "{d}.txt"\nlink = {json.dumps(link)}' for d in datasets]
    parts += [f'[runs.{run}]\nbackend = "torch"\nsize = "base"' for run in runs]
    return "\n".join(parts) + "\n"


def _write_tokenizer(folder: StudyFolder) -> int:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([" ".join(WORDS)] * 20),
        model_writer=model,
        vocab_size=5 + len(WORDS),
        model_type="word",
        pad_id=0,
        unk_id=1,
        bos_id=-1,
        eos_id=-1,
        control_symbols=["[CLS]", "[SEP]", "[MASK]"],
        minloglevel=2,
    )
    folder.tokenizer.mkdir(parents=True)
    (folder.tokenizer / "spiece.model").write_bytes(model.getvalue())
    size = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue()).vocab_size()
    write_json(
        folder.tokenizer / "manifest.json",
        {"digest": digest_file(folder.tokenizer / "spiece.model"), "vocabulary_size": size},
    )
    return len(WORDS)


def _examples(rng: np.random.Generator, shape: Shape, pieces: int) -> Examples:
    count, length, masks = shape.datasets * shape.examples, 24, 4
    # Specials are 0 to 4, the words come after them.
    ids = rng.integers(5, 5 + pieces, (count, length)).astype(np.int32)
    ids[:, 0], ids[:, 12], ids[:, -1] = 2, 3, 3
    positions = np.sort(rng.permuted(np.tile(np.arange(1, 12), (count, 1)), axis=1)[:, :masks], axis=1).astype(np.int32)
    labels = np.take_along_axis(ids, positions, axis=1)
    np.put_along_axis(ids, positions, np.int32(4), axis=1)
    return Examples(
        dataset=np.repeat(np.arange(shape.datasets), shape.examples).astype(np.int16),
        example=np.tile(np.arange(shape.examples, dtype=np.uint64) << np.uint64(24), shape.datasets),
        token_ids=ids,
        segment_ids=np.zeros_like(ids),
        lengths=np.full(count, length, np.int32),
        positions=positions,
        labels=labels,
        masked=np.full(count, masks, np.int32),
        sop_labels=np.tile([0, 1], count)[:count].astype(np.int8) if shape.sop else np.full(count, -1, np.int8),
        bytes=np.full(count, 100, np.int32),
    )


def _write_manifests(folder: StudyFolder, datasets: list[str], examples: Examples, shape: Shape) -> None:
    for index, name in enumerate(datasets):
        part = folder.validation_part(name)
        part.mkdir(parents=True)
        blocks = write_examples(part / EXAMPLES, [examples.take(examples.dataset == index)]).blocks
        write_manifest(part, {"dataset": name, "digest": "blake2b:0123456789abcdef", "files": {EXAMPLES: blocks}})
    described = {
        name: {
            "share": 1 / len(datasets),
            "examples": shape.examples,
            "unigram_entropy_nats": 4.0,
            "sop_entropy_nats": 0.6931 if shape.sop else None,
        }
        for name in datasets
    }
    manifest = {
        "digest": "blake2b:0123456789abcdef",
        "parts": dict.fromkeys(datasets, "blake2b:0123456789abcdef"),
        "tokenizer_digest": read_json(folder.tokenizer / "manifest.json")["digest"],
        "datasets": datasets,
        "notes": [],
        "per_dataset": described,
    }
    write_manifest(folder.validation, manifest)
    for index, name in enumerate(datasets):
        rows = 1000 * (index + 1)
        write_json(folder.spans(name, 512) / "manifest.json", {"rows": rows, "examples": rows})
        write_json(
            folder.dataset(name) / "manifest.json",
            {"digest": f"blake2b:{name}", "rows": rows, "bad_rows": 0, "shards": []},
        )


def _write_scores(
    folder: StudyFolder,
    run: str,
    step: int,
    datasets: list[str],
    examples: Examples,
    shape: Shape,
    which: tuple[int, list[int]],
) -> None:
    index, only = which
    rng = np.random.default_rng(7)
    kept = np.isin(examples.dataset, only)
    count, masks = len(examples), examples.positions.shape[1]
    nats = (3.0 - step / shape.steps + 0.05 * index) * rng.gamma(8, 1 / 8, (count, masks))
    right = rng.random((count, masks)) < 0.3
    sop = rng.gamma(1, 0.4, count)
    columns = {
        "run": pa.array([run] * count).dictionary_encode(),
        "step": np.full(count, step),
        "dataset": pa.DictionaryArray.from_arrays(examples.dataset.astype(np.int32), datasets),
        "example": examples.example,
        "tokens": examples.lengths,
        "bytes": examples.bytes,
        "masked": examples.masked,
        "mlm_nats": nats.sum(axis=1),
        "mlm_correct": right.sum(axis=1).astype(np.int32),
        "sop_label": pa.array(examples.sop_labels, mask=examples.sop_labels < 0),
        "sop_nats": pa.array(sop, mask=examples.sop_labels < 0),
        "sop_correct": pa.array(sop < 0.69, mask=examples.sop_labels < 0),
        "position_nats": pa.array(list(nats.astype(np.float32)), SCHEMA_1.field("position_nats").type),
        "predicted": pa.array(
            list(np.where(right, examples.labels, 5 + index % 8).astype(np.int32)), SCHEMA_1.field("predicted").type
        ),
    }
    header = ScoreHeader(
        run=run,
        step=step,
        validation_digest="blake2b:0123456789abcdef",
        tokenizer_digest=read_json(folder.tokenizer / "manifest.json")["digest"],
        weights_digest=f"blake2b:{run}",
        backend="torch",
        device="cpu",
        precision="fp32",
        size="base",
        tokens=1000 * step,
        objectives=("mlm", "sop") if shape.sop else ("mlm",),
        lossary="0",
    )
    write_scores(folder.scores(run, step), rows_of(pa.table(columns).filter(pa.array(kept))), header)


def _write_steps(folder: StudyFolder, run: str, datasets: list[str], shape: Shape, index: int) -> None:
    rng = np.random.default_rng(index)
    step = np.repeat(np.arange(1, shape.steps + 1), len(datasets))
    count = len(step)
    loss = 2 + 5 * np.exp(-step / 40) + rng.normal(0, 0.2, count)
    pairs = 8 if shape.sop else 0
    columns = {
        "run": pa.array([run] * count).dictionary_encode(),
        "step": step,
        "dataset": pa.DictionaryArray.from_arrays(
            np.tile(np.arange(len(datasets)), shape.steps).astype(np.int32), datasets
        ),
        "examples": np.full(count, 8),
        "tokens": np.full(count, 1000 // len(datasets)),
        "masked": np.full(count, 100),
        "mlm_nats": 100 * loss,
        "mlm_correct": np.full(count, 20),
        "sop_pairs": np.full(count, pairs),
        "sop_nats": np.full(count, 0.6 * pairs),
        "sop_correct": np.full(count, 5),
        "learning_rate": np.full(count, 0.001),
        "gradient_norm": np.full(count, 1.0),
        "total_tokens": 1000 * step,
        "elapsed_s": step.astype(float),
    }
    write_steps(folder.steps(run), pa.table(columns).select(STEP_SCHEMA.names))


HOSTILE = "<img src=x onerror=alert(1)> \u202e & \"'`"


def special_studies(root: Path, *, most_datasets: int) -> dict[str, Path]:
    """Studies by what is special about them."""
    return {
        "plain": write_study(root / "plain", Shape()),
        "hostile": write_study(root / "hostile", Shape(missing=True), name=HOSTILE, link="javascript:alert(1)"),
        "bare": write_study(root / "bare", Shape(runs=1, sop=False)),
        "wide": write_study(root / "wide", Shape(runs=60, datasets=most_datasets, examples=4, steps=20)),
        "twins": write_study(root / "twins", Shape(twins=True)),
        "several": _several(write_study(root / "several", Shape(sop=False))),
        "decided": _decided(write_study(root / "decided", Shape(runs=10, sop=False))),
        "imported": _imported(root / "imported"),
        "names": _names(root / "names"),
    }


def _several(root: Path) -> Path:
    """Gives each run a vocabulary of its own; the last one reads from left to right."""
    for path in root.glob("runs/*/scores/*.parquet"):
        table, header = pq.read_table(path), read_header(path)
        name = f"WordPiece {header.run}"
        header = replace(header, vocabulary=name, vocabulary_digest=f"blake2b:{header.run}", tokenizer="own")
        if header.run == "run_02":
            at = table.column_names.index("objective")
            field = table.schema.field(at)
            table = table.set_column(at, field, pa.array(["clm"] * len(table), field.type))
            header = replace(header, objectives=("clm",))
        write_scores(path, table, header)
    return root


def _decided(root: Path) -> Path:
    """Two seeds of five mixtures, and the last run scored on some examples only, until it was clear how it differs."""
    rng = np.random.default_rng(3)
    folder, study = StudyFolder(root), (root / "study.toml").read_text(encoding="utf-8")
    shares = rng.dirichlet(np.full(3, 4.0), 5)
    for index, path in enumerate(sorted(root.glob("runs/*"))):
        study = study.replace(f"[runs.{path.name}]", f"[runs.{path.name}]\nseed = {index % 2}")
        record = read_json(path / "run.json")
        datasets = record["datasets"]
        record["weights"] = dict(zip(datasets, map(float, shares[index // 2]), strict=True))
        record["recipe"] = {"steps": 300, "seed": index % 2}
        write_json(path / "run.json", record)
        steps = pq.read_table(path / "steps.parquet")
        of_step = np.tile(np.round(1000 * shares[index // 2]).astype(int), len(steps) // 3)
        at = steps.column_names.index("examples")
        write_steps(path / "steps.parquet", steps.set_column(at, steps.schema.field(at), pa.array(of_step)))
        for scored in path.glob("scores/*.parquet"):
            table, header = pq.read_table(scored), read_header(scored)
            name = table.column("dataset").to_pandas().str.removeprefix("dataset_").astype(int).to_numpy()
            effect = 0.2 * np.log2(shares[index // 2][name]) + 0.05 * (index % 2) + 0.05 * index
            nats = table.column("nats").to_numpy() * np.exp(-effect + rng.normal(0, 0.15, len(table)))
            at = table.column_names.index("nats")
            write_scores(scored, table.set_column(at, table.schema.field(at), pa.array(nats)), header)
    (root / "study.toml").write_text(study, encoding="utf-8")
    _stopped(folder, "run_09", "run_00", 300)
    return root


def _stopped(folder: StudyFolder, run: str, base: str, step: int) -> None:
    scores = folder.scores(run, step)
    header, of_base = read_header(scores), read_header(folder.scores(base, step))
    answers: list[tuple[int, float, float, float, Any]] = [
        (20, -0.21, -0.35, -0.07, "differs"),
        (60, 0.02, -0.04, 0.08, "undecided"),
        (40, 0.09, 0.01, 0.17, "differs"),
    ]
    names = list(header.validation or read_json(folder.validation / "manifest.json")["datasets"])
    digest = "blake2b:0123456789abcdef"
    parts = {
        name: StoppedPart(
            examples=n, available=60, part=digest, value=value, low=low, high=high, answer=answer, reason=None
        )
        for name, (n, value, low, high, answer) in zip(names, answers, strict=True)
    }
    stopped = Stopped(
        rule="obrien-fleming",
        level=0.05,
        margin=None,
        metric="mlm_loss",
        base=base,
        base_step=step,
        base_weights_digest=of_base.weights_digest,
        shares=dict.fromkeys(names, 1 / 3),
        parts=parts,
    )
    table = pq.read_table(scores)
    write_scores(folder.sequential(run, step), table, replace(header, stopped=stopped))
    for path in folder.scores(run, step).parent.glob("*.parquet"):
        path.unlink()


def _imported(root: Path) -> Path:
    root.mkdir()
    cell = HOSTILE.replace("|", "")
    lines = [
        f"| dataset | train rows | val % | {cell} MLM loss | other MLM loss |",
        "|---|---|---|---|---|",
        f"| {cell} | 1000 | 40 | [1.5](javascript:alert(1)) | 2.5 |",
        "| [second](data:text/html,x) | 2000 | 60 | — | [3.5](https://example.org/run) |",
    ]
    path = root / "page.md"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    save_import(root, HOSTILE, [read_any(path, parse_maps([]))])
    return root


# Names that are long, of one beginning, and written from right to left.
LONG_NAMES = [
    "Bundesverfassungsgerichtsentscheidungssammlung_Nachkriegszeit_Teil_eins",
    "Bundesverfassungsgerichtsentscheidungssammlung_Nachkriegszeit_Teil_zwei",
    "a/very/long/path/like/name/of/a/dataset/that/goes/on/and/on/until/it/ends.jsonl",
    "مجموعة بيانات الأخبار العربية الطويلة جدا من المصادر المختلفة",
    "wiki",
]


def _names(root: Path) -> Path:
    root.mkdir()
    runs = ["torch_xxl_baseline_of_a_long_name_lr_0.001_seed_1", "torch_xxl_baseline_of_a_long_name_lr_0.001_seed_2"]
    lines = [f"| dataset | {' | '.join(f'{run} MLM loss' for run in runs)} |", "|---|---|---|"]
    lines += [f"| {name} | {2 + index / 7:.3f} | {3 - index / 9:.3f} |" for index, name in enumerate(LONG_NAMES)]
    path = root / "page.md"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    save_import(root, "names", [read_any(path, parse_maps([]))])
    return root
