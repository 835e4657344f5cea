"""Scores that stand while others are added: rows of a file of scores, dataset by dataset, a window at a time.

A part's scores depend on nothing but the weights and its own examples, so that a file that is joined from kept rows and
new ones is the file that scoring all anew would write.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lossary.data.examples import Examples
from lossary.errors import ScoreError
from lossary.results.records import SCORE_SCHEMA, ScoreHeader, read_header

__all__ = ["KeptScores"]

# What may differ between the header of a file and that of the one that takes over its rows.
_OF_THE_SET = {"validation", "validation_digest"}


class KeptScores:
    """The rows of a file that a new one may take over; of no dataset if it was made otherwise."""

    def __init__(self, path: Path, header: ScoreHeader) -> None:
        self._path = path
        self._rows: dict[str, Iterator[pa.Table]] = {}
        self._left: dict[str, pa.Table] = {}
        try:
            found = read_header(path, as_drawn=True) if path.is_file() else None
        except ScoreError:
            # What is damaged is scored anew.
            return
        if found is not None and _made_alike(found, header):
            same = [name for name, digest in header.validation.items() if found.validation.get(name) == digest]
            self._rows = {name: self._of(name) for name in same}

    @property
    def datasets(self) -> set[str]:
        """Those whose scores are taken over."""
        return set(self._rows)

    def take(self, dataset: str, examples: Examples) -> pa.Table:
        """The rows of the next examples of a dataset. ScoreError if the file holds those of others."""
        rows = self._left.pop(dataset, SCORE_SCHEMA.empty_table())
        while len(rows) < len(examples) and (more := next(self._rows[dataset], None)) is not None:
            rows = pa.concat_tables([rows, more])
        found, self._left[dataset] = rows.slice(0, len(examples)), rows.slice(len(examples))
        if not np.array_equal(found["example"].to_numpy(), examples.example):
            raise ScoreError(
                f"the scores of {dataset} are not those of its frozen examples",
                where=str(self._path),
                hint="Delete it and run `lossary evaluate`.",
            )
        return found

    def _of(self, dataset: str) -> Iterator[pa.Table]:
        """The rows of a dataset, a group of the file at a time."""
        file = pq.ParquetFile(self._path)
        for group in range(file.num_row_groups):
            is_of = pc.equal(file.read_row_group(group, columns=["dataset"])["dataset"].cast(pa.string()), dataset)
            if pc.any(is_of).as_py():
                yield file.read_row_group(group).filter(is_of).cast(SCORE_SCHEMA).replace_schema_metadata(None)


def _made_alike(found: ScoreHeader, header: ScoreHeader) -> bool:
    """Whether weights, backend, device and all else that scores follow from are the same."""
    return all(value == vars(found)[name] for name, value in vars(header).items() if name not in _OF_THE_SET)
