"""How well losses of runs that were left out follow from shares: `lossary mixture` beside regression on plain shares.

    python -m benchmarks.mixture SHARES.csv LOSSES.csv

Both files have a line for each run, in one order: its name, then a number for each dataset. Regression on plain
shares is the linear predictor of RegMix (Liu et al., ICLR 2025). Ranks are of the macro total, as predicted for each
run from the others.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from lossary.statistics.mixture import Fit, fit
from lossary.tables.mixture import read_shares


def main() -> None:
    """Prints root mean square errors on runs left out, by dataset, and rank correlations of the total."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("shares", type=Path)
    parser.add_argument("losses", type=Path)
    options = parser.parse_args()
    shares = read_shares(options.shares)
    with options.losses.open(newline="") as file:
        header, *lines = list(csv.reader(file))
    names, runs = header[1:], [line[0] for line in lines]
    trained = list(next(iter(shares.values())))
    x = np.array([[shares[run][name] for name in trained] for run in runs])
    y = np.array([[float(cell) for cell in line[1:]] for line in lines])
    losses = {**dict(zip(names, y.T, strict=True)), "total macro": y.mean(axis=1)}
    print(f"{len(runs)} runs, {len(trained)} datasets\n\n{'':<16}{'log shares':>12}{'plain shares':>14}{'mean':>10}")
    for name, loss in losses.items():
        found = fit(x, loss, own=None)
        assert isinstance(found, Fit), found
        plain = np.sqrt(np.mean((loss - _left_out(x[:, :-1], loss)) ** 2))
        print(f"{name:<16}{found.error:>12.4f}{plain:>14.4f}{found.mean_error:>10.4f}")
    total = losses["total macro"]
    logs = [_refitted(x, total, run) for run in range(len(runs))]
    print(f"\nranks of the total: {spearmanr(logs, total)[0]:.3f} by log shares, ", end="")
    print(f"{spearmanr(_left_out(x[:, :-1], total), total)[0]:.3f} by plain shares")


def _refitted(x: NDArray[np.float64], loss: NDArray[np.float64], left_out: int) -> float:
    """A run's total by a fit that has not seen it."""
    kept = np.arange(len(x)) != left_out
    found = fit(x[kept], loss[kept], own=None)
    assert isinstance(found, Fit), found
    return found.predict(x[left_out]).value or 0.0


def _left_out(columns: NDArray[np.float64], loss: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each run's loss by least squares on the others."""
    design = np.column_stack([np.ones(len(loss)), columns])
    hat = design @ np.linalg.pinv(design)
    predicted: NDArray[np.float64] = loss - (loss - hat @ loss) / (1 - np.diag(hat))
    return predicted


if __name__ == "__main__":
    main()
