"""`lossary plan`: what a study would do, keep, or lose."""

from pathlib import Path
from typing import Annotated

import typer

from lossary.cli.common import KeepOption, SetOption, StudyArgument, open_study

__all__ = ["plan"]


def plan(
    study: StudyArgument = Path(),
    keep_prepared: KeepOption = None,
    changes: SetOption = None,
    format: Annotated[str, typer.Option("--format", "-f", help="text or json.")] = "text",
) -> None:
    """Say what `lossary run` would keep, make, go on with or refuse, and how large it is. Writes nothing.

    Exit code 2 if a change is refused because it would lose what stands.
    """
    import json

    from lossary.errors import UsageError
    from lossary.planning.estimates import estimate
    from lossary.planning.plan import make_plan
    from lossary.planning.text import estimate_lines, plan_lines, plan_value

    if format not in ("text", "json"):
        raise UsageError(f"no format is called {format!r}", where="--format", hint="Known: text, json.")
    opened = open_study(study, changes)
    found = make_plan(opened.study, opened.folder, keep=keep_prepared or ())
    sizes = estimate(opened.study, opened.folder)
    if format == "json":
        typer.echo(json.dumps(plan_value(found, sizes), indent=1, ensure_ascii=False, allow_nan=False))
    else:
        for line in plan_lines(found.items):
            typer.echo(line)
        for item in found.refused:
            typer.echo(f"\n{item.what} is refused; ways out:")
            for way in item.ways:
                typer.echo(f"  - {way}")
        typer.echo("")
        for line in estimate_lines(sizes):
            typer.echo(line)
    if found.refused:
        raise typer.Exit(2)
