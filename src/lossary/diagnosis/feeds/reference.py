"""lossary's own examples of raw documents, made in memory by the code that makes those of a study.

    reference_examples(documents, setup, epoch=0, seed=17)           # a Feed: all training examples of an epoch
    reference_stream(documents, setup, start=0, stop=20)             # those of steps 0 to 19, in the mixture's order

A maker of pairs may differ and be right: `Style.LINES` pairs consecutive lines and masks single pieces. What holds for
both styles is an invariant; what differs is a choice.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lossary.data.assemble import Assembler, Settings
from lossary.data.mixture import MixtureOrder
from lossary.data.parsing import ParsedBlock
from lossary.data.philox import stream_key
from lossary.data.ragged import ranges
from lossary.data.segments import RaggedSpans
from lossary.data.shards import Shard
from lossary.data.spans import Spans, cut_spans, example_rows
from lossary.data.tokenise import tokenise_rows
from lossary.data.tokenizer import TokenizerModel
from lossary.diagnosis.adapter import Document, Feed, Setup
from lossary.diagnosis.feeds.corpus import Corpus
from lossary.diagnosis.feeds.made import Made, Maker, concatenated
from lossary.errors import DataError
from lossary.files import digest_file, digest_json

__all__ = [
    "Reading",
    "Reference",
    "Style",
    "reference_examples",
    "reference_stream",
    "reference_validation",
    "tokenizer_at",
]


class Style(Enum):
    """How documents are made into pairs."""

    SENTENCES = "runs of sentences, split at one of them"
    LINES = "pairs of consecutive lines"
    SENTENCE_PAIRS = "pairs of consecutive sentences"
    SENTENCES_UNBROKEN = "runs of sentences, whatever document they are of"
    LINES_UNBROKEN = "pairs of consecutive lines, whatever document they are of"
    SENTENCE_PAIRS_UNBROKEN = "pairs of consecutive sentences, whatever document they are of"

    @property
    def unbroken(self) -> bool:
        """Whether examples run from one document into the next."""
        return self in (Style.SENTENCES_UNBROKEN, Style.LINES_UNBROKEN, Style.SENTENCE_PAIRS_UNBROKEN)

    @property
    def of_lines(self) -> bool:
        """Whether lines are paired, no sentences."""
        return self in (Style.LINES, Style.LINES_UNBROKEN)

    @property
    def of_pairs(self) -> bool:
        """Whether two lines or sentences make an example."""
        return self not in (Style.SENTENCES, Style.SENTENCES_UNBROKEN)


class Reading(Enum):
    """What is read of documents."""

    TEXT = "their text"
    LATER_LINES = "their text without its first line"
    NAME = "the name of their dataset: the first field of a document in the place of its text"


@lru_cache(maxsize=4)
def tokenizer_at(path: Path) -> TokenizerModel:
    """The tokenizer of a SentencePiece model."""
    return TokenizerModel(path, digest_file(path))


def reference_examples(documents: Sequence[Document], setup: Setup, *, epoch: int, seed: int | None = None) -> Feed:
    """All training examples of documents in an epoch, in their order; the setup's seed if none is given."""
    return Reference(documents, setup, seed=seed).examples(epoch=epoch).feed()


def reference_validation(documents: Sequence[Document], setup: Setup) -> Feed:
    """The examples of documents to be scored: drawn once, the same in each call."""
    return Reference(documents, setup, purpose="validation").examples().feed()


def reference_stream(documents: Sequence[Document], setup: Setup, *, start: int, stop: int) -> Feed:
    """The training examples of steps [start, stop), by the declared shares."""
    return Reference.shared(documents, setup).stream(start=start, stop=stop).feed()


@dataclass(frozen=True, kw_only=True)
class _Part:
    """Documents of one dataset, tokenised; all are pairs, or none is."""

    dataset: int
    shard: Shard  # `row` is the position among all documents
    line_ends: NDArray[np.int64]  # (L,) into the shard's ids
    line_document: NDArray[np.int64]  # (L,) position in the shard


_MOST_SHARED = 2
_SHARED: dict[str, "Reference"] = {}


class Reference:
    """Documents, tokenised once, and the examples that are made of them; DataError if there is no text in them."""

    def __init__(
        self, documents: Sequence[Document], setup: Setup, *, seed: int | None = None, purpose: str = "train"
    ) -> None:
        self.documents = list(documents)
        if not any(any(document["text"]) for document in self.documents):
            raise DataError("there is no text in the documents: no example can be made of them")
        self.setup = setup
        self._purpose = purpose
        self.tokenizer = tokenizer_at(setup.tokenizer)
        self.seed = setup.seed if seed is None else seed
        self.maker = Maker(tokenizer=self.tokenizer, settings=Settings.of(setup.recipe), seed=self.seed)
        self._parts = self._tokenised(self.documents)
        self._examples: dict[tuple[int, Style, Reading], Made] = {}
        self._cuts: dict[tuple[Style, Reading, bool], list[tuple[_Part, tuple[Shard, Spans]]]] = {}
        self.corpus = Corpus.of(self.documents, setup.datasets, self._line_ids(), self.tokenizer)

    @classmethod
    def shared(cls, documents: Sequence[Document], setup: Setup) -> "Reference":
        """The same object for the same documents and setup: the checks of a diagnosis look at the same documents."""
        key = digest_json([list(documents), repr(setup), digest_file(setup.tokenizer)])
        if key not in _SHARED:
            while len(_SHARED) >= _MOST_SHARED:
                del _SHARED[next(iter(_SHARED))]
            _SHARED[key] = cls(documents, setup)
        return _SHARED[key]

    def has_pieces(self, ids: Sequence[Sequence[int]]) -> bool:
        """Whether the documents' texts have these pieces (one sequence a text) by the reference's tokenizer, too."""
        own = self._line_ids()
        return len(own) == len(ids) and all(map(np.array_equal, own, ids))

    def reseeded(self) -> "Reference":
        """The same documents with other random numbers."""
        return Reference(self.documents, self.setup, seed=self.seed + 1, purpose=self._purpose)

    def _tokenised(self, documents: Sequence[Document]) -> list[_Part]:
        parts = []
        for number, name in enumerate(self.setup.datasets):
            for pair in (False, True):
                rows = [
                    row
                    for row, document in enumerate(documents)
                    if document["dataset"] == name and isinstance(document["text"], str) != pair
                ]
                if rows:
                    parts.append(_part(number, rows, documents, self.tokenizer))
        return parts

    def _line_ids(self) -> list[NDArray[np.int32]]:
        """The pieces of `texts_of(documents)`, from what is tokenised already."""
        found: dict[int, list[NDArray[np.int32]]] = {}
        for part in self._parts:
            lines = np.split(part.shard.ids.astype(np.int32), part.line_ends[:-1])
            for line, document in zip(lines, part.line_document.tolist(), strict=True):
                found.setdefault(int(part.shard.row[document]), []).append(line)
        return [line for row in range(len(self.documents)) for line in found[row]]

    def examples(self, *, epoch: int = 0, style: Style = Style.SENTENCES, reading: Reading = Reading.TEXT) -> Made:
        """All examples of an epoch, of documents as they are read."""
        key = (epoch, style, reading)
        if key not in self._examples:
            # Pairs that run across documents start at every other line (sentence) in an epoch, at the rest in the next.
            shifted = style.unbroken and style.of_pairs and epoch % 2 == 1
            cuts = self._all_cut(style, reading, shifted)
            made = [self._made(part, cut, style, epoch) for part, cut in cuts]
            self._examples[key] = concatenated(made) if made else self.examples(epoch=epoch).take(np.zeros(0, np.int64))
        return self._examples[key]

    def _all_cut(
        self, style: Style, reading: Reading = Reading.TEXT, shifted: bool = False
    ) -> list[tuple[_Part, tuple[Shard, Spans]]]:
        """The parts that have spans; these are the same in each epoch."""
        key = (style, reading, shifted)
        if key not in self._cuts:
            parts = self._parts if reading is Reading.TEXT else self._tokenised(_read(self.documents, reading))
            cuts = [(part, self._cut(part, style, shifted)) for part in parts]
            self._cuts[key] = [(part, cut) for part, cut in cuts if len(cut[1])]
        return self._cuts[key]

    def stream(self, *, start: int, stop: int, shares: dict[str, float] | None = None) -> Made:
        """The examples of steps [start, stop), by declared or other shares."""
        shares = dict(self.setup.shares) if shares is None else shares
        names = [name for name in self.setup.datasets if shares.get(name, 0) > 0]
        cut: dict[str, list[tuple[_Part, Shard, Spans]]] = {name: [] for name in names}
        for part, (shard, spans) in self._all_cut(Style.SENTENCES):
            if (name := self.setup.datasets[part.dataset]) in cut:
                cut[name].append((part, shard, spans))
        names = [name for name in names if sum(len(spans) for _, _, spans in cut[name])]
        sizes = [sum(len(spans) for _, _, spans in cut[name]) for name in names]
        drawn = list(map(self.setup.draw_name, names))
        order = MixtureOrder(drawn, shares=[shares[name] for name in names], sizes=sizes, seed=self.seed)
        batch = self.setup.recipe.batch_size
        places = order.at(np.arange(start * batch, stop * batch))
        made, rows = [], []
        for number, name in enumerate(names):
            offset = 0
            for part, shard, spans in cut[name]:
                inside = (places.index >= offset) & (places.index < offset + len(spans))
                chosen = np.flatnonzero((places.dataset == number) & inside)
                index = places.index[chosen] - offset
                ragged = _ragged(shard, spans, index, part.dataset)
                examples = self._assembler(Style.SENTENCES).assemble(ragged, places.epoch[chosen])
                made.append(Made.of(examples, example_rows(examples.example).astype(np.int64)))
                rows.append(chosen)
                offset += len(spans)
        return concatenated(made).take(np.argsort(np.concatenate(rows), kind="stable"))

    def _cut(self, part: _Part, style: Style, shifted: bool) -> tuple[Shard, Spans]:
        """The shard with a style's units in the place of documents, and its spans."""
        shard = _restyled(part, style, shifted)
        recipe = self.setup.recipe
        name = self.setup.draw_name(self.setup.datasets[part.dataset])
        key = stream_key(self.seed, "spans", name, recipe.sequence_length)
        spans = cut_spans(shard, length=recipe.sequence_length, short_rate=recipe.short_rate, key=key)
        return shard, spans.take(spans.stop > spans.start)

    def _made(self, part: _Part, cut: tuple[Shard, Spans], style: Style, epoch: int) -> Made:
        shard, spans = cut
        examples = self._assembler(style).assemble(_ragged(shard, spans, np.arange(len(spans)), part.dataset), epoch)
        document = np.searchsorted(part.shard.id_offsets[1:], spans.start, side="right")
        return Made.of(examples, part.shard.row[document].astype(np.int64))

    def _assembler(self, style: Style) -> Assembler:
        settings = self.maker.settings
        if style.of_pairs:
            # Without n-grams: another choice that changes no invariant.
            settings = replace(settings, max_ngram=1)
        drawn = list(map(self.setup.draw_name, self.setup.datasets))
        return Assembler(self.tokenizer, drawn, settings, seed=self.seed, purpose=self._purpose)


def _part(number: int, rows: list[int], documents: Sequence[Document], tokenizer: TokenizerModel) -> _Part:
    texts = [documents[row]["text"] for row in rows]
    split = [(text,) if isinstance(text, str) else tuple(text) for text in texts]
    shard = tokenise_rows(ParsedBlock(rows=rows, texts=split), tokenizer)
    counts = [1 + text.count("\n") if isinstance(text, str) else len(text) for text in texts]
    if shard.pair:
        line_ends = shard.sentence_ends + np.repeat(shard.id_offsets[:-1], 2)
    else:
        lines = [line for text in texts for line in text.split("\n")]
        line_ends = np.cumsum([len(ids) for ids in tokenizer.encode(lines)], dtype=np.int64)
    return _Part(
        dataset=number,
        shard=shard,
        line_ends=line_ends.astype(np.int64),
        line_document=np.repeat(np.arange(len(rows)), counts),
    )


def _restyled(part: _Part, style: Style, shifted: bool) -> Shard:
    """The shard with a style's units in the place of documents."""
    shard = part.shard
    if style is Style.SENTENCES or (shard.pair and not style.unbroken):
        return shard
    base = np.repeat(shard.id_offsets[:-1], np.diff(shard.sentence_offsets))
    if style is Style.SENTENCES_UNBROKEN:
        ends = np.unique((shard.sentence_ends + base)[(shard.sentence_ends + base) > 0])
        return _with_units(shard, np.array([len(shard.ids)]), ends, pair=False)
    if style.of_lines:
        filled = np.diff(np.concatenate([[0], part.line_ends])) > 0
        ends, document = part.line_ends[filled], part.line_document[filled]
    else:
        ends = np.unique((shard.sentence_ends + base)[(shard.sentence_ends + base) > 0])
        document = np.searchsorted(shard.id_offsets[1:], ends, side="left")
    if style.unbroken:
        document = np.zeros_like(document)
    place = np.arange(len(ends)) - np.searchsorted(document, document, side="left") + shifted
    last = np.ones(len(ends), bool)
    last[:-1] = (place[:-1] % 2 == 1) | (document[1:] != document[:-1])
    return _with_units(shard, ends[last], ends, pair=True)


def _with_units(shard: Shard, unit_ends: NDArray[np.int64], ends: NDArray[np.int64], *, pair: bool) -> Shard:
    """The shard cut into units with sentences that end at `ends`, both into its ids."""
    offsets = np.concatenate([[0], unit_ends])
    unit = np.searchsorted(unit_ends, ends, side="left")
    return replace(
        shard,
        row=np.arange(len(unit_ends), dtype=np.uint64),
        id_offsets=offsets,
        sentence_ends=(ends - offsets[unit]).astype(np.int32),
        sentence_offsets=np.searchsorted(unit, np.arange(len(unit_ends) + 1)),
        bytes=np.zeros(len(unit_ends), np.uint32),
        text_hash=np.zeros(len(unit_ends), np.uint64),
        pair=pair,
    )


def _ragged(shard: Shard, spans: Spans, index: NDArray[np.int64], dataset: int) -> RaggedSpans:
    """The spans at `index` (B,), in this order."""
    tokens = spans.stop[index] - spans.start[index]
    first = spans.sentence_offsets[index]
    sentences = spans.sentence_offsets[index + 1] - first
    return RaggedSpans(
        dataset=np.full(len(index), dataset, np.int16),
        example=spans.example[index],
        ids=shard.ids[ranges(spans.start[index], tokens)].astype(np.int32),
        offsets=np.concatenate([[0], np.cumsum(tokens)]).astype(np.int64),
        sentence_ends=spans.sentence_ends[ranges(first, sentences)] - np.repeat(spans.start[index], sentences),
        sentence_offsets=np.concatenate([[0], np.cumsum(sentences)]).astype(np.int64),
    )


def _read(documents: Sequence[Document], reading: Reading) -> list[Document]:
    """Documents as a faulty reader gives them; pairs have fields, not lines."""
    if reading is Reading.NAME:
        return [document | {"text": document["dataset"]} for document in documents]
    return [
        document | {"text": document["text"].partition("\n")[2]} if isinstance(document["text"], str) else document
        for document in documents
    ]
