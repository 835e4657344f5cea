"""The errors of lossary, each with the exit code of the command that meets it.

    LossaryError
    ├── UsageError             2   the command or its input cannot be meant
    │   ├── StudyError         2   the study file is wrong; `where` is its path, as `$.datasets.wiki.source`
    │   └── MissingPackage     2   a backend's packages are not installed; the hint is the install line
    ├── DataError              3   data is missing or damaged
    │   ├── SourceError        3   a user's file: `where` names file and row or row group
    │   │   └── UnreadSource   3   somebody asked who does not want to wait until it is read
    │   ├── ShardError         3   prepared data
    │   ├── VocabularyError    3   a tokenizer's file is damaged, or of a kind that cannot be used
    │   ├── CheckpointError    3
    │   └── ScoreError         3
    ├── RunError               3   a run could not go on
    │   ├── DivergenceError    3   NaN or an exploding loss
    │   ├── WorkerError        3   the worker process died
    │   ├── RankLost           3   another rank of the run is gone
    │   └── Interrupted      130   stopped by a signal; what was done is kept
    ├── MachineError           3   the machine refused: no space, no permission, no memory
    │   └── StoreError         3   an object store: not there, no permission, no answer
    ├── BusyError             75   another process works on the same; later it may be free
    └── InternalError         70   a mistake of lossary's own

Exit codes: 0 fine, 1 findings, 2 usage, 3 missing or damaged data, a failed run or a machine that refused,
70 a mistake of lossary's own, 75 another process works on it (both as in sysexits.h), 130 interrupted.
"""

__all__ = [
    "BusyError",
    "CheckpointError",
    "DataError",
    "DivergenceError",
    "InternalError",
    "Interrupted",
    "LossaryError",
    "MachineError",
    "MissingPackage",
    "RunError",
    "ScoreError",
    "ShardError",
    "SourceError",
    "StoreError",
    "StudyError",
    "UnreadSource",
    "UsageError",
    "VocabularyError",
    "WorkerError",
    "error_class",
]


class LossaryError(Exception):
    """An error that a user can read: what was found and expected, where, and what to do about it."""

    exit_code = 3

    def __init__(self, message: str, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        text = f"{self.where}: {self.message}" if self.where else self.message
        return f"{text}\n  {self.hint}" if self.hint else text


class UsageError(LossaryError):
    """The command or its input cannot be meant."""

    exit_code = 2


class StudyError(UsageError):
    """The study file is wrong."""


class ChangeRefused(UsageError):
    """The study file or its sources ask for a change that would lose what stands."""


class MissingPackage(UsageError):
    """A backend's packages are not installed."""


class DataError(LossaryError):
    """Data is missing or damaged."""


class SourceError(DataError):
    """A file of a dataset cannot be read."""


class UnreadSource(SourceError):
    """A source would have to be read, and who asks does not wait for it."""


class ShardError(DataError):
    """Prepared data is missing, damaged or of another study."""


class VocabularyError(DataError):
    """A tokenizer's file is damaged, or of a kind that cannot be used."""


class CheckpointError(DataError):
    """A checkpoint is missing, damaged or does not fit."""


class ScoreError(DataError):
    """Scores are missing, damaged or of another validation set."""


class RunError(LossaryError):
    """A run could not go on."""


class DivergenceError(RunError):
    """The loss became NaN or exploded."""


class WorkerError(RunError):
    """A worker process died."""


class RankLost(RunError):
    """Another rank of the run is gone, as this one heard."""


class Interrupted(RunError):
    """Stopped by a signal; what was done is kept."""

    exit_code = 130


class MachineError(LossaryError):
    """The machine refused: no space, no permission, no memory."""


class StoreError(MachineError):
    """An object store is not there, refused, or does not answer."""


class BusyError(LossaryError):
    """Another process works on the same."""

    exit_code = 75


class InternalError(LossaryError):
    """A mistake of lossary's own, not of its user."""

    exit_code = 70


def error_class(name: str) -> type[LossaryError]:
    """The class of this hierarchy that is called `name`; `WorkerError` for any other name."""
    found = globals().get(name)
    if isinstance(found, type) and issubclass(found, LossaryError):
        return found
    return WorkerError
