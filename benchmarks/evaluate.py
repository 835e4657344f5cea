"""Examples scored a second, against `Trainer.evaluate` with a dict of the same datasets; and what batch size changes.

The same model (ALBERT 6 × 256, torch), the same frozen examples, two threads; the peer pads to 128 and computes logits
at every position. Scores at batch sizes 1, 7 and 64 are compared example by example. The last line is the ratio;
target 2.5.

    python -m benchmarks.evaluate [--quick]
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.common import alternate, arguments, clock, in_process, prepared_study, temporary_folder
from benchmarks.train import LENGTH, SHAPE, VOCABULARY
from lossary.data.validation import ValidationSet, load_validation
from lossary.folder import StudyFolder
from lossary.models.parameters import hf_config, initial_parameters


def main() -> None:
    """Measures and prints."""
    if "--job" in sys.argv:
        job = json.loads(sys.argv[sys.argv.index("--job") + 1])
        print(json.dumps(SIDES[job["side"]](load_validation(StudyFolder(Path(job["root"]))))))
        return
    options = arguments(__doc__)
    with temporary_folder() as name:
        prepared_study(Path(name), vocabulary=VOCABULARY, validation=160 if options.quick else 1200)

        def side(which: str):  # type: ignore[no-untyped-def]
            job = {"side": which, "root": name}
            return lambda: float(in_process("benchmarks.evaluate", job, OMP_NUM_THREADS="2")["examples_per_s"])

        ours, peer = alternate(1 if options.quick else 3, side("lossary"), side("trainer"))
        invariance = in_process("benchmarks.evaluate", {"side": "invariance", "root": name}, OMP_NUM_THREADS="2")
    print(f"lossary          {ours:8,.1f} examples/s")
    print(f"Trainer.evaluate {peer:8,.1f} examples/s")
    for size, found in invariance.items():
        print(
            f"batch size {size:>3}   nats differ by at most {found['nats']:.1e} relative, counts in {found['counts']}"
        )
    print(f"ratio={ours / peer:.2f}")


def _score(validation: ValidationSet, batch_size: int | None) -> Any:
    from lossary.backends.torch.backend import TorchBackend
    from lossary.results.records import ScoreHeader
    from lossary.scoring.score import BackendScorer, score_windows
    from lossary.scoring.views import open_view

    backend = TorchBackend(SHAPE, device="cpu")
    backend.load_parameters(initial_parameters(SHAPE, 0))
    header = ScoreHeader(run="x", step=0, objectives=("mlm", "sop"))
    scorer = BackendScorer(backend=backend, objectives=header.objectives)
    start = clock()
    table = pa.concat_tables(
        score_windows(
            scorer,
            open_view(validation.folder, None, "mlm").windows(),
            header,
            total=len(validation),
            batch_size=batch_size,
            emit=lambda _: None,
        )
    )
    return table, clock() - start


def lossary_side(validation: ValidationSet) -> dict[str, float]:
    """All scores of all examples."""
    _, seconds = _score(validation, None)
    return {"examples_per_s": len(validation.examples) / seconds}


def invariance(validation: ValidationSet) -> dict[str, dict[str, float]]:
    """Differences of scores at other batch sizes from those at the default."""
    reference, _ = _score(validation, None)
    found = {}
    for size in (1, 7, 64):
        table, _ = _score(validation, size)
        a, b = (t["nats"].to_numpy() for t in (reference, table))
        counts = sum(
            int(np.count_nonzero(reference[c].to_numpy() != table[c].to_numpy())) for c in ("targets", "correct")
        )
        found[str(size)] = {"nats": float(np.max(np.abs(a - b) / np.maximum(np.abs(a), 1e-12))), "counts": counts}
    return found


def trainer_side(validation: ValidationSet) -> dict[str, float]:
    """Trainer.evaluate with a dict of datasets."""
    import torch
    from transformers import AlbertConfig, AlbertForPreTraining, Trainer, TrainingArguments

    torch.set_num_threads(2)
    examples = validation.examples
    padded = examples.padded(length=LENGTH, predictions=examples.positions.shape[1], rows=len(examples))
    labels = np.full(padded.token_ids.shape, -100, np.int64)
    row, column = np.nonzero(padded.weights)
    labels[row, padded.positions[row, column]] = padded.labels[row, column]
    datasets: dict[str, list[dict[str, Any]]] = {name: [] for name in validation.datasets}
    for i in range(len(padded)):
        datasets[validation.datasets[padded.dataset[i]]].append(
            {
                "input_ids": padded.token_ids[i].astype(np.int64),
                "attention_mask": padded.attention_mask[i].astype(np.int64),
                "token_type_ids": padded.segment_ids[i].astype(np.int64),
                "labels": labels[i],
                "sentence_order_label": np.int64(padded.sop_labels[i]) if padded.sop_labels[i] >= 0 else np.int64(-100),
            }
        )
    settings = TrainingArguments(
        output_dir="/tmp/unused",
        per_device_eval_batch_size=32,
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        prediction_loss_only=True,
    )
    model = AlbertForPreTraining(AlbertConfig.from_dict(hf_config(SHAPE)))
    trainer = Trainer(model=model, args=settings, eval_dataset=datasets)
    start = clock()
    trainer.evaluate()
    return {"examples_per_s": len(padded) / (clock() - start)}


SIDES = {"lossary": lossary_side, "trainer": trainer_side, "invariance": invariance}

if __name__ == "__main__":
    main()
