"""What two feeds of a side should share, and what they should not: masks of epochs, evaluation examples, documents.

    masks_aspect(observed_epoch_0, observed_epoch_1, reference)
    redrawn_aspect(evaluation, evaluation_again, reference)
    overlap_aspect(evaluation, training, corpus, reference)

In each, the fault is put into the reference's feeds, and the same is counted there.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from lossary.diagnosis.adapter import Feed
from lossary.diagnosis.calibration import ALL_SHARED as _ALL_SHARED
from lossary.diagnosis.calibration import LEAST_PIECES as _LONG_ENOUGH
from lossary.diagnosis.calibration import SHARED_BY_CHANCE as _BY_CHANCE
from lossary.diagnosis.calibration import WHOLE_SHARE
from lossary.diagnosis.feeds.compare import ALARM_LEVEL, REPRODUCED_LEVEL
from lossary.diagnosis.feeds.corpus import Corpus
from lossary.diagnosis.feeds.layout import UNKNOWN
from lossary.diagnosis.feeds.made import Made
from lossary.diagnosis.feeds.observed import Observed, observe
from lossary.diagnosis.feeds.outcome import Aspect, Deviation
from lossary.diagnosis.feeds.reference import Reference
from lossary.diagnosis.feeds.units import masks_repeated, units_of
from lossary.diagnosis.fit import Candidate

__all__ = ["ByDataset", "aspect_of", "masks_aspect", "named", "overlap_aspect", "redrawn_aspect", "repeats_aspect"]

Count = tuple[NDArray[Any], NDArray[Any]]  # k and n by dataset
_FARTHEST = 37.0


class ByDataset:
    """Counts k of n by dataset, against a healthy rate and against the reference with a fault."""

    def __init__(self, names: tuple[str, ...], side: Count, *, floor: NDArray[np.float64] | float) -> None:
        self.names, self.side = names, side
        self.floor = np.zeros(len(side[0])) + floor
        self._tests = max(1, int((side[1] > 0).sum()))

    def alarms(self) -> NDArray[np.float64]:
        """(D,) in units of the critical value."""
        k, n = self.side
        p = np.where(k > 0, stats.binom.sf(k - 1, np.maximum(n, 1), self.floor), 1.0)
        return self._units(p, ALARM_LEVEL)

    def doses(self, base: Count, struck: Count) -> NDArray[np.float64]:
        """(D,) how much of the fault there is, from the reference without it and with it everywhere; at most 1."""
        low, high = _rates(base), _rates(struck)
        dose = np.divide(_rates(self.side) - low, high - low, out=np.zeros_like(low), where=high > low)
        return np.where(self.alarms() > 1, np.clip(dose, 0.0, 1.0), 0.0)

    def residual(self, base: Count, struck: Count, doses: NDArray[np.float64]) -> float:
        """How far the side is from the reference with the fault at these doses.

        Where all has the fault, more of its traces than in the reference are no difference: examples may be longer.
        """
        k, n = self.side
        expected = (1 - doses) * _rates(base) + doses * _rates(struck)
        expected = np.clip(expected, self.floor, 1 - 1e-6)
        some = np.maximum(n, 1)
        above, below = stats.binom.sf(k - 1, some, expected), stats.binom.cdf(k, some, expected)
        p = np.where(doses < 1, np.minimum(above, below), below)
        # Where nothing deviates, the side may differ from the reference as healthy sides do.
        p = np.where((n > 0) & ((doses > 0) | (self.alarms() > 1)), p, 1.0)
        return float(self._units(p, REPRODUCED_LEVEL).max(initial=0.0))

    def above(self, base: Callable[[], Count]) -> "ByDataset":
        """The same counts, held against what the reference's healthy feeds may have: few masks repeat by chance.

        Asked only where the floor alone is exceeded. The bound is that of the reference's rate (Clopper, Pearson).
        """
        if not (self.alarms() > 1).any():
            return self
        k, n = base()
        bound = stats.beta.isf(ALARM_LEVEL, k + 1, np.maximum(n - k, 1e-9))
        return ByDataset(self.names, self.side, floor=np.where(n > 0, np.maximum(self.floor, bound), self.floor))

    def _units(self, p: NDArray[np.float64], level: float) -> NDArray[np.float64]:
        z = np.clip(stats.norm.isf(np.maximum(p, 1e-300)), 0.0, _FARTHEST)
        units: NDArray[np.float64] = z / stats.norm.isf(level / self._tests)
        return units


def _rates(count: Count) -> NDArray[np.float64]:
    return np.divide(count[0], count[1], out=np.zeros(len(count[0])), where=count[1] > 0)


def aspect_of(
    fact: str,
    says: str,
    counted: ByDataset,
    candidates: tuple[Candidate, ...],
) -> Aspect:
    """One fact as an aspect; `says` completes "k of n …"."""
    alarms = counted.alarms()
    deviations = [
        Deviation(
            fact=fact,
            says=f"{name}: {int(k):,} of {int(n):,} {says}",
            excess=float(excess),
        )
        for name, k, n, excess in zip(counted.names, *counted.side, alarms, strict=True)
        if excess > 1
    ]
    return Aspect(distance=float(alarms.max(initial=0.0)), candidates=candidates, deviations=tuple(deviations))


def named(
    name: str,
    says: str,
    counted: ByDataset,
    reference: Callable[[], tuple[Count, Count]],
    *,
    dose: NDArray[np.float64] | None = None,
) -> tuple[Candidate, ...]:
    """The fault, put into the reference, if anything deviates; `reference` counts it without and with the fault.

    It has the fault everywhere, or else at a dose (D,) that is given.
    """
    if not (counted.alarms() > 1).any():
        return ()
    base, struck = reference()
    full = np.where(counted.alarms() > 1, 1.0, 0.0)
    doses = counted.doses(base, struck) if dose is None else full
    residual = counted.residual(base, struck, doses)
    doses = doses if dose is None else dose * full
    datasets = {one: round(float(share), 4) for one, share in zip(counted.names, doses, strict=True) if share > 0}
    where = ", ".join(f"all of {one}" if share == 1 else f"{share:.1%} of {one}" for one, share in datasets.items())
    return (
        Candidate(
            names=(name,),
            says=f"{says}: {where}",
            residual=residual,
            values={"faults": {name: {"name": name, "datasets": datasets}}, "datasets": datasets},
        ),
    )


# -------------------------------------------------------------------------------------------------- masks of two epochs


def masks_aspect(first: Observed, second: Observed, reference: Reference) -> Aspect:
    """Whether examples with the same text in two epochs have the same masks."""
    names = (*reference.corpus.names, "unknown dataset")
    counted = ByDataset(names, _same_masks(first, second, len(names)), floor=1e-4)

    def put() -> tuple[Count, Count]:
        epochs = [
            observe(reference.examples(epoch=epoch).feed(), reference.corpus, reference.tokenizer) for epoch in (0, 1)
        ]
        return _same_masks(epochs[0], epochs[1], len(names)), _same_masks(epochs[0], epochs[0], len(names))

    counted = counted.above(lambda: put()[0])
    candidates = named("same-masks-every-epoch", "each epoch has the same masks", counted, put)
    return aspect_of("same-masks", "examples have the masks that they had an epoch before", counted, candidates)


def _same_masks(first: Observed, second: Observed, groups: int) -> Count:
    pairs = _same_text(first, second)
    text, masks = masks_repeated(first, second, pairs)
    group = first.group[pairs[0]]
    return np.bincount(group[masks], minlength=groups) * 1.0, np.bincount(group[text], minlength=groups) * 1.0


def _same_text(first: Observed, second: Observed) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Examples of both with the same pieces in the same order, each used once.

    Where a label does not say what was masked, the text is not known, and looks the same only under the same masks.
    """
    found: dict[bytes, list[int]] = {}
    for row, tokens in _known_texts(second):
        found.setdefault(tokens, []).append(row)
    pairs = []
    for row, tokens in _known_texts(first):
        if rows := found.get(tokens):
            pairs.append((row, rows.pop(0)))
    left, right = zip(*pairs, strict=True) if pairs else ((), ())
    return np.array(left, np.int64), np.array(right, np.int64)


def _known_texts(observed: Observed) -> list[tuple[int, bytes]]:
    """Rows of examples, and their pieces."""
    tokens = np.ascontiguousarray(observed.layout.tokens)
    known = np.flatnonzero((tokens != UNKNOWN).all(axis=1)).tolist()
    return [(row, tokens[row].tobytes()[: 4 * int(observed.lengths[row])]) for row in known]


# ---------------------------------------------------------------------------------------------------- within an epoch


def repeats_aspect(side: Observed, corpus: Corpus, reference: Reference) -> Aspect:
    """Whether some text is used more often than the rest in one epoch.

    Where all is used several times, each time with other masks, this is a choice.
    """
    names = (*corpus.names, "unknown dataset")
    if _lost(side):
        return Aspect(distance=0.0, skipped={"used-again": "too many examples could not be looked up in the documents"})
    found = _often_in(side, corpus)
    counted = ByDataset(names, found[:2], floor=_BY_CHANCE)

    def put() -> tuple[Count, Count]:
        made = reference.examples()
        often = _struck_documents(made, _rates(found[:2]), reference)
        times = np.maximum(2, np.rint(found[2])).astype(np.int64)[made.dataset]
        rows = np.repeat(np.arange(len(made)), np.where(often, times, 1))
        base, struck = (
            _often_in(observe(part.feed(), reference.corpus, reference.tokenizer), reference.corpus)
            for part in (made, made.take(rows))
        )
        return base[:2], struck[:2]

    says = "some documents are used much more often than others"
    candidates = named("repeated-documents", says, counted, put, dose=_rates(found[:2]))
    return aspect_of("used-again", "texts are used at least twice as often as most", counted, candidates)


def _lost(side: Observed) -> bool:
    first = side.aligned.first
    return bool((first.whole | (first.size == 0)).mean() < WHOLE_SHARE)


def _struck_documents(made: Made, share: NDArray[np.float64], reference: Reference) -> NDArray[np.bool_]:
    """(B,) examples of documents that make up a share of each dataset's examples."""
    result = np.zeros(len(made), bool)
    random = reference.maker.random("often")
    for number in range(len(reference.corpus.names)):
        mine = np.flatnonzero(made.dataset == number)
        documents, counts = np.unique(made.document[mine], return_counts=True)
        order = random.permutation(len(documents))
        chosen = documents[order][np.cumsum(counts[order]) <= round(share[number] * len(mine))]
        result[mine] = np.isin(made.document[mine], chosen)
    return result


def _often_in(side: Observed, corpus: Corpus) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """By dataset: units at least twice as frequent as the one in the middle, all units, how often the former come."""
    units, groups = units_of(side, corpus, shared=_ALL_SHARED), len(corpus.names) + 1
    k, n, times = np.zeros(groups), np.zeros(groups), np.ones(groups)
    for group in range(groups - 1):
        mine = units.number[(units.dataset == group) & (units.number >= 0) & units.alone]
        counts = np.unique(mine, return_counts=True)[1]
        if len(counts):
            median = float(np.median(counts))
            many = counts >= 2 * median
            k[group], n[group] = many.sum(), len(counts)
            times[group] = counts[many].mean() / median if many.any() else 1.0
    return k, n, times


# ----------------------------------------------------------------------------------------------------------- evaluation


def redrawn_aspect(first: Feed, second: Feed, reference: Reference) -> Aspect:
    """Whether evaluation examples are others in another call."""
    names = (*reference.corpus.names, "unknown dataset")
    counted = ByDataset(names, _differing(first, second, len(names)), floor=1e-9)

    def put() -> tuple[Count, Count]:
        epochs = [reference.examples(epoch=epoch).feed() for epoch in (0, 1)]
        return _differing(epochs[0], epochs[0], len(names)), _differing(epochs[0], epochs[1], len(names))

    candidates = named("validation-redrawn", "evaluation examples are drawn anew in each call", counted, put)
    return aspect_of("evaluation-differs", "evaluation examples are others in a second call", counted, candidates)


def _differing(first: Feed, second: Feed, groups: int) -> Count:
    rows, width = max(len(first), len(second)), max(first.token_ids.shape[1], second.token_ids.shape[1])
    group = np.full(rows, groups - 1)
    longer = first if len(first) >= len(second) else second
    known = (longer.dataset >= 0) & (longer.dataset < groups - 1)
    group[:] = np.where(known, longer.dataset, groups - 1)
    differs = np.zeros(rows, bool)
    for name in ("token_ids", "sop_labels"):
        left, right = (_filled(getattr(feed, name), rows, width) for feed in (first, second))
        differs |= (left != right).reshape(rows, -1).any(axis=1)
    return np.bincount(group[differs], minlength=groups) * 1.0, np.bincount(group, minlength=groups) * 1.0


def _filled(values: NDArray[np.generic], rows: int, width: int) -> NDArray[np.int64]:
    shape = (rows, width) if values.ndim == 2 else (rows,)
    # Rows that one feed does not have differ from any.
    result = np.full(shape, 0 if values.ndim == 2 else -9, np.int64)
    result[tuple(slice(0, size) for size in values.shape)] = values
    return result


def overlap_aspect(evaluation: Observed, training: Observed, corpus: Corpus, reference: Reference) -> Aspect:
    """Whether training examples are of documents that are evaluated.

    Only texts that stand in a single document tell: a paragraph that two documents share is no leak.
    """
    names = (*corpus.names, "unknown dataset")
    evaluated = _documents(evaluation, corpus)
    counted = ByDataset(names, _overlapping(training, evaluated, corpus, len(names)), floor=1e-6)

    def put() -> tuple[Count, Count]:
        made = reference.examples()
        held = np.isin(corpus.same_text[made.document], evaluated)
        apart, leaked = (
            observe(made.take(np.flatnonzero(rows)).feed(), reference.corpus, reference.tokenizer)
            for rows in (~held, held)
        )
        counts = [_overlapping(part, evaluated, reference.corpus, len(names)) for part in (apart, leaked)]
        return counts[0], counts[1]

    says = "training examples are of validation documents"
    candidates = named("training-has-validation-documents", says, counted, put)
    return aspect_of("training-overlap", "training examples are of documents that are evaluated", counted, candidates)


def _tells(observed: Observed) -> NDArray[np.bool_]:
    """(B,) whether the first segment says which document an example is of; a few pieces may stand anywhere."""
    first = observed.aligned.first
    return np.asarray(first.found & first.whole & first.alone & (first.size >= _LONG_ENOUGH))


def _documents(observed: Observed, corpus: Corpus) -> NDArray[np.int64]:
    """The documents (the first with their text) that examples are of."""
    return np.unique(corpus.same_text[observed.aligned.first.document[_tells(observed)]])


def _overlapping(training: Observed, evaluated: NDArray[np.int64], corpus: Corpus, groups: int) -> Count:
    usable = _tells(training)
    document = corpus.same_text[np.maximum(training.aligned.first.document, 0)]
    hit = usable & np.isin(document, evaluated)
    group = training.group
    return np.bincount(group[hit], minlength=groups) * 1.0, np.bincount(group[usable], minlength=groups) * 1.0
