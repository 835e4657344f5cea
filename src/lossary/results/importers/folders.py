"""What several readers found in one folder, as one: equal curves once with both places, different ones apart.

A run that two files have under one name is one run as long as they say the same of it.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from lossary.results.importers.collect import merged
from lossary.results.importers.meanings import same_points
from lossary.results.importers.model import Curve, Imported, Mapped, Number, metric_name

__all__ = ["one_of_all"]

_Place = tuple[str, str | None, str]


def one_of_all(parts: Sequence[Imported], folder: Path) -> Imported:
    """The parts as one import; runs for which they disagree are named by kind or by file."""
    clashes = _clashes(parts)
    runs = {run for run, _, _ in clashes}
    apart = [_renamed(part, {run: f"{run} ({_label(part, parts, folder)})" for run in runs}) for part in parts]
    whole = _once(merged(apart, folder))
    for run in sorted(runs):
        places = [f"{dataset or 'total'} {metric}" for at, dataset, metric in clashes if at == run]
        first, second, *_ = (_label(part, parts, folder) for part in parts if run in part.runs)
        whole.notes.append(
            f"{run}: {first} and {second} have different values of {', '.join(places[:3])}; each is a run of its own. "
            "Import only one of them, or decide with --map NAME=ignore"
        )
    return whole


def _curve_place(curve: Curve) -> _Place:
    # Where nobody says what a loss was measured on, it stands where an evaluation would.
    return curve.run, curve.dataset, metric_name(curve.metric, curve.split)


def _number_place(number: Number) -> _Place:
    return number.run, number.dataset, number.metric


def _clashes(parts: Sequence[Imported]) -> list[_Place]:
    """Places for which two parts have different values."""
    found: dict[_Place, None] = {}
    curves: dict[_Place, tuple[int, Curve]] = {}
    numbers: dict[_Place, tuple[int, Number]] = {}
    for index, part in enumerate(parts):
        for curve in part.curves:
            first, other = curves.setdefault(_curve_place(curve), (index, curve))
            same = same_points((curve.step, curve.value), (other.step, other.value))
            if first != index and not (same and curve.axis == other.axis):
                found[_curve_place(curve)] = None
        for number in part.numbers:
            at, printed = numbers.setdefault(_number_place(number), (index, number))
            if at != index and abs(printed.value - number.value) > printed.rounding + number.rounding:
                found[_number_place(number)] = None
    for place in curves.keys() & numbers.keys():
        (at, number), (where, curve) = numbers[place], curves[place]
        if at != where and not any(abs(curve.value - number.value) <= 2 * number.rounding):
            found[place] = None
    return list(found)


def _label(part: Imported, parts: Sequence[Imported], folder: Path) -> str:
    """What tells a part from the others: its kind, else where it lies."""
    if sum(other.kind == part.kind for other in parts) == 1:
        return part.kind
    path = Path(part.path)
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else path.name


def _renamed(part: Imported, names: dict[str, str]) -> Imported:
    def mapped(item: Mapped) -> Mapped:
        return replace(item, run=names[item.run], conflict=item.reason is None) if item.run in names else item

    return replace(
        part,
        numbers=[replace(item, run=names.get(item.run, item.run)) for item in part.numbers],
        curves=[replace(item, run=names.get(item.run, item.run)) for item in part.curves],
        examples=[replace(item, run=names.get(item.run, item.run)) for item in part.examples],
        mapping=[mapped(item) for item in part.mapping],
    )


def _once(whole: Imported) -> Imported:
    """Curves of one place once, the one with most points, with all their places; so are numbers."""
    by_place: dict[_Place, list[Curve]] = defaultdict(list)
    for curve in whole.curves:
        by_place[_curve_place(curve)].append(curve)
    curves = [
        replace(max(group, key=lambda curve: len(curve.step)), place=_places(curve.place for curve in group))
        for group in by_place.values()
    ]
    printed: dict[_Place, list[Number]] = defaultdict(list)
    for number in whole.numbers:
        if _number_place(number) not in by_place:
            printed[_number_place(number)].append(number)
    numbers = [
        replace(min(group, key=lambda number: number.rounding), place=_places(number.place for number in group))
        for group in printed.values()
    ]
    return replace(whole, curves=curves, numbers=numbers)


def _places(places: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(place for place in places if place))
