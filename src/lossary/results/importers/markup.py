"""Tables in the markup of wikis and documentation: MediaWiki, Jira, DokuWiki, Textile, AsciiDoc, and two of RST.

Each is written as HTML, one line for one, so that one reader understands cells that span rows and columns.

as_html("{|\\n! dataset !! loss\\n|-\\n| wiki || 2.31\\n|}")  →  "<table>\\n<tr><td>dataset</td>…"
"""

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from html import escape

__all__ = ["as_html"]

_JIRA_HEAD = re.compile(r"\s*\|\|[^|]+\|\|.*\|\|\s*|\s*\|\|[^|]+\|\|\s*")
_DOKU_HEAD = re.compile(r"\s*\^\s*[^\s^].*\^\s*")
# Textile: `|_. Dataset |_. Loss |`, `|>. 2.31 |`, `|\2. over two columns |`.
_TEXTILE_HEAD = re.compile(r"\s*(?:\{[^{}]*\}\.\s*)?\|_[^|\s.]*\. .*\|\s*")
_TEXTILE_MARK = re.compile(r"((?:[_<>=~^-]|\\\d+|/\d+|\{[^{}]*\}|\([^()]*\))+)\. ?")
_DIRECTIVE = re.compile(r"\.\.\s+(list-table|csv-table)::\s*(.*)")
_ATTRIBUTES = re.compile(r"\s*(?:[\w-]+\s*=\s*(?:\"[^\"]*\"|'[^']*'|[^\s|]+)\s*)+\|(?!\|)")
_SPAN = re.compile(r"\b(colspan|rowspan)\s*=\s*[\"']?(\d{1,3})")
_INNER = (
    (re.compile(r"<ref\b[^>]*/>|<ref\b.*?</ref>|<!--.*?-->"), ""),
    (re.compile(r"<br\s*/?>"), " "),
    (re.compile(r"</?\w+[^<>]*>"), ""),
    (re.compile(r"\[\[(?:[^\[\]|]*\|)?([^\[\]|]*)\]\]"), r"\1"),
    (re.compile(r"\{\{[^{}|]*\|(?:[^{}|]*\|)*([^{}|]*)\}\}"), r"\1"),
    (re.compile(r"'{2,}"), ""),
)
_WEB_LINK = re.compile(r"\[(https?://[^\s\]|<>\"]+)[ |]([^\]]+)\]|\[([^\]|]+)\|(https?://[^\s\]|<>\"]+)\]")


def as_html(text: str) -> str | None:
    """The tables of a text as HTML, and its other lines as their titles; None if it has none in these markups."""
    lines = text.split("\n")
    out: list[str] = []
    found = False
    while len(out) < len(lines):
        at = len(out)
        table = next((rows for read in _READERS if (rows := read(lines, at)) is not None), None)
        if table is None:
            said = re.sub(r"^\.(?=\w)|^h\d\.\s|^\[.*=.*\]$", "", lines[at]).strip(" =#*-~")
            out.append(f"<h4>{escape(said)}</h4>" if said else "")
        else:
            found = True
            out += table
    return "\n".join(out) if found else None


def _cell(text: str, tag: str = "td", attributes: str = "") -> str:
    spans = "".join(f' {name}="{number}"' for name, number in _SPAN.findall(attributes))
    for pattern, shown in _INNER:
        text = pattern.sub(shown, text)
    link = _WEB_LINK.search(text)
    shown = escape(_WEB_LINK.sub(lambda match: match[2] or match[3], text).strip())
    if link:
        shown = f'<a href="{escape(link[1] or link[4])}">{shown}</a>'
    return f"<{tag}{spans}>{shown}</{tag}>"


def _mediawiki(lines: Sequence[str], at: int) -> list[str] | None:
    if not lines[at].lstrip().startswith("{|"):
        return None
    out = ["<table>"]
    for line in lines[at + 1 :]:
        text = line.strip()
        if text.startswith("|}"):
            return [*out, "</table>"]
        if text.startswith("|+"):
            out.append(f"<caption>{escape(_ATTRIBUTES.sub('', text[2:]).strip())}</caption>")
        elif text.startswith("|-"):
            out.append("<tr>")
        elif text[:1] in ("|", "!"):
            parts = re.split(r"\|\||!!" if text[0] == "!" else r"\|\|", text[1:])
            first = "<tr>" if not any("<tr>" in row for row in out) else ""
            out.append(first + "".join(map(_wiki_cell, parts)))
        else:
            # What goes on in a cell below its first line; the cell has been closed, so it is left out.
            out.append("")
    return None


def _wiki_cell(text: str) -> str:
    attributes = _ATTRIBUTES.match(text)
    return _cell(text[attributes.end() :] if attributes else text, attributes=attributes[0] if attributes else "")


def _barred(head: re.Pattern[str], bars: str) -> Callable[[Sequence[str], int], list[str] | None]:
    """The reader of tables whose header has other bars than their rows: `||a||b||`, `^ a ^ b ^`."""

    def read(lines: Sequence[str], at: int) -> list[str] | None:
        if head.fullmatch(lines[at]) is None:
            return None
        out: list[str] = []
        for line in lines[at:]:
            text = line.strip()
            if text[:1] not in (bars[0], "|") or text[-1:] not in (bars[0], "|"):
                break
            mark = bars if out == [] else None
            cells = text.strip(bars[0] + "|").split(mark) if mark else re.split(r"[|^]+(?![^\[]*\])", text.strip("|^"))
            out.append(("<table>" if not out else "") + "<tr>" + "".join(map(_cell, cells)))
        if len(out) < 2:
            return None
        out[-1] += "</table>"
        return out

    return read


def _textile(lines: Sequence[str], at: int) -> list[str] | None:
    if _TEXTILE_HEAD.fullmatch(lines[at]) is None:
        return None
    out: list[str] = []
    for line in lines[at:]:
        text = re.sub(r"^\{[^{}]*\}\.\s*", "", line.strip())
        if text[:1] != "|" or text[-1:] != "|":
            break
        out.append(("" if out else "<table>") + "<tr>" + "".join(map(_textile_cell, text[1:-1].split("|"))))
    out[-1] += "</table>"
    return out if len(out) > 1 else None


def _textile_cell(text: str) -> str:
    mark = _TEXTILE_MARK.match(text.lstrip())
    shown = text.lstrip()[mark.end() :] if mark else text
    spans = re.sub(r"\\(\d+)", r"colspan=\1 ", re.sub(r"/(\d+)", r"rowspan=\1 ", mark[1])) if mark else ""
    link = re.sub(r'"([^"]+)":(https?://\S+)', r"[\2 \1]", shown.strip())
    return _cell(link.strip("*_@ "), attributes=spans)


def _asciidoc(lines: Sequence[str], at: int) -> list[str] | None:
    if lines[at].strip() != "|===":
        return None
    out, count, width = ["<table>"], 0, 0
    for line in lines[at + 1 :]:
        text = line.strip()
        if text == "|===":
            return [*out, "</table>"]
        cells = re.split(r"(?<!\\)\|", text)[1:] if text.startswith("|") else []
        width = width or len(cells)
        row = ""
        for cell in cells:
            row += ("<tr>" if count % width == 0 else "") + _cell(cell.strip().strip("*_`"))
            count += 1
        out.append(row)
    return None


def _directive(lines: Sequence[str], at: int) -> list[str] | None:
    match = _DIRECTIVE.fullmatch(lines[at].strip())
    if match is None:
        return None
    stop = at + 1
    while stop < len(lines) and (not lines[stop].strip() or lines[stop][:1].isspace()):
        stop += 1
    body = [line.strip() for line in lines[at + 1 : stop]]
    rows = _listed(body) if match[1] == "list-table" else _separated(body)
    out = [f"<table><caption>{escape(match[2])}</caption>", *rows]
    return [*out[:-1], f"{out[-1]}</table>"] if len(out) > 1 else None


def _listed(body: Sequence[str]) -> Iterator[str]:
    for line in body:
        item = re.fullmatch(r"(\*\s+)?-(?:\s+(.*))?", line)
        yield "" if item is None else ("<tr>" if item[1] else "") + _cell((item[2] or "").strip("*`"))


def _separated(body: Sequence[str]) -> Iterator[str]:
    for line in body:
        text = line.removeprefix(":header:").strip()
        if not text or (text.startswith(":") and text == line):
            yield ""
            continue
        cells = next(csv.reader([text], skipinitialspace=True), [])
        yield "<tr>" + "".join(map(_cell, cells))


_READERS: tuple[Callable[[Sequence[str], int], list[str] | None], ...] = (
    _mediawiki,
    _barred(_JIRA_HEAD, "||"),
    _barred(_DOKU_HEAD, "^"),
    _textile,
    _asciidoc,
    _directive,
)
