"""A study file for texts alone: nothing is trained by it, checkpoints from anywhere are scored.

text = new_study_file("my-study", {"wiki": "wiki/*.txt", "code": {"source": "code.jsonl", "text": "content"}}, folder)
"""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomlkit

from lossary.errors import UsageError
from lossary.study import Dataset, Study
from lossary.study_file import parse_study

__all__ = ["Source", "new_study_file", "write_new_study"]

# A path, pattern or URL, several of them, or the keys of a dataset in a study file.
Source = str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Mapping[str, Any]

_NOT_A_FILE = re.compile(r"^(builtin:|[a-z][a-z0-9+.-]*://)")
# Nothing is trained on the texts, so that nearly all of them may be looked at.
_MAX_FRACTION = 0.95


def new_study_file(
    name: str, datasets: Mapping[str, Source], folder: Path, *, examples: int = 2000, sequence_length: int = 128
) -> str:
    """The text of a study file without runs. Paths are of the current folder; in the file, they are of `folder`.

    `examples` are those of the validation set in all, as many of each dataset. StudyError where a key is wrong.
    """
    document = tomlkit.document()
    document.add(tomlkit.comment("Texts that checkpoints are scored on: `lossary evaluate --checkpoint FOLDER`."))
    document.add("name", tomlkit.item(name))
    tables = tomlkit.table(is_super_table=True)
    for dataset, source in datasets.items():
        tables.add(dataset, tomlkit.item(_keys(dataset, source, folder)))
    document.add("datasets", tables)
    shares = tomlkit.inline_table()
    shares.update(dict.fromkeys(datasets, 1))
    validation = {"examples": examples, "max_fraction": _MAX_FRACTION}
    document.add("validation", tomlkit.item(validation))
    document["validation"].add("shares", shares)
    document.add("recipe", tomlkit.item({"sequence_length": sequence_length}))
    text = tomlkit.dumps(document)
    parse_study(text)
    return text


def _keys(name: str, source: Source, folder: Path) -> dict[str, Any]:
    if not isinstance(source, Mapping):
        return {"source": _placed(source, folder)}
    unknown = [key for key in source if key not in Dataset.model_fields]
    if unknown or "source" not in source:
        what = f"{unknown[0]!r} is no key of a dataset" if unknown else "it has no source"
        raise UsageError(what, where=f"datasets[{name!r}]", hint=f"Keys: {', '.join(Dataset.model_fields)}.")
    return {**source, "source": _placed(source["source"], folder)}


def _placed(source: Any, folder: Path) -> str | list[str]:
    if isinstance(source, (str, os.PathLike)):
        return _path(os.fspath(source), folder)
    return [_path(os.fspath(each), folder) for each in source]


def _path(source: str, folder: Path) -> str:
    """A path as it reads from the study's folder; what lies elsewhere is absolute."""
    if _NOT_A_FILE.match(source) or source.startswith("~"):
        return source
    root, path = os.path.abspath(folder), os.path.abspath(source)
    return os.path.relpath(path, root) if os.path.commonpath([root, path]) == root else path


def write_new_study(folder: Path, text: str) -> Study:
    """Writes `study.toml`. UsageError if another one is there; the same one stays as it is."""
    from lossary.files import write_atomic

    path = folder / "study.toml"
    if path.is_file():
        if path.read_text(encoding="utf-8") != text:
            raise UsageError(
                "there is another study file already",
                where=str(path),
                hint="Open it with open_study, change it by hand, or name a new folder.",
            )
    else:
        folder.mkdir(parents=True, exist_ok=True)
        with write_atomic(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return parse_study(text)
