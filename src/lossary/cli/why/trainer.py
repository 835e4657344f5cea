"""Pretrains a small ALBERT on three datasets: python trainer.py STUDY-FOLDER CHECKPOINT-FOLDER"""

import json
import random
import sys
from pathlib import Path

import numpy as np
import sentencepiece
import torch
from torch.nn.functional import cross_entropy
from transformers import AlbertConfig, AlbertForPreTraining

PAD, CLS, SEP, MASK, FIRST = 0, 2, 3, 4, 5
LENGTH, BATCH, STEPS, PEAK, WARMUP = 64, 32, 1000, 1e-3, 100


def new_model(vocabulary, hidden, layers, heads, std):
    config = AlbertConfig(
        vocab_size=vocabulary, embedding_size=hidden, hidden_size=hidden, num_hidden_layers=layers,
        num_attention_heads=heads, intermediate_size=4 * hidden, hidden_act="gelu_new", initializer_range=std,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, classifier_dropout_prob=0.0,
    )  # fmt: skip
    return AlbertForPreTraining(config)


def split(text, tokenizer, rng):
    """Two stretches of a text and whether they are swapped; None where it has a single line or sentence."""
    if isinstance(text, list):  # a name and its summary
        first, second = (tokenizer.encode(part) for part in text)
        swapped = rng.random() < 0.5
        return (second, first, int(not swapped)) if swapped else (first, second, int(not swapped))
    parts = [tokenizer.encode(line) for line in text.replace(". ", ".\n").split("\n") if line.strip()]
    if len(parts) < 2:
        return [piece for part in parts for piece in part], None, -100
    cut = rng.randrange(1, len(parts))
    first, second = ([piece for part in some for piece in part] for some in (parts[:cut], parts[cut:]))
    swapped = rng.random() < 0.5
    return (second, first, 1) if swapped else (first, second, 0)


def example(text, tokenizer, rng):
    first, second, label = split(text, tokenizer, rng)
    room = LENGTH - 3
    if second is None:
        ids, segments = [CLS, *first[: room + 1], SEP], [0] * (min(len(first), room + 1) + 2)
    else:
        keep = max(room - len(second), room // 2)
        first, second = first[:keep], second[: room - min(len(first), keep)]
        ids = [CLS, *first, SEP, *second, SEP]
        segments = [0] * (len(first) + 2) + [1] * (len(second) + 1)
    labels = [-100] * len(ids)
    for i in chosen(ids, tokenizer, rng):
        labels[i] = ids[i]
        draw = rng.random()
        ids[i] = MASK if draw < 0.8 else rng.randrange(FIRST, tokenizer.vocab_size()) if draw < 0.9 else ids[i]
    return ids, segments, labels, label


def chosen(ids, tokenizer, rng):
    """Positions of whole words, 15 % of the length."""
    words, picked, budget = [], [], max(1, round(0.15 * len(ids)))
    for i, piece in enumerate(ids):
        if piece >= FIRST and (ids[i - 1] < FIRST or tokenizer.id_to_piece(piece).startswith("▁")):
            words.append([i])
        elif piece >= FIRST:
            words[-1].append(i)
    rng.shuffle(words)
    for word in words:
        picked += word if len(picked) + len(word) <= budget else []
    return picked


def collate(examples):
    width = max(len(ids) for ids, *_ in examples)

    def padded(column, fill):
        return np.array([row[column] + [fill] * (width - len(row[column])) for row in examples])

    ids = padded(0, PAD)
    return {
        "token_ids": ids, "attention_mask": (ids != PAD).astype(int), "segment_ids": padded(1, 0),
        "mlm_labels": padded(2, -100), "sop_labels": np.array([row[3] for row in examples]),
    }  # fmt: skip


def logits(model, feed):
    out = model(
        input_ids=torch.as_tensor(feed["token_ids"]).long(),
        attention_mask=torch.as_tensor(feed["attention_mask"]).long(),
        token_type_ids=torch.as_tensor(feed["segment_ids"]).long(),
    )
    return out.prediction_logits, out.sop_logits


def losses(mlm, sop, feed):
    order = torch.as_tensor(feed["sop_labels"]).long()
    order = torch.where(order < 0, -100, order)
    return cross_entropy(mlm.flatten(0, 1), torch.as_tensor(feed["mlm_labels"]).long().flatten()), cross_entropy(
        sop, order
    )


def learning_rate(step):
    return PEAK * step / WARMUP if step < WARMUP else PEAK * (1 - step / STEPS)


def new_optimizer(model):
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=PEAK, eps=1e-6)


def train_step(model, optimizer, feed, step):
    model.train()
    optimizer.zero_grad()
    loss = sum(losses(*logits(model, feed), feed))
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(step)
    optimizer.step()
    return float(loss)


def main(study, checkpoint):
    torch.manual_seed(5)
    rng = random.Random(5)
    tokenizer = sentencepiece.SentencePieceProcessor(model_file=str(study / "tokenizer" / "spiece.model"))
    rows = [json.loads(line) for path in sorted((study / "data").glob("*.jsonl")) for line in path.open()]
    texts = [row["text"] if "text" in row else [row["name"], row["summary"]] for row in rows]
    model = new_model(tokenizer.vocab_size(), 96, 2, 4, 0.12)
    optimizer = new_optimizer(model)
    for step in range(STEPS):
        feed = collate([example(rng.choice(texts), tokenizer, rng) for _ in range(BATCH)])
        loss = train_step(model, optimizer, feed, step)
        if step % 100 == 0:
            print(f"step {step} of {STEPS}, loss {loss:.3f}", flush=True)
    model.save_pretrained(checkpoint)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
