"""`lossary diagnose`: why one side is worse, named and confirmed by experiment."""

from pathlib import Path
from typing import Annotated

import typer

from lossary.cli.common import ProgressOption, QuietOption, SetOption, StudyArgument, open_study

__all__ = ["diagnose"]


def diagnose(
    first: Annotated[str, typer.Argument(help="A side: an adapter (a .py file), a run, or a backend.")],
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
    changes: SetOption = None,
    progress: ProgressOption = None,
    quiet: QuietOption = False,
    format: Annotated[str, typer.Option("--format", "-f", help="full, concise, json or markdown.")] = "full",
) -> None:
    """Find why a side is worse: every stage is compared, causes are named once an experiment has confirmed them.

    Exit code 1 if a cause is found or a stage differs without a known cause, 0 if everything compared is equal.
    """
    import os
    import sys
    from functools import partial

    from lossary.cli.progress import listener_of
    from lossary.diagnosis.diagnose import Request
    from lossary.diagnosis.diagnose import diagnose as run
    from lossary.errors import UsageError
    from lossary.reports.diagnosis import FORMATS, diagnosis_text, write_diagnosis

    if format not in FORMATS:
        raise UsageError(f"no format is called {format!r}", where="--format", hint=f"Known: {', '.join(FORMATS)}.")
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
    if format == "full" and sys.stdout.isatty():
        typer.echo(diagnosis_text(found, style=format, colour=True), nl=False)
    else:
        typer.echo(FORMATS[format](found), nl=False)
    if found.causes or found.open:
        raise typer.Exit(1)
