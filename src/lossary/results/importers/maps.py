"""What a user says of names, by their exact spelling: on the command line, or in a TOML file that an import wrote.

--map 'Korpus=dataset' --map 'Ergebnis=baseline:mlm_loss' --map 'Notiz=ignore' --map read.toml
"""

import json
import re
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from lossary.errors import UsageError
from lossary.results.importers.model import Imported, Mapped, Role, Split

__all__ = ["Entry", "Key", "Maps", "map_text", "parse_maps"]

_ROLES: tuple[Role, ...] = (
    "dataset", "run", "split", "step", "epoch", "tokens", "metric", "value",
    "train_rows", "train_share", "validation_share", "ignore",
)  # fmt: skip
_METRIC = re.compile(r"(?:(train|test|eval)_)?((?:[a-z0-9]+_)*(?:loss|accuracy|perplexity|bits_per_byte))")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What one name means: a role, or a number's owner and metric.

    The owner is the run of a column whose rows are datasets, and the dataset of a series; a file says which.
    """

    role: Role | None = None
    owner: str = ""
    run: str = ""
    dataset: str = ""
    metric: str = ""
    split: Split = "unknown"


class Key(NamedTuple):
    """A name, and the file (or the run of a store) that an entry holds for; "" is any."""

    name: str
    file: str = ""


@dataclass(frozen=True, kw_only=True)
class Maps:
    """Entries by name and file, where each was written, and which were needed; `path` is what is being read."""

    entries: dict[Key, Entry] = field(default_factory=dict)
    where: dict[Key, str] = field(default_factory=dict)
    used: set[Key] = field(default_factory=set)
    met: set[str] = field(default_factory=set)
    path: Path = Path()

    def at(self, path: Path) -> "Maps":
        """The same entries while a file is read."""
        self.met.update(key.file for key in self.entries if key.file and _ends_with(path, key.file))
        return replace(self, path=path)

    def get(self, name: str, run: str = "") -> Entry | None:
        """The entry of a name, one for this file or run before one for all; it counts as used."""
        for key in self.entries:
            if key.name == name and key.file and (key.file == run or _ends_with(self.path, key.file)):
                self.used.add(key)
                return self.entries[key]
        key = Key(name)
        if key in self.entries:
            self.used.add(key)
        return self.entries.get(key)

    def check_all_used(self) -> None:
        """UsageError if a name stands in no file that was read, or not in its own."""
        unused = [key for key in self.entries if key not in self.used]
        if not unused:
            return
        first = unused[0]
        if not first.file:
            found = f"no file has the name {first.name!r}"
        elif first.file in self.met:
            found = f"{first.file!r} has no name {first.name!r}"
        else:
            found = f"no file or run that was read is {first.file!r}, or it has no name {first.name!r}"
        raise UsageError(
            found + (f" (nor {len(unused) - 1} more)" if unused[1:] else ""),
            where=self.where[first],
            hint="`--dry-run` without the map shows the names that are there.",
        )


def _ends_with(path: Path, file: str) -> bool:
    parts = Path(file).parts
    return path.parts[-len(parts) :] == parts or path.resolve().parts[-len(parts) :] == parts


def parse_maps(items: Sequence[str]) -> Maps:
    """`NAME=ROLE`, `NAME=RUN:METRIC`, `NAME=DATASET:METRIC`, or a file of them; UsageError says what is known."""
    maps = Maps()
    for item in items:
        path = Path(item)
        if item.endswith(".toml"):
            _read_file(path, maps)
            continue
        name, equals, meaning = item.rpartition("=")
        if not equals:
            raise _refused(item, "--map")
        maps.entries[Key(name)] = _entry(meaning, item)
        maps.where[Key(name)] = "--map"
    return maps


def _entry(meaning: str, item: str) -> Entry:
    if meaning in _ROLES:
        return Entry(role=meaning)
    owner, colon, metric = meaning.rpartition(":")
    match = _METRIC.fullmatch(metric)
    if not colon or not owner or match is None:
        raise _refused(item, "--map")
    return Entry(owner=owner, metric=match[2], split=match[1] or "unknown")  # type: ignore[arg-type]


def _refused(item: str, where: str) -> UsageError:
    return UsageError(
        f"not a mapping: {item!r}",
        where=where,
        hint=f"NAME=ROLE with {', '.join(_ROLES)}; NAME=RUN:METRIC or NAME=DATASET:METRIC with a metric such as loss, "
        "mlm_loss, mlm_accuracy, sop_loss, nsp_loss, perplexity, train_loss; or FILE.toml.",
    )


def _read_file(path: Path, maps: Maps) -> None:
    try:
        value = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError("no such file", where=str(path)) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"not a map: {error}", where=str(path)) from None
    # A map of comments alone is one: every name had several meanings.
    tables = value.get("name") if value or not path.stat().st_size else []
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise UsageError("no [[name]] in it", where=str(path), hint="`lossary import … --save-map FILE` writes one.")
    for index, table in enumerate(tables):
        where = f"{path}, $.name[{index}]"
        unknown = set(table) - {"source", "file", "is", "run", "dataset", "metric"}
        if unknown or not all(isinstance(text, str) for text in table.values()) or "source" not in table:
            raise UsageError(
                f"unknown key {sorted(unknown)[0]!r}" if unknown else "each needs `source`, and texts only",
                where=where,
                hint='Keys: source, file, and is = ROLE or metric = "mlm_loss" with run, dataset.',
            )
        key = Key(table["source"], table.get("file", ""))
        if key in maps.entries and maps.where[key].startswith(str(path)):
            raise UsageError(
                f"{key.name!r} stands there twice",
                where=where,
                hint='`file = "a/log.csv"` says for which file (or run of a store) each is.',
            )
        maps.entries[key] = _of_table(table, where)
        maps.where[key] = where


def _of_table(table: dict[str, str], where: str) -> Entry:
    if "is" in table:
        if table["is"] not in _ROLES:
            raise _refused(table["is"], where)
        return Entry(role=table["is"])
    match = _METRIC.fullmatch(table.get("metric", ""))
    if match is None:
        raise _refused(table.get("metric", ""), where)
    split: Split = match[1] or "unknown"  # type: ignore[assignment]
    return Entry(run=table.get("run", ""), dataset=table.get("dataset", ""), metric=match[2], split=split)


def map_text(found: Iterable[Imported]) -> str:
    """The reading as a TOML file that `--map` takes; names that files or runs mean differently say for which."""
    lines = ["# How names were understood. Edit, and give it back: lossary import … --map FILE"]
    by_name: dict[str, list[Mapped]] = defaultdict(list)
    for imported in found:
        for mapped in imported.mapping:
            by_name[mapped.source].append(mapped)
    for group in by_name.values():
        first = {_meaning_lines(mapped): mapped for mapped in reversed(group)}
        if len(first) == 1:
            lines += ["", *_lines_of(group[0], "")]
            continue
        by_label: dict[str, list[Mapped]] = defaultdict(list)
        for label, mapped in zip(_labels(group), group, strict=True):
            by_label[label].append(mapped)
        for label, alike in by_label.items():
            if len(set(map(_meaning_lines, alike))) > 1:
                # An entry would give all of them one meaning.
                lines += [
                    "",
                    f"# {_comment(alike[0].source)} has several meanings in one file: it needs no entry",
                ]
            else:
                lines += ["", *_lines_of(alike[0], label)]
    return "\n".join(lines) + "\n"


def _meaning_lines(mapped: Mapped) -> tuple[str, ...]:
    return tuple(_lines_of(mapped, ""))


def _labels(group: Sequence[Mapped]) -> list[str]:
    """What tells the places of one name apart: the ends of their files' paths, else their runs."""
    files = {mapped.file for mapped in group}
    if len(files) == 1:
        return [mapped.run for mapped in group]
    length = 1
    while len({Path(file).parts[-length:] for file in files}) < len(files):
        length += 1
    return ["/".join(Path(mapped.file).parts[-length:]) for mapped in group]


def _lines_of(mapped: Mapped, file: str) -> list[str]:
    # A JSON string is a TOML string.
    lines = ["[[name]]", f"source = {json.dumps(mapped.source)}", *([f"file = {json.dumps(file)}"] if file else [])]
    if mapped.reason is not None:
        return [*lines, 'is = "ignore"' + f"  # {_comment(mapped.reason)}"]
    if mapped.metric:
        owner = {"run": mapped.run, "dataset": mapped.dataset}
        return [
            *lines,
            *(f"{key} = {json.dumps(text)}" for key, text in owner.items() if text),
            f"metric = {json.dumps(mapped.metric)}",
        ]
    return [*lines, f"is = {json.dumps(mapped.meaning)}"]


def _comment(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)
