"""Names that stand among datasets and are none: what sums others up, counts them, or is a part of a sum.

A name is judged by its words and by its numbers together: `paloma macro` is a total where it is the mean of the others
or stands below them, and `average joe` between two datasets is one. What neither decides is left out and asked about.

   wiki 2.5 · books 3.5 · Std 0.7 · pile avg 3.0    →  wiki, books, and a total of 3.0; Std is told
   lm 2.1 · router 0.3 · total 2.4                  →  a loss of 2.4; what adds up to it is told
"""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from itertools import pairwise

from lossary.results.importers.facts import Fact, Found
from lossary.results.importers.grids import is_of_others
from lossary.results.importers.model import ALL
from lossary.results.importers.names import of_data
from lossary.results.importers.titles import SETTING

__all__ = ["without_summaries"]

_TOTAL = r"(totals?|overall|sum|averages?|avg\.?|mean|macro|micro)"
_MAY_BE_TOTAL = re.compile(rf"{_TOTAL}[\s_-].+|.+[\s_-]{_TOTAL}|(un)?weighted\b.*", re.IGNORECASE)
_TOLD = "names that sum up or count the others are left out; --map NAME=dataset says that one is a dataset"
_OPEN = "a dataset or a total of the others, which nothing decides: left out; --map NAME=dataset, or call it average"
_PARTS = "parts of a loss, which add up to the one beside them, are no datasets: left out"
# So many parts or rows make a sum none by chance.
_FEW = 3

# Values with half their last unit, by run, metric and step; then by dataset.
_Values = dict[tuple[str, str, int | None], dict[str | None, tuple[float, float]]]


def without_summaries(facts: Sequence[Fact], found: Found) -> list[Fact]:
    """The numbers of datasets and their totals; what else stands among them is told. A map's word stands."""
    names = list(dict.fromkeys(fact.dataset for fact in facts if fact.dataset not in (None, ALL)))
    if len(names) < 2:
        return list(facts)
    mapped = {name: entry.role for name in names if name and (entry := found.maps.get(name)) is not None}
    unions = _unions([name for name in names if name])
    counting = {name for name in names if name not in mapped and (_is_of_others(name) or name in unions)}
    kept = [fact for fact in facts if fact.dataset not in counting and mapped.get(fact.dataset or "") != "ignore"]
    _tell(_TOLD, counting, facts, found)
    open_ones = [n for n in names if n and n not in counting | mapped.keys() and _MAY_BE_TOTAL.fullmatch(n)]
    totals = {name for name in open_ones if _is_mean(name, open_ones, kept) or _is_below(name, open_ones, kept)}
    asked = {name for name in totals if not _is_mean(name, open_ones, kept) and not re.search(r"m[ai]cro", name, re.I)}
    _tell(_OPEN, asked, facts, found)
    kept = [f._replace(dataset=None) if f.dataset in totals else f for f in kept if f.dataset not in asked]
    kept = _without_parts(kept, mapped.keys(), found)
    elsewhere = {number.dataset for number in found.imported.numbers} | {c.dataset for c in found.imported.curves}
    for name in set(names) - {fact.dataset for fact in kept} - elsewhere:
        found.datasets.pop(name or "", None)
    return _without_marks(kept, unions, found)


def _without_marks(facts: list[Fact], unions: Collection[str], found: Found) -> list[Fact]:
    """The numbers of parts below their whole under their names alone: `ArXiv`, not `- ArXiv`, where none has it yet."""
    names = {fact.dataset or "" for fact in facts} if unions else set()
    plain = {name: _MARK.sub("", name, count=1) for name in names if _MARK.match(name)}
    if len({*plain.values(), *(names - plain.keys())}) < len(names):
        return facts
    for name, short in plain.items():
        if name in found.datasets and short not in found.datasets:
            found.datasets[short] = replace(found.datasets.pop(name), name=short)
    return [fact._replace(dataset=plain.get(fact.dataset or "", fact.dataset)) for fact in facts]


def _is_of_others(name: str | None) -> bool:
    plain = (name or "").strip("*_: \t")
    return is_of_others(plain) or SETTING.fullmatch(plain) is not None


# `- ArXiv` below `Pile`
_MARK = re.compile(r"(?:[-–—•·↳└├>+]+|&nbsp;)\s+(?=\S)")


def _unions(names: Sequence[str]) -> set[str]:
    """The names of several others together: `easy+hard`, and `Pile` above `- ArXiv` and `- Books3`."""
    found = {n for n in names if len(parts := re.split(r"\s*[+&]\s*", n)) > 1 and all(part in names for part in parts)}
    if of_data([*names]) > 0:
        found |= {name for name, after in pairwise(names) if _MARK.match(after) and not _MARK.match(name)}
    return found


def _tell(said: str, names: Iterable[str | None], facts: Sequence[Fact], found: Found) -> None:
    for name in dict.fromkeys(fact.dataset for fact in facts if fact.dataset in set(names)):
        lines = dict.fromkeys(str(fact.line) for fact in facts if fact.dataset == name)
        found.tell(said, f"{name!r} (line {', '.join(list(lines)[:3])})")


def _values(facts: Iterable[Fact]) -> _Values:
    found: _Values = defaultdict(dict)
    for fact in facts:
        key = (fact.run, fact.metric, fact.step)
        found[key][fact.dataset] = fact.parsed.value * fact.scale, fact.parsed.rounding * fact.scale
    return found


def _beside(name: str, open_ones: Sequence[str], facts: Sequence[Fact]) -> list[tuple[float, float, list[float]]]:
    """The values of a name, each with its rounding and with the values of the datasets beside it."""
    found = []
    for group in _values(facts).values():
        others = [pair for other, pair in group.items() if other not in (None, ALL, *open_ones)]
        if name in group:
            value, rounding = group[name]
            found.append((value, rounding + max((r for _, r in others), default=0.0), [v for v, _ in others]))
    return found


def _is_mean(name: str, open_ones: Sequence[str], facts: Sequence[Fact]) -> bool:
    beside = _beside(name, open_ones, facts)
    return all(len(others) > 1 and abs(sum(others) / len(others) - value) <= slack for value, slack, others in beside)


def _is_below(name: str, open_ones: Sequence[str], facts: Sequence[Fact]) -> bool:
    """Whether a name stands behind all datasets, and its values lie between theirs, as those of a mean do."""
    order = [fact.dataset for fact in facts if fact.dataset not in (None, ALL)]
    last = max((at for at, other in enumerate(order) if other not in open_ones), default=-1)
    if order.index(name) < last:
        return False
    return all(others and min(others) <= value <= max(others) for value, _, others in _beside(name, open_ones, facts))


def _without_parts(facts: list[Fact], mapped: Collection[str], found: Found) -> list[Fact]:
    """The numbers without those that add up to another everywhere: the sum is a loss, its parts are no datasets."""
    groups = [group for (_, metric, _), group in _values(facts).items() if metric.endswith("loss")]
    names = list(dict.fromkeys(name for group in groups for name in group if (name or "") not in mapped))
    for total in sorted(names, key=lambda name: name is not None):
        having = [group for group in groups if total in group]
        parts = [name for name in names if name not in (total, None, ALL) and any(name in group for group in having)]
        if len(parts) < 2 or not having or not all(_adds_up(group, total, parts) for group in having):
            continue
        if total is not None and len(having) * (len(parts) - 1) < _FEW:
            continue
        _tell(_PARTS, parts, facts, found)
        rest = [fact for fact in facts if not (fact.dataset in parts and fact.metric.endswith("loss"))]
        return [f._replace(dataset=ALL) if f.dataset == total and f.metric.endswith("loss") else f for f in rest]
    return facts


def _adds_up(group: dict[str | None, tuple[float, float]], total: str | None, parts: Sequence[str]) -> bool:
    value, rounding = group[total]
    known = [group[name] for name in parts if name in group]
    slack = rounding + sum(r for _, r in known) + 1e-9
    return len(known) > 1 and value > max(v for v, _ in known) and abs(sum(v for v, _ in known) - value) <= slack
