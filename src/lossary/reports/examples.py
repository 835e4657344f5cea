"""The examples that make the gap: in a terminal, as JSON, as Markdown; and the view that pages show.

A masked position is written `[target| first | second]`: what stood there, then what each run predicted, ✓ where that
was right. A hidden word of runs in other pieces than the study's own is written `[word]`.
"""

import json
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lossary.objectives import OBJECTIVES, Objective
from lossary.reports.markdown import escape_markdown
from lossary.reports.text import plain
from lossary.tables.examples import Gap, GapRow, Order, Scores
from lossary.tables.texts import ExampleText, MaskedPiece

__all__ = ["FORMATS", "GapView", "examples_json", "examples_markdown", "examples_text", "headline", "label_text"]

_WIDTH = 100
# As much of a text as a terminal shows; JSON has all of it.
_LONGEST = 700
_WORDS = {"mlm": "masked"}


@dataclass(frozen=True, kw_only=True)
class GapView:
    """One page of a gap with the texts of its examples."""

    gap: Gap
    order: Order
    rows: list[GapRow]
    texts: list[ExampleText]


def headline(view: GapView) -> list[str]:
    """What the gap is, and how much of it the examples shown make."""
    gap = view.gap
    pair = gap.pair
    if gap.delta is None:
        return [f"no example of {pair.dataset} was scored in both {pair.first} and {pair.second}"]
    lines = [
        f"{pair.second} − {pair.first} on {pair.dataset}: {gap.delta:+.3f} {gap.unit}, "
        f"{len(gap):,} examples paired" + (f", {gap.unmatched:,} scores without a partner" if gap.unmatched else ""),
        f"{pair.second} loses on {gap.worse:,} examples and gains on {gap.better:,}",
    ]
    share = gap.share(view.order, len(view.rows)) if view.rows and view.rows[0].rank == 1 else None
    # Of a difference the other way they make no part.
    if share is not None and share > 0:
        lines[-1] += f"; the {len(view.rows)} shown make {100 * share:.0f} % of the difference"
    return lines


def label_text(label: int | None) -> str:
    """What the sentence-order label says."""
    return {None: "no pair", 0: "in order", 1: "swapped"}[label]


def examples_text(view: GapView) -> str:
    """Plain text of a fixed width."""
    lines = [plain(line) for line in headline(view)]
    first, second = view.gap.pair.first, view.gap.pair.second
    lines.append(plain(f"[target| {first} | {second}]   ✓ predicted the target"))
    for row, text in zip(view.rows, view.texts, strict=True):
        lines += ["", plain(_title(row))]
        for segment in text.segments:
            written = "".join(part.text if part.masked is None else _marked(part.text, part.masked) for part in segment)
            written = plain(written.strip())
            if len(written) > _LONGEST:
                written = f"{written[:_LONGEST]} … ({len(written) - _LONGEST:,} characters more)"
            lines += textwrap.wrap(written, _WIDTH, initial_indent="    ", subsequent_indent="    ")
        if text.reason:
            lines.append(f"    — {plain(text.reason)}")
    return "\n".join(lines) + "\n"


def _title(row: GapRow) -> str:
    parts = [f"{row.rank:>4}  {row.delta:+8.3f} nats", f"row {row.document:,}"]
    for objective in (OBJECTIVES[name] for name in row.objectives):
        pair = row.of(objective.name)
        if pair is not None and pair[0].nats is not None and pair[1].nats is not None:
            nats = f"{objective.title} {pair[0].nats:.2f} → {pair[1].nats:.2f}"
            if objective.is_of_tokens:
                counts = dict.fromkeys(str(each.targets) for each in pair)
                parts += [f"{' → '.join(counts)} {_WORDS.get(objective.name, objective.targets)}", nats]
            else:
                parts.append(f"{label_text(row.label)}, {nats}")
    return "  ".join(parts)


def _marked(text: str, masked: MaskedPiece) -> str:
    said = " | ".join(
        "✓" if right else piece or "▁" for right, piece in zip(masked.correct, masked.predicted, strict=True)
    )
    return f"{' ' if text.startswith(' ') else ''}[{masked.target or '▁'}{'| ' if said else ''}{said}]"


def examples_json(view: GapView) -> str:
    """Everything as JSON."""
    value = {**gap_value(view), "examples": [_value(row, text, view.gap.objectives) for row, text in _pairs(view)]}
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def gap_value(view: GapView) -> dict[str, Any]:
    """The gap itself, without its examples."""
    gap = view.gap
    return {
        **asdict(gap.pair),
        "order": view.order,
        "delta_nats": gap.delta,
        "paired": len(gap),
        "unmatched": gap.unmatched,
        "worse": gap.worse,
        "better": gap.better,
        "histogram": None if gap.histogram is None else asdict(gap.histogram),
    }


def _pairs(view: GapView) -> Sequence[tuple[GapRow, ExampleText]]:
    return list(zip(view.rows, view.texts, strict=True))


def _value(row: GapRow, text: ExampleText, names: list[str]) -> dict[str, Any]:
    objectives = [OBJECTIVES[name] for name in names]
    scores = {
        which: {key: value for objective in objectives for key, value in _numbers(objective, of_run).items()}
        for which, of_run in (("first", row.first), ("second", row.second))
    }
    pair = row.by_token
    return {
        "rank": row.rank,
        "example": row.example,
        "row": row.document,
        "tokens": None if pair is None else pair[0].tokens,
        "masked": None if pair is None else pair[0].targets,
        **{f"{objective.name}_label": row.label for objective in objectives if not objective.is_of_tokens},
        "delta_nats": row.delta,
        **scores,
        "text_reason": text.reason,
        "segments": [
            [
                {"text": part.text} if part.masked is None else {"text": part.text, "masked": part.masked._asdict()}
                for part in segment
            ]
            for segment in text.segments
        ],
    }


def _numbers(objective: Objective, scores: Scores) -> dict[str, Any]:
    score = scores.get(objective.name)
    correct = None if score is None else score.correct
    if correct is not None and not objective.is_of_tokens:
        correct = bool(correct)
    return {
        f"{objective.name}_nats": None if score is None else score.nats,
        f"{objective.name}_correct": correct,
    }


def examples_markdown(view: GapView) -> str:
    """A table to paste: one row an example."""
    pair = view.gap.pair
    lines = [escape_markdown(line) + "  " for line in headline(view)]
    first, second = escape_markdown(pair.first), escape_markdown(pair.second)
    lines += ["", f"| Δ nats | row | order | {first} | {second} | text |", "|---:|---:|---|---:|---:|---|"]
    for row, text in _pairs(view):
        nats = [score.nats or 0.0 for score in row.of(pair.measure) or ()]
        cells = [f"{row.delta:+.3f}", f"{row.document:,}", label_text(row.label), *(f"{n:.2f}" for n in nats)]
        lines.append("| " + " | ".join([*cells, _markdown_text(text)]) + " |")
    return "\n".join(lines) + "\n"


def _markdown_text(text: ExampleText) -> str:
    segments = [f"— {escape_markdown(text.reason)}"] if text.reason else []
    for segment in text.segments:
        written = "".join(part.text if part.masked is None else _marked(part.text, part.masked) for part in segment)
        segments.append(escape_markdown(plain(written.strip())[:_LONGEST]))
    return " ⏎ ".join(segments)


FORMATS = {"terminal": examples_text, "json": examples_json, "markdown": examples_markdown}
