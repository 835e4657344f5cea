"""`lossary pull`: a study from a URL."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["pull"]


def pull(
    url: Annotated[str, typer.Argument(help="Where the study is, as s3://bucket/study.")],
    folder: Annotated[Path, typer.Argument(help="A folder that does not exist.")],
) -> None:
    """Write a study that is on an object store as a folder, which goes its own way from then on."""
    from lossary.errors import UsageError
    from lossary.remote.addresses import is_url
    from lossary.remote.transfer import pull as pull_study

    if not is_url(url):
        raise UsageError(f"{url!r} is no URL", where="URL", hint="As s3://bucket/study.")
    count = pull_study(url, folder)
    typer.echo(f"{count:,} files are in {folder}")
