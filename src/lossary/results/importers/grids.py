"""Tables of text, as Markdown and CSV hold them, to numbers: links, percent signs, decimal commas, missing values.

A grid is rows of cells; its first row that says something is the header. A row called total holds printed totals.
"""

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import NamedTuple

from lossary.errors import SourceError
from lossary.results.importers.model import Imported, ImportedDataset, Mapped, Number, Role
from lossary.results.importers.names import Column, Maps, column, role, row_scale

__all__ = ["Grid", "grid_numbers", "parse_number", "read_csv_grid", "read_markdown_grids", "read_text"]

MOST_BYTES = 64 << 20
MOST_LINE = 1 << 20
_MOST_CELLS = 1_000_000
_MOST_EXPONENT = 99
_LINK = re.compile(r"\[((?:[^\[\]\\]|\\.)*)\]\(\s*<?([^()\s<>]*(?:\([^()\s]*\)[^()\s<>]*)*)>?[^()]*\)")
_TOTAL = re.compile(r"^\**\s*(total|overall|sum|average|mean|итого?|всего|среднее)\b", re.IGNORECASE)
_MISSING = {"", "-", "–", "—", "n/a", "na", "nan", "none", "null", "?", "…"}
_NUMBER = re.compile(r"[+-]?(\d[\d\s  ,.']*|[.,]\d+)(?:[eE][+-]?\d+)?")


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Cells of one table, and the text that stands above it."""

    title: str
    rows: list[list[str]]
    first_line: int


class Parsed(NamedTuple):
    """A number as it was printed."""

    value: float
    text: str
    rounding: float
    is_percent: bool


def read_text(path: Path) -> str:
    """A text file, within bounds; SourceError names what is wrong and where."""
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise SourceError(f"{size:,} bytes are more than a table has ({MOST_BYTES:,})", where=str(path))
    data = path.read_bytes()
    for number, bytes_of_line in enumerate(data.split(b"\n"), 1):
        if len(bytes_of_line) > MOST_LINE:
            raise SourceError(f"the line is longer than {MOST_LINE:,} bytes", where=f"{path}, line {number}")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SourceError("not UTF-8", where=f"{path}, line {line}", hint="Save the file as UTF-8.") from None


def read_markdown_grids(text: str) -> Iterator[Grid]:
    """The pipe tables of a Markdown text."""
    block: list[str] = []
    title, first = "", 0
    for number, line in enumerate([*text.split("\n"), ""], 1):
        if line.lstrip().startswith("|"):
            first = first or number
            block.append(line)
            continue
        if block:
            rows = [cells for cells in map(_markdown_cells, block) if not _is_ruler(cells)]
            yield Grid(title=title, rows=rows, first_line=first)
            block, title, first = [], "", 0
        stripped = line.strip(" #*\t")
        if stripped:
            title = stripped
    return


def _markdown_cells(line: str) -> list[str]:
    cells = re.split(r"(?<!\\)\|", line.strip().strip("|") if not line.strip().endswith("\\|") else line.strip()[1:])
    return [cell.strip().replace("\\|", "|") for cell in cells]


def _is_ruler(cells: Sequence[str]) -> bool:
    return all(re.fullmatch(r":?-{2,}:?|-?", cell) for cell in cells) and any("--" in cell for cell in cells)


def read_csv_grid(text: str, path: Path) -> Grid:
    """A CSV with a header; comma, semicolon or tab, as its header has most of."""
    head = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=head.count)
    rows: list[list[str]] = []
    count = 0
    try:
        for row in csv.reader(text.splitlines(), delimiter=delimiter, strict=True):
            count += len(row)
            if count > _MOST_CELLS:
                raise SourceError(f"more than {_MOST_CELLS:,} cells are no table", where=str(path))
            rows.append([cell.strip() for cell in row])
    except csv.Error as error:
        raise SourceError(f"not CSV: {error}", where=f"{path}, line {len(rows) + 1}") from None
    return Grid(title=path.stem, rows=rows, first_line=1)


def parse_number(text: str, *, decimal_comma: bool = True) -> Parsed | None:
    """A printed number; None if it is missing. Raises ValueError if it is neither.

    A single comma is a decimal one where `decimal_comma` says so (losses), else it separates thousands (rows).
    """
    plain = text.strip().strip("`*").strip()
    if plain.lower() in _MISSING:
        return None
    match = _NUMBER.match(plain)
    rest = "" if match is None else plain[match.end() :].strip().strip("`*†≈▲●○= ")
    if match is None or (rest and not re.match(r"%|±", rest)):
        raise ValueError(f"{text!r} is not a number")
    digits = re.sub(r"[\s  ']", "", match[0])
    if "," in digits and "." in digits:
        # The last of both is the decimal one.
        thousands = "," if digits.rindex(".") > digits.rindex(",") else "."
        digits = digits.replace(thousands, "").replace(",", ".")
    elif digits.count(",") == 1 and decimal_comma:
        digits = digits.replace(",", ".")
    else:
        digits = digits.replace(",", "")
    if digits.count(".") > 1:
        digits = digits.replace(".", "")
    mantissa, _, exponent = digits.lower().partition("e")
    if not isfinite(float(digits)) or abs(int(exponent or 0)) > _MOST_EXPONENT:
        raise ValueError(f"{text!r} is beyond what a number of a table can be")
    decimals = len(mantissa.partition(".")[2]) - int(exponent or 0)
    percent = rest.startswith("%")
    unit = 10.0**-decimals / (100 if percent else 1)
    shown = plain[: match.end()].strip() + ("%" if percent else "")
    return Parsed(float(digits) / (100 if percent else 1), shown, unit / 2, percent)


def unlink(cell: str) -> tuple[str, str | None]:
    """Text and link of a cell; the link of the first if there are several."""
    match = _LINK.search(cell)
    text = _LINK.sub(lambda m: m[1], cell)
    return re.sub(r"\\([\\`*_\[\]|~$#+\-])", r"\1", text).strip().strip("`").strip(), match[2] if match else None


class _Column(NamedTuple):
    at: int
    header: str
    meaning: Role | Column


def grid_numbers(grids: Iterable[Grid], path: Path, kind: str, maps: Maps) -> Imported:
    """The numbers of a file's tables; tables without a dataset column or a number are left out, with a note."""
    found = Imported(path=str(path), kind=kind)
    merged: dict[str, ImportedDataset] = {}
    taken: set[tuple[str, str]] = set()
    for number, grid in enumerate(grids, 1):
        columns = _columns(grid, maps, found)
        if columns is None:
            found.notes.append(f"table {number} (line {grid.first_line}) has no column of datasets; left out")
            continue
        names = {c.meaning.run for c in columns if isinstance(c.meaning, Column)}
        # A run that a table above has with the same metric gets a name of its own.
        again = {
            run for run in names for c in columns if isinstance(c.meaning, Column) and (run, c.meaning.metric) in taken
        }
        rename = {run: f"{run} ({number})" if run in again else run for run in names}
        for c in columns:
            if isinstance(c.meaning, Column):
                taken.add((rename[c.meaning.run], c.meaning.metric))
        _read_rows(grid, columns, rename, (found, merged, path))
    found.datasets.extend(merged.values())
    return found


def _header(grid: Grid) -> int:
    """The first row that says something: some write an empty header above the real one."""
    return next((index for index, row in enumerate(grid.rows) if any(unlink(cell)[0] for cell in row)), 0)


def _columns(grid: Grid, maps: Maps, found: Imported) -> list[_Column] | None:
    if not grid.rows:
        return None
    headers = [unlink(cell)[0] for cell in grid.rows[_header(grid)]]
    columns: list[_Column] = []
    for index, header in enumerate(headers):
        meaning = maps.columns.get(header) or role(header) or column(header)
        if meaning is None and index == 0:
            meaning = "dataset"
        if meaning is None or meaning == "ignore":
            found.mapping.append(Mapped(source=header, meaning="left out", reason="no metric is recognised"))
            continue
        columns.append(_Column(index, header, meaning))
        shown = f"{meaning.run}: {meaning.metric}" if isinstance(meaning, Column) else meaning
        found.mapping.append(Mapped(source=header, meaning=shown))
    has_dataset = any(c.meaning == "dataset" for c in columns)
    return columns if has_dataset and any(isinstance(c.meaning, Column) for c in columns) else None


def _read_rows(
    grid: Grid,
    columns: list[_Column],
    rename: dict[str, str],
    into: tuple[Imported, dict[str, ImportedDataset], Path],
) -> None:
    found, merged, path = into
    body = grid.rows[_header(grid) + 1 :]
    percent = {c.at for c in columns if _is_percent(body, c)}
    name_at = next(c.at for c in columns if c.meaning == "dataset")
    for offset, row in enumerate(body, grid.first_line + _header(grid) + 1):
        cells = [*row, *[""] * (1 + max(c.at for c in columns) - len(row))]
        name, link = unlink(cells[name_at])
        if not name:
            continue
        is_total = bool(_TOTAL.match(name))
        about: dict[Role, tuple[Parsed, int]] = {}
        for c in columns:
            if c.meaning == "dataset":
                continue
            text, target = unlink(cells[c.at])
            try:
                parsed = parse_number(text, decimal_comma=c.meaning != "train_rows")
            except ValueError as error:
                raise SourceError(str(error), where=f"{path}, line {offset}, column {c.header!r}") from None
            if parsed is None:
                continue
            if not isinstance(c.meaning, Column):
                about[c.meaning] = (parsed, row_scale(c.header))
                continue
            scale = 0.01 if c.at in percent and not parsed.is_percent else 1.0
            found.numbers.append(
                Number(
                    run=rename[c.meaning.run],
                    dataset=None if is_total else name,
                    metric=c.meaning.metric,
                    value=parsed.value * scale,
                    text=parsed.text,
                    rounding=parsed.rounding * scale,
                    link=target,
                    section=grid.title or None,
                )
            )
        if not is_total:
            merged[name] = _dataset(merged.get(name), name, link, about)


def _is_percent(body: list[list[str]], c: _Column) -> bool:
    """Accuracies and shares above 1 are per cent, though no sign says so."""
    if isinstance(c.meaning, Column) and not c.meaning.metric.endswith("accuracy"):
        return False
    for row in body:
        try:
            parsed = parse_number(unlink(row[c.at])[0]) if c.at < len(row) else None
        except ValueError:
            continue
        if parsed is not None and not parsed.is_percent and parsed.value > 1:
            return True
    return False


def _dataset(
    before: ImportedDataset | None, name: str, link: str | None, about: dict[Role, tuple[Parsed, int]]
) -> ImportedDataset:
    """A dataset from one table's row, completed by what a table above said of it."""
    old = before or ImportedDataset(name=name)
    values = vars(old) | {"link": old.link or link}
    for key in ("train_share", "validation_share"):
        if key in about and values[key] is None:
            parsed, _ = about[key]
            scale = 0.01 if parsed.value > 1 and not parsed.is_percent else 1.0
            values |= {key: parsed.value * scale, f"{key}_rounding": parsed.rounding * scale}
    if "train_rows" in about and old.train_rows is None:
        parsed, factor = about["train_rows"]
        values["train_rows"] = round(parsed.value * factor)
    return ImportedDataset(**values)
