"""How numbers and names are written, the same in every view."""

import math
from collections.abc import Sequence
from urllib.parse import urlsplit

from lossary.study import Study
from lossary.tables.model import WEIGHTINGS, Cell, Delta, Metric, RunColumn, Table, Total, Weighting, measure_of

__all__ = [
    "ESTIMAND",
    "TOTAL",
    "WEIGHTING_TITLES",
    "aligned",
    "delta_text",
    "half_width",
    "metric_title",
    "number",
    "percent",
    "plain",
    "safe_link",
    "short_count",
    "short_names",
    "shown",
    "step_mark",
    "total_mark",
    "total_counts",
    "trained_on",
    "weightings",
]

# What charts and lists call the number over all datasets that differences are of.
TOTAL = "total by validation share"
# What decisions speak of: an interval of exactly these examples would have no width.
ESTIMAND = "This is of the text that the validation examples are drawn from, not of these examples alone."
WEIGHTING_TITLES: dict[Weighting, str] = {
    "validation_share": "by validation share",
    "train_share": "by train share",
    "macro": "macro",
    "reported": "as reported",
}

_HALF_A_DIGIT = 0.0005


def metric_title(metric: Metric) -> str:
    """How a metric is called: MLM loss, train loss."""
    return measure_of(metric).title


def number(value: float | None, metric: Metric) -> str:
    """A value: losses with three decimals, accuracies as a fraction without its zero; `—` if there is none."""
    if value is None or not math.isfinite(value):
        return "—"
    text = f"{value:.3f}"
    return text.removeprefix("0") if metric.endswith("accuracy") and value < 0.9995 else text


def half_width(cell: Cell | Total) -> str:
    """Half the width of a 95 % interval, as `±.011`; empty if there is none."""
    if cell.low is None or cell.high is None:
        return ""
    half = (cell.high - cell.low) / 2
    return f"±{half:.3f}".replace("±0.", "±.")


def total_mark(total: Total) -> str:
    """`†` on a total that leaves a dataset out."""
    return "†" if total.value is not None and total.reason else ""


def percent(share: float | None) -> str:
    """A share in per cent with one decimal; `—` where it is not known."""
    return "—" if share is None else f"{100 * share:.1f}"


def shown(cell: Cell | Total, *, imported: bool = False) -> str:
    """The number of a cell or total: as its page prints it if it was imported, and computed ones in its style."""
    if cell.reported is not None:
        return plain(cell.reported)
    if imported and cell.value is not None and cell.metric.endswith("accuracy"):
        return f"{100 * cell.value:.1f}"
    return number(cell.value, cell.metric)


def step_mark(cell: Cell | Total) -> str:
    """`@3,000` on a number whose neighbours are of other steps."""
    return f"@{cell.step:,}" if isinstance(cell, Cell) and cell.has_own_step and cell.step is not None else ""


def weightings(table: Table) -> list[Weighting]:
    """The weightings that give a total anywhere; what a page reported comes first."""
    having = {total.weighting for total in table.totals if total.value is not None}
    return [weighting for weighting in ("reported", *WEIGHTINGS) if weighting in having]


def delta_text(delta: Delta | None, *, width: int = 7) -> str:
    """A difference with its mark: ● differs after Holm, ○ not shown to differ, = too small for the digits shown."""
    if delta is None or delta.value is None:
        return ""
    if abs(delta.value) < _HALF_A_DIGIT:
        # Two frameworks that agree to rounding differ "significantly": the same examples, the same tiny shift.
        return f"{'.000':>{width}} ="
    text = f"{delta.value:+.3f}".replace("+0.", "+.").replace("-0.", "-.")
    mark = {True: "●", False: "○", None: " "}[delta.differs]
    return f"{text:>{width}} {mark}"


def total_counts(table: Table) -> list[str]:
    """Training rows, train share and validation share of all datasets together; `—` if one of them is not known."""
    rows = [row.train_rows for row in table.datasets]
    shares = ([row.train_share for row in table.datasets], [row.validation_share for row in table.datasets])
    return [
        "—" if None in rows else short_count(sum(row or 0 for row in rows)),
        *("—" if None in of_all else percent(sum(share or 0.0 for share in of_all)) for of_all in shares),
    ]


def short_count(count: int | None) -> str:
    """A count with separators of thousands."""
    return "—" if count is None else f"{count:,}"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines; the first column to the left, numbers to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def plain(name: str) -> str:
    """A name without what could move a cursor or turn the direction of text: such characters become `·`."""
    return "".join(character if character.isprintable() else "·" for character in name)


def short_names(names: Sequence[str], longest: int) -> dict[str, str]:
    """Names of more than `longest` characters by what stands for them where room is short, no two alike.

    Both ends are kept: many names differ at their last only.
    """
    found: dict[str, str] = {}
    taken = {name for name in names if len(name) <= longest}
    for name in (name for name in dict.fromkeys(names) if len(name) > longest):
        marks = ("", *(f" ({number})" for number in range(2, len(names) + 2)))
        texts = (_both_ends(name, longest - len(mark)) + mark for mark in marks)
        found[name] = next(text for text in texts if text not in taken)
        taken.add(found[name])
    return found


def _both_ends(name: str, longest: int) -> str:
    half = (longest - 1) // 2
    return f"{name[: longest - 1 - half].rstrip()}…{name[-half:].lstrip()}"


def safe_link(link: str | None) -> str | None:
    """A link if it is one that a page may hold (http, https, or relative), else None."""
    if not link or any(ord(character) <= 0x20 for character in link):
        return None
    try:
        parts = urlsplit(link)
    except ValueError:
        return None
    return link if parts.scheme in ("http", "https") or (not parts.scheme and not parts.netloc) else None


def trained_on(run: RunColumn, study: Study | None) -> str | None:
    """The datasets that a run was trained on, held against those that its study has now; None if nobody knows them."""
    if run.datasets is None:
        return None
    if study is None:
        return plain(", ".join(run.datasets))
    shared = [name for name in study.datasets if name in run.datasets]
    lacking = [name for name in study.datasets if name not in run.datasets]
    removed = [name for name in run.datasets if name not in study.datasets]
    text = ", ".join(shared)
    if len(lacking) < len(shared):
        text = f"all but {', '.join(lacking)}" if lacking else "all"
    if removed:
        text = f"{text}, and also {', '.join(removed)} (removed)" if text else f"{', '.join(removed)} (removed)"
    return plain(text)
