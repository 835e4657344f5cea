"""Five models with four vocabularies, trained here on one text and scored on one frozen set: BERT, RoBERTa, ModernBERT,
ALBERT and GPT-2.

    python examples/any-model/run.py OUT [--steps 300]

The text is the builtin mixture, which every Python carries. Every model gets its own tokenizer, but ALBERT, which takes
the study's, and is trained by a loop of a few lines that knows nothing of lossary, but for asking which documents are
held out. What is trained stays in OUT/models, so that it can be stopped and begun again. Needs `lossary[torch,report]`,
and ten minutes of one core. What it prints and means: docs/any-model.md.
"""

import argparse
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers

import lossary
from lossary.data.builtin import builtin_rows

DATASETS: dict[str, Any] = {
    "names": {"source": "builtin:names", "text": ["name", "summary"], "join": ": "},
    "docstrings": "builtin:docstrings",
    "comments": "builtin:comments",
    "reference": "builtin:reference",
}
LENGTH, ROWS, PIECES = 64, 32, 4000
SIZES = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 512}


def training_texts(study: lossary.OpenStudy) -> dict[str, list[str]]:
    """The documents of each dataset that the study does not hold out."""
    found = {}
    for name in DATASETS:
        rows = builtin_rows(name)
        texts = [f"{row['name']}: {row['summary']}" if name == "names" else str(row["text"]) for row in rows]
        found[name] = [text for text, held in zip(texts, study.holds_out(texts), strict=True) if not held]
    return found


def word_piece(texts: list[str]) -> Any:
    made = tokenizers.BertWordPieceTokenizer()
    made.train_from_iterator(texts, vocab_size=PIECES, show_progress=False)
    return transformers.BertTokenizer(vocab=made.get_vocab())


def byte_pairs(texts: list[str], kind: str) -> Any:
    special = ["<|endoftext|>"] if kind == "GPT2Tokenizer" else ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    made = tokenizers.ByteLevelBPETokenizer()
    made.train_from_iterator(texts, vocab_size=PIECES, special_tokens=special, show_progress=False)
    model = json.loads(made.to_str())["model"]
    merges = [tuple(pair) if isinstance(pair, list) else tuple(pair.split(" ")) for pair in model["merges"]]
    return getattr(transformers, kind)(vocab=model["vocab"], merges=merges)


def models(study: lossary.OpenStudy, texts: list[str]) -> Iterator[tuple[str, Any, Any]]:
    """A name, a new model and its tokenizer, one after another."""
    bert, roberta, gpt = word_piece(texts), byte_pairs(texts, "RobertaTokenizer"), byte_pairs(texts, "GPT2Tokenizer")
    piece = transformers.AlbertTokenizer.from_pretrained(str(study.folder.tokenizer / "spiece.model"))
    yield "bert", transformers.BertForMaskedLM(transformers.BertConfig(vocab_size=len(bert), **SIZES)), bert
    config = transformers.RobertaConfig(vocab_size=len(roberta), max_position_embeddings=LENGTH * 2 + 2, **SIZES)
    yield "roberta", transformers.RobertaForMaskedLM(config), roberta
    config = transformers.ModernBertConfig(vocab_size=len(bert), pad_token_id=bert.pad_token_id, **SIZES)
    yield "modernbert", transformers.ModernBertForMaskedLM(config), bert
    config = transformers.AlbertConfig(vocab_size=len(piece), embedding_size=64, **SIZES)
    yield "albert", transformers.AlbertForMaskedLM(config), piece
    config = transformers.GPT2Config(vocab_size=len(gpt), n_embd=128, n_layer=2, n_head=2, n_positions=LENGTH * 2)
    gpt.pad_token = gpt.eos_token
    yield "gpt2", transformers.GPT2LMHeadModel(config), gpt


def windows(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    """Documents cut to pieces of at most LENGTH tokens, special ones included."""
    cut = tokenizer(texts, truncation=True, max_length=LENGTH, return_overflowing_tokens=True)
    return [ids for ids in cut["input_ids"] if len(ids) > 4]


def train(model: Any, tokenizer: Any, texts: dict[str, list[str]], steps: int) -> None:
    """A plain loop: as many windows of each dataset, AdamW, one cycle of the learning rate."""
    is_causal = tokenizer.mask_token is None
    collate = transformers.DataCollatorForLanguageModeling(tokenizer, mlm=not is_causal)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps, pct_start=0.1)
    cut = [windows(tokenizer, found) for found in texts.values()]
    draw = random.Random(1)
    model.train()
    for _ in range(steps):
        rows = [draw.choice(cut[number % len(cut)]) for number in range(ROWS)]
        batch = collate([{"input_ids": ids, "attention_mask": [1] * len(ids)} for ids in rows])
        model(**batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--examples", type=int, default=2000)
    options = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(1)
    study = lossary.new_study(options.out, DATASETS, examples=options.examples, sequence_length=LENGTH)
    texts = training_texts(study)
    for name, model, tokenizer in models(study, [text for found in texts.values() for text in found]):
        folder = options.out / "models" / name
        if not folder.exists():
            began = time.process_time()
            torch.manual_seed(1)
            train(model, tokenizer, texts, options.steps)
            tokenizer.save_pretrained(folder)
            model.save_pretrained(folder)
            print(f"{name}: {len(tokenizer):,} pieces, {time.process_time() - began:.0f} s of CPU", flush=True)
        lossary.evaluate(folder, study, run=name, step=options.steps)
    table = lossary.table(study, base="bert")
    print(table.text(metrics=["mlm_bits_per_byte", "clm_bits_per_byte"]))
    for name in ("albert", "modernbert", "roberta"):
        delta = table.delta(name, None, "mlm_bits_per_byte")
        print(f"{name} - bert: {delta.value:+.3f} bits a byte, 95 % {delta.low:+.3f} to {delta.high:+.3f}, paired")
    print(lossary.report(study, base="bert").page)


if __name__ == "__main__":
    main()
