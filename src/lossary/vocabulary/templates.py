"""What stands around segments: special pieces before, between and after them, and token types.

template = template_of(value["post_processor"])
template.frame(first, second).ids                   # [CLS] first [SEP] second [SEP]
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lossary.vocabulary.api import Framed

__all__ = ["BARE", "Layout", "Template", "by_ends", "classic", "template_of"]

# Ids that stand for the two texts when a post-processor is run to see what it adds: no vocabulary has as many pieces.
_TEXTS = (2_000_000_000, 2_000_000_001)


class Layout(NamedTuple):
    """Special pieces and their token types: `around[i]` stands before segment i, the last one after all."""

    around: tuple[tuple[tuple[int, int], ...], ...]  # (id, type) each
    types: tuple[int, ...]  # of the segments

    @property
    def num_added(self) -> int:
        return sum(map(len, self.around))

    def frame(self, segments: Sequence[NDArray[np.int32]]) -> Framed:
        """Segments with what stands around them."""
        ids: list[NDArray[np.int32]] = []
        types: list[NDArray[np.int32]] = []
        places: list[int] = []
        size = 0
        for number, added in enumerate(self.around):
            special = np.array(added, np.int32).reshape(-1, 2)
            ids.append(special[:, 0])
            types.append(special[:, 1])
            size += len(special)
            if number < len(segments):
                places.append(size)
                segment = np.asarray(segments[number], np.int32)
                ids.append(segment)
                types.append(np.full(len(segment), self.types[number], np.int32))
                size += len(segment)
        return Framed(np.concatenate(ids), np.concatenate(types), places[0], places[1] if len(places) > 1 else size)


@dataclass(frozen=True, kw_only=True)
class Template:
    """Layouts of one segment and of two."""

    single: Layout
    pair: Layout

    def frame(self, first: NDArray[np.int32], second: NDArray[np.int32] | None = None) -> Framed:
        return self.single.frame([first]) if second is None else self.pair.frame([first, second])

    @property
    def num_added(self) -> tuple[int, int]:
        return self.single.num_added, self.pair.num_added

    @property
    def places(self) -> tuple[int, int]:
        """How many special pieces stand before the first segment, and how many between two."""
        return len(self.pair.around[0]), len(self.pair.around[1])

    @property
    def ids(self) -> set[int]:
        """The special pieces that it adds."""
        return {piece for layout in (self.single, self.pair) for added in layout.around for piece, _ in added}


BARE = Template(single=Layout(((), ()), (0,)), pair=Layout(((), (), ()), (0, 1)))


def classic(cls: int, sep: int) -> Template:
    """[CLS] A [SEP], and [CLS] A [SEP] B [SEP] with token type 1 from B on."""
    return Template(
        single=Layout((((cls, 0),), ((sep, 0),)), (0,)),
        pair=Layout((((cls, 0),), ((sep, 0),), ((sep, 1),)), (0, 1)),
    )


def by_ends(bos: int | None, eos: int | None) -> Template:
    """Begin and end of a text around each segment, where there are such pieces."""
    before, after = (tuple(() if piece is None else ((piece, 0),)) for piece in (bos, eos))
    first = tuple((piece, 1) for piece, _ in before)
    last = tuple((piece, 1) for piece, _ in after)
    return Template(single=Layout((before, after), (0,)), pair=Layout((before, (*after, *first), last), (0, 1)))


def template_of(post_processor: Mapping[str, Any] | None) -> Template:
    """The template of a tokenizer.json: what its post-processor adds to a text, and to two.

    The library itself runs it on pieces that stand for a text, so that every kind is read as it works.
    Raises ValueError if it cannot be read, or puts the second text first.
    """
    if post_processor is None:
        return BARE
    import tokenizers

    model = {"type": "WordLevel", "vocab": dict(zip("ab", _TEXTS, strict=True)), "unk_token": "a"}
    try:
        stand_in = tokenizers.Tokenizer.from_str(json.dumps({"model": model, "post_processor": post_processor}))
    except Exception as error:  # The library raises no other class.
        raise ValueError(f"its post_processor is of no kind that `tokenizers` knows: {error}") from None
    first, second = (stand_in.encode(name, add_special_tokens=False) for name in "ab")
    return Template(
        single=_layout(stand_in.post_process(first, None, True), 1),
        pair=_layout(stand_in.post_process(first, second, True), 2),
    )


def _layout(encoding: Any, segments: int) -> Layout:
    around: list[list[tuple[int, int]]] = [[] for _ in range(segments + 1)]
    types: list[int] = []
    for piece, kind in zip(encoding.ids, encoding.type_ids, strict=True):
        if piece not in _TEXTS:
            around[len(types)].append((piece, kind))
        elif len(types) < segments and piece == _TEXTS[len(types)]:
            types.append(kind)
        else:
            raise ValueError("its post_processor does not put each text once, in order")
    if len(types) != segments:
        raise ValueError("its post_processor leaves a text out")
    return Layout(tuple(map(tuple, around)), tuple(types))
