"""Time of `lossary run` on a small study: from nothing, and again with nothing to do; where it goes, stage by stage.

python -m benchmarks.small_run [--quick] [--rounds 3]

The builtin mixture, one PyTorch run of 20 steps, 300 validation examples, scored at the end. Processor seconds are
those of lossary and of all that it starts: they say more than the clock where other work shares the cores. The last
line is the ratio of wall seconds to the target, 20 s; below 1 it is met.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks.common import arguments, clock

TARGET_S = 20.0
STUDY = """
name = "small"
[tokenizer]
vocabulary_size = 4000
[datasets.names]
source = "builtin:names"
text = ["name", "summary"]
[datasets.docstrings]
source = "builtin:docstrings"
[datasets.comments]
source = "builtin:comments"
[validation]
examples = 300
[recipe]
sequence_length = 64
batch_size = 32
steps = 20
[recipe.optimizer]
name = "adamw"
learning_rate = 0.001
warmup = 5
[runs.small]
backend = "torch"
size = { from = "xlarge", width = 0.0625, depth = 0.0834 }
"""


class Run(NamedTuple):
    """One `lossary run`: wall and processor seconds, and at which second its stages were first heard of."""

    wall_s: float
    user_s: float
    system_s: float
    first: dict[str, float]


def main() -> None:
    """Measures and prints."""
    options = arguments(__doc__, ("--rounds", 3))
    rounds = 1 if options.quick else options.rounds
    fresh, again = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as name:
            (Path(name) / "study.toml").write_text(STUDY)
            fresh.append(lossary_run(Path(name)))
            again.append(lossary_run(Path(name)))
    for title, runs in (("from nothing", fresh), ("again", again)):
        wall, user, system = (median(getattr(run, field) for run in runs) for field in ("wall_s", "user_s", "system_s"))
        print(f"{title}: {wall:.1f} s, processor {user + system:.1f} s ({user:.1f} user)")
        stages = runs[-1].first
        print("  " + ", ".join(f"{stage} from {second:.1f} s" for stage, second in stages.items()))
    print(f"ratio={median(run.wall_s for run in fresh) / TARGET_S:.2f}")


def lossary_run(folder: Path) -> Run:
    """Runs a study in a process of its own."""
    command = [sys.executable, "-m", "lossary", "run", str(folder), "--progress", "json"]
    before, began = os.times(), clock()
    first: dict[str, float] = {}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            event = json.loads(line)
            # Preparation names what it does; of the other stages the worker tells.
            what = event.get("text") or event["event"] if event.get("stage") == "prepare" else event.get("stage")
            first.setdefault(what or event["event"], clock() - began)
    if process.returncode:
        sys.exit(f"lossary run ended with {process.returncode}")
    after = os.times()
    return Run(
        wall_s=clock() - began,
        user_s=after.children_user - before.children_user,
        system_s=after.children_system - before.children_system,
        first=first,
    )


if __name__ == "__main__":
    main()
