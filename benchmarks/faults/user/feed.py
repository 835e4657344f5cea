"""Input pipeline for ALBERT pretraining: documents in, padded NumPy batches out.

    pipeline = Pipeline(setup, name="run7")
    batch = pipeline.stream(documents, start=0, stop=10)

A document is {"dataset": name, "text": text} or, in a dataset of pairs, {"dataset": name, "text": [first, second]}.
A text is split into sentences at line ends and behind full stops. Sentences are packed into chunks that fill an
example; a chunk is cut in two at a sentence boundary, and the halves change places half of the time (label 1).
"""

import hashlib
import random
import re
from collections import Counter, defaultdict
from typing import NamedTuple

import numpy as np
import sentencepiece

PAD, UNK, CLS, SEP, MASK = range(5)
SPECIALS = 5
IGNORE = -100
UNLABELLED = -1
HELD_OUT = 10  # one document in so many is kept for validation
SENTENCE_END = re.compile(r"(?<=[.!?…])\s+|(?<=[.!?…][\"'”»)\]])\s+")


class Chunk(NamedTuple):
    dataset: str
    number: int
    sentences: list  # of token ids
    document: str  # digest of its text


def split_sentences(text):
    return [s for line in text.splitlines() for s in SENTENCE_END.split(line.strip()) if s]


def digest(fields):
    return hashlib.md5("\x1f".join(fields).encode()).hexdigest()


def is_held_out(document):
    return int(document[:8], 16) % HELD_OUT == 0


def truncate(first, second, room):
    """Shortens the longer one from its end until both fit."""
    while len(first) + len(second) > room:
        longer = first if len(first) > len(second) else second
        longer.pop()


class Pipeline:
    def __init__(self, setup, name):
        recipe = setup.recipe
        self.name = f"{name}/{setup.seed}"
        self.datasets = list(setup.datasets)
        self.shares = dict(setup.shares)
        self.length = recipe.sequence_length
        self.batch_size = recipe.batch_size
        self.short_rate = recipe.short_rate
        self.mask_rate = recipe.mask_rate
        self.most = recipe.max_predictions or recipe.sequence_length
        self.sp = sentencepiece.SentencePieceProcessor(model_file=str(setup.tokenizer))
        self.vocab = self.sp.vocab_size()
        self.word_start = [self.sp.id_to_piece(i).startswith("▁") for i in range(self.vocab)]
        self.corpus = []

    def random(self, *key):
        return random.Random("/".join([self.name, *map(str, key)]))

    # --- text -------------------------------------------------------------------------------------------------

    def encode(self, texts):
        return [self.sp.encode(text) for text in texts]

    def read(self, documents):
        for document in documents:
            dataset = document["dataset"]
            text = document["text"]
            fields = [text] if isinstance(text, str) else list(text)
            yield dataset, fields

    def load(self, documents):
        """Cuts documents into chunks, the same in every epoch."""
        self.corpus = []
        for dataset, fields in self.read(documents):
            texts = fields if len(fields) == 2 else split_sentences(fields[0])
            sentences = [ids for ids in self.encode(texts) if ids]
            rng = self.random("pack", dataset, len(self.corpus))
            chunks = [sentences] if len(fields) == 2 else self.pack(sentences, rng)
            for chunk in chunks:
                if chunk:
                    self.corpus.append(Chunk(dataset, len(self.corpus), chunk, digest(fields)))
        return self.corpus

    def pack(self, sentences, rng):
        room = self.length - 3
        parts = [s[at : at + room] for s in sentences for at in range(0, len(s), room)]
        target = self.target(room, rng)
        chunk, size = [], 0
        for part in parts:
            chunk.append(part)
            size += len(part)
            if size >= target:
                yield chunk
                target = self.target(room, rng)
                chunk, size = [], 0
        if chunk:
            yield chunk

    def target(self, room, rng):
        return rng.randint(2, room) if rng.random() < self.short_rate else room

    # --- examples ---------------------------------------------------------------------------------------------

    def pair(self, dataset, sentences, rng):
        """First and second segment, and whether they have changed places."""
        room = self.length - 3
        if len(sentences) < 2:
            return sentences[0][:room], [], UNLABELLED
        cut = rng.randint(1, len(sentences) - 1)
        first = [token for s in sentences[:cut] for token in s]
        second = [token for s in sentences[cut:] for token in s]
        truncate(first, second, room)
        swapped = rng.random() < 0.5
        if swapped:
            first, second = second, first
        return first, second, int(swapped)

    def words(self, ids):
        """Positions of the pieces of each word; special tokens belong to none."""
        words, inside = [], False
        for position, token in enumerate(ids):
            if token in (CLS, SEP):
                inside = False
            elif inside and not self.word_start[token]:
                words[-1].append(position)
            else:
                words.append([position])
                inside = True
        return words

    def mask(self, dataset, ids, rng):
        """Masked input and labels of one example."""
        inputs, labels = list(ids), [IGNORE] * len(ids)
        budget = min(self.most, max(1, round(self.mask_rate * len(ids))))
        words = self.words(ids)
        rng.shuffle(words)
        for word in words:
            if len(word) > budget:
                continue
            budget -= len(word)
            for position in word:
                draw = rng.random()
                if draw < 0.8:
                    inputs[position] = MASK
                elif draw < 0.9:
                    inputs[position] = rng.randrange(SPECIALS, self.vocab)
                labels[position] = ids[position]
        return inputs, labels

    def example(self, chunk, epoch, purpose="train"):
        dataset = chunk.dataset
        rng = self.random(purpose, dataset, chunk.number, epoch)
        first, second, order = self.pair(dataset, chunk.sentences, rng)
        ids = [CLS, *first, SEP]
        segments = [0] * len(ids)
        if second:
            ids += [*second, SEP]
            segments += [1] * (len(second) + 1)
        inputs, labels = self.mask(dataset, ids, rng)
        return {"dataset": dataset, "inputs": inputs, "labels": labels, "segments": segments, "order": order}

    def batch(self, examples):
        """Pads examples to one length."""
        rows, length = len(examples), self.length
        batch = {name: np.zeros((rows, length), np.int32) for name in ("token_ids", "attention_mask", "segment_ids")}
        batch["mlm_labels"] = np.full((rows, length), IGNORE, np.int32)
        batch["sop_labels"] = np.full(rows, UNLABELLED, np.int32)
        batch["dataset"] = np.array([self.datasets.index(e["dataset"]) for e in examples], np.int32)
        for row, e in enumerate(examples):
            dataset = e["dataset"]
            size = len(e["segments"])
            batch["attention_mask"][row, :size] = 1
            batch["segment_ids"][row, :size] = e["segments"]
            batch["token_ids"][row, : len(e["inputs"])] = e["inputs"]
            batch["mlm_labels"][row, : len(e["labels"])] = e["labels"]
            batch["sop_labels"][row] = e["order"]
        return batch

    # --- what is fed ------------------------------------------------------------------------------------------

    def training_chunks(self, documents):
        return [chunk for chunk in self.load(documents) if not is_held_out(chunk.document)]

    def examples(self, documents, epoch):
        """All training examples of an epoch, in the order of the documents."""
        return self.batch([self.example(chunk, epoch) for chunk in self.training_chunks(documents)])

    def order(self, dataset, epoch, size):
        order = list(range(size))
        self.random("order", dataset, epoch).shuffle(order)
        return order

    def stream(self, documents, start, stop):
        """The examples of steps [start, stop): datasets drawn by their shares, each in its own shuffled epochs."""
        chunks = defaultdict(list)
        for chunk in self.training_chunks(documents):
            chunks[chunk.dataset].append(chunk)
        names = [name for name in self.datasets if chunks[name]]
        shares = [self.shares[name] for name in names]
        drawn = self.random("mixture").choices(names, shares, k=stop * self.batch_size)
        first = start * self.batch_size
        seen = Counter(drawn[:first])
        orders, examples = {}, []
        for name in drawn[first:]:
            epoch, place = divmod(seen[name], len(chunks[name]))
            if (name, epoch) not in orders:
                orders[name, epoch] = self.order(name, epoch, len(chunks[name]))
            examples.append(self.example(chunks[name][orders[name, epoch][place]], epoch))
            seen[name] += 1
        return self.batch(examples)

    def validation(self, documents):
        """Frozen: the same examples with the same masks at every evaluation."""
        held_out = [chunk for chunk in self.load(documents) if is_held_out(chunk.document)]
        return self.batch([self.example(chunk, 0, purpose="validation") for chunk in held_out])


def gathered(batch):
    """The same batch with masked positions as (rows, slots): positions, labels, weights."""
    labels = batch["mlm_labels"]
    counts = (labels != IGNORE).sum(axis=1)
    slots = max(1, int(counts.max(initial=0)))
    result = {name: value for name, value in batch.items() if name != "mlm_labels"}
    result["positions"] = np.zeros((len(labels), slots), np.int32)
    result["labels"] = np.zeros((len(labels), slots), np.int32)
    result["weights"] = np.zeros((len(labels), slots), np.float32)
    for row in range(len(labels)):
        where = np.flatnonzero(labels[row] != IGNORE)
        result["positions"][row, : len(where)] = where
        result["labels"][row, : len(where)] = labels[row, where]
        result["weights"][row, : len(where)] = 1
    return result


def micro_batches(batch, parts):
    """Cuts a batch into nearly equal parts for gradient accumulation."""
    rows = len(batch["token_ids"])
    cuts = [rows * part // parts for part in range(parts + 1)]
    return [{k: v[a:b] for k, v in batch.items()} for a, b in zip(cuts[:-1], cuts[1:], strict=True) if b > a]
