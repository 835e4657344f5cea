"""A loss and an accuracy that do not fit together.

Two measures. Against theory: a calibrated model with accuracy a over V choices has a loss of at most
h(a) + (1 − a)·ln(V − 1), h the binary entropy, by concavity. Against the other cells: on the line through their losses
and accuracies, leaving the cell out, with Student's t for a new point.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import log
from typing import NamedTuple

import numpy as np
from scipy.special import stdtr

from lossary.findings.bearing import LEAST, bears, loss_of
from lossary.findings.model import LEVEL, Finding, Key, Rule, Test, passed, skipped
from lossary.findings.sentences import metric_name
from lossary.findings.subject import Subject
from lossary.objectives import OBJECTIVES, objective_of
from lossary.statistics.estimates import Estimate
from lossary.statistics.missed import missed_positions
from lossary.statistics.paired import one_sided_p
from lossary.tables.model import Cell

__all__ = ["RULE", "calibrated_most"]

_ID = ("L104", "loss-accuracy-conflict")
_ALBERT_VOCABULARY = 30_000
# Models are a little overconfident without anything being wrong.
_MARGIN = 1.25
_LEAST_RESIDUAL = 0.5
_LEAST_OTHERS = 4


def calibrated_most(accuracy: float, choices: int) -> float:
    """The largest loss (nats) of a calibrated model that is right in a fraction `accuracy` of cases."""
    a = min(max(accuracy, 1 / choices), 1.0)
    rest = 0.0 if a == 1.0 else -(1 - a) * log(1 - a) + (1 - a) * log(max(1, choices - 1))
    return rest - a * log(a)


@dataclass(frozen=True)
class _Pair:
    loss: Cell
    accuracy: Cell

    @property
    def key(self) -> Key:
        return (self.loss.run, self.loss.dataset, self.loss.metric)


def _pairs(subject: Subject) -> list[_Pair]:
    found = []
    for loss, accuracy in ((objective.loss, objective.accuracy) for objective in OBJECTIVES.values()):
        for cell in subject.cells(loss):
            other = subject.table.cell(cell.run, cell.dataset, accuracy)
            if other.value is not None and (subject.table.is_imported or bears(_ID[0], cell, other)):
                found.append(_Pair(cell, other))
    return found


def _choices(subject: Subject, pair: _Pair) -> int:
    objective = objective_of(pair.loss.metric)
    if objective is not None and not objective.is_of_tokens:
        return 2
    return _pieces(subject, pair.loss.run) or _ALBERT_VOCABULARY


def _pieces(subject: Subject, run: str) -> int | None:
    """How many pieces a run chooses from, if that is known."""
    column = next(column for column in subject.table.runs if column.name == run)
    if column.vocabulary_digest in (None, subject.table.tokenizer_digest):
        return subject.vocabulary_size
    return column.vocabulary_size


def _most(accuracy: float, choices: int) -> float:
    return _MARGIN * calibrated_most(accuracy, choices) + 0.05


def _beyond_p(subject: Subject, pair: _Pair) -> float | None:
    """p that the loss is at most what a calibrated model of this accuracy could show; both are sampled."""
    n = min(pair.loss.n, pair.accuracy.n)
    # As if one more example were right and one more wrong: an accuracy of 1 is not certain because no example missed.
    accuracy = ((pair.accuracy.value or 0.0) * n + 1) / (n + 2)
    spread = max(pair.accuracy.variance or 0.0, accuracy * (1 - accuracy) / n)
    choices = _choices(subject, pair)
    slope = (_most(accuracy + 1e-6, choices) - _most(accuracy - 1e-6, choices)) / 2e-6
    loss = loss_of(pair.loss)
    above = Estimate(
        value=(loss.value or 0.0) - _most(accuracy, choices),
        variance=(loss.variance or 0.0) + slope**2 * spread,
        degrees=n - 1,
        n=n,
    )
    return one_sided_p(above, 0.0)


class _OnLine(NamedTuple):
    """A cell on the line through the others: the loss that it would have, and p of its distance."""

    loss: float
    p: float


def _alike(subject: Subject, pairs: list[_Pair]) -> Iterable[list[_Pair]]:
    """Cells of one metric, whose runs choose from the same pieces."""
    vocabularies = {run.name: run.vocabulary_digest for run in subject.table.runs}
    groups: dict[tuple[str, str | None], list[_Pair]] = {}
    for pair in pairs:
        groups.setdefault((pair.loss.metric, vocabularies[pair.loss.run]), []).append(pair)
    return groups.values()


def _lines(subject: Subject, pairs: list[_Pair]) -> dict[Key, _OnLine]:
    """Of each cell by the others, with its studentised residual; its own error (sampling, rounding) counts, too."""
    found: dict[Key, _OnLine] = {}
    for of_metric in _alike(subject, pairs):
        n = len(of_metric)
        x = np.array([pair.accuracy.value for pair in of_metric], float)
        y = np.array([pair.loss.value for pair in of_metric], float)
        if n <= _LEAST_OTHERS or np.ptp(x) < 1e-6:
            continue
        slope, start = np.polyfit(x, y, 1)
        residual = y - start - slope * x
        free = np.maximum(1 - 1 / n - (x - x.mean()) ** 2 / ((x - x.mean()) ** 2).sum(), 1e-12)
        # What is left of the squares without the cell, by which its own distance is judged.
        rest = np.maximum((residual @ residual) - residual**2 / free, 0.0)
        own = np.array([_error(pair.loss) + slope**2 * _error(pair.accuracy) for pair in of_metric])
        scale = np.sqrt(rest / (n - 3) * free + own * free**2)
        p = np.ones(n)
        p[scale > 0] = 2 * stdtr(n - 3, -np.abs(residual[scale > 0]) / scale[scale > 0])
        found |= {
            pair.key: _OnLine(float(y[i] - residual[i] / free[i]), float(p[i])) for i, pair in enumerate(of_metric)
        }
    return found


def _error(cell: Cell) -> float:
    """The variance of a number by sampling, or by the rounding of what is printed."""
    return cell.variance if cell.variance is not None else cell.rounding**2 / 3


def _tests(subject: Subject) -> list[Test]:
    pairs = _pairs(subject)
    tests = [Test(key=(*key, "line"), p=found.p) for key, found in _lines(subject, pairs).items()]
    if subject.table.is_imported:
        return tests
    beyond = [(pair, _beyond_p(subject, pair)) for pair in pairs]
    return tests + [Test(key=(*pair.key, "calibrated"), p=p) for pair, p in beyond if p is not None]


def _is_beyond(subject: Subject, pair: _Pair, adjusted: Mapping[Key, float]) -> bool:
    if subject.table.is_imported:
        return (pair.loss.value or 0.0) > _most(pair.accuracy.value or 0.0, _choices(subject, pair))
    return adjusted.get((*pair.key, "calibrated"), 1.0) < LEVEL


def _conclude(subject: Subject, adjusted: Mapping[Key, float]) -> list[Finding]:
    pairs = _pairs(subject)
    if not pairs:
        why = "no cell has both a loss and an accuracy"
        if not subject.table.is_imported:
            why += f" with intervals and {LEAST[_ID[0]].n} examples or more"
        return [skipped(_ID, "losses", why)]
    findings = []
    lines = _lines(subject, pairs)
    for pair in pairs:
        predicted = lines.get(pair.key)
        distance = None if predicted is None else (pair.loss.value or 0.0) - predicted.loss
        off_the_line = (
            distance is not None
            and adjusted.get((*pair.key, "line"), 1.0) < LEVEL
            and abs(distance) > _LEAST_RESIDUAL
            and abs(distance) > 0.25 * abs(pair.loss.value or 0.0)
        )
        if off_the_line or _is_beyond(subject, pair, adjusted):
            findings.append(_finding(subject, pair, predicted if off_the_line else None, adjusted))
    if not findings:
        return [passed(_ID, f"{len(pairs)} cells", "losses fit accuracies", "near the line, below what is calibrated")]
    return findings


def _finding(subject: Subject, pair: _Pair, predicted: _OnLine | None, adjusted: Mapping[Key, float]) -> Finding:
    loss, accuracy = pair.loss.value or 0.0, pair.accuracy.value or 0.0
    choices = _choices(subject, pair)
    is_assumed = choices == _ALBERT_VOCABULARY and _pieces(subject, pair.loss.run) is None
    assumed = " (vocabulary size assumed)" if is_assumed else ""
    means = "the loss and the accuracy were not computed on the same positions, or a part of them has wrong labels"
    if predicted is not None:
        means = _always_missed(subject, pair) or means
    return Finding(
        code=_ID[0],
        name=_ID[1],
        severity="warning",
        subject=f"{pair.loss.run} · {pair.loss.dataset}",
        measured=f"loss {loss:.3f} at accuracy {100 * accuracy:.2f} %",
        gist=f"{pair.loss.run}: {metric_name(pair.loss.metric)} on {pair.loss.dataset} does not fit its accuracy: "
        f"{loss:.3f} at {100 * accuracy:.2f} %",
        expected=f"about {predicted.loss:.2f} at this accuracy, by the line through the other cells"
        if predicted is not None
        else f"at most {calibrated_most(accuracy, choices):.2f} from a calibrated model{assumed}",
        test=_test(subject, predicted),
        means=means,
        ranked=(
            "labels, weights or the feed of this dataset: a part of its positions cannot be right",
            "loss and accuracy from different steps or different validation sets",
            "an accuracy that is not weighted as the loss is",
        ),
        next_step=subject.command("compare", subject.peer(pair.loss.run), pair.loss.run),
        n=pair.loss.n or None,
        p=adjusted.get((*pair.key, "calibrated" if predicted is None else "line")),
        runs=[pair.loss.run],
        datasets=[pair.loss.dataset],
        evidence=[{"loss": loss, "accuracy": accuracy, "predicted": predicted.loss if predicted else None}],
    )


def _test(subject: Subject, predicted: _OnLine | None) -> str:
    if predicted is not None:
        return "t of a new point against the other cells, Holm over all tests of the check"
    if subject.table.is_imported:
        return f"as printed, beyond {_MARGIN} × what a calibrated model could show; no n, so no test"
    return f"beyond {_MARGIN} × what a calibrated model could show: one-sided t, Holm over all tests of the check"


def _always_missed(subject: Subject, pair: _Pair) -> str | None:
    """If the run equals the best one but for positions that it always misses: how many, and what they cost."""
    peers = [p for p in _pairs(subject) if p.loss.dataset == pair.loss.dataset and p.loss.metric == pair.loss.metric]
    best = min(peers, key=lambda p: p.loss.value or 0.0)
    if best is pair or not best.accuracy.value or (pair.accuracy.value or 0.0) >= best.accuracy.value:
        return None
    missed = missed_positions(
        accuracies=(pair.accuracy.value or 0.0, best.accuracy.value),
        losses=(pair.loss.value or 0.0, best.loss.value or 0.0),
    )
    uniform = log(_choices(subject, pair))
    against = "worse than a uniform guess" if missed.nats > uniform else "better than a uniform guess"
    return (
        f"the numbers of {best.loss.run}, were {100 * missed.share:.0f} % of positions always missed, at "
        f"{missed.nats:.1f} nats each: {against} ({uniform:.1f} for {_choices(subject, pair):,} pieces)"
    )


RULE = Rule(
    code=_ID[0],
    name=_ID[1],
    about="A loss that does not fit its accuracy: off the line through the other cells (t of a new point, at least "
    f"{_LEAST_RESIDUAL} nats and a quarter of the loss), or beyond {_MARGIN} × the most of a calibrated model.",
    tests=_tests,
    conclude=_conclude,
)
