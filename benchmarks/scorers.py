"""Scores of models of transformers against a loop over one example at a time, without padding, in float64.

The noise is what the same loop gives when it is run again in single precision, as the root of the mean square over
examples. A scorer passes where its nats differ from float64 by no more than three times that, at 1, 7 and 64 examples a
pass and between any two of them, and where it counts the same hits. Models are tiny and random, of real classes, tied
and untied. Each is also opened from a folder, in several files, beside a tokenizer that pads left; and examples of one
segment are held against a loop that gives no token types.

    python -m benchmarks.scorers [--quick]
"""

import json
import sys
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import arguments, clock, temporary_folder
from benchmarks.families import FAMILIES, make_examples, make_model, score_by_hand
from lossary.data.examples import Examples

SIZES = (1, 7, 64)
ALLOWED = 3.0


class Scored(NamedTuple):
    """By example: nats, hits, and nats of the order where it is scored."""

    nats: NDArray[np.float64]
    correct: NDArray[np.int32]
    order_nats: NDArray[np.float64]


def main() -> None:
    """Measures and prints; exits 1 where a family is beyond three times the noise, or counts otherwise."""
    options = arguments(__doc__)
    count, seeds = (40, 1) if options.quick else (300, 3)
    started = clock()
    print(f"{count} examples, {seeds} models a family; nats of an example, root mean square; ratio to the noise")
    titles = [f"batch {size}" for size in SIZES]
    print(f"{'':22}{'noise':>9}{''.join(f'{title:>10}' for title in titles)}{'apart':>8}{'folder':>8}  counts")
    worst, wrong = 0.0, []
    for family in FAMILIES:
        rows = [compare(family, seed, count) for seed in range(seeds)]
        noise = float(np.mean([row["noise"] for row in rows]))
        ratios = [max(row[key] for row in rows) for key in (*map(str, SIZES), "apart", "folder")]
        equal = all(row["equal"] for row in rows)
        told = "".join(f"{ratio:{width}.2f}" for ratio, width in zip(ratios, (10, 10, 10, 8, 8), strict=True))
        print(f"{family:22}{noise:9.1e}{told}  {'equal' if equal else 'DIFFER'}", flush=True)
        worst = max(worst, *ratios)
        wrong += [] if equal and max(ratios) <= ALLOWED else [family]
    verdict = f"wrong: {', '.join(wrong)}" if wrong else "counts equal"
    print(f"worst ratio {worst:.2f} (allowed {ALLOWED}); {verdict}")
    print(f"{clock() - started:.0f} s")
    sys.exit(1 if wrong else 0)


def compare(family: str, seed: int, count: int) -> dict[str, Any]:
    """Ratios of one model to the noise, by examples a pass."""
    from lossary.backends.torch.scorer import HuggingFaceScorer

    examples, model = make_examples(family, count=count, seed=seed), make_model(family, seed=seed)
    exact, single = (score_by_hand(model, examples, double=double) for double in (True, False))
    noise = rms(single.nats - exact.nats)
    found = {size: score(HuggingFaceScorer(model), examples, size) for size in SIZES}
    ratios = {str(size): rms(scored.nats - exact.nats) / noise for size, scored in found.items()}
    apart = max(rms(a.nats - b.nats) for a, b in combinations(found.values(), 2)) / noise
    with temporary_folder() as name:
        reopened = score(opened(model, Path(name)), examples, 64)
    folder = rms(reopened.nats - exact.nats) / noise
    equal = all(np.array_equal(scored.correct, exact.correct) for scored in (*found.values(), reopened))
    if family == "ALBERT with SOP":
        equal &= all(np.allclose(scored.order_nats, exact.order_nats, atol=1e-5) for scored in found.values())
    return {
        **ratios,
        "apart": max(apart, without_types(model, examples)),
        "folder": folder,
        "noise": noise,
        "equal": equal,
    }


def without_types(model: Any, examples: Examples) -> float:
    """How far examples of one segment are from those that are given no token types, as a ratio to the noise."""
    from lossary.backends.torch.scorer import HuggingFaceScorer

    single = replace(examples, segment_ids=np.zeros_like(examples.segment_ids))
    exact, rough = (score_by_hand(model, single, double=double, types=False) for double in (True, False))
    found = score(HuggingFaceScorer(model), single, 64)
    return rms(found.nats - exact.nats) / rms(rough.nats - exact.nats)


def opened(model: Any, folder: Path) -> Any:
    """The model from a folder, in parts, beside the settings of a tokenizer that pads left."""
    from transformers.utils import logging

    from lossary.backends.torch.huggingface import open_huggingface

    logging.disable_progress_bar()
    model.save_pretrained(folder, max_shard_size="20KB")
    (folder / "tokenizer_config.json").write_text(json.dumps({"padding_side": "left"}))
    return open_huggingface(folder, device="cpu")


def score(scorer: Any, examples: Examples, size: int) -> Scored:
    """Examples in their order, so many a pass."""
    starts = range(0, len(examples), size)
    rows = [scorer.score(examples.take(np.arange(start, min(start + size, len(examples))))).rows for start in starts]
    return Scored(
        *(np.concatenate([getattr(row, name) for row in rows]) for name in ("mlm_nats", "mlm_correct", "sop_nats"))
    )


def rms(values: NDArray[np.float64]) -> float:
    """The root of the mean square."""
    return float(np.sqrt((values**2).mean()))


if __name__ == "__main__":
    main()
