"""`lossary check`: findings."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lossary.cli.common import RunsOption, StepOption, StudyArgument

if TYPE_CHECKING:
    from lossary.findings.model import Severity

__all__ = ["check"]


def check(
    study: StudyArgument = Path(),
    runs: RunsOption = None,
    step: StepOption = None,
    base: Annotated[
        str | None, typer.Option(help="Run that the others are compared with.", show_default="the lowest MLM loss")
    ] = None,
    format: Annotated[str, typer.Option("--format", "-f", help="full, concise, json, sarif or github.")] = "full",
    fail_on: Annotated[
        str, typer.Option(help="Exit with 1 from this severity on: error, warning, info or never.")
    ] = "warning",
    ignore: Annotated[
        list[str] | None, typer.Option(help="RULE=REASON, as [check.ignore] of the study file has it.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File.", show_default="standard output")] = None,
) -> None:
    """Say what a careful reader would remark on the table: with evidence, test, threshold and next step."""
    import sys
    from typing import cast

    from lossary.api.functions import check as check_study
    from lossary.errors import UsageError
    from lossary.files import write_atomic
    from lossary.reports.findings import FORMATS, findings_text

    if format not in FORMATS:
        raise UsageError(f"no format is called {format!r}", where="--format", hint=f"Known: {', '.join(FORMATS)}.")
    if fail_on not in ("error", "warning", "info", "never"):
        raise UsageError(
            f"no severity is called {fail_on!r}", where="--fail-on", hint="Known: error, warning, info, never."
        )
    reasons = dict(item.partition("=")[::2] for item in ignore or [])
    checked = check_study(study, runs=runs, step=step, base=base, ignore=reasons).model
    if out is None and format in ("full", "concise") and sys.stdout.isatty():
        typer.echo(findings_text(checked, style=format, colour=True), nl=False)
    elif out is None:
        typer.echo(FORMATS[format](checked), nl=False)
    else:
        with write_atomic(out) as temporary:
            temporary.write_text(FORMATS[format](checked), encoding="utf-8")
    if fail_on != "never" and checked.fails(cast("Severity", fail_on)):
        raise typer.Exit(1)
