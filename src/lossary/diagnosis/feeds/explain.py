"""What is wrong with the feeds of a side, by name and dose, proven on the reference's own feed.

    fit = explain_examples(side.examples(documents), documents, setup=setup)
    fit.equal                       # nothing that breaks an invariant or a declared setting
    fit.best.names, fit.best.values["datasets"]      # ("labels-flipped",) {"notes": 0.05}
    fit.deviations                  # what the facts say, named or not

Each candidate's `values["faults"]` says of every fault which share of which dataset it strikes; of a single fault the
same stands beside it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray

from lossary.data.tokenizer import MASK, UNK
from lossary.diagnosis.adapter import Document, Feed, Setup
from lossary.diagnosis.feeds.chosen import chosen_aspect
from lossary.diagnosis.feeds.compare import ALARM_LEVEL, Baseline
from lossary.diagnosis.feeds.corpus import Corpus
from lossary.diagnosis.feeds.coverage import cut_short, never_streamed
from lossary.diagnosis.feeds.epochs import masks_aspect, overlap_aspect, redrawn_aspect, repeats_aspect
from lossary.diagnosis.feeds.facts import FACTS, ROWS
from lossary.diagnosis.feeds.ground import Ground
from lossary.diagnosis.feeds.observed import Observed, observe
from lossary.diagnosis.feeds.order import order_aspects, resume_aspects
from lossary.diagnosis.feeds.outcome import Aspect, Deviation, FeedFit, joined
from lossary.diagnosis.feeds.reference import Reference, Style
from lossary.diagnosis.feeds.search import Search, as_candidate
from lossary.diagnosis.feeds.serial import shared_draws
from lossary.diagnosis.feeds.texts import Retokenised, retokenised
from lossary.diagnosis.fit import Candidate

__all__ = ["explain_examples", "explain_stream", "explain_validation"]

_HOW = (
    "exact tests of rates by dataset, together at level {level:g}; what cannot be told from ambiguous text was "
    "measured on the reference's own examples and on pairs of consecutive lines"
)
_ALTERED = tuple(ROWS[name] for name in ("first-altered", "second-altered"))


def explain_examples(
    side: Feed,
    documents: Sequence[Document],
    *,
    setup: Setup,
    side_ids: Sequence[Sequence[int]] | None = None,
    next_epoch: Feed | None = None,
) -> FeedFit:
    """Explains the training examples that a side made of documents in one epoch.

    `side_ids` are the pieces of `texts_of(documents)` by the side's own tokenizer; without them lossary's is taken.
    With the examples of the next epoch, masks of both are compared, too. FeedError and DataError as of their parts.
    """
    scene = _Scene.of(documents, setup, side_ids)
    found = scene.examples(side, evaluation=False)
    aspects = [
        *found.aspects,
        chosen_aspect(found.observed, scene.grounds[0](), scene.reference.tokenizer),
        repeats_aspect(found.observed, found.corpus, scene.reference),
        shared_draws(found.observed),
    ]
    if next_epoch is not None:
        later = observe(next_epoch, found.corpus, scene.reference.tokenizer)
        aspects.append(masks_aspect(found.observed, later, scene.reference))
    return joined(aspects, how=_HOW.format(level=ALARM_LEVEL))


def explain_validation(
    first: Feed,
    documents: Sequence[Document],
    *,
    setup: Setup,
    second: Feed | None = None,
    training: Feed | None = None,
    side_ids: Sequence[Sequence[int]] | None = None,
) -> FeedFit:
    """Explains the examples that a side evaluates.

    `second` are those of another call: they should be the same. `training` are training examples of documents that
    the side keeps apart from those of validation; `documents` are then those of both.
    """
    scene = _Scene.of(documents, setup, side_ids)
    found = scene.examples(first, evaluation=True)
    aspects = list(found.aspects)
    if second is not None:
        aspects.append(redrawn_aspect(first, second, scene.reference))
    if training is not None:
        trained = observe(training, found.corpus, scene.reference.tokenizer)
        aspects.append(overlap_aspect(found.observed, trained, found.corpus, scene.reference))
        aspects.append(cut_short(found.observed, trained, found.corpus))
    return joined(aspects, how=_HOW.format(level=ALARM_LEVEL))


def explain_stream(
    whole: Feed,
    documents: Sequence[Document],
    *,
    setup: Setup,
    resumed: Feed | None = None,
    resumed_at: int = 0,
    side_ids: Sequence[Sequence[int]] | None = None,
    repeats: bool = True,
    grouped: Sequence[str] = (),
    examples: Feed | None = None,
) -> FeedFit:
    """Explains the order of a training stream from step 0 on: shares, repeats, epochs.

    `resumed` is the stream of a process that resumes at example `resumed_at` (steps times batch size) of `whole`.
    What is asked of an epoch's order and masks needs two epochs of some dataset; what is skipped is said. A stream that
    does not repeat its masks when it is asked again (`repeats` is False) need not do so after a resume. By what is
    `grouped` (of `serial.ARRANGED`) examples are meant to come together. Documents of all training `examples` have to
    come.
    """
    scene = _Scene.of(documents, setup, side_ids)
    tokenizer = scene.reference.tokenizer
    observed = observe(whole, scene.corpus, tokenizer)
    aspects = order_aspects(observed, scene.corpus, scene.reference, grouped=grouped)
    if examples is not None:
        aspects.append(never_streamed(observed, observe(examples, scene.corpus, tokenizer), scene.corpus))
    if resumed is not None:
        part = observe(resumed, scene.corpus, tokenizer)
        aspects += resume_aspects(observed, part, resumed_at, scene.corpus, scene.reference, masks=repeats)
    return joined(aspects, how=f"exact tests of counts by dataset, together at level {ALARM_LEVEL:g}")


@dataclass(frozen=True, kw_only=True)
class _Found:
    """Examples, looked at."""

    observed: Observed
    corpus: Corpus
    aspects: tuple[Aspect, ...]


@dataclass(frozen=True, kw_only=True)
class _Scene:
    """Documents, and the reference's view of them."""

    reference: Reference
    corpus: Corpus  # by the side's tokenizer, where it shows it
    own_tokens: bool
    grounds: tuple[Callable[[], Ground], ...]  # made when they are asked for

    @classmethod
    def of(cls, documents: Sequence[Document], setup: Setup, side_ids: Sequence[Sequence[int]] | None) -> "_Scene":
        reference = Reference.shared(documents, setup)
        corpus = reference.corpus
        if side_ids is not None and not reference.has_pieces(side_ids):
            corpus = Corpus.of(documents, setup.datasets, side_ids, reference.tokenizer)
        styles = (Style.SENTENCES, Style.LINES, Style.SENTENCE_PAIRS)
        grounds = tuple(cache(partial(Ground, reference, style)) for style in styles)
        return cls(reference=reference, corpus=corpus, own_tokens=side_ids is not None, grounds=grounds)

    def examples(self, side: Feed, *, evaluation: bool) -> _Found:
        """Text, pairs, masks, arrays of examples."""
        reference, corpus = self.reference, self.corpus
        observed = observe(side, corpus, reference.tokenizer)
        aspects = []
        if not self.own_tokens and (found := retokenised(side, observed, reference)) is not None:
            before, corpus = observed, found.corpus
            observed = observe(side, corpus, reference.tokenizer)
            aspects.append(
                self._text_aspect(found, self._baseline(before, self.corpus, evaluation).alarms(before.rates))
            )
        baseline = self._baseline(observed, corpus, evaluation)
        alarms = baseline.alarms(observed.rates)
        search = Search(self.grounds, observed.rates, baseline, mask_id=_mask_id(observed), evaluation=evaluation)
        aspects.append(
            Aspect(
                distance=float(alarms.max(initial=0.0)),
                candidates=tuple(as_candidate(fitted, search) for fitted in search.candidates()),
                deviations=_deviations(observed, alarms, corpus.names),
                skipped=observed.skipped,
            )
        )
        return _Found(observed=observed, corpus=corpus, aspects=tuple(aspects))

    def _baseline(self, observed: Observed, corpus: Corpus, evaluation: bool) -> Baseline:
        # Two styles show what is ambiguous; the third is made if a fault is looked for.
        return Baseline.of(
            [ground().rates for ground in self.grounds[:2]],
            observed,
            self.reference.maker.settings,
            vocabulary_size=self.reference.tokenizer.vocabulary_size,
            unknown=corpus.shares_of(UNK),
            evaluation=evaluation,
        )

    def _text_aspect(self, found: Retokenised, alarms: NDArray[np.float64]) -> Aspect:
        struck = dict.fromkeys(found.datasets or found.corpus.names, 1.0)
        faults = {
            change.name: {"name": change.name, "how": change.says, "datasets": struck} for change in found.changes
        }
        values = {"faults": faults} | ({"datasets": struck} if len(faults) == 1 else {})
        candidate = Candidate(
            names=tuple(faults),
            says="; ".join(change.says for change in found.changes) + f": {', '.join(struck)}",
            residual=0.0,
            values=values,
        )
        return Aspect(distance=float(alarms[list(_ALTERED)].max()), candidates=(candidate,))


def _mask_id(observed: Observed) -> int:
    """The id that stands most often at scored places, but for [MASK] and what stood there."""
    layout = observed.layout
    shown = layout.inputs[layout.scored & (layout.inputs != layout.labels) & (layout.inputs != MASK)]
    shown = shown[shown >= 0]
    return int(np.bincount(shown).argmax()) if len(shown) else UNK


def _deviations(observed: Observed, alarms: NDArray[np.float64], names: Sequence[str]) -> tuple[Deviation, ...]:
    found = []
    groups = (*names, "unknown dataset")
    facts = list(FACTS.values())
    for row, group in np.argwhere(alarms > 1):
        count, total = int(observed.rates.k[row, group]), int(observed.rates.n[row, group])
        fact = facts[row]
        found.append(
            Deviation(
                fact=fact.name,
                says=f"{groups[group]}: {count:,} of {total:,} {fact.says}",
                excess=float(alarms[row, group]),
            )
        )
    return tuple(found)
