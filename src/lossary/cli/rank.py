"""`lossary rank`: which run or checkpoint is best, and which may be."""

from pathlib import Path
from typing import Annotated

import typer

from lossary.cli.common import RunsOption, StudyArgument

__all__ = ["rank"]


def rank(
    study: StudyArgument = Path(),
    runs: RunsOption = None,
    by: Annotated[
        str | None,
        typer.Option(
            help="METRIC[:WEIGHTING]: the total that is ranked by.",
            show_default="the loss by validation share; bits a byte across vocabularies",
        ),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Every scored checkpoint, instead of each run's newest.")
    ] = False,
    format: Annotated[str, typer.Option("--format", "-f", help="text or json.")] = "text",
) -> None:
    """Rank runs or checkpoints by a total: which may be best, and which differ by more than seeds do."""
    import json

    from rich.console import Console

    from lossary.api.functions import rank as rank_study
    from lossary.errors import UsageError
    from lossary.reports.ranking import print_ranking
    from lossary.reports.terminal import WIDTH

    if format not in ("text", "json"):
        raise UsageError(f"no format is called {format!r}", where="--format", hint="Known: text, json.")
    found = rank_study(study, runs=runs, by=by, every_step=every)
    if format == "json":
        typer.echo(json.dumps(found.to_dict(), indent=1, ensure_ascii=False, allow_nan=False))
        return
    console = Console(width=max(WIDTH, Console().width), highlight=False)
    with console.capture() as shown:
        print_ranking(found.model, console)
    typer.echo(shown.get(), nl=False)
