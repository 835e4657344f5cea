"""`lossary init`: writes a commented study file that runs as it stands."""

import shlex
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["init"]


def init(
    folder: Annotated[Path, typer.Argument(help="Where study.toml is written.")] = Path(),
    name: Annotated[str | None, typer.Option(help="Name of the study.", show_default="the folder's name")] = None,
    dataset: Annotated[
        list[str] | None,
        typer.Option(help="NAME=SOURCE: a study of your texts without runs, to score checkpoints on; repeatable."),
    ] = None,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON schema of study files instead.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a study.toml that is there already.")] = False,
) -> None:
    """Write a commented study.toml: the builtin mixture, three small runs, every setting explained."""
    import json

    from lossary.errors import UsageError
    from lossary.files import write_atomic
    from lossary.study import study_schema
    from lossary.study_file import parse_study

    if schema:
        typer.echo(json.dumps(study_schema(), indent=1))
        return
    path = folder / "study.toml"
    if path.exists() and not force:
        raise UsageError("there is a study file already", where=str(path), hint="--force replaces it.")
    said = shlex.quote(str(folder))
    title = folder.resolve().name if name is None else name
    if dataset:
        text = _of_texts(title, dataset, folder)
        with write_atomic(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
        typer.echo(f"wrote {path}: `lossary run {said}` freezes the texts, then")
        typer.echo(f"`lossary evaluate {said} --checkpoint FOLDER` scores what you have")
        return
    # A JSON string is a TOML string: the name may hold quotes or backslashes.
    text = files("lossary.cli").joinpath("study.toml").read_text(encoding="utf-8")
    text = text.replace('name = "my-study"', f"name = {json.dumps(title, ensure_ascii=False)}")
    parse_study(text)
    with write_atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    typer.echo(f"wrote {path}: change the datasets to yours, then `lossary run {said}`")


def _of_texts(title: str, given: list[str], folder: Path) -> str:
    from lossary.editing.new import new_study_file
    from lossary.errors import UsageError
    from lossary.study_file import check_name

    datasets: dict[str, str] = {}
    for text in given:
        name, equals, source = text.partition("=")
        if not equals or not source:
            raise UsageError(f"{text!r} names no source", where="--dataset", hint="Expected NAME=SOURCE.")
        check_name(name, where="--dataset")
        if name in datasets:
            raise UsageError(f"two datasets are called {name!r}", where="--dataset", hint="Give each a name.")
        datasets[name] = source
    return new_study_file(title, datasets, folder)
