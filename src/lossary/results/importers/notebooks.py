"""Notebooks: what their cells printed and showed, each output read as a file of its own; nothing of them is run."""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from lossary.errors import SourceError
from lossary.results.importers.folders import one_of_all
from lossary.results.importers.model import Imported, Unread
from lossary.results.importers.unread import unread_of

__all__ = ["is_notebook", "read_notebook"]


def is_notebook(value: object) -> bool:
    """Whether a JSON value is a Jupyter notebook of version 4."""
    return isinstance(value, dict) and isinstance(value.get("cells"), list) and "nbformat" in value


def read_notebook(path: Path, value: dict[str, Any], read: Callable[[Path], Imported]) -> Imported:
    """The numbers of all outputs by `read`, which reads a file; runs that two cells tell differently are kept apart."""
    parts = []
    unread = Unread()
    with tempfile.TemporaryDirectory(prefix="lossary-notebook-") as name:
        for cell, text in _outputs(value):
            file = Path(name) / f"cell {cell}" / f"{path.stem}.txt"
            file.parent.mkdir(exist_ok=True)
            file.write_text(text, encoding="utf-8")
            try:
                found = read(file)
            except SourceError:
                unread = unread.joined(unread_of(enumerate(text.split("\n"), 1)).behind(f"cell {cell}"))
                continue
            if found.numbers or found.curves:
                parts.append(_placed(found, f"cell {cell}"))
        whole = one_of_all(parts, Path(name))
    if not parts:
        raise SourceError("a notebook none of whose outputs has a loss in a table or a log", where=str(path))
    return replace(whole, path=str(path), kind="notebook", unread=whole.unread.joined(unread))


def _placed(found: Imported, cell: str) -> Imported:
    return replace(
        found,
        numbers=[replace(number, place=f"{cell}, {number.place}") for number in found.numbers],
        curves=[replace(curve, place=f"{cell}, {curve.place}") for curve in found.curves],
        unread=found.unread.behind(cell),
    )


def _outputs(value: dict[str, Any]) -> Iterator[tuple[int, str]]:
    """The text of each output with the number of its cell: what a stream printed, else HTML before plain text."""
    for number, cell in enumerate(value["cells"], 1):
        if not isinstance(cell, dict) or not isinstance(cell.get("outputs"), list):
            continue
        printed = ""
        for output in cell["outputs"]:
            if not isinstance(output, dict):
                continue
            if output.get("output_type") == "stream":
                printed += _text(output.get("text"))
                continue
            data = output.get("data")
            if isinstance(data, dict) and (shown := _text(data.get("text/html")) or _text(data.get("text/plain"))):
                yield number, shown
        if printed:
            yield number, printed


def _text(value: object) -> str:
    if isinstance(value, list):
        return "".join(part for part in value if isinstance(part, str))
    return value if isinstance(value, str) else ""
