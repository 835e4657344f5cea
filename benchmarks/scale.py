"""What grows with a study, and how: rows that are kept account of, and workers that share the work.

Three parts, all by default: `rows` are a mixture of three datasets of short synthetic lines, a fiftieth of them copies,
that is split, freed of copies of what is frozen, cut into spans and drawn from in its training order; `workers` is
tokenising the same text by one and two processes and by a Ray cluster of this machine; `engine` is one run trained
here and by Ray. Each stage is a process of its own, whose largest memory is what the kernel counted. Ratios: seconds a
row at the most rows to those at the fewest; one worker to two; Ray to this machine.

    python -m benchmarks.scale [--quick] [--part rows|workers|engine] [--sizes 0.5,5,50] [--plot docs/scale.svg]
"""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.common import (
    alternate,
    arguments,
    clock,
    in_process,
    lines_of_text,
    peak_mb,
    peak_of_workers_mb,
    temporary_folder,
)
from lossary import pipeline
from lossary.data.batches import TrainingData, training_shares
from lossary.data.prepare import prepare_datasets
from lossary.data.validation import prepare_examples
from lossary.engines.api import open_engine
from lossary.folder import StudyFolder
from lossary.launcher import NotesOnly
from lossary.study_file import load_study

ROWS = """
name = "scale"
[tokenizer]
vocabulary_size = 4000
sample_bytes = 2000000
[datasets.reform]
source = "reform.txt"
[datasets.views]
source = "views.txt"
[datasets.chat]
source = "chat.txt"
[validation]
examples = {examples}
[recipe]
sequence_length = 64
batch_size = 4096
steps = 125000
[runs.xxl]
backend = "torch"
size = "xxlarge"
"""
# Shares of the rows.
PARTS = {"reform": 0.36, "views": 0.29, "chat": 0.35}
STAGES = ("prepare", "freeze", "order")
TEXT = """
name = "workers"
[tokenizer]
vocabulary_size = 8000
sample_bytes = 2000000
[datasets.text]
source = "text.txt"
[recipe]
sequence_length = 128
batch_size = 16
steps = {steps}
checkpoint_every = 1000
[runs.one]
backend = "torch"
device = "cpu"
size = {{ from = "base", width = 0.1667, depth = 0.1667 }}
"""


def main() -> None:
    """Measures and prints."""
    if "--job" in sys.argv:
        job = json.loads(sys.argv[sys.argv.index("--job") + 1])
        print(json.dumps(JOBS[job["stage"]](job)))
        return
    options = arguments(__doc__, ("--part", ""), ("--sizes", "0.5,5,50"), ("--plot", ""), ("--rounds", 3))
    parts: dict[str, Callable[[Any], float]] = {"rows": rows, "workers": workers, "engine": engine}
    chosen = [options.part] if options.part else list(parts)
    print("ratio=" + " ".join(f"{name}:{parts[name](options):.2f}" for name in chosen))


def rows(options: Any) -> float:
    """Seconds a row at the most rows over those at the fewest, all stages together."""
    sizes = [0.05, 0.2] if options.quick else [float(size) for size in options.sizes.split(",")]
    found: list[dict[str, Any]] = []
    print("million rows  stage    seconds  peak MB  of a worker  disk/text")
    for size in sizes:
        with temporary_folder() as name:
            text = write_rows(Path(name), round(size * 1e6))
            for stage in STAGES:
                row = in_process("benchmarks.scale", {"stage": stage, "root": name}) | {"size": size, "stage": stage}
                found.append(row)
                disk = sum(path.stat().st_size for path in (Path(name) / "prepared").rglob("*") if path.is_file())
                print(
                    f"{size:12g}  {stage:7}  {row['seconds']:7.1f}  {row['peak']:7.0f}  {row['worker']:11.0f}  "
                    f"{disk / text:9.2f}",
                    flush=True,
                )
                if note := row.get("note"):
                    print(f"{'':12}  {note}")
    if options.plot:
        plot(found, Path(options.plot))
    least, most = min(sizes), max(sizes)
    each = [sum(row["seconds"] for row in found if row["size"] == size) / size for size in (least, most)]
    return each[1] / each[0]


def write_rows(root: Path, count: int) -> int:
    """Writes a study of short lines, a fiftieth of them said before; returns the bytes of its text."""
    (root / "study.toml").write_text(ROWS.format(examples=max(1000, count // 1000)))
    rng = np.random.default_rng(0)
    words = np.array(["".join(rng.choice(list("aeiklmnorstu"), 4)) for _ in range(3000)], dtype=object)
    numbered = 0
    for name, share in PARTS.items():
        with (root / f"{name}.txt").open("w") as file:
            left = round(count * share)
            while left:
                some = min(10_000, left)
                numbers = np.arange(numbered, numbered + some)
                copies = rng.random(some) < 0.02
                numbers[copies] = rng.integers(0, numbered + 1, copies.sum())
                # The words follow from the number: a copy is one to the letter.
                pairs = np.stack([numbers * 7919 % len(words), numbers * 104729 % len(words)])
                file.writelines(f"{a} {b} {n}\n" for a, b, n in zip(*words[pairs], numbers, strict=True))
                numbered, left = numbered + some, left - some
    return sum((root / f"{name}.txt").stat().st_size for name in PARTS)


def _rows_stage(job: dict[str, Any]) -> dict[str, Any]:
    root = Path(job["root"])
    study, folder = load_study(root), StudyFolder(root)
    told: dict[str, Any] = {}
    start = clock()
    if job["stage"] == "prepare":
        prepare_datasets(study, folder, workers=2)
    elif job["stage"] == "freeze":
        prepare_examples(study, folder)
    else:
        told["note"] = _draw(TrainingData(study, folder, "xxl", weights=training_shares(study, folder, 64)))
    seconds = clock() - start
    return {"seconds": seconds, "peak": peak_mb(), "worker": peak_of_workers_mb(), **told}


def _draw(data: TrainingData) -> str:
    """Makes batches of the whole length of a training run, of steps far apart."""
    steps = np.random.default_rng(0).integers(0, 125_000, 100)
    each = []
    for step in steps:
        began = clock()
        data.batch(int(step))
        each.append(clock() - began)
    return f"a batch of 4,096 at any of 125,000 steps: {median(each) * 1e3:.0f} ms"


def workers(options: Any) -> float:
    """Speed of two processes over that of one."""
    with temporary_folder() as name:
        root = Path(name)
        (root / "text.txt").write_text("\n".join(lines_of_text(2 if options.quick else 40)))
        (root / "study.toml").write_text(TEXT.format(steps=10))
        size = (root / "text.txt").stat().st_size / 1e6
        prepare_datasets(load_study(root), StudyFolder(root))

        def by(count: int, kind: str = "local") -> float:
            shutil.rmtree(root / "prepared")
            job = {"stage": "tokenise", "root": name, "workers": count, "engine": kind}
            return size / float(in_process("benchmarks.scale", job)["seconds"])

        rounds = 1 if options.quick else options.rounds
        one, two, ray = alternate(rounds, lambda: by(1), lambda: by(2), lambda: by(2, "ray"))
    print(f"{size:.0f} MB of text: one process {one:.1f} MB/s, two {two:.1f}, two cores of Ray {ray:.1f}")
    return two / one


def _tokenise(job: dict[str, Any]) -> dict[str, Any]:
    root = Path(job["root"])
    with open_engine(job["engine"]) as engine:
        start = clock()
        prepare_datasets(load_study(root), StudyFolder(root), workers=job["workers"], tokenisers=engine.tokenisers)
        return {"seconds": clock() - start}


def engine(options: Any) -> float:
    """Seconds of a run that a standing Ray cluster places, from the command's first to its last moment, over none."""
    from ray.cluster_utils import Cluster

    with temporary_folder() as name:
        root = Path(name)
        (root / "text.txt").write_text("\n".join(lines_of_text(2)))
        (root / "study.toml").write_text(TEXT.format(steps=20 if options.quick else 1500))
        pipeline.prepare(load_study(root), StudyFolder(root), listener=NotesOnly())

        def by(kind: str, address: str | None = None) -> float:
            shutil.rmtree(root / "runs", ignore_errors=True)
            job = {"stage": "train", "root": name, "engine": kind, "address": address}
            return float(in_process("benchmarks.scale", job)["seconds"])

        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
        try:
            here, standing, own = alternate(
                1 if options.quick else options.rounds,
                lambda: by("local"),
                lambda: by("ray", cluster.address),
                lambda: by("ray"),
            )
        finally:
            cluster.shutdown()
    print(f"a run here {here:.1f} s; by a Ray cluster that stands {standing:.1f} s, {standing - here:.1f} s more")
    print(f"by a cluster that is started for it {own:.1f} s, {own - here:.1f} s more")
    return standing / here


def _train(job: dict[str, Any]) -> dict[str, Any]:
    root = Path(job["root"])
    start = clock()
    with open_engine(job["engine"], job["address"]) as engine:
        pipeline.train(load_study(root), StudyFolder(root), threads=1, engine=engine, listener=NotesOnly())
    return {"seconds": clock() - start}


def plot(found: list[dict[str, Any]], path: Path) -> None:
    """Seconds and memory against rows, as an SVG."""
    import altair
    import vl_convert

    base = altair.Chart(altair.Data(values=found)).mark_line(point=True)
    x = altair.X("size:Q", title="million rows", scale=altair.Scale(type="log"))
    stage = altair.Color("stage:N", title=None)
    time = base.encode(x=x, y=altair.Y("seconds:Q", title="seconds", scale=altair.Scale(type="log")), color=stage)
    memory = base.encode(
        x=x, y=altair.Y("peak:Q", title="peak memory, MB", scale=altair.Scale(domain=[0, 500])), color=stage
    )
    chart = altair.hconcat(time.properties(width=300, height=220), memory.properties(width=300, height=220))
    path.write_text(vl_convert.vegalite_to_svg(chart.to_dict()), encoding="utf-8")


JOBS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    **dict.fromkeys(STAGES, _rows_stage),
    "tokenise": _tokenise,
    "train": _train,
}


if __name__ == "__main__":
    main()
