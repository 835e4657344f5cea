"""Losses by shares: a planted law is found again, few runs say what they cannot, and errors are of runs left out."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

import lossary
from lossary.cli.main import app
from lossary.errors import ScoreError, UsageError
from lossary.statistics.mixture import Fit, Refused, fit

NAMES = ("wiki", "code", "chat")
# Nats that each loss (row) changes when a share (column) doubles.
LAW = np.array([[-0.20, 0.05, 0.0], [0.02, -0.30, 0.0], [0.0, 0.0, -0.10]])


def drawn(rng: np.random.Generator, runs: int, noise: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Shares (R, 3) and losses (R, 3) that follow the law."""
    shares = rng.dirichlet(np.full(3, 2.0), runs)
    return shares, 3.0 + np.log2(shares) @ LAW.T + rng.normal(0, noise, (runs, 3))


def fitted(found: Fit | Refused) -> Fit:
    assert isinstance(found, Fit), found
    return found


def test_a_planted_law_is_within_its_intervals() -> None:
    rng, outside, studies = np.random.default_rng(1), 0, 300
    for _ in range(studies):
        shares, losses = drawn(rng, 12, 0.05)
        found = [fitted(fit(shares, losses[:, d], own=d, tests=9)) for d in range(3)]
        effects = [(LAW[d, s], found[d].effects[s]) for d in range(3) for s in range(3)]
        outside += any(not (e.low or 0) <= truth <= (e.high or 0) for truth, e in effects)
    # All nine hold at once in 95 studies of 100; 25 of 300 are more than chance gives in 99 cases of 100.
    assert outside < 25


def test_a_new_run_lies_within_what_is_predicted_and_as_far_off_as_is_said() -> None:
    rng = np.random.default_rng(2)
    inside, off, said = 0, [], []
    for _ in range(300):
        shares, losses = drawn(rng, 13, 0.05)
        found = fitted(fit(shares[:-1], losses[:-1, 0], own=0))
        expected = found.predict(shares[-1])
        inside += (expected.low or 0) <= losses[-1, 0] <= (expected.high or 0)
        off.append((losses[-1, 0] - (expected.value or 0)) ** 2)
        said.append(found.error**2)
    assert 0.92 < inside / 300 < 0.98
    assert np.sqrt(np.mean(said)) == pytest.approx(np.sqrt(np.mean(off)), rel=0.3)


def test_few_runs_are_fitted_to_their_own_share_or_refused() -> None:
    shares, losses = drawn(np.random.default_rng(3), 7, 0.01)
    found = fitted(fit(shares, losses[:, 1], own=1))
    assert (found.kind, list(found.effects)) == ("own", [1])
    assert isinstance(fit(shares, losses.mean(axis=1), own=None), Refused)
    assert isinstance(fit(shares[:4], losses[:4, 1], own=1), Refused)
    same = np.tile([0.5, 0.3, 0.2], (6, 1))
    assert isinstance(fit(same, losses[:6, 0], own=0), Refused)


def test_losses_that_do_not_follow_are_predicted_no_better_than_by_their_mean() -> None:
    rng = np.random.default_rng(4)
    shares = rng.dirichlet(np.full(3, 2.0), 40)
    found = fitted(fit(shares, rng.normal(3, 0.1, 40), own=0, tests=3))
    assert found.error > 0.9 * found.mean_error
    assert all((e.low or 0) < 0 < (e.high or 0) for e in found.effects.values())


def written(root: Path, runs: int) -> tuple[Path, Path]:
    """An imported table and a file of shares."""
    shares, losses = drawn(np.random.default_rng(5), runs, 0.02)
    (root / "losses.csv").write_text(
        "model,"
        + ",".join(NAMES)
        + "\n"
        + "".join(f"r{n},{','.join(f'{v:.4f}' for v in y)}\n" for n, y in enumerate(losses))
    )
    path = root / "shares.csv"
    path.write_text(
        "run,"
        + ",".join(NAMES)
        + "\n"
        + "".join(f"r{n},{','.join(f'{v:.4f}' for v in x)}\n" for n, x in enumerate(shares))
    )
    lossary.import_files([root / "losses.csv"], out=root / "table")
    return root / "table", path


def test_an_imported_table_with_shares_is_fitted_and_shown(tmp_path: Path) -> None:
    table, shares = written(tmp_path, 20)
    found = lossary.mixture(table, shares=shares)
    effects = {(e.dataset, e.share): e for e in found.model.effects}
    for d, name in enumerate(NAMES):
        effect = effects[name, name]
        assert effect.shown
        assert effect.low < LAW[d, d] < effect.high
    best, told = found.model.suggestions
    assert sum(best.shares.values()) == pytest.approx(1)
    assert best.total is not None
    assert told.total is not None
    # Wherever it lies, it is expected to be no worse than the one that is run to learn from.
    assert best.total <= told.total
    assert found.to_arrow("effects").num_rows == len(found.model.effects)
    shown = CliRunner().invoke(app, ["mixture", str(table), "--shares", str(shares), "--format", "json"])
    assert json.loads(shown.stdout) == found.to_dict()
    text = CliRunner().invoke(app, ["mixture", str(table), "--shares", str(shares)]).stdout
    assert "error on runs left out" in text
    assert "next: the lowest total that is expected" in text


def test_what_few_runs_cannot_say_is_said(tmp_path: Path) -> None:
    table, shares = written(tmp_path, 6)
    found = lossary.mixture(table, shares=shares).model
    assert {f.kind for f in found.fits if f.dataset} == {"own"}
    assert found.suggestions == []
    assert "6 runs do not tell 3 datasets apart (8 would)" in "\n".join(found.notes)
    with shares.open("a") as file:
        file.write("r99,0.2,0.3,0.5\n")
    assert "r99: it has shares and no losses; left out" in lossary.mixture(table, shares=shares).model.notes
    with pytest.raises(ScoreError, match="5 mixtures are the fewest"):
        lossary.mixture(table, shares=shares, runs=["r0", "r1"])
    with pytest.raises(ScoreError, match="0 runs have losses and shares"):
        lossary.mixture(table)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("run,wiki,code\nr0,0.5,0.6\n", "shares add up to 1.1"),
        ("run,wiki,code\nr0,1.5,-0.5\n", "shares add up to 1"),
        ("run,wiki,code\nr0,0.5\n", "2 cells of 3"),
        ("run,wiki,code\nr0,0.5,0.5\nr0,0.4,0.6\n", "run 'r0' stands twice"),
        ("run,wiki,code\nr0,half,0.5\n", "'half' is no share"),
        ("run,wiki\nr0,1\n", "a column of runs and one for each of two datasets"),
        ("run,wiki,code\nr0,nan,0.5\n", "shares add up to nan"),
        ("", "no table of shares"),
    ],
)
def test_a_file_that_holds_no_shares_is_refused(tmp_path: Path, text: str, message: str) -> None:
    table, _ = written(tmp_path, 6)
    path = tmp_path / "wrong.csv"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        lossary.mixture(table, shares=path)
