"""`lossary show`: the table in the terminal."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from lossary.cli.common import RunsOption, StepOption, StudyArgument, echo_text

__all__ = ["show"]


def show(
    study: StudyArgument = Path(),
    runs: RunsOption = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            help="Metrics, separated by commas.", show_default="losses and accuracies; bits a byte across vocabularies"
        ),
    ] = None,
    step: StepOption = None,
    base: Annotated[str | None, typer.Option(help="Show every run's paired difference to this one.")] = None,
    ascii_only: Annotated[bool, typer.Option("--ascii", help="ASCII characters only.")] = False,
) -> None:
    """Print the table: losses and accuracies by dataset, with intervals and totals."""
    import sys

    from lossary.errors import UsageError
    from lossary.reports.terminal import print_table, terminal_text
    from lossary.tables.best import parse_step
    from lossary.tables.load import open_table

    table = open_table(study, runs=runs, step=parse_step(step), base=base).table
    known = table.metrics if table.is_imported else table.measured
    wanted = table.shown if metrics is None else [metric.strip() for metric in metrics.split(",") if metric.strip()]
    unknown = [metric for metric in wanted if metric not in known]
    if unknown or not wanted:
        raise UsageError(
            f"no metric is called {unknown[0]!r}" if unknown else "no metric is named",
            where="--metrics",
            hint=f"Known: {', '.join(known)}.",
        )
    chosen = [metric for metric in known if metric in wanted]
    if ascii_only or not sys.stdout.isatty():
        typer.echo(terminal_text(table, metrics=chosen, ascii_only=ascii_only), nl=False)
    else:
        echo_text(partial(print_table, table, metrics=chosen))
