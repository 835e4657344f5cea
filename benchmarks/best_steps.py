"""How often L404 tells of imported curves that only wander, and how often it misses ones that rose.

Curves of evaluation are simulated: a power law and noise that is new at every point (0), or goes on from the one before
(0.5, 0.9). Those that rose go up by half a nat over their last third.

    python -m benchmarks.best_steps [--curves 200]
"""

import argparse

import numpy as np
from numpy.typing import NDArray

from lossary.findings.rules.worse_than_its_best import is_much, judged

_GOES_ON, _NOISE, _POINTS, _RISE = (0.0, 0.5, 0.9), (0.02, 0.05, 0.1, 0.2), (8, 30, 200), 0.5


def main() -> None:
    """Prints two tables: shares of healthy curves that are told of, of risen ones that are."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--curves", type=int, default=200)
    count = parser.parse_args().curves
    for title, rise in (("only wander", 0.0), (f"rose by {_RISE} nats", _RISE)):
        print(f"\ntold of, of curves that {title}:   " + "".join(f"{f'noise {noise}':>12}" for noise in _NOISE))
        for goes_on in _GOES_ON:
            for points in _POINTS:
                shares = [share_told(count, points, noise, goes_on, rise) for noise in _NOISE]
                row = "".join(f"{share:12.1%}" for share in shares)
                print(f"  noise goes on {goes_on}, {points:>3} points       {row}")


def share_told(count: int, points: int, noise: float, goes_on: float, rise: float) -> float:
    """The share of simulated curves that the rule tells of."""
    rng = np.random.default_rng([points, round(1000 * noise), round(10 * goes_on), round(10 * rise)])
    told = 0
    for _ in range(count):
        levels, lowest, stands_out = judged(curve(rng, points, noise, goes_on) + risen(points, rise))
        told += stands_out and is_much(float(levels[-1] - levels[lowest]), float(levels[lowest]))
    return told / count


def curve(rng: np.random.Generator, points: int, noise: float, goes_on: float) -> NDArray[np.float64]:
    """A loss that falls, with noise of which `goes_on` is that of the point before. (points,)"""
    fresh = rng.normal(0, noise, points)
    for at in range(1, points):
        fresh[at] = goes_on * fresh[at - 1] + (1 - goes_on**2) ** 0.5 * fresh[at]
    return 0.5 + 1.5 * np.linspace(0.05, 1, points) ** -0.3 + fresh


def risen(points: int, rise: float) -> NDArray[np.float64]:
    """What overfitting adds over the last third. (points,)"""
    start = 2 * points // 3
    return rise * np.clip((np.arange(points) - start + 1) / (points - start), 0, 1)


if __name__ == "__main__":
    main()
