"""Examples: how the losses of a dataset are spread, and those that make the gap, with text, masks and predictions."""

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import exp
from typing import NamedTuple

import numpy as np

from lossary.data.examples import Examples
from lossary.data.frozen_texts import FrozenTexts, find_texts
from lossary.data.parts import find_examples
from lossary.data.shards import MANIFEST
from lossary.data.tokenizer import StudyTokenizer, open_tokenizer
from lossary.folder import StudyFolder
from lossary.objectives import OBJECTIVES, Objective, objective_of
from lossary.reports.html.charts.bars import Spread, histogram_spec
from lossary.reports.html.charts.theme import ChartView, DataTable
from lossary.reports.html.limits import largest_datasets, leading_runs
from lossary.reports.html.links import Ids
from lossary.reports.html.views.losses import RunHead
from lossary.reports.text import number, plain
from lossary.results.queries import BIN_NATS, BINS, dearest, loss_spread, widest_gaps
from lossary.results.scorefile import ScoreFile, ScoreRow, Unit
from lossary.tables.load import OpenTable
from lossary.tables.model import Table
from lossary.tables.texts import stretches, written

__all__ = ["DatasetExamples", "ExampleView", "ExamplesView", "Piece", "example_views", "examples_view", "gap_pair"]

_MOST_DATASETS, _MOST_RUNS = 12, 6
_THREADS = 2
_WORST = 5
_POSITIONS = 6
_BARS = 36


class Piece(NamedTuple):
    """A stretch of an example's text. kind: text, mask or cut (between the two segments)."""

    kind: str
    text: str
    shown: str = ""  # what the model saw in a mask's place: [MASK], another piece, or itself


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """A run's piece at a position, what it cost, and whether it is the right one."""

    text: str
    nats: str
    right: bool


@dataclass(frozen=True, kw_only=True)
class RunScore:
    """What a run got on an example."""

    head: RunHead
    loss: str
    correct: str
    order: str


@dataclass(frozen=True, kw_only=True)
class ExampleView:
    """One example; `positions` are the masks that cost most: place, right piece, what was shown, predictions by run."""

    name: str
    gap: str
    order: str
    pieces: list[Piece]
    folded: list[Piece]
    scores: list[RunScore]
    positions: list[tuple[int, str, str, list[Prediction | None]]]
    more_positions: int


@dataclass(frozen=True, kw_only=True)
class DatasetExamples:
    """The spread and the worst examples of one dataset."""

    id: str
    dataset: str
    chart: ChartView | None
    examples: list[ExampleView]


@dataclass(frozen=True, kw_only=True)
class ExamplesView:
    """The section; `ranked` says what made an example one of the worst."""

    ranked: str
    heads: list[RunHead]
    datasets: list[DatasetExamples]
    note: str
    why_none: str = ""


def gap_pair(table: Table) -> tuple[str, str] | None:
    """The base, and the run that is worst against it in total; None if there is no base."""
    if table.base is None:
        return None
    values = {}
    for run in table.runs:
        total = table.find_total(run.name, table.main_loss, "validation_share")
        if run.name != table.base and total is not None and total.value is not None:
            values[run.name] = total.value
    return (table.base, max(values, key=lambda name: values[name])) if values else None


def examples_view(opened: OpenTable, ids: Ids, heads: Sequence[RunHead]) -> ExamplesView:
    """The section of a study; imported tables have no examples."""
    table, study, folder = opened
    if study is None:
        return ExamplesView(
            ranked="", heads=[], datasets=[], note="", why_none="Printed numbers come without examples."
        )
    pair = gap_pair(table)
    runs, run_note = leading_runs(table, _MOST_RUNS)
    names = [run.name for run in runs]
    if pair is not None and pair[1] not in names:
        names[-1 if names[-1] != pair[0] else -2] = pair[1]
        run_note = f"{len(names)} of {len(table.runs)} runs: the first of the table, the baseline and the worst."
    part = largest_datasets(table, _MOST_DATASETS)
    objective = main_objective(table)
    files = {
        run.name: ScoreFile(folder.scores(run.name, run.step))
        for run in table.runs
        if run.name in names and run.step is not None
    }
    worst = (
        widest_gaps(files[pair[0]], files[pair[1]], objective.name, _WORST, by=_paired_by(table))
        if pair
        else dearest(files[names[0]], objective.name, _WORST)
    )
    shown = {row.name: worst.get(row.name, []) for row in part.datasets}
    by_name = {run.name: head for run, head in zip(table.runs, heads, strict=True)}
    views = example_views(folder, table, files, shown, pair, by_name)
    spread = loss_spread(files, objective.name)
    all_runs = [run.name for run in table.runs]
    return ExamplesView(
        ranked=_ranked(pair, names[0], objective),
        heads=[by_name[name] for name in names],
        datasets=[
            DatasetExamples(
                id=ids.examples(name),
                dataset=plain(name),
                chart=_histogram(ids.examples(name), name, objective, spread, all_runs),
                examples=views.get(name, []),
            )
            for name in shown
        ],
        note=" ".join(text for text in (part.note, run_note) if text),
    )


def main_objective(table: Table) -> Objective:
    """That of the loss that runs are ranked by."""
    return objective_of(table.main_loss) or OBJECTIVES["mlm"]


def _paired_by(table: Table) -> Unit:
    return "bytes" if table.is_across_vocabularies else "targets"


def _ranked(pair: tuple[str, str] | None, run: str, objective: Objective) -> str:
    if pair is None:
        return f"those with the highest {objective.title} loss of {plain(run)}"
    return f"those on which {plain(pair[1])} loses most nats more than {plain(pair[0])}"


def _histogram(
    prefix: str,
    dataset: str,
    objective: Objective,
    spread: dict[tuple[str, str], dict[int, int]],
    all_runs: Sequence[str],
) -> ChartView | None:
    fine = {run: np.zeros(BINS, np.int64) for run, of in spread if of == dataset}
    for run, counts in fine.items():
        places = spread[run, dataset]
        counts[list(places)] = list(places.values())
    total = sum(fine.values(), np.zeros(BINS, np.int64))
    if not total.sum():
        return None
    ends = np.searchsorted(np.cumsum(total) / total.sum(), [0.001, 0.995])
    width = max(1, int(np.ceil((ends[1] - ends[0] + 1) / _BARS)))
    start = int(ends[0])
    edges = [round((start + width * index) * BIN_NATS, 4) for index in range(_BARS + 1)]
    spreads = [Spread(plain(run), _coarse(counts, start, width)) for run, counts in fine.items()]
    below = [f"{share:.0%}" for share in (0.25, 0.5, 0.75)]
    return ChartView(
        id=f"{prefix}-spread",
        title=f"Losses of examples, {plain(dataset)}",
        about=f"How the {objective.title} losses of the examples of {plain(dataset)} are spread, by run",
        spec=histogram_spec(edges, spreads, [plain(run) for run in all_runs]),
        data=DataTable(
            columns=["run", *(f"{share} of examples below" for share in below), "examples"],
            rows=[[plain(run), *_quartiles(counts), f"{int(counts.sum()):,}"] for run, counts in fine.items()],
        ),
    )


def _coarse(counts: "np.ndarray[tuple[int], np.dtype[np.int64]]", start: int, width: int) -> list[int]:
    """Fine bins put together; what lies outside goes to the first and the last."""
    place = np.clip((np.arange(BINS) - start) // width, 0, _BARS - 1)
    return [int(count) for count in np.bincount(place, weights=counts, minlength=_BARS)]


def _quartiles(counts: "np.ndarray[tuple[int], np.dtype[np.int64]]") -> list[str]:
    """Upper edges of the bins that hold the quartiles."""
    places = np.searchsorted(np.cumsum(counts) / counts.sum(), [0.25, 0.5, 0.75])
    return [f"{(place + 1) * BIN_NATS:.2f}" for place in places]


def example_views(
    folder: StudyFolder,
    table: Table,
    files: Mapping[str, ScoreFile],
    wanted: dict[str, list[int]],
    pair: tuple[str, str] | None,
    heads: dict[str, RunHead],
) -> dict[str, list[ExampleView]]:
    """By dataset: the wanted examples in their order, with what the runs made of them."""
    keys = {(dataset, example) for dataset, examples in wanted.items() for example in examples}
    with ThreadPoolExecutor(_THREADS) as pool:
        found = dict(zip(files, pool.map(lambda file: file.rows(keys), files.values()), strict=True))
    texts = _texts(folder, keys)
    tokenizer = open_tokenizer(folder) if texts else None
    objective = main_objective(table).name
    own = {run.name for run in table.runs if run.vocabulary_digest in (None, table.tokenizer_digest)}
    # Whoever was scored in other pieces was asked for words: they are shown as they were written.
    kept = _kept(folder, texts) if any(run not in own for run in files) else {}
    views: dict[str, list[ExampleView]] = {dataset: [] for dataset in wanted}
    for key in ((dataset, example) for dataset, examples in wanted.items() for example in examples):
        scores = {run: rows[key] for run, rows in found.items() if key in rows}
        scores = {run: of for run, of in scores.items() if objective in of and of[objective].nats is not None}
        if scores:
            told = Told(
                scores=scores,
                objective=objective,
                own=own,
                text=texts.get(key),
                kept=kept.get(key),
                tokenizer=tokenizer,
            )
            views[key[0]].append(_example(key[1], told, pair, heads))
    return views


@dataclass(frozen=True, kw_only=True)
class Told:
    """All that is known of one example."""

    scores: dict[str, dict[str, ScoreRow]]  # by run and objective
    objective: str
    own: set[str]  # runs that were scored in pieces of the study's own vocabulary
    text: Examples | None
    kept: FrozenTexts | None  # as it was written, where a run was scored in other pieces
    tokenizer: StudyTokenizer | None

    def nats(self, run: str) -> float:
        """What an example cost a run."""
        return self.scores[run][self.objective].nats or 0.0

    def by_target(self, run: str, count: int) -> ScoreRow | None:
        """The row of a run whose lists are of the frozen example's own masked positions; None without."""
        row = self.scores[run][self.objective]
        fits = OBJECTIVES[self.objective].is_masked and run in self.own and row.targets == count
        return row if fits and row.target_nats is not None and row.predicted is not None else None

    @property
    def order(self) -> str:
        """Of its two segments."""
        labels = [row.label for rows in self.scores.values() for row in rows.values() if row.label is not None]
        frozen = -1 if self.text is None else int(self.text.sop_labels[0])
        label = next(iter(labels), frozen)
        return {-1: "one segment: no order to tell", 0: "in order", 1: "swapped"}[label]


def _texts(folder: StudyFolder, keys: set[tuple[str, int]]) -> dict[tuple[str, int], Examples]:
    """The frozen examples themselves, one record each; none where the validation set lies elsewhere."""
    if not (folder.tokenizer / MANIFEST).is_file():
        return {}
    texts: dict[tuple[str, int], Examples] = {}
    for name in {dataset for dataset, _ in keys}:
        if (folder.validation_part(name) / MANIFEST).is_file():
            found = find_examples(folder, name, {example for dataset, example in keys if dataset == name})
            texts |= {(name, int(found.example[row])): found.take(np.array([row])) for row in range(len(found))}
    return texts


def _kept(folder: StudyFolder, keys: Collection[tuple[str, int]]) -> dict[tuple[str, int], FrozenTexts]:
    return {
        (name, number): text
        for name in {dataset for dataset, _ in keys}
        for number, text in find_texts(folder, name, {example for dataset, example in keys if dataset == name}).items()
    }


def _example(example: int, told: Told, pair: tuple[str, str] | None, heads: dict[str, RunHead]) -> ExampleView:
    runs = [run for run in heads if run in told.scores]
    pieces: list[Piece] = []
    if told.kept is not None:
        pieces = _words(told.kept, is_masked=OBJECTIVES[told.objective].is_masked)
    elif told.text is not None and told.tokenizer is not None:
        pieces = _pieces(told.text, told.tokenizer)
    positions, more = _positions(told, runs, pair)
    gap = ""
    if pair is not None and pair[0] in told.scores and pair[1] in told.scores:
        gap = f"{told.nats(pair[1]) - told.nats(pair[0]):+.1f} nats"
    return ExampleView(
        name=f"row {example >> 24:,}, span {example & 0xFFFFFF}",
        gap=gap,
        order=told.order,
        pieces=pieces[:_FOLD],
        folded=pieces[_FOLD:],
        scores=[_run_score(heads[run], told.scores[run], told.objective) for run in runs],
        positions=positions,
        more_positions=more,
    )


# Stretches of text that stand open; a mask and the text before it are two.
_FOLD = 48


def _run_score(head: RunHead, scores: dict[str, ScoreRow], objective: str) -> RunScore:
    order = "—"
    for row in scores.values():
        if not OBJECTIVES[row.objective].is_of_tokens and row.nats is not None:
            order = f"{'right' if row.correct else 'wrong'}, {100 * exp(-row.nats):.0f} %"
    row = scores[objective]
    loss = number((row.nats or 0.0) / row.targets if row.targets else None, OBJECTIVES[objective].metrics[0])
    return RunScore(head=head, loss=loss, correct=f"{row.correct} of {row.targets}", order=order)


def _pieces(text: Examples, tokenizer: StudyTokenizer) -> list[Piece]:
    """The original text, with the pieces that were masked told apart and what was shown in their place."""
    size, count = int(text.lengths[0]), int(text.masked[0])
    ids = text.token_ids[0, :size].tolist()
    positions, labels = text.positions[0, :count].tolist(), text.labels[0, :count].tolist()
    found: list[Piece] = []
    segment = 0
    for stretch in stretches(ids, positions, labels, tokenizer):
        if stretch.segment != segment:
            found.append(Piece("cut", ""))
            segment = stretch.segment
        if stretch.slot is None:
            found.append(Piece("text", plain(stretch.text)))
        else:
            label = labels[stretch.slot]
            found.append(Piece("mask", plain(stretch.text), _seen(tokenizer, ids[positions[stretch.slot]], label)))
    return found


def _words(text: FrozenTexts, *, is_masked: bool) -> list[Piece]:
    """The text as it was written; hidden words are told apart where a run was scored on them."""
    found: list[Piece] = []
    segment = 0
    for part in written(text):
        if part.segment != segment:
            found.append(Piece("cut", ""))
            segment = part.segment
        words = plain(part.text)
        found.append(Piece("text", words) if part.seen is None or not is_masked else Piece("mask", words, part.seen))
    return found


def _word(tokenizer: StudyTokenizer, piece: int) -> str:
    return plain(tokenizer.texts[piece]) if piece < len(tokenizer.pieces) else f"#{piece}"


def _seen(tokenizer: StudyTokenizer, shown: int, label: int) -> str:
    if shown == tokenizer.specials.mask:
        return "[MASK]"
    return "itself" if shown == label else _word(tokenizer, shown).strip() or "␣"


def _positions(
    told: Told, runs: Sequence[str], pair: tuple[str, str] | None
) -> tuple[list[tuple[int, str, str, list[Prediction | None]]], int]:
    """The masks that make the most of the gap (or of the loss), in the text's order, and how many there are more."""
    text, tokenizer = told.text, told.tokenizer
    if text is None or tokenizer is None:
        return [], 0
    count = int(text.masked[0])
    lists = {run: told.by_target(run, count) for run in runs}
    if not any(lists.values()):
        return [], 0
    cost = np.zeros(count)
    for run, sign in ((pair[1], 1.0), (pair[0], -1.0)) if pair else ((runs[0], 1.0),):
        row = lists.get(run)
        if row is not None:
            cost += sign * np.asarray(row.target_nats)
    chosen = sorted(np.argsort(-cost, kind="stable")[:_POSITIONS].tolist())
    rows = []
    for index in chosen:
        place, label = int(text.positions[0, index]), int(text.labels[0, index])
        shown = _seen(tokenizer, int(text.token_ids[0, place]), label)
        predictions = [_prediction(lists[run], index, label, tokenizer) for run in runs]
        rows.append((place, _word(tokenizer, label).strip() or "␣", shown, predictions))
    return rows, count - len(chosen)


def _prediction(row: ScoreRow | None, index: int, label: int, tokenizer: StudyTokenizer) -> Prediction | None:
    if row is None or row.predicted is None or row.target_nats is None:
        return None
    piece = row.predicted[index]
    return Prediction(
        text=_word(tokenizer, piece).strip() or "␣", nats=f"{row.target_nats[index]:.2f}", right=piece == label
    )
