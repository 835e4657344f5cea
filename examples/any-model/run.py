"""Five models with four vocabularies, trained here on one text and scored on one frozen set: BERT, RoBERTa, ModernBERT,
ALBERT and GPT-2.

    python examples/any-model/run.py OUT [--steps 300]

The text is that of this very Python (docstrings, comments, reference). Every model gets its own tokenizer, but ALBERT,
which takes the study's, and is trained by a loop of a few lines that knows nothing of lossary, but for asking
which documents are held out. Needs `lossary[torch]`; 20 minutes on two cores.
"""

import argparse
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers

import lossary
from lossary.data.builtin import builtin_rows

DATASETS = ("docstrings", "comments", "reference")
LENGTH, ROWS = 64, 32
SIZES = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 512}


def training_texts(study: lossary.OpenStudy) -> list[str]:
    """All documents of the text that the study does not hold out."""
    texts = [str(row["text"]) for name in DATASETS for row in builtin_rows(name)]
    return [text for text, held in zip(texts, study.holds_out(texts), strict=True) if not held]


def word_piece(texts: list[str]) -> Any:
    made = tokenizers.BertWordPieceTokenizer()
    made.train_from_iterator(texts, vocab_size=4000)
    return transformers.BertTokenizer(vocab=made.get_vocab())


def byte_pairs(texts: list[str], kind: str) -> Any:
    special = ["<|endoftext|>"] if kind == "GPT2Tokenizer" else ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    made = tokenizers.ByteLevelBPETokenizer()
    made.train_from_iterator(texts, vocab_size=4000, special_tokens=special)
    import json

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


def train(model: Any, tokenizer: Any, texts: list[str], steps: int) -> None:
    """A plain loop."""
    is_causal = tokenizer.mask_token is None
    collate = transformers.DataCollatorForLanguageModeling(tokenizer, mlm=not is_causal)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=steps, pct_start=0.1)
    draw = random.Random(1)
    model.train()
    for _ in range(steps):
        rows = tokenizer(draw.choices(texts, k=ROWS), truncation=True, max_length=LENGTH)
        batch = collate([{name: rows[name][i] for name in ("input_ids", "attention_mask")} for i in range(ROWS)])
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--examples", type=int, default=1500)
    options = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    torch.manual_seed(1)
    sources = {name: f"builtin:{name}" for name in DATASETS}
    study = lossary.new_study(options.out, sources, examples=options.examples, sequence_length=LENGTH)
    texts = training_texts(study)
    for name, model, tokenizer in models(study, texts):
        torch.manual_seed(1)
        train(model, tokenizer, texts, options.steps)
        lossary.evaluate(model, study, run=name, step=options.steps, tokenizer=tokenizer)
        print(f"{name}: {options.steps} steps, {len(tokenizer):,} pieces", flush=True)
    print(lossary.table(study))
    print(lossary.report(study).page)


if __name__ == "__main__":
    main()
