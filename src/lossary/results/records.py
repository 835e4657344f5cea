"""Score and step records: sums and counts, never means.

A score is what one run at one step got on one validation example under one objective; a step record what it saw of one
dataset in one training step. Nats are float64, counts are integers; whoever reads divides.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lossary.errors import ScoreError
from lossary.naming import Names, names_beside
from lossary.objectives import OBJECTIVES
from lossary.results.stopped import Stopped
from lossary.seals import check_sealed, read_sealed, sealed_writer, write_sealed

__all__ = [
    "SCORE_SCHEMA",
    "STEP_SCHEMA",
    "ScoreHeader",
    "read_header",
    "read_steps",
    "write_score_windows",
    "write_scores",
    "write_steps",
]

# Files of schema 1 had a row for each example, with a column for each of two objectives.
_VERSIONS = (1, 2)
_NAME = pa.dictionary(pa.int32(), pa.string())
# Whoever shows a few examples of millions reads whole groups: small ones make that quick, and sums no slower.
_GROUP_ROWS = 16_384

# A row is one example under one objective (docs/scores.md).
SCORE_SCHEMA = pa.schema(
    [
        ("run", _NAME),
        ("step", pa.int64()),
        ("objective", _NAME),
        ("dataset", _NAME),
        ("example", pa.uint64()),
        ("tokens", pa.int32()),
        ("targets", pa.int32()),
        ("bytes", pa.int32()),  # of the targets in the frozen text, null where nobody knows
        ("nats", pa.float64()),  # null where they are no number
        ("correct", pa.int32()),
        ("label", pa.int8()),  # of objectives with one target; SOP: 0 in order, 1 swapped
        ("target_nats", pa.list_(pa.float32())),
        ("predicted", pa.list_(pa.int32())),
    ]
)

STEP_SCHEMA = pa.schema(
    [
        ("run", _NAME),
        ("step", pa.int64()),  # counted from 1: the steps done when it was written
        ("dataset", _NAME),
        ("examples", pa.int64()),
        ("tokens", pa.int64()),
        ("masked", pa.int64()),
        ("mlm_nats", pa.float64()),
        ("mlm_correct", pa.int64()),
        ("sop_pairs", pa.int64()),
        ("sop_nats", pa.float64()),
        ("sop_correct", pa.int64()),
        ("learning_rate", pa.float64()),
        ("gradient_norm", pa.float64()),
        ("total_tokens", pa.int64()),  # of the run so far, all datasets
        ("elapsed_s", pa.float64()),  # of training, restarts left out
    ]
)


@dataclass(frozen=True, kw_only=True)
class ScoreHeader:
    """What a file of scores says of itself; digests are empty where nobody knows them."""

    run: str
    step: int
    objectives: tuple[str, ...]  # that the examples were scored on
    validation_digest: str = ""
    tokenizer_digest: str = ""  # of the study's own vocabulary
    weights_digest: str = ""
    backend: str = ""
    device: str = ""
    precision: str = ""
    size: str = ""
    tokens: int | None = None  # trained on when the checkpoint was written, if known
    lossary: str = ""  # the version that scored
    tokenizer: str | None = None  # the checkpoint's vocabulary: "same", "unknown", "own"; None where nobody compared it
    # The digest of each dataset's part; empty where an earlier lossary scored the set in one piece.
    validation: dict[str, str] = field(default_factory=dict)
    # The digest of the text of each dataset in which the bytes of targets were counted.
    texts: dict[str, str] = field(default_factory=dict)
    # What was scored: the vocabulary that the text was cut by, for people and as a digest, and its view of the set.
    vocabulary: str = ""
    vocabulary_digest: str = ""
    vocabulary_size: int | None = None
    folds_case: bool = False  # whether the vocabulary is known to lose capitals
    view_digest: str = ""
    # By dataset: how many examples or hidden words the vocabulary or the model could not hold, by what it is.
    left_out: dict[str, dict[str, int]] = field(default_factory=dict)
    schema: int = _VERSIONS[-1]
    # Of partial scores: how the evaluation stopped; `validation` has the parts that were scored whole.
    stopped: Stopped | None = None

    @property
    def pieces(self) -> str:
        """The digest of the vocabulary whose pieces were scored; empty where nobody knows."""
        return self.vocabulary_digest or self.tokenizer_digest

    def part(self, dataset: str) -> str | None:
        """The digest of the examples of a dataset that were scored, all of them; None if they were not."""
        is_by_part = self.validation or self.stopped
        return self.validation.get(dataset) if is_by_part else self.validation_digest

    def encode(self) -> dict[bytes, bytes]:
        import json

        found = asdict(self) | {"schema": _VERSIONS[-1]}
        if self.stopped is None:
            # Earlier versions read whole scores, and do not know of others.
            del found["stopped"]
        if not self.folds_case:
            # Earlier versions refuse keys that they do not know: only the files that need this one have it.
            del found["folds_case"]
        return {b"lossary": json.dumps(found, sort_keys=True).encode()}

    @classmethod
    def decode(cls, metadata: dict[bytes, bytes] | None, where: Path) -> Self:
        import json

        try:
            fields: dict[str, Any] = json.loads((metadata or {})[b"lossary"])
            if fields["schema"] not in _VERSIONS:
                raise ScoreError("the scores are of another version of lossary", where=str(where))
            # Schema 1 knows two objectives.
            has_sop = fields.pop("has_sop", False)
            objectives = tuple(fields.pop("objectives", ("mlm", "sop") if has_sop else ("mlm",)))
            unknown = [name for name in objectives if name not in OBJECTIVES]
            if unknown or not objectives:
                known = ", ".join(OBJECTIVES)
                said = f"no objective is called {unknown[0]!r}" if unknown else "the header names no objective"
                raise ScoreError(said, where=str(where), hint=f"Known: {known}.")
            if not isinstance(fields.get("folds_case", False), bool):
                said = f"folds_case is {fields['folds_case']!r} in the header; true or false is expected"
                raise ScoreError(said, where=str(where))
            if (stopped := fields.pop("stopped", None)) is not None:
                fields["stopped"] = Stopped.decode(stopped, where)
            return cls(**fields, objectives=objectives)
        except (KeyError, TypeError, ValueError):
            raise ScoreError("the file holds no scores of lossary", where=str(where)) from None


def write_scores(path: Path, table: pa.Table, header: ScoreHeader) -> None:
    """Stores scores, whole or not at all."""
    write_score_windows(path, [table], header)


def write_score_windows(path: Path, windows: Iterable[pa.Table], header: ScoreHeader) -> None:
    """As `write_scores` of all windows together, of which a few are held at once.

    A row group holds one objective: whoever reads one skips the others.
    """
    schema = SCORE_SCHEMA.with_metadata(header.encode())
    waiting: dict[str, pa.Table] = {}
    with sealed_writer(path, schema) as writer:
        for window in windows:
            for name, rows in _by_objective(window.cast(SCORE_SCHEMA)).items():
                rows = pa.concat_tables([waiting[name], rows]) if name in waiting else rows
                full = len(rows) - len(rows) % _GROUP_ROWS
                if full:
                    writer.write_table(_with_schema(rows.slice(0, full), schema), row_group_size=_GROUP_ROWS)
                waiting[name] = rows.slice(full)
        for rows in waiting.values():
            if len(rows):
                writer.write_table(_with_schema(rows, schema))


def _by_objective(table: pa.Table) -> dict[str, pa.Table]:
    names = pc.unique(table["objective"].cast(pa.string())).to_pylist()
    if len(names) == 1:
        return {names[0]: table}
    return {name: table.filter(pc.equal(table["objective"].cast(pa.string()), name)) for name in names}


def _with_schema(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Names that stand once, however many windows the rows came from."""
    return rows.combine_chunks().unify_dictionaries().replace_schema_metadata(schema.metadata)


def read_header(path: Path, *, as_drawn: bool = False) -> ScoreHeader:
    """What a file of scores says of itself; ScoreError if it is missing or damaged.

    In the folder of a run it is that run's, whatever that was called when it was scored; datasets have their present
    names, or those of the file with `as_drawn`.
    """
    check_sealed(path)
    try:
        header = ScoreHeader.decode(pq.read_schema(path).metadata, path)
        if not as_drawn:
            names = names_beside(path)
            header = replace(
                header,
                validation={names.called(name): part for name, part in header.validation.items()},
                left_out={names.called(name): counts for name, counts in header.left_out.items()},
                stopped=None if header.stopped is None else header.stopped.called(names),
            )
        run = path.absolute().parent.parent
        is_of_run = path.parent.name in ("scores", "sequential") and run.parent.name == "runs"
        return replace(header, run=run.name) if is_of_run else header
    except (OSError, pa.ArrowException) as error:
        raise ScoreError(
            f"not readable: {error}", where=str(path), hint="Delete it and run `lossary evaluate`."
        ) from None


def write_steps(path: Path, table: pa.Table) -> None:
    """Stores step records, whole or not at all."""
    write_sealed(path, table.cast(STEP_SCHEMA))


def read_steps(path: Path, columns: Sequence[str] | None = None, *, as_drawn: bool = False) -> pa.Table:
    """Step records, or some of their columns; an empty table if there are none. ScoreError if the file is damaged.

    Datasets have their present names, or those of the file with `as_drawn`.
    """
    schema = STEP_SCHEMA if columns is None else pa.schema([STEP_SCHEMA.field(name) for name in columns])
    if not path.is_file():
        return schema.empty_table()
    try:
        table = read_sealed(path, columns).cast(schema)
        return table if as_drawn or "dataset" not in table.column_names else _called(table, names_beside(path))
    except (ScoreError, pa.ArrowException) as error:
        message = error.message if isinstance(error, ScoreError) else f"not readable: {error}"
        raise ScoreError(message, where=str(path), hint="Delete it; the run goes on without it.") from None


def _called(table: pa.Table, names: Names) -> pa.Table:
    """Records whose datasets have their present names."""
    if not names.drawn:
        return table
    column = table.column("dataset").combine_chunks()
    present = pa.array([names.called(name) for name in column.dictionary.to_pylist()], pa.string())
    place = table.column_names.index("dataset")
    return table.set_column(place, table.schema.field(place), pa.DictionaryArray.from_arrays(column.indices, present))
