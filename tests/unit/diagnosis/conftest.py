"""What tests of diagnoses share: a small tokenizer for two scripts, a setup, documents."""

from pathlib import Path

import pytest
from tests.unit.diagnosis.makers import DATASETS, corpus

from lossary.data.tokenizer import TokenizerModel, train_model
from lossary.diagnosis.adapter import Setup
from lossary.diagnosis.feeds.reference import tokenizer_at
from lossary.folder import StudyFolder
from lossary.models.shapes import AlbertShape
from lossary.study import Recipe

VOCABULARY = 800


def trained(root: Path, *, lowercase: bool) -> Path:
    """A tokenizer of the makers' texts."""
    folder = StudyFolder(root)
    texts = [
        text
        for document in corpus(900, seed=99)
        for text in (document["text"].split("\n") if isinstance(document["text"], str) else document["text"])
    ]
    train_model(folder, iter(texts), vocabulary_size=VOCABULARY, lowercase=lowercase, record={"request": "test"})
    return folder.tokenizer / "spiece.model"


@pytest.fixture(scope="session")
def feed_setup(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    """A setup with a tokenizer that keeps case."""
    return setup_with(trained(tmp_path_factory.mktemp("cased"), lowercase=False))


@pytest.fixture(scope="session")
def folded(tmp_path_factory: pytest.TempPathFactory) -> TokenizerModel:
    """A tokenizer that folds case."""
    return tokenizer_at(trained(tmp_path_factory.mktemp("folded"), lowercase=True))


def setup_with(tokenizer: Path) -> Setup:
    """A small setup."""
    shape = AlbertShape(
        vocabulary_size=VOCABULARY, hidden_size=32, num_layers=2, num_heads=2, intermediate_size=64, embedding_size=16
    )
    return Setup(
        shape=shape,
        recipe=Recipe(sequence_length=64, batch_size=16),
        tokenizer=tokenizer,
        datasets=DATASETS,
        shares={"stories": 0.3, "notes": 0.3, "letters": 0.2, "queries": 0.2},
        seed=5,
    )
