"""Tiny random models of real classes of transformers, examples for them, and their scores by a loop of one's own.

torch is imported when a model is made.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lossary.data.examples import Examples

__all__ = ["CAUSAL", "FAMILIES", "VOCABULARY_SIZE", "ByHand", "make_examples", "make_model", "score_by_hand"]

VOCABULARY_SIZE, PAD, MASK = 120, 1, 4
_LENGTHS = {"max_position_embeddings": 64}
_BERT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    **_LENGTHS,
}
_LLAMA = {**_BERT, "num_key_value_heads": 2}

# By title: the class, and its config's settings beyond the size of the vocabulary and the special ids.
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "BERT": ("BertForMaskedLM", _BERT),
    "BERT, untied": ("BertForMaskedLM", _BERT | {"tie_word_embeddings": False}),
    "BERT with NSP": ("BertForPreTraining", _BERT),
    "RoBERTa": ("RobertaForMaskedLM", _BERT | {"type_vocab_size": 1}),
    "XLM-R": ("XLMRobertaForMaskedLM", _BERT | {"type_vocab_size": 1}),
    "ModernBERT": ("ModernBertForMaskedLM", _BERT | {"local_attention": 8, "num_hidden_layers": 4}),
    "ModernBERT, sparse": (
        "ModernBertForMaskedLM",
        _BERT | {"local_attention": 8, "num_hidden_layers": 4, "sparse_prediction": True},
    ),
    "DeBERTa-v2": (
        "DebertaV2ForMaskedLM",
        _BERT | {"relative_attention": True, "position_buckets": 8, "pos_att_type": ["p2c", "c2p"]},
    ),
    "DeBERTa-v2, new head": ("DebertaV2ForMaskedLM", _BERT | {"relative_attention": True, "legacy": False}),
    "ELECTRA": ("ElectraForMaskedLM", _BERT | {"embedding_size": 16}),
    "ESM": ("EsmForMaskedLM", _BERT | {"position_embedding_type": "rotary", "token_dropout": True}),
    "ESM, absolute": ("EsmForMaskedLM", _BERT | {"position_embedding_type": "absolute", "token_dropout": True}),
    "DistilBERT": (
        "DistilBertForMaskedLM",
        {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48, **_LENGTHS},
    ),
    "MPNet": ("MPNetForMaskedLM", _BERT),
    "ALBERT": ("AlbertForMaskedLM", _BERT | {"embedding_size": 16}),
    "ALBERT with SOP": ("AlbertForPreTraining", _BERT | {"embedding_size": 16}),
    "GPT-2": ("GPT2LMHeadModel", {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}),
    "GPT-2, untied": (
        "GPT2LMHeadModel",
        {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "tie_word_embeddings": False},
    ),
    "Llama": ("LlamaForCausalLM", _LLAMA),
    "GPT-NeoX": ("GPTNeoXForCausalLM", _BERT),
    "OPT": (
        "OPTForCausalLM",
        {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 48, "word_embed_proj_dim": 32}
        | _LENGTHS,
    ),
    "Gemma 2": ("Gemma2ForCausalLM", _LLAMA | {"head_dim": 8, "sliding_window": 8}),
}
CAUSAL = {"GPT-2", "GPT-2, untied", "Llama", "GPT-NeoX", "OPT", "Gemma 2"}


def make_model(family: str, *, seed: int = 0, spread: bool = True, **settings: Any) -> Any:
    """A model whose weights, if they are `spread`, are so far apart that its answers depend on all that it is given."""
    import torch
    import transformers

    name, own = FAMILIES[family]
    kind = getattr(transformers, name)
    config = kind.config_class(
        vocab_size=VOCABULARY_SIZE,
        pad_token_id=PAD,
        bos_token_id=2,
        eos_token_id=3,
        **({"mask_token_id": MASK} if name.startswith("Esm") else {}),
        **({"cls_token_id": 2, "sep_token_id": 3} if name.startswith("Modern") else {}),
        **own,
        **settings,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = kind(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.15 * spread * torch.randn_like(parameter))
    return model.eval()


def make_examples(family: str, *, count: int = 23, longest: int = 60, seed: int = 0) -> Examples:
    """Pairs of many lengths, with and without targets: hidden pieces, or the next tokens of a causal family."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(5, longest + 1, count).astype(np.int32)
    lengths[0] = longest
    used = np.arange(longest) < lengths[:, None]
    ids = np.where(used, rng.integers(5, VOCABULARY_SIZE, used.shape), 0).astype(np.int32)
    if family in CAUSAL:
        counts, positions = lengths - 1, np.broadcast_to(np.arange(longest - 1), (count, longest - 1))
        labels = ids[:, 1:]
    else:
        # The last one has no target.
        counts = np.maximum(1, lengths // 6)
        counts[-1] = 0
        positions, labels = _hidden(ids, lengths, counts, rng)
    slots = np.arange(positions.shape[1]) < counts[:, None]
    return Examples(
        dataset=np.zeros(count, np.int16),
        example=np.arange(count, dtype=np.uint64),
        token_ids=ids,
        segment_ids=(used & (np.arange(longest) >= lengths[:, None] // 2)).astype(np.int32),
        lengths=lengths,
        positions=np.where(slots, positions, 0).astype(np.int32),
        labels=np.where(slots, labels, 0).astype(np.int32),
        masked=counts.astype(np.int32),
        sop_labels=rng.integers(-1, 2, count).astype(np.int8),
        bytes=lengths * 3,
    )


def _hidden(ids: Any, lengths: Any, counts: Any, rng: np.random.Generator) -> tuple[Any, Any]:
    """Hides pieces in place; positions and what stood there, (B, P)."""
    width = int(counts.max())
    positions, labels = np.zeros((len(ids), width), np.int32), np.zeros((len(ids), width), np.int32)
    for row, (length, hidden) in enumerate(zip(lengths, counts, strict=True)):
        chosen = np.sort(rng.permutation(length)[:hidden])
        positions[row, :hidden], labels[row, :hidden] = chosen, ids[row, chosen]
        ids[row, chosen] = MASK
    return positions, labels


class ByHand(NamedTuple):
    """By example: nats of its targets, how many are predicted right, nats of its order (0 where it has none)."""

    nats: NDArray[np.float64]
    correct: NDArray[np.int64]
    order_nats: NDArray[np.float64]


def score_by_hand(model: Any, examples: Examples, *, double: bool, types: bool = True) -> ByHand:
    """One example at a time and without padding, as a reader of transformers' documentation would write it.

    All is computed in one precision; only sums over an example are always in double. `types`: whether token types are
    given where the model tells them apart.
    """
    import torch

    dtype, rows = next(model.parameters()).dtype, []
    model = model.to(torch.float64 if double else torch.float32)
    takes_types = types and getattr(model.config, "type_vocab_size", 0) > 1
    for row in range(len(examples)):
        length, targets = int(examples.lengths[row]), int(examples.masked[row])
        ids = torch.tensor(examples.token_ids[row : row + 1, :length]).long()
        segments = {"token_type_ids": torch.tensor(examples.segment_ids[row : row + 1, :length]).long()}
        with torch.no_grad():
            out = model(input_ids=ids, attention_mask=torch.ones_like(ids), **(segments if takes_types else {}))
        logits = (out["prediction_logits"] if "prediction_logits" in out else out["logits"])[0]
        positions = torch.tensor(examples.positions[row, :targets]).long()
        labels = torch.tensor(examples.labels[row, :targets]).long()
        nats = -torch.log_softmax(logits, dim=-1)[positions, labels]
        correct = (logits[positions].argmax(dim=-1) == labels).sum()
        order, label = 0.0, int(examples.sop_labels[row])
        if "sop_logits" in out and label >= 0:
            order = float(-torch.log_softmax(out["sop_logits"][0].double(), dim=-1)[label])
        rows.append((float(nats.double().sum()), int(correct), order))
    model.to(dtype)
    nats_sums, counts, orders = zip(*rows, strict=True)
    return ByHand(np.array(nats_sums), np.array(counts), np.array(orders))
