"""A diagnosis as text, JSON and Markdown: causes first, each with what speaks for it and the experiment."""

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid

from lossary.diagnosis.fit import Candidate
from lossary.diagnosis.model import Diagnosis, Gap, Outcome, cause_sentence
from lossary.errors import DataError
from lossary.files import digest_bytes, read_json, write_atomic, write_json
from lossary.folder import StudyFolder
from lossary.reports.markdown import escape_markdown
from lossary.reports.text import plain

__all__ = [
    "FORMATS",
    "SCHEMA",
    "diagnosis_markdown",
    "diagnosis_text",
    "diagnosis_value",
    "headline",
    "read_diagnosis_markdown",
    "ruled_out",
    "write_diagnosis",
]

SCHEMA = 2  # of the JSON
_DIGEST = "markdown_digest"

_MOST_TRIED = 3
_MARKS = {"confirmed": "bold red", "stage only": "bold yellow", "ruled out": "green", "not compared": "dim"}


def headline(found: Diagnosis) -> str:
    """What was found, or that nothing was, and of what nothing is said since it was not compared."""
    unseen = f" Not compared: {', '.join(found.left_out)}." if found.left_out else ""
    return _found(found) + unseen


def _found(found: Diagnosis) -> str:
    if found.causes:
        named = "; ".join(f"{cause.side}: {cause_sentence(cause.says, cause.ties)}" for cause in found.causes)
        more = " More remains that is not explained." if found.open else ""
        return f"{named}.{more}"
    if found.open:
        where = ", ".join(dict.fromkeys(f"{outcome.side} in {outcome.stage}" for outcome in found.open))
        return f"Something differs, and no known cause reproduces it: {where}."
    compared = len(found.of("ruled out"))
    if not compared:
        return "Nothing was compared by the checks."
    return f"No difference beyond noise in {compared} comparison{'s' if compared > 1 else ''}."


def _times(value: float) -> str:
    return "beyond all measure" if value == float("inf") else f"{value:,.2g} ×" if value < 100 else f"{value:,.0f} ×"


def _replay(found: Diagnosis, outcome: Outcome) -> str:
    return f"{found.command} --check {shlex.quote(outcome.check)}"


def _tried_text(candidate: Candidate) -> str:
    return f"{'+'.join(candidate.names)} leaves {_times(candidate.residual)}"


def _lines(found: Diagnosis, outcome: Outcome) -> list[tuple[str, str]]:
    """Label and text: for, experiment, against, replay."""
    lines = [("for", outcome.measured)]
    if outcome.causes:
        cause = outcome.causes[0]
        lines.append(
            (
                "experiment",
                f"the fault put into the reference: {_times(cause.before)} the tolerance becomes {_times(cause.after)}",
            )
        )
    others = [c for c in outcome.tried if not outcome.causes or c.names != tuple(x.name for x in outcome.causes)]
    if others:
        shown = "; ".join(_tried_text(c) for c in others[:_MOST_TRIED])
        more = f" ({len(others)} others tried)" if len(others) > _MOST_TRIED else ""
        lines.append(("against" if outcome.causes else "tried", shown + more))
    if outcome.remains:
        lines.append(("remains", outcome.remains))
    if outcome.how:
        lines.append(("tolerance", outcome.how))
    lines.append(("replay", _replay(found, outcome)))
    return lines


def diagnosis_text(found: Diagnosis, *, style: str = "full", width: int = 100, colour: bool = False) -> str:
    """Text for a terminal: causes, what is open, what is ruled out, what cannot be seen, what the gap rests on."""
    console = Console(
        file=StringIO(),
        width=width,
        highlight=False,
        force_terminal=colour,
        color_system="standard" if colour else None,
    )
    console.print(f"[bold]{escape(plain(' against '.join(found.sides)))}[/] · {escape(plain(found.study))}")
    console.print(escape(plain(headline(found))) + "\n")
    for verdict in ("confirmed", "stage only"):
        for outcome in found.of(verdict):
            _print_outcome(found, outcome, console, detailed=style == "full")
    _print_rest(found, console)
    for gap in found.gaps:
        _print_gap(gap, console)
    console.print(
        f"{len(found.causes)} confirmed, {len(found.of('stage only'))} stage only, "
        f"{len(found.of('ruled out'))} ruled out, {len(found.of('not compared'))} not compared · "
        f"{found.cost_s:.0f} s of CPU",
        style="bold",
    )
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def _print_outcome(found: Diagnosis, outcome: Outcome, console: Console, *, detailed: bool) -> None:
    style = _MARKS[outcome.verdict]
    for cause in outcome.causes:
        text = escape(plain(f"{cause.side} · {cause.stage}: {cause_sentence(cause.says, cause.ties)}"))
        names = " or ".join((cause.name, *cause.ties))
        console.print(f"[{style}]confirmed[/]{escape(f'[{names}]')} {text}")
    if not outcome.causes:
        console.print(f"[{style}]{outcome.verdict}[/] {escape(plain(f'{outcome.side} · {outcome.stage}'))}")
    if detailed:
        grid = Grid.grid(padding=(0, 1))
        grid.add_column(style="dim", min_width=12)
        grid.add_column(overflow="fold")
        for label, text in _lines(found, outcome):
            grid.add_row(f"  {label}", escape(plain(text)))
        console.print(grid)
        console.print()


def _print_rest(found: Diagnosis, console: Console) -> None:
    for side in dict.fromkeys(outcome.side for outcome in found.outcomes):
        equal = ruled_out(side, [asdict(o) for o in found.outcomes])
        if equal:
            console.print(f"[green]ruled out[/] {escape(plain(side))}: {escape(plain(', '.join(equal)))}")
    reasons: dict[tuple[str, str], list[str]] = {}
    for outcome in found.of("not compared"):
        reasons.setdefault((outcome.side, outcome.needs), []).append(outcome.title)
    for (side, needs), checks in reasons.items():
        console.print(
            f"[dim]not compared[/] {escape(plain(side))}: {escape(plain(', '.join(checks)))}: {escape(plain(needs))}"
        )


def ruled_out(side: str, outcomes: Sequence[Mapping[str, Any]]) -> list[str]:
    """The checks in which a side is equal, each with the parts of it that were not compared."""
    mine = [outcome for outcome in outcomes if outcome["side"] == side]
    parts: dict[str, list[str]] = {}
    for outcome in mine:
        if outcome["part"]:
            parts.setdefault(outcome["check"], []).append(outcome["part"])
    equal = dict.fromkeys(outcome["check"] for outcome in mine if outcome["verdict"] == "ruled out")
    return [f"{name} (but for {', '.join(parts[name])})" if name in parts else name for name in equal]


def _print_gap(gap: Gap, console: Console) -> None:
    console.print(f"\n[bold]{escape(plain(gap.title))}[/]")
    for text in gap.text:
        console.print(escape(plain(text)))
    if gap.rows:
        grid = Grid(box=None, pad_edge=False, header_style="dim")
        for name in gap.rows[0]:
            grid.add_column(escape(plain(name)), justify="left" if isinstance(gap.rows[0][name], str) else "right")
        for row in gap.rows:
            grid.add_row(*(escape(plain(_cell(value))) for value in row.values()))
        console.print(grid)


def _cell(value: Any) -> str:
    if value is None:
        return "—"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def diagnosis_value(found: Diagnosis) -> dict[str, Any]:
    """The diagnosis as JSON: schema 2."""
    outcomes = [{**asdict(outcome), "replay": _replay(found, outcome)} for outcome in found.outcomes]
    value = {
        "schema": SCHEMA,
        "study": found.study,
        "sides": list(found.sides),
        "headline": headline(found),
        "causes": [asdict(cause) for cause in found.causes],
        "outcomes": outcomes,
        "gaps": [asdict(gap) for gap in found.gaps],
        "command": found.command,
        "cost_s": found.cost_s,
    }
    cleaned: dict[str, Any] = _finite(value)
    return cleaned


def _finite(value: Any) -> Any:
    """Numbers that JSON has; an infinite distance is said as text, and so is what is no number."""
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return str(value)
    return value


def diagnosis_markdown(found: Diagnosis) -> str:
    """A section of a report."""
    lines = [
        f"## Diagnosis: {escape_markdown(' against '.join(found.sides))}",
        "",
        escape_markdown(headline(found)),
        "",
    ]
    for outcome in (*found.of("confirmed"), *found.of("stage only")):
        titles = [
            f"**{escape_markdown(cause_sentence(cause.says, cause.ties))}** (`{cause.name}`)"
            for cause in outcome.causes
        ]
        title = "; ".join(titles) or f"**differs in {outcome.stage}**, cause not known"
        lines += [f"- {escape_markdown(outcome.side)}, {outcome.stage}: {title}"]
        lines += [f"  - {label}: {_quoted(label, text)}" for label, text in _lines(found, outcome)]
    lines += ["", "| side | check | verdict | measured |", "|---|---|---|---|"]
    for outcome in found.outcomes:
        cells = [outcome.side, outcome.title, outcome.verdict, outcome.needs or outcome.measured]
        lines.append("| " + " | ".join(escape_markdown(cell) for cell in cells) + " |")
    for gap in found.gaps:
        lines += ["", f"### {escape_markdown(gap.title)}", "", *(escape_markdown(text) + "  " for text in gap.text)]
        if gap.rows:
            lines += ["", "| " + " | ".join(escape_markdown(str(name)) for name in gap.rows[0]) + " |"]
            lines += ["|---" * len(gap.rows[0]) + "|"]
            lines += ["| " + " | ".join(escape_markdown(_cell(v)) for v in row.values()) + " |" for row in gap.rows]
    return "\n".join(lines) + "\n"


def _quoted(label: str, text: str) -> str:
    return f"`{text}`" if label == "replay" and "`" not in text else escape_markdown(text)


def _json(found: Diagnosis) -> str:
    return json.dumps(diagnosis_value(found), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


FORMATS: dict[str, Callable[[Diagnosis], str]] = {
    "full": diagnosis_text,
    "concise": lambda found: diagnosis_text(found, style="concise"),
    "json": _json,
    "markdown": diagnosis_markdown,
}


def write_diagnosis(found: Diagnosis, folder: StudyFolder) -> Path:
    """Writes `diagnosis/<first>-<second>.json` and `.md`; returns the path of the JSON, which has a digest of the
    other."""
    path = folder.diagnosis / f"{'-'.join(found.sides)}.json"
    text = diagnosis_markdown(found).encode()
    with write_atomic(path.with_suffix(".md")) as temporary:
        temporary.write_bytes(text)
    write_json(path, diagnosis_value(found) | {_DIGEST: digest_bytes(text)})
    return path


def read_diagnosis_markdown(path: Path) -> str:
    """What `write_diagnosis` wrote for report.md. DataError if it is not what was written."""
    try:
        data = path.read_bytes()
        beside = path.with_suffix(".json")
        value = read_json(beside) if beside.is_file() else {}
        digest = value.get(_DIGEST) if isinstance(value, dict) else None
        if digest is None or digest == digest_bytes(data):
            return data.decode()
        why = f"not what {beside.name} beside it was written with"
    except (OSError, UnicodeDecodeError) as error:
        why = f"not readable: {error}"
    raise DataError(why, where=str(path), hint="Delete both, and run `lossary diagnose`.")
