"""What a study scored, as trackers hold it: for each run a number, its name and its step.

    for run in tracked_runs(study):
        run.name, run.facts, [(point.name, point.step, point.value) for point in run.points]

A name is `eval/<dataset>/<metric>`, of the total by validation share `eval/total/<metric>`. Every step that was scored
on the present validation set is there. Values are the table's own, in float64.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from lossary.errors import UsageError
from lossary.folder import StudyFolder
from lossary.study_file import find_study_file, load_study
from lossary.tables.build import build_table
from lossary.tables.load import is_imported
from lossary.tables.model import RunColumn, Table
from lossary.tables.own_scores import score_files

__all__ = ["TOTAL", "Point", "TrackedRun", "tracked_runs"]

TOTAL = "total"


class Point(NamedTuple):
    """One number of a run; `digest` names the validation examples that it was measured on."""

    name: str
    dataset: str
    step: int
    value: float
    digest: str


class TrackedRun(NamedTuple):
    """A run: what trackers call its parameters, and its points in the order of their steps."""

    study: str
    name: str
    facts: dict[str, str]
    points: list[Point]


def tracked_runs(study: Path, *, runs: Sequence[str] | None = None) -> list[TrackedRun]:
    """All scored runs of a study, or those named. UsageError for imports, or if a dataset is called as the total is."""
    if is_imported(study):
        raise UsageError("imported tables are exported as files only", where=str(study), hint="Leave --to out.")
    file = find_study_file(study)
    opened, folder = load_study(file), StudyFolder(file.resolve().parent)
    newest = build_table(opened, folder, runs=runs)
    if TOTAL in (row.name for row in newest.datasets):
        raise UsageError(
            f"a dataset is called {TOTAL!r}, as the total of a run is here", where=str(file), hint="Export as CSV."
        )
    points: dict[str, list[Point]] = {run.name: [] for run in newest.runs}
    for step in _scored_steps(folder, list(points)):
        of_step = build_table(opened, folder, runs=list(points), step=step)
        for point_run, point in _points(of_step):
            points[point_run].append(point)
    return [TrackedRun(newest.study, run.name, _facts(newest, run), points[run.name]) for run in newest.runs]


def _scored_steps(folder: StudyFolder, runs: Sequence[str]) -> list[int]:
    return sorted({int(file.stem) for run in runs for file in score_files(folder, run)})


def _points(table: Table) -> list[tuple[str, Point]]:
    steps = {run.name: run.step or 0 for run in table.runs}
    found = [
        (cell.run, Point(f"eval/{cell.dataset}/{cell.metric}", cell.dataset, steps[cell.run], cell.value, digest))
        for cell in table.cells
        if cell.value is not None and (digest := cell.validation_digest)
    ]
    whole = table.validation_digest or ""
    return found + [
        (total.run, Point(f"eval/{TOTAL}/{total.metric}", TOTAL, steps[total.run], total.value, whole))
        for total in table.totals
        # A total that leaves a dataset out is not the one that its name says.
        if total.value is not None and total.reason is None and total.weighting == "validation_share"
    ]


def _facts(table: Table, run: RunColumn) -> dict[str, str]:
    known = {
        "backend": run.backend,
        "size": run.size,
        "precision": run.precision,
        "seed": run.seed,
        "weights_digest": run.weights_digest,
        "validation_digest": table.validation_digest,
        "tokenizer_digest": table.tokenizer_digest,
    }
    return {name: str(value) for name, value in known.items() if value is not None}
