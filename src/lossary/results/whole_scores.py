"""Whether a file of scores is whole: all that its header says, each example once under each objective, in itself right.

    check_scores(path)                  # ScoreError that names the first row that is not

A file that somebody else wrote, or joined from several, is refused here before a number of it is shown.
"""

from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from lossary.errors import ScoreError
from lossary.objectives import OBJECTIVES
from lossary.results.parquet import ask, file_name
from lossary.results.records import SCORE_SCHEMA, ScoreHeader, read_header
from lossary.results.scorefile import ScoreFile
from lossary.seals import check_sealed

__all__ = ["check_scores", "read_checked"]

_REMEMBERED = 1024
_HINT = "docs/scores.md says how such a file is written; `lossary evaluate` makes those of lossary's own checkpoints."
_LISTS = " OR ".join(f"({name} IS NOT NULL AND len({name}) != targets)" for name in ("target_nats", "predicted"))
# What makes a row wrong in itself, by what is said of it.
_WRONG: dict[str, str] = {
    "{targets} targets": "targets IS NULL OR targets < 0",
    "{correct} right of {targets} targets": "correct IS NULL OR correct < 0 OR correct > targets",
    "nats are {nats}, below 0": "nats < 0",
    "{bytes} bytes": "bytes < 0",
    "lists of another length than its {targets} targets": _LISTS,
    "nats are {nats}, and those of its targets add up to {sum}": (
        "isfinite(nats) AND abs(list_sum(target_nats) - nats) > 1e-4 * (1 + abs(nats))"
    ),
}
# Of an objective with one target.
_WRONG_OF_ONE: dict[str, str] = {
    "{targets} targets; one is expected": "targets != 1",
    "label is {label}; 0 or 1 is expected": "label IS NULL OR label NOT IN (0, 1)",
}
_IN_ORDER = """
SELECT count(*) FILTER (dataset = before AND example <= last), count(*) FILTER (dataset IS DISTINCT FROM before),
       count(DISTINCT dataset)
FROM (SELECT dataset, example, lag(dataset) OVER () AS before, lag(example) OVER () AS last FROM {rows})
"""


def read_checked(path: Path) -> ScoreHeader:
    """The header of a file; of one without a checksum, which somebody else wrote, only if the file is whole."""
    if not check_sealed(path) and read_header(path).schema > 1:
        status = path.stat()
        _remembered(path, (status.st_ino, status.st_mtime_ns, status.st_size))
    return read_header(path)


@lru_cache(maxsize=_REMEMBERED)
def _remembered(path: Path, _: tuple[int, int, int]) -> None:
    check_scores(path)


def check_scores(path: Path) -> ScoreHeader:
    """The header of a file that is whole; ScoreError names the first thing that is wrong, and the row."""
    header = read_header(path, as_drawn=True)
    if header.schema > 1:
        if not (header.validation or header.validation_digest or header.stopped):
            raise _wrong(path, "the header does not say what was scored: `validation`, the digest of each part")
        _check_columns(path)
        _check_names(path, header)
    file = ScoreFile(path)
    for objective in file.objectives:
        _check_once(file, objective)
        _check_rows(file, objective)
    _check_aligned(file)
    return header


def _wrong(path: Path, message: str) -> ScoreError:
    return ScoreError(message, where=str(path), hint=_HINT)


def _check_columns(path: Path) -> None:
    found = pq.read_schema(path)
    for field in SCORE_SCHEMA:
        if field.name not in found.names:
            raise _wrong(path, f"there is no column {field.name!r}; expected are {', '.join(SCORE_SCHEMA.names)}")
        kind, expected = found.field(field.name).type, field.type
        plain = [item.value_type if pa.types.is_dictionary(item) else item for item in (kind, expected)]
        same = _family(plain[0]) == _family(plain[1]) or pa.types.is_null(kind)
        if not same:
            raise _wrong(path, f"column {field.name!r} is {kind}; {expected} is expected")


def _family(kind: pa.DataType) -> str:
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return f"list of {_family(kind.value_type)}"
    if pa.types.is_integer(kind):
        return "whole numbers"
    if pa.types.is_floating(kind):
        return "numbers"
    return "text" if pa.types.is_string(kind) or pa.types.is_large_string(kind) else str(kind)


def _check_names(path: Path, header: ScoreHeader) -> None:
    """Rows are of what the header names: one run, its step, objectives, datasets."""
    parts = [*header.validation, *(header.stopped.parts if header.stopped else ())]
    query = "SELECT DISTINCT run, step, objective, dataset FROM read_parquet(?, hive_partitioning = false) ORDER BY ALL"
    runs = set()
    for run, step, objective, dataset in ask(query, [file_name(path)]):
        runs.add(run)
        if objective not in header.objectives:
            raise _wrong(path, f"rows are of objective {objective!r}; the header names {', '.join(header.objectives)}")
        if dataset is None or (parts and dataset not in parts):
            known = ", ".join(parts)
            raise _wrong(path, f"rows are of dataset {dataset!r}; the header has the parts of {known}")
        if step != header.step:
            raise _wrong(path, f"rows are of step {step}, and the header is of step {header.step}")
    if len(runs) > 1:
        raise _wrong(path, f"rows are of several runs: {', '.join(map(repr, sorted(runs, key=str)))}")


def _check_once(file: ScoreFile, objective: str) -> None:
    rows, name = file.relation(objective), {"path": file_name(file.path)}
    ((descents, changes, datasets),) = ask(_IN_ORDER.format(rows=rows), name)
    if not descents and changes == datasets:
        return
    twice = ask(
        f"SELECT dataset, example, count(*) FROM {rows} GROUP BY ALL HAVING count(*) > 1 ORDER BY ALL LIMIT 1", name
    )
    for dataset, example, count in twice:
        raise _wrong(file.path, f"example {example} of {dataset} has {count} rows under {objective}; one is expected")


def _check_rows(file: ScoreFile, objective: str) -> None:
    """No row is wrong in itself."""
    wrong = _WRONG if OBJECTIVES[objective].is_of_tokens else _WRONG | _WRONG_OF_ONE
    which = " ".join(f"WHEN {condition} THEN {place}" for place, condition in enumerate(wrong.values()))
    query = f"""SELECT * FROM (SELECT CASE {which} END AS place, dataset, example, targets, correct, nats, bytes, label,
        list_sum(target_nats) FROM {file.relation(objective)})
        WHERE place IS NOT NULL ORDER BY dataset, example LIMIT 1"""
    names = ("targets", "correct", "nats", "bytes", "label", "sum")
    for place, dataset, example, *values in ask(query, {"path": file_name(file.path)}):
        message = list(wrong)[place].format(**dict(zip(names, values, strict=True)))
        raise _wrong(file.path, f"example {example} of {dataset} under {objective}: {message}")


def _check_aligned(file: ScoreFile) -> None:
    """An example is the same length under all objectives: of another one, rows would be misaligned."""
    name = {"path": file_name(file.path)}
    first, *others = file.objectives
    for other in others:
        query = f"""SELECT dataset, example, a.tokens, b.tokens FROM {file.relation(first)} a
            JOIN {file.relation(other)} b USING (dataset, example) WHERE a.tokens != b.tokens ORDER BY ALL LIMIT 1"""
        for dataset, example, tokens, of_other in ask(query, name):
            lengths = f"{tokens} tokens under {first} and {of_other} under {other}"
            raise _wrong(file.path, f"example {example} of {dataset} has {lengths}: rows are not aligned")
