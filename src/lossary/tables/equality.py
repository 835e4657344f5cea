"""Equal within a margin, dataset by dataset and in total: the decision that a table's differences bear.

    decisions = decide(table, parse_margins(["0.01"], where="--within"))
    [d.answer for d in decisions]           # "equal", "differs", "undecided", or None with a reason

Holm over all decisions of one table, for either answer: with any number of datasets, at most 5 % of tables have a false
"equal", and at most 5 % a false "differs".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from lossary.errors import UsageError
from lossary.statistics.equivalence import Answer, examples_to_decide, margin_tests
from lossary.statistics.estimates import Estimate
from lossary.statistics.multiplicity import holm
from lossary.tables.model import Delta, Metric, Table, Unit, measure_of

__all__ = ["Decision", "Margins", "check_margin", "decide", "parse_margins"]

_LEVEL = 0.05
# By metric; "" is for every loss that has no margin of its own: of nats, or across vocabularies of bits a byte.
Margins = Mapping[Metric, float]


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Whether a run is equal to the base within a margin; `dataset` None is the total by validation share."""

    run: str
    base: str
    dataset: str | None
    metric: Metric
    unit: Unit
    margin: float
    value: float | None  # run minus base
    low: float | None
    high: float | None
    n: int
    equal_p: float | None  # adjusted by Holm
    differs_p: float | None
    answer: Answer | None  # None: there is nothing to decide by, see `reason`
    examples_needed: int | None  # of an undecided one
    reason: str | None


def parse_margins(texts: Sequence[str], *, where: str) -> dict[Metric, float]:
    """Margins as they are written: `0.01` (every loss), `sop_loss=0.02`; UsageError names the one that is wrong."""
    found: dict[Metric, float] = {}
    for text in texts:
        metric, _, number = text.rpartition("=")
        try:
            margin = float(number)
        except ValueError:
            margin = 0.0
        check_margin(margin, text, where=where)
        if metric in found:
            named = f"two margins are given for {metric}" if metric else "two margins are given for all losses"
            raise UsageError(named, where=where, hint="Give one.")
        found[metric] = margin
    return found


_MARGIN = "Expected a number above 0 (nats, bits a byte; 0.01 is a point of accuracy), or METRIC=NUMBER."


def check_margin(margin: float, text: str, *, where: str, hint: str = _MARGIN) -> None:
    """UsageError unless a margin is a number above 0."""
    if not 0 < margin < float("inf"):
        raise UsageError(
            f"{text!r} is no margin",
            where=where,
            hint=hint,
        )


def decide(table: Table, margins: Margins) -> list[Decision]:
    """A decision for every difference whose metric has a margin. UsageError for metrics it lacks."""
    known_metrics = list(dict.fromkeys(delta.metric for delta in table.deltas))
    unknown = [metric for metric in margins if metric and metric not in known_metrics]
    if unknown and known_metrics:
        hint = f"Metrics: {', '.join(known_metrics)}."
        raise UsageError(f"no metric is called {unknown[0]!r}", where="within", hint=hint)
    of_deltas = [
        (delta, _margin(delta.metric, margins, is_across=table.is_across_vocabularies)) for delta in table.deltas
    ]
    asked = [(delta, margin) for delta, margin in of_deltas if margin is not None]
    tests = [margin_tests(_estimate(delta), margin) for delta, margin in asked]
    known = [found for found in tests if found is not None]
    equal = iter(holm([found.equal for found in known]))
    differs = iter(holm([found.differs for found in known]))
    decisions = []
    for (delta, margin), found in zip(asked, tests, strict=True):
        adjusted = (None, None) if found is None else (next(equal), next(differs))
        decisions.append(_decision(delta, margin, adjusted, len(known)))
    return decisions


def _margin(metric: Metric, margins: Margins, *, is_across: bool) -> float | None:
    if metric in margins:
        return margins[metric]
    # In one vocabulary bits a byte are the losses once more; across vocabularies nats have no difference.
    return margins.get("") if measure_of(metric).unit == ("bits a byte" if is_across else "nats") else None


def _estimate(delta: Delta) -> Estimate:
    return Estimate(
        value=delta.value, low=delta.low, high=delta.high, n=delta.n, variance=delta.variance, degrees=delta.degrees
    )


def _decision(delta: Delta, margin: float, adjusted: tuple[float | None, float | None], tests: int) -> Decision:
    equal_p, differs_p = adjusted
    found = Decision(
        run=delta.run,
        base=delta.base,
        dataset=delta.dataset,
        metric=delta.metric,
        unit=measure_of(delta.metric).unit,
        margin=margin,
        value=delta.value,
        low=delta.low,
        high=delta.high,
        n=delta.n,
        equal_p=equal_p,
        differs_p=differs_p,
        answer=None,
        examples_needed=None,
        reason=delta.reason,
    )
    if equal_p is None or differs_p is None:
        return replace(found, reason=delta.reason or "no interval")
    if equal_p < _LEVEL:
        return replace(found, answer="equal")
    if differs_p < _LEVEL:
        return replace(found, answer="differs")
    # The total has as many examples as all datasets: what each of them lacks is said at the dataset.
    needed = examples_to_decide(_estimate(delta), margin, tests=tests) if delta.dataset is not None else None
    return replace(found, answer="undecided", examples_needed=needed)
