"""What the dashboard serves: studies by their addresses, and what was computed of them, within bounds of memory."""

import re
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from lossary.dashboard.cache import Cache
from lossary.dashboard.snapshots import Snapshot, WatchedStudy
from lossary.errors import LossaryError, ScoreError
from lossary.files import digest_bytes
from lossary.findings.engine import Checked, check
from lossary.findings.folder import subject_of, with_base
from lossary.reports.html.links import Ids
from lossary.reports.html.views.curves import CurvesView, curves_view
from lossary.tables.comparison import Comparison, Side, compare, compare_imported
from lossary.tables.examples import Gap, Pair, open_gap
from lossary.tables.load import OpenTable
from lossary.tables.model import Table
from lossary.tables.texts import Texts, open_texts

__all__ = ["Rendered", "Site"]

# Bytes of rendered pages, and of paired examples: a page of a large table takes some megabytes, two million pairs 64.
_PAGES, _GAPS = 48_000_000, 96_000_000
_FEW = 32

T = TypeVar("T")


@dataclass(frozen=True)
class Rendered:
    """A page as bytes, with the digest that a browser asks again by."""

    body: bytes
    etag: str

    @classmethod
    def of(cls, text: str) -> "Rendered":
        body = text.encode()
        return cls(body, f'"{digest_bytes(body).rpartition(":")[2]}"')


class Site:
    """All studies that are served. Results are kept by the version of their snapshot, never for another one."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.studies = {slug: WatchedStudy(path, on_newer=self._prepare) for slug, path in _slugs(paths).items()}
        self.pages: Cache[Rendered] = Cache(_PAGES, lambda page: len(page.body))
        self._gaps: Cache[Gap] = Cache(_GAPS, lambda gap: gap.deltas.nbytes * 4)
        self._bases: Cache[tuple[OpenTable, Checked]] = Cache(4)
        self._comparisons: Cache[Comparison] = Cache(_FEW)
        self._texts: Cache[Texts] = Cache(4)
        self._curves: Cache[CurvesView] = Cache(4)

    def _prepare(self, snapshot: Snapshot) -> None:
        """Begins with the curves, which take longest, before anybody asks for them."""

        def curves() -> None:
            # Scores that are replaced meanwhile bring a newer snapshot, and whoever asks is told of any other error.
            with suppress(LossaryError, OSError):
                self.curves(snapshot)

        if snapshot.opened is not None and snapshot.has_curves:
            threading.Thread(target=curves, name="curves", daemon=True).start()

    def gap(self, snapshot: Snapshot, pair: Pair) -> Gap:
        """The gap between two runs of a study that was made here."""
        study, folder = snapshot.study, snapshot.folder
        assert study is not None
        assert folder is not None
        make = _steady([snapshot], lambda: open_gap(study, folder, pair))
        return self._gaps.get((snapshot.path, snapshot.version, pair), make)

    def texts(self, snapshot: Snapshot) -> Texts:
        """The frozen validation set of a study. Raises ShardError where it is not there."""
        folder = snapshot.folder
        assert folder is not None
        return self._texts.get((snapshot.path, snapshot.version), lambda: open_texts(folder))

    def curves(self, snapshot: Snapshot) -> CurvesView:
        """The curves of a study's runs, or of an import, decimated."""
        opened = snapshot.opened
        assert opened is not None
        make = _steady([snapshot], lambda: curves_view(opened, self.ids(opened.table)))
        return self._curves.get((snapshot.path, snapshot.version), make)

    def ids(self, table: Table) -> Ids:
        """Ids of places in pages on a table."""
        return Ids([run.name for run in table.runs], [row.name for row in table.datasets])

    def with_base(self, snapshot: Snapshot, base: str) -> tuple[OpenTable, Checked]:
        """Table and findings with differences to another run than the one that the study is shown with."""
        opened = snapshot.opened
        assert opened is not None

        def make() -> tuple[OpenTable, Checked]:
            bare = opened._replace(table=replace(opened.table, base=None, deltas=[]))
            based = with_base(bare, base=base)
            ignore = opened.study.check.ignore if opened.study is not None else {}
            return based, check(subject_of(based, where=str(snapshot.path)), ignore=ignore)

        return self._bases.get((snapshot.path, snapshot.version, base), _steady([snapshot], make))

    def comparison(self, first: tuple[Snapshot, str], second: tuple[Snapshot, str]) -> Comparison:
        """Two runs, of one study or of two."""
        key = tuple((snapshot.path, snapshot.version, run) for snapshot, run in (first, second))
        return self._comparisons.get(key, _steady([first[0], second[0]], lambda: _compare(first, second)))


def _steady(snapshots: Sequence[Snapshot], make: Callable[[], T]) -> Callable[[], T]:
    """What reads scores once more; a ScoreError if they are no longer those of the snapshots when it has."""

    def made() -> T:
        value = make()
        for snapshot in snapshots:
            if snapshot.has_old_scores:
                raise ScoreError("the scores were replaced while they were read", where=str(snapshot.path))
        return value

    return made


def _compare(first: tuple[Snapshot, str], second: tuple[Snapshot, str]) -> Comparison:
    opened = [snapshot.opened for snapshot, _ in (first, second)]
    assert opened[0] is not None
    assert opened[1] is not None
    if opened[0].study is None or opened[1].study is None:
        return compare_imported(opened[0].table, opened[0].folder.root, first[1], second[1])
    sides = [
        Side(study=table.study, folder=table.folder, run=run)
        for table, run in ((opened[0], first[1]), (opened[1], second[1]))
        if table.study is not None
    ]
    return compare(sides[0], sides[1], tables=(opened[0].table, opened[1].table))


def _slugs(paths: Sequence[Path]) -> dict[str, Path]:
    """A short name for each study, made from its folder's; a number is added to what is taken."""
    found: dict[str, Path] = {}
    for path in paths:
        folder = path.resolve() if path.is_dir() else path.resolve().parent
        name = re.sub(r"[^a-z0-9]+", "-", folder.name.lower()).strip("-") or "study"
        slug, number = name, 1
        while slug in found:
            number += 1
            slug = f"{name}-{number}"
        found[slug] = path
    return found
