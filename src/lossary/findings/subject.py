"""What rules look at: a table, and where the study was made here, its datasets, recipes and steps."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lossary.data.batches import open_spans
from lossary.data.freeze import within
from lossary.data.manifests import SCHEMA, read_manifest
from lossary.data.parts import is_earlier, present_validation, read_validation_manifest
from lossary.data.shards import PreparedDataset, open_dataset
from lossary.data.spans import StoredSpans
from lossary.data.validation import held_out_hashes
from lossary.files import read_json
from lossary.folder import StudyFolder
from lossary.objectives import objective_of
from lossary.results.importers.model import metric_name
from lossary.results.records import read_steps
from lossary.statistics.estimates import Estimate
from lossary.study import Recipe, Study
from lossary.tables.begun import Begun, begun_with
from lossary.tables.byte_counts import ByteCounts, byte_counts
from lossary.tables.comparability import drawn_examples, realised_shares
from lossary.tables.history import Evaluation, Rise, evaluations, rises
from lossary.tables.imported import imported_curves
from lossary.tables.model import Cell, Metric, Table, measure_of
from lossary.tables.totals import best_in_total, estimate_of

__all__ = ["LEAST_RISE", "DatasetFacts", "Subject", "TrainingCurve", "subject_of_study", "subject_of_table"]

# Hashes of so many documents fit into memory with room to spare.
_MOST_DOCUMENTS = 20_000_000
# Nats that a loss rises by before it is looked at.
LEAST_RISE = 0.03


@dataclass(frozen=True, kw_only=True)
class DatasetFacts:
    """Counts of one dataset; None where nobody counted."""

    documents: int
    tokens: int
    unknown_tokens: int
    pairs: int | None  # documents with two fields, if the dataset has such
    identical_pairs: int
    duplicates: int | None = None  # documents that repeat another one's normalised text
    overlap: int | None = None  # training documents whose normalised text is in the validation set


class LabelCounts(NamedTuple):
    """Order labels of the validation examples of a dataset."""

    pairs: int
    swapped: int


class TrainingCurve(NamedTuple):
    """Losses of one run and dataset by step, and what they are called. step, loss: (N,)."""

    step: NDArray[np.float64]
    loss: NDArray[np.float64]
    title: str = "training MLM loss"


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A table with whatever is known of how it came about."""

    table: Table
    where: str  # for the commands of next steps
    facts: Mapping[str, DatasetFacts] = field(default_factory=dict)
    labels: Mapping[str, LabelCounts] = field(default_factory=dict)
    recipes: Mapping[str, Recipe] = field(default_factory=dict)
    begun: Mapping[str, Begun] = field(default_factory=dict)
    steps: Mapping[str, Path] = field(default_factory=dict)
    realised: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    drawn: Mapping[str, int] = field(default_factory=dict)  # examples that a run was trained on, where known
    vocabulary_size: int | None = None
    imported_curves: Path | None = None
    evaluations: Sequence[Evaluation] = ()  # of every step that runs of a study were scored at
    rises: Sequence[Rise] = ()  # of datasets since their lowest step
    bytes: Sequence[ByteCounts] = ()  # of targets, held against the frozen text
    margins: Mapping[Metric, float] = field(default_factory=dict)  # within which runs are to be equal to the base

    def command(self, verb: str, *names: str, more: str = "") -> str:
        """A command about this study, as a shell takes it: folders, and names of imported runs, may hold spaces."""
        return shlex.join(["lossary", verb, *names, self.where, *more.split()])

    def cells(self, metric: Metric) -> list[Cell]:
        """The cells of a metric that have a value."""
        return self._cells.get(metric, [])

    @cached_property
    def _cells(self) -> dict[str, list[Cell]]:
        found: dict[str, list[Cell]] = {}
        for cell in self.table.cells:
            if cell.value is not None:
                found.setdefault(cell.metric, []).append(cell)
        return found

    @cached_property
    def lowest(self) -> dict[str, tuple[float, int]]:
        """By dataset: the lowest loss of all runs, and how many have one."""
        found: dict[str, tuple[float, int]] = {}
        for cell in self.cells(self.main):
            value, count = found.get(cell.dataset, (float("inf"), 0))
            found[cell.dataset] = (min(value, cell.value or 0.0), count + 1)
        return found

    def estimate(self, run: str, dataset: str, metric: Metric) -> Estimate:
        """The estimate behind a cell."""
        return estimate_of(self.table.cell(run, dataset, metric))

    def floor(self, cell: Cell) -> float | None:
        """Chance of an SOP loss: the label entropy, ln 2 if nobody counted labels; unigram entropy of an MLM loss."""
        objective = objective_of(cell.metric)
        known = cell.metric != (objective and objective.loss) or objective is None or cell.floor is not None
        return cell.floor if known or objective is None else objective.chance_nats

    @cached_property
    def best(self) -> str | None:
        """The run with the lowest loss in total, by validation share or as the page reports it."""
        return best_in_total(self.table, self.main)

    @property
    def main(self) -> Metric:
        """What runs are ranked by; of an import the loss of masked words, which has a place in all of them."""
        return "mlm_loss" if self.table.is_imported else self.table.main_loss

    def peer(self, run: str, metric: Metric | None = None) -> str:
        """The run to compare another one with: the base, or the best of those that stand in one table with it."""
        metric = metric or self.main
        if (run, metric) not in self._peers:
            self._peers[run, metric] = self._find_peer(run, metric)
        return self._peers[run, metric]

    @cached_property
    def _peers(self) -> dict[tuple[str, Metric], str]:
        """What `peer` has found: thousands of findings ask for the same."""
        return {}

    def _find_peer(self, run: str, metric: Metric) -> str:
        if self.table.base is not None and self.table.base != run:
            return self.table.base
        section = next(column.section for column in self.table.runs if column.name == run)
        others = {column.name for column in self.table.runs if column.section == section and column.name != run}
        values: dict[str, list[float]] = {}
        for cell in self.cells(metric):
            if cell.run in others:
                values.setdefault(cell.run, []).append(cell.value or 0.0)
        return min(values, key=lambda name: sum(values[name]) / len(values[name])) if values else "BASE"

    @cached_property
    def curves(self) -> dict[str, dict[str, TrainingCurve]]:
        """MLM losses of training by run and dataset, as recorded here or as imported (evaluation where no more is)."""
        if self.imported_curves is None:
            return {run: recorded for run in self.steps if (recorded := self._recorded(run))}
        found: dict[str, dict[str, TrainingCurve]] = {}
        known: dict[tuple[str, str], tuple[bool, bool]] = {}
        for curve in imported_curves(self.imported_curves.parent):
            if curve.metric not in ("mlm_loss", "clm_loss", "loss") or curve.split == "test":
                continue
            # Training before evaluation, a named objective before a loss of nobody says what.
            rank = (curve.split == "train", curve.metric != "loss")
            key = (curve.run, curve.dataset)
            if rank >= known.get(key, (False, False)):
                known[key] = rank
                title = measure_of(metric_name(curve.metric, curve.split)).title
                loss = TrainingCurve(curve.step.astype(np.float64), curve.value, title)
                found.setdefault(curve.run, {})[curve.dataset] = loss
        return found

    def _recorded(self, run: str) -> dict[str, TrainingCurve]:
        steps = read_steps(self.steps[run], ["step", "dataset", "masked", "mlm_nats"])
        masked, step = steps.column("masked").to_numpy(), steps.column("step").to_numpy()
        names = steps.column("dataset").combine_chunks()
        code = np.where(masked > 0, names.indices.to_numpy(zero_copy_only=False), -1)
        order = np.lexsort((step, code))
        nats, known = steps.column("mlm_nats").to_numpy(), names.dictionary.to_pylist()
        found = {}
        for name, index in sorted(zip(known, range(len(known)), strict=True)):
            low, high = np.searchsorted(code[order], [index, index + 1])
            rows = order[low:high]
            if len(rows):
                found[name] = TrainingCurve(step[rows].astype(np.float64), nats[rows] / masked[rows])
        return found


def subject_of_table(table: Table, where: str, curves: Path | None = None) -> Subject:
    """An imported table: nothing but its numbers is known, and its curves where there are any."""
    return Subject(table=table, where=where, imported_curves=curves)


def subject_of_study(study: Study, folder: StudyFolder, table: Table) -> Subject:
    """A study that was made here."""
    names = [row.name for row in table.datasets]
    trained = [run.name for run in table.runs if run.name in study.runs and folder.steps(run.name).is_file()]
    tokenizer = folder.tokenizer / "manifest.json"
    points = evaluations(table, folder)
    return Subject(
        table=table,
        where=str(folder.root),
        facts={name: found for name in names if (found := _facts(study, folder, name)) is not None},
        labels=_labels(study, folder),
        evaluations=points,
        rises=rises(table, folder, points, least=LEAST_RISE),
        bytes=byte_counts(table, folder),
        margins=study.check.margins,
        recipes={run: study.recipe_of(run) for run in trained},
        begun={run: begun for run in trained if (begun := begun_with(folder, run)) is not None},
        steps={run: folder.steps(run) for run in trained},
        realised={run: realised_shares(folder, run) for run in trained},
        drawn={run: sum(drawn_examples(folder, run).values()) for run in trained},
        vocabulary_size=read_json(tokenizer)["vocabulary_size"] if tokenizer.is_file() else None,
    )


def _facts(study: Study, folder: StudyFolder, name: str) -> DatasetFacts | None:
    if read_manifest(folder.dataset(name)).get("schema", 1) < SCHEMA:
        return None
    dataset = open_dataset(folder, name)
    manifest = dataset.manifest
    # Scores outlive the shards where somebody made room.
    if not manifest["shards"] or not all(path.is_file() for path in dataset.shard_paths):
        return None
    duplicates = overlap = None
    if manifest["documents"] <= _MOST_DOCUMENTS and not is_earlier(read_validation_manifest(folder)):
        hashes = np.concatenate(list(dataset.text_hashes()))
        duplicates = len(hashes) - len(np.unique(hashes))
        overlap = _overlap(study, folder, dataset)
    return DatasetFacts(
        documents=manifest["documents"],
        tokens=manifest["tokens"],
        unknown_tokens=manifest["unknown_tokens"],
        pairs=manifest["documents"] if manifest["pair"] else None,
        identical_pairs=manifest["identical_pairs"],
        duplicates=duplicates,
        overlap=overlap,
    )


def _overlap(study: Study, folder: StudyFolder, dataset: PreparedDataset) -> int:
    """Documents that training reads and whose text is also that of a validation example; counted, not assumed."""
    held_out = held_out_hashes(folder)
    if not study.runs:
        # Nothing is trained on it.
        return 0
    length = min(study.recipe_of(run).sequence_length for run in study.runs)
    spans = open_spans(folder, dataset.name, length).blocks
    count = 0
    for number, shard in enumerate(dataset.shards):
        trained = np.isin(shard.row, StoredSpans(spans.read(number)).document_rows())
        count += int(within(held_out, shard.text_hash[trained])[1].sum())
        spans.forget()
    return count


def _labels(study: Study, folder: StudyFolder) -> dict[str, LabelCounts]:
    return {
        name: LabelCounts(described["sop_pairs"], described["swapped"])
        for name, described in present_validation(study, folder)["per_dataset"].items()
        if "swapped" in described
    }
