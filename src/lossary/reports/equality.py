"""Decisions about equality in a terminal, as JUnit XML for CI servers, and as GitHub annotations."""

from collections.abc import Callable, Sequence
from typing import Any
from xml.etree import ElementTree

from rich.console import Console
from rich.markup import escape

from lossary.reports.findings import github_escape
from lossary.reports.grids import titled_grid
from lossary.reports.text import ESTIMAND, TOTAL, metric_title, plain, short_count
from lossary.tables.equality import Decision, Margins

__all__ = ["EQUALITY_FORMATS", "all_equal", "answer_text", "decision_place", "print_decisions", "verdict_sentence"]

_STYLES = {"equal": "green", "differs": "bold red", "undecided": "bold yellow", None: "dim"}


def all_equal(decisions: Sequence[Decision]) -> bool:
    """Whether every decision is that both are equal; False if there is none."""
    return bool(decisions) and all(found.answer == "equal" for found in decisions)


def decision_place(found: Decision) -> str:
    """What a decision is about: a metric on a dataset, or in total."""
    return f"{metric_title(found.metric)} · {TOTAL if found.dataset is None else plain(found.dataset)}"


def answer_text(found: Decision) -> str:
    """The answer in words, with the examples that an open one takes."""
    if found.answer is None:
        return f"not compared: {found.reason}"
    if found.answer == "equal":
        return f"equal within {found.margin:g}"
    if found.answer == "differs":
        return f"differs by more than {found.margin:g}"
    if found.dataset is None:
        return "cannot say yet"
    if found.examples_needed is None:
        return "cannot say: at the edge of the margin"
    return f"cannot say yet: about {short_count(found.examples_needed)} examples would"


def verdict_sentence(decisions: Sequence[Decision], first: str, second: str) -> str:
    """One sentence for all decisions."""
    counts = {
        answer: sum(found.answer == answer for found in decisions) for answer in ("equal", "differs", "undecided")
    }
    where = f"{plain(second)} and {plain(first)}"
    compared = sum(counts.values())
    missing = len(decisions) - compared
    more = f"; {missing} could not be compared" if missing else ""
    if counts["differs"]:
        return f"{where} differ by more than the margin in {counts['differs']} of {compared} comparisons{more}."
    if counts["undecided"]:
        return f"{where}: cannot say yet in {counts['undecided']} of {compared} comparisons, equal in the others{more}."
    if not compared:
        return f"{where} could not be compared."
    return f"{where} are equal within the margin in all {compared} comparisons{more}."


def _difference(found: Decision) -> str:
    if found.value is None:
        return "—"
    if found.low is None or found.high is None:
        return f"{found.value:+.4f}"
    return f"{found.value:+.4f}  [{found.low:+.4f}, {found.high:+.4f}]"


def _name(margins: Margins) -> str:
    parts = [f"{metric_title(metric) if metric else 'losses'} {margin:g}" for metric, margin in margins.items()]
    return ", ".join(parts)


def print_decisions(decisions: Sequence[Decision], names: tuple[str, str], margins: Margins, console: Console) -> None:
    """A line a decision, then the sentence for all."""
    first, second = names
    title = f"{second} − {first}: equal within {_name(margins)}?"
    grid = titled_grid(title, ("", "", "difference, 95 %", "n", "answer (Holm over all)"), right=("n",))
    for found in decisions:
        metric, _, place = decision_place(found).partition(" · ")
        style = _STYLES[found.answer]
        answer = f"[{style}]{escape(answer_text(found))}[/]"
        grid.add_row(escape(metric), escape(place), escape(_difference(found)), short_count(found.n), answer)
    console.print()
    console.print(grid)
    console.print(escape(verdict_sentence(decisions, first, second)), style="bold", soft_wrap=True)
    console.print(escape(ESTIMAND), soft_wrap=True)


def _junit(decisions: Sequence[Decision], first: str, second: str) -> str:
    """A test case a decision: "differs" and "cannot say yet" fail, what could not be compared is skipped."""
    failed = [found for found in decisions if found.answer in ("differs", "undecided")]
    skipped = [found for found in decisions if found.answer is None]
    suite: dict[str, Any] = {
        "name": f"{plain(second)} equals {plain(first)}",
        "tests": str(len(decisions)),
        "failures": str(len(failed)),
        "skipped": str(len(skipped)),
        "errors": "0",
    }
    root = ElementTree.Element("testsuite", suite)
    for found in decisions:
        case = ElementTree.SubElement(root, "testcase", name=decision_place(found), classname=suite["name"])
        message = f"{answer_text(found)}; difference {_difference(found)}, n {found.n:,}"
        if found in failed:
            ElementTree.SubElement(case, "failure", message=message, type=str(found.answer)).text = message
        elif found in skipped:
            ElementTree.SubElement(case, "skipped", message=plain(message))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _github(decisions: Sequence[Decision], first: str, second: str) -> str:
    levels = {"differs": "error", "undecided": "warning"}
    lines = []
    for found in decisions:
        if found.answer in levels:
            title = github_escape(decision_place(found), property_=True)
            message = github_escape(f"{plain(second)} − {plain(first)} {_difference(found)}: {answer_text(found)}")
            lines.append(f"::{levels[found.answer]} title={title}::{message}\n")
    return "".join(lines) + github_escape(verdict_sentence(decisions, first, second)) + "\n"


EQUALITY_FORMATS: dict[str, Callable[[Sequence[Decision], str, str], str]] = {"junit": _junit, "github": _github}
