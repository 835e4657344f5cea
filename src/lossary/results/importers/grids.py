"""Tables of text, as Markdown, CSV, HTML and Excel hold them: rows of cells, and the numbers that cells print.

What a table says is `orient.py`'s matter; here are only cells, their links, and numbers with per cent signs, decimal
commas, deviations and remarks.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from math import isfinite
from pathlib import Path
from typing import NamedTuple

from lossary.errors import SourceError

__all__ = [
    "MOST_CELLS",
    "MOST_OF_A_CELL",
    "OPEN_MARKS",
    "SPREADS",
    "Cell",
    "Grid",
    "Marks",
    "Parsed",
    "has_spread",
    "is_all",
    "is_missing",
    "is_of_others",
    "is_total",
    "marks_of",
    "may_be_thousands",
    "parse_number",
    "plain",
    "read_cell",
    "read_html_grids",
    "read_markdown_grids",
    "unlink",
    "without_footnotes",
]

MOST_CELLS = 1_000_000
# Of a longer cell, which is a text that somebody wrote or a model did, only the beginning is kept.
MOST_OF_A_CELL = 1000
MOST_COLUMNS = 3000
_MOST_EXPONENT = 99
_LINK = re.compile(r"\[((?:[^\[\]\\]|\\.)*)\]\(\s*<?([^()\s<>]*(?:\([^()\s]*\)[^()\s<>]*)*)>?[^()]*\)")
# `average over datasets`, `macro avg`, and not a dataset called `average joe`.
_TOTAL_WORD = r"(total|overall|sum|averages?|averaged|avg\.?|mean|macro|micro)"
_BESIDE_TOTAL = (
    r"(g[eé]n[eé]ral|geo\.?|geom\.?|harmonic|macro|micro|weighted|unweighted|grand|simple|plain|arithmetic|geometric|by|over|across|of|all|the|its|in|and|per"
    r"|train|training|validation|val|eval|test|share|shares|size|rows|tokens?|count|example|examples|number"
    r"|data ?sets?|domains?|sets?|tasks?|languages?|subsets?|corpora|sources?|runs?|seeds?|everything"
    r"|loss|losses|ppl|perplexity|accuracy|acc|score|scores|bpb|mlm|sop|nsp|clm|\d+)"
)
_TOTAL_ENGLISH = re.compile(
    rf"({_BESIDE_TOTAL}[\s_-]+)*{_TOTAL_WORD}([\s_/-]+({_TOTAL_WORD}|{_BESIDE_TOTAL}))*\s*([(:,;\[].*)?", re.IGNORECASE
)
_TOTAL = re.compile(
    r"(итого?|всего|среднее|в среднем|сумма|усього|середнє|разом"
    r"|gesamt(durchschnitt|mittel(wert)?|summe|wert|verlust|ergebnis)?|insgesamt|summe|durchschnitt(lich\w*)?"
    r"|mittel(wert)?|im mittel|im durchschnitt|gemiddeld\w*|totaal|total(?:te?|e)|genomsnitt|medelvärde|gjennomsnitt"
    r"|moyennes?|somme|média|promedio|suma|soma|średnia|łącznie|ogółem|razem|průměr|celkem|átlag|összesen|ortalama|toplam)"
    r"(?![\w-])|(宏|微|加权|加重|マクロ|マイクロ|总|總)?"
    r"(平均|合計|合计|总计|總計|総計|总和|总体|整体|평균|합계|전체)|[ø∅⌀Σ∑](?!\w)",
    re.IGNORECASE,
)
# Words for a mean that are names of datasets, too: a mean stands at the end.
_TOTAL_AT_THE_END = re.compile(r"media([ _](general|geral|generale|aritm\w+|ponderada|pesata|totale?))?", re.IGNORECASE)
_NOUNS = (
    r"(case|group|of|over|across|all|the|per|in|data ?sets?|domains?|sets?|tasks?|languages?|subsets?|corpora"
    r"|sources?|runs?|seeds?|models?|examples?|samples?|documents?|docs|rows|tokens?|words|bytes|loss|losses|ppl|perplexity|accuracy|acc|score)"
)
_STATISTIC = (
    r"(worst|best|min|minimum|max|maximum|lowest|highest|median|std\.?|stdev|stddev|sd|sem|stderr|variance|var|range|spread"
    r"|(standard|std\.?)[\s_-](deviation|dev\.?|err(or)?\.?)|(95 ?% ?)?(ci|confidence interval)|p[\s_-]?values?"
    r"|lower|upper|(abs|rel)\w*\.?[\s_-](change|diff\w*\.?|improvement|gain|gap)"
    r"|delta|diff\.?|difference|improvement|reduction|gain|gap|ratio|speed-?up|relative|change|[Δ∆]"
    r"|ranks?|wins?|win[\s_-]rate|(average|avg\.?|mean)[\s_-](ranks?|wins?))"
)
# `Worst-case`, `Std over seeds`, `# domains`, `n`, `count`, `Avg. rank`.
_OF_OTHERS = re.compile(
    rf"{_STATISTIC}([\s_-]+{_NOUNS})*(\s(on|over|across|per|by)\s.+)?\s*([(%].*)?"
    rf"|(#|№|n(o|um)?\.?|number of|counts?( of)?)([\s_-]*{_NOUNS})*",
    re.IGNORECASE,
)
_ALL = {"all", "alle", "tous", "todos", "tutti", "все", "全部", "全て"}
_MISSING = {"", "-", "–", "—", "n/a", "na", "nan", "none", "null", "?", "…", "no log", "tbd", "--", "n.a."}
# Groups of three behind one kind of mark, or of two and three as in India; or no marks at all.
_NUMBER = re.compile(
    r"[+\-−]?(?:\d{1,3}([\s'’,.])\d{3}(?:\1\d{3})*(?:(?!\1)[.,]\d+)?|\d{1,2}(?:,\d{2})+,\d{3}(?:\.\d+)?|\d+(?:[.,]\d*)?|[.,]\d+)"
    r"(?:[eE][+-]?\d+)?(?![.,'’]?\d)"
)


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Cells of one table, and the text that stands above it."""

    title: str
    rows: list[list[str]]
    first_line: int
    ruled: bool = False  # a line of dashes stands below the first row
    lines: Sequence[int] = ()  # of each row, where they do not follow one another

    def __post_init__(self) -> None:
        """Refuses what would take minutes: every name of a table is held against the others."""
        width = max(map(len, self.rows), default=0)
        if width > MOST_COLUMNS:
            raise SourceError(
                f"{width:,} columns are more than a table has ({MOST_COLUMNS:,})",
                where=f"line {self.first_line}",
                hint="Give the columns that matter, or a row for each number.",
            )

    def line(self, row: int) -> int:
        """The line of the file that a row stands on."""
        return self.lines[row] if self.lines else self.first_line + row + (self.ruled and row > 0)


class Parsed(NamedTuple):
    """A number as it was printed."""

    value: float
    text: str
    rounding: float
    is_percent: bool


def read_markdown_grids(text: str) -> Iterator[Grid]:
    """The pipe tables of a Markdown text, with outer pipes or without; a title is the line of text above."""
    lines = text.split("\n")
    title, at = "", 0
    while at < len(lines):
        below = _markdown_cells(lines[at + 1]) if at + 1 < len(lines) else []
        if "|" in lines[at] and at + 1 < len(lines) and "|" in lines[at + 1] and _is_ruler(below):
            stop = at + 2
            while stop < len(lines) and "|" in lines[stop]:
                stop += 1
            rows = [_markdown_cells(line) for line in [lines[at], *lines[at + 2 : stop]]]
            yield Grid(title=title, rows=[row for row in rows if not _is_ruler(row)], first_line=at + 1, ruled=True)
            title, at = "", stop
            continue
        title = lines[at].strip(" #*\t") or title
        at += 1


def _markdown_cells(line: str) -> list[str]:
    cells = re.split(r"(?<!\\)\|", line.strip().strip("|") if not line.strip().endswith("\\|") else line.strip()[1:])
    return [cell.strip().replace("\\|", "|") for cell in cells]


def _is_ruler(cells: Sequence[str]) -> bool:
    return all(re.fullmatch(r":?-{2,}:?|-?", cell) for cell in cells) and any("--" in cell for cell in cells)


def parse_number(text: str, *, decimal_comma: bool = True) -> Parsed | None:
    """A printed number; None if it is missing. Raises ValueError if it is neither.

    A single comma is a decimal one where `decimal_comma` says so (losses), else it separates thousands (rows).
    """
    plain = _NOTED.sub("", text).strip().strip("`*").strip()
    if plain.lower() in _MISSING:
        return None
    match = _NUMBER.match(plain)
    rest = "" if match is None else plain[match.end() :].strip().strip(f"`*≈▲●○= {FOOTNOTES}")
    if match is None or (rest and not re.match(r"%|±|\+/?[-−]\s*[\d.]", rest)):
        raise ValueError(f"{text!r} is not a number")
    digits = re.sub(r"[\s'’]", "", match[0]).replace("−", "-")
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


FOOTNOTES = "*†‡§¶¹²³⁴⁵⁶⁷⁸⁹⁰ᵃᵇᶜᵈᵉᶠ♠♣♦"
# `10<sup>6</sup>` is a power.
_NOTED = re.compile(r"\[\^[^\]\s]*\]|(?<!^10)(?<![\s×x*·(]10)<sup>[^<]*</sup>")
_REFERRED = re.compile(rf"(?<=\S)\s?\[\d{{1,3}}(?:,\s?\d{{1,3}})*\]$|[{FOOTNOTES[1:]}]+$")


def without_footnotes(text: str) -> str:
    """A name without the marks of footnotes and references: `GPT-2[1]`, `wiki<sup>a</sup>`, `books‡`."""
    return _REFERRED.sub("", _NOTED.sub("", text).rstrip())


def unlink(cell: str) -> tuple[str, str | None]:
    """Text and link of a cell; the link of the first if there are several."""
    match = _LINK.search(cell)
    text = _LINK.sub(lambda m: m[1], cell)
    return re.sub(r"\\([\\`*_\[\]|~$#+\-])", r"\1", text).strip().strip("`").strip(), match[2] if match else None


def plain(cell: str) -> str:
    """The text of a cell without links, footnotes and emphasis."""
    text = without_footnotes(unlink(without_footnotes(cell))[0])
    return text.strip().strip("*_`").strip().rstrip("↓↑").strip()


class Cell(NamedTuple):
    """A cell: its number, or None, and what is odd about it."""

    number: Parsed | None
    odd: str | None


def has_spread(text: str) -> bool:
    """Whether a number has a deviation, an interval or another number beside it: 2.31 ± 0.02, 2.31 (0.02)."""
    return re.search(r"\d%?[*_`\s]*(±|\+/?[-−]\s*[\d.]|\\pm|[\[(][^\])]*\d)", text) is not None


def is_missing(text: str) -> bool:
    """Whether a cell says that it has no value."""
    return text.strip().strip("`*_").strip().lower() in _MISSING


def is_total(name: str, *, at_end: bool = False) -> bool:
    """Whether a row or column is a total over datasets: total, average, итого, Gesamt; `at_end` if none follows it."""
    plain = unicodedata.normalize("NFC", name).strip("*_: \t")
    return bool(
        _TOTAL_ENGLISH.fullmatch(plain)
        or _TOTAL.match(plain)
        or (at_end and _TOTAL_AT_THE_END.fullmatch(plain.split(" (")[0]))
    )


def is_of_others(name: str) -> bool:
    """Whether a row or column says something of the others and is none of them: `Worst-case`, `Std`, `# domains`."""
    return _OF_OTHERS.fullmatch(name.strip("*_: \t")) is not None


def is_all(name: str) -> bool:
    """Whether a row is of all datasets together."""
    return name.strip("*_: ").lower() in _ALL


def read_cell(text: str, *, decimal_comma: bool = True) -> Cell:
    """A number with whatever stands beside it; a cell that is no number is missing, and `odd` says what it has.

    read_cell("~3.0") → 3.0, odd "about"; read_cell("1.20 (0.01)") → 1.20; read_cell("OOM") → none, odd "OOM".
    """
    plain = text.strip().strip("`*_").strip()
    try:
        return Cell(parse_number(plain, decimal_comma=decimal_comma), None)
    except ValueError:
        pass
    match = re.fullmatch(rf"([~≈<>≤≥]?)\s*([^\s(\[]+)\s*(?:[(\[](.*)[)\]]|±.*|\+/?-.*|[{FOOTNOTES}↓↑▲▼✓✗]+)?", plain)
    if match is not None:
        try:
            number = parse_number(match[2], decimal_comma=decimal_comma)
        except ValueError:
            number = None
        if number is not None:
            remark = match[1] or re.search(r"[^\W\d]", match[3] or "")
            return Cell(number, plain if remark else None)
    return Cell(None, plain)


SPREADS = "what stands behind ± or in brackets is left out"
OPEN_MARKS = "left out, for a mark in them may separate thousands or be the decimal one; write them with points"
_FRACTION = re.compile(r"[^\d.,]*\d+([.,])(\d+)(?![\d.,])")


class Marks(NamedTuple):
    """How a table writes fractions: its decimal mark, and whether a comma can be nothing else (`2,5`)."""

    decimal: str
    has_clear_comma: bool


def marks_of(texts: Iterable[str]) -> Marks:
    """The mark that most of a table's numbers have; points before commas."""
    found = [match for text in texts if (match := _FRACTION.match(unlink(text)[0] if "[" in text else text))]
    commas = [match for match in found if match[1] == ","]
    clear = any(len(match[2]) != 3 or match[0].lstrip("~≈<>≤≥+- ").startswith("0") for match in commas)
    return Marks("," if len(commas) * 2 > len(found) else "." if found else "", clear)


def may_be_thousands(text: str, marks: Marks, *, is_large: bool = False) -> bool:
    """Whether the mark in a number is another than its table's decimal one and may separate thousands.

    1,234 beside 2.5, or 1.234 beside 2,5. `is_large` where thousands are common: there 1,234 alone may be some, too.
    """
    match = re.match(r"[^\d.,]*[1-9]\d{0,2}([.,])\d{3}(?![\d.,])", text)
    if match is None:
        return False
    alone = is_large and match[1] == "," and not marks.has_clear_comma
    return alone or (marks.decimal != "" and match[1] != marks.decimal)


class _Table(NamedTuple):
    """A table of a page as it is written: cells with how many columns and rows each spans."""

    title: str
    rows: list[list[tuple[str, int, int]]]
    lines: list[int]
    sections: list[int]  # the row that each begins with: no cell reaches from one into another


def _laid_out(table: _Table, path: Path) -> list[list[str]]:
    """The cells in their columns; one that spans several stands in the first, a name in every row that it reaches.

    SourceError if two cells would stand in one place.
    """
    found: list[list[str]] = []
    count = 0
    # Cells that reach down, by column: how many rows more, and what stands there.
    below: dict[int, tuple[int, str]] = {}
    for at, cells in enumerate(table.rows):
        below = {} if at in table.sections else {c: (n - 1, text) for c, (n, text) in below.items() if n > 1}
        reaching = {**below}
        is_body = any(read_cell(unlink(text)[0]).number is not None for text, _, _ in cells)
        row: list[str] = []
        for text, wide, high in cells:
            while len(row) in reaching:
                row.append(reaching[len(row)][1])
            over = [column for column in range(len(row), len(row) + wide) if column in reaching]
            if over:
                raise SourceError(
                    f"{text[:60]!r} spans {wide} columns, and a cell of a row above reaches into one of them",
                    where=f"{path}, line {table.lines[at]}",
                    hint="Correct rowspan or colspan there, so that no two cells share a place.",
                )
            for column in range(len(row), len(row) + wide):
                is_name = is_body and column == len(row) and not _is_value(text)
                below |= {column: (high, text if is_name else "")} if high > 1 else {}
            row += [text, *[""] * (wide - 1)]
        last = max(reaching, default=-1)
        row += [reaching[column][1] if column in reaching else "" for column in range(len(row), last + 1)]
        count += len(row)
        if count > MOST_CELLS:
            raise SourceError(f"more than {MOST_CELLS:,} cells are no table", where=str(path))
        found.append(row if cells else [])
    return found


def _is_value(text: str) -> bool:
    return is_missing(text) or read_cell(unlink(text)[0]).number is not None


_TITLES = ("h1", "h2", "h3", "h4", "caption", "figcaption")


class _Tables(HTMLParser):
    """Tables of an HTML page as rows of cells; links are kept in Markdown's way, so that one reader does for all."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tables: list[_Table] = []
        self._open: list[_Table] = []
        self._title: list[str] = []
        self._in_title = False
        self._of_figure = 0  # the first table of the figure that was begun last
        self._cell: list[str] | None = None
        self._span = self._rows = 1
        self._link: str | None = None
        self._skip = 0
        self._in_mark = False
        self.count = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag in ("script", "style"):
            self._skip += 1
        elif tag == "table":
            self._open.append(_Table("".join(self._title).strip(), [], [], []))
        elif tag == "figure":
            self._of_figure = len(self.tables)
        elif tag in _TITLES:
            self._title, self._in_title = [], True
        elif tag in ("thead", "tbody", "tfoot") and self._open:
            self._open[-1].sections.append(len(self._open[-1].rows))
        elif tag == "tr" and self._open:
            self._close_cell()
            self._open[-1].rows.append([])
            self._open[-1].lines.append(self.getpos()[0])
        elif tag in ("td", "th") and self._open:
            self._close_cell()
            self._cell = []
            span = values.get("colspan") or "1"
            self._span = min(int(span), 100) if span.isdigit() else 1
            rows = values.get("rowspan") or "1"
            # 0 is all rows below.
            self._rows = min(int(rows) or MOST_CELLS, MOST_CELLS) if rows.isdigit() else 1
        elif tag == "a" and self._cell is not None:
            self._link = values.get("href")
        elif tag == "sup":
            self._in_mark = True
        elif tag == "br" and self._cell is not None:
            self._cell.append(" ")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style"):
            self._skip = max(0, self._skip - 1)
        elif tag == "sup":
            self._in_mark = False
        elif tag in _TITLES:
            self._in_title = False
            if tag == "figcaption":
                # Below the tables of its figure, or above.
                title = "".join(self._title).strip()
                self.tables[self._of_figure :] = [
                    table._replace(title=title) for table in self.tables[self._of_figure :]
                ]
            if tag == "caption" and self._open:
                self._open[-1] = self._open[-1]._replace(title="".join(self._title).strip())
        elif tag in ("td", "th", "tr"):
            self._close_cell()
        elif tag == "table" and self._open:
            self._close_cell()
            self.tables.append(self._open.pop())

    def handle_data(self, data: str) -> None:
        if self._skip or (self._in_mark and not re.search(r"(^|[\s×x*·(])10$", "".join(self._cell or ()))):
            return
        if self._in_title:
            self._title.append(data)
        elif self._cell is not None:
            text = " ".join(data.split())
            linked = text and self._link and not re.search(r"[\s()<>\[\]]", self._link)
            self._cell.append(f"[{text}]({self._link})" if linked else data)
            self._link = None if linked else self._link

    def _close_cell(self) -> None:
        if self._cell is not None and self._open and self._open[-1].rows:
            self.count += self._span
            if self.count > MOST_CELLS:
                raise ValueError(f"more than {MOST_CELLS:,} cells are no table")
            text = " ".join("".join(self._cell).split())
            self._open[-1].rows[-1].append((text, max(1, self._span), self._rows))
        self._cell, self._link = None, None


def read_html_grids(text: str, path: Path) -> list[Grid]:
    """The tables of an HTML page."""
    parser = _Tables()
    try:
        parser.feed(text)
        parser.close()
    except ValueError as error:
        raise SourceError(str(error), where=str(path)) from None
    tables = [
        (table.title, [(row, line) for row, line in zip(_laid_out(table, path), table.lines, strict=True) if row])
        for table in parser.tables
    ]
    return [
        Grid(title=title, rows=[row for row, _ in rows], first_line=rows[0][1], lines=[line for _, line in rows])
        for title, rows in tables
        if rows
    ]
