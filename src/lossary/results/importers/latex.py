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
# With where it stands (`[t]`) and how many lines it is thick.
_MULTIROW = re.compile(
    r"\\multirow(?:\[[^\]]*\])?\{[^{}]*\}(?:\[[^\]]*\])?\{[^{}]*\}(?:\[[^\]]*\])?\{((?:[^{}]|\{[^{}]*\})*)\}"
)
_REFERENCE = re.compile(
    r"[~\s]*\\(?:cite[a-z]*|ref|autoref|footnote|footnotemark|label)(?![a-zA-Z])\*?(?:\[[^\]]*\])*(?:\{[^{}]*\})?"
)
_COLOUR = re.compile(r"\\(?:cellcolor|rowcolor|color|textcolor)(?:\[[^\]]*\])?\{[^{}]*\}")
_STYLE = re.compile(
    r"\\(?:textbf|textit|textsc|texttt|textrm|textnormal|mathbf|mathrm|mathit|boldsymbol|bm|mbox|emph|underline|text|num)"
    r"\{([^{}]*)\}"
)
_SWITCH = re.compile(
    r"\\(?:bfseries|itshape|bf|it|rm|tiny|scriptsize|footnotesize|small|normalsize|large|scriptstyle|scriptscriptstyle"
    r"|textstyle|displaystyle|boldmath|centering|left|right|quad|qquad)(?![a-zA-Z])\s*"
)
# What is set in below a name is a part of it.
_INDENT = re.compile(r"^\s*(?:\\q?quad(?![a-zA-Z])|\\hspace\*?\{[^{}]*\}|\\(?:;|:|enspace)|~~)+\s*(?=[\w\\])")
_SIGNS = {
    r"\pm": "±", r"\%": "%", r"\_": "_", r"\#": "#", r"\$": "", "$": "", "~": " ", "{,}": ",", r"\,": "",
    r"\;": "", r"\:": "", r"\!": "", r"\dagger": "†",
    r"\downarrow": "↓", r"\uparrow": "↑",
}  # fmt: skip
# Macros that papers have for a deviation: `2.31 \std{0.04}`.
_DEVIATION = re.compile(r"\\(?:std|stdev|sd|stderr|se|err|ci|pms?|spread)\s*\{([^{}]*)\}", re.IGNORECASE)
_SET_LOWER = re.compile(r"\\text(sub|super)script\{((?:[^{}]|\{[^{}]*\})*)\}")
# A deviation, or a mark of a footnote, that is set higher or lower than its number.
_LOWER = re.compile(r"\s*[_^]\s*\{\s*(±[^{}]*|\([^{}]*\)|[*†])\s*\}|\s*\^\s*([*†])")
# Braces that only hold together; those behind a command, `_` or `^` say more.
_GROUP = re.compile(r"(?<![\\a-zA-Z_^}\]])\{([^{}]*)\}|(?<=[ ±])\{([^{}]*)\}")
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
        start = arguments.end() if arguments else begin.end()
        body = _RULE.sub(" ", _COMMENT.sub("", text[start:end]))
        rows, lines, line = [], [], text.count("\n", 0, start) + 1
        for row in _ROW.split(body):
            cells = [cell for part in re.split(r"(?<!\\)&", row) for cell in _cells(part)]
            if any(cells):
                rows.append(cells)
                lines.append(line + row[: len(row) - len(row.lstrip())].count("\n"))
            line += row.count("\n")
        if rows:
            yield Grid(title=_title(text, begin.start(), end), rows=rows, first_line=lines[0], lines=lines)


def _cells(text: str) -> list[str]:
    """A cell, with empty ones behind it where it spans columns."""
    wide = _MULTICOLUMN.search(text)
    text = _INDENT.sub("- ", text)
    plain = _MULTIROW.sub(r"\1", _MULTICOLUMN.sub(r"\2", _REFERENCE.sub("", text)))
    plain = _SET_LOWER.sub(lambda m: f"{'_' if m[1] == 'sub' else '^'}{{{m[2]}}}", _COLOUR.sub("", plain))
    before = ""
    while plain != before:
        before = plain
        plain = _DEVIATION.sub(r" ± \1", _STYLE.sub(r"\1", _SWITCH.sub("", plain)))
        for sign, shown in _SIGNS.items():
            plain = plain.replace(sign, shown)
        plain = _LOWER.sub(lambda m: f" {m[1] or m[2]}", plain)
        plain = _GROUP.sub(lambda m: m[1] or m[2] or "", plain)
    return [" ".join(plain.strip().strip("{}").split()), *[""] * (int(wide[1]) - 1 if wide else 0)]


def _title(text: str, start: int, end: int) -> str:
    """The caption above the table in its float, else the one below."""
    above = text[max(0, start - _NEAR) : start].rpartition("\\begin{table")[2]
    below = text[end : end + _NEAR].partition("\\end{table")[0].partition("\\begin{")[0]
    match = _CAPTION.search(above) or _CAPTION.search(below)
    return _cells(match[1])[0] if match else ""
