"""A stand-in for a YTsaurus cluster: enough of its HTTP API for the real client to list, lock and read tables.

What it speaks is taken from what the client asks: commands, proxies, transactions, locks, attributes, lists and
`read_table` by row ranges. It is no cluster: permissions, faults and changes are what a test sets.
"""

import json
import socket
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlparse

import pyarrow as pa
import yt.yson as yson

__all__ = ["Cluster", "Table", "cluster"]

_COMMANDS = {
    # name: input, output, changes something, heavy
    "get": ("null", "structured", False, False),
    "list": ("null", "structured", False, False),
    "lock": ("null", "structured", True, False),
    "start_transaction": ("null", "structured", True, False),
    "ping_transaction": ("null", "null", True, False),
    "abort_transaction": ("null", "null", True, False),
    "commit_transaction": ("null", "null", True, False),
    "read_table": ("null", "tabular", False, True),
}


@dataclass(kw_only=True)
class Table:
    """A table, and the streams that its rows come in."""

    streams: Sequence[pa.Table]
    dynamic: bool = False
    kind: str = "table"
    schema: list[dict[str, str]] | None = None
    revision: int = 1
    id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def attributes(self) -> dict[str, Any]:
        size = sum(stream.nbytes for stream in self.streams)
        types = {pa.int64(): "int64", pa.float64(): "double", pa.string(): "utf8", pa.bool_(): "boolean"}
        columns = [
            {"name": name, "type": types.get(kind, "string")}
            for name, kind in zip(self.streams[0].schema.names, self.streams[0].schema.types, strict=True)
        ]
        return {
            "id": self.id,
            "type": self.kind,
            "dynamic": self.dynamic,
            "row_count": sum(len(stream) for stream in self.streams),
            "chunk_count": len(self.streams),
            "compressed_data_size": size,
            "uncompressed_data_size": size,
            "data_weight": size,
            "replication_factor": 3,
            "sorted": False,
            "content_revision": self.revision,
            "revision": self.revision + 100,
            "schema": columns if self.schema is None else self.schema,
        }

    def arrow(self, start: int, end: int, columns: Sequence[str]) -> bytes:
        """The rows from `start` to `end`: a stream for each form that they come in, one after another."""
        sink, place = pa.BufferOutputStream(), 0
        for stream in self.streams:
            part = stream.slice(max(0, start - place), max(0, end - max(start, place))).select(list(columns))
            place += len(stream)
            if len(part):
                with pa.ipc.new_stream(sink, part.schema) as writer:
                    writer.write_table(part, max_chunksize=5)
        return bytes(memoryview(sink.getvalue()))


class Refused(Exception):
    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.error = {"code": code, "message": message, "attributes": {}, "inner_errors": []}


@dataclass(kw_only=True)
class Cluster:
    """Tables by path; `fault` is asked before each command, and may refuse it or say how to answer."""

    tables: dict[str, Table] = field(default_factory=dict)
    token: str = "secret"
    fault: Callable[[str, dict[str, Any]], str | None] = lambda *_: None
    transactions: dict[str, dict[str, Table]] = field(default_factory=dict)
    log: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    address: str = ""

    def reads(self) -> list[tuple[int, int]]:
        """The ranges of rows that were asked for."""
        limits = [params["path"].attributes["ranges"][0] for command, params in self.log if command == "read_table"]
        return [(one["lower_limit"]["row_index"], one["upper_limit"]["row_index"]) for one in limits]

    def table(self, path: str, transaction: str) -> tuple[Table, str]:
        """The table that a path names, as it is locked where it is named by its id; and the rest of the path."""
        name, _, rest = path.partition("/@")
        if name.startswith("#"):
            if transaction not in self.transactions:
                raise Refused(11000, f"No such transaction {transaction}")
            return self.transactions[transaction][name[1:]], rest
        if name not in self.tables:
            raise Refused(500, f"Error resolving path {name}")
        return self.tables[name], rest

    def do(self, command: str, params: dict[str, Any]) -> Any:
        transaction = str(params.get("transaction_id", ""))
        if command == "start_transaction":
            self.transactions[found := str(uuid.uuid4())] = {}
            return {"transaction_id": found}
        if command in ("abort_transaction", "commit_transaction"):
            self.transactions.pop(transaction, None)
            return None
        if command == "ping_transaction":
            if transaction not in self.transactions:
                raise Refused(11000, f"No such transaction {transaction}")
            return None
        path = str(params["path"])
        if command == "list":
            names = [name.removeprefix(f"{path}/") for name in self.tables if name.startswith(f"{path}/")]
            nodes = []
            for name in names:
                node = yson.to_yson_type(name, attributes={"type": self.tables[f"{path}/{name}"].kind})
                nodes.append(node)
            return {"value": nodes}
        if command == "get" and path.endswith("/@type") and path.removesuffix("/@type") not in self.tables:
            folder = path.removesuffix("/@type")
            if any(name.startswith(f"{folder}/") for name in self.tables):
                return {"value": "map_node"}
        table, rest = self.table(path, transaction)
        if command == "lock":
            assert params["mode"] == "snapshot"
            frozen = Table(**vars(table))
            self.transactions[transaction][table.id] = frozen
            return {"lock_id": str(uuid.uuid4()), "node_id": table.id}
        assert command == "get", command
        attributes = table.attributes()
        return {"value": attributes[rest] if rest else attributes}

    def rows(self, params: dict[str, Any], *, more: int = 0) -> bytes:
        path = params["path"]
        table, _ = self.table(str(path), str(params.get("transaction_id", "")))
        (limits,) = path.attributes["ranges"]
        start, end = limits["lower_limit"]["row_index"], limits["upper_limit"]["row_index"]
        return table.arrow(start, end + more, path.attributes["columns"])


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    cluster: Cluster

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = urlparse(self.path).path
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if path == "/api/v4":
            listed = [
                {"name": name, "input_type": i, "output_type": o, "is_volatile": v, "is_heavy": h}
                for name, (i, o, v, h) in _COMMANDS.items()
            ]
            return self._send(200, json.dumps(listed).encode())
        if path == "/hosts":
            return self._send(200, b"[]")
        command = path.removeprefix("/api/v4/")
        sent = self.headers["X-YT-Parameters"].encode() if "X-YT-Parameters" in self.headers else body
        is_json = self.headers["X-YT-Header-Format"] == "json"
        params = yson.json_to_yson(json.loads(sent)) if is_json else yson.loads(sent)
        self.cluster.log.append((command, params))
        if self.headers.get("Authorization") != f"OAuth {self.cluster.token}":
            return self._refuse(401, Refused(900, "Invalid token"))
        try:
            how = self.cluster.fault(command, params)
            if how == "unavailable":
                return self._send(503, b'{"code": 105, "message": "Proxy is banned"}')
            if how == "gone":
                return self._hang_up()
            if command == "read_table":
                data = self.cluster.rows(params, more={"short": -1, "long": 1}.get(how or "", 0))
                return self._send(200, data, cut=how == "cut", error=how if how and how.startswith("{") else None)
            found = self.cluster.do(command, params)
            if params.get("return_only_value"):
                found = found["value"]
            if found is None:
                return self._send(200, b"")
            is_json = str(params.get("output_format")) == "json"
            return self._send(200, json.dumps(yson.yson_to_json(found)).encode() if is_json else yson.dumps(found))
        except Refused as refused:
            return self._refuse(400, refused)

    def _refuse(self, status: int, refused: Refused) -> None:
        self._send(status, json.dumps(refused.error).encode(), error=json.dumps(refused.error))

    def _send(self, status: int, data: bytes, *, cut: bool = False, error: str | None = None) -> None:
        self.send_response(status)
        if error is not None and status != 200:
            self.send_header("X-YT-Error", error)
        self.send_header("X-YT-Response-Parameters", "{}")
        self.send_header("X-YT-Request-Id", "1")
        if error is not None and status == 200:
            # An error in the middle of rows comes behind them.
            self.send_header("Transfer-Encoding", "chunked")
            self.send_header("Trailer", "X-YT-Error")
            self.end_headers()
            half = data[: len(data) // 2]
            self.wfile.write(b"%x\r\n%s\r\n0\r\nX-YT-Error: %s\r\n\r\n" % (len(half), half, error.encode()))
            return
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if cut else data)
        if cut:
            self._hang_up()

    def _hang_up(self) -> None:
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True


@contextmanager
def cluster(**tables: Table) -> Iterator[Cluster]:
    """A cluster on a port of this machine, with tables in //home."""
    found = Cluster(tables={f"//home/{name}": table for name, table in tables.items()})
    handler = type("Handler", (_Handler,), {"cluster": found})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    found.address = f"127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
