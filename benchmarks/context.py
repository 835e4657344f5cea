"""How far logits move by what a model must not see: where the limits of backends/context.py come from.

Each family with weights as they are drawn and spread ones, in fp32 and bf16, as a share of the largest logit:
asked again; a causal model when what follows changes; an encoder, taken for a causal one, when what follows changes.
The first two are healthy and have to stay below the limit, the third above.

    python -m benchmarks.context
"""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.common import arguments
from benchmarks.families import CAUSAL, FAMILIES, make_examples, make_model
from lossary.backends.context import few_of, later_changed, moved, unseen_limit
from lossary.backends.torch.targets import array_of, inputs_of, trimmed
from lossary.data.examples import Examples


def main() -> None:
    """Measures and prints; exits 1 where a limit lies on the wrong side."""
    arguments(__doc__)
    healthy: dict[int, float] = {16: 0.0, 32: 0.0}
    ahead: dict[int, float] = {16: np.inf, 32: np.inf}
    for family in FAMILIES:
        for spread in (True, False):
            for dtype, bits in ((torch.float32, 32), (torch.bfloat16, 16)):
                again, later = measure(make_model(family, spread=spread).to(dtype))
                side = "below" if family in CAUSAL else "above"
                weights = "spread" if spread else "as drawn"
                print(f"{family:22} {weights:8} {bits} bits: again {again:.1e}, what follows {later:.1e} ({side})")
                healthy[bits] = max(healthy[bits], again, later if family in CAUSAL else 0.0)
                ahead[bits] = ahead[bits] if family in CAUSAL else min(ahead[bits], later)
    for bits in (32, 16):
        print(
            f"{bits} bits: healthy {healthy[bits]:.1e} < limit {unseen_limit(bits):.1e} < sees ahead {ahead[bits]:.1e}"
        )
    sys.exit(not all(healthy[bits] < unseen_limit(bits) < ahead[bits] for bits in (32, 16)))


def measure(model: Any) -> tuple[float, float]:
    """How far the logits before the places that change move when asked again, and when what follows changes."""
    few = few_of(make_examples("GPT-2"), model.config.vocab_size)
    assert few is not None
    few = trimmed(few)
    answers = answers_of(model)
    own = answers(few)
    changed, before = later_changed(few)
    return moved(answers(few), own), moved(answers(changed)[before], own[before])


def answers_of(model: Any) -> Callable[[Examples], NDArray[Any]]:
    """Logits of all targets, row by row."""

    def answers(examples: Examples) -> NDArray[Any]:
        inputs = inputs_of(examples, pad_id=1, device=torch.device("cpu"))
        with torch.no_grad():
            out = model(input_ids=inputs.token_ids, attention_mask=inputs.attention_mask)
        logits = out["prediction_logits"] if "prediction_logits" in out else out["logits"]
        return array_of(logits.reshape(-1, logits.shape[-1])[inputs.flat])

    return answers


if __name__ == "__main__":
    main()
