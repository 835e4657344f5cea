"""Builds the table of a study from its manifests and scores; reads sums only, never lists of positions."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import duckdb

from lossary.data.batches import training_shares
from lossary.data.shards import MANIFEST
from lossary.errors import ScoreError, UsageError
from lossary.files import read_json
from lossary.folder import StudyFolder
from lossary.results.records import ScoreHeader, read_header
from lossary.statistics.estimates import Estimate, MeanSums, RatioSums, mean, proportion, ratio
from lossary.study import Study
from lossary.tables.deltas import add_deltas
from lossary.tables.model import METRICS, Cell, DatasetRow, Metric, RunColumn, Standing, Table, Total
from lossary.tables.totals import totals_of

__all__ = ["Scored", "build_table", "scored_runs"]

SIGNATURE = "mlm:Σnats/Σmasked|sop:mean over pairs|w:validation-share|ci:fieller95,hall95,wilson95,welch95"
# Sums by dataset that every estimate follows from; y over x is the MLM ratio.
_SUMS = """
SELECT dataset, count(*) AS n,
  sum(masked)::DOUBLE AS x, sum(masked::DOUBLE * masked) AS xx,
  sum(mlm_nats) AS nats, sum(mlm_nats * mlm_nats) AS nats_nats, sum(mlm_nats * masked) AS nats_x,
  sum(mlm_correct)::DOUBLE AS hits, sum(mlm_correct::DOUBLE * mlm_correct) AS hits_hits,
  sum(mlm_correct::DOUBLE * masked) AS hits_x,
  count(sop_nats) AS pairs, coalesce(sum(sop_nats), 0) AS sop, coalesce(sum(sop_nats * sop_nats), 0) AS sop_2,
  coalesce(sum(sop_nats * sop_nats * sop_nats), 0) AS sop_3,
  count(*) FILTER (WHERE sop_correct) AS sop_hits
FROM read_parquet(?) GROUP BY dataset
"""


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
    for found in scored:
        cells += _cells(study, found, datasets, validation)
    totals: list[Total] = []
    for found in scored:
        totals += totals_of(found.header.run, datasets, cells, link=partial(_total_link, study, found.header))
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
    )
    return table if base is None else add_deltas(table, {s.header.run: s.path for s in scored}, base=base)


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


def _cells(study: Study, scored: Scored, datasets: list[DatasetRow], validation: dict[str, Any]) -> list[Cell]:
    try:
        with duckdb.connect() as connection:
            cursor = connection.execute(_SUMS, [str(scored.path)])
            names = [column[0] for column in cursor.description]
            sums = {row[0]: dict(zip(names, row, strict=True)) for row in cursor.fetchall()}
    except duckdb.Error as error:
        raise ScoreError(
            f"not readable: {error}", where=str(scored.path), hint="Delete it and evaluate again."
        ) from None
    return [
        _cell(study, scored.header, row.name, metric, _estimates(sums.get(row.name), scored.header)[metric], validation)
        for row in datasets
        for metric in METRICS
    ]


def _estimates(sums: dict[str, Any] | None, header: ScoreHeader) -> dict[Metric, Estimate]:
    if sums is None:
        return {metric: Estimate(value=None, reason="no validation example") for metric in METRICS}
    n, x, xx, pairs = sums["n"], sums["x"], sums["xx"], sums["pairs"]
    found: dict[Metric, Estimate] = {
        "mlm_loss": ratio(RatioSums(n, sums["nats"], x, sums["nats_nats"], sums["nats_x"], xx)),
        "mlm_accuracy": ratio(RatioSums(n, sums["hits"], x, sums["hits_hits"], sums["hits_x"], xx)),
    }
    if pairs:
        found["sop_loss"] = mean(MeanSums(pairs, sums["sop"], sums["sop_2"], sums["sop_3"]))
        found["sop_accuracy"] = proportion(sums["sop_hits"], pairs)
    else:
        why = "no example has two sentences" if header.has_sop else "the checkpoint has no sentence-order head"
        found |= {"sop_loss": Estimate(value=None, reason=why), "sop_accuracy": Estimate(value=None, reason=why)}
    return found


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
