"""Tokenizers of the families that people train with: tiny ones, saved by transformers' own classes."""

import json
from pathlib import Path
from typing import Any

import sentencepiece

CORPUS = [
    "Hello world, this is a text about things (and others).",
    "Ein schöner Tag für naïve Leute in Malmö!",
    "Привет, мир. Как дела? Ёлка зелёная.",
    "你好世界 这是 文本。",
    "日本語のテキストがあります。",
    "مرحبا بالعالم",
    "1234 5.67 % of it, “quoted”: the end…",
    "def f(x):\n    return x",
] * 30
BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
FAMILIES = ("bert", "bert-cased", "electra", "roberta", "roberta-prefix", "modernbert", "deberta", "xlmr", "albert")
FAMILIES += ("esm", "gpt2", "llama", "llama-legacy")
AMINO_ACIDS = ["<cls>", "<pad>", "<eos>", "<unk>", *"LAGVSERTIDPKQNFYMHWCXBUZO.-", "<null_1>", "<mask>"]


def save_family(name: str, folder: Path) -> Path:
    """Writes the tokenizer of a family as transformers does, and returns its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    if name == "esm":
        (folder / "vocab.txt").write_text("\n".join(AMINO_ACIDS))
    _tokenizer(name, folder).save_pretrained(folder)
    return folder


def _tokenizer(name: str, folder: Path) -> Any:
    import transformers
    from tokenizers import normalizers

    if name in ("bert", "bert-cased", "electra"):
        lowercase = name != "bert-cased"
        vocab = word_piece(lowercase=lowercase)["model"]["vocab"]
        kind = transformers.ElectraTokenizer if name == "electra" else transformers.BertTokenizer
        return kind(vocab=vocab, do_lower_case=lowercase)
    if name in ("roberta", "roberta-prefix", "gpt2"):
        special = ["<|endoftext|>"] if name == "gpt2" else ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
        model = byte_level(special)["model"]
        kind = transformers.GPT2Tokenizer if name == "gpt2" else transformers.RobertaTokenizer
        merges = [tuple(pair) for pair in model["merges"]]
        return kind(vocab=model["vocab"], merges=merges, add_prefix_space=name == "roberta-prefix")
    if name == "modernbert":
        return _modernbert(transformers)
    if name in ("deberta", "xlmr", "albert"):
        special = {
            "deberta": ["[PAD]", "[CLS]", "[SEP]", "[UNK]"],
            "xlmr": ["<s>", "<pad>", "</s>", "<unk>"],
            "albert": ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"],
        }[name]
        vocab = [tuple(row) for row in unigram(special)["model"]["vocab"]]
        if name == "deberta":
            return transformers.DebertaV2Tokenizer(vocab=[*vocab, ("[MASK]", 0.0)], unk_id=3)
        if name == "xlmr":
            return transformers.XLMRobertaTokenizer(vocab=[*vocab, ("<mask>", 0.0)])
        return transformers.AlbertTokenizer(vocab=vocab)
    if name == "esm":
        return transformers.EsmTokenizer(vocab_file=str(folder / "vocab.txt"))
    value = byte_fallback()
    if name == "llama":
        merges = [tuple(pair) for pair in value["model"]["merges"]]
        return transformers.LlamaTokenizer(vocab=value["model"]["vocab"], merges=merges, add_bos_token=True)
    spaces = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    return _legacy_llama(transformers, value, normalizers.Sequence(spaces))


def _trained(
    model: Any, trainer: Any, *, normaliser: Any = None, splitter: Any = None, texts: list[str] = CORPUS
) -> dict[str, Any]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer(model)
    if normaliser is not None:
        tokenizer.normalizer = normaliser
    if splitter is not None:
        tokenizer.pre_tokenizer = splitter
    tokenizer.train_from_iterator(texts, trainer)
    return json.loads(tokenizer.to_str())


def word_piece(*, lowercase: bool = True, texts: list[str] = CORPUS) -> dict[str, Any]:
    """A tokenizer.json as BERT's, without a template."""
    from tokenizers import models, normalizers, pre_tokenizers, trainers

    return _trained(
        models.WordPiece(unk_token="[UNK]"),
        trainers.WordPieceTrainer(vocab_size=250, special_tokens=BERT, show_progress=False),
        normaliser=normalizers.BertNormalizer(lowercase=lowercase),
        splitter=pre_tokenizers.BertPreTokenizer(),
        texts=texts,
    )


def byte_level(special: list[str], *, texts: list[str] = CORPUS) -> dict[str, Any]:
    """A tokenizer.json as GPT-2's."""
    from tokenizers import models, pre_tokenizers, trainers

    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return _trained(
        models.BPE(),
        trainers.BpeTrainer(vocab_size=450, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
        splitter=pre_tokenizers.ByteLevel(add_prefix_space=False),
        texts=texts,
    )


def unigram(special: list[str]) -> dict[str, Any]:
    """A tokenizer.json with a unigram model."""
    from tokenizers import models, normalizers, pre_tokenizers, trainers

    unknown = next(name for name in special if "unk" in name.lower())
    return _trained(
        models.Unigram(),
        trainers.UnigramTrainer(vocab_size=300, special_tokens=special, unk_token=unknown, show_progress=False),
        normaliser=normalizers.NFKC(),
        splitter=pre_tokenizers.Metaspace(),
    )


def byte_fallback() -> dict[str, Any]:
    """A tokenizer.json as Llama's: ▁ for spaces, bytes for characters without a piece."""
    from tokenizers import models, pre_tokenizers, trainers

    special = ["<unk>", "<s>", "</s>", *(f"<0x{value:02X}>" for value in range(256))]
    value = _trained(
        models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True),
        trainers.BpeTrainer(vocab_size=450, special_tokens=special, limit_alphabet=60, show_progress=False),
        splitter=pre_tokenizers.Metaspace(),
    )
    return value | {"added_tokens": value["added_tokens"][:3]}


def _modernbert(transformers: Any) -> Any:
    from tokenizers import AddedToken, Tokenizer, normalizers, processors

    tokenizer = Tokenizer.from_str(json.dumps(byte_level([])))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.add_tokens([AddedToken("|||IP_ADDRESS|||", normalized=True), "    ", "   "])
    tokenizer.add_special_tokens([*BERT[:4], AddedToken("[MASK]", lstrip=True)])
    ends = [(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0", pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1", special_tokens=ends
    )
    roles = {f"{name[1:-1].lower()}_token": name for name in BERT}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **roles)


def _legacy_llama(transformers: Any, value: dict[str, Any], normaliser: Any) -> Any:
    from tokenizers import Tokenizer, processors

    tokenizer = Tokenizer.from_str(json.dumps(value | {"pre_tokenizer": None}))
    tokenizer.normalizer = normaliser
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)]
    )
    roles = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **roles)


def save_sentencepiece(path: Path, **settings: Any) -> Path:
    """A SentencePiece model with ALBERT's special pieces."""
    with path.open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(CORPUS),
            model_writer=file,
            minloglevel=2,
            **(
                {
                    "vocab_size": 105,
                    "model_type": "unigram",
                    "pad_id": 0,
                    "unk_id": 1,
                    "bos_id": -1,
                    "eos_id": -1,
                    "pad_piece": "<pad>",
                    "unk_piece": "<unk>",
                    "control_symbols": ["[CLS]", "[SEP]", "[MASK]"],
                    "normalization_rule_name": "nmt_nfkc_cf",
                }
                | settings
            ),
        )
    return path
