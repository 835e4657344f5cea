"""Keys of a study file that a command overrides: `--set recipe.steps=50 --set runs.a.device=cpu`.

    override(tables, ["recipe.steps=50"])

A key is written as in TOML, dots between its parts; so is a value, save that a bare word is text.
"""

import copy
import re
import tomllib
from collections.abc import Sequence
from typing import Any, NamedTuple

from lossary.errors import UsageError

__all__ = ["Override", "override", "parse_override"]

_WORD = re.compile(r"[A-Za-z_][\w.:/+-]*")


class Override(NamedTuple):
    """One key and what it is set to; `text` is what was asked for."""

    text: str
    key: tuple[str, ...]
    value: Any

    @property
    def where(self) -> str:
        return f"--set {self.text}"


def parse_override(text: str) -> Override:
    """Reads `KEY=VALUE`; UsageError if it is none."""
    key, equals, value = text.partition("=")
    parts = _key(key.strip())
    if not equals or parts is None:
        raise UsageError(
            "a key and a value are expected",
            where=f"--set {text}",
            hint="As in the study file, with dots: --set recipe.steps=50, --set runs.a.device=cpu.",
        )
    return Override(text, parts, _value(value.strip(), text))


def override(tables: dict[str, Any], changes: Sequence[Override]) -> dict[str, Any]:
    """A copy of a study file's tables with the keys set; tables that are not there are made."""
    changed = copy.deepcopy(tables)
    for change in changes:
        table = changed
        for part in change.key[:-1]:
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                raise UsageError(f"{part!r} is no table of the study file", where=change.where)
        table[change.key[-1]] = change.value
    return changed


def _key(text: str) -> tuple[str, ...] | None:
    """The parts of a dotted key; None if it is none."""
    if "\n" in text:
        return None
    try:
        found: Any = tomllib.loads(f"{text} = 0")
    except tomllib.TOMLDecodeError:
        return None
    parts: list[str] = []
    while isinstance(found, dict):
        if len(found) != 1:
            # A comment is TOML without a key.
            return None
        ((part, found),) = found.items()
        parts.append(part)
    return tuple(parts)


def _value(text: str, whole: str) -> Any:
    try:
        found = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError as error:
        if _WORD.fullmatch(text):
            return text
        raise UsageError(
            f"{text!r} is no value of TOML: {error}",
            where=f"--set {whole}",
            hint="More than a word needs quotes, and the shell some around them: --set 'name=\"my study\"'.",
        ) from None
    if set(found) != {"value"}:
        raise UsageError("one value is expected", where=f"--set {whole}")
    return found["value"]
