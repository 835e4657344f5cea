"""What examples have in common with those shortly before them: an order in time, draws that neighbours share.

    arranged_aspects(stream, own_stream)["order"]     # sorted, hardly shuffled; "mixture": one dataset after another
    shared_draws(observed)                        # order labels and masks that go with a neighbour's

One statistic serves both: the correlation of a column of the feed with itself, some examples earlier. In a shuffled
stream nothing goes with anything; what is drawn for each example does so nowhere, in whatever order examples come.
Where a stream is arranged, the reference's is put into such an order and has to have the same correlations, of
neighbours and of examples an eighth of an epoch apart: they tell a sorted epoch from sorted batches.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from lossary.diagnosis.calibration import ALARM_LEVEL, LEAST_SERIAL, SERIAL_ALIKE
from lossary.diagnosis.feeds.layout import FIRST
from lossary.diagnosis.feeds.observed import Observed
from lossary.diagnosis.feeds.outcome import Aspect, Deviation
from lossary.diagnosis.feeds.streams import Stream
from lossary.diagnosis.fit import Candidate

__all__ = ["ARRANGED", "arranged_aspects", "shared_draws"]

# What a stream may be arranged by: the name of the fault, what it is called, and what a side declares as `grouped`.
ARRANGED = {
    "file": ("documents-in-file-order", "documents come as they stand in their file"),
    "length": ("examples-by-length", "examples come by their length"),
    "dataset": ("datasets-one-after-another", "examples of one dataset come together"),
}
_NEAR = 8  # examples apart at most: so many workers may take turns
_DRAWS = 64
_GROUPS = 10  # of lengths, within which draws are compared
_RUNS = tuple(2**n for n in range(2, 13))
_BUFFERS = tuple(2**n for n in range(2, 11))


def _correlation(x: NDArray[np.float64], lag: int, apart: NDArray[np.int64]) -> tuple[float, int]:
    """Of a column with itself `lag` places before, and of how many pairs; of those that differ in `apart`."""
    if not 0 < lag < len(x):
        return 0.0, 0
    other = apart[lag:] != apart[:-lag]
    now, before = x[lag:][other], x[:-lag][other]
    spread = float(x.std())
    if len(now) < LEAST_SERIAL or spread == 0:
        return 0.0, 0
    return float(np.mean((now - x.mean()) * (before - x.mean())) / spread**2), len(now)


@dataclass(frozen=True, kw_only=True)
class _Column:
    """What a stream may be arranged by, in the order of the stream."""

    key: NDArray[np.float64]
    document: NDArray[np.int64]  # neighbours of one document are left out: repeated examples, pieces of a long text
    epoch: int

    @property
    def ranks(self) -> NDArray[np.float64]:
        return np.asarray(stats.rankdata(self.key))

    def near(self) -> tuple[float, int]:
        """The mean correlation of neighbours of some distances, and of how many pairs.

        A mixture that takes turns has high and low ones by turns, which cancel.
        """
        found = [_correlation(self.ranks, lag, self.document) for lag in range(1, _NEAR + 1)]
        pairs = sum(number for _, number in found)
        return sum(value * number for value, number in found) / max(1, pairs), pairs

    def taken(self, rows: NDArray[np.int64]) -> "_Column":
        """In another order."""
        return _Column(key=self.key[rows], document=self.document[rows], epoch=self.epoch)

    def profile(self) -> NDArray[np.float64]:
        """Correlations of neighbours and of examples far apart in an epoch."""
        return np.array([self.near()[0], _correlation(self.ranks, max(2, self.epoch // 8), self.document)[0]])


def _columns(stream: Stream, by: str) -> dict[str, _Column]:
    """By dataset; of the mixture under the name ""."""
    units = stream.units
    if by == "dataset":
        known = np.flatnonzero(units.dataset >= 0)
        key = units.dataset[known].astype(np.float64)
        return {"": _Column(key=key, document=units.document[known], epoch=len(known))}
    found = {}
    for number, name in enumerate(stream.names):
        rows = stream.rows(number)
        key = (units.document if by == "file" else units.size)[rows].astype(np.float64)
        epoch = max(1, len(np.unique(units.number[rows])))
        found[name] = _Column(key=key, document=units.document[rows], epoch=epoch)
    return found


def _excess(correlation: float, pairs: int, tests: int) -> float:
    """In units of the critical value; only what goes together is a deviation."""
    return correlation * np.sqrt(pairs) / float(stats.norm.isf(ALARM_LEVEL / tests))


def arranged_aspects(stream: Stream, own: Callable[[], Stream], *, declared: Sequence[str] = ()) -> dict[str, Aspect]:
    """Whether the order goes with file or length ("order"), or with the dataset ("mixture").

    By what is `declared` examples are meant to come together.
    """
    kinds = {"order": ("file", "length"), "mixture": ("dataset",)}
    looked = {by: _columns(stream, by) for kind in kinds.values() for by in kind if by not in declared}
    tests = max(1, sum(len(columns) for columns in looked.values()))
    return {
        kind: _arranged({by: looked[by] for by in names if by in looked}, own, tests) for kind, names in kinds.items()
    }


def _arranged(looked: Mapping[str, Mapping[str, _Column]], own: Callable[[], Stream], tests: int) -> Aspect:
    """One aspect of several columns: what a file has in order, as lengths, goes with the order of the file."""
    near = {by: {name: column.near() for name, column in columns.items()} for by, columns in looked.items()}
    units = {by: {name: _excess(*one, tests) for name, one in found.items()} for by, found in near.items()}
    worst = {by: {name: unit for name, unit in found.items() if unit > 1} for by, found in units.items()}
    if not any(worst.values()):
        return Aspect(distance=0.0)
    lead = max(worst, key=lambda by: sum(worst[by].values()))
    deviations = tuple(
        Deviation(
            fact=f"arranged-by-{by}",
            says=f"{name or 'all datasets'}: {ARRANGED[by][1]}: neighbours correlate by {near[by][name][0]:.2f}",
            excess=unit,
        )
        for by, found in worst.items()
        for name, unit in found.items()
    )
    struck = tuple(dict.fromkeys(name for found in worst.values() for name in found))
    theirs = {by: _columns(own(), by) for by in looked}
    fitted = {name: _fitted(lead, {by: (looked[by][name], theirs[by][name]) for by in looked}) for name in struck}
    fault, says = ARRANGED[lead]
    how = "; ".join(f"{name or 'all'} {what}" for name, (_, what) in fitted.items())
    entry: dict[str, Any] = {"name": fault, "how": how}
    if struck != ("",):
        entry["datasets"] = dict.fromkeys(struck, 1.0)
    values = {"faults": {fault: entry}} | {key: value for key, value in entry.items() if key != "name"}
    residual = max(apart for apart, _ in fitted.values())
    candidate = Candidate(names=(fault,), says=f"{says}: {how}", residual=residual, values=values)
    distance = max(unit for found in worst.values() for unit in found.values())
    return Aspect(distance=distance, candidates=(candidate,), deviations=deviations)


def _fitted(lead: str, columns: Mapping[str, tuple[_Column, _Column]]) -> tuple[float, str]:
    """The arrangement by `lead` that brings the reference's columns nearest to the side's: how far, and what it is."""
    key, epoch = columns[lead][1].key, columns[lead][1].epoch
    random = np.random.default_rng(len(key))
    sides = {by: side.profile() for by, (side, _) in columns.items()}
    noise = SERIAL_ALIKE + 2 / np.sqrt(max(1, min(len(columns[lead][0].key), len(key))))
    # The simplest first: orders that differ little from each other are called by it.
    ways = [("sorted throughout", epoch, 0)]
    ways += [(f"shuffled in a buffer of about {size}", epoch, size) for size in _BUFFERS if size < epoch]
    ways += [(f"sorted in runs of about {run}", run, 0) for run in reversed(_RUNS) if run < epoch]
    best = (np.inf, "")
    for what, run, buffer in ways:
        order = _order(key, run, buffer, random)
        apart = max(float(np.abs(sides[by] - own.taken(order).profile()).max()) for by, (_, own) in columns.items())
        best = min(best, (apart / noise, what))
        if best[0] <= 1:
            break
    return best


def _order(key: NDArray[np.float64], run: int, buffer: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Rows sorted within runs, then through a shuffle buffer."""
    rows = np.concatenate(
        [start + np.argsort(key[start : start + run], kind="stable") for start in range(0, len(key), run)]
    )
    if not buffer:
        return rows
    waiting, passed = list(rows[:buffer]), []
    for row in rows[buffer:]:
        place = int(random.integers(buffer))
        passed.append(waiting[place])
        waiting[place] = row
    return np.array([*passed, *random.permutation(waiting)], np.int64)


# -------------------------------------------------------------------------------------------------------------- draws


def shared_draws(observed: Observed) -> Aspect:
    """Whether what is drawn for an example goes with what was drawn for one some places before it.

    No named fault: which draws neighbours share, and which not, differs from program to program.
    """
    columns = _draws(observed)
    if not columns:
        return Aspect(distance=0.0, skipped={"draws": "too few examples to tell whether neighbours share draws"})
    lags = range(1, _DRAWS + 1)
    document = observed.aligned.first.document
    found = [
        (says, lag, *_correlation(column, lag, document[rows]))
        for says, (rows, column) in columns.items()
        for lag in lags
    ]
    tests = len(columns) * len(lags)
    excess = [_excess(correlation, pairs, tests) for *_, correlation, pairs in found]
    worst = int(np.argmax(excess))
    if excess[worst] <= 1:
        return Aspect(distance=0.0)
    says, lag, correlation, pairs = found[worst]
    deviation = Deviation(
        fact="draws-shared",
        says=f"{says} of an example goes with that of the {'one' if lag == 1 else f'{lag}th'} before it, which is of "
        f"another document: draws are shared (correlation {correlation:.2f} of {pairs:,} pairs)",
        excess=excess[worst],
    )
    return Aspect(distance=excess[worst], deviations=(deviation,))


def _draws(observed: Observed) -> dict[str, tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Rows and columns of draws, with what goes with dataset and length taken out."""
    layout, text = observed.layout, observed.layout.part >= FIRST
    place = np.cumsum(text, axis=1) / np.maximum(1, text.sum(axis=1, keepdims=True))
    scored = layout.scored & text
    many = scored.sum(axis=1)
    mean_place = (place * scored).sum(axis=1) / np.maximum(1, many)
    order = observed.order
    columns = {
        "the order": (np.flatnonzero(order >= 0), order.astype(np.float64)),
        "where the masks are": (np.flatnonzero(many > 0), mean_place),
    }
    result = {}
    for says, (rows, column) in columns.items():
        if len(rows) >= LEAST_SERIAL:
            result[says] = (rows, _standardised(column[rows], observed.group[rows], observed.lengths[rows]))
    return result


def _standardised(
    column: NDArray[np.float64], group: NDArray[np.int64], lengths: NDArray[np.int64]
) -> NDArray[np.float64]:
    """A column with the mean of its dataset and of examples as long taken away, and divided by their deviation."""
    result = np.zeros(len(column))
    for number in np.unique(group):
        mine = np.flatnonzero(group == number)
        for rows in np.array_split(mine[np.argsort(lengths[mine], kind="stable")], _GROUPS):
            if len(rows) > 1 and (spread := column[rows].std()) > 0:
                result[rows] = (column[rows] - column[rows].mean()) / spread
    return result
