"""What a real team's study costs by stage, on paper: time, storage, network and money, at 1, 10 and 100 times its size.

882 million rows of three datasets, ALBERT xxlarge, 512 tokens, batch 4,096, 125,000 steps. Rates are those that the
named benchmarks measured here, on two slow cores; what no machine here could measure is an assumption and says so.
Prints Markdown: docs/at-scale.md holds what it prints.

    python -m benchmarks.at_scale [--gpus 64] [--cores 64] [--bytes-a-row 400]
"""

from dataclasses import dataclass
from typing import Any

from benchmarks.common import arguments
from lossary.models.shapes import operations, shape_of

ROWS, TOKENS, BATCH, STEPS, EXAMPLES = 882e6, 512, 4096, 125_000, 100_000
PIECES, MASKED = 30_000, 0.15

# Measured: bytes of text a second and core (benchmarks.prepare), rows a second that freezing and cutting spans go
# through (benchmarks.memory, 20 million rows in 86 s, one process), examples of 128 tokens a second that batches are
# made of on one core (benchmarks.batches), prepared bytes a byte of text (benchmarks.memory: the worst kind of text).
PREPARED_A_CORE, FROZEN_ROWS, BATCHED, DISK = 14e6, 20e6 / 86, 50_584, 1.75
# Assumed: operations a second of one GPU in bf16 that are used (two fifths of 989e12), dollars an hour of a GPU and of
# a core, dollars a month and gigabyte of storage, bytes a second of the network.
GPU, GPU_HOUR, CORE_HOUR, STORED, NETWORK = 0.4 * 989e12, 2.5, 0.04, 0.023, 1.25e9


@dataclass(frozen=True)
class Stage:
    """What one stage takes."""

    name: str
    hours: float
    dollars: float
    limited_by: str


def main() -> None:
    """Prints the page's tables."""
    options = arguments(__doc__, ("--gpus", 64), ("--cores", 64), ("--bytes-a-row", 400.0))
    scales = (1, 10, 100)
    found = [stages(options, times) for times in scales]
    print(f"| stage | {' | '.join(f'{times} ×' for times in scales)} | dollars at 1 × | limited by |")
    print("|---|" + "---:|" * (len(scales) + 1) + "---|")
    for row in zip(*found, strict=True):
        hours = " | ".join(_time(stage.hours) for stage in row)
        print(f"| {row[0].name} | {hours} | {row[0].dollars:,.0f} | {row[0].limited_by} |")
    print()
    text = ROWS * options.bytes_a_row
    weights = _parameters() * 4
    step, batch = BATCH * TOKENS * _flops_a_token() / GPU / options.gpus, BATCH / (BATCHED * 128 / TOKENS)
    stored, month = text * (1 + DISK) / 1e9, text * (1 + DISK) / 1e9 * STORED
    lines = [
        f"Text {text / 1e9:,.0f} GB; with what is made of it at most {stored:,.0f} GB: {month:,.0f} dollars a month.",
        f"A checkpoint {3 * weights / 1e9:.1f} GB with its moments; gradients of a step {weights / 1e9:.2f} GB a rank.",
        f"{_flops():.2e} operations in training: {_flops() / GPU / 3600:,.0f} GPU hours.",
        f"A step {step:.2f} s on {options.gpus} GPUs; its batch {batch:.2f} s on a core of every rank, made meanwhile: "
        f"it holds training up from {options.gpus * step / batch:,.0f} GPUs on.",
    ]
    print("\n".join(f"- {line}" for line in lines))


def stages(options: Any, times: int) -> list[Stage]:
    """All stages of a study of so many times the rows, and as many times the steps."""
    rows = ROWS * times
    text = rows * options.bytes_a_row
    read = text / NETWORK / 3600
    tokenise = text / PREPARED_A_CORE / options.cores / 3600
    freeze = rows / FROZEN_ROWS / 3600
    train = _flops() * times / GPU / options.gpus / 3600
    score = EXAMPLES * TOKENS * _flops_a_token() / 3 / GPU / options.gpus / 3600
    return [
        Stage("reading the tables once", read, 0, "network"),
        Stage("tokenising", tokenise, tokenise * options.cores * CORE_HOUR, "cores, as many as there are"),
        Stage("splitting, freezing, cutting spans", freeze, freeze * CORE_HOUR, "**one process**"),
        Stage("training", train, train * options.gpus * GPU_HOUR, "GPUs"),
        Stage(f"scoring {EXAMPLES:,} examples", score, score * options.gpus * GPU_HOUR, "GPUs"),
    ]


def _flops_a_token() -> float:
    """Of forward and backward, targets' share of the head included."""
    shape = shape_of("xxlarge", vocabulary_size=PIECES)
    attention = shape.num_layers * 2 * TOKENS * shape.hidden_size
    head = MASKED * shape.embedding_size * (PIECES + shape.hidden_size)
    return 3 * 2 * (operations(shape) + attention + head)


def _flops() -> float:
    return STEPS * BATCH * TOKENS * _flops_a_token()


def _parameters() -> float:
    """Weights of the model: one layer that all share, the pooler, and the embedding."""
    shape = shape_of("xxlarge", vocabulary_size=PIECES)
    h, i, e = shape.hidden_size, shape.intermediate_size, shape.embedding_size
    return 5 * h * h + 2 * h * i + e * (PIECES + shape.max_positions + h)


def _time(hours: float) -> str:
    if hours >= 48:
        return f"{hours / 24:,.1f} days"
    return f"{hours:.1f} h" if hours >= 1 else f"{hours * 60:.1f} min"


if __name__ == "__main__":
    main()
