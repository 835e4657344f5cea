"""How an import was understood: the mapping of its names, what was left out, what is to be noted."""

from lossary.reports.text import plain
from lossary.results.importers.model import Imported

__all__ = ["import_text"]

_MOST_LINES = 40


def import_text(found: Imported) -> str:
    """Lines for a terminal."""
    kept = [mapped for mapped in found.mapping if mapped.reason is None]
    left = [mapped for mapped in found.mapping if mapped.reason is not None]
    counts = f"{len(found.datasets)} datasets, {len(found.numbers)} numbers, {len(found.curves)} curves"
    lines = [f"{plain(found.path)}: {found.kind}; {counts}"]
    lines += [f"  {plain(mapped.source)[:60]:<32} → {plain(mapped.meaning)}" for mapped in kept[:_MOST_LINES]]
    if len(kept) > _MOST_LINES:
        lines.append(f"  … and {len(kept) - _MOST_LINES} more")
    if left:
        names = ", ".join(plain(mapped.source)[:60] or "(no name)" for mapped in left[:10])
        more = f" and {len(left) - 10} more" if len(left) > 10 else ""
        lines.append(f"  left out: {names}{more}")
    lines += [f"  note: {plain(note)}" for note in found.notes]
    return "\n".join(lines) + "\n"
