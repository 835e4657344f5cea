"""The plan of a study: a pure question to the study file, its sources and what stands in the folder.

    plan = make_plan(study, folder)
    for item in plan.refused: print(item.what, item.why)

Nothing is written. A change that would lose what runs depend on is refused here, before anything is touched.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lossary.backends.devices import lacking_device
from lossary.data.changes import DataChanges, data_changes, reading
from lossary.data.contents import same_contents
from lossary.data.frozen_texts import known_texts
from lossary.data.manifests import read_manifest
from lossary.data.parts import examples_plan, free_name, known_parts, read_run_record, runs_with_results
from lossary.data.shards import MANIFEST
from lossary.errors import CheckpointError, LossaryError
from lossary.folder import StudyFolder
from lossary.models.checkpoints import list_checkpoints
from lossary.naming import Names
from lossary.planning.model import Item, Plan
from lossary.results.records import read_header
from lossary.study import Study
from lossary.tables.own_scores import is_of_other_weights
from lossary.training.plan import branch_point, course_of, plan_run, steps_done

__all__ = ["make_plan"]

_GENERATION = "`--new-generation` keeps all that stands as a study of its own under generations/ and makes it anew"
_UNDO = "undo the change"


def make_plan(
    study: Study,
    folder: StudyFolder,
    *,
    keep: Collection[str] = (),
    waits: bool = True,
    looks: bool = False,
    renew: bool = False,
) -> Plan:
    """What `lossary run` would do. `keep` names datasets that stay though their sources changed.

    Raises SourceError if a source that is needed is missing; UnreadSource if one would have to be read for long and
    the caller does not want to wait. With `looks` sources are looked into, and what is wrong with them, or a device
    that a run asks for and this machine lacks, is an item. With `renew` frozen examples are refused, and do not stay,
    where the study file asks for another number of them.
    """
    drawn, names = study.drawn(), study.names
    keep = [names.drawn_as(name) for name in keep]
    changes = data_changes(drawn, folder.as_drawn, keep=keep, waits=waits, looks=looks)
    plan = _Planner(drawn, folder.as_drawn, names, changes, renew=renew).plan()
    if looks:
        plan = replace(plan, items=tuple(_with_device(study, item) for item in plan.items))
    of_data = ("dataset", "validation", "texts")
    items = (replace(item, name=names.called(item.name)) if item.kind in of_data else item for item in plan.items)
    return Plan(items=tuple(items), lost_runs=plan.lost_runs)


def _with_device(study: Study, item: Item) -> Item:
    if item.kind != "run" or item.fate not in ("made", "anew", "goes on"):
        return item
    # What machines of a cluster have is seen there.
    lacking = lacking_device(study.runs[item.name].device) if study.engine.kind == "local" else None
    return item if lacking is None else replace(item, fate="unusable", why=lacking)


class _Planner:
    """Datasets go by what they are drawn as, but for what is told of them."""

    def __init__(self, study: Study, folder: StudyFolder, names: Names, changes: DataChanges, *, renew: bool) -> None:
        self.renew = renew
        self.study = study
        self.folder = folder
        self.called = names.called
        self.changes = changes
        self.used = runs_with_results(folder)
        self.lost: set[str] = set()

    def plan(self) -> Plan:
        items = [self._tokenizer(), *self._datasets(), *self._validation()]
        # What is refused above decides about runs, and they about scores.
        items += [*self._runs()]
        items += [*self._scores(items), *self._left_over()]
        return Plan(items=tuple(items), lost_runs=frozenset(self.lost))

    def _tokenizer(self) -> Item:
        change = self.changes.tokenizer
        if change.fate == "anew" and self.used:
            self.lost |= set(self.used)
            why = f"{change.why}, and runs depend on it: {', '.join(self.used)}"
            return Item(kind="tokenizer", name="", fate="refused", why=why, ways=(_UNDO, _GENERATION))
        return Item(kind="tokenizer", name="", fate=change.fate, why=change.why)

    def _datasets(self) -> Iterator[Item]:
        for name, change in self.changes.datasets.items():
            if change.fate == "unusable":
                yield Item(kind="dataset", name=name, fate="unusable", why=change.why)
                continue
            users = self._users(name) if change.fate == "anew" else []
            if not users:
                more = self._earlier_name(name) if change.fate == "made" else self._drawn_as(name)
                yield Item(kind="dataset", name=name, fate=change.fate, why="; ".join(filter(None, [change.why, more])))
                continue
            self.lost |= set(users)
            why = f"{change.why}, and runs depend on what was made of it: {', '.join(users)}"
            yield Item(kind="dataset", name=name, fate="refused", why=why, ways=self._ways_of(name))

    def _ways_of(self, name: str) -> tuple[str, ...]:
        """The ways out of a change of a dataset that runs depend on."""
        if self.changes.tokenizer.fate == "anew":
            return _UNDO, _GENERATION
        called, free = self.called(name), free_name(self.folder, list(self.study.datasets), name)
        return (
            _UNDO,
            f"`--keep-prepared {called}` goes on with what was prepared",
            f'drawn_as = "{free}" in [datasets.{called}] makes it a new dataset; runs keep what they were trained on',
            _GENERATION,
        )

    def _drawn_as(self, name: str) -> str:
        called = self.called(name)
        return "" if called == name else f"draws and files go by {name}, what it was called"

    def _earlier_name(self, name: str) -> str:
        """Whether a new dataset reads just what one read that left the study, as after a renaming by hand."""
        asked = self.study.datasets[name]
        for path in sorted((self.folder.root / "prepared").glob(f"*/{MANIFEST}")):
            other = path.parent.name
            if other in self.study.datasets or other.startswith("."):
                continue
            before, contents = read_manifest(path.parent), self.changes.datasets[name].contents
            same = contents is None or same_contents(before["files"], contents)
            if same and (before["source"], before.get("reading")) == (list(asked.sources), reading(asked)):
                return (
                    f'it reads what {other} was made of: if it is {other} under another name, say drawn_as = "{other}" '
                    f"in [datasets.{self.called(name)}] first, and what was made counts"
                )
        return ""

    def _users(self, dataset: str) -> list[str]:
        """Runs that were trained on a dataset, or scored on its examples."""
        return [run for run in self.used if dataset in self._trained_on(run) or dataset in self._scored_on(run)]

    def _trained_on(self, run: str) -> list[str]:
        return list((read_run_record(self.folder, run) or {}).get("datasets", []))

    def _scored_on(self, run: str) -> list[str]:
        files = sorted((self.folder.run(run) / "scores").glob("*.parquet"))
        try:
            return list(read_header(files[-1], as_drawn=True).validation) if files else []
        except LossaryError:
            # What a damaged file was scored on is not known: it may be anything.
            return list(self.study.datasets)

    def _validation(self) -> Iterator[Item]:
        known = known_parts(self.folder)
        parts = examples_plan(self.study, self.folder, anew=self.changes.anew, renew=self.renew)
        for name, part in parts.items():
            if self.changes.datasets[name].fate == "unusable":
                continue
            fate = "anew" if part.fate == "frozen" and name in known else part.fate
            if fate == "refused" and self.changes.datasets[name].fate == "made":
                stay = f"{known[name]['examples']:,} examples stay if it holds what they were frozen from"
                why = f"{stay}, else it is refused"
                yield Item(kind="validation", name=name, fate="kept", why=why)
            elif fate == "refused" and name in self.changes.anew:
                # Its dataset is refused, or the tokenizer: one cause is told once.
                yield Item(kind="validation", name=name, fate="anew", why="its documents are made anew")
            elif fate == "frozen":
                yield Item(kind="validation", name=name, fate="made")
            elif fate == "refused":
                self.lost |= set(self._users(name))
                yield Item(kind="validation", name=name, fate="refused", why=part.why, ways=(_UNDO, _GENERATION))
            else:
                yield Item(kind="validation", name=name, fate="anew" if fate == "anew" else "kept", why=part.why)
            # A part that is made now has its text from the start.
            if fate == "kept" and self._lacks_text(known[name]):
                yield Item(
                    kind="texts", name=name, fate="made", why="read again from the sources; nothing else changes"
                )

    def _lacks_text(self, part: Mapping[str, Any]) -> bool:
        """Whether a part was frozen without its text, and the sources still hold it."""
        has_sources = self.changes.datasets[part["dataset"]].contents is not None
        return has_sources and known_texts(self.folder, part) is None

    def _runs(self) -> Iterator[Item]:
        places = dict[Path, str]()
        for run in self.study.runs:
            other = places.setdefault(self.folder.run(run).resolve(), run)
            if other != run:
                why = f"{self.folder.run(run)} is a link to the folder of run {other}"
                yield Item(kind="run", name=run, fate="refused", why=why, ways=("take the link away",))
            elif run in self.lost:
                yield Item(kind="run", name=run, fate="anew", why="what it depends on is made anew")
            elif run not in self.used or not steps_done(self.folder, run):
                yield self._new_run(run)
            else:
                yield self._begun_run(run)

    def _new_run(self, run: str) -> Item:
        twin = self._renamed_from(run)
        if twin is not None:
            why = f"it is set up as {twin} was, which stands in the folder and no longer in the study file"
            ways = (f"call it {twin} again", f"move {self.folder.run(twin)} away if it is another run")
            return Item(kind="run", name=run, fate="refused", why=why, ways=ways)
        start = self.study.runs[run].start
        if start is None:
            return Item(kind="run", name=run, fate="made", why=f"{self.study.recipe_of(run).steps:,} steps")
        where = f"from {f'step {start.step:,}' if start.step else 'the newest checkpoint'} of {start.run}"
        steps = self.study.recipe_of(start.run).steps
        done = steps_done(self.folder, start.run)
        own, begins = self.study.recipe_of(run).steps, start.step or max(done, steps)
        if begins >= own:
            why = f"it starts at step {begins:,} of {start.run} and has {own:,} steps"
            ways = ("give it more steps", "name an earlier step to start from")
            return Item(kind="run", name=run, fate="refused", why=why, ways=ways)
        if done >= min(start.step or steps, steps):
            try:
                branch_point(self.study, self.folder, run)
            except CheckpointError as error:
                why = f"{error.message}. {error.hint or ''}".strip()
                return Item(kind="run", name=run, fate="refused", why=why, ways=("name a step that is there",))
        return Item(kind="run", name=run, fate="made", why=where)

    def _renamed_from(self, run: str) -> str | None:
        """A run that left the study file and was set up as this one is."""
        for other in self.used:
            before = None if other in self.study.runs else read_run_record(self.folder, other)
            if before is None:
                continue
            recipe = self.study.recipe_of(run).model_dump()
            settings = self.study.runs[run]
            if (before["backend"], before["size"]) == (settings.backend, settings.size_value) and all(
                recipe.get(key) == value for key, value in before["recipe"].items()
            ):
                return other
        return None

    def _begun_run(self, run: str) -> Item:
        course = course_of(plan_run(self.study, self.folder, run), self.folder)
        if course.fate == "refused":
            self.lost.add(run)
            ways = (_UNDO, "give the changed run another name", _GENERATION)
            return Item(kind="run", name=run, fate="refused", why=course.why, ways=ways)
        return Item(kind="run", name=run, fate=course.fate, why=course.why + self._mixture_note(run))

    def _mixture_note(self, run: str) -> str:
        trained = self._trained_on(run)
        more = [name for name in self.study.datasets_of(run) if name not in trained]
        if not (trained and more):
            return ""
        return f"; trained on {', '.join(map(self.called, trained))}, not on {', '.join(map(self.called, more))}"

    def _scores(self, items: list[Item]) -> Iterator[Item]:
        moved = [item.name for item in items if item.kind == "validation" and item.fate != "kept"]
        runs = {item.name: item.fate for item in items if item.kind == "run"}
        parts = {name: part["digest"] for name, part in known_parts(self.folder).items()}
        for run, fate in runs.items():
            checkpoints = list_checkpoints(self.folder.checkpoints(run))
            path = self.folder.scores(run, steps_done(self.folder, run))
            if fate != "kept" or not checkpoints or not path.is_file():
                yield Item(kind="scores", name=run, fate="made")
            elif moved:
                why = f"for the examples of {', '.join(map(self.called, moved))}"
                yield Item(kind="scores", name=run, fate="anew", why=why)
            else:
                scored = self._header_parts(run)
                current = all(scored.get(name) == parts.get(name) for name in self.study.datasets)
                current = current and not is_of_other_weights(self.folder, run, path)
                yield Item(kind="scores", name=run, fate="kept" if current else "anew")

    def _header_parts(self, run: str) -> dict[str, str]:
        try:
            path = self.folder.scores(run, steps_done(self.folder, run))
            return dict(read_header(path, as_drawn=True).validation)
        except LossaryError:
            return {}

    def _left_over(self) -> Iterator[Item]:
        for run in self.used:
            if run not in self.study.runs and (self.folder.run(run) / "run.json").is_file():
                why = f"no longer in the study file; its scores are shown until {self.folder.run(run)} is moved away"
                yield Item(kind="run", name=run, fate="left over", why=why)
        prepared = self.folder.root / "prepared"
        for path in sorted(prepared.glob(f"*/{MANIFEST}")):
            name = path.parent.name
            if name not in self.study.datasets and not name.startswith("."):
                why = "no longer in the study file; runs that were trained on it may need it"
                yield Item(kind="dataset", name=name, fate="left over", why=why)
