"""`lossary push`: a study to a URL."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["push"]


def push(
    study: Annotated[Path, typer.Argument(help="A study file, or the folder that holds study.toml.")],
    url: Annotated[str, typer.Argument(help="Where it is to be, as s3://bucket/study.")],
    replace: Annotated[
        bool, typer.Option("--replace", help="Where there is a study already, this one follows.")
    ] = False,
) -> None:
    """Put a study's folder on an object store: every verb takes its URL from then on."""
    from lossary.errors import UsageError
    from lossary.remote.addresses import is_url
    from lossary.remote.transfer import push as push_study
    from lossary.study_file import find_study_file

    if not is_url(url):
        raise UsageError(f"{url!r} is no URL", where="URL", hint="As s3://bucket/study.")
    count = push_study(find_study_file(study).resolve().parent, url, replace=replace)
    typer.echo(f"{count:,} files are at {url}")
