"""What the verbs share: the study argument and opening it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

if TYPE_CHECKING:
    from lossary.folder import StudyFolder
    from lossary.study import Study

__all__ = [
    "GenerationOption",
    "JobsOption",
    "KeepOption",
    "OpenStudy",
    "RunsOption",
    "StudyArgument",
    "open_study",
]

StudyArgument = Annotated[
    Path, typer.Argument(help="A study file, or the folder that holds study.toml.", show_default="the current folder")
]
RunsOption = Annotated[
    list[str] | None, typer.Option("--run", help="Only this run; may be given several times.", show_default="all runs")
]
JobsOption = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        "-j",
        min=1,
        help="Runs at the same time; each gets an equal part of the cores.",
        show_default="one for every 8 cores",
    ),
]


KeepOption = Annotated[
    list[str] | None,
    typer.Option(
        "--keep-prepared",
        metavar="DATASET",
        help="Go on with what was prepared of this dataset, though its source changed; may be given several times.",
    ),
]
GenerationOption = Annotated[
    bool,
    typer.Option(
        "--new-generation",
        help="Where a change would lose what stands: keep it whole under generations/, and make the rest anew.",
    ),
]


class OpenStudy(NamedTuple):
    """A checked study file and the folder it governs."""

    study: "Study"
    folder: "StudyFolder"


def open_study(path: Path) -> OpenStudy:
    """Loads the study at `path`; StudyError if it is missing or wrong."""
    from lossary.folder import StudyFolder
    from lossary.study import find_study_file, load_study

    file = find_study_file(path)
    return OpenStudy(load_study(file), StudyFolder(file.resolve().parent))
