"""Whether a dataset has a usable row, and every field that its study names: asked before anything is made of any.

judge("wiki", dataset, files, where="study.toml: $.datasets.wiki")
"""

from collections import Counter
from collections.abc import Sequence

from lossary.data.fields import absent, unknown_field
from lossary.data.parsing import Reading, parse
from lossary.data.source_files import SourceFile
from lossary.data.sources import read_blocks, reading_of
from lossary.errors import SourceError
from lossary.study import Dataset

__all__ = ["judge"]


def judge(name: str, dataset: Dataset, files: Sequence[SourceFile], *, where: str) -> None:
    """Raises SourceError unless a row is usable, and each field that a row may lack is in some row.

    A field that no row has is a slip of the pen: a condition on it would silently pass nothing, or everything.
    """
    reading = reading_of(dataset)
    missing = set(reading.optional)
    reasons: Counter[str] = Counter()
    known: dict[str, None] = {}
    usable, filtered = False, 0
    # Without its limit: what a dataset has does not depend on how much of it is taken.
    for block in read_blocks(dataset.model_copy(update={"limit": None}), list(files)):
        for part in parse(block):
            missing -= part.has
            usable = usable or bool(part.rows)
            if usable and not missing:
                return
            filtered += len(part.filtered)
            reasons.update(bad.reason for bad in part.bad)
            known |= part.known
    if missing and known:
        raise _no_field(reading, missing, known, files)
    if not usable and filtered:
        raise _passes_none(reasons, filtered, files, where)
    if not usable:
        raise _no_usable_row(name, reading, reasons, known, files)


def _no_field(reading: Reading, missing: set[str], known: dict[str, None], files: Sequence[SourceFile]) -> SourceError:
    field = next(field for field in reading.optional if field in missing)
    return unknown_field(field, known, _named(files), key="text" if field in reading.fields else "where")


def _passes_none(reasons: Counter[str], filtered: int, files: Sequence[SourceFile], where: str) -> SourceError:
    more = f"; {_seen(reasons)}" if reasons else ""
    return SourceError(
        f"the condition passes none of {filtered:,} rows{more}",
        where=f"{where}.where",
        hint=f"Rows of {_named(files)}.",
    )


def _no_usable_row(
    name: str, reading: Reading, reasons: Counter[str], known: dict[str, None], files: Sequence[SourceFile]
) -> SourceError:
    hint = next((unknown_field(one, known, "").hint for one in reading.fields if absent(one) in reasons), None)
    seen = _seen(reasons) or "it is empty"
    return SourceError(f"dataset {name!r} has no usable row: {seen}", where=_named(files), hint=hint)


def _seen(reasons: Counter[str]) -> str:
    return "; ".join(f"{count:,} rows {reason}" for reason, count in sorted(reasons.items()))


def _named(files: Sequence[SourceFile]) -> str:
    return ", ".join(file.path for file in files[:3]) + (" …" if len(files) > 3 else "")
