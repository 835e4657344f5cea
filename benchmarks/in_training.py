"""A `Trainer` that scores a study: what its callback costs beside the scoring, and two processes that train together.

The cost is the time of the callback at an evaluation less that of scoring and storing, over the time of training from
one to the next (eight steps and the Trainer's own evaluation), in time of the processor on one thread: digests of
weights, numbers of the table, logging. The first evaluation also imports what they need; it is printed apart.
Then two ranks of gloo train under `torch.distributed.run` on sets of uneven sizes: both have to see the same numbers at
every step, those of the table, and to end. The last line is the cost; target 0.01.

    python -m benchmarks.in_training [--quick]
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

import numpy as np

from benchmarks.common import arguments, in_process, prepared_study, temporary_folder
from benchmarks.train import LENGTH, VOCABULARY
from lossary.folder import StudyFolder

DEADLINE_S = 540


def main() -> None:
    """Measures and prints."""
    if "--job" in sys.argv:
        job = json.loads(sys.argv[sys.argv.index("--job") + 1])
        print(json.dumps(SIDES[job["side"]](StudyFolder(Path(job["root"])), job["steps"])))
        return
    options = arguments(__doc__)
    with temporary_folder() as name:
        prepared_study(Path(name), vocabulary=VOCABULARY, validation=61 if options.quick else 241)
        job = {"side": "overhead", "root": name, "steps": 16 if options.quick else 64}
        found = in_process("benchmarks.in_training", job, OMP_NUM_THREADS="1")
        first, *later = found["beside"]
        print(f"{job['steps']} steps, scored {1 + len(later)} times: training {found['training']:.1f} s, ", end="")
        print(f"scoring {found['scoring']:.1f} s, beside it {first:.3f} s at the first and {median(later):.3f} s later")
        _two_ranks(StudyFolder(Path(name)))
    print(f"ratio={median(later) / (found['training'] / (1 + len(later))):.4f}")


def _two_ranks(folder: StudyFolder) -> None:
    """Trains on two ranks; exits where they differ, or do not end."""
    job = {"side": "rank", "root": str(folder.root), "steps": 4}
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "--module"]
    command = [*launch, "benchmarks.in_training", "--job", json.dumps(job)]
    environment = dict(os.environ) | {"OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    if run.returncode:
        sys.exit(f"two ranks: {run.stderr[-3000:]}")
    seen = [json.loads((folder.root / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    stored = sorted(path.stem for path in (folder.run("ranks") / "scores").iterdir())
    if seen[0] != seen[1] or not seen[0] or stored != [f"{int(step):08}" for step in seen[0]]:
        sys.exit(f"two ranks: they saw {seen}, and {stored} are stored")
    import lossary

    for step, numbers in seen[0].items():
        table = lossary.table(folder.root, runs=["ranks"], step=int(step)).model
        cells = {f"eval_{c.dataset}_{c.metric}": c.value for c in table.cells if c.value is not None}
        if any(numbers[name] != value for name, value in cells.items()):
            sys.exit(f"two ranks: step {step} has {numbers}, and the table {cells}")
    count = len(next(iter(seen[0].values())))
    print(f"two ranks: {len(seen[0])} evaluations, the same {count} numbers on both, each stored once")


class Training:
    """A small BERT on the study's own pieces, and sets whose sizes no number of ranks divides."""

    def __init__(self, folder: StudyFolder, run: str, *, steps: int, every: int, hidden: int, rows: int) -> None:
        import torch
        import transformers

        from lossary.integrations.transformers import LossaryCallback

        torch.set_num_threads(1)
        torch.manual_seed(0)
        config = transformers.BertConfig(
            vocab_size=VOCABULARY,
            hidden_size=hidden,
            num_hidden_layers=4,
            num_attention_heads=4,
            intermediate_size=4 * hidden,
            max_position_embeddings=LENGTH,
        )
        rng = np.random.default_rng(0)
        data = [_row(rng) for _ in range(rows)]
        settings = transformers.TrainingArguments(
            output_dir=str(folder.root / "out"),
            max_steps=steps,
            per_device_train_batch_size=16 if hidden > 64 else 4,
            per_device_eval_batch_size=4,
            eval_strategy="steps",
            eval_steps=every,
            save_strategy="no",
            logging_steps=every,
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
        )
        self.trainer = transformers.Trainer(
            model=transformers.BertForMaskedLM(config),
            args=settings,
            train_dataset=data,
            eval_dataset={"first": data[:5], "second": data[5:8]},
            data_collator=lambda found: {key: torch.tensor(np.stack([row[key] for row in found])) for key in found[0]},
        )
        self.callback = LossaryCallback(folder.root, run=run)
        self.callback.attach(self.trainer)


def _row(rng: np.random.Generator) -> dict[str, Any]:
    ids = rng.integers(5, VOCABULARY, LENGTH)
    labels = np.where(rng.random(LENGTH) < 0.15, ids, -100)
    return {"input_ids": ids, "labels": labels}


def overhead(folder: StudyFolder, steps: int) -> dict[str, Any]:
    """Seconds of processor of training, of scoring, and of the callback beside it."""
    import lossary.scoring.evaluate as scoring

    training = Training(folder, "mine", steps=steps, every=8, hidden=256, rows=160)
    spent: dict[str, list[float]] = {"callback": [], "scoring": []}
    scoring.score_study = _timed(scoring.score_study, spent, "scoring")
    training.callback.on_evaluate = _timed(training.callback.on_evaluate, spent, "callback")  # type: ignore[method-assign]
    start = process_time()
    training.trainer.train()
    whole = process_time() - start
    # Called for both sets of an evaluation, of which the first has the step scored.
    called = [sum(pair) for pair in zip(spent["callback"][::2], spent["callback"][1::2], strict=True)]
    beside = [callback - scoring for callback, scoring in zip(called, spent["scoring"], strict=True)]
    return {"training": whole - sum(called), "scoring": sum(spent["scoring"]), "beside": beside}


def _timed(call: Callable[..., Any], spent: dict[str, list[float]], name: str) -> Callable[..., Any]:
    def timed(*args: Any, **more: Any) -> Any:
        start = process_time()
        try:
            return call(*args, **more)
        finally:
            spent[name].append(process_time() - start)

    return timed


def rank(folder: StudyFolder, steps: int) -> dict[str, float]:
    """Trains as one of two ranks, and writes what it saw at each evaluation."""
    training = Training(folder, "ranks", steps=steps, every=2, hidden=32, rows=21)
    seen: dict[int, dict[str, float]] = {}
    score = training.callback.live.score

    def told(model: Any, step: int) -> dict[str, float]:
        numbers = score(model, step)
        seen[step] = {f"eval_{name}": value for name, value in numbers.items()}
        return numbers

    training.callback.live.score = told  # type: ignore[method-assign]
    training.trainer.train()
    path = folder.root / f"rank{os.environ['RANK']}.json"
    path.write_text(json.dumps(seen))
    return {}


SIDES = {"overhead": overhead, "rank": rank}

if __name__ == "__main__":
    main()
