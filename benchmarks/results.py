"""Reading at scale: `show` and `check` of 200 runs × 20 datasets × 10,000 examples, 40 million scores.

Writes score files of that size (positions left out: nothing here reads them), then times the commands as a user would
and watches their memory. The peer is a plain pandas groupby of the same files for the same means, without intervals or
pairing. The last line is the peer's time over that of `show`; targets: 10 s and 2 GB for each command.

    python -m benchmarks.results [--runs 200] [--quick]
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
from tests.schema1 import SCHEMA_1, rows_of

from benchmarks.common import arguments, clock, temporary_folder
from lossary.files import write_json
from lossary.folder import StudyFolder
from lossary.results.records import ScoreHeader, write_scores

DATASETS, EXAMPLES = 20, 10_000


def main() -> None:
    """Measures and prints."""
    options = arguments(__doc__, ("--runs", 200))
    runs = 10 if options.quick else options.runs
    with temporary_folder() as name:
        folder = StudyFolder(Path(name))
        scores = write_study(folder, runs)
        print(f"{runs} runs × {DATASETS} datasets × {EXAMPLES:,} examples = {scores / 1e6:.0f} million scores")
        seconds = {}
        for verb, more in (("show", ()), ("show", ("--base", "run000")), ("check", ("--fail-on", "never"))):
            took, peak = command(verb, name, *more)
            title = " ".join((verb, *more))
            seconds[title] = took
            print(f"lossary {title:<26} {took:6.1f} s, {peak / 1e9:.2f} GB")
        peer = pandas_means(folder)
        print(f"pandas groupby             {peer:14.1f} s")
    print(f"ratio={peer / seconds['show']:.2f}")


def command(*words: str) -> tuple[float, int]:
    """Seconds and peak memory of a lossary command."""
    start = clock()
    process = subprocess.Popen([sys.executable, "-m", "lossary", *words], stdout=subprocess.DEVNULL)
    peak, watched = 0, psutil.Process(process.pid)
    while process.poll() is None:
        try:
            peak = max(peak, watched.memory_info().rss)
            process.wait(0.05)
        except (psutil.Error, subprocess.TimeoutExpired):
            continue
    if process.returncode:
        sys.exit(f"lossary {' '.join(words)} exited with {process.returncode}")
    return clock() - start, peak


def write_study(folder: StudyFolder, runs: int) -> int:
    """A study with manifests and scores; runs share what makes an example hard."""
    names = [f"dataset{index:02d}" for index in range(DATASETS)]
    tables = "".join(f'[datasets.{name}]\nsource = "{name}.txt"\n' for name in names)
    columns = "".join(f'[runs.run{index:03d}]\nbackend = "torch"\nsize = "base"\n' for index in range(runs))
    (folder.root / "study.toml").write_text(f'name = "scale"\n{tables}{columns}')
    described = {
        name: {
            "share": 1 / DATASETS,
            "examples": EXAMPLES,
            "unigram_entropy_nats": 7.0,
            "sop_entropy_nats": 0.6931,
        }
        for name in names
    }
    for name in names:
        write_json(folder.spans(name, 512) / "manifest.json", {"rows": 10**6, "examples": 10**6})
        write_json(folder.dataset(name) / "manifest.json", {"digest": name, "rows": 10**6, "bad_rows": 0, "shards": []})
    manifest = {"digest": "blake2b:0", "tokenizer_digest": "blake2b:1", "notes": [], "datasets": names}
    manifest["per_dataset"] = described
    write_json(folder.validation / "manifest.json", manifest)
    rng = np.random.default_rng(0)
    n = DATASETS * EXAMPLES
    masked = np.minimum(2 + rng.geometric(0.05, n), 76).astype(np.int32)
    hard = rng.gamma(8, 1 / 8, n)
    label = (np.arange(n) % 2).astype(np.int8)
    for index in range(runs):
        nats = masked * hard * (2 + 0.01 * index) + rng.normal(0, 0.5, n)
        sop = rng.gamma(1, 0.3, n)
        table = pa.table(
            {
                "run": pa.array([f"run{index:03d}"] * n).dictionary_encode(),
                "step": np.full(n, 100),
                "dataset": pa.array(np.repeat(names, EXAMPLES)).dictionary_encode(),
                "example": np.arange(n, dtype=np.uint64),
                "tokens": masked * 7,
                "bytes": masked * 30,
                "masked": masked,
                "mlm_nats": nats,
                "mlm_correct": rng.binomial(masked, 0.5).astype(np.int32),
                "sop_label": label,
                "sop_nats": sop,
                "sop_correct": sop < 0.69,
                "position_nats": pa.nulls(n, SCHEMA_1.field("position_nats").type),
                "predicted": pa.nulls(n, SCHEMA_1.field("predicted").type),
            }
        )
        header = ScoreHeader(
            run=f"run{index:03d}",
            step=100,
            validation_digest="blake2b:0",
            tokenizer_digest="blake2b:1",
            weights_digest=f"blake2b:{index}",
            backend="torch",
            device="cpu",
            precision="fp32",
            size="base",
            tokens=1,
            objectives=("mlm", "sop"),
            lossary="0",
        )
        write_scores(folder.scores(header.run, 100), rows_of(table), header)
    return n * runs


def pandas_means(folder: StudyFolder) -> float:
    """The same losses by dataset with pandas."""
    import pandas as pd

    start = clock()
    for path in sorted((folder.root / "runs").glob("*/scores/*.parquet")):
        frame = pd.read_parquet(path, columns=["objective", "dataset", "targets", "nats", "correct"])
        sums = frame.groupby(["objective", "dataset"], observed=True).sum()
        (sums.nats / sums.targets).to_dict()
    return clock() - start


if __name__ == "__main__":
    main()
