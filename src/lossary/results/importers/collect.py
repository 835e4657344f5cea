"""Points of many series to curves and their mapping: what each means is `meanings.py`'s matter."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lossary.errors import SourceError
from lossary.results.importers.audit import contradiction
from lossary.results.importers.maps import Maps
from lossary.results.importers.meanings import (
    Refused,
    beside_an_optimizer,
    lone_words,
    losses_in_bits,
    meanings_of,
    same_points,
    told_apart,
    without_exponentials,
    without_parts_of_sums,
)
from lossary.results.importers.model import Curve, Imported, Mapped, Meaning, Tag, metric_name, noted
from lossary.results.importers.names import read_name, split_word

__all__ = ["MOST_POINTS", "Collector", "as_float", "merged"]

MOST_POINTS = 20_000_000


class Collector:
    """Points by series, understood when all are in."""

    def __init__(self, path: Path, kind: str, maps: Maps) -> None:
        self.path = path
        self.kind = kind
        self.maps = maps
        self.notes: list[str] = []
        self.lines: set[int] = set()
        self._told: dict[str, list[str]] = {}
        self._points: dict[Tag, tuple[list[int], list[float]]] = {}
        self._places: dict[Tag, str] = {}
        self._count = 0

    def add(self, tag: Tag, step: int, value: float, place: str = "") -> None:
        """One point; SourceError if there are more than fit into memory."""
        self.extend(tag, [step], [value], place)

    def extend(self, tag: Tag, steps: list[int], values: list[float], place: str = "") -> None:
        """Many points of one series; `place` is where the first of them stands."""
        self._count += len(steps)
        if self._count > MOST_POINTS:
            raise SourceError(f"more than {MOST_POINTS:,} points", where=str(self.path))
        old = self._points.setdefault(tag, ([], []))
        self._places.setdefault(tag, place)
        old[0].extend(steps)
        old[1].extend(values)

    def note(self, text: str) -> None:
        """A note, once."""
        if text not in self.notes:
            self.notes.append(text)

    def tell(self, said: str, where: str) -> None:
        """Adds a place or a name to what is told once of all of them."""
        self._told.setdefault(said, []).append(where)

    @property
    def tags(self) -> list[Tag]:
        """The series that have points, in the order of their first ones."""
        return list(self._points)

    def finish(self) -> Imported:
        """Curves of the series that are understood; of points with one step the last written counts."""
        found = Imported(path=str(self.path), kind=self.kind, notes=self.notes, lines=self.lines)
        by_run: dict[str, list[Tag]] = defaultdict(list)
        for tag in self._points:
            by_run[tag.run].append(tag)
        for tags in by_run.values():
            self._finish_run(tags, found)
        self._check_maps(found)
        found.notes.extend(noted(said, places) for said, places in self._told.items())
        return found

    def _check_maps(self, found: Imported) -> None:
        """Runs of one file share no place unless a map put them there: SourceError if it hides one behind another."""
        places: dict[tuple[str, str, str], Curve] = {}
        for curve in found.curves:
            place = (curve.run, curve.dataset, metric_name(curve.metric, curve.split))
            first = places.setdefault(place, curve)
            if first is not curve and not same_points((first.step, first.value), (curve.step, curve.value)):
                raise SourceError(
                    f"the map puts {first.place} and {curve.place} both at {' '.join(place)}, and their values differ",
                    where=str(self.path),
                    hint="In the map's TOML, `file` says for which run each entry is; give them runs of their own.",
                )

    def _finish_run(self, tags: list[Tag], found: Imported) -> None:
        meanings = meanings_of(tags, self.maps)
        points = {tag: _last_of_each(*self._points[tag]) for tag in tags}
        for tag, meaning in meanings.items():
            in_bits = tag.unit == "bits" or read_name(tag.core).is_in_bits
            if in_bits and not isinstance(meaning, Refused) and meaning.metric.endswith("loss"):
                step, value = points[tag]
                points[tag] = step, value * math.log(2)
        for tag in losses_in_bits(meanings, points):
            step, value = points[tag]
            points[tag] = step, value * math.log(2)
            self.tell("2 to their power is the perplexity beside them: bits, and multiplied by ln 2", tag.name)
        if split_word(self.path.stem) in (None, "train"):
            for tag in beside_an_optimizer(meanings, points):
                meaning = meanings[tag]
                if isinstance(meaning, Meaning):
                    meanings[tag] = replace(meaning, split="train")
                    self.tell("a learning rate or a norm of gradients stands beside: read as of training", tag.name)
        meanings = without_parts_of_sums(without_exponentials(meanings, points), points)
        for tag in lone_words(meanings):
            self.tell(
                "nothing says whether its words name a dataset or a part of the loss; read as a dataset", tag.name
            )
        kept, conflicts = told_apart(meanings, points)
        for tag in tags:
            meaning = kept[tag]
            step, value = points[tag]
            if isinstance(meaning, Refused):
                mapped = Mapped(source=tag.name, meaning="left out", reason=str(meaning), run=tag.run)
                found.mapping.append(mapped)
                continue
            entry = self.maps.get(tag.name, tag.run)
            run = entry.run if entry is not None and entry.run else tag.run
            is_percent = meaning.metric.endswith("accuracy") and np.nanmax(value, initial=0.0) > 1
            value = value / 100 if is_percent else value
            wrong = None if entry is not None and entry.metric else contradiction(meaning.metric, value)
            if wrong is not None:
                found.mapping.append(
                    Mapped(source=tag.name, meaning="left out", reason=f"no {meaning.metric}: {wrong}", run=tag.run)
                )
                continue
            if is_percent:
                self.tell("above 1, and so read as per cent", tag.name)
            place = self._places[tag] or tag.name
            again = len(set(zip(*self._points[tag], strict=True))) - len(step)
            if again > 0 and np.isfinite(value).all():
                self.tell("steps that stand there twice; the value written last counts", f"{tag.name} ({again})")
            if meaning.statistic:
                self.tell(f"{meaning.statistic} values, as no others are there", tag.name)
            found.curves.append(
                Curve(
                    run=run,
                    dataset=meaning.dataset,
                    metric=meaning.metric,
                    split=meaning.split,
                    step=step,
                    value=value,
                    axis=tag.axis,
                    place=place,
                )
            )
            found.mapping.append(
                Mapped(
                    source=tag.name,
                    meaning=f"{meaning.split} {meaning.dataset}: {meaning.metric}",
                    run=run,
                    dataset=meaning.dataset,
                    metric=metric_name(meaning.metric, meaning.split),
                    points=len(step),
                    axis=tag.axis,
                    conflict=tag in conflicts,
                )
            )
        if conflicts:
            names = " and ".join(repr(tag.name) for tag in conflicts[:2])
            self.note(
                f"{tags[0].run}: {names} would stand in one place with different values; each is a row of its own. "
                f"Decide with --map {conflicts[0].name!r}=ignore or --map {conflicts[0].name!r}=DATASET:METRIC"
            )


def as_float(text: object) -> float | None:
    """A number of a text; None if it is none. NaN and infinities are numbers."""
    try:
        return float(str(text))
    except ValueError:
        return None


def _last_of_each(steps: Sequence[int], values: Sequence[float]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    step, value = np.array(steps, np.int64), np.array(values, np.float64)
    order = np.argsort(step, kind="stable")
    step, value = step[order], value[order]
    last = np.append(step[1:] != step[:-1], True)
    return step[last], value[last]


def merged(parts: Iterable[Imported], path: Path) -> Imported:
    """What several readers found in one folder."""
    parts = list(parts)
    kinds = list(dict.fromkeys(part.kind for part in parts if part.kind))
    whole = Imported(path=str(path), kind=", ".join(kinds))
    for part in parts:
        for name in ("datasets", "numbers", "curves", "examples", "mapping", "notes"):
            getattr(whole, name).extend(getattr(part, name))
        whole = replace(whole, unread=whole.unread.joined(part.unread), lines=whole.lines | part.lines)
    return whole
