"""What tests of feeds share: documents, a user's pieces, feeds of a user's makers."""

from collections.abc import Callable
from typing import Any

from tests.unit.diagnosis.makers import Document, UserMaker

from lossary.diagnosis.adapter import Feed, Setup, as_feed
from lossary.diagnosis.feeds.outcome import FeedFit
from lossary.diagnosis.feeds.reference import tokenizer_at

__all__ = ["doses", "encoder", "made", "named"]


def encoder(setup: Setup) -> Callable[[str], list[int]]:
    """Pieces of a text as a user gets them."""
    processor = tokenizer_at(setup.tokenizer).processor
    return lambda text: list(processor.encode(text, out_type=int))


def made(setup: Setup, documents: list[Document], encode: Callable[[str], list[int]] | None = None, **how: Any) -> Feed:
    """The examples that a user's maker makes of documents."""
    return as_feed(UserMaker(encode or encoder(setup), **{"seed": 1, **how}).examples(documents), where="user")


def named(fit: FeedFit) -> tuple[str, ...]:
    """The names that are confirmed; none where nothing is."""
    return fit.best.names if fit.confirmed and fit.best is not None else ()


def doses(fit: FeedFit) -> dict[str, dict[str, float]]:
    """Of each confirmed name the share of each dataset that it strikes, ways of one name added up."""
    assert fit.best is not None
    found: dict[str, dict[str, float]] = {}
    for fault in fit.best.values["faults"].values():
        mine = found.setdefault(fault["name"], {})
        for dataset, dose in fault["datasets"].items():
            mine[dataset] = mine.get(dataset, 0.0) + dose
    return found
