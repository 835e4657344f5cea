"""Seconds of processor to parse short rows, with a condition (`where`) and without, in every format.

The condition passes every row, so that both sides make the same rows of text. The peer reads the same JSON Lines by
DuckDB alone, with the same condition, and makes Python's strings of the texts. The last line is the ratio of the sum
without conditions to the sum with them; target: 0.6.

    python -m benchmarks.conditions [--rows 1000000] [--quick]
"""

import csv
import json
import random
import time
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.common import alternate, arguments, temporary_folder
from lossary.data.parsing import parse
from lossary.data.source_files import list_files
from lossary.data.sources import read_blocks
from lossary.study import Dataset

WORDS = ["alpha", "beta", "gamma", "delta", "epsilon"]
WHERE = "length(text) > 0 and lang in ('de', 'en')"


def main() -> None:
    """Measures and prints."""
    options = arguments(__doc__, ("--rows", 1_000_000))
    rows = 20_000 if options.quick else options.rows
    sums = [0.0, 0.0]
    with temporary_folder() as name:
        root = Path(name)
        write_rows(root, rows)
        for file in ("a.jsonl", "a.csv", "a.parquet", "a.txt"):
            where = WHERE if file != "a.txt" else "length(text) > 0"
            plain, filtered = alternate(
                1 if options.quick else 3,
                lambda file=file: parsing(root, file, rows, None),
                lambda file=file, where=where: parsing(root, file, rows, where),
            )
            sums = [sums[0] + plain, sums[1] + filtered]
            print(f"{file:<10} {rows:,} rows: {plain:5.2f} s, with a condition {filtered:5.2f} s")
        peer = bare_duckdb(root, rows)
        print(f"a.jsonl    DuckDB alone, one thread: {peer:5.2f} s")
    print(f"ratio={sums[0] / sums[1]:.2f}")


def write_rows(root: Path, count: int) -> None:
    """The same rows of about 60 characters in every format."""
    rng = random.Random(1)
    rows = [{"text": " ".join(rng.choices(WORDS, k=10)), "lang": rng.choice(["de", "en"])} for _ in range(count)]
    (root / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (root / "a.txt").write_text("".join(row["text"] + "\n" for row in rows))
    with (root / "a.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["text", "lang"])
        writer.writeheader()
        writer.writerows(rows)
    pq.write_table(pa.Table.from_pylist(rows), root / "a.parquet", row_group_size=100_000)


def parsing(root: Path, file: str, rows: int, where: str | None) -> float:
    """Seconds of this process for all rows of a file."""
    dataset = Dataset.model_validate({"source": file, "where": where})
    start = time.process_time()
    found = 0
    for block in read_blocks(dataset, list_files(dataset, root, where=file)):
        found += sum(len(part.rows) for part in parse(block))
    assert found == rows
    return time.process_time() - start


def bare_duckdb(root: Path, rows: int) -> float:
    """DuckDB's own reader of JSON Lines."""
    start = time.process_time()
    with duckdb.connect(config={"threads": 1}) as connection:
        query = f"SELECT text FROM read_json(?, format = 'newline_delimited') WHERE {WHERE}"
        texts = connection.execute(query, [str(root / "a.jsonl")]).fetchall()
    assert len(texts) == rows
    return time.process_time() - start


if __name__ == "__main__":
    main()
