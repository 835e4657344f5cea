"""How a run is told from another one: a colour, a shape and a dash, the same in tables and charts.

Colours are Okabe and Ito's, without black and yellow, of which one would vanish on a dark and one on a light page; what
has no colour of its own is drawn in the colour of text. Shapes and dashes repeat the distinction for those who see no
colours, and go on where colours begin anew.
"""

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["COLOURS", "Mark", "marks_of"]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "currentColor")
# As Vega calls them, with a path in a box from -6 to 6 for swatches.
_SHAPES = {
    "circle": "M-5,0a5,5 0 1,0 10,0a5,5 0 1,0 -10,0Z",
    "square": "M-4.5,-4.5h9v9h-9Z",
    "triangle-up": "M0,-5.5L5.5,4.5H-5.5Z",
    "diamond": "M0,-6L5,0L0,6L-5,0Z",
    "cross": "M-1.8,-5.4h3.6v3.6h3.6v3.6h-3.6v3.6h-3.6v-3.6h-3.6v-3.6h3.6Z",
    "triangle-down": "M0,5.5L5.5,-4.5H-5.5Z",
    "triangle-right": "M5.5,0L-4.5,5.5V-5.5Z",
    "triangle-left": "M-5.5,0L4.5,5.5V-5.5Z",
}
_DASHES = ((), (6, 2), (2, 2), (8, 2, 2, 2), (10, 3))


class Mark(NamedTuple):
    """What a run looks like; `path` draws its shape in a box from -6 to 6, and has an id in a page."""

    id: str
    colour: str
    shape: str
    path: str
    dash: tuple[int, ...]


def marks_of(runs: Sequence[str]) -> dict[str, Mark]:
    """A mark for each run by its place; pairs of colour and shape repeat after 56 runs."""
    shapes = list(_SHAPES)
    found = {}
    for index, run in enumerate(runs):
        shape = shapes[index % len(shapes)]
        dash = _DASHES[(index // len(COLOURS) + index) % len(_DASHES)]
        found[run] = Mark(f"mark-{index}", COLOURS[index % len(COLOURS)], shape, _SHAPES[shape], dash)
    return found
