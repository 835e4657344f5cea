"""Faults of reading and of pairs: other documents, other segments, other special pieces.

    faulty = identical("pairs")(made, rows, scene)

Each returns examples in which the rows that are True are made anew.
"""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lossary.data.tokenizer import CLS, SEP
from lossary.diagnosis.calibration import MOST_CUT as _MOST_CUT
from lossary.diagnosis.feeds.corpus import KINDS, LONE, ONE_LINE, PAIR, Corpus
from lossary.diagnosis.feeds.layout import FIRST, PADDING, SECOND, SPECIAL, split_specials
from lossary.diagnosis.feeds.made import Made, Parts, concatenated, parts_of, relaid, remasked, shaped
from lossary.diagnosis.feeds.reference import Reading, Style
from lossary.diagnosis.feeds.scene import Put, Scene

__all__ = [
    "all_from_another",
    "by_reader",
    "identical",
    "lone_with_another",
    "negatives_from_another",
    "specials_split",
    "swapped_in_order",
    "wrong_field",
]

Rows = NDArray[np.bool_]
# Where a maker of pairs may do as it likes: in any pair; where it has no second segment; and in documents of one line.
Scope = Literal["pairs", "single", "one line"]
_DRAWS = 20  # until the other document is another one


def _in_scope(made: Made, scope: Scope, scene: Scene) -> NDArray[np.bool_]:
    single = made.sop < 0
    if scope == "one line":
        kind = scene.reference.corpus.kind[made.document]
        return single | (kind == LONE) | (kind == ONE_LINE)
    return single if scope == "single" else ~single


def _in_order(made: Made, parts: Parts) -> Parts:
    """The segments in the order of the document."""
    swapped = (made.sop == 1)[:, None]
    return Parts(
        first=np.where(swapped, parts.second, parts.first),
        first_size=np.where(swapped[:, 0], parts.second_size, parts.first_size),
        second=np.where(swapped, parts.first, parts.second),
        second_size=np.where(swapped[:, 0], parts.first_size, parts.second_size),
    )


def _joined(parts: Parts) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Both segments as one text (B, T) and its size."""
    width = parts.first.shape[1]
    place = np.arange(width)
    from_second = np.clip(place - parts.first_size[:, None], 0, width - 1)
    text = np.where(
        place < parts.first_size[:, None], parts.first, np.take_along_axis(parts.second, from_second, axis=1)
    )
    return text, np.minimum(parts.first_size + parts.second_size, width)


def _others(made: Made, rows: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.int64]:
    """For each row an example of another document of the same dataset, if there is one."""
    chosen = rows.copy()
    for dataset in np.unique(made.dataset[rows]):
        pool = np.flatnonzero(made.dataset == dataset)
        mine = np.flatnonzero(made.dataset[rows] == dataset)
        for _ in range(_DRAWS):
            same = mine[made.document[chosen[mine]] == made.document[rows[mine]]]
            chosen[same] = random.choice(pool, len(same))
    return chosen


def _drawn_labels(share: NDArray[np.float64], random: np.random.Generator) -> NDArray[np.int8]:
    return (random.random(len(share)) < share).astype(np.int8)


def identical(scope: Scope) -> Put:
    """Both segments hold the first one's text; outside of pairs, all the text of the example twice."""

    def apply(made: Made, rows: Rows, scene: Scene) -> Made:
        random = scene.maker.random("identical", scope)
        struck = np.flatnonzero(rows & _in_scope(made, scope, scene))
        parts = parts_of(made).take(struck)
        if scope == "pairs":
            text, size = parts.first, parts.first_size
        else:
            text, size = _joined(_in_order(made.take(struck), parts))
        twice = Parts(first=text, first_size=size, second=text, second_size=size)
        drawn = _drawn_labels(scene.read("identical-labelled-swapped", 0.5)[made.dataset[struck]], random)
        return relaid(made, scene.maker, struck, twice, drawn)

    return apply


def lone_with_another(scope: Literal["single", "one line"]) -> Put:
    """What cannot be split is followed by a text of another document."""

    def apply(made: Made, rows: Rows, scene: Scene) -> Made:
        lone = _in_scope(made, scope, scene)
        struck = np.flatnonzero(rows & (lone | _lone_elsewhere(made, lone, scene)))
        return _with_another(made, struck, scene, whole=True)

    return apply


def _lone_elsewhere(made: Made, lone: NDArray[np.bool_], scene: Scene) -> NDArray[np.bool_]:
    """Pairs that the side may have cut so that one sentence was left, as many as it has of two documents."""
    kind = scene.reference.corpus.kind[made.document]
    random = scene.maker.random("cut otherwise").random(len(made))
    more = np.zeros(len(made), bool)
    for number, name in enumerate(KINDS):
        for dataset, share in enumerate(scene.read(f"other-document:{name}", 0.0)):
            mine = (kind == number) & (made.dataset == dataset)
            own = lone[mine].mean() if mine.any() else 1.0
            if own < share:
                # Some turn out too short to tell; what is too many, the dose takes back.
                wanted = min(1.2 * share, _MOST_CUT * own)
                more |= mine & ~lone & (random < (wanted - own) / (1 - own))
    return more


def negatives_from_another(scope: Literal["single", "one line"] | None) -> Put:
    """Instead of a swap, the second segment is of another document; that of documents in `scope` always."""

    def apply(made: Made, rows: Rows, scene: Scene) -> Made:
        lone = np.zeros(len(made), bool) if scope is None else _in_scope(made, scope, scene)
        changed = _with_another(made, np.flatnonzero(rows & ~lone & (made.sop == 1)), scene, whole=False)
        return _with_another(changed, np.flatnonzero(rows & lone), scene, whole=True)

    return apply


def all_from_another(made: Made, rows: Rows, scene: Scene) -> Made:
    """Every second segment is of another document."""
    return _with_another(made, np.flatnonzero(rows & (made.sop >= 0)), scene, whole=False)


def _with_another(made: Made, struck: NDArray[np.int64], scene: Scene, *, whole: bool) -> Made:
    random = scene.maker.random("another", int(whole))
    parts = _in_order(made, parts_of(made))
    text, size = _joined(parts)
    mine = parts.take(struck)
    first, first_size = (text[struck], size[struck]) if whole else (mine.first, mine.first_size)
    other = _others(made, struck, random)
    has_second = (parts.second_size[other] > 0)[:, None]
    second = np.where(has_second, parts.second[other], text[other])
    second_size = np.where(has_second[:, 0], parts.second_size[other], size[other])
    drawn = _drawn_labels(scene.read("other-labelled-swapped", 1.0)[made.dataset[struck]], random)
    pair = Parts(first=first, first_size=first_size, second=second, second_size=second_size)
    return relaid(made, scene.maker, struck, pair, drawn)


def swapped_in_order(made: Made, rows: Rows, scene: Scene) -> Made:
    """Segments that are labelled swapped stand in the order of the document."""
    struck = np.flatnonzero(rows & (made.sop == 1))
    parts = _in_order(made.take(struck), parts_of(made).take(struck))
    return relaid(made, scene.maker, struck, parts, made.sop[struck])


_UNBROKEN = {
    "sentences": Style.SENTENCES_UNBROKEN,
    "sentence pairs": Style.SENTENCE_PAIRS_UNBROKEN,
    "lines": Style.LINES_UNBROKEN,
}


def by_reader(fault: Literal["sentences", "sentence pairs", "lines"] | Reading) -> Put:
    """Examples of documents as a faulty reader gives them, in the place of those that are struck."""

    def apply(made: Made, rows: Rows, scene: Scene) -> Made:
        reference = scene.reference
        if isinstance(fault, Reading):
            anew = reference.examples(epoch=scene.epoch, style=scene.style, reading=fault)
        else:
            anew = reference.examples(epoch=scene.epoch, style=_UNBROKEN[fault])
        struck = np.isin(anew.document, np.unique(made.document[rows]))
        return concatenated([made.take(np.flatnonzero(~rows)), anew.take(np.flatnonzero(struck))])

    return apply


def wrong_field(*fields: int) -> Put:
    """Pair documents are read with other fields: two for the segments, or one for a single segment."""

    def apply(made: Made, rows: Rows, scene: Scene) -> Made:
        corpus = scene.reference.corpus
        struck = np.flatnonzero(rows & (corpus.kind[made.document] == PAIR))
        width = max(made.tokens.shape[1], scene.maker.settings.length)
        texts = [_field(corpus, made.document[struck], field, width) for field in fields]
        first, first_size = texts[0]
        second, second_size = texts[-1] if len(texts) > 1 else (first, np.zeros_like(first_size))
        parts = Parts(first=first, first_size=first_size, second=second, second_size=second_size)
        sop = made.sop[struck] if len(texts) > 1 else np.full(len(struck), -1, np.int8)
        return relaid(made, scene.maker, struck, parts, sop)

    return apply


def _field(
    corpus: Corpus, document: NDArray[np.int64], field: int, width: int
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    line = corpus.line_offsets[document] + field
    return shaped(
        [corpus.ids[a:b] for a, b in zip(corpus.line_start[line], corpus.line_stop[line], strict=True)], width
    )


def specials_split(cls: bool, sep: bool, *, cut: bool) -> Put:
    """[CLS], [SEP] or both are the pieces that their names fall into; where the side scores them, so are these.

    Room is made by the end of the example, if `cut`, else by the longer segment.
    """

    def apply(made: Made, rows: Rows, scene: Scene) -> Made:
        sequences = split_specials(scene.reference.tokenizer)
        split = {CLS: sequences[0][0] if cls else (), SEP: sequences[1][0] if sep else ()}
        columns = {name: column.copy() for name, column in vars(made).items()}
        for row in np.flatnonzero(rows):
            _split_row(columns, int(row), split, cut)
        result = Made(**columns)
        scored = np.isin(made.dataset, np.flatnonzero(scene.read("special-scored-share", 0.0) > 0))
        return _masked_as_text(result, rows & scored, scene)

    return apply


def _masked_as_text(made: Made, rows: Rows, scene: Scene) -> Made:
    """Targets are drawn anew, from all pieces but whole special ones."""
    text = (made.part == SPECIAL) & (made.tokens != CLS) & (made.tokens != SEP)
    anew = remasked(made.but(part=np.where(text, FIRST, made.part)), scene.maker)
    struck = rows[:, None]
    return made.but(
        **{name: np.where(struck, getattr(anew, name), getattr(made, name)) for name in ("scored", "inputs", "labels")}
    )


def _split_row(columns: dict[str, NDArray[Any]], row: int, split: dict[int, tuple[int, ...]], cut: bool) -> None:
    tokens, part = columns["tokens"][row], columns["part"][row]
    places = np.flatnonzero(part != PADDING)
    special = part[places] == SPECIAL
    repeats = np.ones(len(places), np.int64)
    for piece, pieces in split.items():
        if pieces:
            repeats[special & (tokens[places] == piece)] = len(pieces)
    over = int(repeats.sum()) - len(tokens)
    if over > 0 and not cut:
        sizes = [int((part[places] == number).sum()) for number in (FIRST, SECOND)]
        longer = FIRST if sizes[0] >= sizes[1] else SECOND
        repeats[np.flatnonzero(part[places] == longer)[-over:]] = 0
    at = np.repeat(places, repeats)[: len(tokens)]
    shown = np.concatenate([split.get(int(tokens[p]), ()) or [tokens[p]] for p in places[special]])
    count = len(at)
    old = {name: columns[name][row].copy() for name in _BY_PLACE}
    for name, values in old.items():
        columns[name][row] = PADDING if name == "part" else 0
        columns[name][row, :count] = values[at]
    mine = np.flatnonzero(old["part"][at] == SPECIAL)
    columns["tokens"][row, mine] = columns["inputs"][row, mine] = shown[: len(mine)]


_BY_PLACE = ("tokens", "part", "scored", "inputs", "labels", "attention", "segment_ids")
