"""Points of many series to curves: what each name means, decided for all series of a run together.

Two series that would stand in one place are told apart by their names, and both are named: none hides another.
"""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lossary.errors import SourceError
from lossary.results.importers.maps import Maps
from lossary.results.importers.model import ALL, Curve, Imported, Mapped, Meaning, Split, Tag, metric_name
from lossary.results.importers.names import Name, read_name, split_word

__all__ = ["MOST_POINTS", "Collector", "as_float", "base_metric", "merged", "same_points"]

MOST_POINTS = 20_000_000
# Names of places in a program rather than of datasets.
_NO_DATASET = {
    "model", "network", "net", "main", "default", "epoch", "batch", "step", "trainer", "module", "task", "monitor",
    "performance", "summary", "log", "logs", "stats", "iteration", "evaluation", "global", "losses", "all", "total",
}  # fmt: skip


class Refused(str):
    """Why a series is left out."""


class Collector:
    """Points by series, understood when all are in."""

    def __init__(self, path: Path, kind: str, maps: Maps) -> None:
        self.path = path
        self.kind = kind
        self.maps = maps
        self.notes: list[str] = []
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

    @property
    def tags(self) -> list[Tag]:
        """The series that have points, in the order of their first ones."""
        return list(self._points)

    def finish(self) -> Imported:
        """Curves of the series that are understood; of points with one step the last written counts."""
        found = Imported(path=str(self.path), kind=self.kind, notes=self.notes)
        by_run: dict[str, list[Tag]] = defaultdict(list)
        for tag in self._points:
            by_run[tag.run].append(tag)
        for tags in by_run.values():
            self._finish_run(tags, found)
        self._check_maps(found)
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
        meanings = _meanings(tags, self.maps)
        points = {tag: _last_of_each(*self._points[tag]) for tag in tags}
        meanings = _without_exponentials(meanings, points)
        kept, conflicts = _told_apart(meanings, points)
        for tag in tags:
            meaning = kept[tag]
            step, value = points[tag]
            if isinstance(meaning, Refused):
                mapped = Mapped(source=tag.name, meaning="left out", reason=str(meaning), run=tag.run)
                found.mapping.append(mapped)
                continue
            entry = self.maps.get(tag.name, tag.run)
            run = entry.run if entry is not None and entry.run else tag.run
            if tag.unit == "bits" and meaning.metric.endswith("loss"):
                value = value * math.log(2)
            if meaning.metric.endswith("accuracy") and np.nanmax(value, initial=0.0) > 1:
                value = value / 100
                self.note(f"{tag.name} is above 1: read as per cent")
            place = self._places[tag] or tag.name
            again = len(set(zip(*self._points[tag], strict=True))) - len(step)
            if again > 0 and np.isfinite(value).all():
                self.note(f"{tag.run}, {tag.name}: {again} steps stand there twice; the value written last counts")
            if meaning.statistic:
                self.note(f"{tag.name}: {meaning.statistic} values, as no others are there")
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


def base_metric(name: Name, *, has_pairs: bool) -> str:
    """The metric without its split. `lm` is masked words only beside a loss of sentence pairs, which BERTs have."""
    if name.component:
        return f"{name.component}_{name.quantity or 'loss'}"
    objective = name.objective
    if objective == "lm":
        objective = "mlm" if has_pairs else None
    quantity = name.quantity or "loss"
    return f"{objective}_{quantity}" if objective else quantity


def _meanings(tags: Sequence[Tag], maps: Maps) -> dict[Tag, Meaning | Refused]:
    """What each series of one run is of, or why it is left out."""
    prefix = _common_prefix([tag.core for tag in tags])
    cores = {tag: _without_interval(tag.core[prefix:]) for tag in tags}
    names = {tag: read_name(core, with_split=tag.split is None) for tag, core in cores.items()}
    twins = _other_intervals(names)
    reasons = {tag: _why_not(tag, name) or twins.get(tag) for tag, name in names.items()}
    read = {tag: name for tag, name in names.items() if reasons[tag] is None}
    read = _splits_that_are_regular(read)
    has_pairs = any(name.objective in ("sop", "nsp") for name in read.values())
    datasets = _datasets({tag: name.rest for tag, name in read.items()})
    found: dict[Tag, Meaning | Refused] = {}
    for tag in tags:
        entry = maps.get(tag.name, tag.run)
        if entry is not None and entry.role == "ignore":
            found[tag] = Refused("as the map says")
        elif entry is not None and entry.metric:
            split: Split = "eval" if entry.split == "unknown" else entry.split
            dataset = entry.dataset or entry.owner or tag.dataset or ALL
            found[tag] = Meaning(dataset=dataset, metric=entry.metric, split=split)
        elif tag not in read:
            found[tag] = Refused(reasons[tag] or "no loss or accuracy")
        else:
            name = read[tag]
            found[tag] = Meaning(
                dataset="/".join(part for part in (tag.dataset, datasets[tag]) if part) or ALL,
                metric=base_metric(name, has_pairs=has_pairs),
                split=tag.split or name.split or "unknown",
                statistic=name.statistic if name.statistic not in ("", "mean") else "",
            )
    return _unmarked_is_training(_without_twins(found))


def _why_not(tag: Tag, name: Name) -> str | None:
    if tag.refused:
        return tag.refused
    if name.quantity is None:
        return "no loss or accuracy"
    if name.about:
        return f"speaks about a loss: {name.about}"
    reasons = {
        "deviation": "a deviation, which is no loss",
        "min": "a lowest value, not the value of a step",
        "max": "a highest value, not the value of a step",
        "best": "a best value so far, not the value of a step",
    }
    return reasons.get(name.statistic)


# Lightning logs one value by step and by epoch: `train_loss_step`, `train_loss_epoch`, whatever the tracker.
_INTERVAL = re.compile(r"_(step|epoch)(?=$|/dataloader_idx_\d+$)")


def _without_interval(core: str) -> str:
    shorter = _INTERVAL.sub("", core)
    return shorter if read_name(shorter).quantity is not None else core


def _other_intervals(names: Mapping[Tag, Name]) -> dict[Tag, str]:
    """Of a series logged by step and by epoch: training counts by step, evaluation as the mean over the set."""
    known = {tag.name for tag in names}
    reasons = {}
    for tag, name in names.items():
        match = _INTERVAL.search(tag.name)
        other = "" if match is None else _INTERVAL.sub("_epoch" if match[1] == "step" else "_step", tag.name)
        if match is None or name.quantity is None or other not in known:
            continue
        is_training = (tag.split or name.split or "train") == "train"
        if is_training and match[1] == "epoch":
            reasons[tag] = "a mean over an epoch, beside the values by step"
        elif not is_training and match[1] == "step":
            reasons[tag] = "of single batches, beside the mean over the set"
    return reasons


def _common_prefix(cores: Sequence[str]) -> int:
    """Characters before the names of all series of a run that say nothing of any: `my_project/`."""
    if len(set(cores)) < 2:
        return 0
    words = [re.split(r"([/._ \-:]+)", core) for core in cores]
    length, at = 0, 0
    lengths = [0]
    while all(len(parts) > at + 2 for parts in words) and len({tuple(parts[: at + 2]) for parts in words}) == 1:
        word = words[0][at]
        name = read_name(word)
        if word and not name.rest:
            break
        at += 2
        length += len(word) + len(words[0][at - 1])
        lengths.append(length)
    # `next_sentence_` before all of a run's losses is their objective.
    return next(
        length
        for length in reversed(lengths)
        if all(_says(core) == _says(core[length:]) for core in cores) or not length
    )


def _says(core: str) -> tuple[str | None, str | None, str | None]:
    name = read_name(core)
    return name.objective, name.split, name.quantity


def _splits_that_are_regular(names: Mapping[Tag, Name]) -> dict[Tag, Name]:
    """A word such as `dev` or `test` before a dataset is a split only where the run's names have splits throughout.

    Beside `wiki_loss`, `dev_to_loss` is of the dataset `dev_to`; beside `wiki_loss` and `dev_wiki_loss` it is a split.
    """
    with_rest = {tag: name for tag, name in names.items() if name.rest}
    without_split = {name.rest for name in with_rest.values() if name.split is None}
    if not without_split:
        return dict(names)
    return {
        tag: name._replace(split=None, rest=name.rest_with_split)
        if name.rest and name.split is not None and tag.split is None and name.rest not in without_split
        and "/" not in name.rest_with_split and name.rest_with_split != name.rest
        else name
        for tag, name in names.items()
    }  # fmt: skip


def _datasets(rests: Mapping[Tag, str]) -> dict[Tag, str]:
    """Datasets of a run's series: without the folders, and without the word of a split, that all of them share."""
    parts = {tag: [part for part in re.split(r"[/]", rest) if part] for tag, rest in rests.items() if rest}
    several = len({tuple(part) for part in parts.values()}) > 1
    while several and all(len(part) > 1 for part in parts.values()) and len({part[0] for part in parts.values()}) == 1:
        parts = {tag: part[1:] for tag, part in parts.items()}
    while several and all(len(part) > 1 for part in parts.values()) and len({part[-1] for part in parts.values()}) == 1:
        parts = {tag: part[:-1] for tag, part in parts.items()}
    found = {tag: "/".join(parts.get(tag, [])) for tag in rests}
    found = {tag: "" if name.lower() in _NO_DATASET else name for tag, name in found.items()}
    ends = {re.split(r"[_\- ]", name)[-1] for name in found.values() if name}
    if len(ends) == 1 and several and split_word(end := next(iter(ends))):
        found = {tag: name[: -len(end)].rstrip("_- ") or name for tag, name in found.items()}
    return found


def _without_twins(found: Mapping[Tag, Meaning | Refused]) -> dict[Tag, Meaning | Refused]:
    """Smoothed series, and curves by epoch, step back where the plain one is there."""
    plain = {
        (m.dataset, m.metric, m.split)
        for tag, m in found.items()
        if isinstance(m, Meaning) and not m.statistic and tag.axis == "step"
    }
    kept: dict[Tag, Meaning | Refused] = {}
    for tag, meaning in found.items():
        twin = isinstance(meaning, Meaning) and (meaning.dataset, meaning.metric, meaning.split) in plain
        if twin and isinstance(meaning, Meaning) and meaning.statistic:
            kept[tag] = Refused(f"{meaning.statistic}, beside the plain values")
        elif twin and tag.axis == "epoch":
            kept[tag] = Refused("the same by epoch, beside the values by step")
        else:
            kept[tag] = meaning
    return kept


def _without_exponentials(
    found: dict[Tag, Meaning | Refused], points: Mapping[Tag, tuple[NDArray[np.int64], NDArray[np.float64]]]
) -> dict[Tag, Meaning | Refused]:
    """Perplexities that only are e to the loss beside them say nothing more."""
    losses = {
        (m.dataset, m.metric.removesuffix("loss"), m.split): tag
        for tag, m in found.items()
        if isinstance(m, Meaning) and m.metric.endswith("loss")
    }
    kept = dict(found)
    for tag, m in found.items():
        if not isinstance(m, Meaning) or not m.metric.endswith("perplexity"):
            continue
        loss = losses.get((m.dataset, m.metric.removesuffix("perplexity"), m.split))
        if loss is None:
            continue
        common, at, other = np.intersect1d(points[tag][0], points[loss][0], return_indices=True)
        base = 2.0 if loss.unit == "bits" else np.e
        with np.errstate(all="ignore"):
            expected = base ** points[loss][1][other]
        if len(common) and np.allclose(points[tag][1][at], expected, rtol=0.02, equal_nan=True):
            kept[tag] = Refused(f"{'2' if base == 2.0 else 'e'} to the power of {loss.name}")
    return kept


def _unmarked_is_training(found: dict[Tag, Meaning | Refused]) -> dict[Tag, Meaning | Refused]:
    """`loss` beside `val_loss`, or beside `val_wiki_loss`, is the loss of training."""
    evaluated = {m.metric for m in found.values() if isinstance(m, Meaning) and m.split == "eval"}
    known = {(m.dataset, m.metric, m.split) for m in found.values() if isinstance(m, Meaning)}
    return {
        tag: replace(m, split="train")
        if isinstance(m, Meaning)
        and m.split == "unknown"
        and ((m.dataset, m.metric, "eval") in known or (m.dataset == ALL and m.metric in evaluated))
        and (m.dataset, m.metric, "train") not in known
        else m
        for tag, m in found.items()
    }


def _told_apart(
    meanings: Mapping[Tag, Meaning | Refused],
    points: Mapping[Tag, tuple[NDArray[np.int64], NDArray[np.float64]]],
) -> tuple[dict[Tag, Meaning | Refused], list[Tag]]:
    """Of series in one place: those with the same values once, others each under a dataset with its name."""
    places: dict[tuple[str, str, Split], list[Tag]] = defaultdict(list)
    for tag, meaning in meanings.items():
        if isinstance(meaning, Meaning):
            key = "eval" if meaning.split == "unknown" else meaning.split
            places[meaning.dataset, meaning.metric, key].append(tag)
    kept = dict(meanings)
    conflicts: list[Tag] = []
    for tags in places.values():
        different: list[Tag] = []
        for tag in tags:
            twin = next((other for other in different if same_points(points[tag], points[other])), None)
            if twin is not None:
                kept[tag] = Refused(f"the same values as {twin.name}")
            else:
                different.append(tag)
        if len(different) > 1:
            conflicts += different
            for tag in different:
                meaning = kept[tag]
                if isinstance(meaning, Meaning):
                    kept[tag] = replace(meaning, dataset=f"{meaning.dataset} [{tag.name}]")
    return kept, conflicts


def same_points(
    first: tuple[NDArray[np.int64], NDArray[np.float64]], second: tuple[NDArray[np.int64], NDArray[np.float64]]
) -> bool:
    """Whether the shorter of two curves, each of steps and values, is part of the other."""
    common, at, other = np.intersect1d(first[0], second[0], return_indices=True)
    fewest = min(len(first[0]), len(second[0]))
    return len(common) == fewest > 0 and bool(np.allclose(first[1][at], second[1][other], rtol=1e-5, equal_nan=True))


def merged(parts: Iterable[Imported], path: Path) -> Imported:
    """What several readers found in one folder."""
    parts = list(parts)
    kinds = list(dict.fromkeys(part.kind for part in parts if part.kind))
    whole = Imported(path=str(path), kind=", ".join(kinds))
    for part in parts:
        for name in ("datasets", "numbers", "curves", "mapping", "notes"):
            getattr(whole, name).extend(getattr(part, name))
    return whole
