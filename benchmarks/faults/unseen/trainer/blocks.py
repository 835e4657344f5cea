"""From documents to training examples: sentences, blocks, pairs, masks, order of the training stream.

Plain Python and `random`; every draw has a generator of its own, seeded with words that say what it is for.
"""

import hashlib
import random

import numpy as np
import sentencepiece

PAD, UNK, CLS, SEP, MASK = 0, 1, 2, 3, 4
SPECIALS = 5
ENDS = ".!?…。！？"


def generator(*words):
    """A generator for one purpose; the same words give the same draws in every process."""
    return random.Random("/".join(map(str, words)))


class BlockMaker:
    """Documents → blocks (whole sentences of one document) → examples."""

    def __init__(self, tokenizer_path, recipe, datasets, shares, seed):
        self.pieces = sentencepiece.SentencePieceProcessor(model_file=str(tokenizer_path))
        self.size = self.pieces.get_piece_size()
        spelled = [self.pieces.id_to_piece(i) for i in range(self.size)]
        self.starts_word = [one.startswith("▁") for one in spelled]
        self.ends_sentence = [one[-1:] in ENDS for one in spelled]
        self.length, self.recipe = recipe.sequence_length, recipe
        self.datasets, self.shares, self.seed = list(datasets), shares, seed
        self.batch_size = recipe.batch_size

    # ---- text

    def encode(self, text):
        return self.pieces.encode(text)

    def sentences(self, text):
        found = []
        for line in text.splitlines():
            sentence = []
            for piece in self.encode(line):
                if sentence and self.starts_word[piece] and self.ends_sentence[sentence[-1]]:
                    found.append(sentence)
                    sentence = []
                sentence.append(piece)
            if sentence:
                found.append(sentence)
        return found

    def blocks(self, document, row):
        """Lists of sentences; each list becomes one example."""
        if isinstance(document["text"], list):
            return [[self.encode(field) for field in document["text"]]]
        rng = generator(self.seed, "blocks", document["dataset"], row)
        room = self.length - 3
        done, block, size = [], [], 0
        target = self.target(rng, room)
        for sentence in self.sentences(document["text"]):
            for start in range(0, len(sentence), room):
                part = sentence[start : start + room]
                block.append(part)
                size += len(part)
                if size >= target:
                    done.append(block)
                    block, size, target = [], 0, self.target(rng, room)
        if block:
            done.append(block)
        return done

    def target(self, rng, room):
        return rng.randint(2, room) if rng.random() < self.recipe.short_rate else room

    # ---- one example

    def example(self, block, dataset, rng):
        """Token ids without masks, segment ids, label."""
        room = self.length - 3
        block = [sentence for sentence in block if sentence]
        if len(block) < 2:
            tokens = self.shorten([list(block[0]) if block else [], []], room, rng)[0]
            return [CLS, *tokens, SEP], [0] * (len(tokens) + 2), -1
        cut = rng.randint(1, len(block) - 1)
        first, second = sum(block[:cut], []), sum(block[cut:], [])
        label = int(rng.random() < 0.5)
        if label == 1:
            first, second = second, first
        first, second = self.shorten([first, second], room, rng)
        tokens = [CLS, *first, SEP, *second, SEP]
        return tokens, [0] * (len(first) + 2) + [1] * (len(second) + 1), label

    @staticmethod
    def shorten(sides, room, rng):
        sides = [list(side) for side in sides]
        while sum(map(len, sides)) > room:
            longer = max(sides, key=len)
            del longer[0 if rng.random() < 0.5 else -1]
        return sides

    def words(self, tokens):
        """Positions of whole words, in order."""
        found = []
        for position, token in enumerate(tokens):
            if token in (CLS, SEP):
                continue
            inside = found and found[-1][-1] == position - 1 and not self.starts_word[token]
            if inside:
                found[-1].append(position)
            else:
                found.append([position])
        return found

    def budget(self, tokens):
        wanted = max(1, round(self.recipe.mask_rate * len(tokens)))
        most = self.recipe.max_predictions
        return min(wanted, most) if most else wanted

    def run_length(self, rng):
        """Words in a masked run: n ≤ max_ngram, in proportion to 1/n."""
        longest = self.recipe.max_ngram
        return rng.choices(range(1, longest + 1), [1 / n for n in range(1, longest + 1)])[0]

    def hide(self, tokens, rng):
        """Masked ids and labels, −100 where nothing is asked."""
        words, budget = self.words(tokens), self.budget(tokens)
        chosen = set()
        starts = list(range(len(words)))
        rng.shuffle(starts)
        for start in starts:
            if len(chosen) >= budget:
                break
            for n in range(self.run_length(rng), 0, -1):
                run = [p for word in words[start : start + n] for p in word]
                if start + n <= len(words) and not chosen & set(run) and len(chosen) + len(run) <= budget:
                    chosen |= set(run)
                    break
        shown, labels = list(tokens), [-100] * len(tokens)
        for position in sorted(chosen):
            labels[position] = tokens[position]
            dice = rng.random()
            if dice < 0.8:
                shown[position] = MASK
            elif dice < 0.9:
                shown[position] = rng.randrange(SPECIALS, self.size)
        return shown, labels

    def made(self, document, row, which, epoch, purpose="train"):
        """The example of block `which` of a document in an epoch."""
        rng = generator(self.seed, purpose, document["dataset"], row, which, epoch)
        block = self.blocks(document, row)[which]
        tokens, segments, label = self.example(block, document["dataset"], rng)
        shown, labels = self.hide(tokens, rng)
        return shown, labels, segments, label, self.datasets.index(document["dataset"])

    def collate(self, examples):
        longest = max(len(one[0]) for one in examples)
        full = lambda values, fill: [list(v) + [fill] * (longest - len(v)) for v in values]
        shown, labels, segments, sop, dataset = zip(*examples, strict=True)
        return {
            "token_ids": np.array(full(shown, PAD), np.int64),
            "attention_mask": np.array(full([[1] * len(one) for one in shown], 0), np.int64),
            "segment_ids": np.array(full(segments, 0), np.int64),
            "mlm_labels": np.array(full(labels, -100), np.int64),
            "sop_labels": np.array(sop, np.int64),
            "dataset": np.array(dataset, np.int64),
        }

    # ---- all documents

    def held_out(self, document):
        text = document["text"] if isinstance(document["text"], str) else "\n".join(document["text"])
        return hashlib.sha256(text.encode()).digest()[0] < 20

    def training(self, documents):
        return [(row, one) for row, one in enumerate(documents) if not self.held_out(one)]

    def every(self, documents, epoch):
        """Every training example once."""
        return self.collate(
            [
                self.made(document, row, which, epoch)
                for row, document in self.training(documents)
                for which in range(len(self.blocks(document, row)))
            ]
        )

    def evaluation(self, documents):
        return self.collate(
            [
                self.made(document, row, which, 0, "evaluation")
                for row, document in enumerate(documents)
                if self.held_out(document)
                for which in range(len(self.blocks(document, row)))
            ]
        )

    def index(self, documents):
        """dataset → [(row, block)] of its training examples."""
        found = {name: [] for name in self.datasets}
        for row, document in self.training(documents):
            found[document["dataset"]] += [(row, which) for which in range(len(self.blocks(document, row)))]
        return {name: items for name, items in found.items() if items}

    def order(self, name, items, epoch):
        items = list(items)
        generator(self.seed, "order", name, epoch).shuffle(items)
        return items

    def stream(self, documents, start, stop):
        """The examples of steps start … stop − 1, as training sees them."""
        index = self.index(documents)
        names = list(index)
        weights = [self.shares[name] for name in names]
        taken = dict.fromkeys(names, 0)
        orders, examples = {}, []
        for step in range(stop):
            rng = generator(self.seed, "mixture", step)
            for name in rng.choices(names, weights, k=self.batch_size):
                number = taken[name]
                taken[name] += 1
                if step < start:
                    continue
                epoch, place = divmod(number, len(index[name]))
                if (name, epoch) not in orders:
                    orders[name, epoch] = self.order(name, index[name], epoch)
                row, which = orders[name, epoch][place]
                examples.append(self.made(documents[row], row, which, epoch))
        return self.collate(examples)
