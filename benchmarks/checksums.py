"""What checksums cost: prepare, train, evaluate and show with them, against the same with comparisons and digests away.

python -m benchmarks.checksums [--quick] [--rounds 3]

There is no such option; checksums are taken away here by replacing the functions that compute and compare them, in a
process for each measurement. Digests that say what something is made from stay: they are no checksums. Both sides take
turns, and figures are seconds of CPU without imports, files warm. The last line is the largest ratio.
"""

import argparse
import json
import shutil
import time
from pathlib import Path
from typing import Any

from benchmarks.common import alternate, in_process, lines_of_text, temporary_folder
from benchmarks.results import write_study
from lossary.folder import StudyFolder

_STUDY = """
name = "checksums"
[tokenizer]
vocabulary_size = 8000
sample_bytes = 1000000
[datasets.lines]
source = "../lines.txt"
[validation]
examples = {validation}
[recipe]
sequence_length = 128
batch_size = 16
steps = {steps}
checkpoint_every = {every}
[recipe.optimizer]
name = "adamw"
learning_rate = 0.0005
[runs.torch]
backend = "torch"
size = {{ from = "base", width = 0.25, depth = 0.34 }}
"""
_STAGES = ("prepare", "train", "evaluate", "show")


class _Number(int):
    """A checksum that equals every other."""

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = int.__hash__


class _Digest(str):
    """A digest that equals every other."""

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = str.__hash__


class _NoChecksums:
    """In the place of `zlib`."""

    @staticmethod
    def crc32(*_: object) -> int:
        return _Number(0)


def take_away() -> None:
    """Nothing that this process reads or writes has a checksum from here on."""
    from lossary import files, seals
    from lossary.data import blocks, manifests, tokenizer
    from lossary.models import checkpoints

    def same(*_: object) -> str:
        return _Digest("blake2b:0")

    files.digest_json = manifests.digest_json = tokenizer.digest_file = checkpoints.digest_file = same
    checkpoints._check_files = lambda *_: None
    blocks.zlib = _NoChecksums
    seals._is_whole = lambda *_: True
    seals._checksum = lambda *_: b"0" * 8


def measure(job: dict[str, Any]) -> float:
    """Seconds of CPU that a stage takes in this process."""
    from lossary.data.prepare import prepare_datasets
    from lossary.data.validation import prepare_examples
    from lossary.models.checkpoints import list_checkpoints
    from lossary.scoring.score import job_of_run, score_checkpoint
    from lossary.study_file import load_study
    from lossary.tables.build import build_table
    from lossary.training import loop

    root, stage = Path(job["root"]), job["stage"]
    study, folder = load_study(root), StudyFolder(root)
    if stage in ("train", "evaluate"):
        from lossary.backends.api import load_backend

        load_backend("torch")
    if not job["checksums"]:
        take_away()
    began = time.process_time()
    if stage == "prepare":
        prepare_datasets(study, folder, workers=1)
        prepare_examples(study, folder)
    elif stage == "train":
        loop.train(study, folder, "torch", on_the_way=loop._Nothing(), emit=lambda _: None)
    elif stage == "evaluate":
        last = list_checkpoints(folder.checkpoints("torch"))[-1]
        score_checkpoint(folder, job_of_run(study, "torch", last), emit=lambda _: None)
    else:
        build_table(study, folder)
    return time.process_time() - began


def _side(root: Path, stage: str, *, checksums: bool) -> float:
    made = {"prepare": ("tokenizer", "prepared", "validation"), "train": ("runs",), "evaluate": ("runs/torch/scores",)}
    for part in made.get(stage, ()):
        shutil.rmtree(root / part, ignore_errors=True)
    job = {"root": str(root), "stage": stage, "checksums": checksums}
    return float(in_process("benchmarks.checksums", job, OMP_NUM_THREADS="1")["cpu_s"])


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a smoke size")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--job", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        print(json.dumps({"cpu_s": measure(options.job)}))
        return
    sizes = (
        {"validation": 200, "steps": 6, "every": 3} if options.quick else {"validation": 600, "steps": 16, "every": 4}
    )
    ratios = []
    with temporary_folder() as name:
        root, many = Path(name) / "study", Path(name) / "many"
        root.mkdir()
        text = lines_of_text(1 if options.quick else 4)
        (root.parent / "lines.txt").write_text("\n".join(text) + "\n")
        (root / "study.toml").write_text(_STUDY.format(**sizes))
        many.mkdir()
        scores = write_study(StudyFolder(many), 2 if options.quick else 10)
        print(f"{'':9} with     without  ratio   (seconds of CPU; show: {scores:,} scores)")
        for stage in _STAGES:
            place = many if stage == "show" else root
            # The first round warms the system's memory, and leaves what the next stage starts from.
            _side(place, stage, checksums=True)
            without, with_them = alternate(
                1 if options.quick else options.rounds,
                lambda place=place, stage=stage: _side(place, stage, checksums=False),
                lambda place=place, stage=stage: _side(place, stage, checksums=True),
            )
            ratios.append(with_them / without)
            print(f"{stage:9} {with_them:7.3f}  {without:7.3f}  {ratios[-1]:.3f}", flush=True)
    print(f"ratio={max(ratios):.3f}")


if __name__ == "__main__":
    main()
