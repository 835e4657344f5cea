"""Which documents the feeds of a side hold, one feed against another: what is left out of one of them.

    never_streamed(stream, examples, corpus)           # documents with examples that no step brings
    cut_short(evaluation, training, corpus)            # documents behind the last evaluated one in neither

What a side keeps for itself is its own choice; what it makes training examples of, its stream has to bring, and where
it divides documents between training and evaluation, it does so up to the last one.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from lossary.diagnosis.calibration import (
    ALARM_LEVEL,
    LEAST_OF_DOCUMENT,
    LOOKED_UP_WRONGLY,
    REPRODUCED_LEVEL,
    WHOLE_SHARE,
)
from lossary.diagnosis.feeds.corpus import Corpus
from lossary.diagnosis.feeds.observed import Observed
from lossary.diagnosis.feeds.outcome import Aspect, Deviation
from lossary.diagnosis.fit import Candidate

__all__ = ["cut_short", "never_streamed"]

_FARTHEST = 37.0
_MOST_APART = 16  # of documents that are left out at regular distances


def _units(p: float, tests: int, level: float = ALARM_LEVEL) -> float:
    return float(np.clip(stats.norm.isf(max(p, 1e-300)), 0.0, _FARTHEST) / stats.norm.isf(level / tests))


def _of_documents(observed: Observed, corpus: Corpus) -> NDArray[np.int64]:
    """(D,) how many examples hold anything of each document; those with one text are the first of them."""
    aligned = observed.aligned
    first, second = (np.where(one.found, one.document, -1) for one in (aligned.first, aligned.second))
    held = np.concatenate([first, np.where(second != first, second, -1)])
    return np.bincount(corpus.same_text[held[held >= 0]], minlength=len(corpus))


def _telling(corpus: Corpus) -> NDArray[np.bool_]:
    """(D,) documents long enough to be found."""
    return np.asarray((corpus.stop - corpus.start >= LEAST_OF_DOCUMENT) & (corpus.same_text == np.arange(len(corpus))))


def never_streamed(stream: Observed, examples: Observed, corpus: Corpus) -> Aspect:
    """Whether documents of which there are training examples come in no step.

    A short stream cannot bring all: how many it misses at most is reckoned as if examples were drawn with replacement.
    """
    made, brought = (_of_documents(one, corpus) for one in (examples, stream))
    offered = _telling(corpus) & (made > 0)
    distance, missing = 0.0, np.zeros(len(corpus), bool)
    deviations: list[Deviation] = []
    for number, name in enumerate(corpus.names):
        mine = offered & (corpus.dataset == number)
        total, steps = int(made[mine].sum()), int(brought[mine].sum())
        if not steps:
            continue  # A dataset that never comes is told with the shares.
        absent = mine & (brought == 0)
        chance = float(((1 - made[mine] / total) ** steps).sum()) + LOOKED_UP_WRONGLY * int(mine.sum())
        unit = _units(float(stats.poisson.sf(int(absent.sum()) - 1, chance)), len(corpus.names))
        distance = max(distance, unit)
        if unit > 1:
            missing |= absent
            says = f"{name}: {absent.sum():,} of {mine.sum():,} documents with training examples come in no step"
            deviations.append(Deviation(fact="never-streamed", says=says, excess=unit))
    if not deviations:
        return Aspect(distance=distance)
    struck = np.unique(corpus.dataset[missing])
    among = offered & np.isin(corpus.dataset, struck)
    name, doses = (
        "documents-never-arrive",
        {
            corpus.names[number]: round(
                float((missing & (corpus.dataset == number)).sum() / (among & (corpus.dataset == number)).sum()), 4
            )
            for number in struck
        },
    )
    where = ", ".join(f"{dose:.1%} of {one}" for one, dose in doses.items())
    says = f"{_which(missing, among, corpus)} never come: {where}"
    values = {"faults": {name: {"name": name, "datasets": doses}}, "datasets": doses}
    # The reference's stream without these documents lacks them, and the rest of it comes as the side's does.
    candidate = Candidate(names=(name,), says=says, residual=0.0, values=values)
    return Aspect(distance=distance, candidates=(candidate,), deviations=tuple(deviations))


def _which(missing: NDArray[np.bool_], among: NDArray[np.bool_], corpus: Corpus) -> str:
    """What documents that are left out have in common, if it can be told."""
    rows = np.flatnonzero(among)
    for apart in range(2, _MOST_APART + 1):
        for rest in range(apart):
            if np.array_equal(missing[rows], rows % apart == rest):
                return (
                    f"every {apart}th document (number {rest} of each {apart})" if apart > 2 else "every other document"
                )
    orders: tuple[tuple[str, str, Callable[[NDArray[np.int64]], NDArray[np.int64]]], ...] = (
        ("the first documents", "the last documents", lambda rows: rows),
        ("the shortest documents", "the longest documents", lambda rows: corpus.stop[rows] - corpus.start[rows]),
    )
    for low, high, key in orders:
        out, kept = key(np.flatnonzero(missing)), key(np.flatnonzero(among & ~missing))
        if len(kept) and out.max() <= kept.min():
            return low
        if len(kept) and out.min() >= kept.max():
            return high
    return "some documents"


def cut_short(evaluation: Observed, training: Observed, corpus: Corpus) -> Aspect:
    """Whether the documents behind the last evaluated one, or before the first, are kept from training all the same.

    Documents that stand in neither may be kept for a test; but not at one end alone, as often as others are evaluated.
    """
    if (
        min((one.aligned.first.whole | (one.aligned.first.size == 0)).mean() for one in (evaluation, training))
        < WHOLE_SHARE
    ):
        return Aspect(distance=0.0, skipped={"evaluated to the end": "too many examples could not be looked up"})
    evaluated, trained = (_of_documents(one, corpus) > 0 for one in (evaluation, training))
    rows = np.flatnonzero(_telling(corpus))
    ends = {"behind the last": rows, "before the first": rows[::-1]}
    return max(
        (
            _beyond(evaluated[rows] & ~trained[rows], trained[rows], one)
            for rows, one in ((rows, where) for where, rows in ends.items())
        ),
        key=lambda found: found.distance,
    )


def _beyond(evaluated: NDArray[np.bool_], trained: NDArray[np.bool_], where: str) -> Aspect:
    """Of documents in their order: whether those that come after the evaluated ones are in neither."""
    if not evaluated.any():
        return Aspect(distance=0.0)
    last = int(np.flatnonzero(evaluated)[-1]) + 1
    neither = ~evaluated & ~trained
    lost, kept, missing = int(neither[last:].sum()), int(evaluated.sum()), int(neither.sum())
    # That the last ones of all that are evaluated or in neither are all in neither.
    chance = special.gammaln([missing + 1, missing - lost + 1, missing + kept + 1, missing + kept - lost + 1])
    p = float(np.exp(chance[0] - chance[1] - chance[2] + chance[3]))
    table = [[lost, int(trained[last:].sum())], [kept, int(trained[:last].sum())]]
    alike = float(stats.fisher_exact(table).pvalue)
    if lost == 0 or table[0][1] == 0 or alike < REPRODUCED_LEVEL:
        return Aspect(distance=0.0)
    distance = _units(p, 2)
    if distance <= 1:
        return Aspect(distance=distance)
    name = "evaluation-cut-short"
    says = (
        f"{lost:,} documents {where} of {kept:,} evaluated ones are in neither training nor evaluation, "
        f"{table[0][1]:,} between them are trained on"
    )
    fitted = {"documents": lost, "share": round(lost / (lost + kept), 4)}
    values = {"faults": {name: {"name": name} | fitted}} | fitted
    told = (
        f"the evaluation leaves out what comes {where} {kept:,} documents: {fitted['share']:.1%} of those kept for it"
    )
    candidate = Candidate(names=(name,), says=told, residual=_units(alike, 1, REPRODUCED_LEVEL), values=values)
    return Aspect(
        distance=distance, candidates=(candidate,), deviations=(Deviation(fact=name, says=says, excess=distance),)
    )
