"""How fast documents are tokenised with a tokenizer.json: pieces, words, sentences and bytes against the bare library.

    python -m benchmarks.vocabularies --megabytes 4

The peer is `tokenizers.Tokenizer.encode` of the same lines by the same file, one thread as here, ids read and no more.
Both are timed in CPU time, in turn, so that a busy machine does both alike.
"""

import argparse
import random
import tempfile
import time
from pathlib import Path
from typing import Any

from lossary.data.json_tokenizer import JsonTokenizer

_SYLLABLES = ["ba", "ke", "lo", "mi", "nu", "pra", "sto", "vel", "zan", "qui", "rof", "tis", "é", "ö", "да", "мир"]
_ROUNDS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=float, default=2.0)
    size = parser.parse_args().megabytes * 1e6
    lines = _lines(int(size))
    total = sum(len(line.encode()) for line in lines)
    with tempfile.TemporaryDirectory() as folder:
        for name in ("WordPiece", "byte-level BPE"):
            library = trained(name, lines[:2000])
            library.save(f"{folder}/tokenizer.json")
            tokenizer = JsonTokenizer(Path(folder), name)
            peer, own = [], []
            for _ in range(_ROUNDS):
                peer.append(_cpu_s(lambda library=library: [library.encode(line).ids for line in lines]))
                own.append(_cpu_s(lambda tokenizer=tokenizer: tokenizer.cut(lines)))
            rates = [total / min(times) / 1e6 for times in (own, peer)]
            print(f"{name}: {rates[0]:.2f} MB/s, bare tokenizers {rates[1]:.2f} MB/s: {rates[0] / rates[1]:.0%}")


def _lines(size: int) -> list[str]:
    rng, lines = random.Random(0), []
    while size > 0:
        words = ("".join(rng.choices(_SYLLABLES, k=rng.randint(1, 4))) for _ in range(rng.randint(5, 80)))
        lines.append(" ".join(words) + ".")
        size -= len(lines[-1].encode())
    return lines


def trained(name: str, lines: list[str]) -> Any:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    special = ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]"]
    if name == "WordPiece":
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer()
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer: Any = trainers.WordPieceTrainer(vocab_size=4000, special_tokens=special, show_progress=False)
    else:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = trainers.BpeTrainer(vocab_size=4000, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(lines, trainer)
    return tokenizer


def _cpu_s(work: Any) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


if __name__ == "__main__":
    main()
