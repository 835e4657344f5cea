"""Columns of tables that say when."""

import re

from lossary.results.importers.grids import Grid, is_missing, plain

__all__ = ["are_dates"]

_DATE_HEADER = re.compile(
    r"((start|end|finish|creat|updat|modifi)\w*[\s_]*)?(dates?|datetimes?|times?(tamp)?|at|on)|day|week|month|when|created|"
    r"datum|zeit|tag|heure|fecha|hora|data|дата|время|日期|时间|日付|日時",
    re.IGNORECASE,
)
_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_DATE = re.compile(
    r"\d{4}[-/.]\d{1,2}([-/.]\d{1,2})?([T ,].*)?|\d{1,2}[-/.]\d{1,2}[-/.](\d{4}|\d{2})([ ,].*)?|\d{1,2}:\d\d(:\d\d.*)?"
    rf"|{_MONTH} \d{{1,2}}\b.*|\d{{1,2}}\.? {_MONTH}( .*)?|{_MONTH} \d{{4}}",
    re.IGNORECASE,
)


def are_dates(grid: Grid, at: int) -> bool:
    """Whether a column says when: its rows are no datasets and no runs by that."""
    values = [value for row in grid.rows[1:] if not is_missing(value := plain(row[at]))]
    dates = sum(_DATE.fullmatch(value) is not None for value in values)
    # `data` and `tag` are words for a date in one language only.
    named = _DATE_HEADER.fullmatch(plain(grid.rows[0][at])) is not None
    return bool(values) and dates * (4 if named else 1) >= len(values)
