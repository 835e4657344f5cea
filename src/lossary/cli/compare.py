"""`lossary compare`: two runs, if they can be compared."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from lossary.cli.common import StepOption, StudyArgument, echo_text
from lossary.cli.urls import given_study, study_at_hand

__all__ = ["compare"]


def compare(
    first: Annotated[str, typer.Argument(help="The run that the other one is compared with.")],
    second: Annotated[str, typer.Argument(help="The run whose differences are shown.")],
    study: StudyArgument = Path(),
    other: Annotated[
        Path | None,
        typer.Option(
            help="Study of the second run.",
            show_default="the study of the first",
            parser=given_study,
            callback=study_at_hand,
        ),
    ] = None,
    step: StepOption = None,
    force: Annotated[bool, typer.Option("--force", help="Subtract what cannot be compared; it is labelled.")] = False,
    bootstrap_seed: Annotated[
        int | None, typer.Option(min=0, help="Also bootstrap the differences of the MLM loss, with this seed.")
    ] = None,
    within: Annotated[
        list[str] | None,
        typer.Option(
            help="Decide whether they are equal to within so many nats (bits a byte) of every loss, or METRIC=MARGIN; "
            "exits with 1 unless all are."
        ),
    ] = None,
    format: Annotated[
        str, typer.Option("--format", "-f", help="text or json; with --within also junit or github.")
    ] = "text",
) -> None:
    """Say what two runs have in common, in what they differ, and by how much, paired by example."""
    import json

    from lossary.api.functions import compare as compare_runs
    from lossary.errors import UsageError
    from lossary.reports.comparison import print_comparison
    from lossary.reports.equality import EQUALITY_FORMATS

    known = ("text", "json", *(EQUALITY_FORMATS if within else ()))
    if format not in known:
        hint = f"Known: {', '.join(known)}." + ("" if within else " With --within also junit and github.")
        raise UsageError(f"no format is called {format!r}", where="--format", hint=hint)
    found = compare_runs(
        first,
        second,
        study,
        other=other,
        step=step,
        force=force,
        bootstrap_seed=bootstrap_seed,
        within=_margins(within) if within else None,
    )
    if format in EQUALITY_FORMATS:
        typer.echo(EQUALITY_FORMATS[format](found.decisions, found.model.first, found.model.second), nl=False)
    elif format == "json":
        typer.echo(json.dumps(found.to_dict(), indent=1, ensure_ascii=False, allow_nan=False))
    else:
        echo_text(partial(print_comparison, found.model))
    if within and not found.is_equal:
        raise typer.Exit(1)


def _margins(texts: list[str]) -> dict[str, float]:
    from lossary.tables.equality import parse_margins

    return parse_margins(texts, where="--within")
