"""How often `compare --within` is wrong, and how many examples it takes, on simulated studies.

    python -m benchmarks.equality [--quick] [--json FILE]
    python -m benchmarks.equality --truth "the margin on one" --examples 100000 --studies 5000 --seed 99

Each study has four datasets of uneven size; an example hides 1 to 20 pieces, and the difference of two runs on it is
the true one a piece plus noise with heavy tails (Student's t with 3 degrees of freedom) that all its pieces share.
"Equal" is false where the truth lies at the margin or beyond on any dataset or in total; "differs" where it is within.
"""

import argparse
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lossary.statistics.estimates import RatioSums, ratio, weighted_mean
from lossary.statistics.paired import differs_p
from lossary.tables.equality import decide
from lossary.tables.model import Delta, Table

_MARGIN = 0.01
_SHARES = {"wiki": 0.4, "code": 0.3, "chat": 0.2, "queries": 0.1}
# Deviation of a paired difference of two runs a hidden piece, as the demo's runs have it.
_DEVIATION = 0.25


class Truth(NamedTuple):
    """The true difference on each dataset, in margins."""

    name: str
    by_dataset: tuple[float, float, float, float]


_TRUTHS = (
    Truth("none", (0, 0, 0, 0)),
    Truth("half the margin", (0.5, 0.5, 0.5, 0.5)),
    Truth("the margin", (1, 1, 1, 1)),
    Truth("the margin on one", (0, 0, 0, 1)),
    Truth("both edges", (1, -1, 1, -1)),
    Truth("twice the margin", (2, 2, 2, 2)),
    Truth("three times on one", (0, 0, 0, 3)),
)


def _study(rng: np.random.Generator, truth: Truth, examples: int) -> Table:
    """A table that has nothing but differences."""
    estimates = {}
    for (name, share), size in zip(_SHARES.items(), truth.by_dataset, strict=True):
        n = max(2, round(share * examples))
        pieces = rng.integers(1, 21, n).astype(float)
        noise = rng.standard_t(3, n) / np.sqrt(3) * _DEVIATION
        estimates[name] = ratio(RatioSums.of((size * _MARGIN + noise) * pieces, pieces))
    total = weighted_mean([(share, estimates[name]) for name, share in _SHARES.items()])
    deltas = [
        Delta(
            run="second",
            base="first",
            dataset=name,
            metric="mlm_loss",
            value=found.value,
            low=found.low,
            high=found.high,
            variance=found.variance,
            n=found.n,
            unmatched=0,
            p=differs_p(found),
            adjusted_p=None,
            differs=None,
            examples_paired=None,
            examples_unpaired=None,
            reason=found.reason,
            degrees=found.degrees,
        )
        for name, found in [*estimates.items(), (None, total)]
    ]
    return Table(
        study="simulated",
        datasets=[],
        runs=[],
        cells=[],
        totals=[],
        deltas=deltas,
        signature="",
        validation_digest="",
        tokenizer_digest="",
    )


def _counts(rng: np.random.Generator, truth: Truth, *, examples: int, studies: int) -> dict[str, float]:
    """Per cent of studies with a false "equal", with a false "differs"; per cent of comparisons with each answer."""
    sizes = dict(zip(_SHARES, map(abs, truth.by_dataset), strict=True))
    total = abs(sum(share * size for share, size in zip(_SHARES.values(), truth.by_dataset, strict=True)))
    false_equal = false_differs = equal = differs = 0
    for _ in range(studies):
        decisions = decide(_study(rng, truth, examples), {"": _MARGIN})
        answers = [(total if d.dataset is None else sizes[d.dataset], d.answer) for d in decisions]
        false_equal += any(answer == "equal" and size >= 1 - 1e-9 for size, answer in answers)
        false_differs += any(answer == "differs" and size <= 1 + 1e-9 for size, answer in answers)
        equal += sum(answer == "equal" for _, answer in answers)
        differs += sum(answer == "differs" for _, answer in answers)
    comparisons = studies * (len(_SHARES) + 1)
    return {
        "false_equal": 100 * false_equal / studies,
        "false_differs": 100 * false_differs / studies,
        "equal": 100 * equal / comparisons,
        "differs": 100 * differs / comparisons,
    }


def main() -> None:
    """Prints a table of error rates and of answers against the number of examples."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer studies")
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=17)
    parser.add_argument("--truth", choices=[truth.name for truth in _TRUTHS], help="only this one")
    parser.add_argument("--examples", type=int, help="only so many")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    studies = 200 if options.quick else options.studies
    counts = (1_000, 10_000, 50_000) if options.quick else (1_000, 4_000, 10_000, 20_000, 50_000, 100_000)
    rng = np.random.default_rng(options.seed)
    print(f"margin {_MARGIN}, {studies:,} studies each; in per cent\n")
    print(
        f"{'true difference':<20} {'examples':>9} {'false equal':>12} {'false differs':>14} {'equal':>7} {'differs':>8}"
    )
    rows = []
    for truth in (truth for truth in _TRUTHS if options.truth in (None, truth.name)):
        for examples in (options.examples,) if options.examples else counts:
            found = _counts(rng, truth, examples=examples, studies=studies)
            rows.append({"truth": truth.name, "examples": examples, "studies": studies, **found})
            print(
                f"{truth.name:<20} {examples:>9,} {found['false_equal']:>12.1f} {found['false_differs']:>14.1f} "
                f"{found['equal']:>7.1f} {found['differs']:>8.1f}",
                flush=True,
            )
    worst = {key: max(row[key] for row in rows) for key in ("false_equal", "false_differs")}
    print(f"\nworst: false equal {worst['false_equal']:.1f} %, false differs {worst['false_differs']:.1f} % of studies")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
