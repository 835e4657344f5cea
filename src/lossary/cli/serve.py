"""`lossary serve`: the dashboard."""

from pathlib import Path
from typing import Annotated

import typer

from lossary.cli.urls import followed_studies, given_study

__all__ = ["serve"]


def serve(
    studies: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Study files, folders of studies or imports, or URLs of studies.",
            show_default="the current folder",
            parser=given_study,
            callback=followed_studies,
        ),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes any free one.")] = 8000,
    host: Annotated[str, typer.Option(help="Address to listen on; any but loopback needs a token.")] = "127.0.0.1",
    token: Annotated[
        str | None,
        typer.Option(
            envvar="LOSSARY_TOKEN", help="What visitors have to know: ?token=… once, or a bearer.", show_default="none"
        ),
    ] = None,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
) -> None:
    """Serve a read-only dashboard: losses, comparisons, examples, findings; a running study fills in.

    It listens on this machine only, unless --host is given together with a token.
    """
    from importlib.util import find_spec

    from lossary.errors import MissingPackage

    missing = [name for name in ("starlette", "uvicorn") if find_spec(name) is None]
    if missing:
        raise MissingPackage(f"the dashboard needs {', '.join(missing)}", hint='Install: pip install "lossary[serve]"')
    from lossary.dashboard.serving import serve as serve_studies

    def announce(address: str) -> None:
        secret = "; open it with ?token=… once" if token else ""
        typer.echo(f"lossary dashboard on {address}{secret}; stop it with Ctrl-C", err=True)
        if open_browser:
            typer.launch(address)

    serve_studies(studies or [Path()], host=host, port=port, token=token, announce=announce)
