"""`lossary rm`: a dataset or a run leaves the study."""

from typing import Annotated

import typer

from lossary.cli.common import NamedStudy, open_study

__all__ = ["rm"]


def rm(
    study: NamedStudy,
    target: Annotated[str, typer.Argument(help="datasets.NAME or runs.NAME.")],
    delete: Annotated[bool, typer.Option("--delete", help="Delete what was made instead of moving it.")] = False,
) -> None:
    """Take a dataset or a run out of the study; what was made of it moves to removed/ in the study's folder."""
    from lossary.editing.document import parse_target
    from lossary.editing.remove import remove
    from lossary.lease import STUDY, hold, refuse_beside_runs
    from lossary.study_file import find_study_file

    folder = open_study(study).folder
    kind, name = parse_target(target)
    with hold(folder, STUDY):
        refuse_beside_runs(folder, "rm")
        removed = remove(find_study_file(study), folder, kind, name, delete=delete)
    where = f"; what was made of it is in {removed.moved_to}" if removed.moved_to else ""
    typer.echo(f"removed {target}{where}")
    for note in removed.notes:
        typer.echo(note)
