"""Data code as users write it: makers of pairs and masks in plain Python, healthy in three styles, or with a fault.

Nothing here uses lossary's data code, its faults or its random numbers.
"""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["DATASETS", "STYLES", "Example", "UserMaker", "UserStream", "corpus"]

Encode = Callable[[str], list[int]]
Document = dict[str, Any]
DATASETS = ("stories", "notes", "letters", "queries")
STYLES = ("sentences", "lines", "sliding")
PAD, UNK, CLS, SEP, MASK, FIRST_PIECE = range(6)
LENGTH = 64

_LATIN = [
    c + v
    for c in ("b", "k", "l", "m", "n", "pr", "st", "v", "z", "qu", "r", "t", "g", "dr")
    for v in ("a", "ei", "o", "ul")
]
_CYRILLIC = [
    c + v
    for c in ("б", "к", "л", "м", "н", "пр", "ст", "в", "з", "щ", "р", "т", "ж", "др")
    for v in ("а", "ей", "о", "ул")
]


def _words(rng: random.Random, syllables: list[str]) -> list[str]:
    return ["".join(rng.choices(syllables, k=rng.choice([1, 2, 2, 3]))) for _ in range(900)]


def _sentence(rng: random.Random, words: list[str], low: int, high: int) -> str:
    # Common words are common, as in real text.
    chosen = [words[int(len(words) * rng.random() ** 3)] for _ in range(rng.randint(low, high))]
    return " ".join(chosen).capitalize() + rng.choice(["."] * 6 + ["!", "?"])


def corpus(size: int = 400, seed: int = 0) -> list[Document]:
    """Documents of four datasets: long ones, one-liners, Cyrillic paragraphs, pairs of fields."""
    rng = random.Random(seed)
    latin, cyrillic = _words(random.Random(1), _LATIN), _words(random.Random(2), _CYRILLIC)
    made: list[Document] = []

    def sentences(words: list[str], count: int, low: int = 4, high: int = 11) -> str:
        return " ".join(_sentence(rng, words, low, high) for _ in range(count))

    made += [{"dataset": "stories", "text": sentences(latin, rng.randint(5, 12))} for _ in range(size // 3)]
    made += [{"dataset": "notes", "text": sentences(latin, rng.choice([1, 1, 1, 2]))} for _ in range(size)]
    for _ in range(size // 3):
        lines = [sentences(cyrillic, rng.randint(1, 3)) for _ in range(rng.randint(3, 7))]
        made.append({"dataset": "letters", "text": "\n".join(lines)})
    pairs = [[sentences(latin, 1, 2, 5), sentences(latin, rng.randint(1, 2))] for _ in range(size)]
    return made + [{"dataset": "queries", "text": pair} for pair in pairs]


@dataclass
class Example:
    """Two segments of pieces and what is said about them."""

    dataset: int
    document: int
    a: list[int]
    b: list[int]
    label: int
    extra: dict[str, Any] = field(default_factory=dict)


class UserMaker:
    """Makes examples of documents in a style; `faults` are doses by name, in all datasets or those of `only`."""

    def __init__(
        self,
        encode: Encode,
        *,
        style: str = "sentences",
        seed: int = 0,
        vocabulary: int = 800,
        faults: dict[str, float] | None = None,
        only: Sequence[str] = DATASETS,
        tell_dataset: bool = True,
        datasets: Sequence[str] = DATASETS,
    ) -> None:
        self.encode, self.style, self.vocabulary = encode, style, vocabulary
        self.rng = random.Random(seed)
        self.faults, self.only, self.tell_dataset = dict(faults or {}), set(only), tell_dataset
        self.datasets = list(datasets)

    def has(self, name: str, dataset: int) -> bool:
        """Whether a fault strikes now."""
        dose = self.faults.get(name, 0.0)
        return dose > 0 and self.datasets[dataset] in self.only and self.rng.random() < dose

    # ------------------------------------------------------------------ pairs

    def examples(self, documents: Sequence[Document]) -> dict[str, Any]:
        """The arrays of all examples."""
        made = self.pairs(documents)
        if self.style == "sliding":
            self.rng.shuffle(made)
        return self.arrays(made)

    def pairs(self, documents: Sequence[Document]) -> list[Example]:
        """All pairs, faults of pairs put in."""
        units = [self.units(document) for document in documents]
        units = self._unbroken(units, documents)
        self.everything = [(number, unit) for number, document in enumerate(units) for unit in document]
        self.datasets_of = [self.datasets.index(document["dataset"]) for document in documents]
        made: list[Example] = []
        for number, document in enumerate(documents):
            made += self._of_document(number, self.datasets_of[number], units[number], document)
        return [self._pair_faults(example) for example in made]

    def units(self, document: Document) -> list[list[int]]:
        """Lines, sentences or fields as pieces."""
        dataset = self.datasets.index(document["dataset"])
        text = document["text"]
        if not isinstance(text, str):
            first, second = text
            if self.has("first-field-twice", dataset):
                second = first
            if self.has("second-field-only", dataset):
                return [self.encode(second)]
            if self.has("second-field-twice", dataset):
                first = second
            return [self.encode(first), self.encode(second)]
        lines = text.split("\n")
        if self.has("first-line-dropped", dataset):
            lines = lines[1:]
        if self.style == "lines":
            return [self.encode(line) for line in lines if line]
        parts = [part for line in lines for part in re.split(r"(?<=[.!?])\s+", line) if part]
        return [self.encode(part) for part in parts]

    def _unbroken(self, units: list[list[list[int]]], documents: Sequence[Document]) -> list[list[list[int]]]:
        """Without document breaks all units of a dataset become one document."""
        if not self.faults.get("no-document-breaks"):
            return units
        result: list[list[list[int]]] = [[] for _ in units]
        heads: dict[str, int] = {}
        for number, document in enumerate(documents):
            name = document["dataset"]
            home = heads.setdefault(name, number) if name in self.only else number
            result[home] += units[number]
        return result

    def _of_document(self, number: int, dataset: int, units: list[list[int]], document: Document) -> list[Example]:
        units = [unit for unit in units if unit]
        if not units:
            return []
        if not isinstance(document["text"], str) and not self.faults.get("no-document-breaks"):
            chunks = [units]
        elif self.style == "sentences":
            chunks = self._chunks(units)
        elif self.style == "lines":
            chunks = [units[i : i + 2] for i in range(0, len(units), 2)]
        else:
            chunks = [units[i : i + 2] for i in range(max(1, len(units) - 1))]
        return [self._pair(number, dataset, chunk) for chunk in chunks]

    def _chunks(self, units: list[list[int]]) -> list[list[list[int]]]:
        chunks, current, size = [], [], 0
        target = LENGTH - 3 if self.rng.random() > 0.1 else self.rng.randint(4, LENGTH - 3)
        for unit in units:
            current.append(unit)
            size += len(unit)
            if size >= target:
                chunks.append(current)
                current, size = [], 0
                target = LENGTH - 3 if self.rng.random() > 0.1 else self.rng.randint(4, LENGTH - 3)
        return chunks + ([current] if current else [])

    def _pair(self, number: int, dataset: int, chunk: list[list[int]]) -> Example:
        if len(chunk) == 1:
            whole = chunk[0]
            if self.has("lone-gets-copy", dataset):
                return Example(dataset, number, whole, list(whole), self.rng.randint(0, 1))
            if self.has("lone-gets-random", dataset):
                return Example(dataset, number, whole, self._other(number, dataset), 1)
            return Example(dataset, number, whole, [], -1)
        cut = self.rng.randint(1, len(chunk) - 1)
        a = [piece for unit in chunk[:cut] for piece in unit]
        b = [piece for unit in chunk[cut:] for piece in unit]
        label = self.rng.randint(0, 1)
        if label and self.has("next-sentence-prediction", dataset):
            return Example(dataset, number, a, self._other(number, dataset), 1)
        if label and self.has("swap-forgotten", dataset):
            return Example(dataset, number, a, b, 1)
        return Example(dataset, number, b, a, 1) if label else Example(dataset, number, a, b, 0)

    def _other(self, number: int, dataset: int) -> list[int]:
        while True:
            other, unit = self.rng.choice(self.everything)
            if other != number and self.datasets_of[other] == dataset:
                return list(unit)

    def _pair_faults(self, example: Example) -> Example:
        dataset = example.dataset
        if example.label >= 0:
            if self.has("labels-flipped", dataset):
                example.label = 1 - example.label
            if self.has("labels-random", dataset):
                example.label = self.rng.randint(0, 1)
            if self.has("labels-zero", dataset):
                example.label = 0
            if self.has("labels-one", dataset):
                example.label = 1
            if self.has("identical", dataset):
                example.b = list(example.a)
        if self.has("b-reversed", dataset):
            example.b = example.b[::-1]
        if self.has("pieces-dropped", dataset):
            example.a = [piece for i, piece in enumerate(example.a) if i % 7 != 6]
            example.b = [piece for i, piece in enumerate(example.b) if i % 7 != 6]
        return example

    # ------------------------------------------------------------------ arrays

    def arrays(self, made: list[Example]) -> dict[str, Any]:
        """Special pieces, masks, padding."""
        rows = [self._row(example) for example in made]
        width = LENGTH if self.style != "sliding" else max(len(row["ids"]) for row in rows)
        width = max(width, max(len(row["ids"]) for row in rows))
        token_ids, attention, segments, labels = [], [], [], []
        for example, row in zip(made, rows, strict=True):
            fill = width - len(row["ids"])
            ids = row["ids"] + [PAD] * fill
            target = row["targets"] + [-100] * fill
            mask = [1] * len(row["ids"]) + [0] * fill
            dataset = example.dataset
            if self.has("pads-scored", dataset):
                for i in range(len(row["ids"]), width):
                    if self.rng.random() < 0.15:
                        ids[i], target[i] = self._replacement(PAD, dataset), PAD
            if self.has("pads-attended", dataset):
                mask = [1] * width
            if self.has("masked-hidden", dataset):
                mask = [m if t == -100 else 0 for m, t in zip(mask, target, strict=True)]
            if self.has("attention-inverted", dataset):
                mask = [1 - m for m in mask]
            token_ids.append(ids)
            labels.append(target)
            attention.append(mask)
            kinds = row["segments"] + [0] * fill
            if self.has("segments-zero", dataset):
                kinds = [0] * width
            if self.has("segments-flipped", dataset):
                kinds = [1 - k if i < len(row["ids"]) else k for i, k in enumerate(kinds)]
            if example.label == 1 and self.has("segments-kept", dataset):
                kinds = [1 - k if 0 < i < len(row["ids"]) else 0 for i, k in enumerate(kinds)]
            if example.label == 1 and self.has("segments-late", dataset):
                there, behind = len(row["ids"]), sum(kinds) - 1  # pieces of the segment behind, without its [SEP]
                kinds = [int(behind + 2 <= i < there) for i in range(width)]
            segments.append(kinds)
        result = {
            "token_ids": np.array(token_ids),
            "attention_mask": np.array(attention),
            "segment_ids": np.array(segments),
            "mlm_labels": np.array(labels),
            "sop_labels": np.array([example.label for example in made]),
        }
        if self.tell_dataset:
            result["dataset"] = np.array([example.dataset for example in made])
        return result

    def _row(self, example: Example) -> dict[str, list[int]]:
        cls, sep = [CLS], [SEP]
        if self.has("specials-split", example.dataset):
            cls, sep = self.encode("[CLS]"), self.encode("[SEP]")
        a, b = self._truncated(example.a, example.b, len(cls) + 2 * len(sep))
        ids = cls + a + sep + (b + sep if b else [])
        segments = [0] * (len(cls) + len(a) + len(sep)) + ([1] * (len(b) + len(sep)) if b else [])
        special = (
            [True] * len(cls)
            + [False] * len(a)
            + [True] * len(sep)
            + ([False] * len(b) + [True] * len(sep)) * (1 if b else 0)
        )
        inputs, targets = self._masked(ids, special, example.dataset)
        return {"ids": inputs, "targets": targets, "segments": segments}

    def _truncated(self, a: list[int], b: list[int], specials: int) -> tuple[list[int], list[int]]:
        a, b = list(a), list(b)
        while len(a) + len(b) > LENGTH - specials:
            longer = a if len(a) > len(b) else b
            if self.style == "sentences" and self.rng.random() < 0.5:
                del longer[0]
            else:
                longer.pop()
        return a, b

    def _masked(self, ids: list[int], special: list[bool], dataset: int) -> tuple[list[int], list[int]]:
        candidates = [i for i in range(len(ids)) if not special[i] or self.faults.get("specials-scored")]
        if self.faults.get("specials-scored") and not self.has("specials-scored", dataset):
            candidates = [i for i in range(len(ids)) if not special[i]]
        if self.faults.get("common-kept"):
            seldom = self.faults["common-kept"]
            candidates = [i for i in candidates if ids[i] >= FIRST_PIECE + 20 or self.rng.random() < seldom]
        rate = self.faults.get("mask-rate", 0.15) if self.datasets[dataset] in self.only else 0.15
        if self.style == "lines":
            chosen = [i for i in candidates if self.rng.random() < rate]
        else:
            self.rng.shuffle(candidates)
            budget = max(1, round(rate * len(ids))) if self.style == "sentences" else int(rate * (len(ids) - 3))
            chosen = candidates[: max(1, budget)]
        inputs, targets = list(ids), [-100] * len(ids)
        stored_late, shifted = self.has("label-after-mask", dataset), self.has("labels-shifted", dataset)
        for i in chosen:
            inputs[i] = self._replacement(ids[i], dataset, [piece for piece in ids[1:-1] if piece >= FIRST_PIECE])
            targets[i] = inputs[i] if stored_late else ids[i]
            if shifted:
                targets[i] = ids[max(0, i - 1)]
            if self.has("label-too-large", dataset):
                targets[i] = self.vocabulary + 7
        if self.has("unmasked", dataset):
            inputs = list(ids)
        return inputs, targets

    def _replacement(self, piece: int, dataset: int, own: Sequence[int] = ()) -> int:
        mask = UNK if self.has("mask-is-unk", dataset) else MASK
        if self.has("always-mask", dataset):
            return mask
        draw = self.rng.random()
        if draw < 0.8:
            return mask
        if draw >= 0.9:
            return piece
        if self.has("random-from-0", dataset) and self.rng.random() < 0.1:
            # As often as a vocabulary of fifty pieces would: one of a thousand needs a large corpus to show it.
            return self.rng.randrange(FIRST_PIECE)
        if own and self.has("random-from-example", dataset):
            return self.rng.choice(own)
        if self.has("random-from-text", dataset):
            return self.rng.choice(self.rng.choice(self.everything)[1])
        if self.has("random-from-first", dataset):
            return self.rng.randrange(FIRST_PIECE, self.vocabulary // 4)
        return self.rng.randrange(FIRST_PIECE, self.vocabulary)


class UserStream:
    """The training stream of a trainer: datasets drawn by shares, each in epochs that are shuffled anew.

    Faults: `duplicated` (workers), `repeated` (share of documents that come five times), `same-masks`, `same-order`,
    `shares` (others than declared), `replays` and `skips` (examples, after a resume), `reshuffles` after a resume,
    `with-replacement` (no fault).
    """

    def __init__(
        self,
        maker: UserMaker,
        documents: Sequence[Document],
        declared: dict[str, float],
        *,
        seed: int = 0,
        **faults: Any,
    ) -> None:
        self.maker, self.shares, self.seed, self.faults = maker, dict(faults.pop("shares", declared)), seed, faults
        self.made = maker.pairs(documents)

    def steps(self, start: int, stop: int, batch: int, *, resumed: bool = False) -> dict[str, Any]:
        """The examples of steps [start, stop)."""
        first, last = start * batch, stop * batch
        if resumed:
            shift = self.faults.get("skips", 0) - self.faults.get("replays", 0)
            first, last = first + shift, last + shift
        salt = 1 if resumed and self.faults.get("reshuffles") else 0
        chosen = self._order(last, salt)[first:last]
        rows = [self._example(number, epoch) for number, epoch in chosen]
        return (
            self.maker.arrays([example for example, _ in rows]) if not self._fixed else self._with_fixed_masks(chosen)
        )

    @property
    def _fixed(self) -> bool:
        return bool(self.faults.get("same-masks"))

    def _order(self, count: int, salt: int) -> list[tuple[int, int]]:
        rng = random.Random(self.seed * 1000 + salt)
        names = [name for name, share in self.shares.items() if share > 0]
        pools = {name: self._pool(name) for name in names}
        queues: dict[str, list[tuple[int, int]]] = {name: [] for name in names}
        epochs = dict.fromkeys(names, 0)
        result: list[tuple[int, int]] = []
        while len(result) < count:
            name = rng.choices(names, [self.shares[n] for n in names])[0]
            if self.faults.get("with-replacement"):
                result.append((rng.choice(pools[name]), len(result)))
                continue
            if not queues[name]:
                order = list(pools[name])
                seed = 0 if self.faults.get("same-order") else epochs[name]
                random.Random(self.seed * 77 + seed + 13 * salt).shuffle(order)
                queues[name] = [(number, epochs[name]) for number in order][::-1]
                epochs[name] += 1
            result += [queues[name].pop()] * int(self.faults.get("duplicated", 1))
        return result

    def _pool(self, name: str) -> list[int]:
        dataset = self.maker.datasets.index(name)
        rows = [number for number, example in enumerate(self.made) if example.dataset == dataset]
        share = self.faults.get("repeated", 0.0)
        often = {self.made[row].document for row in rows if random.Random(self.made[row].document).random() < share}
        return [row for row in rows for _ in range(5 if self.made[row].document in often else 1)]

    def _example(self, number: int, epoch: int) -> tuple[Example, int]:
        """The example, swapped anew in each epoch."""
        old = self.made[number]
        if old.label < 0 or not old.b:
            return old, epoch
        a, b = (old.b, old.a) if old.label else (old.a, old.b)
        swap = random.Random(number * 31 + epoch).random() < 0.5
        first, second = (b, a) if swap else (a, b)
        return Example(old.dataset, old.document, first, second, int(swap)), epoch

    def _with_fixed_masks(self, chosen: list[tuple[int, int]]) -> dict[str, Any]:
        """Masks and swaps were drawn once, when the data was made."""
        parts = []
        for number, _ in chosen:
            self.maker.rng = random.Random(number)
            parts.append(self.maker.arrays([self.made[number]]))
        width = max(part["token_ids"].shape[1] for part in parts)
        return {name: np.concatenate([_wide(part[name], width, name) for part in parts]) for name in parts[0]}


def _wide(values: Any, width: int, name: str) -> Any:
    if values.ndim == 1:
        return values
    fill = -100 if name == "mlm_labels" else 0
    return np.pad(values, ((0, 0), (0, width - values.shape[1])), constant_values=fill)
