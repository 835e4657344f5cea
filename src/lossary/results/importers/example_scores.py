"""Scores of single examples as importers gather them: each example once, all metrics of the same examples.

Of what a folder holds twice, the last evaluation counts, and runs of one name are called by their folders.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lossary.errors import SourceError
from lossary.results.importers.maps import Maps
from lossary.results.importers.model import ExampleScores, Imported, Mapped

__all__ = ["SAMPLES", "Gathered", "Refusal", "Score", "latest_of_each", "part_right", "runs_by_folder", "slug"]

SAMPLES = "samples of lm-evaluation-harness"
_MOST_EXAMPLES = 20_000_000


class Score(NamedTuple):
    """A number of one example: its part of Σ y / Σ x, under the name that a table gives the metric."""

    metric: str
    y: float
    x: float = 1.0


class Refusal(str):
    """Why a metric of a file is left out."""


class Gathered:
    """Scores of the examples of one run and dataset, by the metric's name in the file."""

    def __init__(self, path: Path, kind: str, run: str, dataset: str) -> None:
        self.found = Imported(path=str(path), kind=kind)
        self._path, self._run, self._dataset = path, run, dataset
        self._scores: dict[str, tuple[str, dict[str, tuple[str, float, float]]]] = {}
        self._places: dict[tuple[str, str], str] = {}
        self._refused: dict[str, Refusal] = {}

    def add(self, name: str, example: str, content: str, score: Score | Refusal, place: str) -> None:
        """One number. SourceError if the example has one under this name already, or the metric is two things."""
        where = f"{self._path}, {place}" if place else str(self._path)
        # Of one kind in all examples, so that none is left out in silence.
        if name in (self._scores if isinstance(score, Refusal) else self._refused):
            refusal = score if isinstance(score, Refusal) else self._refused[name]
            raise SourceError(f"{name} of example {example}, unlike that of others: {refusal}", where=where)
        if isinstance(score, Refusal):
            self._refused[name] = score
            return
        metric, rows = self._scores.setdefault(name, (score.metric, {}))
        if example in rows:
            first = self._places[name, example]
            raise SourceError(
                f"example {example} of {self._dataset} stands there twice under {name}"
                + (f": first in {first}" if first else "")
                + ("" if rows[example][0] == content else ", and what was asked differs"),
                where=where,
                hint="Keep the file of one evaluation: rows of several were put together.",
            )
        if metric != score.metric:
            raise SourceError(f"{name} of example {example} is no such number as before", where=where)
        if len(rows) >= _MOST_EXAMPLES:
            raise SourceError(f"more than {_MOST_EXAMPLES:,} examples", where=where)
        rows[example] = (content, score.y, score.x)
        self._places[name, example] = place

    def finish(self, maps: Maps) -> Imported:
        """All that was added, as one import; every metric of it has the same examples."""
        self._check_aligned()
        taken: dict[str, str] = {}
        for name, (metric, rows) in self._scores.items():
            entry = maps.get(name, self._run)
            again = taken.get(metric)
            if (entry is not None and entry.role == "ignore") or again:
                reason = f"the same as {again}" if again else "as the map says"
                self.found.mapping.append(Mapped(source=name, meaning="left out", reason=reason, run=self._run))
                continue
            taken[metric] = name
            self._keep(name, metric, rows)
        for name, refusal in self._refused.items():
            entry = maps.get(name, self._run)
            reason = "as the map says" if entry is not None and entry.role == "ignore" else str(refusal)
            self.found.mapping.append(Mapped(source=name, meaning="left out", reason=reason, run=self._run))
        return self.found

    def _check_aligned(self) -> None:
        first: tuple[str, dict[str, Any]] | None = None
        for name, (_, rows) in self._scores.items():
            first = first or (name, rows)
            if odd := min(first[1].keys() ^ rows.keys(), key=_by_number, default=None):
                having, lacking = (first[0], name) if odd in first[1] else (name, first[0])
                raise SourceError(
                    f"example {odd} of {self._dataset} has {having} and no {lacking}: rows are not aligned",
                    where=str(self._path),
                    hint="The file is cut off, or put together from two.",
                )

    def _keep(self, name: str, metric: str, rows: dict[str, tuple[str, float, float]]) -> None:
        examples = sorted(rows, key=_by_number)
        content, y, x = zip(*(rows[example] for example in examples), strict=True)
        self.found.examples.append(
            ExampleScores(
                run=self._run,
                dataset=self._dataset,
                metric=metric,
                example=examples,
                content=list(content),
                y=np.array(y, np.float64),
                x=np.array(x, np.float64),
                place=self._path.name,
            )
        )
        meaning = f"{self._dataset}: {metric}"
        mapped = Mapped(
            source=name, meaning=meaning, run=self._run, dataset=self._dataset, metric=metric, points=len(examples)
        )
        self.found.mapping.append(mapped)


def _by_number(name: str) -> tuple[int, str]:
    return (int(name) if name.isdecimal() else 1 << 62, name)


def part_right(name: str, value: float, metric: str | None, maps: Maps) -> Score | Refusal:
    """A number that says how much of an example is right; `metric` None if nobody knows that it says so."""
    if not math.isnan(value) and not 0 <= value <= 1:
        return Refusal("not between 0 and 1, as a part that is right")
    entry = maps.get(name)
    if entry is not None and entry.metric:
        return Score(entry.metric, value)
    if metric is None:
        return Refusal(f"a metric that is not known here; --map '{name}=TASK:{slug(name)}_accuracy' takes it")
    return Score(metric, value)


def slug(name: str) -> str:
    """A name as part of a metric's."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def runs_by_folder(parts: Iterable[Imported], root: Path) -> list[Imported]:
    """The parts with the runs of folders of one name, as those of one model's steps are, called by their paths."""
    parts = list(parts)
    names = _told_apart([(scores.run, _home(part, root)) for part in parts for scores in part.examples])
    return [
        replace(
            part,
            examples=[replace(scores, run=names[scores.run, _home(part, root)]) for scores in part.examples],
            mapping=[replace(item, run=names.get((item.run, _home(part, root)), item.run)) for item in part.mapping],
        )
        if part.examples
        else part
        for part in parts
    ]


class _Home(NamedTuple):
    """Where the scores of a run lie below what is imported, and whether the folder is called by the run."""

    folder: Path
    is_of_run: bool


def _home(part: Imported, root: Path) -> _Home:
    folder = Path(part.path).parent
    return _Home(folder.relative_to(root) if folder.is_relative_to(root) else folder, part.kind == SAMPLES)


def _told_apart(found: Iterable[tuple[str, _Home]]) -> dict[tuple[str, _Home], str]:
    """What to call each run of each folder: no two alike, and no longer than it takes."""
    names = {place: place[0] for place in found}
    for form in (_above, _below, _whole):
        counts = Counter(names.values())
        names = {place: form(*place) if counts[name] > 1 else name for place, name in names.items()}
    return names


def _above(run: str, home: _Home) -> str:
    return str((home.folder.parent if home.is_of_run else home.folder) / run)


def _below(run: str, home: _Home) -> str:
    return str(home.folder.parent / (home.folder.name.lstrip("._") or run)) if home.is_of_run else _above(run, home)


def _whole(run: str, home: _Home) -> str:
    return str(home.folder) if home.is_of_run else _above(run, home)


def latest_of_each(parts: Iterable[Imported], root: Path) -> list[Imported]:
    """The parts with, of one run, dataset and metric, only what was evaluated last, as files' names say."""
    parts = list(parts)
    last: dict[tuple[str, str, str], str] = {}
    for part in parts:
        for scores in part.examples:
            place = (scores.run, scores.dataset, scores.metric)
            last[place] = max(last.get(place, ""), part.path, key=lambda path: Path(path).name)
    found = []
    for part in parts:
        kept = [s for s in part.examples if last[s.run, s.dataset, s.metric] == part.path]
        if len(kept) < len(part.examples):
            path = Path(part.path)
            shown = path.relative_to(root) if path.is_relative_to(root) else path
            mapping = [] if not kept else part.mapping
            part = replace(
                part, examples=kept, mapping=mapping, notes=[*part.notes, f"{shown}: evaluated again later; left out"]
            )
        found.append(part)
    return found
