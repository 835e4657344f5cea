"""How many validation examples would show a difference of a size: from the paired spread of runs that were scored.

    found = sample_sizes(study, folder, 0.005)
    found.validation                  # the table [validation] that has them, which editing/validation.py writes

By `statistics/power.py`, for each of D datasets: the spread is the largest of all pairs with the base, the level is
α/(2D), the first one of Holm over the datasets. Runs of the study's own vocabulary are the pilot where two of them were
scored; those of another one say nothing of its losses.
"""

from dataclasses import dataclass
from math import ceil, floor, inf, log10, sqrt

from lossary.data.parts import read_validation_manifest
from lossary.errors import ScoreError, UsageError
from lossary.folder import StudyFolder
from lossary.planning.estimates import DatasetEstimate, Estimates
from lossary.statistics.estimates import LEVEL
from lossary.statistics.power import examples_for
from lossary.study import Study
from lossary.tables.build import best_run, build_table, scored_runs
from lossary.tables.model import Delta, Metric, Table, measure_of

__all__ = ["DatasetSample", "SampleSizes", "sample_sizes"]

# A spread that is estimated from fewer examples says nothing of so small a part of it.
_LEAST_PILOT = 30


@dataclass(frozen=True, kw_only=True)
class DatasetSample:
    """What one dataset needs; `needed` None where the pilot has too few examples of it."""

    name: str
    pilot: int  # examples that the spread is from
    runs: str  # whose difference has it
    deviation: float | None  # of the difference, an example
    needed: int | None
    available: int | None  # at most, about, by max_fraction; None where it is not prepared

    @property
    def is_lacking(self) -> bool:
        """Whether it needs more than it may give."""
        return self.needed is not None and self.available is not None and self.needed > self.available


@dataclass(frozen=True, kw_only=True)
class SampleSizes:
    """Examples by dataset, and the ways to have them; costs are of one evaluation of one run, where one was timed."""

    difference: float
    metric: Metric
    unit: str  # of the difference
    datasets: list[DatasetSample]
    keeping_shares: int | None  # examples in all, if validation shares stay
    own_shares: int | None  # in all, if every dataset has just what it needs
    seconds: dict[str, tuple[float, float]]  # by run: of both
    notes: list[str]

    @property
    def validation(self) -> str:
        """The table that has just what every dataset needs, as TOML; empty where that is not known or not to be had."""
        if not self.weights:
            return ""
        weights = ", ".join(f'"{name}" = {needed}' for name, needed in self.weights.items())
        return f"[validation]\nexamples = {self.own_shares}\nshares = {{ {weights} }}\n"

    @property
    def weights(self) -> dict[str, int]:
        """What every dataset needs; empty where that is not known or not to be had."""
        if self.own_shares is None or self.visible is not None:
            return {}
        return {need.name: need.needed or 0 for need in self.datasets}

    @property
    def visible(self) -> float | None:
        """Where examples lack: the difference that as many as there are show on every dataset, rounded up."""
        lacking = [(need.needed or 0, need.available or 0) for need in self.datasets if need.is_lacking]
        if not lacking:
            return None
        if any(available == 0 for _, available in lacking):
            return inf
        widest = self.difference * sqrt(max(needed / available for needed, available in lacking))
        step = 10.0 ** (floor(log10(widest)) - 1)
        return float(f"{ceil(widest / step) * step:.2g}")


def sample_sizes(study: Study, folder: StudyFolder, difference: float, sizes: Estimates) -> SampleSizes:
    """What it takes to see `difference` of the main loss (nats; bits a byte where no two runs share a vocabulary).

    ScoreError where no two runs were scored.
    """
    if not 0 < difference < float("inf"):
        raise UsageError(
            f"{difference} is no difference", where="--see", hint="Expected a number above 0, as 0.005 (nats)."
        )
    pilot = _pilot(study, folder)
    if pilot is None:
        raise ScoreError(
            "no two runs are scored on the same examples",
            where=str(folder.root / "runs"),
            hint="Train two short ones: how much their losses differ from example to example is what is needed.",
        )
    runs, base, left_out = pilot
    table = build_table(study, folder, runs=runs, base=base)
    metric = table.main_loss
    needs = [_need(table, metric, row.name, difference, sizes, study.validation.max_fraction) for row in table.datasets]
    shares = {row.name: row.validation_share or 0.0 for row in table.datasets}
    known = [need for need in needs if need.needed is not None]
    whole = len(known) == len(needs)
    keeping = max(ceil((need.needed or 0) / shares[need.name]) for need in needs) if whole else None
    own = sum(need.needed or 0 for need in needs) if whole else None
    return SampleSizes(
        difference=difference,
        metric=metric,
        unit=measure_of(metric).unit,
        datasets=needs,
        keeping_shares=keeping,
        own_shares=own,
        seconds=_seconds(sizes, keeping, own),
        notes=[*_notes(needs, keeping, shares), *left_out],
    )


def _pilot(study: Study, folder: StudyFolder) -> tuple[list[str], str, list[str]] | None:
    """Runs of one vocabulary, the study's own before others, else all; their base; a note on those left out."""
    scored = [found.header for found in scored_runs(study, folder)]
    own = read_validation_manifest(folder)["tokenizer_digest"]
    # What nobody knows the vocabulary of was scored by the study's own.
    pieces = {header.run: header.pieces or own for header in scored}
    groups = [[run for run in pieces if pieces[run] == which] for which in dict.fromkeys([own, *pieces.values()])]
    for runs in (*groups, [*pieces]):
        notes: list[str] = []
        if len(runs) > 1 and (base := best_run(study, folder, runs=runs, notes=notes)) is not None:
            if out := ", ".join(run for run in pieces if run not in runs):
                notes.append(f"{out}: of another vocabulary; left out of the pilot")
            return runs, base, notes
    return None


def _need(
    table: Table, metric: Metric, name: str, difference: float, sizes: Estimates, max_fraction: float
) -> DatasetSample:
    deltas = [delta for run in table.runs if (delta := table.delta(run.name, name, metric)) is not None]
    usable = [delta for delta in deltas if delta.variance is not None and delta.n >= _LEAST_PILOT]
    widest = max(usable, key=_spread, default=None)
    of = next((d for d in sizes.datasets if d.name == name), None)
    count = None
    if widest is not None:
        level = (1 - LEVEL) / (2 * len(table.datasets))
        count = examples_for(difference, _spread(widest), level=level)
    return DatasetSample(
        name=name,
        pilot=max((delta.n for delta in deltas), default=0),
        runs="" if widest is None else f"{widest.run} − {widest.base}",
        deviation=None if widest is None else float(_spread(widest) ** 0.5),
        needed=count,
        available=None if of is None else _available(of, max_fraction),
    )


def _available(of: DatasetEstimate, max_fraction: float) -> int | None:
    """Examples of as many documents as may leave training; each gives one at least."""
    if of.documents is None:
        return None
    examples = (of.training_examples or 0) + (of.validation_examples or 0)
    return int(max_fraction * max(of.documents, examples))


def _spread(delta: Delta) -> float:
    """What one example contributes to the variance of a paired difference."""
    return (delta.variance or 0.0) * delta.n


def _seconds(sizes: Estimates, *totals: int | None) -> dict[str, tuple[float, float]]:
    """Of one evaluation, in proportion to that of the present examples."""
    now = sum(d.validation_examples or 0 for d in sizes.datasets)
    if not now or any(total is None for total in totals):
        return {}
    keeping, own = (total or 0 for total in totals)
    return {
        run.name: (run.scoring_seconds * keeping / now, run.scoring_seconds * own / now)
        for run in sizes.runs
        if run.scoring_seconds is not None
    }


def _notes(needs: list[DatasetSample], keeping: int | None, shares: dict[str, float]) -> list[str]:
    notes = [
        f"{need.name}: {need.pilot:,} common examples are too few to know its spread ({_LEAST_PILOT} at least)"
        for need in needs
        if need.needed is None
    ]
    if keeping is not None:
        scarce = max(needs, key=lambda need: (need.needed or 0) / (shares[need.name] or 1.0))
        notes.append(f"with shares as they are, {scarce.name} decides how many it takes")
        notes.append("shares of [validation] also weight the total by validation share")
    return notes
