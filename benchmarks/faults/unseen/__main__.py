"""Faults that were written without sight of the diagnosis, in a trainer made from docs/adapters.md alone.

    lossary demo why --out demo
    python -m benchmarks.faults.unseen demo [--only file-order,long-runs]

`faults.json` says of each where the kind was seen, what was expected before it was first run, and the edits. What is
printed is the first lines of each diagnosis: whether the right cause or stage is told, a reader judges.

When they were first run, 8 of 25 were named, of 5 the right stage was told, 1 was told by what follows from it, 1 under
a wrong name beside a right one, and 10 were not noticed. Of these `masks-in-front` changed next to nothing, and
hides in a narrower part of the text since.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
_OF_MODEL = (
    "initial",
    "evaluation",
    "dropout",
    "forward",
    "loss",
    "gradients",
    "reported loss",
    "update",
    "resume",
    "training",
    "dynamics",
)
_LEFT_OUT = {"data": _OF_MODEL, "model": ("tokenizer", "examples", "stream", "validation", "dynamics"), "none": ()}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults.unseen")
    parser.add_argument("demo", type=Path, help="folder of `lossary demo why`")
    parser.add_argument("--only", default="", help="names with commas between; `healthy` is the trainer as it is")
    parser.add_argument("--fresh", action="store_true", help="those of fresh.json, written for checks that came later")
    options = parser.parse_args()
    faults = json.loads((HERE / ("fresh.json" if options.fresh else "faults.json")).read_text())
    with tempfile.TemporaryDirectory() as work:
        study = _study(options.demo, Path(work) / "study")
        for name in options.only.split(",") if options.only else ["healthy", *faults]:
            fault = faults.get(name, {"expected": "nothing differs", "kind": "none", "edits": []})
            side = Path(work) / name
            shutil.copytree(HERE / "trainer", side)
            for file, old, new in fault["edits"]:
                text = (side / file).read_text()
                assert text.count(old) == 1, (name, old)
                (side / file).write_text(text.replace(old, new))
            without = [word for check in _LEFT_OUT[fault["kind"]] for word in ("--without", check)]
            told = _lossary("diagnose", side / "adapter.py", "reference", study, "--like", "reference_run", *without)
            print(f"== {name}: expected {fault['expected']}\n{told[:900]}\n", flush=True)


def _study(demo: Path, study: Path) -> Path:
    """The demo's documents, with runs of words masked and some examples short."""
    study.mkdir()
    shutil.copytree(demo / "data", study / "data")
    text = (demo / "study.toml").read_text()
    for key, value in (("max_ngram", "3"), ("short_rate", "0.1"), ("vocabulary_size", "1000")):
        text = re.sub(rf"(?m)^{key} = .*$", f"{key} = {value}", text)
    (study / "study.toml").write_text(text)
    _lossary("prepare", study)
    return study


def _lossary(*words: object) -> str:
    command = [sys.executable, "-m", "lossary", *map(str, words), "-q"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


if __name__ == "__main__":
    main()
