"""Scores that stand while others are added: rows of a file of scores, part by part, a window at a time.

A part's scores depend on nothing but the weights and its own examples, so that a file that is joined from kept rows and
new ones is the file that scoring all anew would write.
"""

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from lossary.errors import ScoreError
from lossary.results.records import SCORE_SCHEMA, ScoreHeader, read_header

__all__ = ["KeptScores"]

# What may differ between the header of a file and that of the one that takes over its rows.
_OF_THE_SET = {"validation", "validation_digest", "view_digest", "left_out", "texts"}


class KeptScores:
    """The rows of a file that a new one may take over; of no dataset if it was made otherwise."""

    def __init__(self, path: Path, header: ScoreHeader) -> None:
        self._path = path
        self._rows: dict[tuple[str, str], Iterator[pa.Table]] = {}
        self._left: dict[tuple[str, str], pa.Table] = {}
        self.datasets: set[str] = set()  # those whose scores are taken over
        try:
            found = read_header(path, as_drawn=True) if path.is_file() else None
        except ScoreError:
            # What is damaged is scored anew.
            return
        if found is not None and _made_alike(found, header):
            self.datasets = {name for name, part in header.validation.items() if found.validation.get(name) == part}
            parts = product(header.objectives, self.datasets)
            self._rows = {part: self._of(*part) for part in parts}

    def take(self, objective: str, dataset: str, examples: NDArray[np.uint64]) -> pa.Table:
        """The rows of the next examples of a part. ScoreError if the file holds those of others."""
        part = (objective, dataset)
        rows = self._left.pop(part, SCORE_SCHEMA.empty_table())
        while len(rows) < len(examples) and (more := next(self._rows[part], None)) is not None:
            rows = pa.concat_tables([rows, more])
        found, self._left[part] = rows.slice(0, len(examples)), rows.slice(len(examples))
        if not np.array_equal(found["example"].to_numpy(), examples):
            raise ScoreError(
                f"the scores of {dataset} are not those of its frozen examples",
                where=str(self._path),
                hint="Delete it and run `lossary evaluate`.",
            )
        return found

    def _of(self, objective: str, dataset: str) -> Iterator[pa.Table]:
        """The rows of a part, a group of the file at a time."""
        file = pq.ParquetFile(self._path)
        for group in range(file.num_row_groups):
            names = file.read_row_group(group, columns=["objective", "dataset"])
            is_of = pc.and_(
                pc.equal(names["objective"].cast(pa.string()), objective),
                pc.equal(names["dataset"].cast(pa.string()), dataset),
            )
            if pc.any(is_of).as_py():
                yield file.read_row_group(group).filter(is_of).cast(SCORE_SCHEMA).replace_schema_metadata(None)


def _made_alike(found: ScoreHeader, header: ScoreHeader) -> bool:
    """Whether weights, backend, device and all else that scores follow from are the same."""
    return all(value == vars(found)[name] for name, value in vars(header).items() if name not in _OF_THE_SET)
