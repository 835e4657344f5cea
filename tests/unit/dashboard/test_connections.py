"""Connections that say nothing, little, or do not listen are closed, and keep nobody out; with real sockets."""

import asyncio
import http.client
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import uvicorn

from lossary.dashboard import connections
from lossary.dashboard.connections import BoundedProtocol

BODY = b"x" * 8_000_000
# What half-open connections have said so far.
HALF = {
    "nothing": b"",
    "a letter": b"G",
    "a head without its end": b"GET / HTTP/1.1\r\nHost: localhost\r\nX-",
    "a body that does not come": b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\nabc",
}


async def answer(scope: Any, _: Any, send: Any) -> None:
    if scope["type"] != "http":
        raise RuntimeError("no lifespan here")
    if scope["path"] == "/slow":
        await asyncio.sleep(3)
    body = BODY if scope["path"] == "/large" else b"fine"
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@contextmanager
def server() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listening:
        config = uvicorn.Config(
            answer, http=BoundedProtocol, ws="none", lifespan="off", log_level="critical", timeout_graceful_shutdown=1
        )
        running = uvicorn.Server(config)
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            running.should_exit = True
            thread.join(timeout=30)


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(connections, "WAIT_S", 0.5)
    with server() as found:
        yield found


def ask(port: int, path: str = "/") -> tuple[int, int]:
    visitor = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    visitor.request("GET", path)
    found = visitor.getresponse()
    length = len(found.read())
    visitor.close()
    return found.status, length


def opened(port: int, said: bytes) -> socket.socket:
    one = socket.create_connection(("127.0.0.1", port), timeout=30)
    one.sendall(said)
    return one


def read_to_end(one: socket.socket) -> bytes:
    """What is still to come until the other side closes."""
    found = b""
    try:
        while part := one.recv(1 << 20):
            found += part
    except ConnectionError:
        pass
    return found


@pytest.mark.parametrize("said", HALF.values(), ids=HALF)
def test_half_open_connections_keep_nobody_out_and_are_closed(said: bytes, port: int) -> None:
    with ExitStack() as stack:
        half = [stack.enter_context(opened(port, said)) for _ in range(50)]
        assert ask(port) == (200, 4)
        for one in half:
            assert b"408" not in read_to_end(one)
        assert ask(port) == (200, 4)


@pytest.mark.parametrize("head", [b"GET / HTTP/1.1\r\nX-Slow: ", HALF["a body that does not come"]])
def test_a_trickle_stops_no_clock(head: bytes, port: int) -> None:
    with opened(port, head) as one:
        until = time.monotonic() + 30
        with pytest.raises(ConnectionError):
            while time.monotonic() < until:
                one.sendall(b"x")
                time.sleep(0.05)


def test_a_second_request_that_does_not_end_is_not_waited_for(port: int) -> None:
    with opened(port, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n") as one:
        assert one.recv(1 << 16)
        one.sendall(b"GET / HT")
        read_to_end(one)


def test_an_answer_that_nobody_fetches_is_given_up(port: int) -> None:
    with opened(port, b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n") as one:
        time.sleep(3)
        assert len(read_to_end(one)) < len(BODY)


def test_a_slow_line_and_a_slow_answer_are_waited_for(port: int) -> None:
    with opened(port, b"GET /large HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n") as one:
        found = 0
        while part := one.recv(1 << 18):
            found += len(part)
            time.sleep(0.06)
        assert found > len(BODY)
    assert ask(port, "/slow") == (200, 4)


def test_of_too_many_the_one_that_waits_longest_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MOST", 20)
    with server() as port, ExitStack() as stack:
        half = [stack.enter_context(opened(port, b"")) for _ in range(60)]
        assert ask(port) == (200, 4)
        for one in half[:40]:
            assert read_to_end(one) == b""
        assert ask(port) == (200, 4)
        half[-1].sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert read_to_end(half[-1]).startswith(b"HTTP/1.1 200")
