"""`lossary diagnose`: why one side is worse, named and confirmed by experiment."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lossary.cli.common import ProgressOption, QuietOption, SetOption, StudyArgument, Style, open_study

if TYPE_CHECKING:
    from lossary.diagnosis.model import Diagnosis

__all__ = ["diagnose"]


def diagnose(
    first: Annotated[
        str | None, typer.Argument(help="A side: an adapter (a .py file), a run, or a backend.", show_default=False)
    ] = None,
    second: Annotated[
        str, typer.Argument(help="The side it is held against; `reference` is lossary's own float64 computation.")
    ] = "reference",
    study: StudyArgument = Path(),
    like: Annotated[
        str | None,
        typer.Option(help="Run whose recipe and size an adapter has.", show_default="of the pair, or the first"),
    ] = None,
    check: Annotated[
        list[str] | None,
        typer.Option("--check", help="Only this check and those it builds on, or this experiment; may be repeated."),
    ] = None,
    without: Annotated[
        list[str] | None, typer.Option(help="Leave this check or experiment out; may be repeated.")
    ] = None,
    dataset: Annotated[list[str] | None, typer.Option(help="Only documents of this dataset; may be repeated.")] = None,
    documents: Annotated[int, typer.Option(min=20, help="Documents of each dataset that sides are shown.")] = 400,
    reported: Annotated[
        Path | None,
        typer.Option(help="Folder of `lossary import`: which way of scoring gives the numbers that it has of a run."),
    ] = None,
    trainer: Annotated[
        str | None,
        typer.Option(
            help="FILE.py:NAME of a Trainer of transformers, or of a function that returns one: its training loop is "
            "diagnosed, of any model, without a study."
        ),
    ] = None,
    steps: Annotated[int, typer.Option(min=2, help="Steps that a --trainer takes.")] = 8,
    changes: SetOption = None,
    progress: ProgressOption = None,
    quiet: QuietOption = False,
    format: Annotated[str, typer.Option("--format", "-f", help="full, concise, json or markdown.")] = "full",
) -> None:
    """Find why a side is worse: every stage is compared, causes are named once an experiment has confirmed them.

    Exit code 1 if a cause is found, a stage differs without a known cause, or nothing could be compared; 0 if all that
    was compared is equal.
    """
    import os
    from functools import partial

    from lossary.cli.progress import listener_of
    from lossary.diagnosis.diagnose import Request
    from lossary.diagnosis.diagnose import diagnose as run
    from lossary.errors import UsageError
    from lossary.reports.diagnosis import FORMATS, write_diagnosis

    if format not in FORMATS:
        raise UsageError(f"no format is called {format!r}", where="--format", hint=f"Known: {', '.join(FORMATS)}.")
    if trainer is not None:
        if first is not None:
            raise UsageError("--trainer names what is diagnosed; a side beside it means nothing", where=first)
        _diagnose_loop(trainer, check or (), without or (), steps, format, quiet=quiet, progress=progress)
        return
    if first is None:
        raise UsageError("nothing is named", where="FIRST", hint="Name an adapter, a run or a backend, or a --trainer.")
    opened = open_study(study, changes)
    request = Request(
        first=first,
        second=second,
        like=like,
        checks=tuple(check or ()),
        without=tuple(without or ()),
        datasets=tuple(dataset or ()),
        documents=documents,
        threads=os.cpu_count() or 1,
        reported=reported,
    )
    with listener_of(progress, quiet=quiet) as listener:
        listener.stage("diagnose", "starting")
        found = run(opened.study, opened.folder, request, progress=partial(listener.stage, "diagnose"))
        path = write_diagnosis(found, opened.folder)
        listener.note(f"wrote {path}")
    _echo(found, format)


def _diagnose_loop(
    trainer: str,
    checks: Sequence[str],
    without: Sequence[str],
    steps: int,
    format: str,
    *,
    quiet: bool,
    progress: Style | None,
) -> None:
    from functools import partial

    from lossary.cli.progress import listener_of
    from lossary.diagnosis.loop.diagnose import LoopRequest, diagnose_script

    request = LoopRequest(checks=tuple(checks), without=tuple(without), steps=steps)
    with listener_of(progress, quiet=quiet) as listener:
        found = diagnose_script(trainer, request, progress=partial(listener.stage, "diagnose"))
    _echo(found, format)


def _echo(found: "Diagnosis", format: str) -> None:
    """Prints a diagnosis; exit code 1 if it found something, or compared nothing."""
    import sys

    from lossary.reports.diagnosis import FORMATS, diagnosis_text

    if format == "full" and sys.stdout.isatty():
        typer.echo(diagnosis_text(found, style=format, colour=True), nl=False)
    else:
        typer.echo(FORMATS[format](found), nl=False)
    if found.causes or found.open or not (found.of("ruled out") or found.gaps):
        raise typer.Exit(1)
