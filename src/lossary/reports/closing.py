"""The end of `lossary run`: the page and its table, kept as long as nothing changes that they are made from.

    page = kept_page(study, folder) or make_page(study, folder)

What a page takes (charts, statistics, DuckDB) is imported by who makes one; `load_ahead` does so while others work.
"""

from contextlib import suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from lossary.errors import DataError
from lossary.files import digest_file, digest_json, read_json, write_json
from lossary.folder import StudyFolder
from lossary.results.inputs import identities
from lossary.study import Study

__all__ = ["Page", "kept_page", "load_ahead", "make_page"]


class Page(NamedTuple):
    """A report, and its table for the terminal; `note` says why there is no report.html."""

    path: Path
    terminal: str
    note: str = ""
    is_kept: bool = False


def kept_page(study: Study, folder: StudyFolder) -> Page | None:
    """The report that stands, if it is what `make_page` would write again."""
    try:
        kept = read_json(folder.report_record)
        is_same = kept["of"] == _origin(study, folder)
        # Somebody looks at them, and believes what they say.
        if is_same and all(digest_file(folder.report / name) == digest for name, digest in kept["files"].items()):
            return Page(folder.report / kept["page"], kept["terminal"], kept["note"], is_kept=True)
    except (DataError, TypeError, AttributeError, OSError):
        # It was written by `lossary report`, or by nobody, or is damaged: another one is made.
        pass
    return None


def make_page(study: Study, folder: StudyFolder) -> Page:
    """Writes the report of all runs that are scored."""
    from lossary.findings.folder import check_table
    from lossary.reports.findings import summary
    from lossary.reports.page import write_report
    from lossary.reports.terminal import terminal_text
    from lossary.tables.build import paired_table
    from lossary.tables.load import OpenTable

    origin = _origin(study, folder)
    opened = OpenTable(paired_table(study, folder), study, folder)
    checked = check_table(opened, where=str(folder.root))
    written = write_report(opened, checked)
    terminal = f"{terminal_text(replace(opened.table, base=None, deltas=[]))}\n{summary(checked)}"
    page = Page(written.page, terminal, written.note)
    if origin == _origin(study, folder):
        files = {path.name: digest_file(path) for path in folder.report.glob("[!.]*") if path.is_file()}
        record = {"of": origin, "files": files, "page": written.page.name, "terminal": terminal, "note": written.note}
        write_json(folder.report_record, {"schema": 1, **record})
    return page


def load_ahead() -> None:
    """Imports what a page takes. Who makes one will say what is missing."""
    with suppress(Exception):
        import lossary.findings.folder
        import lossary.reports.page
        import lossary.reports.terminal
        import lossary.tables.load  # noqa: F401

        if find_spec("altair") is not None:
            import altair
            import vl_convert  # noqa: F401

            # Its module has little more than names until one is asked for.
            altair.Chart  # noqa: B018


def _origin(study: Study, folder: StudyFolder) -> str:
    """The digest of all that a page is made from."""
    from lossary.version import __version__

    files = sorted((file.name, file.time_ns, file.size) for file in identities(folder.root))
    can_draw = [find_spec(package) is not None for package in ("altair", "jinja2", "vl_convert")]
    return digest_json([__version__, can_draw, study.model_dump(mode="json"), files])
