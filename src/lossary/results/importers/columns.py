"""Columns of a table: the role or the metric of each, from its header, its cells and the table's title."""

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

from lossary.results.importers.dates import are_dates
from lossary.results.importers.grids import Grid, is_missing, is_of_others, is_total, plain, read_cell, unlink
from lossary.results.importers.maps import Entry, Maps
from lossary.results.importers.meanings import base_metric
from lossary.results.importers.model import Role, Split
from lossary.results.importers.names import Name, of_data, quantities_in, read_name, role, split_word
from lossary.results.importers.series import OF_ONE_RUN, names_of_runs
from lossary.results.importers.titles import SETTING, STRONG, said_by_title, title_splits

__all__ = [
    "DEVIATION",
    "Column",
    "by_title",
    "column_of",
    "columns_of",
    "is_metric",
    "named_by_title",
    "row_axis",
    "run_name",
    "sections_of",
    "unsaid",
]

DEVIATION = "a deviation, which is no loss"


class Column(NamedTuple):
    """A column of a grid: a role, or a metric with its name, or neither."""

    at: int
    header: str
    role: Role | None
    name: Name | None
    metric: str
    split: Split
    owner: Entry | None
    is_text: bool


# `loss ± std` is a loss.
_BEHIND_A_SIGN = re.compile(r"\s*[(\[]?\s*(±|\+/-).*$")


def columns_of(grid: Grid, maps: Maps) -> list[Column]:
    """What each column is, by the map, its header and its cells."""
    headers = [plain(cell) for cell in grid.rows[0]]
    names = [read_name(_BEHIND_A_SIGN.sub("", header) or header) for header in headers]
    has_pairs = any(name.objective in ("sop", "nsp") for name in names)
    of_runs = names_of_runs(grid)
    is_of_mlflow = {"source type", "source name"} <= {header.lower() for header in headers}
    is_tidy = {"metric", "value"} <= set(map(role, headers))
    columns = []
    for at, (header, name) in enumerate(zip(headers, names, strict=True)):
        cells = [unlink(row[at])[0] for row in grid.rows[1:]]
        known = [cell for cell in cells if not is_missing(cell)]
        is_text = sum(read_cell(cell).number is None for cell in known) * 2 > len(known) or not known
        entry = maps.get(header)
        kind = entry.role if entry is not None and entry.role else role(header)
        if entry is not None and entry.metric:
            columns.append(Column(at, header, None, name, entry.metric, entry.split, entry, False))
            continue
        if (
            kind in ("train_rows", "train_share", "validation_share", "step", "epoch", "tokens", "value")
            and is_text
            and not entry
        ):
            kind = None
        if kind == "tokens" and not entry and not is_tidy:
            # How much a dataset has, or a run was trained on: a table of points has them as its axis.
            kind = None
        if of_runs is not None and kind == "run" and not entry:
            kind = None
        if is_of_mlflow and header.lower() == "source name" and not entry:
            # The script that was run.
            kind = None
        if kind is None and at == of_runs:
            kind = "run"
        metric = ""
        if not header and cells in ([str(index + start) for index in range(len(cells))] for start in (0, 1)):
            kind = "ignore"
        if kind is None and (not is_text or not known) and is_metric(header, name):
            metric = base_metric(name, has_pairs=has_pairs)
        columns.append(Column(at, header, kind, name, metric, name.split or "unknown", None, is_text))
    columns = _without_lone_words(_with_values(_without_sizes(columns, grid, maps), grid))
    return _with_splits(_without_best(_in_one_unit(_with_one_key_each(columns, grid, maps))), grid.title)


def _without_sizes(columns: list[Column], grid: Grid, maps: Maps) -> list[Column]:
    """The columns with tokens as no axis where each dataset, or run, has its own number of them on all of its rows."""
    key = next((c.at for kind in ("dataset", "run") for c in columns if c.role == kind), None)
    at = next((c.at for c in columns if c.role == "tokens" and maps.get(c.header) is None), None)
    if key is None or at is None:
        return columns
    pairs = {(row[key], row[at]) for row in grid.rows[1:] if row[key] and row[at]}
    is_size = len({name for name, _ in pairs}) == len(pairs) and len({count for _, count in pairs}) > 1
    return [c._replace(role=None) if is_size and c.at == at else c for c in columns]


def _with_values(columns: list[Column], grid: Grid) -> list[Column]:
    """The columns with the only one of numbers as values, where another names a metric on every row: `Claimed`."""
    said = next((c.at for c in columns if c.role == "metric"), None)
    if said is None or any(c.role == "value" or c.metric for c in columns):
        return columns
    open_ones = [c.at for c in columns if c.role is None and not c.is_text]
    if len(open_ones) != 1 or not all(read_name(plain(row[said])).quantity for row in grid.rows[1:]):
        return columns
    return [c._replace(role="value") if c.at in open_ones else c for c in columns]


def _without_lone_words(columns: list[Column]) -> list[Column]:
    """The columns without `packet_loss` beside `val_loss`: one word before one of several losses names no run.

    Where rows are runs it may name a dataset, as in `wiki_loss`, or a part of the loss, as in `vocab_loss`.
    """
    has_datasets = any(c.role == "dataset" for c in columns)
    losses = [c for c in columns if c.metric == "loss" and c.name is not None and not c.name.statistic]
    named = [c for c in losses if c.name is not None and c.name.rest]
    if len(named) != 1 or len(losses) < 2 or named[0].owner is not None:
        return columns
    sound = of_data([named[0].header])
    if sound < 0 if has_datasets else sound > 0 or is_total(named[0].name.rest if named[0].name else ""):
        return columns
    return [c._replace(metric="") if c is named[0] else c for c in columns]


def _without_best(columns: list[Column]) -> list[Column]:
    """The columns without a best value beside the plain one; a step is that of the best."""
    plain_ones = {(c.metric, c.split, c.name.rest) for c in columns if c.metric and c.name and not c.name.statistic}
    beside = [
        c.at
        for c in columns
        if c.metric and c.name and c.owner is None and c.name.statistic in ("best", "min", "max")
        and (c.metric, c.split, c.name.rest) in plain_ones
    ]  # fmt: skip
    return [
        c._replace(metric="")
        if c.at in beside
        else c._replace(role=None)
        if beside and c.role in ("step", "epoch")
        else c
        for c in columns
    ]


def _finer(columns: list[Column], grid: Grid) -> int | None:
    """Of several columns of datasets the one that is part of another: a domain of a source, a subset of a corpus."""
    several = [c.at for c in columns if c.role == "dataset"]
    for at in several[1:]:
        pairs = {(row[several[0]], row[at]) for row in grid.rows[1:]}
        fine = {name for _, name in pairs}
        if all(fine) and len(fine) == len(pairs) > len({name for name, _ in pairs}):
            return at
    return None


def _are_all_apart(grid: Grid, at: int) -> bool:
    texts = [row[at].strip() for row in grid.rows[1:]]
    return all(texts) and len(set(texts)) == len(texts)


def _with_one_key_each(columns: list[Column], grid: Grid, maps: Maps) -> list[Column]:
    """One column names the datasets and one the runs: of `Model` and `Method` the first, or that of a map."""
    kept: dict[str, int] = {}
    finer = None if any(maps.get(c.header) for c in columns if c.role == "dataset") else _finer(columns, grid)
    names = {c.at for c in columns if re.search(r"(?<![^\W_])name$", c.header, re.IGNORECASE)}
    of_hash = {c.at for c in columns if re.search(r"(?<![^\W_])(hash|id)$", c.header, re.IGNORECASE)}
    for column in columns:
        is_named = kept.get(column.role or "") in of_hash and column.at in names and _are_all_apart(grid, column.at)
        if column.role in ("dataset", "run") and (
            column.role not in kept or is_named or column.at == finer or maps.get(column.header) is not None
        ):
            kept[column.role] = column.at
    return [c._replace(role=None) if c.role in kept and kept[c.role] != c.at else c for c in columns]


def _in_one_unit(columns: list[Column]) -> list[Column]:
    """The columns without losses in bits that stand in nats beside them."""
    in_nats = {(c.metric, c.name._replace(is_in_bits=False)) for c in columns if c.name and not c.name.is_in_bits}
    return [
        c._replace(metric="")
        if c.name and c.name.is_in_bits and (c.metric, c.name._replace(is_in_bits=False)) in in_nats
        else c
        for c in columns
    ]


def is_metric(header: str, name: Name) -> bool:
    """Whether a header names a loss, an accuracy or another metric."""
    if name.about:
        return False
    if name.quantity is not None:
        return True
    # `xxl_mlm` and `tf_mlm_val` are losses by custom; `SOP performance` is something else.
    last = re.split(r"[\s_/.\-()]+", header.strip(" )").lower())[-1]
    return name.objective in STRONG and (last in STRONG or split_word(last) is not None)


def _with_splits(columns: list[Column], title: str) -> list[Column]:
    """Splits that the title says, where no header does; `loss` beside `val loss` is of training."""
    marked = {(c.metric, c.name.rest if c.name else "") for c in columns if c.metric and c.split == "eval"}
    trained = {(c.metric, c.name.rest if c.name else "") for c in columns if c.metric and c.split == "train"}
    of_title = title_splits(title)
    found = []
    for column in columns:
        key = (column.metric, column.name.rest if column.name else "")
        if column.metric and column.split == "unknown" and column.owner is None:
            if key in marked and key not in trained:
                column = column._replace(split="train")
            elif not marked and not trained and len(of_title) == 1:
                column = column._replace(split=next(iter(of_title)))
        found.append(column)
    return found


def sections_of(grid: Grid) -> list[Grid]:
    """The table cut at rows of which only the first cell has a text, if that says what was measured: `MLM loss`."""
    cuts = [
        at
        for at, row in enumerate(grid.rows)
        if at and len(row) > 1 and row[0] and not any(row[1:]) and _is_section(plain(row[0]).rstrip(": "))
    ]
    # Below each stands something; a metric without numbers among others with them is no section.
    others = [plain(row[0]) for at, row in enumerate(grid.rows) if at and at not in cuts]
    if (
        not cuts
        or (len(cuts) == 1 and cuts[0] > 1)
        or any(stop - start < 2 for start, stop in pairwise([*cuts, len(grid.rows)]))
        or any(is_metric(name, read_name(name)) for name in others)
    ):
        return [grid]
    whole = title_splits(grid.title)
    parts = [replace(grid, rows=grid.rows[: cuts[0]], lines=grid.lines[: cuts[0]])] if cuts[0] > 1 else []
    for start, stop in pairwise([*cuts, len(grid.rows)]):
        title = plain(grid.rows[start][0]).rstrip(": ")
        if len(whole) == 1 and read_name(title).split is None:
            title += f" on {'validation' if 'eval' in whole else next(iter(whole))}"
        rows = [grid.rows[0], *grid.rows[start + 1 : stop]]
        lines = [*grid.lines[:1], *grid.lines[start + 1 : stop]]
        parts.append(Grid(title=title, rows=rows, first_line=grid.line(start), lines=lines))
    return parts


def _is_section(text: str) -> bool:
    name = read_name(text)
    return not name.rest and (is_metric(text, name) or split_word(text) is not None)


def by_title(grid: Grid, columns: list[Column]) -> list[Column]:
    """Columns of numbers without a metric in their headers, where the title names it: `Validation loss by domain`."""
    said = said_by_title(grid.title)
    if said is None:
        return columns
    quantity, objective, split = said.quantity, said.objective, said.split or "unknown"
    unit = _UNIT.search(grid.title)
    metric = base_metric(Name(None, objective, quantity, "", unit[1].lower() if unit else "", ""), has_pairs=False)
    first_key = next((c.at for c in columns if c.role in ("dataset", "run")), 0)
    measured = [c for c in columns if _is_of_title(c) and c.at != first_key]
    # `wiki val`, `wiki test`, `books val` have a split each; `dev_to` among others is a dataset.
    with_splits = all((name := read_name(c.header)).split and name.rest for c in measured)
    found = {}
    for c in measured:
        name = read_name(c.header) if with_splits else Name(split_word(c.header), None, None, "", "", c.header)
        rest = "" if split_word(c.header) else name.rest
        full = Name(name.split or split, objective, quantity, "", "", rest)
        found[c.at] = c._replace(metric=metric, split=name.split or split, name=full)
    return [found.get(c.at, c) for c in columns]


_UNIT = re.compile(r"\b(word|byte|char|character)[\s-]+(?:level[\s-]+)?(?:perplexity|perplexities|ppl)", re.IGNORECASE)


# A column of deviations beside the one that they are of.
_SPREAD = re.compile(
    r"±|\+/-|std\.?( ?dev)?|sd|se|sem|std\.? ?err(or)?|stderr|err(or)?|(95 ?% ?)?ci|conf\w* int\w*|var", re.IGNORECASE
)


def _is_of_title(column: Column) -> bool:
    """Whether a column is of numbers, and what they measure stands in the title if anywhere."""
    if _SPREAD.fullmatch(column.header) or is_of_others(column.header):
        return False
    is_open = not column.metric or (column.owner is None and column.name is not None and column.name.quantity is None)
    return (
        is_open and column.role is None and not column.is_text and column.header != ""
        and not SETTING.fullmatch(column.header)
    )  # fmt: skip


def named_by_title(grid: Grid, columns: Sequence[Column]) -> bool:
    """Whether the title says what was measured: no header does, or `BERT-clm` only seems to, below `Perplexity`."""
    metrics = [c for c in columns if c.metric and c.owner is None]
    others = [c for c in columns if _is_of_title(c)]
    quantities = quantities_in(grid.title)
    return not metrics or (quantities not in ({"loss"}, set()) and all(c in others for c in metrics))


def row_axis(grid: Grid, columns: list[Column], notes: list[str]) -> list[Column] | None:
    """The columns with the one that names rows, if a header does not say which; None if nothing does."""
    said = any(c.role in ("dataset", "run", "split") for c in columns)
    if not any(c.metric and c.name is not None and c.name.split for c in columns):
        columns = [c._replace(role="split") if _holds_splits(c, grid) else c for c in columns]
    if said:
        return columns
    free = [c for c in columns if c.role is None and not c.metric]
    dated = [c for c in free if c.is_text and are_dates(grid, c.at)]
    text = [c for c in free if c.is_text and c not in dated]
    if dated and not text and len(grid.rows) > 2:
        return None
    chosen = text[0] if text else None
    if chosen is None and free and free[0].at == 0 and len(grid.rows) > 1:
        # A column of numbers in front names rows only where it has no header of its own.
        return None if free[0].header else columns
    if chosen is None:
        is_named = any(c.role in ("step", "epoch", "metric", "split") for c in columns)
        return columns if len(grid.rows) == 2 or is_named else None
    values = [plain(row[chosen.at]) for row in grid.rows[1:]]
    of_runs = OF_ONE_RUN.fullmatch(chosen.header) is not None
    kind: Role = "run" if of_runs else "dataset"
    if kind == "dataset":
        notes.append(unsaid(values, "datasets", "run", chosen.header))
    return [c._replace(role=kind) if c.at == chosen.at else c for c in columns]


def _holds_splits(column: Column, grid: Grid) -> bool:
    """Whether a column that no header explains names a split in every row."""
    if column.role is not None or column.metric or not column.is_text:
        return False
    values = [value for row in grid.rows[1:] if (value := plain(row[column.at]))]
    return bool(values) and all(split_word(value) is not None for value in values)


def unsaid(names: Sequence[str], taken_for: str, other: Role, header: str = "") -> str:
    """The note that a table leaves datasets or runs open."""
    shown = ", ".join(repr(name) for name in names[:3])
    said = f"--map '{header}={other}' says {other}s"
    return f"nothing says whether {shown} are datasets or runs; read as {taken_for}: {said}"


def column_of(columns: Sequence[Column], kind: Role) -> int | None:
    """Where the column of a role is; None if there is none."""
    return next((c.at for c in columns if c.role == kind), None)


def run_name(rest: str) -> str:
    """A run as a header spells it."""
    return " ".join(rest.split()).strip("_")
