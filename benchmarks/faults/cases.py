"""One case of the benchmark: a fault put into a user's files, the diagnosis, and what it scored."""

import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.faults.catalogue import FAULTS, MORE, THREADS, UNLISTED, Fault, apply
from benchmarks.faults.study import DATASETS, SHARES, benchmark_study
from benchmarks.faults.zygote import Zygote
from lossary.diagnosis.diagnose import Request, diagnose
from lossary.diagnosis.documents import sample_documents
from lossary.diagnosis.feeds.compare import detectable_dose
from lossary.diagnosis.feeds.facts import FACTS, ROWS, Kind
from lossary.diagnosis.feeds.faults import FAULTS as FEED_FAULTS
from lossary.diagnosis.feeds.faults import Fault as Way
from lossary.diagnosis.feeds.ground import Ground
from lossary.diagnosis.feeds.reference import Reference, Style
from lossary.diagnosis.model import Diagnosis
from lossary.diagnosis.session import Session
from lossary.diagnosis.sides import resolve, run_setup
from lossary.diagnosis.subject import Probes, Subject
from lossary.folder import StudyFolder
from lossary.study import Study

__all__ = ["DOSES", "Case", "Result", "Workshop", "cases_of", "flat_recipe", "score"]

DOSES = (0.01, 0.05, 0.30)
_DOCUMENTS = 400
_EVALUATED = 300  # examples, of all datasets
_RARELY = (Kind.HARD, Kind.INVARIANT, Kind.MEASURED)
_NO_MASK = 1  # an id that a wrong [MASK] would have
Look = Callable[[Subject], None]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A fault on a side, in a dataset, at a dose; the last two where the fault has them."""

    code: str
    side: str
    dataset: str | None = None
    dose: float | None = None

    @property
    def label(self) -> str:
        parts = [self.code, self.side, self.dataset or "", "" if self.dose is None else f"{100 * self.dose:g}%"]
        return " ".join(part for part in parts if part)


@dataclass(kw_only=True)
class Result:
    """What the diagnosis of a case came to."""

    case: Case
    stage: str
    expected: list[str]
    causes: list[str] = field(default_factory=list)
    ties: list[str] = field(default_factory=list)  # told beside a cause as what the evidence does not tell from it
    deviating: list[str] = field(default_factory=list)  # stages that differ
    failed: list[str] = field(default_factory=list)  # what the side's own code raised
    cost_s: float = 0.0
    wall_s: float = 0.0

    @property
    def named(self) -> bool:
        return any(cause in self.expected for cause in self.causes)

    @property
    def wrong(self) -> list[str]:
        return [cause for cause in self.causes if cause not in self.expected]

    @property
    def tied(self) -> bool:
        """Whether all that is wrong was told with the right one beside it."""
        return not set(self.ties).isdisjoint(self.expected) and len(self.wrong) == len(self.causes) == 1

    @property
    def right_stage(self) -> bool:
        return self.stage in self.deviating or self.named or self.tied

    @property
    def outcome(self) -> str:
        if self.wrong:
            return "tied" if self.tied else "wrong name"
        if self.named:
            return "named"
        if self.deviating:
            return "stage only" if self.right_stage else "wrong stage"
        return "raised" if self.failed else "abstained"

    def value(self) -> dict[str, Any]:
        return {**asdict(self), "outcome": self.outcome, "label": self.case.label}


def cases_of(fault: Fault, side: str, *, quick: bool = False) -> Iterator[Case]:
    """All cases of a fault on a side."""
    datasets: Sequence[str | None] = (fault.datasets or DATASETS) if fault.by_dataset else (None,)
    doses: Sequence[float | None] = DOSES if fault.dosed else (None,)
    if quick:
        datasets, doses = datasets[:1], doses[-1:]
    for dataset in datasets:
        for dose in doses:
            yield Case(code=fault.code, side=side, dataset=dataset, dose=dose)


class Workshop:
    """Prepared studies, a zygote, and folders for the user's files."""

    def __init__(self, root: Path, side: str, zygote: Zygote) -> None:
        self.root = root
        self.side = side
        self._zygote = zygote
        self.by_code = {fault.code: fault for fault in (*FAULTS, *MORE, *UNLISTED, *THREADS)}

    def diagnosis(
        self, case: Case, *, without: Sequence[str] = (), keep: bool = False, look: Look = lambda _: None
    ) -> tuple[Diagnosis, float]:
        """Diagnoses the user's files with the case's fault in them; also the seconds that it took."""
        fault = self.by_code[case.code]
        files = self.root / "user" / re.sub(r"\W+", "-", case.label)
        if not keep:
            shutil.rmtree(files, ignore_errors=True)
        if not files.is_dir():
            apply(fault, self.side, dataset=case.dataset, dose=1.0 if case.dose is None else case.dose, into=files)
        return self.diagnose(files, recipe=flat_recipe(fault.recipe), without=without, look=look)

    def healthy(self, number: int, recipe: dict[str, Any], *, look: Look) -> tuple[Diagnosis, float]:
        """Diagnoses untouched files under a recipe of one's own."""
        files = self.root / "user" / f"healthy-{self.side}-{number}"
        apply((), self.side, into=files)
        return self.diagnose(files, recipe=recipe, look=look)

    def diagnose(
        self, files: Path, *, recipe: dict[str, Any], look: Look, without: Sequence[str] = ()
    ) -> tuple[Diagnosis, float]:
        name = "-".join(f"{key}-{value}" for key, value in sorted(recipe.items())) or "base"
        studies = self.root / "studies" / self.side
        benchmark_study(studies / "base")
        study, folder = benchmark_study(studies / name, like=studies / "base", **recipe)
        request = Request(first=str(files / f"adapter_{self.side}.py"), like="torch", without=without)
        started = time.perf_counter()
        found = diagnose(study, folder, request, launch=self._zygote.launch)
        wall_s = time.perf_counter() - started
        self._look(study, folder, request, look)
        return found, wall_s

    def _look(self, study: Study, folder: StudyFolder, request: Request, look: Look) -> None:
        """Shows the side to a baseline; its answers are there already, so that it starts no process for most."""
        side = resolve([request.first], study, folder, like=request.like, threads=request.threads)[0]
        assert side.spec is not None
        with Session(side.spec, side.setup, folder.diagnosis / "traces", launch=self._zygote.launch) as session:
            look(Subject(session=session, setup=side.setup, documents=[], probes=Probes(setup=side.setup)))

    def limit(self, case: Case) -> float:
        """The dose from which on a fault shows in 95 of 100 samples, by how many examples of a dataset can show it."""
        fault = self.by_code[case.code]
        if not fault.dosed or case.dataset is None:
            return 0.0
        documents = int(fault.shown_by * _DOCUMENTS)
        count = max((self._showing(way, fault, case.dataset) for way in _ways(fault)), default=documents)
        return detectable_dose(count) if count else 1.0

    def _showing(self, way: Way, fault: Fault, dataset: str) -> int:
        """Examples of a dataset that have a fact which healthy ones never have, or rarely, once all are struck."""
        group = self._grounds[0].reference.setup.datasets.index(dataset)
        rows = [ROWS[name] for name in way.shows if FACTS[name].kind in _RARELY]
        found = 0.0
        for ground in self._grounds:
            struck = ground.counts([way], side=ground.rates, mask_id=_NO_MASK)
            share = 0.5  # of two epochs
            if fault.stage == "validation":
                share = _EVALUATED * SHARES[dataset] / ground.rates.n[ROWS["no-cls-in-front"], group]
            found = max(found, share * float((struck.k - ground.rates.k)[rows, group].max(initial=0.0)))
        return int(found)

    @cached_property
    def _grounds(self) -> list[Ground]:
        study, folder = benchmark_study(self.root / "studies" / self.side / "base")
        documents = sample_documents(study, folder, most=_DOCUMENTS)
        reference = Reference(documents, run_setup(study, folder, "torch", threads=1))
        return [Ground(reference, style) for style in (Style.SENTENCES, Style.LINES)]

    def forget(self, recipe: dict[str, Any]) -> None:
        """Removes a prepared study that no other case uses."""
        name = "-".join(f"{key}-{value}" for key, value in sorted(recipe.items())) or "base"
        shutil.rmtree(self.root / "studies" / self.side / name, ignore_errors=True)

    def clear(self) -> None:
        """Removes traces of finished cases, which would fill the disk; courses of the reference are asked for again."""
        for path in (self.root / "studies" / self.side).glob("*/diagnosis/traces/*/*"):
            if not path.name.startswith("courses-"):
                path.unlink(missing_ok=True)


def _ways(fault: Fault) -> list[Way]:
    return [way for name in fault.strikes or fault.expected for way in FEED_FAULTS.get(name, ())]


def flat_recipe(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a study's recipe as the benchmark's study takes them."""
    optimizer = dict(recipe.get("optimizer", {}))
    named = {"optimizer": optimizer.pop("name")} if "name" in optimizer else {}
    return {**{key: value for key, value in recipe.items() if key != "optimizer"}, **optimizer, **named}


def score(case: Case, fault: Fault, found: Diagnosis, *, wall_s: float, import_s: float) -> Result:
    """Holds a diagnosis against the fault that was put in."""
    return Result(
        case=case,
        stage=fault.stage,
        expected=sorted(fault.expected),
        causes=sorted({cause.name for cause in found.causes}),
        ties=sorted({name for cause in found.causes for name in cause.ties}),
        deviating=sorted(
            {outcome.stage for outcome in found.outcomes if outcome.verdict in ("confirmed", "stage only")}
        ),
        failed=sorted({outcome.needs for outcome in found.of("not compared") if " raised " in outcome.needs}),
        cost_s=found.cost_s + import_s,
        wall_s=wall_s,
    )
