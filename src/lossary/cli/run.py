"""`lossary run`: a study from text to table."""

from pathlib import Path
from typing import Annotated

import typer

from lossary.cli.common import JobsOption, RunsOption, StudyArgument, open_study

__all__ = ["run"]


def run(
    study: StudyArgument = Path(),
    runs: RunsOption = None,
    jobs: JobsOption = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that tokenise.", show_default="one for every core")
    ] = None,
) -> None:
    """Make the table from raw text: prepare, train, evaluate, report. Goes on where it was stopped."""
    from lossary import pipeline
    from lossary.cli.progress import TerminalListener

    opened = open_study(study)
    settings = pipeline.Settings(runs=runs, jobs=jobs, workers=workers)
    with TerminalListener() as listener:
        page = pipeline.run_study(opened.study, opened.folder, settings=settings, listener=listener)
    typer.echo(page.terminal)
    typer.echo(f"wrote {page.path}")
