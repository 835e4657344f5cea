"""Which runs of a table were evaluated on which examples of a dataset, where anything is known of them."""

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from lossary.tables.model import Cell, Metric

__all__ = ["ExampleSet", "differing_sets", "sets_text"]


class ExampleSet(NamedTuple):
    """Runs that share the examples of a dataset, and how many these are."""

    examples: int
    runs: tuple[str, ...]


def differing_sets(cells: Iterable[Cell]) -> dict[str, list[ExampleSet]]:
    """By dataset: the sets of examples of its runs, where these are several; the largest set first."""
    runs: dict[tuple[str, Metric], dict[tuple[str, int], list[str]]] = defaultdict(lambda: defaultdict(list))
    for cell in cells:
        if cell.validation_digest and cell.n:
            runs[cell.dataset, cell.metric][cell.validation_digest, cell.n].append(cell.run)
    found: dict[str, list[ExampleSet]] = {}
    for (dataset, _), by_set in runs.items():
        if len({digest for digest, _ in by_set}) > 1 and dataset not in found:
            sets = [ExampleSet(n, tuple(dict.fromkeys(names))) for (_, n), names in by_set.items()]
            found[dataset] = sorted(sets, key=lambda item: -item.examples)
    return found


def sets_text(sets: Iterable[ExampleSet]) -> str:
    """`80 examples of m1, m3; other 80 of m4; 40 of m2`."""
    texts: list[str] = []
    seen: set[int] = set()
    for n, runs in sets:
        count = f"other {n:,}" if n in seen else f"{n:,}"
        texts.append(f"{count}{'' if texts else ' examples'} of {', '.join(runs)}")
        seen.add(n)
    return "; ".join(texts)
