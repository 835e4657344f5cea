"""From text to shards, frozen examples and training examples."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from lossary.data.manifests import MANIFEST, read_manifest
from lossary.data.parts import read_validation_manifest
from lossary.data.prepare import prepare_datasets
from lossary.data.validation import prepare_examples
from lossary.engines.api import Engine
from lossary.errors import ChangeRefused, UsageError
from lossary.files import clear_leftovers
from lossary.findings.bearing import LEAST
from lossary.folder import StudyFolder
from lossary.launcher import Listener
from lossary.lease import STUDY, hold, refuse_beside_runs, run_lease
from lossary.planning.generations import begin_generation, remember_study_file
from lossary.planning.plan import make_plan
from lossary.planning.text import plan_lines, refusal
from lossary.study import Study

__all__ = ["Allowed", "prepare"]


@dataclass(frozen=True, kw_only=True)
class Allowed:
    """What may be done with changes that would lose what stands: some datasets stay as they were prepared; or all that
    stands is kept as a generation, and made anew."""

    keep_prepared: Sequence[str] = ()
    new_generation: bool = False


def prepare(
    study: Study,
    folder: StudyFolder,
    *,
    workers: int | None = None,
    allowed: Allowed = Allowed(),
    engine: Engine | None = None,
    listener: Listener,
) -> None:
    """Tokenizer, shards, validation set and training examples.

    Raises ChangeRefused, before anything is touched, if that would lose what stands, and BusyError if another process
    makes them.
    """
    with hold(folder, STUDY, doing="prepare"):
        _clear(folder)
        _settle(study, folder, allowed, listener)
        _prepare(study, folder, workers, (allowed, engine), listener)


def _clear(folder: StudyFolder) -> None:
    """Takes away what a preparation left that was killed; large data leave much."""
    for path in (folder.tokenizer, folder.made_by):
        clear_leftovers(folder.root, path.name)
    prepared = folder.root / "prepared"
    for place in (folder.generations, folder.validation, prepared, *folder.validation.glob("*/"), *prepared.glob("*/")):
        clear_leftovers(place)


def _prepare(
    study: Study,
    folder: StudyFolder,
    workers: int | None,
    asked: tuple[Allowed, Engine | None],
    listener: Listener,
) -> None:
    allowed, engine = asked
    names = folder.names
    keep = [names.drawn_as(name) for name in allowed.keep_prepared]
    manifests = prepare_datasets(
        study.drawn(),
        folder.as_drawn,
        workers=workers,
        keep=keep,
        tokenisers=None if engine is None else engine.tokenisers,
        progress=listener.progress,
    )
    for name, manifest in ((names.called(drawn), manifest) for drawn, manifest in manifests.items()):
        for note in manifest["notes"]:
            listener.note(f"{name}: {names.told(note)}")
        if manifest["bad_rows"]:
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(manifest["bad_reasons"].items()))
            quarantine = folder.dataset(name) / "quarantine.jsonl"
            listener.note(f"{name}: {manifest['bad_rows']:,} bad rows left out ({reasons}); samples in {quarantine}")
    before = _validation_digest(folder)
    notes = prepare_examples(study.drawn(), folder.as_drawn, progress=listener.progress)
    if _validation_digest(folder) != before:
        for note in read_validation_manifest(folder)["notes"]:
            listener.note(f"validation: {note}")
        notes = [*notes, *_few_pairs(study, folder)]
    for note in notes:
        listener.note(f"validation: {names.told(note)}")
    for note in _nothing_to_train_on(study, folder):
        listener.note(note)
    remember_study_file(folder)


def _few_pairs(study: Study, folder: StudyFolder) -> list[str]:
    """Datasets whose pairs are fewer than the rules on SOP need to speak."""
    if not any(study.recipe_of(run).has_sop for run in study.runs):
        return []
    per_dataset, least = read_validation_manifest(folder)["per_dataset"], LEAST["L102"].n
    few = [f"{name} {found['sop_pairs']:,}" for name, found in per_dataset.items() if found["sop_pairs"] < least]
    if not few:
        return []
    return [
        f"fewer than {least} pairs of segments in {', '.join(few)}: sentence order says next to nothing there; "
        "raise [validation] examples, or take documents of several sentences"
    ]


def _nothing_to_train_on(study: Study, folder: StudyFolder) -> list[str]:
    """Datasets all of whose text is in the validation set: runs on them will be refused."""
    notes = []
    for run in study.runs:
        length = study.recipe_of(run).sequence_length
        for name in study.datasets_of(run):
            spans = folder.spans(name, length)
            if (spans / MANIFEST).is_file() and not read_manifest(spans).get("examples"):
                notes.append(f"{name}: no text is left for training, and {run} trains on it")
    return notes


def _settle(study: Study, folder: StudyFolder, allowed: Allowed, listener: Listener) -> None:
    """The plan stands before anything is touched, and is told."""
    unknown = [name for name in allowed.keep_prepared if name not in study.datasets]
    if unknown:
        known = ", ".join(study.datasets)
        raise UsageError(f"no dataset is called {unknown[0]!r}", where="--keep-prepared", hint=f"Datasets: {known}.")
    plan = make_plan(study, folder, keep=allowed.keep_prepared)
    if allowed.new_generation and not plan.refused:
        # Asked for where nothing is lost: then the examples that would stay are to be as many as the study file says.
        plan = make_plan(study, folder, keep=allowed.keep_prepared, renew=True)
    if plan.refused:
        if not allowed.new_generation:
            raise ChangeRefused(refusal(plan), where=str(folder.study_file))
        with ExitStack() as held:
            for run in sorted(plan.lost_runs):
                held.enter_context(hold(folder, run_lease(run)))
            listener.note(f"all that stood is kept in {begin_generation(folder, plan)}")
        plan = make_plan(study, folder, keep=allowed.keep_prepared)
    again = [
        item.what for item in plan.items if item.fate == "anew" and item.kind in ("tokenizer", "dataset", "validation")
    ]
    if again:
        refuse_beside_runs(folder, f"making {', '.join(again)} anew")
    for line in plan_lines(plan.changes):
        listener.note(f"plan: {line}")


def _validation_digest(folder: StudyFolder) -> str | None:
    found = (folder.validation / MANIFEST).is_file()
    return str(read_manifest(folder.validation)["digest"]) if found else None
