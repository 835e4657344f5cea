"""Moto's S3 in a process of its own, whose answers may fail, stall or break off in the middle.

python -m tests.s3_server      # prints its port; GET /_faults/KIND/EVERY: one of so many answers is of KIND
"""

import random
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

STALL_S = 0.3


class Faults:
    """Puts faults before an application."""

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self._app = app
        self._kind, self._every, self._count = "none", 1, 0
        self._broken: set[str] = set()
        self._rng = random.Random(0)

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path.startswith("/_faults/"):
            injected = self._count
            _, _, self._kind, every = path.split("/")
            self._every, self._count = int(every), 0
            start("200 OK", [("Content-Type", "text/plain")])
            return [str(injected).encode()]
        if environ.get("HTTP_AUTHORIZATION", "").find("Credential=nobody") >= 0:
            start("403 Forbidden", [("Content-Type", "application/xml")])
            return [b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"]
        is_read = environ["REQUEST_METHOD"] == "GET" and "/objects/" in path
        if self._kind == "none" or (self._kind == "broken" and not is_read):
            return self._app(environ, start)
        if self._rng.random() * self._every >= 1 or (self._kind == "broken" and path in self._broken):
            return self._app(environ, start)
        self._count += 1
        self._broken.add(path)
        if self._kind == "error":
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start("500 Internal Server Error", [("Content-Type", "application/xml")])
            return [b"<Error><Code>InternalError</Code><Message>We encountered an internal error.</Message></Error>"]
        if self._kind == "stall":
            time.sleep(STALL_S)
            return self._app(environ, start)
        return _half(self._app(environ, start))


def _half(body: Iterable[bytes]) -> Iterator[bytes]:
    data = b"".join(body)
    yield data[: len(data) // 2]
    raise ConnectionError("the connection breaks here")


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, *_: Any) -> None: ...


def main() -> None:
    """Serves until the process is ended."""
    app = Faults(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Quiet)
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
