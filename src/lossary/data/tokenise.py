"""A block of rows to shards: checked, hashed, split into sentences, tokenised. Runs in worker processes.

Sentences end where a line does, and at a piece that ends in .!?… (closing quotes allowed) before a piece that starts a
word: boundaries are found on the pieces, after tokenising, so that text is passed over once.
"""

import hashlib
import os
import signal
import threading
import time
import unicodedata
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lossary.data.blocks import BlockWriter
from lossary.data.json_tokenizer import CutLines
from lossary.data.parsing import BadRow, Block, ParsedBlock, parse
from lossary.data.ragged import offsets_of
from lossary.data.shards import STRETCHES, WHOLE, Shard, packed_shard
from lossary.data.tokenizer import StudyTokenizer
from lossary.files import write_atomic, write_json

__all__ = ["BlockSummary", "normalised_hash", "start_worker", "tokenise_block"]

# Enough to see what is wrong; the counts say how often.
_SAMPLES_A_BLOCK = 100
_LINES_A_CALL = 4096

_WHITE = bytes(code for code in range(128) if chr(code).isspace())
_LOWER = bytes(range(256)).lower()

_model: StudyTokenizer | None = None


@dataclass(kw_only=True)
class BlockSummary:
    """What became of a block; also the marker that its shards are whole."""

    num_rows: int = 0
    documents: int = 0
    tokens: int = 0
    unknown_tokens: int = 0
    sentences: int = 0
    bytes: int = 0
    identical_pairs: int = 0
    filtered: int = 0
    bad_reasons: dict[str, int] = field(default_factory=dict)
    samples: list[dict[str, Any]] = field(default_factory=list)
    # Size, checksum, documents and tokens of each; the digest of all.
    shards: list[list[int]] = field(default_factory=list)
    digest: str = ""


def start_worker(model: StudyTokenizer, parent: int) -> None:
    """Readies a worker process: it holds the tokenizer, leaves Ctrl-C to its parent and ends when its parent does."""
    global _model
    _model = model
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    # A pool's workers would wait for ever on a queue that nobody fills once the parent was killed.
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def tokenise_block(block: Block, *, directory: Path, number: int, model: StudyTokenizer | None = None) -> BlockSummary:
    """Writes the shards of a block and its summary `block-<number>.json` into `directory`."""
    tokenizer = model or _model
    assert tokenizer is not None, "start_worker was not called"
    summary = BlockSummary(num_rows=block.num_rows)
    name = f"block-{number:06d}.arrow"
    with write_atomic(directory / name) as temporary:
        with BlockWriter(temporary) as writer:
            for rows in parse(block):
                _count_bad(summary, rows.bad)
                summary.filtered += len(rows.filtered)
                if rows.rows:
                    shard = tokenise_rows(rows, tokenizer)
                    writer.append(packed_shard(shard), whole=WHOLE, stretches=STRETCHES)
                    _count_shard(summary, shard, rows, tokenizer.specials.unk)
                    summary.shards.append([*writer.places[-1], len(shard), len(shard.ids)])
        summary.digest = writer.digest
    write_json(directory / f"block-{number:06d}.json", asdict(summary))
    return summary


def _count_bad(summary: BlockSummary, bad: list[BadRow]) -> None:
    for row in bad:
        summary.bad_reasons[row.reason] = summary.bad_reasons.get(row.reason, 0) + 1
        if len(summary.samples) < _SAMPLES_A_BLOCK:
            summary.samples.append(asdict(row))


def _count_shard(summary: BlockSummary, shard: Shard, rows: ParsedBlock, unknown: int | None) -> None:
    summary.documents += len(shard)
    summary.tokens += len(shard.ids)
    summary.unknown_tokens += 0 if unknown is None else int(np.count_nonzero(shard.ids == unknown))
    summary.sentences += len(shard.sentence_ends)
    summary.bytes += int(shard.bytes.sum(dtype=np.int64))
    if shard.pair:
        summary.identical_pairs += sum(texts[0] == texts[1] for texts in rows.texts)


def tokenise_rows(rows: ParsedBlock, tokenizer: StudyTokenizer) -> Shard:
    """The shard of parsed rows, at least one; a row that yields no piece keeps an empty document."""
    pair = len(rows.texts[0]) == 2
    lines: list[str] = []
    counts: list[int] = []  # lines of each text, in order
    for texts in rows.texts:
        for text in texts:
            # In a pair the two fields are the sentences, whatever lines they have.
            parts = [text] if pair or "\n" not in text else text.split("\n")
            lines += parts
            counts.append(len(parts))
    pieces = _cut(lines, tokenizer)
    ids, line_ends = pieces.ids, pieces.line_ends
    lines_a_document = np.asarray(counts, np.int64).reshape(len(rows.rows), -1).sum(axis=1)
    last_line = np.cumsum(lines_a_document)
    id_offsets = np.concatenate([[0], line_ends])[np.concatenate([[0], last_line])]
    ends = line_ends if pair else pieces.sentence_ends
    document = np.searchsorted(id_offsets[1:], ends, side="left")
    if pair:
        document = np.repeat(np.arange(len(rows.rows)), 2)
    return Shard(
        row=np.asarray(rows.rows, np.uint64),
        ids=ids,
        id_offsets=id_offsets,
        sentence_ends=(ends - id_offsets[document]).astype(np.int32),
        sentence_offsets=np.searchsorted(document, np.arange(len(rows.rows) + 1)),
        bytes=np.array([sum(len(text.encode()) for text in texts) for texts in rows.texts], np.uint32),
        text_hash=np.array([normalised_hash(texts) for texts in rows.texts], np.uint64),
        pair=pair,
        starts=pieces.starts,
    )


def _cut(lines: list[str], tokenizer: StudyTokenizer) -> CutLines:
    """The pieces of all lines, so many lines at a time."""
    parts = [tokenizer.cut(lines[start : start + _LINES_A_CALL]) for start in range(0, len(lines), _LINES_A_CALL)]
    before = offsets_of(np.array([len(part.ids) for part in parts]))
    starts = [part.starts for part in parts if part.starts is not None]
    return CutLines(
        ids=np.concatenate([part.ids for part in parts]),
        line_ends=np.concatenate([part.line_ends + at for part, at in zip(parts, before, strict=False)]),
        sentence_ends=np.concatenate([part.sentence_ends + at for part, at in zip(parts, before, strict=False)]),
        starts=np.concatenate(starts) if starts else None,
    )


def normalised_hash(texts: tuple[str, ...]) -> int:
    """64 bits of what two texts share that differ in case, white space or compatibility characters only."""
    plain = b"\x1e".join(map(_normalised, texts))
    return int.from_bytes(hashlib.blake2b(plain, digest_size=8).digest(), "little")


def _normalised(text: str) -> bytes:
    """The text without white space, in NFKC, its case folded; for ASCII one pass over bytes gives the same."""
    if text.isascii():
        return text.encode().translate(_LOWER, _WHITE)
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(folded.split()).encode("utf-8", "surrogatepass")
