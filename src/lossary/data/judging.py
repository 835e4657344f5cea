"""Whether a dataset has a usable row, and every field that its study names: asked before anything is made of any.

judge("wiki", dataset, files, where="study.toml: $.datasets.wiki")
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from lossary.data.fields import absent, unknown_field
from lossary.data.parsing import Reading, parse
from lossary.data.source_files import SourceFile
from lossary.data.sources import read_blocks, reading_of
from lossary.errors import SourceError
from lossary.study import Dataset

__all__ = ["judge", "way_out"]


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
    if hint is None and any("JSON" in one for one in reasons) and {file.kind for file in files} == {"jsonl"}:
        hint = "Each line of JSON Lines is an object, { … }; one list of objects is a file .json."
    hint = hint or way_out(reasons)
    seen = _seen(reasons) or "it is empty"
    return SourceError(f"dataset {name!r} has no usable row: {seen}", where=_named(files), hint=hint)


def way_out(reasons: Mapping[str, int]) -> str | None:
    """What to do where most rows are bad for a reason that has a usual cause."""
    if max(reasons, key=lambda one: reasons[one], default=None) == "not UTF-8":
        return "Save it as UTF-8: of Latin-1, for one, by `iconv -f LATIN1 -t UTF-8`."
    return None


def _seen(reasons: Counter[str]) -> str:
    return "; ".join(
        f"{count:,} {'row' if count == 1 else 'rows'} {reason}" for reason, count in sorted(reasons.items())
    )


def _named(files: Sequence[SourceFile]) -> str:
    return ", ".join(file.path for file in files[:3]) + (" …" if len(files) > 3 else "")
