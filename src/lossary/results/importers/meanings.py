"""What the names of series mean, decided for all series of a run together.

Two series that would stand in one place are told apart by their names: none hides another.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lossary.results.importers.grids import is_total
from lossary.results.importers.maps import Maps
from lossary.results.importers.model import ALL, Meaning, Split, Tag
from lossary.results.importers.names import Name, of_data, read_name, split_word

__all__ = [
    "Refused",
    "base_metric",
    "lone_words",
    "losses_in_bits",
    "meanings_of",
    "same_points",
    "beside_an_optimizer",
    "told_apart",
    "without_exponentials",
    "without_parts_of_sums",
]

# Names of places in a program rather than of datasets.
_NO_DATASET = {
    "model", "network", "net", "main", "default", "epoch", "batch", "step", "trainer", "module", "task", "monitor",
    "performance", "summary", "log", "logs", "stats", "iteration", "evaluation", "global", "losses", "all", "total",
    "samples",
}  # fmt: skip


class Refused(str):
    """Why a series is left out."""


def base_metric(name: Name, *, has_pairs: bool) -> str:
    """The metric without its split. `lm` is masked words only beside a loss of sentence pairs, which BERTs have."""
    if name.component:
        return f"{name.component}_{name.quantity or 'loss'}"
    objective = name.objective
    if objective == "lm":
        objective = "mlm" if has_pairs else None
    quantity = name.quantity or "loss"
    return f"{objective}_{quantity}" if objective else quantity


def meanings_of(tags: Sequence[Tag], maps: Maps) -> dict[Tag, Meaning | Refused]:
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
    without_split = {name.rest for tag, name in with_rest.items() if name.split is None and tag.split is None}
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
    found = {tag: "" if name.lower() in _NO_DATASET or _is_total(name) else name for tag, name in found.items()}
    ends = {re.split(r"[_\- ]", name)[-1] for name in found.values() if name}
    if len(ends) == 1 and several and split_word(end := next(iter(ends))):
        found = {tag: name[: -len(end)].rstrip("_- ") or name for tag, name in found.items()}
    return found


def _is_total(name: str) -> bool:
    return len(name.split()) == 1 and is_total(name)


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


_Points = Mapping[Tag, tuple[NDArray[np.int64], NDArray[np.float64]]]


def _with_perplexities(found: Mapping[Tag, Meaning | Refused]) -> Iterator[tuple[Tag, Tag]]:
    """Each perplexity with the loss of its dataset, split and objective."""
    losses = {
        (m.dataset, m.metric.removesuffix("loss"), m.split): tag
        for tag, m in found.items()
        if isinstance(m, Meaning) and m.metric.endswith("loss")
    }
    for tag, m in found.items():
        if isinstance(m, Meaning) and m.metric.endswith("perplexity"):
            loss = losses.get((m.dataset, m.metric.removesuffix("perplexity"), m.split))
            if loss is not None:
                yield tag, loss


def _is_power(points: _Points, perplexity: Tag, loss: Tag, base: float) -> bool:
    common, at, other = np.intersect1d(points[perplexity][0], points[loss][0], return_indices=True)
    with np.errstate(all="ignore"):
        expected = base ** points[loss][1][other]
    return len(common) > 0 and bool(np.allclose(points[perplexity][1][at], expected, rtol=0.02, equal_nan=True))


def losses_in_bits(found: Mapping[Tag, Meaning | Refused], points: _Points) -> list[Tag]:
    """Losses, read as nats, of which 2 to their power is the perplexity beside them, and e to their power is not."""
    return [
        loss
        for perplexity, loss in _with_perplexities(found)
        if _is_power(points, perplexity, loss, 2.0) and not _is_power(points, perplexity, loss, np.e)
    ]


def without_exponentials(found: dict[Tag, Meaning | Refused], points: _Points) -> dict[Tag, Meaning | Refused]:
    """Perplexities that only are e to the loss beside them say nothing more."""
    kept = dict(found)
    for perplexity, loss in _with_perplexities(found):
        if _is_power(points, perplexity, loss, np.e):
            kept[perplexity] = Refused(f"{'2' if loss.unit == 'bits' else 'e'} to the power of {loss.name}")
    return kept


# A sum that so many points agree with is none by chance; logs print four digits and more.
_FEW_POINTS = 2
_OF_A_SUM = 2e-4


def without_parts_of_sums(found: dict[Tag, Meaning | Refused], points: _Points) -> dict[Tag, Meaning | Refused]:
    """Series that add up to the loss of all data at every step are parts of it, and of no dataset: `image`, `text`."""
    groups: dict[tuple[str, Split], list[Tag]] = defaultdict(list)
    for tag, m in found.items():
        if isinstance(m, Meaning) and m.metric.endswith("loss"):
            groups[m.metric, m.split].append(tag)
    kept = dict(found)
    for group in groups.values():
        wholes = [tag for tag in group if _dataset(found[tag]) == ALL]
        parts = [tag for tag in group if _dataset(found[tag]) != ALL]
        for whole in wholes if len(parts) > 1 else ():
            steps, value = points[whole]
            if len(steps) < _FEW_POINTS or any(not np.array_equal(points[tag][0], steps) for tag in parts):
                continue
            if np.allclose(np.sum([points[tag][1] for tag in parts], axis=0), value, rtol=_OF_A_SUM):
                kept |= {tag: Refused(f"a part of {whole.name}, to which it adds up with others") for tag in parts}
    return kept


def lone_words(found: Mapping[Tag, Meaning | Refused]) -> list[Tag]:
    """The one loss that words stand before, beside others of all data, if they sound like no dataset."""
    losses = {tag: m.dataset for tag, m in found.items() if isinstance(m, Meaning) and m.metric == "loss"}
    named = {name for name in losses.values() if name != ALL}
    tags = [tag for tag, name in losses.items() if name != ALL and tag.dataset is None]
    return tags if len(named) == 1 and ALL in losses.values() and of_data([*named]) <= 0 else []


def _dataset(meaning: Meaning | Refused) -> str:
    return meaning.dataset if isinstance(meaning, Meaning) else ""


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


# What only an optimizer has; the same words after a loss speak about that.
_OF_OPTIMIZER = re.compile(r"(.*[/._ ])?(lr|learning[ _-]?rate|grad(ient)?[ _]?norm)([/_-].*)?", re.IGNORECASE)


def beside_an_optimizer(found: Mapping[Tag, Meaning | Refused], points: _Points) -> list[Tag]:
    """Series over all data that no name calls trained or evaluated, with a learning rate at each of their steps."""
    rates = [points[tag][0] for tag in found if _OF_OPTIMIZER.fullmatch(tag.name)]
    if any(isinstance(m, Meaning) and m.split != "unknown" for m in found.values()):
        return []
    return [
        tag
        for tag, m in found.items()
        if isinstance(m, Meaning) and m.dataset == ALL and len(points[tag][0]) > 1
        and any(np.isin(points[tag][0], steps).all() for steps in rates)
    ]  # fmt: skip


def told_apart(
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
