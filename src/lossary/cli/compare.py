"""`lossary compare`: two runs, if they can be compared."""

from pathlib import Path
from typing import Annotated

import typer

from lossary.cli.common import StepOption, StudyArgument, open_study

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

    from lossary.errors import UsageError
    from lossary.reports.comparison import comparison_value, print_comparison
    from lossary.reports.terminal import WIDTH
    from lossary.tables.best import parse_step
    from lossary.tables.comparison import Side, compare_imported
    from lossary.tables.comparison import compare as compare_sides
    from lossary.tables.load import is_imported, open_table, step_of_study

    if format not in ("text", "json"):
        raise UsageError(f"no format is called {format!r}", where="--format", hint="Known: text, json.")
    choice = parse_step(step)
    if is_imported(study):
        if other is not None or bootstrap_seed is not None:
            raise UsageError("imported numbers have no scores to pair", where=str(study), hint="Name two of its runs.")
        found = compare_imported(open_table(study, step=choice).table, first, second)
    else:
        opened = open_study(study)
        theirs = opened if other is None else open_study(other)
        found = compare_sides(
            Side(study=opened.study, folder=opened.folder, run=first),
            Side(study=theirs.study, folder=theirs.folder, run=second),
            force=force,
            step=step_of_study(choice),
            bootstrap_seed=bootstrap_seed,
        )
    if format == "json":
        typer.echo(json.dumps(comparison_value(found), indent=1, ensure_ascii=False, allow_nan=False))
    else:
        console = Console(width=max(WIDTH, Console().width), highlight=False)
        with console.capture() as shown:
            print_comparison(found, console)
        typer.echo(shown.get(), nl=False)
