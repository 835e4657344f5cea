"""Files of scores in the folder of a run, and whether they are of its own weights.

A folder may have been copied together from several studies, or a checkpoint made again: a number of other weights is
not the run's.
"""

from pathlib import Path

from lossary.errors import DataError, ScoreError
from lossary.files import read_json
from lossary.folder import StudyFolder
from lossary.models.checkpoints import misplaced
from lossary.results.records import read_header

__all__ = ["every_score_file", "is_of_other_weights", "score_files"]


def score_files(folder: StudyFolder, run: str) -> list[Path]:
    """The files of whole scores of a run, by ascending step, but for those of other weights."""
    return [path for path in every_score_file(folder, run) if not is_of_other_weights(folder, run, path)]


def every_score_file(folder: StudyFolder, run: str) -> list[Path]:
    """The files of whole scores in the folder of a run, by ascending step."""
    return sorted((folder.run(run) / "scores").glob("*.parquet"))


def is_of_other_weights(folder: StudyFolder, run: str, path: Path) -> bool:
    """Whether scores are not of the run's checkpoint of their step, or of one that is not its own.

    Where no checkpoint stands any more, nobody knows; what is damaged is told by whoever reads it.
    """
    if not path.stem.isdigit():
        return False
    checkpoint = folder.checkpoint(run, int(path.stem))
    try:
        weights = read_json(checkpoint / "state.json")["weights_digest"]
        scored = read_header(path).weights_digest
    except (OSError, DataError, ScoreError, KeyError, TypeError):
        return False
    return bool(scored) and (scored == weights) == bool(misplaced(checkpoint))
