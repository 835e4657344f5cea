"""Bytes that files of scores count for their targets, held against the frozen text: bits a byte rest on them.

    byte_counts(table, folder)     # one for each run, objective and dataset whose files count bytes

Hidden words have as many bytes in every vocabulary, less those of words that it loses, which a file counts; next tokens
have at most those of the text. Files that lossary wrote have the right ones; somebody else's may have them in another
order, or count characters.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lossary.data.frozen_texts import read_texts, texts_folder
from lossary.data.manifests import MANIFEST
from lossary.data.parts import EXAMPLES, known_part, part_blocks
from lossary.folder import StudyFolder
from lossary.objectives import OBJECTIVES
from lossary.results.parquet import ask_arrow, file_name
from lossary.results.scorefile import ScoreFile
from lossary.tables.model import Table

__all__ = ["ByteCounts", "byte_counts"]


class ByteCounts(NamedTuple):
    """How many examples of a dataset have bytes, and those that are not of its text: the first, with both counts."""

    run: str
    dataset: str
    objective: str
    examples: int
    more: int  # examples with more bytes than the text has
    fewer: int  # examples with fewer, beyond those that the vocabulary loses
    first: tuple[int, int, int] | None = None  # example, bytes in the file, bytes of the text


class _Sizes(NamedTuple):
    """Of the examples (B,) of a dataset, by number: bytes of all text, and of hidden words."""

    example: NDArray[np.uint64]
    text: NDArray[np.int64]
    hidden: NDArray[np.int64]


def byte_counts(table: Table, folder: StudyFolder) -> list[ByteCounts]:
    """Of the scores that a table shows, on datasets whose text is kept; files that count no bytes are left out."""
    files = [ScoreFile(folder.scores(run.name, run.step)) for run in table.runs if run.step is not None]
    found = []
    for row in table.datasets:
        # Scores outlive the texts where somebody made room.
        if not (texts_folder(folder, row.name) / MANIFEST).is_file():
            continue
        sizes: _Sizes | None = None
        for file in files:
            if file.header.part(row.name) != row.validation_digest:
                continue
            for objective in (name for name in file.objectives if OBJECTIVES[name].is_of_tokens):
                example, counted = _counted(file, objective, row.name)
                sizes = sizes or _sizes(folder, row.name)
                if len(example) and sizes is not None:
                    found.append(_compared(file, objective, row.name, (example, counted), sizes))
    return found


def _counted(file: ScoreFile, objective: str, dataset: str) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Examples with bytes, and how many; without those that the file does not know them of."""
    query = f"SELECT example, bytes FROM {file.relation(objective)} WHERE dataset = $dataset AND bytes IS NOT NULL"
    found = ask_arrow(query, {"path": file_name(file.path), "dataset": file.names.drawn_as(dataset)})
    return found["example"].to_numpy(), found["bytes"].to_numpy().astype(np.int64)


def _sizes(folder: StudyFolder, dataset: str) -> _Sizes | None:
    if (texts := read_texts(folder, dataset)) is None:
        return None
    examples = part_blocks(folder, known_part(folder, dataset), EXAMPLES)
    parts = [
        _Sizes(examples.read(number)["example"], np.diff(block.offsets), block.target_bytes.astype(np.int64))
        for number, block in enumerate(texts)
    ]
    example, text, hidden = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    order = np.argsort(example)
    return _Sizes(example[order], text[order], hidden[order])


def _compared(
    file: ScoreFile,
    objective: str,
    dataset: str,
    counts: tuple[NDArray[np.uint64], NDArray[np.int64]],
    sizes: _Sizes,
) -> ByteCounts:
    example, counted = counts
    at = np.minimum(np.searchsorted(sizes.example, example), len(sizes.example) - 1)
    is_hidden = OBJECTIVES[objective].is_masked
    expected = np.where(sizes.example[at] == example, (sizes.hidden if is_hidden else sizes.text)[at], 0)
    more, fewer = counted > expected, (counted < expected) & is_hidden
    lost = sum(file.header.left_out.get(dataset, {}).values())
    beyond = max(0, int(fewer.sum()) - lost)
    odd = np.flatnonzero(more | fewer if beyond else more)
    first = (int(example[odd[0]]), int(counted[odd[0]]), int(expected[odd[0]])) if len(odd) else None
    return ByteCounts(file.header.run, dataset, objective, len(example), int(more.sum()), beyond, first)
