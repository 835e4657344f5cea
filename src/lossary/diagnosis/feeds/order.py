"""Faults of the order of a training stream: shares, repeats, epochs, resume.

    aspects = order_aspects(observed, corpus, reference)

The reference's stream of the same length has the fault put in by taking its examples in another order, or by other
shares; then the same is counted on it.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from lossary.diagnosis.calibration import FLOOR_SAME_MASKS, FLOOR_SAME_ORDER, LOOKED_UP_WRONGLY, REDRAWN_WRONGLY
from lossary.diagnosis.calibration import LEAST_REPEATS as _FEWEST
from lossary.diagnosis.feeds.compare import ALARM_LEVEL, REPRODUCED_LEVEL
from lossary.diagnosis.feeds.corpus import Corpus
from lossary.diagnosis.feeds.epochs import ByDataset, aspect_of, named
from lossary.diagnosis.feeds.observed import Observed, observe
from lossary.diagnosis.feeds.outcome import Aspect, Deviation
from lossary.diagnosis.feeds.reference import Reference
from lossary.diagnosis.feeds.serial import arranged_aspects, shared_draws
from lossary.diagnosis.feeds.streams import Repeats, Resumed, Stream, repeats, resumed
from lossary.diagnosis.feeds.units import masks_repeated, units_of
from lossary.diagnosis.fit import Candidate

__all__ = ["REDRAWN", "order_aspects", "resume_aspects"]

REDRAWN = "masks-redrawn-on-resume"

_FARTHEST = 37.0
_ARRANGED = "examples come in an arrangement that decides it; mend that first"
_FOLLOW = {"mixture": "shares", "order": "order of epochs"}


def order_aspects(
    observed: Observed, corpus: Corpus, reference: Reference, *, grouped: Sequence[str] = ()
) -> list[Aspect]:
    """Shares, repeats, arrangement, order and masks of epochs of a stream from its start."""
    stream = Stream.of(observed, corpus)
    steps = -(-len(stream) // reference.setup.recipe.batch_size)
    own = _Own(reference, steps)
    arranged = arranged_aspects(stream, own.stream, declared=grouped)
    # What is arranged has its order again in each epoch, and shares that depend on where one stops.
    apart, sorted_ = ({name: _ARRANGED} if arranged[kind].distance > 1 else {} for kind, name in _FOLLOW.items())
    return [
        Aspect(distance=0.0, skipped=apart) if apart else _shares(stream, own),
        _repeats(stream, own),
        Aspect(distance=0.0, skipped=sorted_) if sorted_ else _order(stream, own),
        _masks(stream, own),
        *arranged.values(),
        shared_draws(observed),
    ]


class _Own:
    """The reference's stream of as many steps, aligned once."""

    def __init__(self, reference: Reference, steps: int) -> None:
        self.reference, self._steps = reference, steps
        self._stream: Stream | None = None

    def stream(self) -> Stream:
        if self._stream is None:
            self._stream = self.by_shares(None)
        return self._stream

    def by_shares(self, shares: dict[str, float] | None) -> Stream:
        """The stream with other shares."""
        made = self.reference.stream(start=0, stop=self._steps, shares=shares)
        corpus = self.reference.corpus
        return Stream.of(observe(made.feed(), corpus, self.reference.tokenizer), corpus)


def _z(p: float | NDArray[np.float64]) -> NDArray[np.float64]:
    z: NDArray[np.float64] = np.clip(stats.norm.isf(np.maximum(p, 1e-300)), 0.0, _FARTHEST)
    return z


def _critical(level: float, tests: int) -> float:
    return float(stats.norm.isf(level / max(1, tests)))


# ------------------------------------------------------------------------------------------------------------- shares


def _share_units(counts: NDArray[np.int64], shares: NDArray[Any], level: float) -> NDArray[np.float64]:
    """(D,) how far counts are from shares, exact binomial tests of both sides."""
    total = int(counts.sum())
    rates = np.clip(shares / shares.sum(), 1e-9, 1 - 1e-9)
    p = np.minimum(stats.binom.sf(counts - 1, total, rates), stats.binom.cdf(counts, total, rates))
    return _z(p) / _critical(level, 2 * len(counts))


def _shares(stream: Stream, own: _Own) -> Aspect:
    setup, counts = own.reference.setup, stream.shares()
    offered = np.isin(np.arange(len(stream.names)), own.reference.corpus.dataset)
    declared = np.array([float(setup.shares.get(name, 0.0)) for name in stream.names]) * offered
    if not counts.sum() or not declared.sum():
        return Aspect(distance=0.0, skipped={"shares": "no example could be told which dataset it is of"})
    units = _share_units(counts, declared, ALARM_LEVEL)
    deviations = [
        Deviation(
            fact="share",
            says=f"{name}: {count:,} of {counts.sum():,} examples, {share / declared.sum():.1%} are declared",
            excess=float(unit),
        )
        for name, count, share, unit in zip(stream.names, counts, declared, units, strict=True)
        if unit > 1
    ]
    candidates = _share_candidates(stream, declared, own) if units.max() > 1 else []
    return Aspect(distance=float(units.max()), candidates=tuple(candidates), deviations=tuple(deviations))


def _share_candidates(stream: Stream, declared: NDArray[np.float64], own: _Own) -> list[Candidate]:
    """Other shares, from the most special to what was counted."""
    counts, names = stream.shares(), stream.names
    reference = own.reference
    tried: list[tuple[str, str, NDArray[Any]]] = []
    missing = (counts == 0) & (declared > 0)
    if missing.any():
        which = ", ".join(np.array(names)[missing])
        tried.append(("dataset-missing", f"{which} is left out", declared * ~missing))
    documents = np.bincount(reference.corpus.dataset, minlength=len(names)).astype(np.float64)
    examples = np.bincount(reference.examples().dataset, minlength=len(names)).astype(np.float64)
    named_shares = (
        ("in proportion to documents", documents),
        ("in proportion to examples", examples),
        ("the same for all", (declared > 0) * 1.0),
        *_one_scaled(counts, declared, names),
    )
    tried += [("share-differs", f"shares are {how}", shares) for how, shares in named_shares]
    tried.append(("share-differs", "shares are others than declared", counts.astype(np.float64)))
    found = []
    for name, says, shares in tried:
        if not shares.sum():
            continue
        put = own.by_shares({key: float(share) for key, share in zip(names, shares, strict=True) if share > 0})
        # The reference's stream keeps to shares as closely as whole numbers can.
        residual = float(_share_units(counts, put.shares().astype(np.float64), REPRODUCED_LEVEL).max())
        entry: dict[str, Any] = {
            "name": name,
            "shares": dict(zip(names, (shares / shares.sum()).round(4).tolist(), strict=True)),
        }
        if name == "dataset-missing":
            entry["datasets"] = dict.fromkeys(np.array(names)[missing].tolist(), 1.0)
        values = {"faults": {name: entry}} | {key: value for key, value in entry.items() if key != "name"}
        found.append(Candidate(names=(name,), says=says, residual=residual, values=values))
    return sorted(found, key=lambda candidate: not candidate.reproduces)


def _one_scaled(
    counts: NDArray[np.int64], declared: NDArray[np.float64], names: Sequence[str]
) -> list[tuple[str, NDArray[Any]]]:
    """Each dataset's weight changed by the factor that its count asks for."""
    found = []
    shares = declared / declared.sum()
    for number, name in enumerate(names):
        rest = counts.sum() - counts[number]
        if 0 < shares[number] < 1 and rest > 0 and counts[number] > 0:
            factor = counts[number] / rest * (1 - shares[number]) / shares[number]
            scaled = shares.copy()
            scaled[number] *= factor
            found.append((f"as declared, but that of {name} times {factor:.2f}", scaled))
    return found


# ------------------------------------------------------------------------------------------------------------ repeats


def _repeats(stream: Stream, own: _Own) -> Aspect:
    found = [stream.repeats(number) for number in range(len(stream.names))]
    p = np.array([min(repeats.early, repeats.uneven) for repeats in found])
    units = _z(p) / _critical(ALARM_LEVEL, 2 * len(found))
    deviations = [
        Deviation(
            fact="repeats",
            says=f"{name}: {r.soon:,} of {r.examples:,} examples are back soon, "
            f"{r.often[0]:,} of {r.units:,} come more than twice as often as most",
            excess=float(unit),
        )
        for name, r, unit in zip(stream.names, found, units, strict=True)
        if unit > 1
    ]
    candidates: list[Candidate] = []
    if units.max(initial=0.0) > 1:
        deviating = np.flatnonzero(units > 1).tolist()
        candidates = [
            _with_repeats(name, says, stream, found, deviating, put)
            for name, says, put in (
                ("stream-duplicated", "every example comes several times", partial(_duplicated, own)),
                ("repeated-documents", "some documents come much more often than others", partial(_some_often, own)),
            )
        ]
    short = [name for name, r in zip(stream.names, found, strict=True) if not r.long]
    reason = f"the stream holds less than three epochs of {', '.join(short)}"
    return Aspect(
        distance=float(units.max(initial=0.0)),
        candidates=tuple(sorted(candidates, key=lambda c: (not c.reproduces, c.residual))),
        deviations=tuple(deviations),
        skipped={"evenness": reason} if short else {},
    )


Put = Callable[[int, Repeats], tuple[float, dict[str, float]]]


def _with_repeats(
    name: str, says: str, stream: Stream, found: list[Repeats], deviating: list[int], put: Put
) -> Candidate:
    """A candidate from what `put` makes of the reference's examples of a dataset, and the values it fitted."""
    residual, datasets, fitted = 0.0, {}, {}
    for number in deviating:
        apart, entry = put(number, found[number])
        residual = max(residual, apart / _critical(REPRODUCED_LEVEL, 6 * len(deviating)))
        datasets[stream.names[number]] = round(entry.pop("dose"), 4)
        fitted[stream.names[number]] = entry
    fault: dict[str, Any] = {"name": name, "datasets": datasets, "fitted": fitted}
    values: dict[str, Any] = {"faults": {name: fault}, "datasets": datasets, "fitted": fitted}
    return Candidate(names=(name,), says=f"{says}: {', '.join(datasets)}", residual=residual, values=values)


def _apart(side: Repeats, made: Repeats) -> float:
    """How far repeats are from those of a faulty reference, in standard deviations, by exact tests."""
    tables = [
        ((side.soon, side.examples - side.soon), (made.soon, made.examples - made.soon)),
        ((side.again, side.examples - side.again), (made.again, made.examples - made.again)),
        ((side.often[0], side.units - side.often[0]), (made.often[0], made.units - made.often[0])),
    ]
    return max(float(_z(stats.fisher_exact(table).pvalue / 2)) for table in tables)


# How examples come back depends on their numbers alone: the fault is put into the order of the reference's epochs, of
# as many examples as the side's have.


def _epochs(random: np.random.Generator, pool: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """So many examples of a pool, in epochs that are shuffled anew."""
    count = -(-length // max(1, len(pool)))
    return np.concatenate([random.permutation(pool) for _ in range(count)])[:length]


def _duplicated(own: _Own, number: int, side: Repeats) -> tuple[float, dict[str, float]]:
    """Every example comes as often as there are workers, one behind the other."""
    times = max(2, round(side.examples / max(1, side.examples - side.soon)))
    random = own.reference.maker.random("duplicated", number)
    rows = _epochs(random, np.arange(max(1, side.units)), -(-side.examples // times))
    made = repeats(np.repeat(rows, times)[: side.examples])
    return _apart(side, made), {"times": float(times), "dose": 1.0}


_TIMES = (2, 3, 4, 5, 6, 8, 10, 15, 20)


def _some_often(own: _Own, number: int, side: Repeats) -> tuple[float, dict[str, float]]:
    """Some examples come more often than the others: how many, how often, and of how many in all, is fitted."""
    random = own.reference.maker.random("often", number)
    share = side.often[0] / max(1, side.units)
    best: tuple[float, dict[str, float]] = (_FARTHEST, {"times": 1.0, "dose": share})
    for size in (1.0, 1.25, 1.6, 2.0):
        units = np.arange(max(2, round(size * side.units)))
        for dose in (share, share / size, share / 2):
            often = random.permutation(len(units)) < dose * len(units)
            for times in _TIMES:
                pool = np.repeat(units, np.where(often, times, 1))
                apart = _apart(side, repeats(_epochs(random, pool, side.examples)))
                if apart < best[0]:
                    best = (apart, {"times": float(times), "dose": float(dose)})
    return best


# ------------------------------------------------------------------------------------------------------------- epochs


def _by_dataset(
    stream: Stream, count: Callable[[Stream, int], tuple[int, int]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    pairs = [count(stream, number) for number in range(len(stream.names))]
    return np.array([k for k, _ in pairs], np.float64), np.array([n for _, n in pairs], np.float64)


def _common_lag(stream: Stream, number: int) -> tuple[int, int]:
    common, total = stream.same_order(number)
    return (common, total) if total >= _FEWEST else (0, 0)


def _same_masks(stream: Stream, number: int) -> tuple[int, int]:
    return stream.same_masks(number)


def _order(stream: Stream, own: _Own) -> Aspect:
    # A shuffled epoch has hardly two repeats at one distance; a tenth is far beyond.
    side = _by_dataset(stream, _common_lag)
    if not side[1].any():
        return Aspect(distance=0.0, skipped={"order of epochs": "the stream holds less than two epochs of any dataset"})
    counted = ByDataset(stream.names, side, floor=FLOOR_SAME_ORDER)

    def put() -> tuple[Any, Any]:
        return _by_dataset(own.stream(), _common_lag), _by_dataset(_cycled(own.stream()), _common_lag)

    candidates = named("same-order-every-epoch", "each epoch has the same order", counted, put)
    return aspect_of("same-order", "examples come back at one and the same distance", counted, candidates)


def _masks(stream: Stream, own: _Own) -> Aspect:
    side = _by_dataset(stream, _same_masks)
    if not side[1].any():
        return Aspect(distance=0.0, skipped={"masks of epochs": "no text comes back an epoch later"})
    counted = ByDataset(stream.names, side, floor=FLOOR_SAME_MASKS)

    def put() -> tuple[Any, Any]:
        return _by_dataset(own.stream(), _same_masks), _by_dataset(_cycled(own.stream()), _same_masks)

    counted = counted.above(lambda: put()[0])
    candidates = named("same-masks-every-epoch", "each epoch has the same masks", counted, put)
    return aspect_of("same-masks", "examples have the masks that they had an epoch before", counted, candidates)


def _cycled(stream: Stream) -> Stream:
    """The stream with its first epoch of each dataset again and again; its numbers are compared as they are."""
    rows = np.arange(len(stream))
    for number in range(len(stream.names)):
        mine = stream.rows(number)
        epoch = max(1, stream.repeats(number).units)
        rows[mine] = mine[np.arange(len(mine)) % epoch]
    units = replace(stream.units, **{name: column[rows] for name, column in vars(stream.units).items()})
    layout = stream.observed.layout
    taken = replace(layout, **{name: column[rows] for name, column in vars(layout).items()})
    return replace(stream, units=units, observed=replace(stream.observed, layout=taken))


# ------------------------------------------------------------------------------------------------------------- resume


def resume_aspects(
    whole: Observed, part: Observed, at: int, corpus: Corpus, reference: Reference, *, masks: bool
) -> list[Aspect]:
    """Whether a resumed stream goes on where the uninterrupted one does, and, if asked, with its masks."""
    drawn = _masks_aspect(whole, part, at, corpus, reference) if masks else Aspect(distance=0.0)
    if drawn.distance > 1:
        order = _resume_aspect(whole, part, at, corpus, reference, wrongly=REDRAWN_WRONGLY)
        if order.distance <= 1:
            return [order, drawn]
    return [_resume_aspect(whole, part, at, corpus, reference)]


def _resume_aspect(
    whole: Observed,
    part: Observed,
    at: int,
    corpus: Corpus,
    reference: Reference,
    *,
    wrongly: float = LOOKED_UP_WRONGLY,
) -> Aspect:
    """Whether a resumed stream goes on where the uninterrupted one does."""
    units = units_of(_behind(whole, part), corpus)
    total = len(whole.group)
    known = replace(units, **{name: column[:total] for name, column in vars(units).items()})
    found = resumed(known, units.number[total:], at)
    if not found.examples:
        return Aspect(distance=0.0, skipped={"resume": "the resumed stream has no example that could be looked up"})
    missing = found.examples - found.matching
    distance = _lost(missing, found.examples, ALARM_LEVEL, wrongly)
    if distance <= 1:
        return Aspect(distance=distance)
    deviation = Deviation(
        fact="resume",
        says=f"{missing:,} of {found.examples:,} examples after the resume are not those of the uninterrupted stream",
        excess=distance,
    )
    return Aspect(
        distance=distance, candidates=tuple(_resume_candidates(found, at, reference)), deviations=(deviation,)
    )


def _masks_aspect(whole: Observed, part: Observed, at: int, corpus: Corpus, reference: Reference) -> Aspect:
    """Whether examples after a resume have the masks that they have without one."""
    units = units_of(_behind(whole, part), corpus)
    count = min(len(part.group), len(whole.group) - at)
    straight = units.number[at : at + count]
    rows = np.flatnonzero((units.number[len(whole.group) :][:count] == straight) & (straight >= 0))
    text, masks = masks_repeated(part, whole, (rows, rows + at))
    same, total = int(masks.sum()), int(text.sum())
    distance = _lost(total - same, total, ALARM_LEVEL)
    if distance <= 1:
        return Aspect(distance=distance)
    says = f"{total - same:,} of {total:,} examples after the resume have other masks than without it"
    own = Stream.of(
        observe(
            reference.stream(start=0, stop=-(-len(whole.group) // reference.setup.recipe.batch_size)).feed(),
            corpus,
            reference.tokenizer,
        ),
        corpus,
    )
    # The reference's masks drawn anew: those of an epoch later, for the same text.
    put = np.sum([own.same_masks(number) for number in range(len(own.names))], axis=0)
    table = [[same, total - same], [put[0], put[1] - put[0]]]
    residual = float(_z(stats.fisher_exact(table).pvalue / 2) / _critical(REPRODUCED_LEVEL, 1))
    told = f"after a resume masks are drawn anew, since the random state is not kept: {says}"
    return Aspect(
        distance=distance,
        candidates=(_resume(REDRAWN, told, residual, {"share": round(1 - same / total, 4)}),),
        deviations=(Deviation(fact="resumed-masks", says=says, excess=distance),),
    )


def _lost(missing: int, examples: int, level: float, wrongly: float = LOOKED_UP_WRONGLY) -> float:
    """How far so many examples are from none, if some may be looked up wrongly."""
    if missing <= 0:
        return 0.0
    return float(_z(stats.binom.sf(missing - 1, examples, wrongly)) / _critical(level, 1))


def _behind(first: Observed, second: Observed) -> Observed:
    """What `units_of` looks at, of two feeds one after another."""
    aligned = first.aligned
    both = {
        name: replace(
            getattr(aligned, name),
            **{
                column: np.concatenate([values, getattr(getattr(second.aligned, name), column)])
                for column, values in vars(getattr(aligned, name)).items()
            },
        )
        for name in ("first", "second")
    }
    dataset = np.concatenate([aligned.dataset, second.aligned.dataset])
    return replace(first, aligned=replace(aligned, dataset=dataset, **both))


def _resume_candidates(found: Resumed, at: int, reference: Reference) -> list[Candidate]:
    """A shift of the whole stream; else another order, in which some examples come again."""
    batch = reference.setup.recipe.batch_size
    shift = found.shift
    away = found.examples - found.matching_shifted - (max(0, shift) if shift > 0 else 0)
    units = _lost(away, found.examples, REPRODUCED_LEVEL)
    if shift and units <= 1:
        name = "resume-replays" if shift < 0 else "resume-skips"
        start = " from its start" if shift == -at else ""
        what = "replays" if shift < 0 else "skips"
        return [
            _resume(
                name,
                f"a resumed run {what} {abs(shift):,} examples ({abs(shift) / batch:g} steps) of the stream{start}",
                units,
                {"examples": abs(shift), "steps": abs(shift) / batch},
            )
        ]
    return _other_order(found, at, reference)


def _other_order(found: Resumed, at: int, reference: Reference) -> list[Candidate]:
    """The reference's stream resumed with an order drawn anew: it has some examples again, as the side's has."""
    steps = -(-(at + found.examples) // reference.setup.recipe.batch_size)
    corpus = reference.corpus
    own, other = (
        observe(made.feed(), corpus, reference.tokenizer)
        for made in (reference.stream(start=0, stop=steps), reference.reseeded().stream(start=0, stop=steps))
    )
    units = units_of(_behind(own, other), corpus)
    total = len(own.group)
    known = replace(units, **{name: column[:total] for name, column in vars(units).items()})
    put = resumed(known, units.number[total:][at:], at)
    counts = np.array([[found.seen, found.examples - found.seen], [put.seen, put.examples - put.seen]])
    distance = float(_z(stats.fisher_exact(counts).pvalue / 2) / _critical(REPRODUCED_LEVEL, 1)) if found.seen else 9.0
    share = found.seen / found.examples
    return [
        _resume(
            "resume-elsewhere",
            f"a resumed run goes on elsewhere, in another order or beyond what was asked for: {found.seen:,} of "
            f"{found.examples:,} examples were there before",
            distance,
            {"how": "another order", "share": round(share, 4)},
        )
    ]


def _resume(name: str, says: str, residual: float, fitted: dict[str, Any]) -> Candidate:
    return Candidate(
        names=(name,), says=says, residual=residual, values={"faults": {name: {"name": name} | fitted}} | fitted
    )
