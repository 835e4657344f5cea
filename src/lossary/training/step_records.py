"""The records of a run's steps, `steps.parquet`: what every dataset lost in each of them."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lossary.results.records import STEP_SCHEMA, read_steps, write_steps
from lossary.training.sums import Sums

__all__ = ["StepRecords"]

_STEPS_EVERY_S = 10.0


class StepRecords:
    """The step records of a run, kept in memory and written now and then."""

    def __init__(self, path: Path, run: str, datasets: list[str]) -> None:
        self.path = path
        self.run = run
        self.datasets = datasets
        self._kept = STEP_SCHEMA.empty_table()
        self._rows: list[dict[str, Any]] = []
        self._started = self._written = time.monotonic()
        self._before_s = 0.0

    def restore(self, step: int) -> None:
        """Takes up the records of steps that the checkpoint has seen."""
        table = read_steps(self.path, as_drawn=True)
        self._kept = table.filter(pc.less_equal(table["step"], step))
        self._before_s = pc.max(self._kept["elapsed_s"]).as_py() or 0.0
        self._started = time.monotonic()

    def add(self, step: int, sums: Sums, measured: tuple[float, float, int]) -> None:
        rate, norm, total_tokens = measured
        now = time.monotonic()
        for number, name in enumerate(self.datasets):
            if sums["examples"][number]:
                row = {key: values[number] for key, values in sums.items()}
                counts = {key: row[key] if key.endswith("_nats") else int(row[key]) for key in row}
                self._rows.append(
                    {
                        "run": self.run,
                        "step": step,
                        "dataset": name,
                        **counts,
                        "learning_rate": rate,
                        "gradient_norm": norm,
                        "total_tokens": total_tokens,
                        "elapsed_s": self._before_s + now - self._started,
                    }
                )
        if now - self._written > _STEPS_EVERY_S:
            self.write()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """While it lasts, nothing is trained."""
        began = time.monotonic()
        yield
        self._started += time.monotonic() - began

    def write(self) -> None:
        fresh = pa.Table.from_pylist(self._rows, schema=STEP_SCHEMA)
        self._kept = pa.concat_tables([self._kept, fresh], promote_options="permissive").combine_chunks()
        self._rows.clear()
        write_steps(self.path, self._kept)
        # Writing all records again must not come to dominate a long run.
        self._written = time.monotonic() + self._kept.num_rows / 1e5
