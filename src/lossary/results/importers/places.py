"""Where the numbers of a table stand: two for one cell are told apart, or the file is refused and both are named.

Numbers of one place at several steps are a curve.
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from lossary.errors import SourceError
from lossary.results.importers.columns import Column
from lossary.results.importers.facts import Fact, Found, telling_columns
from lossary.results.importers.grids import Grid
from lossary.results.importers.model import Axis, Curve, Number, Split, noted
from lossary.results.importers.names import read_name

__all__ = ["keep", "runs_by_heading", "told_apart"]

NO_RUN = "run"
# A longer heading is a sentence.
_LONGEST_RUN = 60


def told_apart(facts: list[Fact], columns: list[Column], found: Found) -> list[Fact]:
    """Numbers of one place told apart by the columns that differ; SourceError names two that nothing tells apart."""
    telling = telling_columns(columns)
    varying = _varying(facts, len(telling))
    if varying:
        facts = [
            fact._replace(run=" · ".join([*([fact.run] if fact.run != "run" else []), *(
                _label(telling[index], fact.telling[index]) for index in varying if fact.telling[index])]) or fact.run)
            for fact in facts
        ]  # fmt: skip
        names = ", ".join(repr(telling[index].header) for index in varying)
        found.imported.notes.append(f"rows of one dataset are told apart by {names}")
    facts = _one_total(facts, found)
    for group in _grouped(facts).values():
        steps = {fact.step for fact in group}
        if len(steps) == len(group):
            continue
        first, second = next((a, b) for index, a in enumerate(group) for b in group[index + 1 :] if a.step == b.step)
        if first.parsed.value == second.parsed.value:
            continue
        raise SourceError(
            f"{first.header!r} of {first.dataset or 'total'!r} is {first.parsed.text} on line {first.line} and "
            f"{second.parsed.text} on line {second.line}"
            + ("" if first.header == second.header else f" ({second.header!r})")
            + ", and nothing tells them apart",
            where=str(found.path),
            hint=f"Name the column that does with --map HEADER=run, or leave one out: --map {first.header!r}=ignore.",
        )
    return facts


def _one_total(facts: list[Fact], found: Found) -> list[Fact]:
    """The first total of each run and metric; a page with several is told which one stands."""
    first: dict[tuple[str, str, int | None], int] = {}
    for fact in facts:
        if fact.dataset is None:
            first.setdefault((fact.run, fact.metric, fact.step), fact.line)
    left = [f for f in facts if f.dataset is None and first[f.run, f.metric, f.step] != f.line]
    if left:
        lines = ", ".join(str(line) for line in sorted({fact.line for fact in left}))
        found.imported.notes.append(f"several totals; the first stands, those of lines {lines} are left out")
    return [fact for fact in facts if fact not in left]


def _label(column: Column, text: str) -> str:
    return text if column.is_text else f"{column.header} {text}"


def _grouped(facts: Iterable[Fact]) -> dict[tuple[str, str | None, str], list[Fact]]:
    groups: dict[tuple[str, str | None, str], list[Fact]] = defaultdict(list)
    for fact in facts:
        groups[fact.run, fact.dataset, fact.metric].append(fact)
    return groups


def _varying(facts: list[Fact], count: int) -> list[int]:
    """Columns that differ between rows of one place: the first that tells all apart alone, else all that differ."""
    groups = [group for group in _grouped(facts).values() if len({(f.step, f.line) for f in group}) > 1]
    clashing = [group for group in groups if len({fact.step for fact in group}) < len(group)]
    if not clashing:
        return []
    varying = [i for i in range(count) if any(len({fact.telling[i] for fact in group}) > 1 for group in clashing)]
    for index in varying:
        if all(len({(fact.step, fact.telling[index]) for fact in group}) == len(group) for group in clashing):
            return [index]
    return varying


def keep(facts: list[Fact], grid: Grid, which: tuple[int, Axis], found: Found) -> None:
    """Numbers, and curves where a cell has several steps; a run that a table above has takes this table's number."""
    number, axis = which
    section = grid.title or None
    groups = _grouped(facts)
    again = {run for (run, dataset, metric) in groups if (run, dataset, metric) in found.taken}
    for (run, dataset, metric), group in groups.items():
        name = f"{run} ({number})" if run in again else run
        found.taken.setdefault((run, dataset, metric), section or "")
        steps = sorted({fact.step for fact in group if fact.step is not None})
        last = max(group, key=lambda fact: -1 if fact.step is None else fact.step)
        if len(steps) > 1 and dataset is not None:
            found.imported.curves.append(_curve((name, dataset, metric), axis, group, section))
            continue
        found.imported.numbers.append(
            Number(
                run=name,
                dataset=dataset,
                metric=metric,
                value=last.parsed.value * last.scale,
                text=last.parsed.text,
                rounding=last.parsed.rounding * last.scale,
                link=last.link,
                section=section,
                step=last.step,
                place=f"line {last.line}, {last.header}",
            )
        )


def _curve(place: tuple[str, str, str], axis: Axis, group: list[Fact], section: str | None) -> Curve:
    run, dataset, metric = place
    points = sorted({fact.step or 0: fact.parsed.value * fact.scale for fact in group}.items())
    split: Split = "train" if metric.startswith("train_") else "test" if metric.startswith("test_") else "eval"
    return Curve(
        run=run,
        dataset=dataset,
        metric=metric.removeprefix("train_").removeprefix("test_"),
        split=split,
        step=np.array([step for step, _ in points], np.int64),
        value=np.array([value for _, value in points], np.float64),
        axis=axis,
        place=f"line {group[0].line}, {group[0].header}",
        section=section,
    )


def runs_by_heading(found: Found) -> None:
    """Tables of one form that name no run are of the runs that their headings name: `## torch` above one, `## tf`.

    Only where each has a heading of its own that speaks of no metric or split, and each has a cell of another's.
    """
    items: list[Number | Curve] = [*found.imported.numbers, *found.imported.curves]
    cells: dict[str, set[tuple[str | None, str]]] = defaultdict(set)
    for item in items:
        cells[item.section or ""].add((item.dataset, item.metric))
    are_unnamed = all(re.fullmatch(rf"{NO_RUN}( \(\d+\))?", item.run) for item in items)
    if len(cells) < 2 or not are_unnamed or not all(map(_may_be_run, cells)):
        return
    if not all(any(own & other for name, other in cells.items() if name != section) for section, own in cells.items()):
        return
    numbers, curves = found.imported.numbers, found.imported.curves
    numbers[:] = [replace(number, run=number.section or "", section=None) for number in numbers]
    curves[:] = [replace(curve, run=curve.section or "", section=None) for curve in curves]
    found.imported.notes.append(noted("tables of one form are of the runs that their headings name", [*cells]))


def _may_be_run(heading: str) -> bool:
    name = read_name(heading)
    said = (name.quantity, name.split, name.objective)
    return heading != "" and not any(said) and len(heading) <= _LONGEST_RUN
