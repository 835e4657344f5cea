"""Peak memory of scoring, of making a view in another vocabulary, and of scoring that: flat is the aim.

A study of ten thousand short examples is frozen once; its blocks are then written again, under other numbers, until
there are as many as asked for. Each stage is a process of its own; its peak is of resident pages, mapped ones
too. The scorer computes nothing, so that the pipeline and no model is measured. The last line is the largest ratio, of
all stages, of the peak at the largest size to that at the smallest; target 1.5.

    python -m benchmarks.scoring_memory [--quick] [--sizes 0.01,0.1,1,3] [--stages own,view,score]
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import arguments, clock, in_process, peak_mb, temporary_folder
from benchmarks.memory import Nothing, write_rows
from benchmarks.vocabularies import trained
from lossary.data.blocks import BlockWriter
from lossary.data.frozen_texts import TEXTS, texts_folder
from lossary.data.manifests import read_manifest, write_manifest
from lossary.data.parts import EXAMPLES, known_part, part_blocks
from lossary.data.prepare import prepare_datasets
from lossary.data.validation import prepare_examples
from lossary.files import digest_json
from lossary.folder import StudyFolder
from lossary.scoring.evaluate import Asked, score_study
from lossary.scoring.views import open_view
from lossary.study_file import parse_study
from lossary.vocabulary.open import open_vocabulary

BASE = 10_000
STAGES = ("own", "view", "score")
STUDY = """
name = "scoring-memory"
[tokenizer]
vocabulary_size = 1000
[datasets.rows]
source = "rows.txt"
[validation]
examples = {examples}
max_fraction = 0.6
[recipe]
sequence_length = 128
"""


def main() -> None:
    """Measures and prints."""
    if "--job" in sys.argv:
        job = json.loads(sys.argv[sys.argv.index("--job") + 1])
        print(json.dumps(stage(job["stage"], StudyFolder(Path(job["root"])))))
        return
    options = arguments(__doc__, ("--sizes", "0.01,0.1,1,3"), ("--stages", ",".join(STAGES)))
    stages = options.stages.split(",")
    sizes = [0.01, 0.1] if options.quick else [float(size) for size in options.sizes.split(",")]
    peaks: dict[str, list[float]] = {which: [] for which in stages}
    print("million examples  stage  peak MB  seconds")
    with temporary_folder() as name:
        root = Path(name)
        freeze(root)
        for size in sizes:
            grown = StudyFolder(root / f"{size}")
            grow(StudyFolder(root / "base"), grown, round(size * 1e6 / BASE))
            for which in stages:
                row = in_process("benchmarks.scoring_memory", {"stage": which, "root": str(grown.root)})
                print(f"{size:16g}  {which:5}  {row['peak']:7.0f}  {row['seconds']:7.1f}", flush=True)
                peaks[which].append(row["peak"])
    print(f"ratio={max(found[-1] / found[0] for found in peaks.values()):.2f}")


def freeze(root: Path) -> None:
    """The study that others are grown from, and a tokenizer of another vocabulary."""
    base = root / "base"
    base.mkdir()
    write_rows(base, BASE)
    (base / "study.toml").write_text(STUDY.format(examples=BASE))
    study, folder = parse_study((base / "study.toml").read_text()), StudyFolder(base)
    prepare_datasets(study, folder)
    prepare_examples(study, folder)


def grow(base: StudyFolder, grown: StudyFolder, times: int) -> None:
    """A study with the frozen examples of another one many times, each time under numbers of their own."""
    part, validation = known_part(base, "rows"), read_manifest(base.validation)
    texts = read_manifest(texts_folder(base, "rows"))
    blocks = part_blocks(base, part, EXAMPLES)
    apart = max(last for *_, last in part["files"][EXAMPLES]) + 1
    place = grown.validation_part("rows")
    (place / "texts").mkdir(parents=True)
    (grown.root / "study.toml").write_text((base.root / "study.toml").read_text())
    (grown.root / "tokenizer").symlink_to(base.tokenizer)
    with BlockWriter(place / EXAMPLES) as writer:
        about = []
        for arrays in _numbered(blocks, times, apart):
            writer.append(arrays)
            numbers = arrays["example"]
            about.append([len(numbers), int(numbers.min()), int(numbers.max())])
    part["files"][EXAMPLES] = [[*at, *more] for at, more in zip(writer.places, about, strict=True)]
    part["examples"] *= times
    part["digest"] = digest_json([part["digest"], times])
    text = (texts_folder(base, "rows") / TEXTS).read_bytes()
    with (place / "texts" / TEXTS).open("wb") as file:
        for _ in range(times):
            file.write(text)
    texts["files"][TEXTS] *= times
    write_manifest(place, part)
    write_manifest(place / "texts", texts | {"part": part["digest"], "digest": digest_json([texts["digest"], times])})
    validation["parts"]["rows"] = part["digest"]
    validation["per_dataset"]["rows"]["examples"] = part["examples"]
    write_manifest(grown.validation, validation)


def _numbered(blocks: Any, times: int, apart: int) -> Iterator[dict[str, Any]]:
    for copy in range(times):
        for number in range(len(blocks)):
            arrays = dict(blocks.read(number))
            yield arrays | {"example": arrays["example"].astype(np.uint64) + np.uint64(copy * apart)}


def stage(which: str, folder: StudyFolder) -> dict[str, float]:
    """One stage in this process."""
    path = folder.root / "tokenizer.json"
    if not path.is_file():
        lines = (folder.root.parent / "base" / "rows.txt").read_text().splitlines()
        trained("WordPiece", lines[:20_000]).save(str(path))
    vocabulary = None if which == "own" else open_vocabulary(path)
    start = clock()
    if which == "view":
        open_view(folder, vocabulary, "mlm")
    else:
        scorer = Nothing()
        scorer.vocabulary = vocabulary
        scorer.objectives = ("mlm",)
        score_study(folder, scorer, Asked(run=which, step=0), emit=lambda _: None)
    return {"peak": peak_mb(), "seconds": clock() - start}


if __name__ == "__main__":
    main()
