"""The study file as a document: changed in place, comments, order and line ends kept.

document = StudyDocument.read(folder.study_file)
document.drop("datasets", "wiki")
study = document.check()        # StudyError: nothing was written
document.write()
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tomlkit
from pydantic import BaseModel, TypeAdapter, ValidationError
from tomlkit.items import AbstractTable, Array

from lossary.errors import DataError, StudyError, UsageError
from lossary.files import write_atomic
from lossary.study import Dataset, Run, Study
from lossary.study_file import check_name, load_study, parse_study

__all__ = ["KINDS", "StudyDocument", "parse_settings", "parse_target"]

KINDS: dict[str, type[BaseModel]] = {"datasets": Dataset, "runs": Run}
_BOM = "\ufeff"


class StudyDocument:
    """A study file that is being changed."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.before = text
        self.has_bom = text.startswith(_BOM)
        plain = text.removeprefix(_BOM)
        self.has_crlf = "\r\n" in plain and plain.count("\r\n") == plain.count("\n")
        self.has_end = plain.endswith("\n")
        self.toml = tomlkit.parse((plain.replace("\r\n", "\n") if self.has_crlf else plain) + "\n" * (not self.has_end))
        self.wanted: dict[str, Any] = tomllib.loads(plain)

    @classmethod
    def read(cls, path: Path) -> "StudyDocument":
        """Opens a study file that is right; StudyError if it is not."""
        load_study(path)
        # A link to a study file stays a link.
        path = path.resolve()
        if not path.stat().st_mode & 0o222:
            raise DataError("the study file is read-only", where=str(path), hint="`chmod u+w` it first.")
        return cls(path, path.read_bytes().decode("utf-8"))

    def put(self, kind: str, name: str, settings: dict[str, Any]) -> None:
        """Adds a table at the end of its kind."""
        table = tomlkit.table()
        for key, value in settings.items():
            table.add(key, _item(value))
        before = tomlkit.dumps(self.toml)
        self._table(kind)[name] = table
        self.wanted[kind][name] = settings
        after = tomlkit.dumps(self.toml)
        place = _piece(after, before)
        if place is not None and after[place.stop :].strip() and after[: place.start].endswith("\n\n"):
            # A blank line stood before what follows, and stands there again.
            self.toml = tomlkit.parse(after[: place.stop] + "\n" + after[place.stop :])

    def drop(self, kind: str, name: str) -> None:
        before = tomlkit.dumps(self.toml)
        del self._table(kind)[name]
        del self.wanted[kind][name]
        after = tomlkit.dumps(self.toml)
        place = _piece(before, after)
        if place is not None and not before[place].endswith("\n\n") and before[: place.start].endswith("\n\n"):
            # The blank line that set it off goes with it.
            self.toml = tomlkit.parse(before[: place.start - 1] + before[place.stop :])

    def put_key(self, kind: str, name: str, key: str, value: str) -> None:
        """Sets a key in the table of a dataset or a run."""
        self._table(kind)[name][key] = value
        self.wanted[kind][name][key] = value

    def drop_key(self, kind: str, name: str, key: str) -> None:
        """Takes a key out of the table of a dataset or a run, if it is there."""
        if key in self.wanted[kind][name]:
            del self._table(kind)[name][key]
            del self.wanted[kind][name][key]

    def rename_key(self, table: tuple[str, ...], old: str, new: str) -> None:
        """Gives a key of a table another name in its place; StudyError if it is written in a way not known here."""
        parent = self.wanted
        for part in table:
            parent = parent[part]
        renamed = {new if key == old else key: value for key, value in parent.items()}
        parent.clear()
        parent.update(renamed)
        text = tomlkit.dumps(self.toml)
        key = new if re.fullmatch(r"[A-Za-z0-9_-]+", new) else f'"{new}"'
        for changed in _renamings(text, table, old, key):
            if _says(changed, self.wanted):
                self.toml = tomlkit.parse(changed)
                return
        raise self._unsafe()

    def put_share(self, section: str, name: str, share: float) -> None:
        self._shares(section)[name] = share
        self.wanted[section]["shares"][name] = share

    def drop_share(self, section: str, name: str) -> None:
        """Takes a dataset out of a table of shares, if there is one."""
        if self.has_shares(section):
            del self._shares(section)[name]
            del self.wanted[section]["shares"][name]

    def put_validation(self, examples: int, shares: Mapping[str, int]) -> None:
        """Sets how many validation examples there are, and the weight of each dataset of the study in them."""
        if "validation" not in self.wanted:
            self.toml["validation"] = tomlkit.table()
        table, wanted = self._table("validation"), self.wanted.setdefault("validation", {})
        table["examples"] = wanted["examples"] = examples
        if wanted.get("shares") != shares:
            stand = wanted["shares"] if self.has_shares("validation") else {}
            # Weights that are there keep their places and comments.
            if stand.keys() == shares.keys():
                for name, share in shares.items():
                    self._shares("validation")[name] = share
            else:
                table["shares"] = _item(dict(shares))
            wanted["shares"] = dict(shares)

    def has_shares(self, section: str) -> bool:
        return isinstance(self.wanted.get(section, {}).get("shares"), dict)

    def drop_from_runs(self, dataset: str) -> None:
        """Takes a dataset out of the lists of the runs."""
        for name, run in self.wanted["runs"].items():
            if dataset in run.get("datasets", ()):
                listed = self._table("runs")[name]["datasets"]
                assert isinstance(listed, Array)
                listed.remove(dataset)
                run["datasets"].remove(dataset)

    @property
    def text(self) -> str:
        text = tomlkit.dumps(self.toml)
        text = text if self.has_end else text.removesuffix("\n")
        return (_BOM if self.has_bom else "") + (text.replace("\n", "\r\n") if self.has_crlf else text)

    def check(self) -> Study:
        """The study as it is now; StudyError if it is none, or if the file would say something else than was meant."""
        text = self.text.removeprefix(_BOM)
        if not _says(text, self.wanted):
            raise self._unsafe()
        try:
            return parse_study(text)
        except StudyError as error:
            where = f"{self.path}: {error.where}" if error.where else str(self.path)
            hint = f"{error.hint} Nothing was changed." if error.hint else "Nothing was changed."
            raise StudyError(error.message, where=where, hint=hint) from None

    def write(self) -> None:
        """Writes the file, whole or not at all."""
        self.check()
        with write_atomic(self.path) as temporary:
            temporary.write_bytes(self.text.encode())
            temporary.chmod(self.path.stat().st_mode & 0o777)

    def _unsafe(self) -> StudyError:
        return StudyError(
            "the study file is written in a form that cannot be changed safely",
            where=str(self.path),
            hint="Change it by hand; nothing was written.",
        )

    def _table(self, kind: str) -> Any:
        return self.toml[kind]

    def _shares(self, section: str) -> Any:
        shares = self.toml[section]["shares"]
        assert isinstance(shares, AbstractTable)
        return shares


def _says(text: str, wanted: dict[str, Any]) -> bool:
    try:
        return tomllib.loads(text) == wanted
    except tomllib.TOMLDecodeError:
        return False


def _renamings(text: str, table: tuple[str, ...], old: str, new: str) -> Iterator[str]:
    """Texts in which the key may have its new name: one of them says so and nothing else, if it is written as usual.

    It stands behind the table's name, or alone: at the head of a line or within braces.
    """
    path = r"\s*\.\s*".join(rf"""(?:{part}|"{part}"|'{part}')""" for part in table)
    key = rf"""(?:{re.escape(old)}|"{re.escape(old)}"|'{re.escape(old)}')(?=\s*[.=\]])"""
    named = re.compile(rf"^(\s*\[?\s*{path}\s*\.\s*){key}", re.MULTILINE)
    text = named.sub(lambda found: found[1] + new, text)
    yield text
    for found in re.finditer(rf"((?:^|[{{,])\s*){key}", text, re.MULTILINE):
        yield text[: found.start()] + found[1] + new + text[found.end() :]


def _piece(longer: str, shorter: str) -> slice | None:
    """The lines that make one text the other, if they stand in one place."""
    length = len(longer) - len(shorter)
    pairs = enumerate(zip(longer, shorter, strict=False))
    start = next((place for place, (one, other) in pairs if one != other), len(shorter))
    if length <= 0 or longer[start + length :] != shorter[start:]:
        return None
    while start and longer[start - 1] != "\n" and longer[start - 1] == longer[start + length - 1]:
        start -= 1
    return slice(start, start + length)


def parse_target(target: str) -> tuple[str, str]:
    """`datasets.wiki` as its kind and name; UsageError for anything else."""
    kind, dot, name = target.partition(".")
    if kind not in KINDS or not dot:
        raise UsageError(f"{target!r} names no dataset and no run", hint="Write datasets.NAME or runs.NAME.")
    check_name(name, where=target)
    return kind, name


def parse_settings(kind: str, settings: list[str]) -> dict[str, Any]:
    """`key=value` by key, values as TOML; what is no TOML, or not of the key's type as TOML, is a string."""
    values: dict[str, Any] = {}
    for setting in settings:
        key, sign, text = setting.partition("=")
        key = key.strip()
        if not sign or not key:
            raise UsageError(f"{setting!r} is no setting", hint="Write key=value.")
        if key in values:
            raise UsageError(f"{key!r} is given twice")
        values[key] = _value(kind, key, text.strip())
    return values


def _value(kind: str, key: str, text: str) -> Any:
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    if set(parsed) != {"value"}:
        return text
    fields = KINDS[kind].model_fields
    field = fields.get(key)
    if field is None or _fits(field.annotation, parsed["value"]) or not _fits(field.annotation, text):
        return parsed["value"]
    return text


def _fits(annotation: Any, value: Any) -> bool:
    try:
        TypeAdapter(annotation).validate_python(value, strict=True)
    except ValidationError:
        return False
    return True


def _item(value: Any) -> Any:
    """Tables within a table stay on one line."""
    if not isinstance(value, dict):
        return tomlkit.item(value)
    table = tomlkit.inline_table()
    for key, inner in value.items():
        table.append(key, _item(inner))
    return table
