"""What is wrong with the feeds of a side, by name and dose, proven on the reference's own feed.

fit = explain_examples(side.examples(documents), documents, setup=setup)
fit.equal                       # nothing that breaks an invariant or a declared setting
fit.best.names, fit.best.values["datasets"]      # ("labels-flipped",) {"notes": 0.05}
fit.deviations                  # what the facts say, named or not
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import numpy as np

from lossary.data.tokenizer import MASK, UNK
from lossary.diagnosis.adapter import Document, Feed, Setup
from lossary.diagnosis.feeds.compare import ALARM_LEVEL, Baseline
from lossary.diagnosis.feeds.corpus import Corpus
from lossary.diagnosis.feeds.facts import FACTS, Observed, observe
from lossary.diagnosis.feeds.ground import Ground
from lossary.diagnosis.feeds.reference import Reference, Style
from lossary.diagnosis.feeds.search import Search, as_candidate
from lossary.diagnosis.fit import Fit

__all__ = ["Deviation", "FeedFit", "explain_examples"]


@dataclass(frozen=True, kw_only=True)
class Deviation:
    """A fact whose rate no healthy feed has."""

    fact: str
    says: str  # a sentence
    dataset: str
    count: int
    total: int
    excess: float  # in units of the critical value


@dataclass(frozen=True, kw_only=True)
class FeedFit(Fit):
    """A fit with the facts behind it."""

    deviations: tuple[Deviation, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)  # facts that cannot be known, and why


def explain_examples(
    side: Feed,
    documents: Sequence[Document],
    *,
    setup: Setup,
    side_ids: Sequence[Sequence[int]] | None = None,
    evaluation: bool = False,
) -> FeedFit:
    """Explains examples that a side made of documents in one epoch.

    `side_ids` are the pieces of `texts_of(documents)` by the side's own tokenizer; without them lossary's is taken.
    With `evaluation`, the examples are to be scored, not trained on.
    """
    reference = Reference(documents, setup)
    corpus = reference.corpus
    if side_ids is not None:
        corpus = Corpus.of(documents, setup.datasets, side_ids, reference.tokenizer)
    observed = observe(side, corpus, reference.tokenizer)
    grounds = [
        cache(partial(Ground, reference, style)) for style in (Style.SENTENCES, Style.LINES, Style.SENTENCE_PAIRS)
    ]
    # Two styles show what is ambiguous; the third is made if a fault is looked for.
    baseline = Baseline.of(
        [ground().rates for ground in grounds[:2]],
        observed,
        reference.maker.settings,
        reference.tokenizer.vocabulary_size,
    )
    search = Search(grounds, observed.rates, baseline, mask_id=_mask_id(observed), evaluation=evaluation)
    alarms = baseline.alarms(observed.rates)
    return FeedFit(
        distance=float(alarms.max(initial=0.0)),
        tried=tuple(as_candidate(fitted, search) for fitted in search.candidates()),
        how=_how(baseline),
        deviations=_deviations(observed, alarms, setup),
        skipped=observed.skipped,
    )


def _how(baseline: Baseline) -> str:
    return (
        f"{baseline.tests} exact tests of rates by dataset, together at level {ALARM_LEVEL:g}; what cannot be told "
        f"from ambiguous text was measured on the reference's own examples and on pairs of consecutive lines"
    )


def _mask_id(observed: Observed) -> int:
    """The id that stands most often at scored places, but for [MASK] and what stood there."""
    layout = observed.layout
    shown = layout.inputs[layout.scored & (layout.inputs != layout.labels) & (layout.inputs != MASK)]
    shown = shown[shown >= 0]
    return int(np.bincount(shown).argmax()) if len(shown) else UNK


def _deviations(observed: Observed, alarms: Any, setup: Setup) -> tuple[Deviation, ...]:
    found = []
    groups = (*setup.datasets, "unknown dataset")
    facts = list(FACTS.values())
    for row, group in np.argwhere(alarms > 1):
        count, total = int(observed.rates.k[row, group]), int(observed.rates.n[row, group])
        fact = facts[row]
        says = f"{groups[group]}: {count:,} of {total:,} {fact.says}"
        found.append(
            Deviation(
                fact=fact.name,
                says=says,
                dataset=groups[group],
                count=count,
                total=total,
                excess=float(alarms[row, group]),
            )
        )
    return tuple(sorted(found, key=lambda deviation: -deviation.excess))
