"""What stands in a study and what works on it right now, told from its files: nothing is written, asked or waited for.

    found = status_of(Path("study"))
    found.runs[0].state, found.working, found.next.text

Whatever is damaged or vanishes while it is read becomes a problem that is told; the rest is told all the same.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from lossary.data.manifests import MANIFEST, read_manifest
from lossary.data.parts import read_run_record
from lossary.data.tokenizer import MODELS
from lossary.errors import DataError, LossaryError, StudyError, UnreadSource, UsageError
from lossary.failures import explain
from lossary.files import read_json
from lossary.folder import StudyFolder
from lossary.lease import Leases, leases_of
from lossary.planning.model import Plan
from lossary.planning.plan import make_plan
from lossary.reports.closing import kept_page
from lossary.results.progress import RunProgress, run_progress
from lossary.study import Study
from lossary.study_file import load_study

__all__ = ["DatasetStatus", "NextStep", "Problem", "Stand", "Status", "next_step", "status_of"]

Stand = Literal["made", "partly made", "missing", "damaged"]
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something that cannot be read: where, and why."""

    where: str
    message: str

    @classmethod
    def of(cls, error: LossaryError) -> "Problem":
        return cls(where=error.where or "", message=error.message)


@dataclass(frozen=True, kw_only=True)
class DatasetStatus:
    """What is prepared of a dataset; numbers are None where they are not known."""

    name: str
    state: Stand
    documents: int | None = None
    tokens: int | None = None
    training_examples: dict[int, int] = field(default_factory=dict)  # by sequence length
    validation: Stand = "missing"
    validation_examples: int | None = None


@dataclass(frozen=True, kw_only=True)
class NextStep:
    """What `lossary run` would do, in one line; `kind` is that in one word."""

    kind: Literal["work", "nothing", "refused", "busy", "unknown"]
    text: str


@dataclass(frozen=True, kw_only=True)
class Status:
    """A study at one moment. `name` is None where its file cannot be read."""

    folder: Path
    name: str | None
    tokenizer: Stand
    vocabulary_size: int | None
    datasets: tuple[DatasetStatus, ...]
    runs: tuple[RunProgress, ...]
    others: tuple[str, ...]  # runs in the folder that the study file does not name
    leases: Leases
    next: NextStep
    problems: tuple[Problem, ...]


def status_of(path: Path) -> Status:
    """The status of a study, given as its file or folder. StudyError where there is no study at all."""
    file = path / "study.toml" if path.is_dir() else path
    folder = StudyFolder(file.resolve().parent)
    if not file.is_file():
        _refuse_no_study(folder)
    return _Look(file, folder).status()


def _refuse_no_study(folder: StudyFolder) -> None:
    """What is made of a study whose file is gone can be told; where nothing is made there is no study."""
    from lossary.tables.load import is_imported

    if is_imported(folder.root):
        raise UsageError(
            "it holds imported numbers, and nothing is made of them", where=str(folder.root), hint="`lossary show`."
        )
    if not any(path.is_dir() for path in (folder.root / "runs", folder.root / "prepared", folder.tokenizer)):
        hint = "`lossary init` writes one; every verb takes a study file or the folder that holds study.toml."
        raise StudyError("no such study file", where=str(folder.study_file), hint=hint)


class _Look:
    def __init__(self, file: Path, folder: StudyFolder) -> None:
        self.folder = folder
        self.problems: list[Problem] = []
        self.study = self._kept(lambda: load_study(file))

    def status(self) -> Status:
        leases = self._kept(lambda: leases_of(self.folder)) or Leases([], [], [])
        for path in leases.unreadable:
            self.problems.append(Problem(where=str(path), message="not readable as a lease; nobody minds it"))
        vocabulary = self._tokenizer()
        datasets = tuple(self._datasets())
        runs = self._runs()
        return Status(
            folder=self.folder.root,
            name=None if self.study is None else self.study.name,
            tokenizer=vocabulary[0],
            vocabulary_size=vocabulary[1],
            datasets=datasets,
            runs=runs,
            others=tuple(name for name in self._names("runs") if self.study is None or name not in self.study.runs),
            leases=leases,
            next=self._next(leases),
            problems=tuple(dict.fromkeys(self.problems)),
        )

    def _kept(self, read: Callable[[], _T]) -> _T | None:
        """What was read; None, and a problem, if that failed."""
        try:
            return read()
        except Exception as error:
            self._note(error)
            return None

    def _note(self, error: Exception) -> None:
        told = explain(error)
        if told is None and not isinstance(error, LookupError | ValueError | TypeError | AttributeError):
            raise error
        # JSON that is well-formed and holds something else than lossary wrote.
        self.problems.append(Problem.of(told or DataError(f"damaged: {type(error).__name__}: {error}")))

    def _names(self, kind: str) -> list[str]:
        """Folders below `prepared` or `runs`; hidden ones are being made."""
        paths = self._kept(lambda: sorted((self.folder.root / kind).glob("*/"))) or []
        return [path.name for path in paths if not path.name.startswith(".")]

    def _tokenizer(self) -> tuple[Stand, int | None]:
        path = self.folder.tokenizer / MANIFEST
        if not path.is_file():
            return ("partly made" if self.folder.tokenizer.is_dir() else "missing"), None
        size = self._kept(lambda: int(read_json(path)["vocabulary_size"]))
        if size is not None and not any((self.folder.tokenizer / name).is_file() for name in MODELS):
            self.problems.append(Problem(where=str(self.folder.tokenizer / MODELS[0]), message="no such file"))
            return "damaged", size
        return ("damaged" if size is None else "made"), size

    def _datasets(self) -> Iterator[DatasetStatus]:
        names = self._names("prepared") if self.study is None else list(self.study.datasets)
        validation = self._manifest(self.folder.validation) or {}
        listed = validation.get("per_dataset", {})
        for name in names:
            prepared = self.folder.dataset(name)
            manifest = self._manifest(prepared)
            partial = prepared.with_name(f".{prepared.name}.partial").is_dir()
            counted = listed.get(prepared.name) if isinstance(listed, dict) else None
            found = self._kept(lambda: _numbers(manifest, counted))  # noqa: B023
            yield DatasetStatus(
                name=name,
                state=self._stand(prepared, manifest, partly=partial),
                training_examples=self._training_examples(name),
                validation=self._part(name, validation),
                **(found or {}),
            )

    def _manifest(self, folder: Path) -> dict[str, Any] | None:
        return self._kept(lambda: read_manifest(folder)) if (folder / MANIFEST).is_file() else None

    def _stand(self, folder: Path, manifest: dict[str, Any] | None, *, partly: bool) -> Stand:
        if manifest is None:
            return "damaged" if (folder / MANIFEST).is_file() else "partly made" if partly else "missing"
        gone = self._kept(lambda: [s["name"] for s in manifest["shards"] if not (folder / s["name"]).is_file()])
        for name in gone or []:
            self.problems.append(Problem(where=str(folder / name), message="no such file"))
        return "damaged" if gone or gone is None else "made"

    def _training_examples(self, dataset: str) -> dict[int, int]:
        found = {}
        for path in self._kept(lambda: sorted(self.folder.dataset(dataset).glob(f"spans-*/{MANIFEST}"))) or []:
            length, manifest = path.parent.name.removeprefix("spans-"), self._manifest(path.parent)
            count = None if manifest is None else self._kept(lambda: int(manifest["examples"]))  # noqa: B023
            if length.isascii() and length.isdigit() and count is not None:
                found[int(length)] = count
        return found

    def _part(self, dataset: str, validation: dict[str, Any]) -> Stand:
        """Whether the validation examples of a dataset are the listed ones."""
        parts, path = validation.get("parts"), self.folder.validation_part(dataset)
        if not isinstance(parts, dict):
            # Of an earlier lossary, in one piece.
            return "made" if path.name in validation.get("datasets", ()) else "missing"
        manifest = self._manifest(path)
        if path.name not in parts:
            return "missing" if manifest is None else "partly made"
        if manifest is None or manifest.get("digest") != parts[path.name]:
            message = "the frozen validation examples are missing or were changed"
            self.problems.append(Problem(where=str(path), message=message))
            return "damaged"
        return "made"

    def _runs(self) -> tuple[RunProgress, ...]:
        study = self.study
        if study is None:
            return ()
        runs = self._kept(lambda: run_progress(study, self.folder)) or []
        self.problems += [Problem.of(problem) for run in runs for problem in run.problems]
        for run in runs:
            self._kept(lambda: read_run_record(self.folder, run.run))  # noqa: B023
        return tuple(runs)

    def _next(self, leases: Leases) -> NextStep:
        if self.study is None:
            return NextStep(kind="refused", text="refuse: the study file cannot be read")
        data = next((holder for holder in leases.working if holder.run is None), None)
        if data is not None:
            return NextStep(kind="busy", text=f"refuse (exit 75): process {data.pid} on {data.host} prepares the study")
        busy = [one.run for one in leases.working if one.run is not None]
        try:
            try:
                return next_step(self.study, self.folder, busy=busy)
            except (LossaryError, OSError):
                # A file that vanished while it was read is not looked for twice.
                return next_step(self.study, self.folder, busy=busy)
        except UnreadSource as error:
            where = f"{error.where}: " if error.where else ""
            text = f"not told without reading sources ({where}{error.message}): `lossary plan` reads and tells"
            return NextStep(kind="unknown", text=text)
        except Exception as error:
            self._note(error)
            found = self.problems[-1]
            where = f"{found.where}: " if found.where else ""
            return NextStep(kind="refused", text=f"refuse: {where}{found.message}")


def next_step(study: Study, folder: StudyFolder, *, busy: Collection[str] = ()) -> NextStep:
    """What `lossary run` would do now; `busy` names runs that others work on.

    Raises what `make_plan` raises, UnreadSource where that would take long.
    """
    plan = make_plan(study, folder, waits=False)
    if plan.refused:
        what = _listed([item.what for item in plan.refused])
        return NextStep(kind="refused", text=f"refuse {what}: `lossary plan` says why, and ways out")
    work = list(_work(plan, busy))
    free = [run for run in study.runs if run not in busy]
    if busy and (work or not free):
        work.append(f"leave out {_listed(list(busy))}, which others work on")
    if not work:
        if not study.runs:
            text = "do nothing: it has no runs; `lossary evaluate --checkpoint FOLDER` scores others"
            return NextStep(kind="nothing", text=text)
        rest = "" if kept_page(study, folder) else " but write the report"
        return NextStep(kind="nothing", text=f"do nothing{rest}: all is made, trained and scored")
    return NextStep(kind="busy" if busy and not free else "work", text="; ".join(work))


_VERBS = {
    ("tokenizer", "made"): "train the tokenizer",
    ("tokenizer", "anew"): "train the tokenizer anew",
    ("dataset", "made"): "prepare",
    ("dataset", "anew"): "prepare anew",
    ("validation", "made"): "freeze validation examples of",
    ("validation", "anew"): "freeze anew validation examples of",
    ("run", "made"): "train",
    ("run", "anew"): "train anew",
    ("run", "goes on"): "go on with",
    ("scores", "made"): "score",
    ("scores", "anew"): "score anew",
}


def _work(plan: Plan, busy: Collection[str]) -> Iterator[str]:
    """What a plan would do, a verb at a time."""
    for key, verb in _VERBS.items():
        items = [item for item in plan.items if (item.kind, item.fate) == key]
        names = [item.name for item in items if item.kind not in ("run", "scores") or item.name not in busy]
        if names:
            yield verb if key[0] == "tokenizer" else f"{verb} {_listed(names)}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _numbers(manifest: dict[str, Any] | None, counted: Any) -> dict[str, int]:
    found = {}
    if manifest is not None:
        found = {"documents": int(manifest["documents"]), "tokens": int(manifest["tokens"])}
    if counted is not None:
        found["validation_examples"] = int(counted["examples"])
    return found
