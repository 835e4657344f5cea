"""What runs scored on the validation set on their way: every file of scores of the set, not the newest only."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lossary.folder import StudyFolder
from lossary.results.records import ScoreHeader, read_header
from lossary.results.scorefile import ScoreFile
from lossary.tables.model import DatasetRow, Metric, Table
from lossary.tables.scores import file_estimates

__all__ = ["Evaluation", "evaluations"]

_THREADS = 2


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A number of the validation set at one step of a run."""

    run: str
    dataset: str
    metric: Metric
    step: int
    tokens: int | None
    value: float
    low: float | None
    high: float | None
    variance: float | None = None
    n: int = 0


def evaluations(table: Table, folder: StudyFolder) -> list[Evaluation]:
    """All evaluations of the table's runs on its validation set; the newest are the table's own cells."""
    tokens = {run.name: run.tokens for run in table.runs}
    found = [
        Evaluation(
            run=cell.run,
            dataset=cell.dataset,
            metric=cell.metric,
            step=cell.step,
            tokens=tokens[cell.run],
            value=cell.value,
            low=cell.low,
            high=cell.high,
            variance=cell.variance,
            n=cell.n,
        )
        for cell in table.cells
        if cell.value is not None and cell.step is not None
    ]
    older = [
        (path, read_header(path))
        for run in table.runs
        for path in sorted((folder.run(run.name) / "scores").glob("*.parquet"))
        if (run.step is None or int(path.stem) != run.step)
    ]
    with ThreadPoolExecutor(_THREADS) as pool:
        for part in pool.map(partial(_of_file, table.datasets), older):
            found += part
    return found


def _of_file(rows: Sequence[DatasetRow], found: tuple[Path, ScoreHeader]) -> list[Evaluation]:
    path, header = found
    names = [row.name for row in rows if row.validation_digest == header.part(row.name)]
    estimates = file_estimates(ScoreFile(path), names)
    return [
        Evaluation(
            run=header.run,
            dataset=name,
            metric=metric,
            step=header.step,
            tokens=header.tokens,
            value=estimate.value,
            low=estimate.low,
            high=estimate.high,
            variance=estimate.variance,
            n=estimate.n,
        )
        for name in names
        for metric, estimate in estimates[name].items()
        if estimate.value is not None
    ]
