"""What a second process brings: one process on one core against two on two, steps of the same run.

python -m benchmarks.ranks [--quick] [--rounds 3] [--ranks 2]

An ALBERT of 256 units and three layers on the builtin mixture, batches of 64 rows of 128 tokens. The seconds of a step
are the median over a run's records, its first step left out; runs take turns, so that other work on the cores meets
both. The last line is the ratio of the steps' seconds, one process over several: 2.00 would be all of the second core.
"""

import tempfile
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow.compute as pc

from benchmarks.common import TWO_DATASETS, arguments
from lossary import pipeline
from lossary.folder import StudyFolder
from lossary.launcher import NotesOnly
from lossary.models.checkpoints import load_own_checkpoint
from lossary.results.records import read_steps
from lossary.study_file import load_study

RUN = """
[runs.{name}]
backend = "torch"
device = "cpu"
ranks = {ranks}
size = {{ from = "base", width = 0.3334, depth = 0.25 }}
"""


def main() -> None:
    """Measures and prints."""
    options = arguments(__doc__, ("--rounds", 3), ("--ranks", 2))
    rounds, steps = (1, 8) if options.quick else (options.rounds, 20)
    names = [
        (f"{kind}{number}", ranks) for number in range(rounds) for kind, ranks in (("one", 1), ("more", options.ranks))
    ]
    with tempfile.TemporaryDirectory() as place:
        folder = StudyFolder(Path(place))
        runs = "".join(RUN.format(name=name, ranks=ranks) for name, ranks in names)
        folder.study_file.write_text(TWO_DATASETS.format(batch=64, steps=steps) + runs)
        study = load_study(folder.study_file)
        pipeline.prepare(study, folder, listener=NotesOnly())
        for name, ranks in names:
            pipeline.train(study, folder, runs=[name], threads=ranks, listener=NotesOnly())
        seconds = {name: _step_s(folder, name) for name, _ in names}
        apart = _apart(folder, "one0", "more0", steps)
    one = [found for name, found in seconds.items() if name.startswith("one")]
    more = [found for name, found in seconds.items() if name.startswith("more")]
    print(f"a step of one process: {median(one):.2f} s; of {options.ranks}: {median(more):.2f} s")
    print(f"weights after {steps} steps: |difference| / |weights| = {apart:.1e}")
    print("ratios: " + " ".join(f"{a / b:.2f}" for a, b in zip(one, more, strict=True)))
    print(f"ratio={median(a / b for a, b in zip(one, more, strict=True)):.2f}")


def _step_s(folder: StudyFolder, run: str) -> float:
    table = read_steps(folder.steps(run))
    ends = [
        pc.max(table.filter(pc.field("step") == step)["elapsed_s"]).as_py()
        for step in pc.unique(table["step"]).to_pylist()
    ]
    return float(np.median(np.diff(ends)))


def _apart(folder: StudyFolder, first: str, second: str, steps: int) -> float:
    ours, theirs = (load_own_checkpoint(folder.checkpoint(run, steps)).parameters for run in (first, second))
    differences = np.concatenate([(ours[name] - theirs[name]).ravel() for name in theirs])
    return float(np.linalg.norm(differences) / np.linalg.norm(np.concatenate([v.ravel() for v in theirs.values()])))


if __name__ == "__main__":
    main()
