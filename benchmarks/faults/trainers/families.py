"""Healthy Trainers of tiny random models, as somebody writes them who knows transformers and not lossary."""

import tempfile
from typing import Any

import numpy as np
import torch
import transformers as hf
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.utils.data import Dataset

__all__ = ["CAUSAL", "FAMILIES", "Rows", "collator", "make_model", "make_trainer", "rows", "tokenizer"]

_WORDS = 200
_SPECIAL = ["<pad>", "<unk>", "<cls>", "<sep>", "<mask>"]
_SMALL: dict[str, Any] = {
    "vocab_size": _WORDS + 5,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
FAMILIES: dict[str, tuple[type, type, dict[str, Any]]] = {
    "bert": (hf.BertConfig, hf.BertForMaskedLM, {}),
    "roberta": (hf.RobertaConfig, hf.RobertaForMaskedLM, {}),
    "modernbert": (
        hf.ModernBertConfig,
        hf.ModernBertForMaskedLM,
        {"cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3},
    ),
    "electra": (hf.ElectraConfig, hf.ElectraForMaskedLM, {"embedding_size": 16}),
    "esm": (
        hf.EsmConfig,
        hf.EsmForMaskedLM,
        {"mask_token_id": 4, "token_dropout": False, "position_embedding_type": "absolute"},
    ),
    "deberta": (hf.DebertaV2Config, hf.DebertaV2ForMaskedLM, {}),
    "gpt2": (hf.GPT2Config, hf.GPT2LMHeadModel, {"bos_token_id": 2, "eos_token_id": 3}),
    "llama": (hf.LlamaConfig, hf.LlamaForCausalLM, {"bos_token_id": 2, "eos_token_id": 3, "num_key_value_heads": 2}),
}
CAUSAL = ("gpt2", "llama")


def tokenizer() -> Any:
    """A fast tokenizer of 200 words."""
    names = [*_SPECIAL, *(f"w{n}" for n in range(_WORDS))]
    made = Tokenizer(models.WordLevel({name: at for at, name in enumerate(names)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="<pad>",
        unk_token="<unk>",
        cls_token="<cls>",
        sep_token="<sep>",
        mask_token="<mask>",
    )


class Rows(Dataset):  # type: ignore[type-arg]
    """Token ids of rows, as a tokenized dataset has them."""

    def __init__(self, found: list[list[int]]) -> None:
        self.found = found

    def __len__(self) -> int:
        return len(self.found)

    def __getitem__(self, at: int) -> dict[str, list[int]]:
        ids = self.found[at]
        return {
            "input_ids": ids,
            "attention_mask": [1] * len(ids),
            "special_tokens_mask": [int(i < len(_SPECIAL)) for i in ids],
        }


def rows(count: int, seed: int = 0, shortest: int = 6, longest: int = 40) -> Rows:
    """Rows of random words, of many lengths, each of its own."""
    random = np.random.default_rng(seed)
    sizes = random.integers(shortest, longest, count)
    return Rows([[2, *random.zipf(1.3, size).clip(1, _WORDS).__add__(4).tolist(), 3] for size in sizes])


def collator(family: str) -> Any:
    """transformers' own collator for the family."""
    return hf.DataCollatorForLanguageModeling(tokenizer(), mlm=family not in CAUSAL, mlm_probability=0.15)


def make_model(family: str, *, dropout: float = 0.0, seed: int = 1) -> Any:
    """A tiny model with random weights."""
    config, model, more = FAMILIES[family]
    settings = _SMALL | more
    if family == "gpt2":
        rates = {"resid_pdrop": dropout, "embd_pdrop": dropout, "attn_pdrop": dropout}
    elif family == "modernbert":
        rates = dict.fromkeys(("embedding_dropout", "mlp_dropout", "attention_dropout"), dropout)
    elif family == "llama":
        rates = {"attention_dropout": dropout}
    else:
        rates = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    torch.manual_seed(seed)
    return model(config(**settings, **rates))


def make_trainer(
    family: str,
    *,
    count: int = 150,
    k: int = 1,
    trainer: type = hf.Trainer,
    model: Any = None,
    data: Any = None,
    evaluated: int = 0,
    collate: Any = None,
    dropout: float = 0.0,
    more: dict[str, Any] | None = None,
    **arguments: Any,
) -> Any:
    """A Trainer as of transformers' examples; `arguments` are TrainingArguments, `more` those of the Trainer."""
    settings: dict[str, Any] = {
        "output_dir": tempfile.mkdtemp(prefix="user-output-"),
        "report_to": [],
        "use_cpu": True,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": k,
        "num_train_epochs": 3,
        "learning_rate": 1e-3,
        "logging_steps": 2,
        "weight_decay": 0.01,
        "disable_tqdm": True,
        "seed": 7,
    } | arguments
    return trainer(
        model=model or make_model(family, dropout=dropout),
        args=hf.TrainingArguments(**settings),
        train_dataset=rows(count) if data is None else data,
        eval_dataset=rows(evaluated, seed=99) if evaluated else None,
        data_collator=collate or collator(family),
        **(more or {}),
    )
