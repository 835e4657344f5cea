"""The order of a mixture: which dataset, epoch and example stands at each place of training.

A pure function of the place: no iterator, no state. Any window of n places holds share·n examples of each of D datasets
to within 1 + share·(D − 2): up to a moment each of the others is at most half an example ahead or behind, and so is the
window at either end. Each epoch of a dataset is a fresh permutation of its examples.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import lcm

import numpy as np
from numpy.typing import NDArray

from lossary.data.permutation import permute
from lossary.data.philox import stream_key

__all__ = ["MixtureOrder", "Places"]

# Shares that are no small fractions are rounded to this many slots: an error below 1e-6 of the total.
_MOST_SLOTS = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Places:
    """What stands at n places: dataset (n,) as a position in the mixture, epoch (n,) and index (n,) in the dataset."""

    dataset: NDArray[np.int16]
    epoch: NDArray[np.int64]
    index: NDArray[np.int64]


class MixtureOrder:
    """Interleaves datasets of given sizes by given shares.

    In a cycle of M slots, occurrence k of a dataset with n_d slots has the ideal place (k + ½)/n_d; slots are sorted
    by that. The j-th occurrence over all cycles is example j mod N_d of epoch j div N_d, permuted.
    """

    def __init__(self, names: Sequence[str], *, shares: Sequence[float], sizes: Sequence[int], seed: int) -> None:
        self._names = list(names)
        self._sizes = np.asarray(sizes, np.int64)
        self._seed = seed
        self._quotas = _quotas(shares)
        dataset = np.repeat(np.arange(len(names)), self._quotas)
        occurrence = np.concatenate([np.arange(quota) for quota in self._quotas])
        ideal = (occurrence + 0.5) / self._quotas[dataset]
        order = np.lexsort((dataset, ideal))
        self._slot_dataset = dataset[order].astype(np.int16)
        self._slot_occurrence = occurrence[order]

    def at(self, places: NDArray[np.int64]) -> Places:
        """What stands at `places` (n,), counted from 0."""
        cycle, slot = np.divmod(places, len(self._slot_dataset))
        dataset = self._slot_dataset[slot]
        ordinal = cycle * self._quotas[dataset] + self._slot_occurrence[slot]
        epoch, index = np.divmod(ordinal, self._sizes[dataset])
        return Places(dataset=dataset, epoch=epoch, index=self._shuffled(dataset, epoch, index))

    def _shuffled(
        self, dataset: NDArray[np.int16], epoch: NDArray[np.int64], index: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        pairs, which = np.unique(np.stack([dataset, epoch]), axis=1, return_inverse=True)
        keys = np.array(
            [stream_key(self._seed, "order", self._names[d], int(e)) for d, e in pairs.T.tolist()], np.uint64
        )
        return permute(index, size=self._sizes[dataset], key=keys[which.reshape(-1)])


def _quotas(shares: Sequence[float]) -> NDArray[np.int64]:
    """Slots of each dataset in a cycle: exact where the shares are small fractions, else by the largest remainder."""
    total = sum(shares)
    fractions = [Fraction(share / total).limit_denominator(1000) for share in shares]
    slots = lcm(*(fraction.denominator for fraction in fractions))
    exact = all(abs(float(f) - share / total) < 1e-12 for f, share in zip(fractions, shares, strict=True))
    if exact and sum(fractions) == 1 and slots <= _MOST_SLOTS:
        return np.array([int(fraction * slots) for fraction in fractions], np.int64)
    ideal = np.asarray(shares, np.float64) / total * _MOST_SLOTS
    quotas = np.maximum(1, np.floor(ideal).astype(np.int64))
    missing = _MOST_SLOTS - int(quotas.sum())
    for dataset in np.argsort(quotas - ideal)[: max(0, missing)]:
        quotas[dataset] += 1
    return quotas
