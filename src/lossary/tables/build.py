"""Builds the table of a study from its manifests and scores; reads sums only, never lists of positions."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from lossary.data.batches import training_shares
from lossary.data.shards import MANIFEST
from lossary.errors import ScoreError, UsageError
from lossary.files import read_json
from lossary.folder import StudyFolder
from lossary.results.queries import mlm_losses
from lossary.results.records import ScoreHeader, read_header
from lossary.statistics.estimates import Estimate
from lossary.study import Study
from lossary.tables.deltas import PairedRuns, compare_runs, with_deltas
from lossary.tables.model import METRICS, Cell, DatasetRow, Metric, RunColumn, Standing, Table, Total
from lossary.tables.scores import ScoreColumns, dataset_estimates, read_columns
from lossary.tables.seeds import seed_spreads
from lossary.tables.totals import totals_of

__all__ = ["Scored", "best_run", "build_table", "scored_runs"]

_THREADS = 2
SIGNATURE = "mlm:Σnats/Σmasked|sop:mean over pairs|w:validation-share|ci:fieller95,hall95,wilson95,welch95"


class Scored(NamedTuple):
    """A file of scores and what it says of itself."""

    path: Path
    header: ScoreHeader


def build_table(
    study: Study,
    folder: StudyFolder,
    *,
    runs: Sequence[str] | None = None,
    step: int | None = None,
    base: str | None = None,
) -> Table:
    """The table of the runs' newest scores, or of those at `step`; with differences of all to the run `base`.

    Runs of the study come first, in its order, then others that were scored in its folder. Raises ScoreError if there
    is no score, UsageError if a named run is unknown.
    """
    validation = read_json(folder.validation / MANIFEST)
    notes: list[str] = list(validation["notes"])
    if base is not None and runs is not None and base not in runs:
        runs = [base, *runs]
    scored = _scored_runs(study, folder, runs, step, (validation["digest"], notes))
    if not scored:
        hint = "Run `lossary run` (or train and evaluate) first."
        raise ScoreError("there are no scores of this validation set", where=str(folder.root / "runs"), hint=hint)
    datasets = _dataset_rows(study, folder, validation)
    cells: list[Cell] = []
    totals: list[Total] = []
    paired: dict[str, PairedRuns] = {}
    reference = _reference(scored, datasets, base)
    with ThreadPoolExecutor(_THREADS) as pool:
        read = partial(_read, study, datasets, validation, reference)
        for found, (of_run, pairs) in zip(scored, pool.map(read, scored), strict=True):
            cells += of_run
            totals += totals_of(found.header.run, datasets, of_run, link=partial(_total_link, study, found.header))
            if pairs is not None and found.header.run != base:
                paired[found.header.run] = pairs
    table = Table(
        study=study.name,
        datasets=datasets,
        runs=[_run_column(study, found.header) for found in scored],
        cells=cells,
        totals=totals,
        notes=[*notes, *_total_notes(totals), *_standing_notes(cells)],
        signature=SIGNATURE,
        validation_digest=validation["digest"],
        tokenizer_digest=validation["tokenizer_digest"],
        seed_spreads=seed_spreads(study, [found.header.run for found in scored], cells, totals),
    )
    return table if base is None else with_deltas(table, base, paired)


def best_run(study: Study, folder: StudyFolder, *, runs: Sequence[str] | None = None) -> str | None:
    """The run with the lowest MLM loss in total by validation share, from sums alone; None if fewer than two have one.

    It is what the others are compared with where nobody names another base; asking for it costs a fraction of a table.
    """
    per_dataset = read_json(folder.validation / MANIFEST)["per_dataset"]
    totals = {}
    for found in scored_runs(study, folder, runs):
        losses = mlm_losses(found.path)
        weights = {name: per_dataset[name]["share"] for name in losses if name in per_dataset}
        if sum(weights.values()):
            total = sum(weight * losses[name] for name, weight in weights.items())
            totals[found.header.run] = total / sum(weights.values())
    return min(totals, key=lambda run: totals[run]) if len(totals) > 1 else None


def scored_runs(study: Study, folder: StudyFolder, runs: Sequence[str] | None = None) -> list[Scored]:
    """The newest scores of the runs on the study's validation set; runs without are left out."""
    return _scored_runs(study, folder, runs, None, (read_json(folder.validation / MANIFEST)["digest"], []))


def _scored_runs(
    study: Study, folder: StudyFolder, runs: Sequence[str] | None, step: int | None, context: tuple[str, list[str]]
) -> list[Scored]:
    digest, notes = context
    found_names = sorted(path.parent.name for path in (folder.root / "runs").glob("*/scores"))
    known = [*study.runs, *(name for name in found_names if name not in study.runs)]
    unknown = [name for name in runs or [] if name not in known]
    if unknown:
        raise UsageError(f"no run is called {unknown[0]!r}", hint=f"Runs: {', '.join(known)}.")
    scored = []
    for name in known if runs is None else runs:
        files = sorted((folder.run(name) / "scores").glob("*.parquet"))
        if step is not None:
            files = [path for path in files if int(path.stem) == step]
        of_this_set = [
            s for s in (Scored(path, read_header(path)) for path in files) if s.header.validation_digest == digest
        ]
        if of_this_set:
            scored.append(of_this_set[-1])
        else:
            why = (
                "scored on another validation set"
                if files
                else "not scored yet" + ("" if step is None else f" at step {step}")
            )
            notes.append(f"{name}: {why}; left out")
    return scored


def _dataset_rows(study: Study, folder: StudyFolder, validation: dict[str, Any]) -> list[DatasetRow]:
    length = min(study.recipe_of(run).sequence_length for run in study.runs)
    shares = training_shares(study, folder, length)
    return [
        DatasetRow(
            name=name,
            train_rows=read_json(folder.spans(name, length) / MANIFEST)["rows"],
            train_share=shares[name],
            validation_share=validation["per_dataset"][name]["share"],
            validation_examples=validation["per_dataset"][name]["examples"],
            link=dataset.link,
        )
        for name, dataset in study.datasets.items()
    ]


def _run_column(study: Study, header: ScoreHeader) -> RunColumn:
    of_study = header.run in study.runs
    return RunColumn(
        name=header.run,
        backend=header.backend,
        size=header.size,
        step=header.step,
        tokens=header.tokens,
        datasets=study.datasets_of(header.run) if of_study else None,
        device=header.device,
        precision=header.precision,
        weights_digest=header.weights_digest,
        link=study.runs[header.run].link if of_study else None,
        seed=study.recipe_of(header.run).seed if of_study else None,
    )


def _reference(scored: list[Scored], datasets: list[DatasetRow], base: str | None) -> ScoreColumns | None:
    """The scores of the base. Raises UsageError if it has none."""
    if base is None:
        return None
    paths = {found.header.run: found.path for found in scored}
    if base not in paths:
        raise UsageError(f"no run of the table is called {base!r}", hint=f"Runs: {', '.join(paths)}.")
    return read_columns(paths[base], [row.name for row in datasets])


def _read(
    study: Study,
    datasets: list[DatasetRow],
    validation: dict[str, Any],
    reference: ScoreColumns | None,
    scored: Scored,
) -> tuple[list[Cell], PairedRuns | None]:
    """Cells of a run, and its differences to the base: both from one reading of its scores."""
    scores = read_columns(scored.path, [row.name for row in datasets])
    estimates = dataset_estimates(scores, has_sop=scored.header.has_sop)
    paired = None if reference is None else compare_runs(reference, scores)
    return _cells(study, scored, datasets, validation, estimates), paired


def _cells(
    study: Study,
    scored: Scored,
    datasets: list[DatasetRow],
    validation: dict[str, Any],
    estimates: Mapping[str, Mapping[Metric, Estimate]],
) -> list[Cell]:
    return [
        _cell(study, scored.header, row.name, metric, estimates[row.name][metric], validation)
        for row in datasets
        for metric in METRICS
    ]


def _cell(
    study: Study, header: ScoreHeader, dataset: str, metric: Metric, estimate: Estimate, validation: dict[str, Any]
) -> Cell:
    described = validation["per_dataset"][dataset]
    floor = {"mlm_loss": described["unigram_entropy_nats"], "sop_loss": described["sop_entropy_nats"]}.get(metric)
    return Cell(
        run=header.run,
        dataset=dataset,
        metric=metric,
        value=estimate.value,
        low=estimate.low,
        high=estimate.high,
        variance=estimate.variance,
        n=estimate.n,
        unit="nats" if metric.endswith("loss") else "fraction",
        interval=estimate.method,
        reason=estimate.reason,
        floor=floor,
        standing=_standing(estimate, floor),
        step=header.step,
        validation_digest=header.validation_digest,
        link=_link(study, header, metric, dataset),
    )


def _standing(estimate: Estimate, floor: float | None) -> Standing | None:
    if floor is None or estimate.low is None or estimate.high is None:
        return None
    return "below" if estimate.high < floor else "above" if estimate.low > floor else "at"


def _link(study: Study, header: ScoreHeader, metric: str, dataset: str) -> str | None:
    template = study.links.run
    if template is None:
        return None
    for field, value in (("run", header.run), ("metric", metric), ("dataset", dataset), ("step", str(header.step))):
        template = template.replace("{" + field + "}", value)
    return template


def _total_link(study: Study, header: ScoreHeader, metric: Metric) -> str | None:
    return _link(study, header, metric, "total")


def _total_notes(totals: list[Total]) -> list[str]:
    """Totals that do not speak for every dataset."""
    partial = [t for t in totals if t.weighting == "validation_share" and t.value is not None and t.reason]
    return [f"{total.run}, {total.metric}: totals are {total.reason}" for total in partial]


def _standing_notes(cells: list[Cell]) -> list[str]:
    notes = []
    for cell in cells:
        if cell.standing not in ("at", "above") or cell.value is None or cell.floor is None:
            continue
        half = ((cell.high or cell.value) - (cell.low or cell.value)) / 2
        seen = f"{cell.value:.3f} ±{half:.3f} against {cell.floor:.3f}"
        if cell.metric == "mlm_loss":
            what = (
                "on the unigram plateau: no better than the frequencies of pieces"
                if cell.standing == "at"
                else ("above the unigram entropy: worse than the frequencies of the validation set's own pieces")
            )
        else:
            what = "at chance" if cell.standing == "at" else "above chance: confidently wrong, not merely unlearned"
        notes.append(f"{cell.run}, {cell.dataset}, {cell.metric}: {what} ({seen})")
    return notes
