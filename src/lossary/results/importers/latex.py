"""Tables of a LaTeX text: `tabular` and its like, as rows of cells without their markup."""

import re
from collections.abc import Iterator

from lossary.results.importers.grids import Grid

__all__ = ["has_latex_tables", "read_latex_grids"]

_BEGIN = re.compile(r"\\begin\{(tabular[x*]?|longtable)\}")
_ARGUMENTS = re.compile(r"(?:\s*\[[^\]]*\]|\s*\{(?:[^{}]|\{[^{}]*\})*\}){1,3}")
_COMMENT = re.compile(r"(?<!\\)%[^\n]*")
_RULE = re.compile(r"\\(?:toprule|midrule|bottomrule|hline|(?:cline|cmidrule)(?:\([^()]*\))?\{[^{}]*\}|addlinespace)")
_ROW = re.compile(r"\\\\(?:\s*\[[^\]]*\])?|\\tabularnewline\b")
_MULTICOLUMN = re.compile(r"\\multicolumn\{(\d{1,2})\}\{[^{}]*\}\{((?:[^{}]|\{[^{}]*\})*)\}")
_MULTIROW = re.compile(r"\\multirow\{[^{}]*\}\{[^{}]*\}\{((?:[^{}]|\{[^{}]*\})*)\}")
_REFERENCE = re.compile(
    r"[~\s]*\\(?:cite[a-z]*|ref|autoref|footnote|footnotemark|label)\*?(?:\[[^\]]*\])*(?:\{[^{}]*\})?"
)
_STYLE = re.compile(r"\\(?:textbf|textit|textsc|texttt|textrm|mathbf|mathrm|emph|underline|text)\{([^{}]*)\}")
_SWITCH = re.compile(r"\\(?:bfseries|itshape|bf|it|small|footnotesize|centering)\b\s*")
_SIGNS = {r"\pm": "±", r"\%": "%", r"\_": "_", r"\#": "#", r"\$": "", "$": "", "~": " ", "{,}": ",", r"\,": ""}
_CAPTION = re.compile(r"\\caption\{((?:[^{}]|\{[^{}]*\})*)\}")
_NEAR = 2000


def has_latex_tables(text: str) -> bool:
    """Whether a text has a table of LaTeX's."""
    return _BEGIN.search(text) is not None


def read_latex_grids(text: str) -> Iterator[Grid]:
    """The tables, each with the caption of its float as its title."""
    for begin in _BEGIN.finditer(text):
        end = text.find(f"\\end{{{begin[1]}}}", begin.end())
        if end < 0:
            return
        arguments = _ARGUMENTS.match(text, begin.end())
        body = _RULE.sub(" ", _COMMENT.sub("", text[arguments.end() if arguments else begin.end() : end]))
        rows = [[cell for part in re.split(r"(?<!\\)&", row) for cell in _cells(part)] for row in _ROW.split(body)]
        rows = [row for row in rows if any(row)]
        if rows:
            yield Grid(
                title=_title(text, begin.start(), end), rows=rows, first_line=text.count("\n", 0, begin.start()) + 2
            )


def _cells(text: str) -> list[str]:
    """A cell, with empty ones behind it where it spans columns."""
    wide = _MULTICOLUMN.search(text)
    plain = _MULTIROW.sub(r"\1", _MULTICOLUMN.sub(r"\2", _REFERENCE.sub("", text)))
    before = ""
    while plain != before:
        before, plain = plain, _STYLE.sub(r"\1", plain)
    plain = _SWITCH.sub("", plain)
    for sign, shown in _SIGNS.items():
        plain = plain.replace(sign, shown)
    return [" ".join(plain.strip().strip("{}").split()), *[""] * (int(wide[1]) - 1 if wide else 0)]


def _title(text: str, start: int, end: int) -> str:
    """The caption above the table in its float, else the one below."""
    above = text[max(0, start - _NEAR) : start].rpartition("\\begin{table")[2]
    below = text[end : end + _NEAR].partition("\\end{table")[0].partition("\\begin{")[0]
    match = _CAPTION.search(above) or _CAPTION.search(below)
    return _cells(match[1])[0] if match else ""
