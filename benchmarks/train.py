"""Real tokens a second in training, against transformers' `Trainer` (torch) and KerasHub's `AlbertMaskedLM.fit`.

The same model (ALBERT 6 × 256), the same examples, batch 32, two threads; the peers pad to 128 as they do by default,
and the torch peer computes logits at every position. Each side runs in a process of its own, in turn; steps before the
clock starts warm it up. The last line is torch's ratio; targets: 2 for torch, 1.5 for tensorflow.

    python -m benchmarks.train [--quick]
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import alternate, arguments, clock, in_process, prepared_study, temporary_folder
from lossary.data.batches import TrainingData, micro_batches
from lossary.folder import StudyFolder
from lossary.models.shapes import AlbertShape
from lossary.study_file import parse_study

VOCABULARY = 8000
LENGTH = 128
WARM = 3
SHAPE = AlbertShape(vocabulary_size=VOCABULARY, hidden_size=256, num_layers=6, num_heads=4, intermediate_size=1024)


def main() -> None:
    """Measures and prints."""
    if "--job" in sys.argv:
        job = json.loads(sys.argv[sys.argv.index("--job") + 1])
        print(json.dumps({"tokens_per_s": SIDES[job["side"]](Path(job["root"]), job["steps"])}))
        return
    options = arguments(__doc__)
    with temporary_folder() as name:
        prepared_study(Path(name), vocabulary=VOCABULARY)
        steps = 4 if options.quick else 25

        def side(which: str, backend: str):  # type: ignore[no-untyped-def]
            job = {"side": which, "root": name, "steps": steps}
            environment = {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", "OMP_NUM_THREADS": "2"}
            return lambda: float(in_process("benchmarks.train", job, **environment)["tokens_per_s"])

        figures = alternate(
            1 if options.quick else 3,
            side("lossary", "torch"),
            side("trainer", "torch"),
            side("lossary keras", "tensorflow"),
            side("fit", "tensorflow"),
        )
    ours, trainer, keras, fit = figures
    print(f"torch       lossary {ours:8,.0f} tokens/s, transformers Trainer {trainer:8,.0f}")
    print(f"tensorflow  lossary {keras:8,.0f} tokens/s, AlbertMaskedLM.fit   {fit:8,.0f}: ratio={keras / fit:.2f}")
    print(f"ratio={ours / trainer:.2f}")


def training_data(root: Path) -> TrainingData:
    """The batches of the prepared study."""
    return TrainingData(parse_study((root / "study.toml").read_text()), StudyFolder(root), "torch")


def lossary_side(name: str, root: Path, steps: int) -> float:
    """The loop of a run without its records."""
    from lossary.backends.api import load_backend
    from lossary.models.parameters import initial_parameters
    from lossary.models.update_laws import UpdateLaw

    data = training_data(root)
    backend = load_backend(name)(SHAPE, device="cpu")
    backend.load_parameters(initial_parameters(SHAPE, 0))
    backend.set_law(UpdateLaw(name="adamw"))
    tokens, start = 0, 0.0
    for step in range(WARM + steps):
        if step == WARM:
            tokens, start = 0, clock()
        batch = data.batch(step)
        micro = micro_batches(
            batch, max_tokens=backend.max_tokens, sequence_length=LENGTH, few_shapes=backend.few_shapes
        )
        denominators = (float(batch.masked.sum()), float((batch.sop_labels >= 0).sum()))
        backend.train_step([part.examples for part in micro], denominators, step=step, rate=5e-4)
        tokens += batch.tokens
    return tokens / (clock() - start)


def padded_batches(root: Path, steps: int) -> tuple[list[Any], int]:
    """The same examples, padded to 128, and the real tokens after the warm-up."""
    data = training_data(root)
    batches = [data.batch(step) for step in range(WARM + steps)]
    tokens = sum(batch.tokens for batch in batches[WARM:])
    return [batch.padded(length=LENGTH, predictions=20, rows=len(batch)) for batch in batches], tokens


def trainer_side(root: Path, steps: int) -> float:
    """transformers' Trainer on AlbertForPreTraining."""
    import torch
    from transformers import AlbertConfig, AlbertForPreTraining, Trainer, TrainerCallback, TrainingArguments

    from lossary.models.parameters import hf_config

    torch.set_num_threads(2)
    batches, tokens = padded_batches(root, steps)
    rows = []
    for batch in batches:
        labels = np.full(batch.token_ids.shape, -100, np.int64)
        row, column = np.nonzero(batch.weights)
        labels[row, batch.positions[row, column]] = batch.labels[row, column]
        rows += [
            {
                "input_ids": batch.token_ids[i].astype(np.int64),
                "attention_mask": batch.attention_mask[i].astype(np.int64),
                "token_type_ids": batch.segment_ids[i].astype(np.int64),
                "labels": labels[i],
                "sentence_order_label": np.int64(batch.sop_labels[i]) if batch.sop_labels[i] >= 0 else np.int64(-100),
            }
            for i in range(len(batch))
        ]

    class Clock(TrainerCallback):  # type: ignore[misc]
        started = 0.0

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            del args, control
            if state.global_step == WARM:
                self.started = clock()

    watch = Clock()
    settings = TrainingArguments(
        output_dir=str(root / "trainer"),
        per_device_train_batch_size=32,
        max_steps=WARM + steps,
        learning_rate=5e-4,
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
    )
    model = AlbertForPreTraining(AlbertConfig.from_dict(hf_config(SHAPE)))
    Trainer(model=model, args=settings, train_dataset=rows, callbacks=[watch]).train()
    return tokens / (clock() - watch.started)


def fit_side(root: Path, steps: int) -> float:
    """KerasHub's AlbertMaskedLM.fit, which has no sentence-order objective."""
    import keras
    import keras_hub

    batches, tokens = padded_batches(root, steps)
    backbone = keras_hub.models.AlbertBackbone(
        vocabulary_size=VOCABULARY,
        num_layers=6,
        num_heads=4,
        hidden_dim=256,
        intermediate_dim=1024,
        embedding_dim=128,
        max_sequence_length=512,
    )
    model = keras_hub.models.AlbertMaskedLM(backbone=backbone, preprocessor=None)
    model.compile(
        optimizer=keras.optimizers.AdamW(5e-4),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        weighted_metrics=[],
        jit_compile=False,
    )

    def stacked(part: list[Any]) -> tuple[dict[str, Any], Any, Any]:
        columns = {
            "token_ids": [batch.token_ids for batch in part],
            "segment_ids": [batch.segment_ids for batch in part],
            "padding_mask": [batch.attention_mask for batch in part],
            "mask_positions": [batch.positions for batch in part],
        }
        inputs = {name: np.concatenate(values) for name, values in columns.items()}
        return inputs, np.concatenate([b.labels for b in part]), np.concatenate([b.weights for b in part])

    for part in (batches[:WARM], batches[WARM:]):
        inputs, labels, weights = stacked(part)
        start = clock()
        model.fit(inputs, labels, sample_weight=weights, batch_size=32, epochs=1, verbose=0, shuffle=False)
    return tokens / (clock() - start)


SIDES = {
    "lossary": lambda root, steps: lossary_side("torch", root, steps),
    "lossary keras": lambda root, steps: lossary_side("tensorflow", root, steps),
    "trainer": trainer_side,
    "fit": fit_side,
}

if __name__ == "__main__":
    main()
