"""`lossary init`: writes a commented study file that runs as it stands."""

from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["init"]


def init(
    folder: Annotated[Path, typer.Argument(help="Where study.toml is written.")] = Path(),
    name: Annotated[str | None, typer.Option(help="Name of the study.", show_default="the folder's name")] = None,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON schema of study files instead.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a study.toml that is there already.")] = False,
) -> None:
    """Write a commented study.toml: the builtin mixture, three small runs, every setting explained."""
    import json

    from lossary.errors import UsageError
    from lossary.files import write_atomic
    from lossary.study import parse_study, study_schema

    if schema:
        typer.echo(json.dumps(study_schema(), indent=1))
        return
    path = folder / "study.toml"
    if path.exists() and not force:
        raise UsageError("there is a study file already", where=str(path), hint="--force replaces it.")
    title = folder.resolve().name if name is None else name
    # A JSON string is a TOML string: the name may hold quotes or backslashes.
    text = files("lossary.cli").joinpath("study.toml").read_text(encoding="utf-8")
    text = text.replace('name = "my-study"', f"name = {json.dumps(title, ensure_ascii=False)}")
    parse_study(text)
    with write_atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    typer.echo(f"wrote {path}: change the datasets to yours, then `lossary run {folder}`")
