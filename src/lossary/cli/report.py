"""`lossary report`: the page of a study."""

from pathlib import Path
from typing import Annotated

import typer

from lossary.cli.common import RunsOption, StepOption, StudyArgument

__all__ = ["report"]


def report(
    study: StudyArgument = Path(),
    runs: RunsOption = None,
    step: StepOption = None,
    base: Annotated[
        str | None,
        typer.Option(help="Show paired differences to this run.", show_default="the one with the lowest MLM loss"),
    ] = None,
    png: Annotated[bool, typer.Option("--png", help="Pictures of report.md as PNG, too.")] = False,
    max_chars: Annotated[
        int | None,
        typer.Option(min=1000, help="Leave out sections of report.md, the last first, until it is so short."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder of the files.", show_default="report/ in the study")
    ] = None,
) -> None:
    """Write report/report.html, one file with everything, and report.md, table.csv, table.json for others to read."""
    from lossary.api.functions import report as write

    written = write(study, runs=runs, step=step, base=base, png=png, max_chars=max_chars, out=out)
    typer.echo(f"wrote {written.page}")
    if written.note:
        typer.echo(f"no report.html: {written.note}", err=True)
