"""Evaluations that stopped early, in a terminal: how a run differs from its base, and after how many examples."""

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape

from lossary.reports.grids import titled_grid
from lossary.reports.text import TOTAL, metric_title, plain
from lossary.tables.model import SequentialAnswer

__all__ = ["by_run", "rule_text", "print_sequential", "sequential_text"]

_RULES = {
    "obrien-fleming": "looks at window ends, error spent as O'Brien and Fleming do",
    "anytime": "asymptotic confidence sequence, valid at any look",
}


def print_sequential(answers: Sequence[SequentialAnswer], console: Console) -> None:
    """A block a run, then what its intervals are."""
    for rows in by_run(answers):
        first = rows[0]
        asked = "does it differ?" if first.margin is None else f"equal within {first.margin:g}?"
        total = rows[-1]
        ended = "decided early" if total.examples < total.available else "after all examples"
        title = f"{first.run}@{first.step:,} − {first.base}@{first.base_step:,}, {ended}: {asked}"
        headings = ("dataset", metric_title(first.metric), "interval at the stop", "examples", "answer")
        grid = titled_grid(title, headings, right=("examples",))
        for row in rows:
            value = "—" if row.value is None else f"{row.value:+.4f}"
            interval = "—" if row.low is None or row.high is None else f"[{row.low:+.4f}, {row.high:+.4f}]"
            scored = f"{row.examples:,} of {row.available:,}"
            cells = (TOTAL if row.dataset is None else row.dataset, value, interval, scored, sequential_text(row))
            grid.add_row(*(escape(plain(cell)) for cell in cells))
        console.print()
        console.print(grid)
        console.print(rule_text(first), style="dim", soft_wrap=True)


def by_run(answers: Sequence[SequentialAnswer]) -> list[list[SequentialAnswer]]:
    """Answers of one run each; its total is the last."""
    runs = dict.fromkeys(answer.run for answer in answers)
    return [[answer for answer in answers if answer.run == run] for run in runs]


def rule_text(answer: SequentialAnswer) -> str:
    """What its intervals are, and of what."""
    rule, sure = _RULES.get(answer.rule, answer.rule), f"{1 - answer.level:.0%}"
    return (
        f"{rule}; all intervals hold at once at {sure}, wherever it stopped; they are of the texts that the frozen "
        "examples were drawn from, not of the frozen examples alone"
    )


def sequential_text(row: SequentialAnswer) -> str:
    """The answer in words."""
    if row.reason:
        return f"not compared: {row.reason}"
    if row.answer == "equal":
        return f"equal within {row.margin:g}"
    if row.answer == "differs":
        side = "higher" if (row.value or 0.0) > 0 else "lower"
        return side if row.margin is None else f"{side} by more than {row.margin:g}"
    if row.dataset is None and row.examples < row.available:
        return "not decided: its datasets were clear before"
    return "no difference shown" if row.margin is None else "cannot say yet"
