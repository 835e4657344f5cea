"""`lossary mixture`: what the shares of datasets do to their losses."""

from pathlib import Path
from typing import Annotated

import typer

from lossary.cli.common import RunsOption, StudyArgument

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
    import json

    from rich.console import Console

    from lossary.api.functions import mixture as mixture_of
    from lossary.errors import UsageError
    from lossary.reports.mixture import print_mixture
    from lossary.reports.terminal import WIDTH

    if format not in ("text", "json"):
        raise UsageError(f"no format is called {format!r}", where="--format", hint="Known: text, json.")
    found = mixture_of(study, shares=shares, runs=runs, metric=metric)
    if format == "json":
        typer.echo(json.dumps(found.to_dict(), indent=1, ensure_ascii=False, allow_nan=False))
        return
    console = Console(width=max(WIDTH, Console().width), highlight=False)
    with console.capture() as shown:
        print_mixture(found.model, console)
    typer.echo(shown.get(), nl=False)
