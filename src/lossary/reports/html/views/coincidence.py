"""Which runs a chart cannot tell apart: their curves, or their evaluations, lie within a pixel of one another.

They are drawn with one mark, the first's, and the chart says whose it is. A pixel is one of the chart as it is drawn
first; on a logarithmic axis the same holds, or the runs are drawn apart.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from lossary.reports.html.charts.curves import HEIGHT, WIDTH

__all__ = ["Course", "Scale", "coincide_text", "grouped"]

_Item = TypeVar("_Item")
_MOST_NAMED = 4


class Course(NamedTuple):
    """A run in a chart. step: (N,) ascending, N > 0; loss: (N,); mean_step, mean: (M,), what is drawn strongly."""

    step: NDArray[np.int64]
    loss: NDArray[np.float64]
    mean_step: NDArray[np.int64]
    mean: NDArray[np.float64]


class Scale(NamedTuple):
    """What a chart spans, over all that is drawn in it."""

    first: float
    last: float
    low: float
    high: float

    def near(self, a: NDArray[np.float64] | float, b: NDArray[np.float64] | float) -> bool:
        """Whether losses are within a pixel of one another, on a linear axis and on a logarithmic one."""
        if np.any(np.abs(np.subtract(a, b)) > (self.high - self.low) / HEIGHT):
            return False
        if self.low <= 0:
            return True
        return not np.any(np.abs(np.log(a) - np.log(b)) > np.log(self.high / self.low) / HEIGHT)

    def beside(self, a: float, b: float) -> bool:
        """Whether places along x are within a pixel of one another."""
        return abs(a - b) <= (self.last - self.first) / WIDTH

    def same(self, one: Course, other: Course) -> bool:
        """Whether two runs look the same from end to end; the ends are compared first, as most differ there."""
        if not (self.beside(one.step[0], other.step[0]) and self.beside(one.step[-1], other.step[-1])):
            return False
        if not (self.near(one.mean[0], other.mean[0]) and self.near(one.mean[-1], other.mean[-1])):
            return False
        return self._along(one.mean_step, one.mean, other.mean_step, other.mean) and self._along(
            one.step, one.loss, other.step, other.loss
        )

    def _along(
        self,
        step: NDArray[np.int64],
        loss: NDArray[np.float64],
        other_step: NDArray[np.int64],
        other_loss: NDArray[np.float64],
    ) -> bool:
        if np.array_equal(step, other_step):
            return self.near(loss, other_loss)
        both = np.union1d(step, other_step)
        return self.near(np.interp(both, step, loss), np.interp(both, other_step, other_loss))


def grouped(items: Sequence[_Item], same: Callable[[_Item, _Item], bool]) -> list[list[_Item]]:
    """Items with those that are the same as the first of their group; the order stays."""
    groups: list[list[_Item]] = []
    for item in items:
        group = next((group for group in groups if same(group[0], item)), None)
        if group is None:
            groups.append([item])
        else:
            group.append(item)
    return groups


def coincide_text(runs: Sequence[str], what: str = "") -> str:
    """`2 runs coincide: a, b`; the others of many are counted."""
    named = ", ".join(runs[:_MOST_NAMED])
    more = f" and {len(runs) - _MOST_NAMED} more" if len(runs) > _MOST_NAMED else ""
    return f"{len(runs)} runs coincide{what}: {named}{more}"
