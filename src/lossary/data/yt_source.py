"""Tables of a YTsaurus cluster: a snapshot of each, read by ranges of rows, as Arrow, in whichever process needs them.

    files = yt_files("yt://cluster.example.com/home/corpus", where="study.toml: $.datasets.web.source")
    for start, end in row_ranges(files[0]): batches = read_rows(files[0].layout, start, end, ("text",), where="…")

A table is locked before anything is asked of it, and stays locked as long as its SourceFile is held: whoever writes to
it meanwhile is not in the way, and is not seen. A range is taken when all its rows are there, and asked for again when
the connection breaks; so no row is read twice, or lost. What was written of it before a kill is not read again.
"""

import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from http.client import HTTPException
from typing import Any, TypeVar
from weakref import finalize

import pyarrow as pa

from lossary.data.fields import check_fields
from lossary.data.parsing import Reading, first_line
from lossary.data.source_files import SourceFile
from lossary.data.tables import MOST_BLOCK_ROWS, check_columns
from lossary.errors import MissingPackage, SourceError

__all__ = ["check_table", "read_rows", "row_ranges", "yt_files"]

_SCHEME = "yt://"
_RANGE_BYTES = 8 << 20
_TRIES = 6
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 30.0
# The lock of a process that was killed is gone after this time.
_LOCK_MS = 120_000
_ATTRIBUTES = ["id", "type", "dynamic", "row_count", "data_weight", "content_revision", "revision", "schema"]
_KINDS: dict[str, pa.DataType] = {
    "string": pa.binary(),
    "utf8": pa.string(),
    "boolean": pa.bool_(),
    "float": pa.float32(),
    "double": pa.float64(),
} | {f"{sign}int{bits}": getattr(pa, f"{sign}int{bits}")() for sign in ("", "u") for bits in (8, 16, 32, 64)}
_Result = TypeVar("_Result")


class _Snapshot:
    """A transaction that is kept alive as long as this object is, and the locks in it."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.transaction = client.Transaction(timeout=_LOCK_MS, interrupt_on_failed=False)
        finalize(self, _abort, self.transaction)

    def lock(self, path: str) -> str:
        """The id by which the table at a path, as it is now, is read in the transaction."""
        with self.client.Transaction(transaction_id=self.transaction.transaction_id):
            return str(self.client.lock(path, mode="snapshot")["node_id"])

    def attributes(self, node: str) -> dict[str, Any]:
        with self.client.Transaction(transaction_id=self.transaction.transaction_id):
            found = self.client.get(f"#{node}/@", attributes=_ATTRIBUTES)
        return {name: found[name] for name in _ATTRIBUTES if name in found}


def _abort(transaction: Any) -> None:
    # What cannot be told to the cluster any more ends by itself.
    try:
        transaction.abort()
    except Exception:
        return


def yt_files(source: str, *, where: str) -> list[SourceFile]:
    """The table that a source names, or the tables of the folder, by name; each locked until its SourceFile is dropped.

    Raises SourceError for what is no static table with a schema, or may not be read; MissingPackage without the client.
    """
    cluster, slash, rest = source.removeprefix(_SCHEME).partition("/")
    path = f"//{rest.strip('/')}"
    if not cluster or not slash or not rest.strip("/"):
        hint = "Expected yt://CLUSTER/home/TABLE."
        raise SourceError(f"{source!r} names no cluster and table", where=where, hint=hint)
    if any(character in rest for character in "*?[<"):
        raise SourceError(f"{source!r} is a pattern", where=where, hint="Name a table, or a folder of tables.")
    client = _client(cluster)

    def found() -> list[SourceFile]:
        kind = str(client.get(f"{path}/@type"))
        snapshot = _Snapshot(client)
        paths = [path]
        if kind == "map_node":
            nodes = client.list(path, attributes=["type"])
            paths = [f"{path}/{node}" for node in sorted(nodes, key=str) if node.attributes.get("type") == "table"]
        return [_file(snapshot, cluster, one, where) for one in paths]

    files = _answered(found, source, where)
    if not files:
        raise SourceError(f"the folder {source} has no table", where=where)
    return files


def _file(snapshot: _Snapshot, cluster: str, path: str, where: str) -> SourceFile:
    table = f"{_SCHEME}{cluster}/{path.removeprefix('//')}"
    kind = str(snapshot.client.get(f"{path}/@type"))
    if kind != "table":
        raise SourceError(f"{table} is a {kind}; a table is expected", where=where)
    node = snapshot.lock(path)
    found = snapshot.attributes(node)
    if found.get("dynamic"):
        hint = "Make a static one of it, as with `yt merge`, and name that."
        raise SourceError(f"{table} is a dynamic table; a static one is expected", where=where, hint=hint)
    columns = {str(column["name"]): str(column.get("type", "any")) for column in found.get("schema", [])}
    if not columns:
        raise SourceError(f"{table} has no schema", where=where, hint="Columns need types to be read as Arrow.")
    rows = int(found["row_count"])
    return SourceFile(
        path=table,
        kind="yt",
        bytes=int(found.get("data_weight", 0)) or rows,
        stamp=f"{found['id']}:{found.get('content_revision', found.get('revision'))}:{rows}",
        layout={
            "cluster": cluster,
            "node": node,
            "transaction": snapshot.transaction.transaction_id,
            "rows": rows,
            "columns": columns,
        },
        held=snapshot,
    )


def check_table(file: SourceFile, reading: Reading) -> None:
    """Raises SourceError unless the table has the columns that are asked for, of types that can be read."""
    columns: Mapping[str, str] = file.layout["columns"]
    known = pa.schema([(name, _KINDS.get(kind, pa.null())) for name, kind in columns.items()])
    for name in reading.columns:
        if columns.get(name, "string") not in _KINDS:
            raise SourceError(
                f"the column {name!r} is {columns[name]}; text, numbers and booleans are read",
                where=file.path,
                hint="Write what is inside of it as a column of its own.",
            )
    check_columns(reading, known, file.path)


def row_ranges(file: SourceFile) -> Iterator[tuple[int, int]]:
    """Ranges of rows of about 8 MiB, told from what the table says of itself."""
    rows = int(file.layout["rows"])
    step = max(1, min(MOST_BLOCK_ROWS, _RANGE_BYTES * rows // max(1, file.bytes)))
    for start in range(0, rows, step):
        yield start, min(start + step, rows)


def read_rows(
    layout: Mapping[str, Any], start: int, end: int, columns: tuple[str, ...], *, where: str
) -> list[pa.RecordBatch]:
    """The rows from `start` to `end` of some columns of a locked table; all of them, or SourceError."""
    client = _client(layout["cluster"])

    def found() -> list[pa.RecordBatch]:
        from yt.wrapper import TablePath
        from yt.wrapper.driver import make_request

        path = TablePath(f"#{layout['node']}", start_index=start, end_index=end, columns=list(columns), client=client)
        # Not `read_table`: without a transaction of its own it leaves ours, and reads the table as it has become.
        with client.Transaction(transaction_id=layout["transaction"], ping=False):
            data = make_request(
                "read_table",
                {"path": path, "output_format": "arrow"},
                use_heavy_proxy=True,
                allow_retries=False,
                client=client,
            )
        batches = list(_batches(data, columns, where))
        rows = sum(len(batch) for batch in batches)
        if rows != end - start:
            raise OSError(f"{rows:,} of {end - start:,} rows came")
        return batches

    return _answered(found, f"rows {start:,} to {end:,}", where)


def _batches(data: bytes, columns: tuple[str, ...], where: str) -> Iterator[pa.RecordBatch]:
    """The batches of all streams: one follows another where a column's dictionary changes."""
    source = pa.BufferReader(data)
    while source.tell() < len(data):
        with pa.ipc.open_stream(source) as reader:
            check_fields(columns, reader.schema, where)
            yield from reader


@lru_cache(maxsize=8)
def _client(cluster: str) -> Any:
    try:
        from yt.wrapper import YtClient
        from yt.wrapper.default_config import get_config_from_env
    except ImportError:
        raise MissingPackage(
            "tables of YTsaurus need the package ytsaurus-client, which is not installed",
            hint='Install: pip install "lossary[yt]"',
        ) from None
    config = get_config_from_env()
    config["api_version"] = "v4"
    config["proxy"]["url"] = cluster
    return YtClient(config=config)


def _answered(ask: Callable[[], _Result], what: str, where: str) -> _Result:
    """What a cluster answers; asked again while it is out of reach. SourceError if it says no, or nothing at last."""
    from yt.wrapper.errors import YtError, YtRetriableError
    from yt.wrapper.http_helpers import get_retriable_errors

    passing = (
        YtError,
        YtRetriableError,
        OSError,
        HTTPException,
        pa.ArrowException,
        zlib.error,
        *get_retriable_errors(),
    )
    for attempt in range(_TRIES):
        try:
            return ask()
        except passing as error:
            refusal = _refusal(error, what, where)
            if refusal is not None:
                raise refusal from None
            if attempt == _TRIES - 1:
                raise SourceError(
                    f"{what} cannot be read: {first_line(error)}",
                    where=where,
                    hint="What was made is kept; run the command again when the cluster answers.",
                ) from None
            time.sleep(min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**attempt))
    raise AssertionError("unreachable")


def _refusal(error: BaseException, what: str, where: str) -> SourceError | None:
    """The error of an answer that another try would not change."""
    from yt.wrapper import errors

    if isinstance(error, (errors.YtTokenError, errors.YtAuthenticationError)):
        hint = "Put it into YT_TOKEN or ~/.yt/token."
        return SourceError(f"{what}: the cluster does not take the token", where=where, hint=hint)
    if isinstance(error, errors.YtNoSuchTransaction):
        hint = "Blocks that were made are kept. Run the command again."
        return SourceError(f"{what}: the snapshot was lost while it was read", where=where, hint=hint)
    if not isinstance(error, errors.YtResponseError):
        return None
    if error.is_access_denied():
        hint = "Ask its owner for the permission to read it, and the columns that are named."
        return SourceError(f"{what}: permission denied", where=where, hint=hint)
    if error.is_resolve_error():
        return SourceError(f"{what}: there is no such table or folder", where=where)
    return None
