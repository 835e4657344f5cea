"""How a stage of a run ended last, if by an error: kept beside its log until the stage is done again.

A run that is killed leaves no ending: its lease says that its process is gone.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from lossary.errors import BusyError, DataError, LossaryError
from lossary.files import read_json, write_json
from lossary.folder import StudyFolder

__all__ = ["STAGES", "Ending", "read_ending", "remembered"]

STAGES = ("train", "evaluate")


@dataclass(frozen=True, kw_only=True)
class Ending:
    """The error that ended a stage of a run; `time` in seconds since 1970."""

    stage: str
    time: float
    kind: str  # its class, as "Interrupted"
    message: str
    where: str | None
    hint: str | None
    log: Path | None  # None where the worker left none

    @property
    def is_interruption(self) -> bool:
        """Whether somebody asked it to stop."""
        return self.kind == "Interrupted"


@contextmanager
def remembered(folder: StudyFolder, run: str, stage: str) -> Iterator[None]:
    """Keeps the error that ends the block, in place of that of the time before."""
    path = folder.ending(run, stage)
    # What cannot be noted does not stand in the way of what is done.
    with suppress(OSError):
        path.unlink(missing_ok=True)
    try:
        yield
    except LossaryError as error:
        told = {"kind": type(error).__name__, "message": error.message, "where": error.where, "hint": error.hint}
        if not isinstance(error, BusyError):
            with suppress(OSError):
                write_json(path, {"schema": 1, "time": time.time(), "stage": stage, **told})
        raise


def read_ending(folder: StudyFolder, run: str) -> Ending | None:
    """The newest ending of a run; None if its stages came to their ends. DataError if it is damaged."""
    found = [_read(folder, run, stage) for stage in STAGES if folder.ending(run, stage).is_file()]
    return max(found, key=lambda ending: ending.time, default=None)


def _read(folder: StudyFolder, run: str, stage: str) -> Ending:
    path, log = folder.ending(run, stage), folder.log(run, stage)
    record = read_json(path)
    try:
        where, hint = (None if record[key] is None else str(record[key]) for key in ("where", "hint"))
        return Ending(
            stage=stage,
            time=float(record["time"]),
            kind=str(record["kind"]),
            message=str(record["message"]),
            where=where,
            hint=hint,
            log=log if log.is_file() else None,
        )
    except (TypeError, ValueError):
        raise DataError("no record of an ending", where=str(path), hint="Delete it: nothing depends on it.") from None
