"""What rides on the gap of two scored runs.

Order labels that are answered the wrong way round, positions that are always missed, and properties of examples that
the gap goes with.
"""

from collections.abc import Iterator

import numpy as np

from lossary.data.tokenizer import open_tokenizer
from lossary.data.validation import load_validation
from lossary.diagnosis.adapter import Feed
from lossary.diagnosis.covariates import covariates_of, explain_gap
from lossary.diagnosis.experiments.pair import Experiment, Pair
from lossary.diagnosis.experiments.reported import newest_scores
from lossary.diagnosis.missed import missed_share_of
from lossary.diagnosis.model import Gap
from lossary.diagnosis.polarity import sop_polarity
from lossary.diagnosis.stored import Scores, matched, read_scores

__all__ = ["GAP"]

_MOST_COVARIATES = 6


def _run(pair: Pair) -> Iterator[Gap]:
    found = {run: path for run in pair.runs if (path := newest_scores(pair.folder, run)) is not None}
    if not found:
        return
    validation = load_validation(pair.folder)
    scores = {run: read_scores(path, validation.datasets) for run, path in found.items()}
    yield from _polarity(scores)
    if len(scores) == 2:
        first, second = matched(*scores.values())
        yield _missed(pair, first, second, list(scores))
        yield _covariates(pair, first, second)


def _polarity(scores: dict[str, Scores]) -> Iterator[Gap]:
    text = [
        f"{run}, {one.dataset}: order is answered the wrong way round: loss {one.loss:.3f}, with labels flipped "
        f"{one.flipped_loss:.3f}, chance {one.chance:.3f}"
        for run, found in scores.items()
        for one in sop_polarity(found)
        if one.flipped
    ]
    if text:
        yield Gap(title="Rescored with order labels flipped", text=tuple(text))


def _missed(pair: Pair, first: Scores, second: Scores, names: list[str]) -> Gap:
    size = open_tokenizer(pair.folder).vocabulary_size
    text = []
    for dataset in first.datasets:
        for bad, good, name in ((first, second, names[0]), (second, first, names[1])):
            share = missed_share_of(bad, good, dataset, vocabulary_size=size)
            if share is not None and share.worse_than_uniform:
                text.append(f"{name}, {dataset}: {share.says}")
    return Gap(title="Positions that are always missed", text=tuple(text or ["none that cost more than a guess"]))


def _covariates(pair: Pair, first: Scores, second: Scores) -> Gap:
    """The gap of the MLM loss by example, in nats a masked position, against properties of the examples."""
    examples = load_validation(pair.folder).examples
    order = np.lexsort((examples.example, examples.dataset))
    feed = Feed.of(examples.take(order))
    keys = {(int(d), int(e)): row for row, (d, e) in enumerate(zip(feed.dataset, examples.example[order], strict=True))}
    rows = np.array([keys[int(d), int(e)] for d, e in zip(first.dataset, first.example, strict=True)])
    covariates = covariates_of(feed.take(rows), pieces=open_tokenizer(pair.folder).pieces)
    masked = np.maximum(first.masked, 1)
    gap = (first.mlm_nats - second.mlm_nats) / masked
    found = explain_gap(gap, covariates, first.dataset, names=first.datasets)
    related = [effect for effect in found if effect.is_related][:_MOST_COVARIATES]
    text = tuple(f"{effect.dataset}: {effect.says}" for effect in related)
    return Gap(title="What the gap goes with", text=text or ("nothing that was looked at, beyond chance",))


GAP = Experiment(
    name="gap",
    title="What rides on the gap",
    about="Stored scores of runs: order answered the wrong way round, positions always missed, covariates.",
    run=_run,
)
