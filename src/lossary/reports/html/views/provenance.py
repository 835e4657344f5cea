"""Provenance: how the numbers were defined, what they were made from, and what to beware of."""

import platform
from dataclasses import dataclass

from lossary.data.shards import MANIFEST
from lossary.files import read_json
from lossary.folder import StudyFolder
from lossary.reports.text import plain
from lossary.tables.load import OpenTable
from lossary.version import __version__

__all__ = ["ProvenanceView", "dataset_digest", "provenance_rows", "provenance_view"]


_MOST_NOTES = 200


@dataclass(frozen=True, kw_only=True)
class ProvenanceView:
    """Names and values, and the warnings of the table."""

    rows: list[tuple[str, str]]
    notes: list[str]
    more_notes: int


def provenance_view(opened: OpenTable) -> ProvenanceView:
    """The section of an opened table."""
    return ProvenanceView(
        rows=[(plain(what), plain(value)) for what, value in provenance_rows(opened)],
        notes=[plain(note) for note in opened.table.notes[:_MOST_NOTES]],
        more_notes=max(0, len(opened.table.notes) - _MOST_NOTES),
    )


def provenance_rows(opened: OpenTable) -> list[tuple[str, str]]:
    """What and value, as they are; whoever shows them escapes."""
    table, study, folder = opened
    return [
        ("signature", table.signature),
        ("validation set", table.validation_digest or "—"),
        ("tokenizer", table.tokenizer_digest or "—"),
        *((f"weights of {run.name}", run.weights_digest or "—") for run in table.runs if study is not None),
        *((f"dataset {name}", dataset_digest(folder, name)) for name in (study.datasets if study is not None else ())),
        ("made by", f"lossary {__version__}, Python {platform.python_version()}"),
    ]


def dataset_digest(folder: StudyFolder, name: str) -> str:
    """Digest and rows of a prepared dataset."""
    manifest = read_json(folder.dataset(name) / MANIFEST)
    text = f"{manifest['digest']}, {manifest['rows']:,} rows"
    if manifest.get("filtered_rows"):
        text += f", {manifest['filtered_rows']:,} more left out by its condition"
    return text + (f", {manifest['bad_rows']:,} bad rows left out" if manifest["bad_rows"] else "")
