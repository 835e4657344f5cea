"""`lossary add`: one more dataset or run in the study file."""

from typing import TYPE_CHECKING, Annotated

import typer

from lossary.cli.common import NamedStudy, open_study

if TYPE_CHECKING:
    from lossary.folder import StudyFolder
    from lossary.study import Study

__all__ = ["add"]


def add(
    study: NamedStudy,
    target: Annotated[str, typer.Argument(help="datasets.NAME or runs.NAME.")],
    settings: Annotated[list[str], typer.Argument(help="key=value, the value as in the study file.")],
    share: Annotated[float | None, typer.Option(help="Weight in [mixture] shares.")] = None,
    validation_share: Annotated[float | None, typer.Option(help="Weight in [validation] shares.")] = None,
) -> None:
    """Add a dataset or a run to the study file, whose comments and form stay; `lossary run` then makes it."""
    from lossary.editing.add import added
    from lossary.editing.document import parse_settings, parse_target
    from lossary.lease import STUDY, hold
    from lossary.study_file import find_study_file

    opened = open_study(study)
    kind, name = parse_target(target)
    values = parse_settings(kind, settings)
    shares = {"mixture": share, "validation": validation_share}
    with hold(opened.folder, STUDY):
        document = added(find_study_file(study), kind, name, values, shares=shares)
        for line in _plan_lines(document.check(), opened.folder, f"$.{kind}.{name}."):
            typer.echo(line)
        document.write()
    typer.echo(f"added {target}; `lossary run` makes it")


def _plan_lines(study: "Study", folder: "StudyFolder", new: str) -> list[str]:
    """What `lossary run` would do with the study; SourceError if what is new has no source."""
    from lossary.errors import LossaryError
    from lossary.planning.plan import make_plan
    from lossary.planning.text import plan_lines

    try:
        plan = make_plan(study, folder)
    except LossaryError as error:
        if new in (error.where or ""):
            raise
        return [f"`lossary run` would stop: {error.message} ({error.where})"]
    return plan_lines(plan.refused or plan.changes)
