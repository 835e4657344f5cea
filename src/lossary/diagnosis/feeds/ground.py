"""The reference in one style, and what named faults make of its rates.

ground = Ground(reference, Style.SENTENCES)
ground.rates                                       # untouched, over two epochs
ground.counts([fault], side=observed.rates)        # with the fault in every example
"""

from collections.abc import Sequence

import numpy as np

from lossary.diagnosis.feeds.compare import Counts
from lossary.diagnosis.feeds.faults import Fault
from lossary.diagnosis.feeds.observed import observe
from lossary.diagnosis.feeds.rates import Rates, summed
from lossary.diagnosis.feeds.reference import Reference, Style
from lossary.diagnosis.feeds.scene import Scene

__all__ = ["Ground"]

# Of the reference, so that its rates are better known than a side's.
_EPOCHS = 2


class Ground:
    """Examples of the reference in one style; each combination of faults is made and counted once."""

    def __init__(self, reference: Reference, style: Style) -> None:
        self.reference, self.style = reference, style
        self.made = [reference.examples(epoch=epoch, style=style) for epoch in range(_EPOCHS)]
        self._observed = [observe(made.feed(), reference.corpus, reference.tokenizer) for made in self.made]
        self.rates = summed([observed.rates for observed in self._observed])
        self._counts: dict[tuple[str, ...], Counts] = {(): Counts(self.rates.k, self.rates.n)}

    def scene(self, side: Rates, mask_id: int, epoch: int = 0) -> Scene:
        """What faults look at."""
        return Scene(
            reference=self.reference, style=self.style, epoch=epoch, base=self.rates, side=side, mask_id=mask_id
        )

    def counts(self, faults: Sequence[Fault], *, side: Rates, mask_id: int) -> Counts:
        """Counts with faults in every example that they can strike."""
        ordered = sorted(faults, key=lambda fault: (fault.stage, fault.key))
        key = tuple(fault.key for fault in ordered)
        if key not in self._counts:
            reference, rates = self.reference, []
            for epoch, made in enumerate(self.made):
                scene = self.scene(side, mask_id, epoch)
                for fault in ordered:
                    made = fault.put(made, np.ones(len(made), bool), scene)
                like = self._observed[epoch] if all(fault.keeps_text for fault in ordered) else None
                rates.append(observe(made.feed(), reference.corpus, reference.tokenizer, like=like).rates)
            total = summed(rates)
            self._counts[key] = Counts(total.k, total.n)
        return self._counts[key]
