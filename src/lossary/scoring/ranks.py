"""Processes that score one view together: each takes its windows, the first one has all scores in order.

    for table in ranked_tables(OneRank(), scorer, view.windows(), header, total=len(view), emit=emit): ...

Window k is scored by rank k mod n and handed to rank 0, a window of each rank at a time: no rank holds more. A rank
that fails says so in the next exchange, so that no other waits for it.
"""

from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa

from lossary.backends.process import Emit
from lossary.backends.ranks import OtherFailed, Ranks, Word, raise_failed
from lossary.results.records import ScoreHeader, write_score_windows
from lossary.scoring.api import Scorer, View, Window
from lossary.scoring.kept import KeptScores
from lossary.scoring.score import score_windows

__all__ = ["ranked_tables", "store_together", "without_dictionaries"]


def ranked_tables(
    ranks: Ranks,
    scorer: Scorer,
    windows: Iterable[Window],
    header: ScoreHeader,
    *,
    total: int,
    batch_size: int | None = None,
    kept: KeptScores | None = None,
    emit: Emit,
) -> Generator[pa.Table]:
    """The scores of all windows in their order on rank 0; others take part and yield none.

    OtherFailed where another rank failed. Close it if it is not read to its end.
    """
    pulled: list[int] = []
    mine = score_windows(
        scorer,
        _mine(ranks, windows, pulled),
        header,
        total=-(-total // ranks.size),
        batch_size=batch_size,
        kept=kept,
        emit=emit,
    )
    if ranks.size == 1:
        yield from mine
        return
    # A window gives a table or several, before the next one is asked for.
    by_window = groupby(mine, key=lambda _: pulled[-1])
    try:
        while True:
            found = next(by_window, None)
            word = Word.ENDED if found is None else Word.HERE
            said = ranks.exchange(word, b"" if found is None else _packed(found[1]))
            raise_failed(said)
            for other in said:
                if other.payload:
                    yield from _unpacked(other.payload)
            # A rank that has no window left goes on to listen: others may have one.
            if all(other.word is Word.ENDED for other in said):
                return
    except OtherFailed:
        raise
    except BaseException:
        with suppress(RuntimeError):
            ranks.exchange(Word.FAILED)
        raise


def _mine(ranks: Ranks, windows: Iterable[Window], pulled: list[int]) -> Iterator[Window]:
    for number, window in enumerate(windows):
        if number % ranks.size == ranks.rank:
            pulled[:] = [number]
            yield window


def _packed(tables: Iterator[pa.Table]) -> bytes:
    sink, found = pa.BufferOutputStream(), pa.concat_tables([without_dictionaries(table) for table in tables])
    with pa.ipc.new_stream(sink, found.schema) as writer:
        writer.write_table(found)
    return bytes(sink.getvalue())


def without_dictionaries(table: pa.Table) -> pa.Table:
    """A table with plain columns: dictionaries differ between the parts of a window."""
    fields: list[Any] = [
        field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field
        for field in table.schema
    ]
    return table.cast(pa.schema(fields))


def _unpacked(payload: bytes) -> Iterator[pa.Table]:
    with pa.ipc.open_stream(payload) as reader:
        yield reader.read_all()


def store_together(
    ranks: Ranks,
    scorer: Scorer,
    view: View,
    to: tuple[ScoreHeader, Path],
    *,
    batch_size: int | None = None,
    kept: KeptScores | None = None,
    emit: Emit,
) -> None:
    """Scores a view by all ranks and stores the scores by the first one; they are there once any rank goes on.

    Scores that are `kept` are taken over, else those of datasets that the file has already where one rank alone scores.
    OtherFailed where another rank failed.
    """
    header, path = to
    if kept is None and header.weights_digest and ranks.size == 1:
        kept = KeptScores(path, header)
    tables = ranked_tables(
        ranks, scorer, view.windows(), header, total=len(view), batch_size=batch_size, kept=kept, emit=emit
    )
    if ranks.rank:
        for _ in tables:
            pass
    else:
        _write(ranks, path, tables, header)
    # Nobody reads the scores before they are there.
    raise_failed(ranks.exchange(Word.HERE))


def _write(ranks: Ranks, path: Path, tables: Generator[pa.Table], header: ScoreHeader) -> None:
    """Stores all tables; where that fails, others are told: by the tables if they are not at their end."""
    ended = False

    def each() -> Iterator[pa.Table]:
        nonlocal ended
        yield from tables
        ended = True

    try:
        write_score_windows(path, each(), header)
    except BaseException:
        tables.close()
        if ended:
            ranks.exchange(Word.FAILED)
        raise
