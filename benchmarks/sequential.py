"""How often `evaluate --until decided` stops with a false answer, and how many examples it saves.

    python -m benchmarks.sequential [--quick] [--json FILE]
    python -m benchmarks.sequential --scores A.parquet B.parquet       # on the examples of two real runs

Each stream is one dataset: an example hides 1 to 20 pieces, and the difference of two runs on it is the true one a
piece plus noise that all its pieces share; or that of right answers, where few or half are right. "Planned"
is the difference that a test of all examples at once shows in four cases of five. A stop is false if it says "differs"
of what lies within the margin (0 without one), or "equal" of what lies on it or beyond.

On real runs a stream is the frozen examples in another random order; differences come with a random sign each where the
truth is to be none.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import ndtri

from lossary.results.scorefile import ScoreFile
from lossary.statistics.estimates import RatioSums, ratio
from lossary.statistics.sequential import (
    LEAST_CHANGED,
    RULES,
    Monitor,
    crossing_probability,
    looks_of,
    skewness_of_mean,
    spending_levels,
)

_LEVEL, _DEVIATION = 0.05, 0.25
Draw = Callable[[np.random.Generator, int], NDArray[np.float64]]
# Noise of deviation 1.
_NOISE: dict[str, Draw] = {
    "normal": lambda rng, n: rng.standard_normal(n),
    "t, 3 degrees": lambda rng, n: rng.standard_t(3, n) / np.sqrt(3),
    "skewed": lambda rng, n: (rng.lognormal(0, 1, n) - np.exp(0.5)) / np.sqrt((np.e - 1) * np.e),
}


class Case(NamedTuple):
    """The true difference and the margin, in planned differences."""

    name: str
    truth: float
    margin: float | None


# Shares of right answers a piece; a run answers three pieces of ten anew, independently of what the other did.
_ACCURACIES = {"accuracy 0.02": 0.02, "accuracy 0.5": 0.5}
_ANEW = 0.3

_CASES = (
    Case("none", 0.0, None),
    Case("planned", 1.0, None),
    Case("three times planned", 3.0, None),
    Case("three times, downwards", -3.0, None),
    Case("none, wide margin", 0.0, 3.0),
    Case("none, margin as planned", 0.0, 1.0),
    Case("on the margin", 1.0, 1.0),
    Case("three margins", 3.0, 1.0),
)


class Stop(NamedTuple):
    """What a stream answered, and after which share of its examples."""

    answer: str
    share: float


def _stop(monitor: Monitor, y: NDArray[np.float64], x: NDArray[np.float64], *, is_accuracy: bool = False) -> Stop:
    """The first look that answers; `y` and `x` in the order in which they are scored."""
    sums = np.cumsum(np.stack([y, x, y * y, x * y, x * x]), axis=1)
    for look, end in enumerate(monitor.looks):
        if is_accuracy and np.count_nonzero(y[:end]) < LEAST_CHANGED:
            continue
        estimate = ratio(RatioSums(end, *map(float, sums[:, end - 1])))
        seen = monitor.at(look, estimate, skewness=skewness_of_mean(y[:end], x[:end]))
        if seen.answer != "undecided":
            return Stop(seen.answer, end / monitor.looks[-1])
    return Stop("undecided", 1.0)


def _summary(case: Case, stops: list[Stop]) -> dict[str, float]:
    margin = case.margin or 0.0
    truth = abs(case.truth)
    within, beyond = truth <= margin, case.margin is not None and truth >= margin
    false = [(s.answer == "differs" and within) or (s.answer == "equal" and beyond) for s in stops]
    return {
        "false": 100 * float(np.mean(false)),
        "answered": 100 * float(np.mean([stop.answer != "undecided" for stop in stops])),
        "examples": 100 * float(np.mean([stop.share for stop in stops])),
    }


def _simulated(streams: int, examples: int, seed: int, noises: list[str], cases: list[str]) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    looks = looks_of(examples)
    for noise in noises:
        rng = np.random.default_rng(seed)
        planned = _planned(rng, examples, noise)
        for case in (case for case in _CASES if case.name in cases):
            if not _can_be(noise, case.truth * planned):
                print(f"{noise:<14} {case.name:<25} no difference of accuracies is as large")
                continue
            margin = None if case.margin is None else case.margin * planned
            monitors = [Monitor(rule=rule, looks=looks, level=_LEVEL, margin=margin) for rule in RULES]
            stops: list[list[Stop]] = [[] for _ in monitors]
            for _ in range(streams):
                pieces = rng.integers(1, 21, examples).astype(float)
                y = _difference(rng, noise, case.truth * planned, pieces)
                for monitor, of_rule in zip(monitors, stops, strict=True):
                    of_rule.append(_stop(monitor, y, pieces, is_accuracy=noise in _ACCURACIES))
            for monitor, of_rule in zip(monitors, stops, strict=True):
                found = {"noise": noise, "case": case.name, "rule": monitor.rule, **_summary(case, of_rule)}
                rows.append(found)
                print(_line(found), flush=True)
    return rows


def _difference(rng: np.random.Generator, noise: str, truth: float, pieces: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of two runs on each example (n,): nats, or right answers, of all of its pieces."""
    if noise not in _ACCURACIES:
        return (truth + _NOISE[noise](rng, len(pieces)) * _DEVIATION) * pieces
    anew = rng.binomial(pieces.astype(np.int64), _ANEW)
    return rng.binomial(anew, _other(noise, truth)).astype(float) - rng.binomial(anew, _ACCURACIES[noise])


def _other(noise: str, truth: float) -> float:
    """The other run's share of right answers among those anew."""
    return _ACCURACIES[noise] + truth / _ANEW


def _can_be(noise: str, truth: float) -> bool:
    return noise not in _ACCURACIES or 0 <= _other(noise, truth) <= 1


def _planned(rng: np.random.Generator, examples: int, noise: str) -> float:
    """The difference that all examples at once show with power 0.8 at the two-sided level."""
    pieces = rng.integers(1, 21, 200_000).astype(float)
    deviation = np.sqrt((_difference(rng, noise, 0.0, pieces) ** 2).mean()) / pieces.mean()
    if noise not in _ACCURACIES:
        deviation = _DEVIATION * np.sqrt((pieces**2).mean()) / pieces.mean()
    return float((ndtri(0.975) + ndtri(0.8)) * deviation / np.sqrt(examples))


def _real(first: Path, second: Path, streams: int, seed: int) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    files = [ScoreFile(path) for path in (first, second)]
    rng = np.random.default_rng(seed)
    for name in sorted(files[0].header.validation):
        a, b = (file.columns("mlm", [name]) for file in files)
        if not np.array_equal(a.example, b.example):
            continue
        y, x = b.nats - a.nats, a.targets
        if len(y) < 200 or not np.isfinite(y).all():
            continue
        # The deviation about the difference: with random signs of it there is none, and tails stay as they are.
        centred = y - y.sum() / x.sum() * x
        whole = ratio(RatioSums.of(y, x))
        for case, of_case in ((Case("none", 0.0, None), centred), (Case("as it is", np.inf, None), y)):
            for rule in RULES:
                monitor = Monitor(rule=rule, looks=looks_of(len(y)), level=_LEVEL)
                stops = []
                for _ in range(streams):
                    order = rng.permutation(len(y))
                    signs = rng.choice([-1.0, 1.0], len(y)) if case.name == "none" else 1.0
                    stops.append(_stop(monitor, (of_case * signs)[order], x[order]))
                found = {"noise": name, "case": case.name, "rule": rule, **_summary(case, stops)}
                rows.append(found)
                print(_line(found), flush=True)
        print(f"{name}: {len(y):,} examples, {whole.value:+.4f} [{whole.low:+.4f}, {whole.high:+.4f}] of all")
    return rows


def _line(row: dict[str, object]) -> str:
    return (
        f"{row['noise']!s:<14} {row['case']!s:<25} {row['rule']!s:<15} {row['false']:>7.2f} {row['answered']:>9.1f} "
        f"{row['examples']:>9.1f}"
    )


def _inflation(examples: int) -> float:
    """How many times the examples of a single test the looks take, for the same power of 0.8."""
    fractions = tuple(end / examples for end in looks_of(examples))
    levels = spending_levels(fractions, _LEVEL / 2)
    drift = brentq(lambda drift: crossing_probability(fractions, levels, drift=drift) - 0.8, 1.0, 8.0)
    return float((drift / (ndtri(1 - _LEVEL / 2) + ndtri(0.8))) ** 2)


def main() -> None:
    """Prints a row for each noise, case and rule, then the worst of them against what is promised."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer examples a stream")
    parser.add_argument("--streams", type=int, default=2000)
    parser.add_argument("--examples", type=int, help="examples of a stream")
    parser.add_argument("--scores", type=Path, nargs=2, help="two files of scores of the same examples")
    parser.add_argument("--noise", nargs="+", choices=[*_NOISE, *_ACCURACIES], default=[*_NOISE, *_ACCURACIES])
    names = [case.name for case in _CASES]
    parser.add_argument("--case", nargs="+", choices=names, default=names)
    parser.add_argument("--seed", type=int, default=17)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    examples = options.examples or (2_000 if options.quick else 10_000)
    print(f"{options.streams:,} streams each; in per cent\n")
    print(f"{'':<14} {'difference':<25} {'rule':<15} {'false':>7} {'answered':>9} {'examples':>9}")
    if options.scores:
        rows = _real(*options.scores, options.streams, options.seed)
    else:
        rows = _simulated(options.streams, examples, options.seed, options.noise, options.case)
        print(
            f"\nnothing differs: {_inflation(examples):.3f} times the examples of one test for the same power (normal)"
        )
    for rule in RULES:
        of_rule = [row for row in rows if row["rule"] == rule]
        worst = max(of_rule, key=lambda row: float(str(row["false"])))
        print(f"{rule}: at most {worst['false']:.2f} % false ({worst['noise']}, {worst['case']})")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
