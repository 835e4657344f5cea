"""Logs that say a step and its losses on one line: llm.c, nanoGPT, torchtitan, Keras, the Trainer's dicts, one's own.

A line is a row of `logrows.py`. A field is claimed for training or evaluation only where its name, the words of its
line, or what stands beside it (a learning rate, a norm of gradients) says so.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from lossary.results.importers.collect import Collector
from lossary.results.importers.lines import log_lines
from lossary.results.importers.logline import Field, Row, State
from lossary.results.importers.logrows import is_measured, is_plain_loss, rows_of
from lossary.results.importers.maps import Maps
from lossary.results.importers.model import Axis, Imported, Split, Tag
from lossary.results.importers.names import read_name
from lossary.results.importers.trainer import entry_tag

__all__ = ["read_line_log"]

_ESTIMATE = "an estimate on the training set, beside the losses of batches"


def read_line_log(path: Path, maps: Maps) -> Imported:
    """The points of a log of lines."""
    state = State()
    rows = list(rows_of(((line.number, line.text) for line in log_lines(path)), state))
    found = Collector(path, "transformers log" if any(row.is_entry for row in rows) else "log of lines", maps)
    found.lines |= state.told.union(row.line for row in rows)
    for name, number in state.unsaid.items():
        found.tell(
            "names beside losses, with numbers of which no line says what they are, are left out",
            f"{name} (line {number})",
        )
    if state.evaluated_after:
        found.note(f"{state.evaluated_after} lines after the last epoch evaluate a set that they do not name; left out")
    _place_entries([row for row in rows if row.is_entry and row.step is None], state, found)
    _count_on(rows, found)
    _count_fractions(rows, found)
    _leave_out_counts(rows, found)
    _apart_by_beginnings(rows, found)
    of_ranks = _of_ranks(rows)
    has_batches = any(row.split == "train" and any(is_plain_loss(item.name) for item in row.fields) for row in rows)
    for row, item, suffix in _told_apart(rows):
        axis: Axis = "epoch" if row.step is None else "step"
        at = int(row.epoch or 0) if row.step is None else row.step
        tag = _tag(path.stem if row.part == 0 else f"{path.stem} ({row.part + 1})", row, item, suffix, axis)
        if item.refused or (item.name, row.split, row.dataset) in of_ranks:
            tag = tag._replace(refused=item.refused or of_ranks[item.name, row.split, row.dataset])
        if has_batches and not row.is_entry and _is_estimate(row, item):
            tag = tag._replace(refused=_ESTIMATE)
        found.add(tag, at, item.value, f"line {row.line}")
    return found.finish()


def _tag(run: str, row: Row, item: Field, suffix: str, axis: Axis) -> Tag:
    is_summary = any(other.name == "train_runtime" for other in row.fields)
    if row.is_entry or is_summary:
        return entry_tag(run, item.name, is_summary=is_summary)._replace(axis=axis)
    split = row.split if read_name(item.name).split is None else None
    shown = " ".join(part for part in (split or "", row.dataset or "", suffix) if part)
    return Tag(run, f"{item.name} ({shown})" if shown else item.name, item.name, split, row.dataset, axis)


def _is_estimate(row: Row, item: Field) -> bool:
    """Whether a loss of training stands beside one of evaluation on its line, as nanoGPT estimates both."""
    splits = {read_name(other.name).split for other in row.fields if is_measured(other.name)}
    return read_name(item.name).split == "train" and "eval" in splits


def _place_entries(rows: Sequence[Row], state: State, found: Collector) -> None:
    """Steps of the Trainer's dicts, which say only an epoch: those of its progress bar, if they go with the epochs."""
    most = max((total for _, total in state.bars), default=0)
    bars = [(at, done) for at, (done, total) in enumerate(state.bars) if total == most]
    steps = [bars[max(0, bisect_left(bars, (row.bars,)) - 1)][1] if bars else 0 for row in rows]
    pairs = [(step, row.epoch or 0.0) for step, row in zip(steps, rows, strict=True)]
    if not bars or not pairs or not pairs[-1][0] or not pairs[-1][1]:
        return
    each = pairs[-1][0] / pairs[-1][1]
    if all(abs(step - epoch * each) <= 0.006 * each + 1 for step, epoch in pairs):
        for row, step in zip(rows, steps, strict=True):
            row.step = step
        found.note("steps are those of the progress bar beside each entry")


def _count_on(rows: Sequence[Row], found: Collector) -> None:
    """Steps that start anew each epoch go on where the last one ended, where a line says how many an epoch has."""
    both = [row for row in rows if row.step is not None and row.epoch is not None]
    epochs: dict[tuple[str, int], set[float]] = defaultdict(set)
    for row in both:
        epochs[f"{row.split} {row.dataset} {[item.name for item in row.fields]}", row.step or 0].add(row.epoch or 0.0)
    if not any(len(seen) > 1 for seen in epochs.values()):
        return
    first = min(row.epoch or 0.0 for row in both)
    if all(row.total for row in both):
        for row in both:
            row.step = (row.step or 0) + round(((row.epoch or 0.0) - first) * (row.total or 0))
        found.note("steps start anew each epoch; they were counted on")
        return
    for index, row in enumerate(both):
        row.step = index
    found.note(
        "steps start anew each epoch, and no line says how many it has; points are counted in their order instead"
    )


def _count_fractions(rows: Sequence[Row], found: Collector) -> None:
    """Where epochs have fractions that would fall together, points are counted in their order."""
    known = sorted({row.epoch for row in rows if row.step is None and row.epoch is not None})
    if len({int(value) for value in known}) == len(known):
        return
    order = {value: index for index, value in enumerate(known)}
    for row in rows:
        if row.step is None and row.epoch is not None:
            row.epoch = order[row.epoch]
    found.note("epochs have fractions; points are counted in their order instead")


def _leave_out_counts(rows: Sequence[Row], found: Collector) -> None:
    """`acc: 0` on every line is a step of gradient accumulation, not an accuracy."""
    values: dict[str, set[float]] = defaultdict(set)
    for row in rows:
        for item in row.fields:
            if read_name(item.name).quantity == "accuracy":
                values[item.name].add(item.value)
    zero = [name for name, seen in values.items() if seen == {0.0}]
    for row in rows:
        row.fields = [item for item in row.fields if item.name not in zero]
    for name in zero:
        found.note(f"{name} is 0 on every line, which may be no accuracy; left out")


def _of_ranks(rows: Sequence[Row]) -> dict[tuple[str, Split | None, str | None], str]:
    """Why the series of which several processes say each their own values are left out: no line has their mean."""
    first: dict[tuple[str, Split | None, str | None, int | None, float | None], tuple[str, float]] = {}
    found: dict[tuple[str, Split | None, str | None], str] = {}
    for row in rows:
        for item in row.fields if row.rank else ():
            key = (item.name, row.split, row.dataset)
            rank, value = first.setdefault((*key, row.step, row.epoch), (row.rank, item.value))
            if rank != row.rank and value != item.value and is_measured(item.name):
                found.setdefault(
                    key,
                    f"process {rank} says {value:g} and process {row.rank} {item.value:g} (line {row.line}); "
                    "no line has their mean; keep the lines of one process",
                )
    return found


def _apart_by_beginnings(rows: Sequence[Row], found: Collector) -> None:
    """Rows from where the log starts anew at its first step, with other values, are another run's.

    Steps that go back to a later one are of a run that was resumed: there the value written last counts.
    """
    first: dict[tuple[str, Split | None, str | None], tuple[int | float, float, str]] = {}
    last: dict[tuple[str, Split | None, str | None], int | float] = {}
    part = 0
    for row in rows:
        at = row.epoch or 0 if row.step is None else row.step
        for item in row.fields:
            key = (item.name, row.split, row.dataset)
            begun = first.setdefault(key, (at, item.value, row.rank))
            if at == begun[0] < last.get(key, at) and item.value != begun[1] and row.rank == begun[2]:
                part += 1
                first.clear()
                last.clear()
                first[key] = (at, item.value, row.rank)
                found.note(f"steps start anew on line {row.line}, with other values: another run from there")
            last[key] = at
        row.part = part


def _told_apart(rows: Sequence[Row]) -> Iterator[tuple[Row, Field, str]]:
    """Each field with what tells it from another of its name, step and split on a line of other words."""
    groups: dict[tuple[str, Split | None, str | None], list[tuple[Row, Field]]] = defaultdict(list)
    for row in rows:
        for item in row.fields:
            groups[item.name, row.split, row.dataset].append((row, item))
    for group in groups.values():
        seen: dict[tuple[int | None, float | None], tuple[str, float]] = {}
        differ = False
        for row, item in group:
            words, value = seen.setdefault((row.step, row.epoch), (row.words, item.value))
            differ |= words != row.words and value != item.value
        for row, item in group:
            yield row, item, row.words if differ else ""
