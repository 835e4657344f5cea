"""A small setup, documents of every kind, weights and feeds: what the self-check asks sides with, in one process.

probe = Probe.make(Path("folder"))
side = load(USER / "adapter_torch.py", probe.setup)
"""

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece

from lossary.data.builtin import builtin_rows
from lossary.diagnosis.adapter import Document, Feed, Setup, as_feed
from lossary.models.parameters import Parameters, initial_parameters
from lossary.models.shapes import AlbertShape
from lossary.study import Recipe

__all__ = ["DATASETS", "USER", "Probe", "load", "modules_of_users"]

USER = Path(__file__).parent / "user"
DATASETS = ("manual", "names", "fortunes", "pairs")
_SHAPE = AlbertShape(
    vocabulary_size=800,
    hidden_size=48,
    num_layers=2,
    num_heads=4,
    intermediate_size=192,
    embedding_size=48,
    initializer_range=0.15,
)
_MODULES = frozenset({"feed", "torch_trainer", "keras_trainer", "adapter_torch", "adapter_keras", "healthy"})
_CYRILLIC = str.maketrans("abcdefghijklmnoprstuvzy", "абцдефгхийклмнопрстувзы")


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Everything a side is asked with."""

    setup: Setup
    documents: list[Document]
    weights: Parameters

    @classmethod
    def make(cls, folder: Path, **recipe: Any) -> "Probe":
        """Trains a tokenizer into `folder` unless it is there; `recipe` overrides settings, `optimizer` among them."""
        documents = list(_documents())
        path = folder / "spiece.model"
        if not path.is_file():
            _train(path, documents)
        optimizer = {"name": "adamw", "learning_rate": 1e-3} | recipe.pop("optimizer", {})
        settings = {"sequence_length": 64, "batch_size": 16, "steps": 400, "max_ngram": 1, "optimizer": optimizer}
        setup = Setup(
            shape=_SHAPE,
            recipe=Recipe.model_validate(settings | recipe),
            tokenizer=path,
            datasets=DATASETS,
            shares=dict(zip(DATASETS, (0.4, 0.2, 0.3, 0.1), strict=True)),
            seed=5,
        )
        return cls(setup=setup, documents=documents, weights=_weights())

    def feed(self, side: Any, *, rows: int = 8) -> Feed:
        """Examples of a side's own, of all datasets, in normal form."""
        feed = as_feed(side.examples(self.documents, epoch=0), where="examples")
        return feed.take(np.random.default_rng(1).permutation(len(feed))[:rows])


def _documents() -> Iterator[Document]:
    for row in builtin_rows("reference")[:60]:
        yield {"dataset": "manual", "text": " ".join((row["text"] or "").split())[:3000]}
    rows = [row for row in builtin_rows("names") if len((row["summary"] or "").split()) > 3][:400]
    for row in rows[:200]:
        yield {"dataset": "names", "text": row["summary"]}
    bodies = [row["text"] or "" for row in builtin_rows("docstrings") if 2 <= (row["text"] or "").count("\n") <= 8]
    for text in bodies[:100]:
        yield {"dataset": "fortunes", "text": text.lower().translate(_CYRILLIC)}
    for row in rows[200:]:
        yield {"dataset": "pairs", "text": [row["name"], row["summary"]]}


def _train(path: Path, documents: list[Document]) -> None:
    lines = [
        line
        for document in documents
        for text in ([document["text"]] if isinstance(document["text"], str) else document["text"])
        for line in text.splitlines()
    ]
    with path.open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=file,
            vocab_size=_SHAPE.vocabulary_size,
            model_type="unigram",
            pad_id=0,
            unk_id=1,
            bos_id=-1,
            eos_id=-1,
            pad_piece="<pad>",
            unk_piece="<unk>",
            control_symbols=["[CLS]", "[SEP]", "[MASK]"],
            normalization_rule_name="nmt_nfkc",
            num_threads=2,
            minloglevel=2,
        )


def _weights() -> Parameters:
    """Initial weights with biases and normalisation moved off 0 and 1, so that each of them matters."""
    rng = np.random.default_rng(3)
    weights = initial_parameters(_SHAPE, 3)
    return {
        name: (w + rng.normal(0, 0.1, w.shape)).astype(np.float32) if w.ndim < 2 else w for name, w in weights.items()
    }


@contextmanager
def modules_of_users() -> Iterator[None]:
    """Forgets, at the end, what was imported from adapters' folders, so that another copy can be."""
    path = list(sys.path)
    try:
        yield
    finally:
        sys.path[:] = path
        for name in [name for name in sys.modules if name in _MODULES or name.startswith("case_")]:
            del sys.modules[name]


def load(path: Path, setup: Setup) -> Any:
    """The side of an adapter file, as the worker loads it."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent))
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module.side(setup)
