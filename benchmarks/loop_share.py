"""The loop's own share of a training step: all that is neither forward, backward nor the update.

python -m benchmarks.loop_share [--quick] [--steps 40]

An ALBERT and a BERT of 256 units and three layers on the builtin mixture, batches of 32 rows of 128 tokens, PyTorch on
one thread. Each run is trained in a process of its own under Python's profiler, which makes the loop's lines dearer
and those of the libraries hardly: what is printed is an upper bound. The rest of a step is making batches, moving them,
scores of the rows, records, messages. Checkpoints are told beside it: how often they are written is the study's choice.
The last line is the largest share.
"""

import cProfile
import json
import os
import pstats
import sys
from pathlib import Path
from typing import Any

from benchmarks.common import TWO_DATASETS, arguments, in_process, temporary_folder
from lossary import pipeline
from lossary.folder import StudyFolder
from lossary.launcher import NotesOnly
from lossary.study_file import load_study
from lossary.training.loop import NothingDue, train

RUNS = """
[runs.albert]
backend = "torch"
device = "cpu"
size = { from = "base", width = 0.3334, depth = 0.25 }
[runs.bert]
backend = "torch"
device = "cpu"
model = { family = "bert", hidden_size = 256, num_hidden_layers = 3, num_attention_heads = 4 }
"""
# Functions by the end of their file and their name, and whose seconds they are.
STEP, SAVE = ("training/loop.py", "_step"), ("training/loop.py", "_save")
MODEL = (
    ("torch/backend.py", "_forward"),
    ("torch/encoders.py", "_forward"),
    ("torch/_tensor.py", "backward"),
    ("torch/nn/functional.py", "cross_entropy"),
    ("torch/law.py", "update"),
)


def main() -> None:
    """Measures and prints."""
    if sys.argv[1:2] == ["--job"]:
        print(json.dumps(profiled(json.loads(sys.argv[2]))))
        return
    options = arguments(__doc__, ("--steps", 40))
    with temporary_folder() as name:
        root, steps = Path(name), 8 if options.quick else options.steps
        (root / "study.toml").write_text(TWO_DATASETS.format(batch=32, steps=steps) + RUNS)
        pipeline.prepare(load_study(root), StudyFolder(root), listener=NotesOnly())
        shares = []
        for run in ("albert", "bert"):
            found = in_process("benchmarks.loop_share", {"root": name, "run": run}, OMP_NUM_THREADS="1")
            shares.append(found["own"] / found["step"])
            parts = ", ".join(f"{part} {seconds:.3f} s" for part, seconds in found.items())
            print(f"{run}: {parts}: {shares[-1]:.1%} of a step is the loop's")
    print(f"ratio={max(shares):.3f}")


def profiled(job: dict[str, Any]) -> dict[str, float]:
    """Seconds a step of one run: all of it, what is the loop's own, and a checkpoint's."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    root = Path(job["root"])
    profile = cProfile.Profile()
    profile.runcall(
        train, load_study(root), StudyFolder(root), job["run"], on_the_way=NothingDue(), emit=lambda _: None
    )
    calls = {
        (file, function): (count, seconds)
        for (file, _, function), (_, count, _, seconds, _) in pstats.Stats(profile).stats.items()  # type: ignore[attr-defined]
    }

    def of(end: tuple[str, str]) -> tuple[int, float]:
        return next(
            (found for (file, name), found in calls.items() if file.endswith(end[0]) and name == end[1]), (0, 0.0)
        )

    steps, _ = of(STEP)
    whole = of(("training/loop.py", "run"))[1] - of(SAVE)[1]
    return {
        "step": whole / steps,
        "own": (whole - sum(of(end)[1] for end in MODEL)) / steps,
        "checkpoint": of(SAVE)[1] / max(of(SAVE)[0], 1),
    }


if __name__ == "__main__":
    main()
