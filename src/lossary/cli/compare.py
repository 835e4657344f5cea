"""`lossary compare`: two runs, if they can be compared."""

from pathlib import Path
from typing import Annotated

import typer

from lossary.cli.common import StepOption, StudyArgument

__all__ = ["compare"]


def compare(
    first: Annotated[str, typer.Argument(help="The run that the other one is compared with.")],
    second: Annotated[str, typer.Argument(help="The run whose differences are shown.")],
    study: StudyArgument = Path(),
    other: Annotated[
        Path | None, typer.Option(help="Study of the second run.", show_default="the study of the first")
    ] = None,
    step: StepOption = None,
    force: Annotated[bool, typer.Option("--force", help="Subtract what cannot be compared; it is labelled.")] = False,
    bootstrap_seed: Annotated[
        int | None, typer.Option(min=0, help="Also bootstrap the differences of the MLM loss, with this seed.")
    ] = None,
    format: Annotated[str, typer.Option("--format", "-f", help="text or json.")] = "text",
) -> None:
    """Say what two runs have in common, in what they differ, and by how much, paired by example."""
    import json

    from rich.console import Console

    from lossary.api.functions import compare as compare_runs
    from lossary.errors import UsageError
    from lossary.reports.comparison import print_comparison
    from lossary.reports.terminal import WIDTH

    if format not in ("text", "json"):
        raise UsageError(f"no format is called {format!r}", where="--format", hint="Known: text, json.")
    found = compare_runs(first, second, study, other=other, step=step, force=force, bootstrap_seed=bootstrap_seed)
    if format == "json":
        typer.echo(json.dumps(found.to_dict(), indent=1, ensure_ascii=False, allow_nan=False))
    else:
        console = Console(width=max(WIDTH, Console().width), highlight=False)
        with console.capture() as shown:
            print_comparison(found.model, console)
        typer.echo(shown.get(), nl=False)
