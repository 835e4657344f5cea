"""How often intervals of components of variance hold the truth: `python -m benchmarks.components`.

Simulated studies with a spread between configurations, one between seeds (normal), and a known one of examples.
"""

import argparse
from math import sqrt

import numpy as np

from lossary.statistics.components import components

_SHAPES = {"3 × 2": (2,) * 3, "3 × 3": (3,) * 3, "8 × 2": (2,) * 8, "5 × 4": (4,) * 5, "2, 2, 3, 5, 1": (2, 2, 3, 5, 1)}
_SEEDS = 0.01


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    print(
        "| repeats | configurations / seeds | holds: seeds | holds: configurations | alike: refused | 4-fold: refused |"
    )
    print("|---|---:|---:|---:|---:|---:|")
    for name, shape in _SHAPES.items():
        for ratio in (0.0, 0.3, 1.0, 3.0):
            found = [_study(rng, shape, ratio) for _ in range(options.studies)]
            seeds, configurations, alike, unlike = (100 * np.mean(column) for column in zip(*found, strict=True))
            print(f"| {name} | {ratio:g} | {seeds:.1f} | {configurations:.1f} | {alike:.1f} | {unlike:.1f} |")


def _study(rng: np.random.Generator, shape: tuple[int, ...], ratio: float) -> tuple[bool, bool, bool, bool]:
    """Whether intervals hold the seeds' and the configurations' deviation, and whether one noise for all is refused:
    where it is one, and where the first configuration's is four times the others'."""
    noise = 0.3 * _SEEDS
    centres = rng.normal(0, ratio * _SEEDS, len(shape))

    def groups(first: float) -> list[list[float]]:
        of_seeds = [first * _SEEDS, *[_SEEDS] * (len(shape) - 1)]
        return [
            list(rng.normal(centre, sqrt(deviation**2 + noise**2), n))
            for centre, deviation, n in zip(centres, of_seeds, shape, strict=True)
        ]

    found, unlike = components(groups(1), noise=noise**2), components(groups(4), noise=noise**2)
    assert found is not None
    assert unlike is not None
    assert found.configurations is not None
    between = found.configurations
    return (
        found.seeds.low <= _SEEDS <= found.seeds.high,
        between.low <= ratio * _SEEDS <= between.high,
        (found.p_alike or 0.0) < 0.05,
        (unlike.p_alike or 0.0) < 0.05,
    )


if __name__ == "__main__":
    main()
