"""Whose checkpoint, feed, model, metric: each factor from either side, all combinations, and which carries the gap.

If the gap follows the checkpoint, it was made in training, and the checks of feeds, losses, gradients and updates say
where; if it follows the model, loading or the forward function is at fault; if the feed or the metric, evaluation is.
A side without evaluation examples of its own uses the study's frozen ones, one without a metric of its own lossary's;
what both sides share is no factor.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from lossary.data.validation import ValidationSet, load_validation
from lossary.diagnosis.adapter import Feed
from lossary.diagnosis.experiments.pair import Experiment, Pair
from lossary.diagnosis.model import Gap
from lossary.diagnosis.session import NotCompared, Session
from lossary.diagnosis.sides import Side, run_setup
from lossary.diagnosis.subject import Probes, Subject
from lossary.diagnosis.swap import FACTORS, ExampleSums, SwapResult, swap_matrix
from lossary.models.parameters import Parameters

__all__ = ["SWAP"]

_EXAMPLES = 128  # of each dataset
_BLOCKS = 16  # of a dataset, of which a side's own metric is asked: its numbers are means
_MOST_LOGITS = 2**26  # that are handed to a side's own metric, in all combinations: a quarter of a gibibyte
_METRICS = ("mlm_loss", "sop_loss")
_TITLE = "Whose checkpoint, feed, model, metric"
Sums = Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]  # by metric: nats and counts (n,)


@dataclass(frozen=True, kw_only=True)
class _Party:
    """What one side brings; None where it has none of its own."""

    label: str
    weights: Parameters
    outputs: Callable[[Parameters, Feed], dict[str, Any]]
    feed: Feed | None
    measure: Subject | None


def _run(pair: Pair) -> Iterator[Gap]:
    if len(pair.sides) < 2:
        return
    trained = [pair.trained(side) for side in pair.sides]
    without = [side.label for side, weights in zip(pair.sides, trained, strict=True) if weights is None]
    if without:
        raise NotCompared(f"{' and '.join(without)} shows no trained weights (`checkpoint`)")
    validation = load_validation(pair.folder)
    with ExitStack() as stack:
        parties = [
            _party(pair, side, weights, stack)
            for side, weights in zip(pair.sides, trained, strict=True)
            if weights is not None
        ]
        yield _swapped(parties, validation)


def _party(pair: Pair, side: Side, weights: Parameters, stack: ExitStack) -> _Party:
    subject = pair.subject(side)
    if side.run is not None:
        # A run's checks work at a small size; its checkpoint needs the real one.
        assert side.spec is not None
        setup = run_setup(pair.study, pair.folder, side.run, threads=side.setup.threads)
        traces = pair.folder.diagnosis / "traces"
        session = stack.enter_context(Session(side.spec, setup, traces, launch=pair.launch))
        full = Subject(session=session, setup=setup, documents=[], probes=Probes(setup=setup))
        return _Party(label=side.label, weights=weights, outputs=_forward(full), feed=None, measure=None)
    if subject is None:
        raise NotCompared(f"{side.label} has no process that could compute")
    return _Party(
        label=side.label,
        weights=weights,
        outputs=_forward(subject),
        feed=_own_feed(subject),
        measure=subject if subject.session.can("measure") else None,
    )


def _forward(subject: Subject) -> Callable[[Parameters, Feed], dict[str, Any]]:
    return lambda weights, feed: subject.forward(weights, feed)[0]


def _own_feed(subject: Subject) -> Feed | None:
    """A side's evaluation examples; None where it makes none, or does not tell of which dataset they are."""
    if not subject.session.can("validation"):
        return None
    feed = subject.made("validation")
    return feed if (feed.dataset >= 0).all() else None


def _swapped(parties: list[_Party], validation: ValidationSet) -> Gap:
    frozen = Feed.of(validation.examples)
    whole = [frozen if party.feed is None else party.feed for party in parties]
    notes = [f"A is {parties[0].label}, B is {parties[1].label}"]
    measured = any(party.measure for party in parties)
    most = _EXAMPLES
    if measured:
        most = min(most, _MOST_LOGITS // (8 * len(validation.datasets) * _logits(parties, whole[0])))
        if most < _BLOCKS:
            notes.append("metrics are not swapped, as logits of this size are too many; see the check `loss`")
            measured, most = False, _EXAMPLES
    feeds = [feed.take(_chosen(feed, len(validation.datasets), most)) for feed in whole]
    own_feeds = any(party.feed is not None for party in parties)
    notes.append(
        f"{len(feeds[0]):,} and {len(feeds[1]):,} examples" if own_feeds else f"{len(feeds[0]):,} frozen examples"
    )
    used = [name for name in FACTORS if name in ("checkpoint", "model") or (own_feeds if name == "feed" else measured)]
    text, rows = [], []
    for number, name in enumerate(validation.datasets):
        parts = [feed.take(np.flatnonzero(feed.dataset == number)) for feed in feeds]
        if not all(len(part) for part in parts):
            continue
        for metric, result in _results(parties, parts, used, shared=not own_feeds):
            if result.gap.is_beyond_zero:
                text.append(f"{name}, {metric}: {result.says}")
            rows.append({"dataset": name, "metric": metric, **_columns(result, used)})
    return Gap(
        title=_TITLE, text=("; ".join(notes), *(text or ["no gap beyond what sampling may make"])), rows=tuple(rows)
    )


def _logits(parties: list[_Party], feed: Feed) -> int:
    """Of an example, as the side's own metric takes them."""
    places = max(
        feed.token_ids.shape[1] if party.measure and party.measure.gives_all_tokens else feed.positions.shape[1]
        for party in parties
    )
    return int(places) * max(party.measure.setup.shape.vocabulary_size for party in parties if party.measure)


def _chosen(feed: Feed, datasets: int, most: int) -> NDArray[Any]:
    """The first examples of each dataset."""
    return np.concatenate([np.flatnonzero(feed.dataset == number)[:most] for number in range(datasets)])


def _results(
    parties: list[_Party], feeds: list[Feed], used: list[str], *, shared: bool
) -> Iterator[tuple[str, SwapResult]]:
    """The swap of each metric on one dataset; `shared`: the n-th example of both feeds is the same."""
    sums: dict[tuple[str, ...], Sums] = {}
    for letters in product("AB", repeat=len(used)):
        by = {name: "AB".index(letter) for name, letter in zip(used, letters, strict=True)}
        feed = feeds[by.get("feed", 0)]
        outputs = parties[by["model"]].outputs(parties[by["checkpoint"]].weights, feed)
        own = parties[by["metric"]].measure if "metric" in by else None
        sums[letters] = _measured(own, outputs, feed, blocks="metric" in by)
    for metric in _METRICS:
        parts = {
            letters: ExampleSums(
                y=found[metric][0], x=found[metric][1], example=_names(letters, used, len(found[metric][0]), shared)
            )
            for letters, found in sums.items()
            if metric in found
        }
        if len(parts) == len(sums) and all(part.x.sum() > 0 for part in parts.values()):
            yield metric, swap_matrix(parts, factors=used)


def _names(letters: tuple[str, ...], used: list[str], count: int, shared: bool) -> NDArray[Any]:
    """Which example, or block, is which: those of two feeds are different ones."""
    second = not shared and letters[used.index("feed")] == "B"
    return np.arange(count) + (2**32 if second else 0)


def _columns(result: SwapResult, used: list[str]) -> dict[str, float]:
    """Of two factors the whole matrix; of more, both sides and what each factor takes of the gap."""
    if len(used) == 2:
        return {f"{a}'s weights, {b}'s model": result.values[a, b] for a, b in product("AB", repeat=2)}
    ends = {letter: result.values[(letter,) * len(used)] for letter in "AB"}
    return ends | {f"{name} moves": result.by_factor[name].value for name in used}


def _measured(own: Subject | None, outputs: dict[str, Any], feed: Feed, *, blocks: bool) -> Sums:
    """Sums by example, or by block, of lossary's metric or of a side's own."""
    if not blocks:
        return _sums(outputs, feed)
    rows = np.array_split(np.arange(len(feed)), min(_BLOCKS, len(feed)))
    if own is None:
        found = _sums(outputs, feed)
        return {
            metric: (np.array([y[block].sum() for block in rows]), np.array([x[block].sum() for block in rows]))
            for metric, (y, x) in found.items()
        }
    told = [_asked(own, outputs, feed, block) for block in rows]
    counts = {
        "mlm_loss": [(feed.weights[block] > 0).sum() for block in rows],
        "sop_loss": [(feed.sop_labels[block] >= 0).sum() for block in rows],
    }
    return {
        metric: (np.array([one[metric] for one in told]) * np.array(counts[metric]), np.array(counts[metric], float))
        for metric in _METRICS
        if all(metric in one for one in told)
    }


def _asked(own: Subject, outputs: dict[str, Any], feed: Feed, block: NDArray[Any]) -> dict[str, float]:
    """What a side's metric says of some examples, whichever model's outputs they are."""
    part = feed.take(block)
    mlm = outputs["mlm"][block]
    if own.gives_all_tokens:
        wide = np.zeros((*part.token_ids.shape, mlm.shape[-1]), np.float32)
        row, slot = np.nonzero(part.weights > 0)
        wide[row, part.positions[row, slot]] = mlm[row, slot]
        mlm = wide
    answer = own.session.ask("measure", outputs={"mlm": mlm, "sop": outputs["sop"][block]}, feed=part.arrays())
    # A mean over nothing is none.
    return {name: float(np.nan_to_num(value)) for name, value in answer.items()}


def _sums(outputs: dict[str, Any], feed: Feed) -> Sums:
    logs = log_softmax(outputs["mlm"].astype(np.float64), axis=-1)
    labels = np.clip(feed.labels, 0, logs.shape[-1] - 1).astype(np.int64)
    nats = -np.take_along_axis(logs, labels[..., None], axis=-1)[..., 0]
    used = (feed.weights > 0).astype(np.float64)
    labelled = (feed.sop_labels >= 0).astype(np.float64)
    order = log_softmax(outputs["sop"].astype(np.float64), axis=-1)
    sop = -order[np.arange(len(feed)), np.maximum(feed.sop_labels, 0)]
    return {"mlm_loss": ((nats * used).sum(axis=1), used.sum(axis=1)), "sop_loss": (sop * labelled, labelled)}


SWAP = Experiment(
    name="swap",
    title=_TITLE,
    about="Checkpoint, feed, model and metric of both sides in every combination: which factor carries the gap.",
    run=_run,
)
