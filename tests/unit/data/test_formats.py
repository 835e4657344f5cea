"""One corpus in several scripts, written in every format: the same documents, in the same shards."""

import csv
import gzip
import io
import json
import tarfile
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tokenizers
import zstandard
from tests.corpus import ROWS, jsonl, prepared, study_text

TABLE = pa.Table.from_pylist(ROWS)


def webdataset() -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as tar:
        for number, row in enumerate(ROWS):
            for suffix, text in (("cls", str(number)), ("text", row["text"])):
                header = tarfile.TarInfo(f"{number:04d}.{suffix}")
                header.size = len(text.encode())
                tar.addfile(header, io.BytesIO(text.encode()))
    return sink.getvalue()


def mds(folder: Path) -> None:
    parts = [np.uint32(len(text)).tobytes() + text for text in (row["text"].encode() for row in ROWS)]
    offsets = np.cumsum([0, *map(len, parts)]) + 4 * (len(parts) + 2)
    data = np.uint32(len(parts)).tobytes() + offsets.astype("<u4").tobytes() + b"".join(parts)
    folder.mkdir()
    (folder / "shard.00000.mds").write_bytes(data)
    shard = {
        "format": "mds",
        "samples": len(parts),
        "column_names": ["text"],
        "column_encodings": ["str"],
        "column_sizes": [None],
        "raw_data": {"basename": "shard.00000.mds", "bytes": len(data), "hashes": {}},
    }
    (folder / "index.json").write_text(json.dumps({"version": 2, "shards": [shard]}))


def megatron(root: Path) -> None:
    model = tokenizers.Tokenizer(tokenizers.models.BPE())
    model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    model.train_from_iterator([], tokenizers.trainers.BpeTrainer(initial_alphabet=alphabet, show_progress=False))
    model.save(str(root / "bytes.json"))
    documents = [model.encode(row["text"]).ids for row in ROWS]
    sizes = np.array([len(ids) for ids in documents], "<i4")
    parts = [
        np.array([1], "<u8"),
        np.array([8], "u1"),
        np.array([len(sizes), len(sizes) + 1], "<u8"),
        sizes,
        np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype("<i8") * 2,
        np.arange(len(sizes) + 1, dtype="<i8"),
    ]
    (root / "m.idx").write_bytes(b"MMIDIDX\0\0" + b"".join(part.tobytes() for part in parts))
    (root / "m.bin").write_bytes(b"".join(np.array(ids, "<u2").tobytes() for ids in documents))


def write_all(root: Path) -> list[str]:
    """Writes the corpus in all formats; returns how a study names them."""
    (root / "a.jsonl").write_bytes(jsonl())
    (root / "a.jsonl.zst").write_bytes(zstandard.compress(jsonl()))
    (root / "a.json").write_text(json.dumps(ROWS), encoding="utf-8")
    with (root / "a.csv").open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerows([["text", "lang"], *[[row["text"], row["lang"]] for row in ROWS]])
    pq.write_table(TABLE, root / "a.parquet")
    with pa.ipc.new_stream(root / "a.arrow", TABLE.schema) as stream:
        stream.write_table(TABLE, max_chunksize=5)
    datasets.disable_progress_bars()
    datasets.Dataset(TABLE).save_to_disk(str(root / "saved"))
    (root / "a.tar").write_bytes(webdataset())
    (root / "a.tar.gz").write_bytes(gzip.compress(webdataset()))
    mds(root / "shards")
    megatron(root)
    names = "a.jsonl a.jsonl.zst a.json a.csv a.parquet a.arrow saved a.tar a.tar.gz shards m.bin"
    return names.split()


def tokens(source: str) -> str:
    return '\ntokenizer = "bytes.json"' if source == "m.bin" else ""


@pytest.mark.parametrize("more", ["", "where = \"length(text) > 60 or contains(text, 'の')\"\nlimit = 15"])
def test_the_same_corpus_gives_the_same_shards_in_every_format(tmp_path: Path, more: str) -> None:
    sources = write_all(tmp_path)
    manifests = [
        prepared(tmp_path, study_text(source, more + tokens(source)), name=f"study-{source}") for source in sources
    ]
    assert manifests[0]["documents"] == (15 if more else len(ROWS))
    assert {manifest["digest"] for manifest in manifests} == {manifests[0]["digest"]}
    assert all(manifest["shards"] == manifests[0]["shards"] for manifest in manifests)
    assert all(manifest["bytes"] == manifests[0]["bytes"] for manifest in manifests)
