"""Frozen examples of documents in many scripts, with their texts, made without a study's folder."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import sentencepiece
from hypothesis import strategies as st

from lossary.data.assemble import Assembler, Settings
from lossary.data.batches import ragged
from lossary.data.cut_texts import TextCutter
from lossary.data.examples import Examples
from lossary.data.freeze import Cut
from lossary.data.frozen_texts import FrozenTexts
from lossary.data.parsing import ParsedBlock
from lossary.data.shards import Shard
from lossary.data.tokenise import tokenise_rows
from lossary.data.tokenizer import TokenizerModel
from lossary.files import digest_file
from lossary.study import Study
from lossary.study_file import parse_study

STUDY = """
name = "texts"
seed = {seed}
[datasets.d]
source = "d.txt"
[recipe]
sequence_length = {length}
short_rate = 0.3
mask_rate = 0.3
objective = {objective}
[runs.a]
backend = "torch"
size = "base"
"""
WORDS = [
    "house",
    "Straße",
    "NAÏVE",
    "cafe\u0301s",  # a combining mark
    "كتاب",
    "السَّلام",
    "漢字かな",
    "你好世界",
    "हिन्दी",
    "ไทย",
    "👩\u200d👩\u200d👧",
    "🇩🇪!",
    "x\u0301\u0323y",
    "\U00020000",  # beyond the basic plane, and in no vocabulary
    "１２３",
    "end.",
    "don't",
]
# One character of these is several pieces, or several words.
EXPANDING = ["½", "ﷺ", "ﬁsh", "㌀", "a\u00a8b", "…"]
SPACES = [" ", "  ", "\t", "\u00a0", "\u3000", " \u200b", "\r", "\n", "\r\n", "\n\n", ""]


def texts_of(words: Sequence[str]) -> st.SearchStrategy[str]:
    """Documents: words with anything between them that a file may have between words."""
    pieces = st.tuples(st.sampled_from(words), st.sampled_from(SPACES))
    return st.lists(pieces, min_size=1, max_size=40).map(lambda found: "".join(a + b for a, b in found))


def documents_of(words: Sequence[str]) -> st.SearchStrategy[list[tuple[str, ...]]]:
    one, pair = st.tuples(texts_of(words)), st.tuples(texts_of(words), texts_of(words))
    return st.lists(one, min_size=1, max_size=5) | st.lists(pair, min_size=1, max_size=5)


def frozen(study: Study, tokenizer: TokenizerModel, raw: list[tuple[str, ...]]) -> tuple[Examples, Shard]:
    """The examples of some documents, all of them, and the shard."""
    shard = tokenise_rows(ParsedBlock(rows=list(range(3, 3 + len(raw))), texts=raw), tokenizer)
    spans = Cut(study, "d", study.recipe.sequence_length).spans(shard)
    at = np.arange(len(spans))
    rows = spans.rows(at)
    assembler = Assembler(tokenizer, ["d"], Settings.of(study.recipe), seed=study.seed, purpose="validation")
    return assembler.assemble(ragged([(at, rows.of(shard.ids), rows)], np.zeros(len(at), np.int16)), 0), shard


def make(
    tokenizer: TokenizerModel, raw: list[tuple[str, ...]], length: int = 16, seed: int = 1, sop: bool = True
) -> tuple[Examples, FrozenTexts]:
    objective = '["mlm", "sop"]' if sop else '["mlm"]'
    study = parse_study(STUDY.format(length=length, seed=seed, objective=objective))
    examples, shard = frozen(study, tokenizer, raw)
    return examples, TextCutter(study, "d", tokenizer).texts(examples, shard, raw)


def train_tokenizer(path: Path, rule: str) -> TokenizerModel:
    """A small vocabulary with a rule of normalisation; `bytes` spells unknown characters in bytes."""
    known = [*WORDS[:9], "1", "2", "3", ".", "!", "'", "fish", "a", "b"]
    bytewise = rule == "bytes"
    with path.open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter([" ".join(known[i % 9 :] + known) for i in range(50)]),
            model_writer=file,
            vocab_size=360 if bytewise else 100,
            hard_vocab_limit=False,
            model_type="unigram",
            pad_id=0,
            unk_id=1,
            bos_id=-1,
            eos_id=-1,
            pad_piece="<pad>",
            control_symbols=["[CLS]", "[SEP]", "[MASK]"],
            normalization_rule_name="nmt_nfkc" if bytewise else rule,
            byte_fallback=bytewise,
            num_threads=1,
            minloglevel=2,
        )
    return TokenizerModel(path, digest_file(path))
