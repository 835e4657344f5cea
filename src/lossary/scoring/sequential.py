"""Scores a checkpoint window by window against a base until what differs is clear. It runs in a worker process.

The examples of a dataset come in a random order that its frozen part alone determines; windows end where the looks of
its monitor are (statistics/sequential.py). The next window is of the undecided dataset that lowers the variance of the
total most. Scores of the windows and what was clear are stored apart from whole scores; those of all examples are whole
scores too. All examples of the validation set are held in memory, about 4 kB for one of 512 tokens.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf, log
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lossary.backends.process import Emit
from lossary.data.examples import Examples, concatenate
from lossary.data.permutation import permute
from lossary.data.philox import stream_key
from lossary.errors import ScoreError
from lossary.folder import StudyFolder
from lossary.naming import names_of
from lossary.objectives import Objective, objective_of
from lossary.results.records import ScoreHeader, read_header, write_score_windows, write_scores
from lossary.results.scorefile import Columns, ScoreFile
from lossary.results.stopped import Stopped, StoppedPart
from lossary.scoring.api import Scorer, View, Window
from lossary.scoring.ranks import without_dictionaries
from lossary.scoring.score import OpenBackend, ScoreJob, begin_scoring, score_windows
from lossary.statistics.estimates import Estimate, RatioSums, ratio
from lossary.statistics.sequential import LEAST_CHANGED, Monitor, Rule, Seen, looks_of, skewness_of_mean, variance_saved

__all__ = ["Until", "frozen_order", "score_in_windows", "score_until_decided"]

_WINDOW = 4096
_NOTHING, _UNSEEN = Estimate(value=None), Seen(low=None, high=None, answer="undecided")


@dataclass(frozen=True, kw_only=True)
class Until:
    """What an evaluation goes on until: answers against a base, all false with a chance of `level` at most."""

    base: Path  # its whole scores
    metric: str = "mlm_loss"
    shares: Mapping[str, float]  # of datasets in the total
    rule: Rule = "obrien-fleming"
    margin: float | None = None
    level: float = 0.05

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> "Until":
        """As a job has it."""
        return cls(**{**value, "base": Path(value["base"])})

    @property
    def objective(self) -> Objective:
        """What is predicted where the metric is measured."""
        found = objective_of(self.metric)
        assert found is not None, f"no objective has the metric {self.metric!r}"
        return found


def score_until_decided(
    folder: StudyFolder, job: ScoreJob, until: Until, *, open_backend: OpenBackend, emit: Emit
) -> dict[str, Any]:
    """Scores a checkpoint in windows until it is clear how it differs from the base, and stores that.

    Raises CheckpointError as whole scoring does, ScoreError if the base has no scores of these examples.
    """
    begun = begin_scoring(folder, job)
    path = folder.sequential(job.name, begun.header.step)
    if not _stands(path, begun.header, until):
        scorer = begun.scorer(open_backend)
        header = replace(begun.header, device=scorer.device)
        score_in_windows(path, scorer, begun.view, header, until, emit=emit)
    return {"scores": str(path), "step": begun.header.step}


def score_in_windows(
    path: Path, scorer: Scorer, view: View, header: ScoreHeader, until: Until, *, emit: Emit
) -> Stopped:
    """Scores windows of a view until all datasets are decided, and stores them; says what was clear, and where.

    `path` is below `sequential/`; scores of all examples are also stored in `scores/` beside it, as whole ones.
    """
    base = ScoreFile(until.base)
    if until.objective.name not in header.objectives or until.objective.name not in base.objectives:
        raise ScoreError(f"no {until.metric} to decide by: {until.objective.lacking}", where=str(path))
    called = names_of(path.parents[3]).called
    whole = list(view.windows())
    parts = []
    for name in view.datasets:
        windows = [window for window in whole if window.dataset == name]
        rows = base.columns(until.objective.name, [called(name)])
        digest = view.parts[name]
        _refuse_other_examples(base, called(name), digest)
        parts.append(_Part.of(name, digest, windows, rows, until, datasets=len(view.datasets)))
    if not any(len(part.base) for part in parts):
        raise ScoreError(f"no {until.metric} to decide by: {until.objective.nothing}", where=str(path))
    course = _Course(parts)
    for table in score_windows(scorer, course.windows(), header, total=len(view), emit=emit):
        course.take(table)
    stopped = _stopped(parts, base.header, until)
    table = _sorted(parts, header.objectives)
    write_scores(path, table, _partial_header(header, parts, stopped))
    scored = sum(part.scored for part in parts)
    if stopped.is_whole:
        write_score_windows(path.parents[1] / "scores" / path.name, _as_whole(table, whole), header)
    undecided = ", ".join(called(part.name) for part in parts if part.seen.answer == "undecided")
    enough = f"not decided: {undecided}" if undecided else "all datasets are decided"
    told = f"step {header.step:,}: {scored:,} of {len(view):,} examples were scored; {enough}"
    emit({"event": "note", "text": told})
    return stopped


def frozen_order(digest: str, examples: int) -> NDArray[np.int64]:
    """The order (N,) in which the examples of a frozen part are scored: random, and the same for every run.

    The part stands in the order of its sources, in which what is alike may stand together.
    """
    index = np.arange(examples)
    key = np.full(examples, stream_key(0, "sequential", digest), np.uint64)
    return permute(index, size=max(1, examples), key=key)


@dataclass(kw_only=True)
class _Part:
    """A dataset while its windows are scored."""

    name: str
    digest: str
    share: float
    order: NDArray[np.int64]  # (N,)
    examples: Examples
    target_bytes: NDArray[np.int32] | None
    base: Columns
    monitor: Monitor
    metric: str
    objective: Objective
    look: int = 0  # the next one
    estimate: Estimate = _NOTHING
    seen: Seen = _UNSEEN
    differences: list[NDArray[np.float64]] = field(
        default_factory=lambda: [np.zeros((2, 0))]
    )  # what the metric divides, and by what, of a window: (2, n)
    broken: int = 0
    unknown: int = 0  # examples whose bytes nobody knows
    tables: list[pa.Table] = field(default_factory=list)

    @classmethod
    def of(
        cls, name: str, digest: str, windows: Sequence[Window], base: Columns, until: Until, *, datasets: int
    ) -> "_Part":
        examples = concatenate([window.examples for window in windows])
        sizes = [window.target_bytes for window in windows if window.target_bytes is not None]
        monitor = Monitor(
            rule=until.rule, looks=looks_of(len(examples)), level=until.level / datasets, margin=until.margin
        )
        return cls(
            name=name,
            digest=digest,
            share=until.shares[name],
            order=frozen_order(digest, len(examples)),
            examples=examples,
            target_bytes=np.concatenate(sizes) if len(sizes) == len(windows) else None,
            base=base,
            monitor=monitor,
            metric=until.metric,
            objective=until.objective,
            estimate=_NOTHING if len(base) else Estimate(value=None, reason=until.objective.nothing),
        )

    @property
    def scored(self) -> int:
        return self.monitor.looks[self.look - 1] if self.look else 0

    @property
    def is_open(self) -> bool:
        """Whether another window may answer."""
        return self.seen.answer == "undecided" and self.look < len(self.monitor.looks) and not self._lacks

    @property
    def _lacks(self) -> str:
        """Why nothing can be said of it, however many examples are scored."""
        if not len(self.base):
            return self.objective.nothing
        if self.broken:
            return f"{self.broken:,} of {self.scored:,} examples gave no finite loss"
        return "nobody knows the bytes of the targets" if self.unknown else ""

    @property
    def usefulness(self) -> tuple[float, float]:
        """How much the next window lowers the variance of the total; of those that nobody knows, the largest share."""
        more = self.monitor.looks[self.look] - self.scored
        return variance_saved(self.estimate, share=self.share, more=more), self.share

    def windows(self) -> Iterator[Window]:
        """The examples up to the next look."""
        rows = self.order[self.scored : self.monitor.looks[self.look]]
        for start in range(0, len(rows), _WINDOW):
            few = np.sort(rows[start : start + _WINDOW])
            sizes = None if self.target_bytes is None else self.target_bytes[few]
            yield Window(dataset=self.name, examples=self.examples.take(few), target_bytes=sizes)

    def take(self, table: pa.Table) -> None:
        """Adds the scores of a window; ScoreError if the base was scored on other examples."""
        self.tables.append(table)
        if table["objective"][0].as_py() != self.objective.name:
            return
        example, targets = table["example"].to_numpy(), table["targets"].to_numpy().astype(np.float64)
        at = np.minimum(np.searchsorted(self.base.example, example), max(0, len(self.base) - 1))
        if not len(self.base) or not (
            np.array_equal(self.base.example[at], example) and np.array_equal(self.base.targets[at], targets)
        ):
            raise ScoreError(
                f"the base's scores of {self.name} are not those of its frozen examples",
                hint="Delete them and run `lossary evaluate` for the base.",
            )
        nats = np.asarray(table["nats"].to_numpy(zero_copy_only=False), np.float64) - self.base.nats[at]
        known = np.isfinite(nats)
        self.broken += int(np.count_nonzero(~known))
        y, x = nats, targets
        if self.metric == self.objective.accuracy:
            y = table["correct"].to_numpy().astype(np.float64) - self.base.correct[at]
        elif self.metric != self.objective.loss:
            y, x = nats / log(2), self.base.bytes[at]
            self.unknown += int(np.count_nonzero(np.isnan(x)))
        self.differences.append(np.stack([y[known], x[known]]))

    def look_now(self) -> None:
        """All scores up to the next look are there."""
        self.look += 1
        if reason := self._lacks:
            self.estimate, self.seen = Estimate(value=None, reason=reason), replace(self.seen, low=None, high=None)
            return
        y, x = np.concatenate(self.differences, axis=1)
        self.estimate = ratio(RatioSums.of(y, x))
        if self.metric == self.objective.accuracy and (changed := np.count_nonzero(y)) < LEAST_CHANGED:
            reason = f"{changed} examples are answered otherwise, {LEAST_CHANGED} at least make an interval"
            self.estimate, self.seen = replace(self.estimate, reason=reason), _UNSEEN
            return
        skewness = 0.0 if self.estimate.variance is None else skewness_of_mean(y, x)
        self.seen = self.monitor.at(self.look - 1, self.estimate, skewness=skewness)

    def stopped(self) -> StoppedPart:
        most = 1.0 if self.metric == self.objective.accuracy else inf
        low, high = self.seen.low, self.seen.high
        return StoppedPart(
            examples=self.scored,
            available=len(self.order),
            part=self.digest,
            value=self.estimate.value,
            low=None if low is None else max(low, -most),
            high=None if high is None else min(high, most),
            answer=self.seen.answer,
            reason=self.estimate.reason,
        )


class _Course:
    """Which window is next, as scores come in."""

    def __init__(self, parts: Sequence[_Part]) -> None:
        self._parts = {part.name: part for part in parts}

    def windows(self) -> Iterator[Window]:
        """Windows until nothing is open. Whoever asks for the next one has handed in the scores of the one before."""
        while still := [part for part in self._parts.values() if part.is_open]:
            part = max(still, key=lambda part: part.usefulness)
            yield from part.windows()
            part.look_now()

    def take(self, table: pa.Table) -> None:
        self._parts[table["dataset"][0].as_py()].take(table)


def _refuse_other_examples(base: ScoreFile, name: str, digest: str) -> None:
    if base.header.part(name) != digest:
        raise ScoreError(
            f"the base was not scored on the present examples of {name}",
            where=str(base.path),
            hint=f"Run `lossary evaluate --run {base.header.run}` first.",
        )


def _stopped(parts: Sequence[_Part], base: ScoreHeader, until: Until) -> Stopped:
    return Stopped(
        rule=until.rule,
        level=until.level,
        margin=until.margin,
        metric=until.metric,
        base=base.run,
        base_step=base.step,
        base_weights_digest=base.weights_digest,
        shares={part.name: part.share for part in parts},
        parts={part.name: part.stopped() for part in parts},
    )


def _partial_header(header: ScoreHeader, parts: Sequence[_Part], stopped: Stopped) -> ScoreHeader:
    """As whole scores have it, but for the parts of which some examples alone were scored."""
    whole = {part.name: part.digest for part in parts if part.scored == len(part.order)}
    return replace(header, validation=whole, validation_digest="", stopped=stopped)


def _sorted(parts: Sequence[_Part], objectives: Sequence[str]) -> pa.Table:
    """The rows of all windows, by objective, dataset and example."""
    found = []
    for objective in objectives:
        for part in parts:
            tables = [table for table in part.tables if table["objective"][0].as_py() == objective]
            if tables:
                rows = pa.concat_tables(tables).combine_chunks().unify_dictionaries()
                found.append(rows.take(np.argsort(rows["example"].to_numpy(), kind="stable")))
    return pa.concat_tables(found)


def _as_whole(table: pa.Table, windows: Sequence[Window]) -> Iterator[pa.Table]:
    """The rows of all examples window by window, as whole scoring hands them in."""
    # As text: the dictionary of a window is to have no name but its own.
    table = without_dictionaries(table)
    objectives, datasets, numbers = (table[name].to_numpy() for name in ("objective", "dataset", "example"))
    for window in windows:
        is_in = (datasets == window.dataset) & np.isin(numbers, window.examples.example)
        for objective in dict.fromkeys(objectives):
            rows = np.flatnonzero(is_in & (objectives == objective))
            if len(rows):
                yield table.take(rows)


def _stands(path: Path, header: ScoreHeader, until: Until) -> bool:
    """Whether the file answers the same of these weights."""
    try:
        found = read_header(path, as_drawn=True) if path.is_file() else None
        base = read_header(until.base)
    except ScoreError:
        return False
    # Whoever asks again where all examples were scored lacks the whole scores of them.
    if found is None or found.stopped is None or found.stopped.is_whole:
        return False
    asked: dict[str, Any] = {
        "metric": until.metric,
        "rule": until.rule,
        "level": until.level,
        "margin": until.margin,
        "shares": dict(until.shares),
    }
    asked |= {"base": base.run, "base_step": base.step, "base_weights_digest": base.weights_digest}
    same = all(getattr(found.stopped, name) == value for name, value in asked.items())
    parts = {name: part.part for name, part in found.stopped.parts.items()}
    made = ("run", "step", "weights_digest", "backend", "precision", "size", "lossary", "texts", "view_digest")
    return same and parts == header.validation and all(vars(found)[name] == vars(header)[name] for name in made)
