"""Examples: how the losses of a dataset are spread, and those that make the gap, with text, masks and predictions."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lossary.data.examples import Examples
from lossary.data.parts import find_examples
from lossary.data.shards import MANIFEST
from lossary.data.tokenizer import StudyTokenizer, open_tokenizer
from lossary.folder import StudyFolder
from lossary.reports.html.charts.bars import Spread, histogram_spec
from lossary.reports.html.charts.theme import ChartView, DataTable
from lossary.reports.html.limits import largest_datasets, leading_runs
from lossary.reports.html.links import Ids
from lossary.reports.html.views.losses import RunHead
from lossary.reports.text import number, plain
from lossary.results.queries import BIN_NATS, BINS, ExampleScore, dearest, loss_spread, scores_of, widest_gaps
from lossary.tables.load import OpenTable
from lossary.tables.model import Table
from lossary.tables.texts import stretches

__all__ = ["DatasetExamples", "ExampleView", "ExamplesView", "Piece", "example_views", "examples_view", "gap_pair"]

_MOST_DATASETS, _MOST_RUNS = 12, 6
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
    sop: str


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
        total = table.find_total(run.name, "mlm_loss", "validation_share")
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
    paths = {
        run.name: folder.scores(run.name, run.step) for run in table.runs if run.name in names and run.step is not None
    }
    worst = widest_gaps(paths[pair[0]], paths[pair[1]], _WORST) if pair else dearest(paths[names[0]], _WORST)
    shown = {row.name: worst.get(row.name, []) for row in part.datasets}
    by_name = {run.name: head for run, head in zip(table.runs, heads, strict=True)}
    views = example_views(folder, paths, shown, pair, by_name)
    spread = loss_spread(paths)
    all_runs = [run.name for run in table.runs]
    return ExamplesView(
        ranked=_ranked(pair, names[0]),
        heads=[by_name[name] for name in names],
        datasets=[
            DatasetExamples(
                id=ids.examples(name),
                dataset=plain(name),
                chart=_histogram(ids.examples(name), name, names, spread, all_runs),
                examples=views.get(name, []),
            )
            for name in shown
        ],
        note=" ".join(text for text in (part.note, run_note) if text),
    )


def _ranked(pair: tuple[str, str] | None, run: str) -> str:
    if pair is None:
        return f"those with the highest MLM loss of {plain(run)}"
    return f"those on which {plain(pair[1])} loses most nats more than {plain(pair[0])}"


def _histogram(
    prefix: str,
    dataset: str,
    runs: Sequence[str],
    spread: dict[tuple[str, str], dict[int, int]],
    all_runs: Sequence[str],
) -> ChartView | None:
    fine = {run: np.zeros(BINS, np.int64) for run in runs if (run, dataset) in spread}
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
        about=f"How the MLM losses of the examples of {plain(dataset)} are spread, by run",
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
    paths: dict[str, Path],
    wanted: dict[str, list[int]],
    pair: tuple[str, str] | None,
    heads: dict[str, RunHead],
) -> dict[str, list[ExampleView]]:
    """By dataset: the wanted examples in their order, with what the runs of `paths` made of them."""
    keys = {(dataset, example) for dataset, examples in wanted.items() for example in examples}
    scores: dict[tuple[str, int], dict[str, ExampleScore]] = {}
    for score in scores_of(paths, keys):
        scores.setdefault((score.dataset, score.example), {})[score.run] = score
    texts = _texts(folder, keys)
    tokenizer = open_tokenizer(folder) if texts else None
    return {
        dataset: [
            _example(scores[dataset, example], texts.get((dataset, example)), tokenizer, pair, heads)
            for example in examples
            if (dataset, example) in scores
        ]
        for dataset, examples in wanted.items()
    }


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


def _example(
    scores: dict[str, ExampleScore],
    text: Examples | None,
    tokenizer: StudyTokenizer | None,
    pair: tuple[str, str] | None,
    heads: dict[str, RunHead],
) -> ExampleView:
    any_score = next(iter(scores.values()))
    runs = [run for run in heads if run in scores]
    pieces = _pieces(text, tokenizer) if text is not None and tokenizer is not None else []
    positions, more = _positions(scores, runs, text, tokenizer, pair)
    gap = ""
    if pair is not None and pair[0] in scores and pair[1] in scores:
        gap = f"{scores[pair[1]].mlm_nats - scores[pair[0]].mlm_nats:+.1f} nats"
    order = {None: "one segment: no order to tell", 0: "in order", 1: "swapped"}[any_score.sop_label]
    return ExampleView(
        name=f"row {any_score.example >> 24:,}, span {any_score.example & 0xFFFFFF}",
        gap=gap,
        order=order,
        pieces=pieces[:_FOLD],
        folded=pieces[_FOLD:],
        scores=[_run_score(heads[run], scores[run]) for run in runs],
        positions=positions,
        more_positions=more,
    )


# Stretches of text that stand open; a mask and the text before it are two.
_FOLD = 48


def _run_score(head: RunHead, score: ExampleScore) -> RunScore:
    sop = "—"
    if score.sop_nats is not None:
        sop = f"{'right' if score.sop_correct else 'wrong'}, {100 * exp(-score.sop_nats):.0f} %"
    loss = number(score.mlm_nats / score.masked if score.masked else None, "mlm_loss")
    return RunScore(head=head, loss=loss, correct=f"{score.mlm_correct} of {score.masked}", sop=sop)


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


def _word(tokenizer: StudyTokenizer, piece: int) -> str:
    return plain(tokenizer.texts[piece]) if piece < len(tokenizer.pieces) else f"#{piece}"


def _seen(tokenizer: StudyTokenizer, shown: int, label: int) -> str:
    if shown == tokenizer.specials.mask:
        return "[MASK]"
    return "itself" if shown == label else _word(tokenizer, shown).strip() or "␣"


def _positions(
    scores: dict[str, ExampleScore],
    runs: Sequence[str],
    text: Examples | None,
    tokenizer: StudyTokenizer | None,
    pair: tuple[str, str] | None,
) -> tuple[list[tuple[int, str, str, list[Prediction | None]]], int]:
    """The masks that make the most of the gap (or of the loss), in the text's order, and how many there are more."""
    nats = {run: scores[run].position_nats for run in runs}
    if text is None or tokenizer is None or not any(nats.values()):
        return [], 0
    count = int(text.masked[0])
    cost = np.zeros(count)
    for run, sign in ((pair[1], 1.0), (pair[0], -1.0)) if pair else ((runs[0], 1.0),):
        values = nats.get(run)
        if values is not None and len(values) == count:
            cost += sign * np.asarray(values)
    chosen = sorted(np.argsort(-cost, kind="stable")[:_POSITIONS].tolist())
    rows = []
    for index in chosen:
        place, label = int(text.positions[0, index]), int(text.labels[0, index])
        shown = _seen(tokenizer, int(text.token_ids[0, place]), label)
        predictions = [_prediction(scores[run], index, label, tokenizer) for run in runs]
        rows.append((place, _word(tokenizer, label).strip() or "␣", shown, predictions))
    return rows, count - len(chosen)


def _prediction(score: ExampleScore, index: int, label: int, tokenizer: StudyTokenizer) -> Prediction | None:
    if score.predicted is None or score.position_nats is None or index >= len(score.predicted):
        return None
    piece = score.predicted[index]
    return Prediction(
        text=_word(tokenizer, piece).strip() or "␣", nats=f"{score.position_nats[index]:.2f}", right=piece == label
    )
