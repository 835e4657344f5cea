"""What stands before every page: who may ask, for what, under which name, and what a browser may do with the answer.

Only GET and HEAD. The Host header must name this machine, so that no page elsewhere can rebind its own name to the
loopback address and read what is served there. Beyond loopback a token is needed: as `Authorization: Bearer …`, or
once as `?token=…`, which becomes a cookie and leaves the address at once.
"""

import hashlib
import hmac
import ipaddress
import secrets
import socket
from collections.abc import Iterable, MutableMapping
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["CONTENT_POLICY", "Guard", "host_names", "is_loopback"]

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
CONTENT_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
)
_HEADERS = {
    "content-security-policy": CONTENT_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


def is_loopback(host: str) -> bool:
    """Whether an address to listen on cannot be reached from elsewhere."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def host_names(host: str) -> frozenset[str]:
    """Names under which a server that listens on `host` may be asked for."""
    if is_loopback(host):
        return LOOPBACK_NAMES | {host}
    return LOOPBACK_NAMES | {host.lower(), socket.gethostname().lower(), socket.getfqdn().lower()}


class Guard:
    """ASGI middleware; `token` None lets everybody in who asks under a known name."""

    def __init__(
        self, app: ASGIApp, *, names: Iterable[str], any_address: bool = False, token: str | None = None
    ) -> None:
        self._app = app
        self._names = frozenset(names)
        self._any_address = any_address
        self._token = None if token is None else _digest(token.encode())
        # What the cookie holds opens this process only, and says nothing of the token.
        self._pass = secrets.token_urlsafe(32)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            raise ValueError(f"a dashboard speaks HTTP only, not {scope['type']}")
        refused = self._refusal(scope)
        await (refused or self._app)(scope, receive, _with_headers(send))

    def _refusal(self, scope: Scope) -> Response | None:
        if scope["method"] not in ("GET", "HEAD"):
            return PlainTextResponse("read-only: GET and HEAD", 405, {"allow": "GET, HEAD"})
        headers = Headers(scope=scope)
        if not self._knows(headers.get("host", "")):
            return PlainTextResponse("this dashboard is not served under that name", 400)
        return None if self._token is None else self._without_token(scope, headers, self._token)

    def _knows(self, host: str) -> bool:
        name = _host_name(host)
        if name in self._names:
            return True
        if not self._any_address:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def _without_token(self, scope: Scope, headers: Headers, expected: bytes) -> Response | None:
        cookie = f"lossary_{scope['server'][1] if scope.get('server') else ''}"
        found = cookie_parser(headers.get("cookie", "")).get(cookie, "")
        if hmac.compare_digest(found.encode(), self._pass.encode()):
            return None
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and hmac.compare_digest(_digest(bearer.strip().encode()), expected):
            return None
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = [value for name, value in query if name == "token"]
        if not given:
            return _denied("a token is needed: open the address with ?token=…")
        if not hmac.compare_digest(_digest(given[-1].encode()), expected):
            return _denied("the token is wrong")
        rest = urlencode([(name, value) for name, value in query if name != "token"])
        # Two slashes at the beginning would be read as the name of another host.
        path = quote("/" + scope["path"].lstrip("/"))
        response = RedirectResponse(f"{path}?{rest}" if rest else path, 303)
        response.set_cookie(cookie, self._pass, httponly=True, samesite="lax")
        return response


def _denied(text: str) -> Response:
    return PlainTextResponse(text, 401, {"www-authenticate": "Bearer"})


def _digest(token: bytes) -> bytes:
    return hashlib.blake2b(token, digest_size=32).digest()


def _host_name(host: str) -> str:
    """The name in a Host header, without its port; empty if it is none."""
    if host.startswith("["):
        name, closed, port = host[1:].partition("]")
        port = port.removeprefix(":")
        return name.lower() if closed and (not port or port.isdigit()) else ""
    name, colon, port = host.partition(":")
    return name.lower().rstrip(".") if not colon or port.isdigit() else ""


def _with_headers(send: Send) -> Send:
    async def sender(message: Message) -> None:
        if message["type"] == "http.response.start":
            _add_headers(message)
        await send(message)

    return sender


def _add_headers(message: MutableMapping[str, Any]) -> None:
    headers = MutableHeaders(scope=message)
    for name, value in _HEADERS.items():
        # A report that is looked at has a stricter policy of its own.
        headers.setdefault(name, value)
    headers.setdefault("cache-control", "no-cache")
