"""Files of scores as they were before schema 2: a row for each example, with columns for MLM and for SOP."""

import json
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from lossary.results.records import SCORE_SCHEMA, ScoreHeader
from lossary.seals import write_sealed

__all__ = ["SCHEMA_1", "rows_of", "write_schema_1"]

_NAME = pa.dictionary(pa.int32(), pa.string())
SCHEMA_1 = pa.schema(
    [
        ("run", _NAME),
        ("step", pa.int64()),
        ("dataset", _NAME),
        ("example", pa.uint64()),
        ("tokens", pa.int32()),
        ("bytes", pa.int32()),
        ("masked", pa.int32()),
        ("mlm_nats", pa.float64()),
        ("mlm_correct", pa.int32()),
        ("sop_label", pa.int8()),
        ("sop_nats", pa.float64()),
        ("sop_correct", pa.bool_()),
        ("position_nats", pa.list_(pa.float32())),
        ("predicted", pa.list_(pa.int32())),
    ]
)


def write_schema_1(path: Path, table: pa.Table, header: ScoreHeader) -> None:
    """Stores scores as that version did."""
    fields = asdict(header)
    for later in ("objectives", "vocabulary", "vocabulary_digest", "view_digest", "left_out", "texts"):
        fields.pop(later)
    fields |= {"schema": 1, "has_sop": "sop" in header.objectives}
    metadata = {b"lossary": json.dumps(fields, sort_keys=True).encode()}
    write_sealed(path, table.cast(SCHEMA_1).replace_schema_metadata(metadata), row_group_size=16_384)


def rows_of(wide: pa.Table, *, with_bytes: bool = True) -> pa.Table:
    """The rows of schema 2 that examples of schema 1 are; with `with_bytes`, targets have the bytes of the example."""
    count = len(wide)
    names = {name: wide[name] for name in ("run", "step", "dataset", "example", "tokens")}
    mlm = {
        **names,
        "objective": pa.array(["mlm"] * count),
        "targets": wide["masked"],
        "bytes": wide["bytes"] if with_bytes else pa.nulls(count, pa.int32()),
        "nats": wide["mlm_nats"],
        "correct": wide["mlm_correct"],
        "label": pa.nulls(count, pa.int8()),
        "target_nats": wide["position_nats"],
        "predicted": wide["predicted"],
    }
    pairs = wide.filter(pc.is_valid(wide["sop_correct"]))
    count = len(pairs)
    sop = {
        **{name: pairs[name] for name in names},
        "objective": pa.array(["sop"] * count),
        "targets": pa.array([1] * count, pa.int32()),
        "bytes": pa.nulls(count, pa.int32()),
        "nats": pairs["sop_nats"],
        "correct": pairs["sop_correct"].cast(pa.int32()),
        "label": pairs["sop_label"],
        "target_nats": pa.nulls(count, pa.list_(pa.float32())),
        "predicted": pa.nulls(count, pa.list_(pa.int32())),
    }
    parts = [pa.table(part).select(SCORE_SCHEMA.names).cast(SCORE_SCHEMA) for part in (mlm, sop)]
    return pa.concat_tables(parts)
