"""Memory, time and disk of prepare, freezing and evaluation against the size of a study: flat is the aim.

Several times (`--rows`) as many short rows as validation examples, each stage in a process of its own whose peak
(resident, with mapped pages) is what the system counted; workers are counted apart. Disk is that of prepared data over
all text, that of frozen examples with their texts over the text that is frozen, then both over all text. Scores come
from a backend that computes nothing, so that the pipeline and no model is measured. The last line is the largest peak
over 500 MB; target 1.0.

    python -m benchmarks.memory [--quick] [--sizes 0.1,1,10] [--rows 2]
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import arguments, clock, in_process, peak_mb, peak_of_workers_mb, temporary_folder
from lossary.backends.api import RowSums, ScoreOutput
from lossary.data.examples import Examples
from lossary.data.prepare import prepare_datasets
from lossary.data.validation import load_validation, prepare_examples
from lossary.folder import StudyFolder
from lossary.results.records import ScoreHeader, write_score_windows
from lossary.scoring.score import score_windows
from lossary.scoring.views import open_view
from lossary.study_file import parse_study

LIMIT_MB = 500
STAGES = ("prepare", "freeze", "evaluate")
STUDY = """
name = "memory"
[tokenizer]
vocabulary_size = 4000
sample_bytes = 2000000
[datasets.rows]
source = "rows.txt"
[validation]
examples = {examples}
max_fraction = 0.6
[recipe]
sequence_length = 128
[runs.torch]
backend = "torch"
size = "base"
"""


def main() -> None:
    """Measures and prints."""
    if "--job" in sys.argv:
        job = json.loads(sys.argv[sys.argv.index("--job") + 1])
        print(json.dumps(stage(job["stage"], Path(job["root"]))))
        return
    options = arguments(__doc__, ("--sizes", "0.1,1,10"), ("--rows", 2), ("--plot", ""))
    sizes = [0.02, 0.1] if options.quick else [float(size) for size in options.sizes.split(",")]
    found: list[dict[str, Any]] = []
    print("million examples  stage     peak MB  of a worker  seconds  disk/text  frozen/text  all/text")
    for size in sizes:
        with temporary_folder() as name:
            text = write_rows(Path(name), round(size * 1e6), options.rows)
            for which in STAGES:
                row = in_process("benchmarks.memory", {"stage": which, "root": name})
                row |= {"size": size, "stage": which}
                found.append(row)
                disk, frozen = (stored(Path(name) / part) / text for part in ("prepared", "validation"))
                print(
                    f"{size:16g}  {which:9} {row['peak']:7.0f}  {row['worker']:11.0f}  {row['seconds']:7.1f}"
                    f"  {disk:9.2f}  {frozen * options.rows:11.2f}  {disk + frozen:8.2f}",
                    flush=True,
                )
    if options.plot:
        plot(found, Path(options.plot))
    print(f"ratio={max(row['peak'] for row in found) / LIMIT_MB:.2f}")


def stored(folder: Path) -> int:
    """Bytes of all files of a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def write_rows(root: Path, examples: int, times: int = 2) -> int:
    """Writes a study of short lines, `times` as many as examples, no two alike; returns the bytes of its text."""
    (root / "study.toml").write_text(STUDY.format(examples=examples))
    rng = np.random.default_rng(0)
    words = np.array(["".join(rng.choice(list("aeiklmnorstu"), 4)) for _ in range(3000)], dtype=object)
    with (root / "rows.txt").open("w") as file:
        for start in range(0, times * examples, 10_000):
            chosen = rng.choice(words, (min(10_000, times * examples - start), 2))
            file.writelines(f"{a} {b} {start + row}\n" for row, (a, b) in enumerate(chosen))
    return (root / "rows.txt").stat().st_size


def stage(which: str, root: Path) -> dict[str, float]:
    """One stage in this process."""
    study, folder = parse_study((root / "study.toml").read_text()), StudyFolder(root)
    start = clock()
    if which == "prepare":
        prepare_datasets(study, folder, workers=2)
    elif which == "freeze":
        prepare_examples(study, folder)
    else:
        evaluate(folder)
    return {"peak": peak_mb(), "worker": peak_of_workers_mb(), "seconds": clock() - start}


class Nothing:
    """A scorer that computes nothing."""

    vocabulary = None
    objectives = ("mlm", "sop")
    max_length = None
    device = "none"
    max_tokens = 8192
    few_shapes = False

    def score(self, examples: Examples) -> ScoreOutput:
        """The same for every example."""
        count = len(examples)
        return ScoreOutput(
            rows=RowSums(
                mlm_nats=examples.masked * 2.0,
                mlm_correct=np.zeros(count, np.int32),
                sop_nats=np.ones(count),
                sop_correct=np.ones(count, bool),
            ),
            position_nats=np.full(examples.positions.shape, 2, np.float32),
            predicted=examples.labels,
        )


def evaluate(folder: StudyFolder) -> None:
    """Scores of all examples, stored."""
    validation = load_validation(folder)
    header = ScoreHeader(run="torch", step=0, objectives=Nothing.objectives, validation=validation.parts)
    windows = score_windows(
        Nothing(), open_view(folder, None, "mlm").windows(), header, total=len(validation), emit=lambda _: None
    )
    write_score_windows(folder.scores("torch", 0), windows, header)


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Peak memory against size, as an SVG."""
    import altair
    import vl_convert

    chart = (
        altair.Chart(altair.Data(values=rows))
        .mark_line(point=True)
        .encode(
            x=altair.X("size:Q", title="million examples", scale=altair.Scale(type="log")),
            y=altair.Y("peak:Q", title="peak memory, MB", scale=altair.Scale(domain=[0, LIMIT_MB])),
            color=altair.Color("stage:N", title=None),
        )
        .properties(width=420, height=220)
    )
    path.write_text(vl_convert.vegalite_to_svg(chart.to_dict()), encoding="utf-8")


if __name__ == "__main__":
    main()
