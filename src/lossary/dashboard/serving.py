"""Serves the dashboard until somebody stops it."""

import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import quote

import uvicorn

from lossary.dashboard.app import create_app
from lossary.dashboard.connections import KEEP_ALIVE_S, BoundedProtocol
from lossary.errors import UsageError
from lossary.reports.html.render import require_packages
from lossary.tables.load import is_imported

__all__ = ["serve"]

_SHORTEST_TOKEN = 16


def serve(paths: Sequence[Path], *, host: str, port: int, token: str | None, announce: Callable[[str], None]) -> None:
    """Listens on `host` and `port` (0: any free one) and answers; returns when interrupted.

    `announce` is told the address. Raises UsageError if a path holds neither a study nor imports, the port is taken,
    the token is short, or there is none for an address beyond this machine.
    """
    require_packages()
    for path in paths:
        if not (path.is_file() or is_imported(path) or (path / "study.toml").is_file()):
            raise UsageError(
                "neither a study nor imported tables",
                where=str(path),
                hint="`lossary init` writes a study file, `lossary import FILES…` reads tables that others made.",
            )
    if token is not None and len(token) < _SHORTEST_TOKEN:
        raise UsageError(
            f"the token has {len(token)} characters; {_SHORTEST_TOKEN} at least are expected",
            where="--token",
            hint='python -c "import secrets; print(secrets.token_urlsafe())"',
        )
    app = create_app(paths, host=host, token=token)
    listening = _listen(host, port)
    announce(_address(host, listening.getsockname()[1]))
    # No access log: addresses may hold a token, and a dashboard on one's own machine has nobody to watch.
    config = uvicorn.Config(
        app,
        http=BoundedProtocol,
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=2,
    )
    uvicorn.Server(config).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=128)
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        hint = "Choose another with --port; 0 takes any free one."
        raise UsageError(f"cannot listen: {why}", where=f"{host}:{port}", hint=hint) from None


def _address(host: str, port: int) -> str:
    name = f"[{host}]" if ":" in host else quote(host, safe="")
    return f"http://{name}:{port}/"
