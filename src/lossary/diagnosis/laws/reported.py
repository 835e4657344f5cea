"""Which loss a side logs for a step of several micro batches: how it puts theirs together.

    seen = [ReportedObservation(micro=((outputs, feed), …), reported=side.reported_loss([feed.arrays(), …])), …]
    identify_reported_loss(seen).best            # e.g. mean-of-means

Micro batches need different numbers of masked positions and of labelled pairs: where they are equal, the mean of means
is the right number. Steps of 1, 2 and 4 micro batches tell a factor from the number of micro batches.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossary.diagnosis.adapter import Feed
from lossary.diagnosis.fit import Fit
from lossary.diagnosis.laws.ranking import Hypothesis, fit_of
from lossary.diagnosis.laws.ratios import LossLaw, Number, reference_law
from lossary.diagnosis.laws.scales import factor_part, fitted, observations_for, snapped, tolerance
from lossary.diagnosis.laws.scored import Part, Precision, Sums, concatenated, mlm_sums, sop_sums
from lossary.diagnosis.laws.totals import weight_part

__all__ = ["REDUCTIONS", "ReportedObservation", "combined", "identify_reported_loss"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ReportedObservation:
    """A step: outputs and feed of each micro batch, and the loss that the side logs for it.

    `rounding`: half a unit of the last digit logged, and what the noise of the outputs may change, in nats.
    """

    micro: tuple[tuple[Mapping[str, Any], Feed], ...]
    reported: float
    rounding: float = 0.0


@dataclass(frozen=True)
class _Reduction:
    """How the numbers of micro batches become one: a weight each, or of the pooled number."""

    key: str
    parts: tuple[Part, ...]


def _part(name: str, says: str, **values: Any) -> tuple[Part, ...]:
    return (Part(name=name, says=says, values=tuple(values.items())),)


REDUCTIONS: tuple[_Reduction, ...] = (
    _Reduction("pooled", ()),
    _Reduction(
        "mean", _part("mean-of-means", "micro batches count the same, however many positions are scored in them")
    ),
    _Reduction("sum", _part("loss-times-micro-batches", "the means of micro batches are added up, not averaged")),
    _Reduction("times", _part("loss-times-micro-batches", "the loss is multiplied by the number of micro batches")),
    _Reduction("last", _part("one-micro-batch-only", "only the last micro batch counts", micro_batch="last")),
    _Reduction("first", _part("one-micro-batch-only", "only the first micro batch counts", micro_batch="first")),
    _Reduction("divided", _part("loss-scaled", "the loss is divided by the number of micro batches once too often")),
    _Reduction(
        "divided mean",
        _part("mean-of-means", "micro batches count the same, however many positions are scored in them")
        + _part("loss-scaled", "the loss is divided by the number of micro batches once too often"),
    ),
    _Reduction(
        "divided last",
        _part("one-micro-batch-only", "only the last micro batch counts", micro_batch="last")
        + _part("loss-scaled", "the loss is divided by the number of micro batches"),
    ),
    _Reduction(
        "by rows", _part("mean-of-means", "micro batches count by their examples, not by what is scored in them")
    ),
)


def identify_reported_loss(
    observations: Sequence[ReportedObservation],
    *,
    mlm: LossLaw | None = None,
    sop: LossLaw | None = None,
    weights: tuple[float, float] = (1.0, 1.0),
    precision: Precision = "fp32",
) -> Fit:
    """Whether the loss logged is the right one of the whole step, else how the micro batches were put together.

    `mlm`, `sop`, `weights`: laws of the side's loss that are known already (from `laws_of`); what is faulty in them is
    not found again here. Raises ValueError without observations.
    """
    if not observations:
        raise ValueError("no step was observed")
    parts = [_parts(observation, mlm, sop, precision) for observation in observations]
    measured = np.array([float(observation.reported) for observation in observations])
    rounding = np.array([float(observation.rounding) for observation in observations])
    # (objectives, reductions, observations): values and rounding
    table = np.stack([values for values, _ in parts], axis=-1) * np.array(weights)[:, None, None]
    noise = np.stack([values for _, values in parts], axis=-1) * np.abs(weights)[:, None, None]
    has_sop = bool((table[1] != 0).any())
    pairs = [(i, j) for i, j in product(range(len(REDUCTIONS)), repeat=2) if has_sop or i == j]
    first, second = np.array([i for i, _ in pairs]), np.array([j for _, j in pairs])
    m, s, near = table[0][first], table[1][second], noise[0][first] + noise[1][second]
    plain = _residual(measured, m + s, near, rounding)
    found = list(_hypotheses(pairs, plain, _scaled(m, s, near, measured, rounding) if has_sop else {}))
    counts = sorted({len(observation.micro) for observation in observations})
    how = (
        f"losses in float32 in two ways against float64; {len(observations)} steps of "
        f"{', '.join(map(str, counts))} micro batches, all of which a rule has to give"
    )
    return fit_of(found, distance=float(plain[pairs.index((0, 0))]), how=how)


def _parts(
    observation: ReportedObservation, mlm: LossLaw | None, sop: LossLaw | None, precision: Precision
) -> tuple[Floats, Floats]:
    """(objectives, reductions) of one step: values, rounding."""
    classes = [mlm.space.ignored] if mlm is not None and mlm.space.ignored is not None else []
    kinds: list[tuple[Number, list[Sums], LossLaw | None]] = [
        ("mlm_loss", [mlm_sums(o, f, classes, precision=precision) for o, f in observation.micro], mlm)
    ]
    if all(outputs.get("sop") is not None for outputs, _ in observation.micro):
        kinds.append(("sop_loss", [sop_sums(o, f, precision=precision) for o, f in observation.micro], sop))
    rows = np.array([len(feed) for _, feed in observation.micro], float)
    values, noise = np.zeros((2, 2, len(REDUCTIONS)))
    for at, (number, sums, law) in enumerate(kinds):
        known = law or reference_law(sums[0].spaces[0], number)
        single = np.nan_to_num(np.array([known.value(one, number) for one in sums]))
        pooled = np.nan_to_num(np.array(known.value(concatenated(sums), number)))
        reduced = _reduced(single, pooled, rows)
        values[at], noise[at] = reduced[:, 0], reduced[:, 1]
    return values, noise


def _reduced(single: Floats, pooled: Floats, rows: Floats) -> Floats:
    """(reductions, 2) from (micro batches, 2) and (2,): all are linear, so values and rounding go the same way."""
    k = len(single)
    by_key = {
        "pooled": pooled,
        "mean": single.mean(axis=0),
        "sum": single.sum(axis=0),
        "times": k * pooled,
        "last": single[-1],
        "first": single[0],
        "divided": pooled / k,
        "divided mean": single.mean(axis=0) / k,
        "divided last": single[-1] / k,
        "by rows": rows @ single / rows.sum(),
    }
    return np.stack([by_key[reduction.key] for reduction in REDUCTIONS])


def _residual(measured: Floats, predicted: Floats, noise: Floats, rounding: Floats) -> Floats:
    with np.errstate(invalid="ignore"):
        far = np.abs(measured - predicted) / tolerance(noise, measured, rounding)
    largest: Floats = np.where(np.isfinite(far), far, np.inf).max(axis=-1)
    return largest


def _scaled(
    m: Floats, s: Floats, near: Floats, measured: Floats, rounding: Floats
) -> dict[str, tuple[Floats, Floats, Floats]]:
    """Residuals, fitted values and their errors with one free value: a factor, or the weight of an objective."""
    if len(measured) < observations_for(1):
        return {}
    found = {}
    for key, known, column in (("factor", 0.0 * m, m + s), ("sop", m, s), ("mlm", s, m)):
        value, error = fitted([column], measured - known, tolerance(near, measured, rounding))
        scale = np.maximum(np.abs(value), 1.0) if key != "factor" else np.abs(value)
        residual = _residual(measured, known + value * column, near * scale, rounding)
        found[key] = (residual, value[:, 0], error[:, 0])
    return found


def _hypotheses(
    pairs: Sequence[tuple[int, int]], plain: Floats, scaled: Mapping[str, tuple[Floats, Floats, Floats]]
) -> Iterator[Hypothesis]:
    for k, (i, j) in enumerate(pairs):
        parts = combined(REDUCTIONS[i].parts, REDUCTIONS[j].parts)
        if np.isfinite(plain[k]):
            yield Hypothesis(parts=parts, residual=float(plain[k]))
        for key, (residual, values, errors) in scaled.items():
            if np.isfinite(residual[k]) and plain[k] > 1.0:
                value = snapped(float(values[k]), float(errors[k]))
                part = factor_part(value, what="the loss logged") if key == "factor" else weight_part(key, value)
                yield Hypothesis(parts=(*parts, part), residual=float(residual[k]), fitted=1)


def combined(one: tuple[Part, ...], two: tuple[Part, ...]) -> tuple[Part, ...]:
    """Parts of how each objective is put together, MLM and SOP; one and the same way counts once."""
    if one == two:
        return one
    named = [("masked language model", one), ("sentence order", two)]
    return tuple(
        Part(name=part.name, says=f"{what}: {part.says}", values=part.values) for what, parts in named for part in parts
    )
