"""The reference in one style, and what named faults make of its rates.

ground = Ground(reference, Style.SENTENCES)
ground.rates                                       # untouched, over two epochs
ground.counts([fault], side=observed.rates)        # with the fault in every example
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from lossary.diagnosis.feeds.compare import Counts
from lossary.diagnosis.feeds.facts import FACTS
from lossary.diagnosis.feeds.faults import Fault
from lossary.diagnosis.feeds.made import Made
from lossary.diagnosis.feeds.observed import Observed, observe
from lossary.diagnosis.feeds.rates import Rates, summed
from lossary.diagnosis.feeds.reference import Reference, Style
from lossary.diagnosis.feeds.scene import Scene

__all__ = ["Ground"]

# Of the reference, so that its rates are better known than a side's.
_EPOCHS = 2
# What a combination of faults looks at in a side: rates of facts, and the id of [MASK].
_Asked = Mapping[str, bytes]


class Ground:
    """Examples of the reference in one style; each combination of faults is made and counted once."""

    def __init__(self, reference: Reference, style: Style) -> None:
        self.reference, self.style = reference, style
        untouched = _untouched(reference, style)
        self.rates = untouched.rates
        self._untouched = untouched

    @property
    def made(self) -> Made:
        """The reference's examples of the first epoch, without a fault."""
        return self._untouched.made[0]

    @property
    def observed(self) -> Observed:
        """What was observed of them."""
        return self._untouched.observed[0]

    def scene(self, side: Rates, mask_id: int, epoch: int = 0) -> Scene:
        """What faults look at."""
        return Scene(
            reference=self.reference, style=self.style, epoch=epoch, base=self.rates, side=side, mask_id=mask_id
        )

    def counts(self, faults: Sequence[Fault], *, side: Rates, mask_id: int) -> Counts:
        """Counts with faults in every example that they can strike."""
        ordered = sorted(faults, key=lambda fault: (fault.stage, fault.key))
        key = tuple(fault.key for fault in ordered)
        known = self._untouched.counts.setdefault(key, [])
        for asked, counts in known:
            if asked == _answers(asked, side, mask_id):
                return counts
        scenes = [self.scene(side, mask_id, epoch) for epoch in range(_EPOCHS)]
        counts = self._untouched.struck(ordered, scenes)
        names = {"mask_id"}.union(*(scene.asked for scene in scenes))
        known.append((_answers(dict.fromkeys(names, b""), side, mask_id), counts))
        return counts


class _Untouched:
    """Examples of the reference, and what is counted of them and of what combinations of faults make of them.

    None of it depends on a side, but for the rates that a fault reads from one: several checks and sides share it.
    """

    def __init__(self, reference: Reference, style: Style) -> None:
        self._reference = reference
        self.made = [reference.examples(epoch=epoch, style=style) for epoch in range(_EPOCHS)]
        self.observed = [observe(made.feed(), reference.corpus, reference.tokenizer) for made in self.made]
        self.rates = summed([observed.rates for observed in self.observed])
        self.counts: dict[tuple[str, ...], list[tuple[_Asked, Counts]]] = {
            (): [({}, Counts(self.rates.k, self.rates.n))]
        }

    def struck(self, faults: Sequence[Fault], scenes: Sequence[Scene]) -> Counts:
        """Counts with faults, one after another, in every example; a scene an epoch."""
        rates = []
        for made, observed, scene in zip(self.made, self.observed, scenes, strict=True):
            struck = made
            for fault in faults:
                struck = fault.put(struck, np.ones(len(struck), bool), scene)
            like = observed if all(fault.keeps_text for fault in faults) else None
            rates.append(observe(struck.feed(), self._reference.corpus, self._reference.tokenizer, like=like).rates)
        total = summed(rates)
        return Counts(total.k, total.n)


@lru_cache(maxsize=6)
def _untouched(reference: Reference, style: Style) -> _Untouched:
    return _Untouched(reference, style)


def _answers(names: _Asked, side: Rates, mask_id: int) -> _Asked:
    """What a side answers to the same questions."""
    return {name: side.rate(name).tobytes() if name in FACTS else mask_id.to_bytes(8, "big") for name in names}
