"""What faults look at when they are put into examples: the reference, and what the side's rates leave open."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lossary.data.tokenizer import UNK
from lossary.diagnosis.feeds.made import Made, Maker
from lossary.diagnosis.feeds.rates import Rates
from lossary.diagnosis.feeds.reference import Reference, Style

__all__ = ["Put", "Scene"]

# Changes the rows (B,) that are True.
Put = Callable[[Made, NDArray[np.bool_], "Scene"], Made]


@dataclass(frozen=True, kw_only=True)
class Scene:
    """The reference, its rates, and those of the side."""

    reference: Reference
    style: Style = Style.SENTENCES
    epoch: int = 0
    base: Rates | None = None
    side: Rates | None = None
    mask_id: int = UNK  # what the side shows most often where [MASK] is expected
    asked: set[str] = field(default_factory=set)  # facts whose rates in the side were looked at

    @property
    def maker(self) -> Maker:
        return self.reference.maker

    @property
    def vocabulary_size(self) -> int:
        return self.reference.tokenizer.vocabulary_size

    def read(self, name: str, default: float) -> NDArray[np.float64]:
        """(G,) the side's rate of a fact by dataset, `default` where there is none."""
        self.asked.add(name)
        return self._rate(self.side, name, default)

    def own(self, name: str) -> NDArray[np.float64]:
        """(G,) the reference's rate of a fact, NaN where there is none."""
        return self._rate(self.base, name, np.nan)

    def _rate(self, rates: Rates | None, name: str, default: float) -> NDArray[np.float64]:
        groups = len(self.reference.corpus.names) + 1
        found = np.full(groups, np.nan) if rates is None else rates.rate(name)
        return np.where(np.isnan(found), default, found)
