"""What a user says of names, by their exact spelling: on the command line, or in a TOML file that an import wrote.

--map 'Korpus=dataset' --map 'Ergebnis=baseline:mlm_loss' --map 'Notiz=ignore' --map read.toml
"""

import json
import re
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lossary.errors import UsageError
from lossary.results.importers.model import Imported, Mapped, Role, Split

__all__ = ["Entry", "Maps", "map_text", "parse_maps"]

_ROLES: tuple[Role, ...] = (
    "dataset", "run", "split", "step", "epoch", "metric", "value", "train_rows", "train_share", "validation_share",
    "ignore",
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


@dataclass(frozen=True, kw_only=True)
class Maps:
    """Entries by name, where each was written, and which were needed."""

    entries: dict[str, Entry] = field(default_factory=dict)
    where: dict[str, str] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    def get(self, name: str) -> Entry | None:
        """The entry of a name; it counts as used."""
        if name in self.entries:
            self.used.add(name)
        return self.entries.get(name)

    def check_all_used(self) -> None:
        """UsageError if a name stands in no file that was read."""
        unused = [name for name in self.entries if name not in self.used]
        if unused:
            raise UsageError(
                f"no file has the name {unused[0]!r}" + (f" (nor {len(unused) - 1} more)" if unused[1:] else ""),
                where=self.where[unused[0]],
                hint="`--dry-run` without the map shows the names that are there.",
            )


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
        maps.entries[name] = _entry(meaning, item)
        maps.where[name] = "--map"
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
    tables = value.get("name")
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise UsageError("no [[name]] in it", where=str(path), hint="`lossary import … --save-map FILE` writes one.")
    for index, table in enumerate(tables):
        where = f"{path}, $.name[{index}]"
        unknown = set(table) - {"source", "is", "run", "dataset", "metric"}
        if unknown or not all(isinstance(text, str) for text in table.values()) or "source" not in table:
            raise UsageError(
                f"unknown key {sorted(unknown)[0]!r}" if unknown else "each needs `source`, and texts only",
                where=where,
                hint='Keys: source, and is = ROLE or metric = "mlm_loss" with run, dataset.',
            )
        maps.entries[table["source"]] = _of_table(table, where)
        maps.where[table["source"]] = where


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
    """The reading as a TOML file that `--map` takes."""
    lines = ["# How names were understood. Edit, and give it back: lossary import … --map FILE"]
    seen: set[str] = set()
    for imported in found:
        for mapped in imported.mapping:
            if mapped.source not in seen:
                seen.add(mapped.source)
                lines += ["", *_lines_of(mapped)]
    return "\n".join(lines) + "\n"


def _lines_of(mapped: Mapped) -> list[str]:
    # A JSON string is a TOML string.
    lines = ["[[name]]", f"source = {json.dumps(mapped.source)}"]
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
