"""The estimates of each dataset from the sums of a file of scores, and of the differences of two."""

from collections.abc import Sequence
from dataclasses import replace
from math import inf, log

from lossary.objectives import OBJECTIVES, Objective
from lossary.results.scorefile import ScoreFile, ScoreSums
from lossary.statistics.estimates import Estimate, accuracy, mean, proportion, ratio, within
from lossary.statistics.paired import paired_proportion, resolved
from lossary.tables.model import Metric

__all__ = ["NO_NUMBER", "differences", "estimates_of", "file_estimates", "no_number"]

NO_NUMBER = "gave no finite loss"


def no_number(broken: int, n: int, what: str = "examples") -> str:
    """The reason of a cell some of whose examples gave NaN or infinite losses."""
    return f"{broken:,} of {n:,} {what} {NO_NUMBER}"


def file_estimates(
    file: ScoreFile, datasets: Sequence[str], objectives: Sequence[str] | None = None
) -> dict[str, dict[Metric, Estimate]]:
    """Every metric of the objectives (the file's own if None) by dataset; what does not exist has its reason."""
    of_file = file.sums()
    asked = [objective for name, objective in OBJECTIVES.items() if name in (objectives or file.objectives)]
    found: dict[str, dict[Metric, Estimate]] = {}
    for dataset in datasets:
        has_any = any(dataset in of_file[name] for name in file.objectives)
        found[dataset] = {}
        for objective in asked:
            sums = of_file.get(objective.name, {}).get(dataset)
            lacking = objective.nothing if objective.name in file.objectives else objective.lacking
            found[dataset] |= estimates_of(objective, sums, lacking if has_any else "no validation example")
    return found


def estimates_of(objective: Objective, sums: ScoreSums | None, reason: str) -> dict[Metric, Estimate]:
    """Every metric of an objective from its sums; without them there is none, for a reason."""
    if sums is None:
        return dict.fromkeys(objective.metrics, Estimate(value=None, reason=reason))
    if sums.broken:
        return _broken(objective, sums)
    if objective.is_of_tokens:
        values = [within(ratio(sums.nats), 0.0, inf), accuracy(sums.correct), _bits(sums, least=0.0)]
    else:
        values = [within(mean(sums.mean), 0.0, inf), proportion(int(sums.correct.y), sums.mean.n)]
    return dict(zip(objective.metrics, values, strict=True))


def differences(objective: Objective, sums: ScoreSums | None) -> dict[Metric, Estimate]:
    """The estimates of paired differences from their sums."""
    sums = ScoreSums.nothing() if sums is None else sums
    if sums.broken:
        return _broken(objective, sums)
    if objective.is_of_tokens:
        values = [resolved(ratio(sums.nats)), within(ratio(sums.correct), -1.0, 1.0), resolved(_bits(sums))]
    else:
        # A difference of one answer is −1, 0 or 1.
        gained, lost = (int(sums.correct.yy + sign * sums.correct.y) // 2 for sign in (1, -1))
        values = [resolved(mean(sums.mean)), paired_proportion(n=sums.mean.n, gained=gained, lost=lost)]
    return dict(zip(objective.metrics, values, strict=True))


def _broken(objective: Objective, sums: ScoreSums) -> dict[Metric, Estimate]:
    n = sums.correct.n
    reason = no_number(sums.broken, n, "examples" if objective.is_of_tokens else "pairs")
    return dict.fromkeys(objective.metrics, Estimate(value=None, n=n, reason=reason))


def _bits(sums: ScoreSums, *, least: float = -inf) -> Estimate:
    """Σ nats / Σ bytes / ln 2, clustered by example as a loss is."""
    rows = sums.correct.n
    if sums.unknown:
        some = "" if sums.unknown == rows else f" of {sums.unknown:,} of {rows:,} examples"
        return Estimate(value=None, n=rows, reason=f"nobody knows the bytes of the targets{some}")
    found = within(ratio(sums.bytes), least, inf)
    if found.value is None:
        return found
    low, high = (None if end is None else end / log(2) for end in (found.low, found.high))
    variance = None if found.variance is None else found.variance / log(2) ** 2
    return replace(found, value=found.value / log(2), low=low, high=high, variance=variance)
