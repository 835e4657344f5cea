"""`lossary mv`: a dataset or a run under another name."""

from typing import Annotated

import typer

from lossary.cli.common import NamedStudy, open_study

__all__ = ["mv"]


def mv(
    study: NamedStudy,
    target: Annotated[str, typer.Argument(help="datasets.NAME or runs.NAME.")],
    name: Annotated[str, typer.Argument(help="The new name.")],
) -> None:
    """Rename a dataset or a run; what was made of it goes along unchanged.

    A dataset's random draws and files go by the name that they were made with: `drawn_as` in the study file keeps it.
    """
    from lossary.editing.document import parse_target
    from lossary.editing.move import Move, move
    from lossary.lease import STUDY, hold, refuse_beside_runs
    from lossary.study_file import find_study_file

    folder = open_study(study).folder
    kind, old = parse_target(target)
    new = parse_target(name)[1] if name.startswith(f"{kind}.") else name
    with hold(folder, STUDY):
        refuse_beside_runs(folder, "mv")
        notes = move(find_study_file(study), folder, Move(kind, old, new))
    typer.echo(f"{target} is called {kind}.{new} now")
    for note in notes:
        typer.echo(note)
