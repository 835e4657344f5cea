"""The verbs that read, as functions: each gives what its verb prints as an object with its numbers.

A study is named by its file, its folder, or an open one; the current folder if none is named. Folders of imported
tables do wherever their numbers bear what is asked. Every error of a user is a `LossaryError`.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lossary.api.results import (
    CheckResult,
    ComparisonResult,
    DiagnosisResult,
    ImportResult,
    MixtureResult,
    OpenStudy,
    RankingResult,
    ReportFiles,
    TableResult,
)
from lossary.errors import UsageError

if TYPE_CHECKING:
    from lossary.editing.new import Source
    from lossary.tables.best import StepChoice
    from lossary.tables.comparison import Comparison

__all__ = [
    "check",
    "compare",
    "diagnose",
    "import_files",
    "new_study",
    "open_study",
    "rank",
    "report",
    "table",
    "working_copy",
]

PathLike = str | os.PathLike[str]
Step = int | str | None


def open_study(study: PathLike | OpenStudy = ".") -> OpenStudy:
    """A study by its file, folder or URL; its file is checked. StudyError if there is none, or where it is wrong.

    At a URL it is the newest state, for reading; `working_copy` gives one to work in.
    """
    from lossary.folder import StudyFolder
    from lossary.study_file import find_study_file, load_study

    if isinstance(study, OpenStudy):
        return study
    file = find_study_file(_path(study))
    return OpenStudy(study=load_study(file), folder=StudyFolder(file.resolve().parent))


@contextmanager
def working_copy(url: str, *, note: Callable[[str], None] = lambda _: None) -> Iterator[Path]:
    """A folder in which a study at a URL is worked on, by this process alone: what changes in it goes there.

    `with working_copy("s3://bucket/study") as folder: lossary.evaluate(model, folder, run="mine")`. What became whole
    is stored within seconds, the rest at the end of the block. BusyError while another process writes it.
    """
    from lossary.remote.addresses import Use, local_study
    from lossary.remote.wants import Wants

    with local_study(url, Use.WRITE, Wants.ALL, doing="work", note=note) as folder:
        yield folder


def new_study(
    folder: PathLike,
    datasets: "Mapping[str, Source]",
    *,
    name: str | None = None,
    examples: int = 2000,
    sequence_length: int = 128,
) -> OpenStudy:
    """Freezes texts that checkpoints from anywhere are scored on; trains nothing but the study's own tokenizer.

    `datasets` gives names to paths, patterns, URLs, lists of them, or keys of a dataset in a study file
    (`{"source": "code.jsonl", "text": "content"}`); paths are of the current folder. `examples` of at most
    `sequence_length` pieces are frozen in all, as many of each dataset. It writes `study.toml` and prepares it; a
    second call finds all as it was. UsageError if the folder holds another study.
    """
    from lossary import pipeline
    from lossary.editing.new import new_study_file, write_new_study
    from lossary.launcher import NotesOnly

    root = Path(folder)
    title = root.resolve().name if name is None else name
    text = new_study_file(title, datasets, root, examples=examples, sequence_length=sequence_length)
    write_new_study(root, text)
    opened = open_study(root)
    pipeline.prepare(opened.study, opened.folder, listener=NotesOnly())
    return opened


def table(
    study: PathLike | OpenStudy = ".", *, runs: Sequence[str] | None = None, step: Step = None, base: str | None = None
) -> TableResult:
    """Losses and accuracies by dataset, with intervals and totals, of a study or of a folder of imports.

    `runs`: only these. `step`: a number, `"best"`, `"best:METRIC"` or `"best:METRIC:WEIGHTING"`; None is the last.
    `base`: the run whose paired differences to all others are wanted.
    """
    from lossary.tables.load import open_table

    return TableResult(open_table(_path(study), runs=_names(runs), step=_step(step), base=base).table)


def compare(
    first: str,
    second: str,
    study: PathLike | OpenStudy = ".",
    *,
    other: PathLike | OpenStudy | None = None,
    step: Step = None,
    force: bool = False,
    bootstrap_seed: int | None = None,
    within: float | Mapping[str, float] | None = None,
) -> ComparisonResult:
    """What two runs have in common, in what they differ, and by how much, paired by example.

    `other` is the study of the second run if it is another one. Where losses cannot be subtracted (another tokenizer,
    other examples), there are no differences unless `force` asks for them. `bootstrap_seed`: bootstrap the differences
    of the MLM loss as well. `within`: decide whether they are equal to within so many nats (or bits a byte) of every
    loss, or to within a margin for each metric named; see `decisions` of the result.
    """
    from lossary.tables.comparison import Side, compare_imported
    from lossary.tables.comparison import compare as compare_sides
    from lossary.tables.load import is_imported, open_table, step_of_study

    choice = _step(step)
    if is_imported(path := _path(study)):
        if other is not None or bootstrap_seed is not None:
            raise UsageError("imported numbers have no scores to pair", where=str(path), hint="Name two of its runs.")
        imported = compare_imported(open_table(path, step=choice).table, path, first, second, force=force)
        return ComparisonResult(_decided(imported, within))
    opened = open_study(study)
    theirs = opened if other is None else open_study(other)
    found = compare_sides(
        Side(study=opened.study, folder=opened.folder, run=first),
        Side(study=theirs.study, folder=theirs.folder, run=second),
        force=force,
        step=step_of_study(choice),
        bootstrap_seed=bootstrap_seed,
    )
    return ComparisonResult(_decided(found, within))


def rank(
    study: PathLike | OpenStudy = ".",
    *,
    runs: Sequence[str] | None = None,
    by: str | None = None,
    every_step: bool = False,
) -> RankingResult:
    """Runs by a total, best first: which may be best, and which differ by more than seeds do.

    `by`: `METRIC` or `METRIC:WEIGHTING`; the loss if None, bits a byte across vocabularies. `every_step`: every scored
    checkpoint, instead of each run's newest. Imported scores of examples are ranked, too; printed numbers are not.
    """
    from lossary.tables.best import Criterion
    from lossary.tables.load import is_imported, open_table
    from lossary.tables.ranked_table import rank_table
    from lossary.tables.ranking import rank as rank_files

    if is_imported(path := _path(study)):
        if every_step:
            raise UsageError("imported scores of examples are of one step each", where=str(path), hint="Without --all.")
        opened = open_table(path, runs=_names(runs))
        metrics = opened.table.metrics
        asked = None if by is None else Criterion.parse(by, where="by", metrics=metrics, weighting="macro")
        return RankingResult(rank_table(opened, asked))
    own = open_study(study)
    criterion = None if by is None else Criterion.parse(by, where="by")
    found = rank_files(own.study, own.folder, criterion, runs=_names(runs), every_step=every_step)
    return RankingResult(found)


def mixture(
    study: PathLike | OpenStudy = ".",
    *,
    shares: PathLike | Mapping[str, Mapping[str, float]] | None = None,
    runs: Sequence[str] | None = None,
    metric: str | None = None,
) -> MixtureResult:
    """What each dataset gains or loses when shares double, from runs that differ in their shares alone.

    `shares`: by run and dataset, or a CSV with a column of runs and one for each dataset; None: what runs were trained
    with here. `metric`: what is fitted; the main loss of the table if None.
    """
    from lossary.tables.load import open_table
    from lossary.tables.mixture import checked_shares, mixtures, other_differences, read_shares, shares_of_runs

    opened = open_table(_path(study), runs=_names(runs))
    if metric is not None and metric not in opened.table.metrics:
        known = ", ".join(opened.table.metrics)
        raise UsageError(f"no metric is called {metric!r}", where="metric", hint=f"Known: {known}.")
    if shares is None:
        known_shares = shares_of_runs(opened.folder, [run.name for run in opened.table.runs])
    else:
        known_shares = checked_shares(shares) if isinstance(shares, Mapping) else read_shares(Path(shares))
        if (asked := _names(runs)) is not None:
            known_shares = {run: found for run, found in known_shares.items() if run in asked}
    others = other_differences(opened.folder, [run.name for run in opened.table.runs if run.name in known_shares])
    return MixtureResult(mixtures(opened.table, known_shares, metric=metric, other_settings=others))


def _decided(found: "Comparison", within: float | Mapping[str, float] | None) -> "Comparison":
    from dataclasses import replace

    from lossary.tables.equality import check_margin, decide

    if within is None:
        return found
    margins = dict(within) if isinstance(within, Mapping) else {"": within}
    for metric, margin in margins.items():
        check_margin(margin, f"{metric}={margin}" if metric else str(margin), where="within")
    decisions = decide(found.table, margins) if found.table is not None else []
    return replace(found, margins=margins, decisions=decisions)


def check(
    study: PathLike | OpenStudy = ".",
    *,
    runs: Sequence[str] | None = None,
    step: Step = None,
    base: str | None = None,
    ignore: Mapping[str, str] | None = None,
) -> CheckResult:
    """What a careful reader would remark on the table, worst first, with evidence, test, threshold and next step.

    `ignore` gives reasons by a rule's code or name, as `[check.ignore]` of the study file does.
    """
    from lossary.findings.folder import check_folder

    return CheckResult(check_folder(_path(study), runs=_names(runs), step=_step(step), base=base, ignore=ignore))


def report(
    study: PathLike | OpenStudy = ".",
    *,
    runs: Sequence[str] | None = None,
    step: Step = None,
    base: str | None = None,
    png: bool = False,
    max_chars: int | None = None,
    out: PathLike | None = None,
) -> ReportFiles:
    """Writes `report/` in the study's folder: the page, and report.md, table.csv and table.json for others to read.

    `base`: the run that differences are of; None is the one with the lowest MLM loss. `png`: pictures of report.md as
    PNG, too. `max_chars`: leave out sections of report.md, the last first, until it is so short. `out`: another folder.
    """
    from lossary.findings.folder import check_table
    from lossary.remote.addresses import check_for_writing
    from lossary.reports.page import ReportOptions, write_report
    from lossary.tables.load import open_paired

    path = _path(study)
    if out is None:
        check_for_writing(path)
    opened = open_paired(path, runs=_names(runs), step=_step(step), base=base)
    options = ReportOptions(png=png, max_chars=max_chars, out=None if out is None else Path(out))
    written = write_report(opened, check_table(opened, where=str(path)), options)
    return ReportFiles(page=written.page, note=written.note or None)


def import_files(
    *files: PathLike | Sequence[PathLike],
    out: PathLike,
    name: str | None = None,
    maps: Sequence[str] = (),
    dry_run: bool = False,
) -> ImportResult:
    """Reads tables and logs that others made into the folder `out`, which then holds a table like a study's.

    Each file is told by its content. `maps` says how names are to be understood, as `--map` does: `NAME=RUN:METRIC`,
    `NAME=DATASET:METRIC`, `NAME=ROLE`, or a file in TOML. With `dry_run` nothing is written. DataError where a file
    cannot be read, or leaves open what its numbers are of.
    """
    from lossary.files import made_folder
    from lossary.results.importers.maps import parse_maps
    from lossary.results.importers.recognise import read_any
    from lossary.tables.imported import save_import

    paths = [_path(path) for file in files for path in ([file] if isinstance(file, (str, os.PathLike)) else file)]
    if not paths:
        raise UsageError("no file is named", where="import_files", hint="Name files or folders.")
    known = parse_maps(list(maps))
    found = [read_any(path, known) for path in paths]
    known.check_all_used()
    folder = Path(out)
    if not dry_run:
        with made_folder(folder):
            save_import(folder, name or paths[0].stem, found)
    return ImportResult(folder=folder, imports=tuple(found), is_written=not dry_run)


def diagnose(
    first: str | os.PathLike[str],
    second: str | os.PathLike[str] = "reference",
    study: PathLike | OpenStudy = ".",
    *,
    like: str | None = None,
    checks: Sequence[str] = (),
    without: Sequence[str] = (),
    datasets: Sequence[str] = (),
    documents: int = 400,
    reported: PathLike | None = None,
) -> DiagnosisResult:
    """Why a side is worse: every stage is compared, causes are named once an experiment has confirmed them.

    A side is an adapter (a .py file), a run, or a backend; `"reference"` is lossary's own float64 computation. Sides
    run in processes of their own. The other arguments are those of `lossary diagnose`.
    """
    from lossary.diagnosis.diagnose import Request
    from lossary.diagnosis.diagnose import diagnose as examine
    from lossary.remote.addresses import check_for_writing

    opened = open_study(study)
    check_for_writing(opened.folder.root)
    request = Request(
        first=os.fspath(first),
        second=os.fspath(second),
        like=like,
        checks=tuple(checks),
        without=tuple(without),
        datasets=tuple(datasets),
        documents=documents,
        threads=os.cpu_count() or 1,
        reported=None if reported is None else Path(reported),
    )
    return DiagnosisResult(examine(opened.study, opened.folder, request))


def _path(study: PathLike | OpenStudy) -> Path:
    if isinstance(study, OpenStudy):
        return study.folder.root
    if not isinstance(study, (str, os.PathLike)):
        raise UsageError(f"{study!r} is no study", hint="A path, a URL or an open study is expected.")
    if isinstance(study, str) and "://" in study:
        from lossary.remote.addresses import is_url, read_for_good

        return read_for_good(study) if is_url(study) else Path(study)
    return Path(study)


def _names(runs: Sequence[str] | None) -> Sequence[str] | None:
    return [runs] if isinstance(runs, str) else runs


def _step(step: Step) -> "StepChoice":
    from lossary.tables.best import parse_step

    return parse_step(None if step is None else str(step))
