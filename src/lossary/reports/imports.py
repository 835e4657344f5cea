"""How an import was understood: a table of its names, what was left out and why, what is to be noted, and counts."""

from collections import Counter
from collections.abc import Sequence

from lossary.reports.text import plain
from lossary.results.importers.model import Imported, Mapped

__all__ = ["import_text"]

_MOST_LINES = 40
_WIDEST = 44
_HEADS = ("name in the file", "run", "dataset", "metric", "axis", "points")


def import_text(found: Imported) -> str:
    """Lines for a terminal."""
    kept = [mapped for mapped in found.mapping if mapped.reason is None]
    left = [mapped for mapped in found.mapping if mapped.reason is not None]
    lines = [f"{plain(found.path)}: {found.kind}"]
    roles = [f"{plain(mapped.source)[:_WIDEST]} = {plain(mapped.meaning)}" for mapped in kept if not mapped.metric]
    if roles:
        lines.append(f"  columns: {', '.join(dict.fromkeys(roles))}")
    lines += _table([mapped for mapped in kept if mapped.metric])
    by_reason: dict[str, list[str]] = {}
    for mapped in left:
        by_reason.setdefault(mapped.reason or "", []).append(plain(mapped.source)[:60] or "(no name)")
    for reason, sources in by_reason.items():
        names = list(dict.fromkeys(sources))
        more = f" and {len(names) - 8} more" if len(names) > 8 else ""
        lines.append(f"  left out, {plain(reason)}: {', '.join(names[:8])}{more}")
    unsaid = list(dict.fromkeys(plain(mapped.source) for mapped in kept if mapped.meaning.startswith("unknown ")))
    if unsaid:
        lines.append(f"  note: nothing says whether these are of training or evaluation: {', '.join(unsaid[:8])}")
    lines += [f"  note: {plain(note)}" for note in found.notes]
    lines.append(f"  read: {_counts(found, left)}")
    return "\n".join(lines) + "\n"


def _table(kept: Sequence[Mapped]) -> list[str]:
    rows = [
        [
            plain(m.source),
            plain(m.run) or "—",
            plain(m.dataset) or "rows",
            m.metric,
            m.axis or "—",
            str(m.points or "—"),
        ]
        for m in kept
    ]
    if not rows:
        return []
    shown = [list(_HEADS), *rows[:_MOST_LINES]]
    cut = [[text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "…" for text in row] for row in shown]
    widths = [max(len(row[at]) for row in cut) for at in range(len(_HEADS))]
    lines = [
        "  " + "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in cut
    ]
    if len(rows) > _MOST_LINES:
        lines.append(f"  … and {len(rows) - _MOST_LINES} more")
    return lines


def _counts(found: Imported, left: Sequence[Mapped]) -> str:
    datasets = {dataset.name for dataset in found.datasets}
    datasets |= {curve.dataset for curve in found.curves} | {n.dataset for n in found.numbers if n.dataset}
    datasets |= {scores.dataset for scores in found.examples}
    counts = Counter(
        {
            "runs": len(found.runs),
            "datasets": len(datasets),
            "numbers": len(found.numbers),
            "curves": len(found.curves),
            "scores of examples": sum(len(scores.example) for scores in found.examples),
        }
    )
    conflicts = sum(mapped.conflict for mapped in found.mapping)
    read = ", ".join(f"{count} {what if count != 1 else what.rstrip('s')}" for what, count in counts.items())
    unread = f"{found.unread.total:,} {'line' if found.unread.total == 1 else 'lines'}"
    return f"{read}; left out with reasons {len(left)} names; not read {unread}; in conflict {conflicts}"
