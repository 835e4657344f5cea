"""Whose checkpoint, whose model: both sides' weights through both sides' forward functions on the frozen examples.

If the gap follows the checkpoint, it was made in training, and the checks of feeds, losses, gradients and updates say
where; if it follows the model, loading or the forward function is at fault. Feeds and metrics are not swapped here: the
checks `examples` and `loss` compare them by themselves.
"""

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from lossary.data.examples import Examples
from lossary.data.validation import load_validation
from lossary.diagnosis.adapter import Feed
from lossary.diagnosis.experiments.pair import Experiment, Pair
from lossary.diagnosis.model import Gap
from lossary.diagnosis.session import NotObservable, Session
from lossary.diagnosis.sides import Side, run_setup
from lossary.diagnosis.subject import Probes, Subject
from lossary.diagnosis.swap import ExampleSums, swap_matrix
from lossary.models.parameters import Parameters

__all__ = ["SWAP"]

_EXAMPLES = 128  # of each dataset
_FACTORS = ("checkpoint", "model")
_TITLE = "Whose checkpoint, whose model"


def _run(pair: Pair) -> Iterator[Gap]:
    if len(pair.sides) < 2:
        return
    trained = [pair.trained(side) for side in pair.sides]
    without = [side.label for side, weights in zip(pair.sides, trained, strict=True) if weights is None]
    if without:
        raise NotObservable(f"{' and '.join(without)} shows no trained weights (`checkpoint`)")
    validation = load_validation(pair.folder)
    rows = _chosen(validation.examples, len(validation.datasets))
    feed = Feed.of(validation.examples.take(rows))
    sums = {
        letters: _scored(pair, pair.sides["AB".index(letters[1])], trained["AB".index(letters[0])], feed)
        for letters in product("AB", repeat=2)
    }
    text, table = [], []
    for number, name in enumerate(validation.datasets):
        of_dataset = feed.dataset == number
        for metric in ("mlm_loss", "sop_loss"):
            parts = {
                letters: ExampleSums(y=found[metric][0][of_dataset], x=found[metric][1][of_dataset])
                for letters, found in sums.items()
            }
            if any(part.x.sum() <= 0 for part in parts.values()):
                continue
            result = swap_matrix(parts, factors=_FACTORS)
            if result.gap.is_beyond_zero:
                text.append(f"{name}, {metric}: {result.says}")
            values = {f"{a}'s weights, {b}'s model": result.values[a, b] for a, b in product("AB", repeat=2)}
            table.append({"dataset": name, "metric": metric, **values})
    labels = f"A is {pair.sides[0].label}, B is {pair.sides[1].label}; {len(feed):,} frozen examples"
    yield Gap(title=_TITLE, text=(labels, *(text or ["no gap beyond what sampling may make"])), rows=tuple(table))


def _chosen(examples: Examples, datasets: int) -> NDArray[Any]:
    """The first examples of each dataset."""
    return np.concatenate([np.flatnonzero(examples.dataset == number)[:_EXAMPLES] for number in range(datasets)])


def _scored(
    pair: Pair, side: Side, weights: Parameters | None, feed: Feed
) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Nats and counts by example of both objectives."""
    assert weights is not None
    subject = pair.subject(side)
    if side.run is None:
        if subject is None:
            raise NotObservable(f"{side.label} has no process that could compute")
        outputs = subject.forward(weights, feed)[0]
    else:
        # A run's checks work at a small size; its checkpoint needs the real one.
        assert side.spec is not None
        setup = run_setup(pair.study, pair.folder, side.run, threads=side.setup.threads)
        with Session(side.spec, setup, pair.folder.diagnosis / "traces", launch=pair.launch) as session:
            full = Subject(session=session, setup=setup, documents=[], probes=Probes(setup=setup))
            outputs = full.forward(weights, feed)[0]
    return _sums(outputs, feed)


def _sums(outputs: dict[str, Any], feed: Feed) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    logs = log_softmax(outputs["mlm"].astype(np.float64), axis=-1)
    nats = -np.take_along_axis(logs, feed.labels[..., None].astype(np.int64), axis=-1)[..., 0]
    used = (feed.weights > 0).astype(np.float64)
    labelled = (feed.sop_labels >= 0).astype(np.float64)
    order = log_softmax(outputs["sop"].astype(np.float64), axis=-1)
    sop = -order[np.arange(len(feed)), np.maximum(feed.sop_labels, 0)]
    return {"mlm_loss": ((nats * used).sum(axis=1), used.sum(axis=1)), "sop_loss": (sop * labelled, labelled)}


SWAP = Experiment(
    name="swap",
    title=_TITLE,
    about="Both sides' trained weights through both sides' models on frozen examples: which factor carries the gap.",
    run=_run,
)
