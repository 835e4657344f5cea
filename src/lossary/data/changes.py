"""What of tokenizer and datasets stays, and what would be made: asked before anything is written.

    changes = data_changes(study, folder)
    changes.datasets["wiki"].fate             # kept, made or anew
    changes.datasets["wiki"].why

A dataset stays while the files that it was made from hold the same, wherever they lie, and are read the same way; also
where they are gone. A tokenizer stays while its settings do and some run depends on it: whatever datasets came since.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from lossary.data.contents import Content, Contents, same_contents
from lossary.data.judging import judge
from lossary.data.manifests import MANIFEST, SCHEMA, read_manifest
from lossary.data.parts import runs_with_results
from lossary.data.source_files import SourceFile, list_files
from lossary.data.tokenizer import model_digest, model_fault, named_model
from lossary.errors import SourceError, UnreadSource
from lossary.files import digest_json, read_json
from lossary.folder import StudyFolder
from lossary.study import Dataset, Study

__all__ = ["Change", "DataChanges", "DatasetChange", "Fate", "data_changes", "reading"]

# "unusable": a source is missing, cannot be read, or holds no usable row; `why` says which.
Fate = Literal["kept", "made", "anew", "unusable"]


@dataclass(frozen=True, kw_only=True)
class Change:
    """What happens to something, and why."""

    fate: Fate
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class DatasetChange(Change):
    """`files` and `contents` are None where the sources are gone and what was made of them stays."""

    files: list[SourceFile] | None
    contents: list[Content] | None


@dataclass(frozen=True, kw_only=True)
class DataChanges:
    """What happens to the tokenizer and to each dataset of a study; `record` is what a tokenizer would be made from."""

    tokenizer: Change
    datasets: dict[str, DatasetChange]
    record: Mapping[str, Any]

    @property
    def anew(self) -> list[str]:
        """Datasets whose documents are not known yet."""
        return [name for name, change in self.datasets.items() if change.fate != "kept"]


def data_changes(
    study: Study, folder: StudyFolder, *, keep: Collection[str] = (), waits: bool = True, looks: bool = False
) -> DataChanges:
    """Asks every source and what stands; writes nothing.

    `keep` names datasets that stay as they were prepared though their sources changed. Raises SourceError if a source
    that is needed is missing; UnreadSource where one would have to be read for long, unless the caller `waits`. Who
    `looks` has the rows judged of what would be read, too, and is told of what is wrong as the fate of its dataset.
    """
    return _Question(study, folder, frozenset(keep), waits=waits, looks=looks).answer()


def reading(dataset: Dataset) -> dict[str, Any]:
    """How a dataset's files are read: everything of its settings that changes which text comes out."""
    # What is not set is not named: what was made before a key was known stays what it is.
    more = {"join": dataset.join, "where": dataset.where, "limit": dataset.limit}
    plain = {"fields": list(dataset.fields), "documents": dataset.documents}
    return plain | {key: value for key, value in more.items() if value is not None}


class _Question:
    def __init__(self, study: Study, folder: StudyFolder, keep: frozenset[str], *, waits: bool, looks: bool) -> None:
        self.waits = waits
        self.looks = looks
        self.faults: dict[str, SourceError] = {}
        self.study = study
        self.folder = folder
        self.keep = keep
        self.manifests = {
            name: read_manifest(folder.dataset(name))
            for name in study.datasets
            if (folder.dataset(name) / MANIFEST).is_file()
        }
        files = (file for manifest in self.manifests.values() for file in manifest["files"])
        self.known = Contents({file["path"]: file for file in files}, waits=waits)
        self.files: dict[str, list[SourceFile] | None] = {}
        self.contents: dict[str, list[Content] | None] = {}

    def answer(self) -> DataChanges:
        for name in self.study.datasets:
            self.files[name], self.contents[name] = self._sources(name)
        tokenizer = self._looked_at(self._tokenizer())
        datasets = {name: self._dataset(name, tokenizer) for name in self.study.datasets}
        if self.looks:
            datasets = {name: self._judged(name, change) for name, change in datasets.items()}
        return DataChanges(tokenizer=tokenizer, datasets=datasets, record=self.record)

    def _sources(self, name: str) -> tuple[list[SourceFile] | None, list[Content] | None]:
        dataset = self.study.datasets[name]
        where = f"{self.folder.study_file}: $.datasets.{self.study.called(name)}.source"
        try:
            files = list_files(dataset, self.folder.root, where=where, waits=self.waits)
            return files, [self.known.of(file) for file in files]
        except UnreadSource:
            raise
        except SourceError as error:
            before = self.manifests.get(name)
            if before is not None and before["source"] == list(dataset.sources) and _whole(self.folder, name, before):
                return None, None
            if not self.looks:
                raise
            self.faults[name] = error
            return None, None

    def _looked_at(self, change: Change) -> Change:
        """The change, if the tokenizer that would be taken can be taken."""
        model = self.study.tokenizer.model
        if not self.looks or change.fate == "kept" or model is None:
            return change
        fault = model_fault(self.folder, named_model(self.folder, model), sop=self.study.recipe.has_sop)
        return change if fault is None else Change(fate="unusable", why=fault)

    def _judged(self, name: str, change: DatasetChange) -> DatasetChange:
        """The change, if what it would read can be read."""
        if change.fate != "kept" and name not in self.faults:
            called = self.study.called(name)
            try:
                where = f"{self.folder.study_file}: $.datasets.{called}"
                judge(called, self.study.datasets[name], change.files or [], where=where)
            except SourceError as error:
                self.faults[name] = error
        fault = self.faults.get(name)
        if fault is None:
            return change
        why = "; ".join(filter(None, [fault.message, fault.where, fault.hint]))
        return DatasetChange(fate="unusable", why=why, files=None, contents=None)

    @cached_property
    def record(self) -> dict[str, Any]:
        """What a tokenizer is made from, as its manifest keeps it."""
        settings = self.study.tokenizer
        if settings.model is not None:
            made_from: dict[str, Any] = {"model": model_digest(named_model(self.folder, settings.model))}
        else:
            made_from = {
                "settings": settings.model_dump(),
                "shares": self.study.mixture.shares,
                "seed": self.study.seed,
                "trained_on": {name: self._trained_on(name) for name in self.study.datasets},
            }
        return {"request": digest_json(made_from), "made_from": made_from}

    def _trained_on(self, name: str) -> str:
        contents = self.contents[name]
        if contents is None and name not in self.manifests:
            return "unusable"
        found = self.manifests[name]["files"] if contents is None else contents
        digests = [content.get("digest") for content in found]
        return digest_json([digests, reading(self.study.datasets[name])])

    def _tokenizer(self) -> Change:
        path = self.folder.tokenizer / MANIFEST
        if not path.is_file():
            return Change(fate="made")
        before = read_json(path)
        if self._is_another(before["digest"]):
            return Change(fate="anew", why=f"{path.parent} holds another one than the datasets were prepared with")
        if before["request"] == self.record["request"]:
            return Change(fate="kept")
        was, now = before.get("made_from"), self.record["made_from"]
        used = runs_with_results(self.folder)
        if was is None:
            return Change(fate="kept" if used else "anew", why="it was made by an earlier lossary")
        if "model" in was and now == {"model": None}:
            return Change(fate="kept", why="the file that it was taken from is gone")
        for key, what in (("settings", "[tokenizer]"), ("seed", "the seed"), ("model", "the model")):
            if was.get(key) != now.get(key):
                return Change(fate="anew", why=f"{what} changed{_difference(was.get(key), now.get(key))}")
        if used:
            trained_on = sorted(map(self.study.called, was["trained_on"]))
            return Change(fate="kept", why=f"runs use it; it was trained on {', '.join(trained_on)} as they were")
        return Change(fate="anew", why="the text that it is trained on changed")

    def _is_another(self, digest: str) -> bool:
        """Whether what lies there was put in the place of what all datasets were prepared with."""
        used = {manifest["tokenizer_digest"] for manifest in self.manifests.values()}
        return len(used) == 1 and digest not in used and bool(runs_with_results(self.folder))

    def _dataset(self, name: str, tokenizer: Change) -> DatasetChange:
        files, contents = self.files[name], self.contents[name]
        before = self.manifests.get(name)
        made = DatasetChange(fate="made", files=files, contents=contents)
        if before is None:
            return made
        if tokenizer.fate != "kept":
            return DatasetChange(fate="anew", why="the tokenizer is made anew", files=files, contents=contents)
        if before.get("schema", 1) < SCHEMA:
            why = "it was tokenised by an earlier lossary"
            return DatasetChange(fate="anew", why=why, files=files, contents=contents)
        if (other := before.get("name", name)) != name:
            # Copied there: to keep it would call one text by the name of another.
            why = f"what lies there was made of {self.study.called(other)}"
            return DatasetChange(fate="anew", why=why, files=files, contents=contents)
        model = read_json(self.folder.tokenizer / MANIFEST)["digest"]
        if before["tokenizer_digest"] != model or not _whole(self.folder, name, before):
            why = "its tokenizer changed" if before["tokenizer_digest"] != model else "its files are not all there"
            return DatasetChange(fate="anew", why=why, files=files, contents=contents)
        was = before.get("reading", {"fields": before["text"], "documents": self.study.datasets[name].documents})
        now = reading(self.study.datasets[name])
        if was != now:
            why = f"it is read another way{_difference(was, now)}"
        elif contents is None:
            return DatasetChange(
                fate="kept", why="its sources are gone; what was made of them stays", files=None, contents=None
            )
        elif not same_contents(before["files"], contents):
            why = _what_changed(before["files"], contents)
        else:
            return DatasetChange(fate="kept", files=files, contents=contents)
        if name in self.keep:
            return DatasetChange(fate="kept", why=f"though {why}", files=None, contents=None)
        return DatasetChange(fate="anew", why=why, files=files, contents=contents)


def _whole(folder: StudyFolder, name: str, manifest: Mapping[str, Any]) -> bool:
    return all((folder.dataset(name) / shard["name"]).is_file() for shard in manifest["shards"])


def _difference(was: Any, now: Any) -> str:
    if not isinstance(was, dict) or not isinstance(now, dict):
        return ""
    keys = [key for key in sorted(was | now) if was.get(key) != now.get(key)]
    return ": " + ", ".join(f"{key} was {_shown(was.get(key))}, is {_shown(now.get(key))}" for key in keys)


def _shown(value: Any) -> str:
    return "not set" if value is None else repr(value)


def _what_changed(before: list[Content], now: list[Content]) -> str:
    if len(before) != len(now):
        return f"its source has {len(now):,} files, {len(before):,} before"
    sizes = sum(content["bytes"] for content in before), sum(content["bytes"] for content in now)
    if sizes[0] != sizes[1]:
        return f"its source had {sizes[0]:,} bytes, and has {sizes[1]:,}"
    return "its source holds something else"
