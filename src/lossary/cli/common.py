"""What the verbs share: the study argument and opening it."""

from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from lossary.cli.urls import given_study, study_at_hand

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from rich.console import Console

    from lossary.api.results import MixtureResult, RankingResult
    from lossary.engines.api import Engine
    from lossary.folder import StudyFolder
    from lossary.study import Study

__all__ = [
    "EngineKind",
    "EngineOption",
    "GenerationOption",
    "JobsOption",
    "KeepOption",
    "NamedStudy",
    "OpenStudy",
    "ProgressOption",
    "QuietOption",
    "RunsOption",
    "SetOption",
    "StepOption",
    "StudyArgument",
    "Style",
    "check_format",
    "echo_result",
    "echo_text",
    "engine_of",
    "open_study",
]


class EngineKind(StrEnum):
    """Where work runs."""

    LOCAL = "local"
    RAY = "ray"


StudyArgument = Annotated[
    Path,
    typer.Argument(
        help="A study file, the folder that holds study.toml, or its URL.",
        show_default="the current folder",
        parser=given_study,
        callback=study_at_hand,
    ),
]
NamedStudy = Annotated[
    Path,
    typer.Argument(
        help="A study file, the folder that holds study.toml, or its URL.", parser=given_study, callback=study_at_hand
    ),
]
RunsOption = Annotated[
    list[str] | None, typer.Option("--run", help="Only this run; may be given several times.", show_default="all runs")
]
EngineOption = Annotated[
    EngineKind | None,
    typer.Option(
        "--engine",
        help="Where work runs: local, or ray for a cluster.",
        show_default="what the study file says, else local",
    ),
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


StepOption = Annotated[
    str | None,
    typer.Option(
        "--step",
        metavar="STEP",
        help="The numbers of this step; or of each run's best one: best, best:METRIC, best:METRIC:WEIGHTING.",
        show_default="the last",
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


class Style(StrEnum):
    """How progress is told."""

    BARS = "bars"
    PLAIN = "plain"
    JSON = "json"
    NONE = "none"


ProgressOption = Annotated[
    Style | None,
    typer.Option(
        "--progress", help="How progress is told on standard error.", show_default="bars on a terminal, else plain"
    ),
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Nothing on standard error but errors.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a key of the study file for this command, as `recipe.steps=50`; may be given several times.",
        show_default="none",
    ),
]


class OpenStudy(NamedTuple):
    """A checked study file and the folder it governs."""

    study: "Study"
    folder: "StudyFolder"


def open_study(path: Path, changes: Sequence[str] | None = None) -> OpenStudy:
    """Loads the study at `path`, with what `--set` changes of it; StudyError if it is missing or wrong."""
    from lossary.folder import StudyFolder
    from lossary.study_file import find_study_file, load_study

    file = find_study_file(path)
    return OpenStudy(load_study(file, changes or ()), StudyFolder(file.resolve().parent))


def echo_text(print_text: "Callable[[Console], None]") -> None:
    """Prints what a function prints on a console at least as wide as a table."""
    from rich.console import Console

    from lossary.reports.terminal import WIDTH

    console = Console(width=max(WIDTH, Console().width), highlight=False)
    with console.capture() as shown:
        print_text(console)
    typer.echo(shown.get(), nl=False)


def echo_result(
    found: "RankingResult | MixtureResult", print_text: "Callable[[Any, Console], None]", format: str
) -> None:
    """Prints a result as JSON, or its model as a function prints it."""
    import json

    if format == "json":
        typer.echo(json.dumps(found.to_dict(), indent=1, ensure_ascii=False, allow_nan=False))
    else:
        echo_text(lambda console: print_text(found.model, console))


def check_format(format: str) -> None:
    """UsageError unless a verb with one result prints such a format."""
    from lossary.errors import UsageError

    if format not in ("text", "json"):
        raise UsageError(f"no format is called {format!r}", where="--format", hint="Known: text, json.")


def engine_of(study: "Study", asked: EngineKind | None) -> "AbstractContextManager[Engine]":
    """The engine that is asked for, else that of the study file."""
    from lossary.engines.api import open_engine

    return open_engine(study.engine.kind if asked is None else asked.value, study.engine.address)
