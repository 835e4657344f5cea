"""`lossary mixture`: what the shares of datasets do to their losses."""

from pathlib import Path
from typing import Annotated

import typer

from lossary.cli.common import RunsOption, StudyArgument, check_format, echo_result

__all__ = ["mixture"]


def mixture(
    study: StudyArgument = Path(),
    runs: RunsOption = None,
    shares: Annotated[
        Path | None,
        typer.Option(
            help="CSV of shares: a column of runs, one for each dataset.",
            show_default="what runs were trained with here",
        ),
    ] = None,
    metric: Annotated[
        str | None, typer.Option(help="What is fitted.", show_default="the main loss of the table")
    ] = None,
    format: Annotated[str, typer.Option("--format", "-f", help="text or json.")] = "text",
) -> None:
    """Say what each dataset gains or loses when shares double, how well that predicts, and what to run next."""
    from lossary.api.functions import mixture as mixture_of
    from lossary.reports.mixture import print_mixture

    check_format(format)
    echo_result(mixture_of(study, shares=shares, runs=runs, metric=metric), print_mixture, format)
