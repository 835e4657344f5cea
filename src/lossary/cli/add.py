"""`lossary add`: one more dataset or run in the study file."""

from pathlib import Path
from typing import Annotated

import typer

from lossary.cli.common import open_study

__all__ = ["add"]


def add(
    study: Annotated[Path, typer.Argument(help="A study file, or the folder that holds study.toml.")],
    target: Annotated[str, typer.Argument(help="datasets.NAME or runs.NAME.")],
    settings: Annotated[list[str], typer.Argument(help="key=value, the value as in the study file.")],
    share: Annotated[float | None, typer.Option(help="Weight in [mixture] shares.")] = None,
    validation_share: Annotated[float | None, typer.Option(help="Weight in [validation] shares.")] = None,
) -> None:
    """Add a dataset or a run to the study file, whose comments and form stay; `lossary run` then makes it."""
    from lossary.editing.add import add as add_table
    from lossary.editing.document import parse_settings, parse_target
    from lossary.lease import STUDY, hold
    from lossary.study import find_study_file

    folder = open_study(study).folder
    kind, name = parse_target(target)
    values = parse_settings(kind, settings)
    with hold(folder, STUDY):
        add_table(find_study_file(study), kind, name, values, shares={"mixture": share, "validation": validation_share})
    typer.echo(f"added {target}; {_next(study)}")


def _next(study: Path) -> str:
    """What `lossary run` would do, in a line; the study file stands, whatever its sources are like."""
    from lossary.errors import LossaryError
    from lossary.planning.plan import make_plan
    from lossary.planning.text import plan_lines

    opened = open_study(study)
    try:
        plan = make_plan(opened.study, opened.folder)
    except LossaryError as error:
        return f"`lossary run` would stop: {error.message} ({error.where})"
    lines = plan_lines(plan.refused or plan.changes)
    return "`lossary run` would: " + "; ".join(" ".join(line.split()) for line in lines)
