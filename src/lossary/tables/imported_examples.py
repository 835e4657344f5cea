"""Scores of single examples that others made: kept beside imports, estimated, and paired by example.

They stand in `imported-examples.parquet`, a row an example and metric. An example of two runs is the same one if its
name and what was asked are; runs that differ in one example of a dataset have no difference there, and the reason
names the first.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from math import inf, nan
from pathlib import Path

import numpy as np
import pyarrow as pa

from lossary.files import digest_json
from lossary.results.importers.model import ExampleScores, Number
from lossary.seals import read_sealed, write_sealed
from lossary.statistics.estimates import Estimate, MeanSums, RatioSums, mean, proportion, ratio, within
from lossary.statistics.paired import paired_proportion
from lossary.tables.deltas import PairedRuns
from lossary.tables.model import Cell, DatasetRow, Metric, Table, measure_of
from lossary.tables.scores import no_number

__all__ = [
    "EXAMPLES",
    "OF_EXAMPLES",
    "estimate_of_examples",
    "examples_table",
    "misaligned",
    "number_of",
    "paired_examples",
    "read_examples",
    "with_counts",
    "with_intervals",
    "write_examples",
]

EXAMPLES = "imported-examples.parquet"
# How numbers are made of scores of examples.
OF_EXAMPLES = "Σ of examples / Σ of lengths, or their mean|ci:fieller95,hall95,wilson95"
_TEXTS = ("run", "dataset", "metric", "place", "source")
_SCHEMA = pa.schema(
    [
        *((name, pa.dictionary(pa.int32(), pa.string())) for name in _TEXTS),
        ("example", pa.string()),
        ("content", pa.string()),
        ("y", pa.float64()),
        ("x", pa.float64()),
    ]
)
_Index = Mapping[tuple[str, str, Metric], ExampleScores]


def examples_table(found: Sequence[tuple[str, ExampleScores]]) -> pa.Table:
    """Rows of scores, each with the source that it came from."""
    parts = [_SCHEMA.empty_table()]
    for source, scores in found:
        n = len(scores.example)
        texts = {name: getattr(scores, name) for name in _TEXTS if name != "source"} | {"source": source}
        columns = {
            name: pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, np.int32)), pa.array([text], pa.string()))
            for name, text in texts.items()
        }
        columns |= {name: pa.array(getattr(scores, name)) for name in ("example", "content", "y", "x")}
        parts.append(pa.table(columns, schema=_SCHEMA))
    return pa.concat_tables(parts)


def write_examples(root: Path, new: pa.Table, replaced: set[str]) -> None:
    """Adds rows to those that a folder has, without the ones of sources that are replaced."""
    path = root / EXAMPLES
    if path.is_file():
        old = read_sealed(path)
        mask = pa.array([source not in replaced for source in old.column("source").to_pylist()], pa.bool_())
        new = pa.concat_tables([old.filter(mask).cast(_SCHEMA), new])
    if new.num_rows:
        write_sealed(path, new)
    elif path.is_file():
        path.unlink()


def read_examples(root: Path) -> dict[str, list[ExampleScores]]:
    """By source: what was written, in its order."""
    found: dict[str, list[ExampleScores]] = defaultdict(list)
    if not (root / EXAMPLES).is_file():
        return found
    table = read_sealed(root / EXAMPLES).unify_dictionaries().combine_chunks()
    codes = np.stack([table.column(name).combine_chunks().indices.to_numpy() for name in _TEXTS])
    starts = [0, *(np.flatnonzero((codes[:, 1:] != codes[:, :-1]).any(axis=0)) + 1).tolist(), table.num_rows]
    for start, stop in pairwise(starts):
        part = table.slice(start, stop - start)
        texts = {name: part.column(name)[0].as_py() for name in _TEXTS}
        found[texts.pop("source")].append(
            ExampleScores(
                **texts,
                example=part.column("example").to_pylist(),
                content=part.column("content").to_pylist(),
                y=part.column("y").to_numpy(),
                x=part.column("x").to_numpy(),
            )
        )
    return found


def _digest(scores: ExampleScores) -> str:
    """Of the examples and what was asked: equal where two runs may be subtracted."""
    return digest_json([scores.example, scores.content])


def _index(examples: Iterable[ExampleScores]) -> _Index:
    return {(scores.run, scores.dataset, scores.metric): scores for scores in examples}


def number_of(scores: ExampleScores) -> Number:
    """What a table is to have at the place of the scores."""
    value = estimate_of_examples(scores).value
    return Number(
        run=scores.run,
        dataset=scores.dataset,
        metric=scores.metric,
        value=nan if value is None else value,
        text="",
        rounding=0.0,
        place=scores.place,
        statistic=f"of {len(scores.example):,} examples",
    )


def with_counts(rows: Sequence[DatasetRow], examples: Sequence[ExampleScores]) -> list[DatasetRow]:
    """The rows with how many examples most runs have of them, and their shares of all that were evaluated."""
    digests: dict[str, Counter[tuple[str, int]]] = defaultdict(Counter)
    for scores in examples:
        digests[scores.dataset][_digest(scores), len(scores.example)] += 1
    most = {name: counted.most_common(1)[0][0] for name, counted in digests.items()}
    every = sum(n for _, n in most.values())
    found = []
    for row in rows:
        if row.name in most:
            digest, n = most[row.name]
            share = n / every if row.validation_share is None and len(most) == len(rows) else row.validation_share
            row = replace(row, validation_digest=digest, validation_examples=n, validation_share=share)
        found.append(row)
    return found


def with_intervals(cells: Sequence[Cell], examples: Iterable[ExampleScores]) -> list[Cell]:
    """The cells with the estimates of those whose examples are known."""
    index = _index(examples)
    found = []
    for cell in cells:
        scores = index.get((cell.run, cell.dataset, cell.metric))
        if scores is not None:
            estimate = estimate_of_examples(scores)
            cell = replace(
                cell,
                value=estimate.value,
                low=estimate.low,
                high=estimate.high,
                variance=estimate.variance,
                n=estimate.n,
                interval=estimate.method,
                reason=estimate.reason,
                reported=None,
                validation_digest=_digest(scores),
            )
        found.append(cell)
    return found


def estimate_of_examples(scores: ExampleScores) -> Estimate:
    """Σ y / Σ x with the interval that its kind has."""
    y, x, n = scores.y, scores.x, len(scores.y)
    if broken := int(np.count_nonzero(~np.isfinite(y))):
        return Estimate(value=None, n=n, reason=no_number(broken, n))
    is_fraction = measure_of(scores.metric).unit == "fraction"
    if (x != 1).any():
        return within(ratio(RatioSums.of(y, x)), 0.0, inf)
    if is_fraction and np.isin(y, (0.0, 1.0)).all():
        return proportion(int(y.sum()), n)
    return within(mean(MeanSums.of(y)), 0.0, 1.0 if is_fraction else inf)


def misaligned(first: ExampleScores, second: ExampleScores) -> str:
    """The first example in which two runs differ in what they were asked; empty if there is none."""
    if first.example == second.example and first.content == second.content:
        return ""
    sides = [dict(zip(side.example, side.content, strict=True)) for side in (first, second)]
    for example in dict.fromkeys([*first.example, *second.example]):
        for has, lacks, run in ((0, 1, first.run), (1, 0, second.run)):
            if example in sides[has] and example not in sides[lacks]:
                return f"example {example} of {first.dataset} is one of {run} only"
        if sides[0][example] != sides[1][example]:
            how = _differing(first, second, example)
            return f"example {example} of {first.dataset} was asked in another way: {how}"
    return ""


def _differing(first: ExampleScores, second: ExampleScores, example: str) -> str:
    one, other = (side.content[side.example.index(example)].split(" ") for side in (first, second))
    names = ("text", "prompt", "target")
    if len(one) != len(names) or len(other) != len(names):
        return "another hash"
    return f"another {' and '.join(n for n, a, b in zip(names, one, other, strict=True) if a != b)} by the hash"


def paired_examples(
    table: Table, examples: Iterable[ExampleScores], base: str, run: str, *, forced: bool = False
) -> PairedRuns:
    """Differences of a run to the base; forced, of the examples of one name whatever was asked."""
    index = _index(examples)
    estimates: dict[str, dict[Metric, Estimate]] = {row.name: {} for row in table.datasets}
    unmatched: dict[str, dict[Metric, int]] = {row.name: {} for row in table.datasets}
    for dataset in estimates:
        for metric in table.measured:
            first, second = (index.get((side, dataset, metric)) for side in (base, run))
            # A task that has no such metric has no difference to miss.
            reason = None if first is None and second is None else "of one of both runs only"
            found, odd = Estimate(value=None, reason=reason), 0
            if first is not None and second is not None:
                found, odd = _difference(first, second, forced=forced)
            estimates[dataset][metric], unmatched[dataset][metric] = found, odd
    return PairedRuns(estimates, unmatched)


def _difference(first: ExampleScores, second: ExampleScores, *, forced: bool) -> tuple[Estimate, int]:
    if reason := misaligned(first, second):
        if not forced:
            return Estimate(value=None, reason=reason), 0
        common = set(first.example) & set(second.example)
        odd = len(first.example) + len(second.example) - 2 * len(common)
        return _paired(_only(first, common), _only(second, common)), odd
    return _paired(first, second), 0


def _only(scores: ExampleScores, names: set[str]) -> ExampleScores:
    at = [place for place, name in enumerate(scores.example) if name in names]
    return ExampleScores(
        **vars(scores)
        | {"example": [scores.example[place] for place in at], "content": [scores.content[place] for place in at]}
        | {"y": scores.y[at], "x": scores.x[at]}
    )


def _paired(first: ExampleScores, second: ExampleScores) -> Estimate:
    if not np.array_equal(first.x, second.x):
        at = int(np.flatnonzero(first.x != second.x)[0])
        sizes = f"{first.x[at]:,g} and {second.x[at]:,g}"
        return Estimate(value=None, reason=f"example {first.example[at]} of {first.dataset} has two lengths: {sizes}")
    difference, n = second.y - first.y, len(first.y)
    if broken := int(np.count_nonzero(~np.isfinite(difference))):
        return Estimate(value=None, n=n, reason=no_number(broken, n))
    if (first.x != 1).any():
        return ratio(RatioSums.of(difference, first.x))
    if measure_of(first.metric).unit == "fraction":
        if np.isin(first.y, (0.0, 1.0)).all() and np.isin(second.y, (0.0, 1.0)).all():
            return paired_proportion(n=n, gained=int((difference > 0).sum()), lost=int((difference < 0).sum()))
        return within(mean(MeanSums.of(difference)), -1.0, 1.0)
    return mean(MeanSums.of(difference))
