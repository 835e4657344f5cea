"""What the benchmarks share: studies to measure on, alternated rounds, medians, workers in processes of their own."""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil

from lossary.data.builtin import builtin_rows
from lossary.data.prepare import prepare_datasets
from lossary.data.validation import prepare_examples
from lossary.folder import StudyFolder
from lossary.study import Study
from lossary.study_file import parse_study

STUDY = """
name = "benchmark"
[tokenizer]
vocabulary_size = {vocabulary}
[datasets.docstrings]
source = "builtin:docstrings"
[datasets.comments]
source = "builtin:comments"
[datasets.reference]
source = "builtin:reference"
[mixture]
shares = "examples"
[validation]
examples = {validation}
[recipe]
sequence_length = 128
batch_size = {batch}
steps = 1000
[recipe.optimizer]
name = "adamw"
learning_rate = 0.0005
[runs.torch]
backend = "torch"
size = {{ from = "base", width = 0.3333333333333333, depth = 0.5 }}
[runs.tensorflow]
backend = "tensorflow"
size = {{ from = "base", width = 0.3333333333333333, depth = 0.5 }}
"""


# Two datasets of the builtin mixture, batches of 128 tokens: runs are added.
TWO_DATASETS = """
name = "benchmark"
[tokenizer]
vocabulary_size = 4000
[datasets.docstrings]
source = "builtin:docstrings"
[datasets.comments]
source = "builtin:comments"
[validation]
examples = 100
[recipe]
sequence_length = 128
batch_size = {batch}
steps = {steps}
[recipe.optimizer]
warmup = 5
"""


def arguments(description: str | None, *extra: tuple[str, Any]) -> argparse.Namespace:
    """`--quick` and whatever else a benchmark takes."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a smoke size")
    for name, default in extra:
        parser.add_argument(name, default=default, type=type(default) if default is not None else str)
    return parser.parse_args()


def prepared_study(
    root: Path, *, vocabulary: int = 16000, batch: int = 32, validation: int = 1200
) -> tuple[Study, StudyFolder]:
    """The builtin mixture, prepared at length 128."""
    text = STUDY.format(vocabulary=vocabulary, batch=batch, validation=validation)
    root.mkdir(parents=True, exist_ok=True)
    (root / "study.toml").write_text(text)
    study, folder = parse_study(text), StudyFolder(root)
    prepare_datasets(study, folder)
    prepare_examples(study, folder)
    return study, folder


def lines_of_text(megabytes: float, seed: int = 0) -> Iterator[str]:
    """Documents of the builtin mixture's sentences, drawn anew until there is enough, so that no document repeats."""
    rows = [row["text"] or "" for name in ("docstrings", "comments", "reference") for row in builtin_rows(name)]
    sentences = np.array([line.strip() for row in rows for line in row.split("\n") if line.strip()], dtype=object)
    rng = np.random.default_rng(seed)
    left = megabytes * 1e6
    while left > 0:
        for count in rng.integers(3, 40, 1000):
            text = " ".join(rng.choice(sentences, count))
            left -= len(text.encode()) + 1
            yield text
            if left <= 0:
                return


def alternate(rounds: int, *sides: Callable[[], float]) -> list[float]:
    """The median of each side's figure over rounds in which the sides take turns."""
    figures: list[list[float]] = [[] for _ in sides]
    for _ in range(rounds):
        for figure, side in zip(figures, sides, strict=True):
            figure.append(side())
    return [median(figure) for figure in figures]


def in_process(module: str, job: dict[str, Any], **environment: str) -> dict[str, Any]:
    """Runs `python -m module --job JSON` and returns the JSON on the last line that it prints."""
    command = [sys.executable, "-m", module, "--job", json.dumps(job)]
    run = subprocess.run(
        command,
        env=dict(os.environ) | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        sys.exit(f"{module} {job}: {run.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(run.stdout.strip().splitlines()[-1])
    return result


def neighbours(parameters: dict[str, np.ndarray], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Every weight one ulp up or down, as another kernel's rounding might move what is computed from it."""
    up_or_down = np.array([-np.inf, np.inf], np.float32)
    return {name: np.nextafter(w, up_or_down[rng.integers(0, 2, w.shape, np.int8)]) for name, w in parameters.items()}


class PeakMemory:
    """The largest sum of unique memory of this process and its children while it lasts, in bytes."""

    def __enter__(self) -> "PeakMemory":
        self.peak = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        me = psutil.Process()
        while not self._stop.wait(0.05):
            total = 0
            for process in [me, *me.children(recursive=True)]:
                try:
                    memory = process.memory_full_info()
                    total += memory.uss
                except psutil.Error:
                    continue
            self.peak = max(self.peak, total)


def peak_mb() -> float:
    """The peak of this program alone: what `getrusage` says begins with the memory of the process that started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1e3


def peak_of_workers_mb() -> float:
    """The largest peak among the processes that this one started and that have ended."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e3


def temporary_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder that goes when the benchmark ends."""
    return tempfile.TemporaryDirectory(prefix="lossary-benchmark-")


def clock() -> float:
    """Seconds."""
    return time.perf_counter()
