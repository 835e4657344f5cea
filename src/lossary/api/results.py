"""What the functions give: objects that hold the numbers, print as their verb does, and show as HTML in a notebook.

    found = lossary.table("my-study")
    found.value("torch_xxl", "wiki", "mlm_loss")
    found.to_arrow("deltas")

All are views of the one table model, so that a number cannot disagree with what `lossary show` prints.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from lossary.errors import MissingPackage, UsageError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from lossary.diagnosis.model import Cause, Diagnosis, Outcome
    from lossary.findings.engine import Checked
    from lossary.findings.model import Finding, Severity
    from lossary.folder import StudyFolder
    from lossary.results.importers.model import Imported
    from lossary.study import Study
    from lossary.tables.comparison import Comparison
    from lossary.tables.equality import Decision
    from lossary.tables.mixture import Mixtures
    from lossary.tables.model import Cell, Delta, Metric, Table, Total, Weighting
    from lossary.tables.ranking import Ranking

__all__ = [
    "CheckResult",
    "ComparisonResult",
    "DiagnosisResult",
    "ImportResult",
    "MixtureResult",
    "OpenStudy",
    "RankingResult",
    "ReportFiles",
    "TableResult",
]

_WIDTH = 100


@dataclass(frozen=True, kw_only=True, repr=False)
class OpenStudy:
    """A checked study file and the folder that it governs; give it to any function in place of a path."""

    study: "Study"
    folder: "StudyFolder"

    @property
    def name(self) -> str:
        """The study's title."""
        return self.study.name

    @property
    def path(self) -> Path:
        """Its folder."""
        return self.folder.root

    @property
    def datasets(self) -> list[str]:
        """Names, in the order of the study file."""
        return list(self.study.datasets)

    @property
    def runs(self) -> list[str]:
        """Names, in the order of the study file."""
        return list(self.study.runs)

    def holds_out(self, texts: "Iterable[str | tuple[str, str]]") -> list[bool]:
        """Of each text, or pair, whether it is one of the validation examples' documents: not to be trained on.

        Texts are the same as they are for lossary itself: in NFKC, without regard to case and white space. ShardError
        if the study is not prepared.
        """
        from bisect import bisect_left

        from lossary.data.tokenise import normalised_hash
        from lossary.data.validation import held_out_hashes

        held = held_out_hashes(self.folder)
        found = []
        for text in texts:
            key = normalised_hash((text,) if isinstance(text, str) else text)
            at = bisect_left(held, key)
            found.append(at < len(held) and int(held[at]) == key)
        return found

    def __repr__(self) -> str:
        return f"<study {self.name!r} in {self.path}: datasets {', '.join(self.datasets)}; runs {', '.join(self.runs)}>"


class _Rows(ABC):
    """What rows of dataclasses become; subclasses say which kinds of rows they have."""

    @abstractmethod
    def _rows(self, kind: str) -> tuple[type, Sequence[Any]]:
        """The kind and its rows; an empty kind is the first one. UsageError for an unknown one."""

    def to_arrow(self, kind: str = "") -> "pa.Table":
        """Rows of one kind as an Arrow table with typed columns; an empty kind is the first one."""
        from lossary.reports.export import arrow_table

        return arrow_table(*self._rows(kind))

    def to_pandas(self, kind: str = "") -> "pd.DataFrame":
        """As `to_arrow`, as a pandas DataFrame. MissingPackage if pandas is not installed."""
        try:
            import pandas  # noqa: F401 - Arrow's own message does not say how to get it
        except ImportError:
            raise MissingPackage(
                "a DataFrame needs pandas", hint="pip install 'lossary[pandas]', or take to_arrow()."
            ) from None
        return self.to_arrow(kind).to_pandas()

    def _repr_html_(self) -> str:
        from lossary.reports.notebook import text_html

        return text_html(str(self))


class TableResult(_Rows):
    """Losses and accuracies by dataset and run, as `lossary show` prints them.

    Kinds of rows: `cells` (a dataset, a run, a metric), `totals`, `deltas` (paired differences, where a base was
    named), `datasets`, `runs`, `sequential` (differences of what `evaluate --until decided` scored).
    """

    def __init__(self, table: "Table") -> None:
        self.model = table

    @property
    def datasets(self) -> list[str]:
        """Names, in the order of the table."""
        return [row.name for row in self.model.datasets]

    @property
    def runs(self) -> list[str]:
        """Names, in the order of the table."""
        return [run.name for run in self.model.runs]

    @property
    def metrics(self) -> list["Metric"]:
        """Metrics that have a value anywhere."""
        return self.model.metrics

    @property
    def notes(self) -> list[str]:
        """What to beware of."""
        return list(self.model.notes)

    def cell(self, run: str, dataset: str, metric: "Metric") -> "Cell":
        """A number with interval, count, floor and, where there is none, the reason. UsageError for unknown names."""
        self._known(run=run, dataset=dataset)
        try:
            return self.model.cell(run, dataset, metric)
        except KeyError:
            raise _unknown("metric", metric, self.metrics) from None

    def value(self, run: str, dataset: str | None, metric: "Metric") -> float | None:
        """The number alone: nats a target, or a fraction from 0 to 1; None where there is none (`cell` says why).

        `dataset` None is the total by validation share.
        """
        if dataset is None:
            return self.total(run, metric).value
        return self.cell(run, dataset, metric).value

    def total(self, run: str, metric: "Metric", weighting: "Weighting" = "validation_share") -> "Total":
        """A number over all datasets under a weighting. UsageError if the table has none of that name."""
        self._known(run=run)
        found = self.model.find_total(run, metric, weighting)
        if found is None:
            names = [f"{total.metric}:{total.weighting}" for total in self.model.totals if total.run == run]
            raise _unknown("total", f"{metric}:{weighting}", names)
        return found

    def delta(self, run: str, dataset: str | None, metric: "Metric") -> "Delta":
        """The paired difference of a run to the base; `dataset` None is the total. UsageError if there is none."""
        self._known(run=run, dataset=dataset)
        found = self.model.delta(run, dataset, metric)
        if found is None:
            hint = "Name a base: table(study, base=RUN)." if self.model.base is None else f"Base: {self.model.base}."
            raise UsageError(f"{run!r} has no difference of {metric!r} here", where="delta", hint=hint)
        return found

    def to_dict(self) -> dict[str, Any]:
        """All of it, as `lossary export --format json` writes it."""
        from lossary.reports.export import json_value

        return json_value(self.model)

    def to_markdown(self) -> str:
        """A Markdown table, with the study's links."""
        from lossary.reports.markdown import markdown_table

        return markdown_table(self.model, self.runs)

    def _known(self, *, run: str, dataset: str | None = None) -> None:
        if run not in self.runs:
            raise _unknown("run", run, self.runs)
        if dataset is not None and dataset not in self.datasets:
            raise _unknown("dataset", dataset, self.datasets)

    def _rows(self, kind: str) -> tuple[type, Sequence[Any]]:
        from lossary.tables.model import Cell, DatasetRow, Delta, RunColumn, SequentialAnswer, Total

        table = self.model
        kinds: dict[str, tuple[type, Sequence[Any]]] = {
            "cells": (Cell, table.cells),
            "totals": (Total, table.totals),
            "deltas": (Delta, table.deltas),
            "datasets": (DatasetRow, table.datasets),
            "runs": (RunColumn, table.runs),
            "sequential": (SequentialAnswer, table.sequential),
        }
        return _of_kind(kinds, kind)

    def text(self, *, metrics: "Sequence[Metric] | None" = None, width: int = 100) -> str:
        """What `lossary show --metrics` prints, `width` columns wide. UsageError for a metric without a value."""
        from lossary.reports.terminal import terminal_text

        for metric in metrics or ():
            if metric not in self.metrics:
                raise _unknown("metric", metric, self.metrics)
        return terminal_text(self.model, metrics=metrics, width=width)

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return f"<table of {self.model.study!r}: {len(self.datasets)} datasets, runs {', '.join(self.runs)}>"

    def _repr_html_(self) -> str:
        from lossary.reports.notebook import table_html

        return table_html(self.model)


class ImportResult(TableResult):
    """The table of a folder of imports, and how the files were understood (`reading`, as `lossary import` prints it).

    Of a dry run there is no table yet: asking for it raises UsageError.
    """

    def __init__(self, *, folder: Path, imports: "tuple[Imported, ...]", is_written: bool) -> None:
        self.folder = folder
        self.imports = imports
        self.is_written = is_written

    @property
    def model(self) -> "Table":  # type: ignore[override]
        """The table of the folder."""
        from lossary.tables.imported import imported_table

        if not self.is_written:
            raise UsageError("a dry run makes no table", where="import_files", hint="Leave dry_run out.")
        return imported_table(self.folder)

    @property
    def reading(self) -> str:
        """What each name was taken for, what was left out and why, and counts."""
        from lossary.reports.imports import import_text

        return "".join(map(import_text, self.imports))

    @property
    def map_toml(self) -> str:
        """How names were understood, to edit and give back as a map."""
        from lossary.results.importers.maps import map_text

        return map_text(self.imports)

    def __str__(self) -> str:
        return self.reading + (super().__str__() if self.is_written else "")

    def __repr__(self) -> str:
        return super().__repr__() if self.is_written else f"<dry run of an import: {len(self.imports)} files>"

    def _repr_html_(self) -> str:
        from lossary.reports.notebook import text_html

        return text_html(self.reading) + (super()._repr_html_() if self.is_written else "")


class ComparisonResult(_Rows):
    """Two runs: whether their losses may be subtracted, which settings differ, and the paired differences.

    Kinds of rows: `deltas`, `decisions` (equal within a margin or not, where one was given), `checks` (what has to be
    the same), `settings` (those that differ).
    """

    def __init__(self, comparison: "Comparison") -> None:
        self.model = comparison

    @property
    def is_comparable(self) -> bool:
        """Whether nothing forbids to subtract their losses."""
        return not self.model.checks.refused

    @property
    def deltas(self) -> list["Delta"]:
        """The second run's differences to the first, by dataset and metric; empty where they would mislead."""
        return list(self.model.table.deltas) if self.model.table is not None else []

    @property
    def decisions(self) -> list["Decision"]:
        """Equal, differs or undecided, by dataset and metric; empty where no margin was given or nothing compares."""
        return list(self.model.decisions)

    @property
    def is_equal(self) -> bool:
        """Whether they were shown to be equal within the margin, in every comparison that was asked for."""
        from lossary.reports.equality import all_equal

        return all_equal(self.model.decisions)

    def to_dict(self) -> dict[str, Any]:
        """All of it, as `lossary compare --format json` prints it."""
        from lossary.reports.comparison import comparison_value

        return comparison_value(self.model)

    def _rows(self, kind: str) -> tuple[type, Sequence[Any]]:
        from lossary.tables.comparability import Check, Setting
        from lossary.tables.equality import Decision
        from lossary.tables.model import Delta

        kinds: dict[str, tuple[type, Sequence[Any]]] = {
            "deltas": (Delta, self.deltas),
            "decisions": (Decision, self.decisions),
            "checks": (Check, self.model.checks.checks),
            "settings": (Setting, self.model.settings),
        }
        return _of_kind(kinds, kind)

    def __str__(self) -> str:
        from lossary.reports.comparison import print_comparison

        return _printed(partial(print_comparison, self.model))

    def __repr__(self) -> str:
        verdict = "comparable" if self.is_comparable else "not comparable"
        return f"<{self.model.second} against {self.model.first}: {verdict}>"


class RankingResult(_Rows):
    """Runs or checkpoints by a total: which may be best. Kinds of rows: `candidates`, `configurations`."""

    def __init__(self, ranking: "Ranking") -> None:
        self.model = ranking

    @property
    def may_be_best(self) -> list[str]:
        """The candidates that no paired test shows to be worse than the best one seen, as `run@step`."""
        return [candidate.name for candidate in self.model.candidates if candidate.may_be_best]

    def to_dict(self) -> dict[str, Any]:
        """All of it, as `lossary rank --format json` prints it."""
        from lossary.reports.ranking import ranking_value

        return ranking_value(self.model)

    def _rows(self, kind: str) -> tuple[type, Sequence[Any]]:
        from lossary.tables.ranking import Candidate, Configuration

        kinds: dict[str, tuple[type, Sequence[Any]]] = {
            "candidates": (Candidate, self.model.candidates),
            "configurations": (Configuration, self.model.configurations),
        }
        return _of_kind(kinds, kind)

    def __str__(self) -> str:
        from lossary.reports.ranking import print_ranking

        return _printed(partial(print_ranking, self.model))

    def __repr__(self) -> str:
        return f"<ranking by {self.model.criterion}: {len(self.model.candidates)} candidates>"


class MixtureResult(_Rows):
    """What shares do to losses. Kinds of rows: `effects`, `fits`, `suggestions`."""

    def __init__(self, mixtures: "Mixtures") -> None:
        self.model = mixtures

    def to_dict(self) -> dict[str, Any]:
        """All of it, as `lossary mixture --format json` prints it."""
        from lossary.reports.mixture import mixture_value

        return mixture_value(self.model)

    def _rows(self, kind: str) -> tuple[type, Sequence[Any]]:
        from lossary.tables.mixture import FittedLoss, ShareEffect, Suggestion

        kinds: dict[str, tuple[type, Sequence[Any]]] = {
            "effects": (ShareEffect, self.model.effects),
            "fits": (FittedLoss, self.model.fits),
            "suggestions": (Suggestion, self.model.suggestions),
        }
        return _of_kind(kinds, kind)

    def __str__(self) -> str:
        from lossary.reports.mixture import print_mixture

        return _printed(partial(print_mixture, self.model))

    def __repr__(self) -> str:
        return f"<mixtures of {len(self.model.runs)} runs, {self.model.metric}>"


class CheckResult(_Rows, Sequence["Finding"]):
    """Findings, worst first; a sequence of them. The only kind of rows is `findings`."""

    def __init__(self, checked: "Checked") -> None:
        self.model = checked

    def fails(self, level: "Severity" = "warning") -> bool:
        """Whether there is a finding as bad as `level` that nobody asked to ignore. UsageError for unknown levels."""
        from lossary.findings.model import SEVERITIES

        if level not in SEVERITIES[:3]:
            raise _unknown("severity", str(level), SEVERITIES[:3])
        return self.model.fails(level)

    def to_dict(self) -> dict[str, Any]:
        """All of it, as `lossary check --format json` prints it."""
        from json import loads

        from lossary.reports.findings import FORMATS

        value: dict[str, Any] = loads(FORMATS["json"](self.model))
        return value

    def _rows(self, kind: str) -> tuple[type, Sequence[Any]]:
        from lossary.findings.model import Finding

        return _of_kind({"findings": (Finding, self.model.findings)}, kind)

    def __len__(self) -> int:
        return len(self.model.findings)

    @overload
    def __getitem__(self, index: int) -> "Finding": ...
    @overload
    def __getitem__(self, index: slice) -> "list[Finding]": ...
    def __getitem__(self, index: int | slice) -> "Finding | list[Finding]":
        return self.model.findings[index]

    def __iter__(self) -> "Iterator[Finding]":
        return iter(self.model.findings)

    def __str__(self) -> str:
        from lossary.reports.findings import findings_text

        return findings_text(self.model)

    def __repr__(self) -> str:
        from lossary.reports.findings import summary

        return f"<findings: {summary(self.model)}>"

    def _repr_html_(self) -> str:
        from lossary.reports.notebook import findings_html

        return findings_html(self.model)


class DiagnosisResult:
    """Causes that an experiment confirmed, and where something differs without a known cause."""

    def __init__(self, diagnosis: "Diagnosis") -> None:
        self.model = diagnosis

    @property
    def causes(self) -> "list[Cause]":
        """Named and confirmed, in the order of the stages."""
        return list(self.model.causes)

    @property
    def open(self) -> "list[Outcome]":
        """Stages that differ, but nobody knows why."""
        return list(self.model.open)

    def to_dict(self) -> dict[str, Any]:
        """All of it, as `lossary diagnose --format json` prints it."""
        from lossary.reports.diagnosis import diagnosis_value

        return diagnosis_value(self.model)

    def __str__(self) -> str:
        from lossary.reports.diagnosis import diagnosis_text

        return diagnosis_text(self.model)

    def __repr__(self) -> str:
        names = ", ".join(cause.name for cause in self.causes) or "no cause"
        return f"<diagnosis of {' against '.join(self.model.sides)}: {names}>"

    def _repr_html_(self) -> str:
        from lossary.reports.notebook import text_html

        return text_html(str(self))


@dataclass(frozen=True, kw_only=True)
class ReportFiles:
    """A report that was written: the page to look at, and what a better one would need."""

    page: Path
    note: str | None = None

    def _repr_html_(self) -> str:
        from lossary.reports.notebook import link_html

        return link_html(self.page, self.note)


def _of_kind(kinds: dict[str, tuple[type, Sequence[Any]]], kind: str) -> tuple[type, Sequence[Any]]:
    try:
        return kinds[kind or next(iter(kinds))]
    except KeyError:
        raise _unknown("kind of rows", kind, list(kinds)) from None


def _unknown(what: str, name: str, known: Sequence[str]) -> UsageError:
    return UsageError(f"no {what} is called {name!r}", hint=f"Known: {', '.join(known)}.")


def _printed(show: Any) -> str:
    from rich.console import Console

    console = Console(file=StringIO(), width=_WIDTH, highlight=False, color_system=None)
    show(console)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text
