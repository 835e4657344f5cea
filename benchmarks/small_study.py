"""A study of two datasets and two runs, PyTorch beside TensorFlow, whose whole course takes seconds."""

import json
import random
from pathlib import Path

__all__ = ["RUNS", "STEPS", "write_study"]

RUNS = {"torch_a": "torch", "tf_a": "tensorflow"}
STEPS = 8
_SYLLABLES = ["ba", "ke", "lo", "mi", "nu", "pra", "sto", "vel", "zan", "qui", "rof", "tis"]
_STUDY = """
name = "small"
seed = 3
[tokenizer]
vocabulary_size = 120
sample_bytes = 100000
[datasets.pairs]
source = "pairs.jsonl"
text = ["query", "answer"]
[datasets.stories]
source = "stories.jsonl"
[validation]
examples = 60
shares = {{ pairs = 0.25, stories = 0.75 }}
[recipe]
sequence_length = 32
batch_size = 8
steps = {steps}
checkpoint_every = 4
keep_checkpoints = 2
[recipe.optimizer]
name = "adamw"
learning_rate = 0.003
warmup = 2
"""
_RUN = """[runs.{name}]
backend = "{backend}"
size = {{ from = "base", width = 0.0208, depth = 0.0833 }}
"""


def write_study(root: Path, *, steps: int = STEPS, documents: int = 300) -> None:
    """Writes sources and study file."""
    root.mkdir(parents=True)
    rng = random.Random(0)
    words = [a + b + c for a in _SYLLABLES for b in _SYLLABLES for c in ["", _SYLLABLES[0]]]

    def sentence() -> str:
        return " ".join(rng.choices(words, k=rng.randint(3, 8))) + "."

    pairs = [{"query": sentence(), "answer": sentence()} for _ in range(documents)]
    stories = [{"text": " ".join(sentence() for _ in range(rng.randint(1, 8)))} for _ in range(documents)]
    for name, rows in (("pairs", pairs), ("stories", stories)):
        (root / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    runs = "".join(_RUN.format(name=name, backend=backend) for name, backend in RUNS.items())
    (root / "study.toml").write_text(_STUDY.format(steps=steps) + runs)
