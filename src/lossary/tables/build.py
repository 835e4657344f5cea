"""Builds the table of a study from its manifests and scores; reads sums only, never lists of positions."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from lossary.data.batches import training_shares
from lossary.data.manifests import read_manifest
from lossary.data.parts import present_validation, read_validation_manifest
from lossary.errors import ScoreError, UsageError
from lossary.folder import StudyFolder
from lossary.objectives import OBJECTIVES, metrics_of, objective_of
from lossary.results.origins import again
from lossary.results.records import ScoreHeader, read_header
from lossary.results.scorefile import ScoreFile
from lossary.results.whole_scores import read_checked
from lossary.statistics.estimates import Estimate
from lossary.study import Study
from lossary.tables.begun import recipe_begun
from lossary.tables.best import Criterion, best_of, lacking_notes, prepared_length, step_totals, totals_on_one_set
from lossary.tables.comparability import IN_ONE_GO, changed_since, run_settings
from lossary.tables.deltas import add_deltas
from lossary.tables.model import (
    Cell,
    DatasetRow,
    Metric,
    RunColumn,
    Standing,
    Table,
    Total,
    is_across_vocabularies,
    measure_of,
)
from lossary.tables.own_scores import every_score_file, score_files
from lossary.tables.scores import file_estimates
from lossary.tables.seeds import seed_spreads
from lossary.tables.sequential import IN_PART, is_scored_in_part, sequential_answers
from lossary.tables.totals import totals_of

__all__ = [
    "Scored",
    "best_run",
    "build_table",
    "has_several_vocabularies",
    "left_out_notes",
    "paired_table",
    "ranked_by",
    "scored_files",
    "scored_runs",
]

_THREADS = 2
# Names that a note spells out.
_SHOWN = _NEAREST = 4
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
    step: int | Criterion | None = None,
    base: str | None = None,
) -> Table:
    """The table of the runs' newest scores, of those at `step`, or of each run's best step by a total.

    With `base`, the differences of all to that run are in it.

    Runs of the study come first, in its order, then others that were scored in its folder. Raises ScoreError if there
    is no score, UsageError if a named run is unknown.
    """
    validation = present_validation(study, folder)
    notes: list[str] = list(validation["notes"])
    if base is not None and runs is not None and base not in runs:
        runs = [base, *runs]
    scored = _scored_runs(study, folder, runs, step, (validation["parts"], notes))
    if not scored:
        if isinstance(step, int) and notes:
            raise UsageError(
                f"nothing was scored at step {step:,}", where="--step", hint="; ".join(notes[-_SHOWN:]) + "."
            )
        raise _no_scores(study, folder, runs)
    datasets = _dataset_rows(study, folder, validation)
    sequential, early_notes = sequential_answers(
        study, folder, _known_runs(study, folder, runs), step=step if isinstance(step, int) else None
    )
    notes += _missing_notes(study, folder, datasets, scored)
    cells: list[Cell] = []
    totals: list[Total] = []
    objectives = sorted({name for found in scored for name in found.header.objectives}, key=list(OBJECTIVES).index)
    with ThreadPoolExecutor(_THREADS) as pool:
        all_cells = pool.map(lambda found: _cells(study, found, datasets, validation, objectives), scored)
        for found, of_run in zip(scored, all_cells, strict=True):
            cells += of_run
            link = partial(_total_link, study, found.header)
            totals += totals_of(found.header.run, datasets, of_run, link=link, metrics=metrics_of(objectives))
    table = Table(
        study=study.name,
        datasets=datasets,
        runs=[_run_column(study, folder, found.header) for found in scored],
        cells=cells,
        totals=totals,
        notes=[
            *notes,
            *_course_notes(study, folder, scored),
            *_tokenizer_notes(scored),
            *_vocabulary_notes(scored),
            *left_out_notes(validation, [row.name for row in datasets], [found.header for found in scored]),
            *_total_notes(totals),
            *_standing_notes(cells),
            *early_notes,
        ],
        signature=SIGNATURE,
        validation_digest=validation["digest"],
        tokenizer_digest=validation["tokenizer_digest"],
        seed_spreads=seed_spreads((study, folder), [found.header.run for found in scored], cells, totals),
        sequential=sequential,
    )
    return table if base is None else add_deltas(table, {s.header.run: s.path for s in scored}, base=base)


def best_run(
    study: Study,
    folder: StudyFolder,
    *,
    runs: Sequence[str] | None = None,
    step: int | Criterion | None = None,
    notes: list[str],
) -> str | None:
    """The run with the lowest loss in total by validation share, from sums alone; None if fewer than two have losses.

    It is what the others are compared with where nobody names another base. A run without a loss of a dataset that
    others have one of has no total to compare: `notes` gets one that names both.
    """
    validation = present_validation(study, folder)
    scored = _scored_runs(study, folder, runs, step, (validation["parts"], []))
    # A run is not better for a dataset that it was not scored on.
    shares = {
        name: row["share"]
        for name, row in validation["per_dataset"].items()
        if all(found.header.part(name) == validation["parts"][name] for found in scored)
    }
    for metric in ranked_by([found.header for found in scored]):
        objective = objective_of(metric)
        files = {s.header.run: s.path for s in scored if objective and objective.name in s.header.objectives}
        totals = totals_on_one_set(files, shares, metric)
        notes += [
            f"{run}: no {metric} of {_some([*names])}, which other runs have; not the run that others are compared with"
            for run, names in totals.lacking.items()
        ]
        if totals.values and len(totals.values) + len(totals.lacking) > 1:
            return min(totals.values, key=lambda run: totals.values[run])
    return None


def paired_table(
    study: Study,
    folder: StudyFolder,
    *,
    runs: Sequence[str] | None = None,
    step: int | Criterion | None = None,
) -> Table:
    """The table with the differences of all to the best run, as far as there is one; notes say who could not be it."""
    notes: list[str] = []
    base = best_run(study, folder, runs=runs, step=step, notes=notes)
    table = build_table(study, folder, runs=runs, step=step, base=base)
    return replace(table, notes=[*table.notes, *notes])


def ranked_by(headers: Sequence[ScoreHeader]) -> list[Metric]:
    """What runs are ranked by, the first that two of them have: losses, or bits a byte across vocabularies."""
    across = has_several_vocabularies(headers)
    names = {name for header in headers for name in header.objectives}
    return [m for m in metrics_of(names) if measure_of(m).unit == ("bits a byte" if across else "nats")]


def has_several_vocabularies(headers: Sequence[ScoreHeader]) -> bool:
    """Whether scores are of pieces of more than one vocabulary, as far as anybody knows."""
    return len({header.pieces for header in headers if header.pieces}) > 1


def scored_runs(study: Study, folder: StudyFolder, runs: Sequence[str] | None = None) -> list[Scored]:
    """The newest scores of the runs on any part of the study's validation set; runs without are left out."""
    return _scored_runs(study, folder, runs, None, (read_validation_manifest(folder)["parts"], []))


def scored_files(study: Study, folder: StudyFolder, runs: Sequence[str] | None = None) -> dict[str, list[Scored]]:
    """Every file of scores of the runs, by ascending step. UsageError if a named run is unknown."""
    found = {}
    for name in _known_runs(study, folder, runs):
        files = score_files(folder, name)
        found[name] = [Scored(path, read_checked(path)) for path in files]
    return found


def _known_runs(study: Study, folder: StudyFolder, runs: Sequence[str] | None) -> list[str]:
    """The named runs, else those of the study and others that were scored in its folder."""
    found_names = sorted(path.parent.name for path in (folder.root / "runs").glob("*/scores"))
    known = [*study.runs, *(name for name in found_names if name not in study.runs)]
    unknown = [name for name in runs or [] if name not in known]
    if unknown:
        raise UsageError(f"no run is called {unknown[0]!r}", hint=f"Runs: {', '.join(known)}.")
    return known if runs is None else list(runs)


def _scored_runs(
    study: Study,
    folder: StudyFolder,
    runs: Sequence[str] | None,
    step: int | Criterion | None,
    context: tuple[dict[str, str], list[str]],
) -> list[Scored]:
    parts, notes = context
    scored = []
    for name in _known_runs(study, folder, runs):
        files = every = score_files(folder, name)
        notes += _foreign_notes(folder, name, every)
        chosen: int | None
        if isinstance(step, Criterion):
            criterion = step if step.metric else replace(step, metric=_first_loss(files))
            chosen = _best(study, folder, name, criterion, notes)
            if chosen is None:
                notes.append(f"{name}: no step has a {criterion}; left out")
                continue
        else:
            chosen = step
        if chosen is not None:
            files = [path for path in files if int(path.stem) == chosen]
        newest_first = (Scored(path, read_checked(path)) for path in reversed(files))
        newest = next((s for s in newest_first if _on_any(s.header, parts)), None)
        if newest is not None:
            scored.append(newest)
        else:
            steps = [int(path.stem) for path in every]
            why = _why_not(files, steps, chosen)
            if not steps and is_scored_in_part(folder, name):
                why = IN_PART
            notes.append(f"{name}: {why}; left out")
    return scored


def _foreign_notes(folder: StudyFolder, run: str, own: Sequence[Path]) -> list[str]:
    """Which steps of a run have scores in its folder that are of other weights."""
    steps = [f"{int(path.stem):,}" for path in every_score_file(folder, run) if path not in own]
    if not steps:
        return []
    what = f"the scores of {'step' if len(steps) == 1 else 'steps'} {', '.join(steps)} are of other weights than its"
    return [f"{run}: {what} checkpoints; left out, `lossary evaluate --all --run {run}` scores them"]


def _first_loss(files: Sequence[Path]) -> Metric:
    """What the steps of a run are chosen by where nobody says: a run of causal scores has no loss of hidden words."""
    return next(iter(ranked_by([read_header(path) for path in files])), Criterion().metric)


def _no_scores(study: Study, folder: StudyFolder, runs: Sequence[str] | None) -> ScoreError:
    """Says that nothing is scored, or some examples alone, of the named runs or of all."""
    early = [run for run in _known_runs(study, folder, runs) if is_scored_in_part(folder, run)]
    said = "there are no scores of this validation set" + ("" if runs is None else f" for {', '.join(runs)}")
    hint = "Run `lossary run` (or train and evaluate) first."
    if not study.runs:
        hint = "The study has no runs: `lossary evaluate --checkpoint FOLDER` scores what you have."
    if early:
        said = f"{', '.join(early)}: {IN_PART}, but until it was clear how it differs from another run"
        hint = f"`lossary evaluate --run {early[0]}` scores all; `lossary show` shows what was clear beside its table."
    return ScoreError(said, where=str(folder.root / "runs"), hint=hint)


def _why_not(files: Sequence[Path], steps: Sequence[int], chosen: int | None) -> str:
    if files:
        return "scored on another validation set"
    if chosen is None or not steps:
        return "not scored yet" + ("" if chosen is None else f" at step {chosen:,}")
    near = sorted(sorted(steps, key=lambda step: abs(step - chosen))[:_NEAREST])
    return f"not scored at step {chosen:,} (nearest: {', '.join(f'{step:,}' for step in near)})"


def _on_any(header: ScoreHeader, parts: dict[str, str]) -> bool:
    return any(header.part(name) == digest for name, digest in parts.items())


def _missing_notes(study: Study, folder: StudyFolder, datasets: list[DatasetRow], scored: list[Scored]) -> list[str]:
    """What is in the study and not in the table."""
    shown = [row.name for row in datasets]
    notes = [f"{name}: not prepared yet; left out" for name in study.datasets if name not in shown]
    for found in scored:
        lacking = [row.name for row in datasets if found.header.part(row.name) != row.validation_digest]
        if lacking:
            run = found.header.run
            command = "`lossary evaluate`" if run in study.runs else again(folder, run, found.header.step or 0)
            notes.append(f"{run}: {_not_scored(lacking)}; {command} scores it on all")
    return notes


def _not_scored(datasets: Sequence[str]) -> str:
    return f"not scored on the present examples of {', '.join(datasets)}"


def _best(study: Study, folder: StudyFolder, run: str, criterion: Criterion, notes: list[str]) -> int | None:
    totals = step_totals(study, folder, run, criterion)
    notes += lacking_notes(run, totals, criterion.metric)
    found = best_of(totals, criterion)
    if found is None:
        return None
    scored = f"{len(found.steps):,} scored" if len(found.steps) > 1 else "the only one scored"
    notes.append(
        f"{run}: step {found.step:,} is the best of {scored} by {criterion}: {found.value:.4f}, chosen by these numbers"
    )
    return found.step


def _dataset_rows(study: Study, folder: StudyFolder, validation: dict[str, Any]) -> list[DatasetRow]:
    names = [name for name in study.datasets if name in validation["per_dataset"]]
    length = prepared_length(study, folder, names)
    shares = training_shares(study, folder, length, names) if length else {}
    return [
        DatasetRow(
            name=name,
            train_rows=read_manifest(folder.spans(name, length))["rows"] if length else None,
            train_share=shares.get(name),
            validation_share=validation["per_dataset"][name]["share"],
            validation_examples=validation["per_dataset"][name]["examples"],
            link=study.datasets[name].page,
            validation_digest=validation["parts"][name],
        )
        for name in names
    ]


def _run_column(study: Study, folder: StudyFolder, header: ScoreHeader) -> RunColumn:
    of_study = header.run in study.runs
    return RunColumn(
        name=header.run,
        backend=header.backend,
        size=header.size,
        step=header.step,
        tokens=header.tokens,
        datasets=run_settings(folder, header.run).get("datasets", study.datasets_of(header.run) if of_study else None),
        device=header.device,
        precision=header.precision,
        weights_digest=header.weights_digest,
        link=study.runs[header.run].link if of_study else None,
        seed=recipe_begun(study, folder, header.run)["seed"] if of_study else None,
        tokenizer=header.tokenizer,
        vocabulary=header.vocabulary or None,
        vocabulary_size=header.vocabulary_size,
        vocabulary_digest=header.pieces or None,
    )


def _cells(
    study: Study,
    scored: Scored,
    datasets: list[DatasetRow],
    validation: dict[str, Any],
    objectives: Sequence[str],
) -> list[Cell]:
    header = scored.header
    names = [row.name for row in datasets if header.part(row.name) == row.validation_digest]
    estimates = file_estimates(ScoreFile(scored.path), names, objectives)
    for row in datasets:
        absent = Estimate(value=None, reason=_not_scored([row.name]))
        estimates.setdefault(row.name, dict.fromkeys(metrics_of(objectives), absent))
    return [
        _cell(study, header, row.name, metric, estimate, validation)
        for row in datasets
        for metric, estimate in estimates[row.name].items()
    ]


def _cell(
    study: Study, header: ScoreHeader, dataset: str, metric: Metric, estimate: Estimate, validation: dict[str, Any]
) -> Cell:
    floor = _floor(header, metric, validation["tokenizer_digest"], validation["per_dataset"][dataset])
    return Cell(
        run=header.run,
        dataset=dataset,
        metric=metric,
        value=estimate.value,
        low=estimate.low,
        high=estimate.high,
        variance=estimate.variance,
        n=estimate.n,
        unit=measure_of(metric).unit,
        interval=estimate.method,
        reason=estimate.reason,
        floor=floor,
        standing=_standing(estimate, floor),
        step=header.step,
        validation_digest=header.part(dataset),
        link=_link(study, header, metric, dataset),
    )


def _floor(header: ScoreHeader, metric: Metric, own: str, described: Mapping[str, Any]) -> float | None:
    """What knowing no more than frequencies costs: of pieces, it is known in the study's own vocabulary."""
    objective = objective_of(metric)
    if objective is None or objective.floor is None or measure_of(metric).unit != "nats":
        return None
    is_own = not objective.is_of_tokens or header.pieces in ("", own)
    return described[objective.floor] if is_own else None


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


def _course_notes(study: Study, folder: StudyFolder, scored: list[Scored]) -> list[str]:
    """Runs that did not come to their last step in one go, or were not trained on just what the study has now."""
    notes, removed = list[str](), dict[str, list[str]]()
    for run in (found.header.run for found in scored):
        settings = run_settings(folder, run)
        if (course := settings.get("course", IN_ONE_GO)) != IN_ONE_GO:
            notes.append(f"{run}: {course}")
        if run in study.runs and (changed := changed_since(study, folder, run)):
            notes.append(f"{run} was trained otherwise than the study file now says: {'; '.join(changed[:_SHOWN])}")
        trained = settings.get("datasets", [])
        missing = [name for name in study.datasets_of(run) if name not in trained] if run in study.runs else []
        if trained and missing:
            notes.append(f"{run} was not trained on {', '.join(missing)}, which came later")
        if gone := [name for name in trained if name not in study.datasets]:
            removed.setdefault(", ".join(gone), []).append(run)
    notes += [f"also trained on {gone}, no longer in the study file: {_some(runs)}" for gone, runs in removed.items()]
    return notes


def _tokenizer_notes(scored: list[Scored]) -> list[str]:
    """Runs whose pieces may be others than the study's."""
    silent = [found.header.run for found in scored if found.header.tokenizer == "unknown"]
    older = [found.header.run for found in scored if found.header.tokenizer is None]
    notes = []
    if silent:
        notes.append(f"tokenizer unknown of {', '.join(silent)}: the checkpoint holds no vocabulary to compare")
    if older:
        notes.append(f"tokenizer unknown of {', '.join(older)}: scored before vocabularies were compared; score again")
    return notes


def _vocabulary_notes(scored: list[Scored]) -> list[str]:
    """Which runs were scored in which vocabulary, where there are several."""
    groups: dict[str, list[str]] = {}
    titles: dict[str, str] = {}
    for header in (found.header for found in scored if found.header.pieces):
        groups.setdefault(header.pieces, []).append(header.run)
        titles[header.pieces] = header.vocabulary or titles.get(header.pieces, "") or f"vocabulary {header.pieces}"
    if len(groups) < 2:
        return []
    runs = "; ".join(f"{titles[pieces]}: {_some(names)}" for pieces, names in groups.items())
    notes = [f"vocabularies differ, so that only bits a byte compare these runs. {runs}"]
    # Scores of the same vocabulary may be older than what is known of it.
    folds = {found.header.pieces for found in scored if found.header.folds_case}
    folding, others = ([run for p in groups if (p in folds) is known for run in groups[p]] for known in (True, False))
    if folding and others:
        notes.append(
            f"capitals are not asked of {_some(folding)}, whose vocabulary folds case, which the scores of "
            f"{_some(others)} do not say of theirs: where it keeps case, bits a byte flatter the former"
        )
    return notes


def left_out_notes(validation: Mapping[str, Any], datasets: Sequence[str], headers: Sequence[ScoreHeader]) -> list[str]:
    """What vocabularies and models could not hold of the frozen text."""
    notes = []
    for header in headers:
        for name in datasets:
            counted = [(what, count) for what, count in header.left_out.get(name, {}).items() if count]
            if counted and header.part(name) == validation["parts"][name]:
                what = ", ".join(f"{count:,} {what}" for what, count in counted)
                examples = validation["per_dataset"][name]["examples"]
                notes.append(f"{header.run}, {name}: left out of {examples:,} examples: {what}")
    return notes


def _total_notes(totals: list[Total]) -> list[str]:
    """Totals that do not speak for every dataset."""
    partial = [
        total
        for total in totals
        if total.weighting == "validation_share"
        and total.value is not None
        and total.reason
        and not is_across_vocabularies(total.metric)
    ]
    return [f"{total.run}, {total.metric}: totals are {total.reason}" for total in partial]


def _standing_notes(cells: list[Cell]) -> list[str]:
    """One note for all cells of a metric that stand alike; each cell has its mark and its numbers in the table."""
    groups: dict[str, dict[str, list[str]]] = {}
    for cell in cells:
        if cell.standing in ("at", "above") and cell.value is not None and cell.low is not None:
            groups.setdefault(_standing_says(cell), {}).setdefault(cell.run, []).append(cell.dataset)
    return [f"{says}: {_some_cells(runs)}" for says, runs in groups.items()]


def _standing_says(cell: Cell) -> str:
    objective, name = objective_of(cell.metric), measure_of(cell.metric).title
    if objective is None or objective.is_of_tokens:
        return (
            f"{name} on the unigram plateau, no better than the frequencies of pieces"
            if cell.standing == "at"
            else f"{name} above the unigram entropy, worse than the frequencies of the validation set's own pieces"
        )
    # The entropy of a few labels is below that of a coin: only more than a coin costs is worse than chance.
    if (cell.low or 0.0) > (objective.chance_nats or 0.0):
        return f"{name} above ln 2, worse than answering by a coin"
    return f"{name} not shown to be below chance"


def _some_cells(runs: dict[str, list[str]]) -> str:
    """`a (x, y), b (x and 8 more)`; runs beyond a few are counted."""
    shown = [f"{run} ({_some(datasets)})" for run, datasets in list(runs.items())[:_SHOWN]]
    more = len(runs) - _SHOWN
    return ", ".join(shown) + (f" and {more} more runs" if more > 0 else "")


def _some(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
