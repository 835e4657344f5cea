"""Examples built a second on one core at length 128, against `DataCollatorForLanguageModeling` over `datasets`.

Ours: shuffling, gathering spans, splitting, swapping, masking whole-word n-grams, laying out. The peer: token ids of
the same examples in a DataLoader that shuffles, padded to 128 and masked piece by piece; no segments, words or n-grams.
The last line is the ratio; targets: 20,000 examples a second, 15, and at most 3 % of a training step's time (torch,
ALBERT 6 × 256, batch 32).

    python -m benchmarks.batches [--quick]
"""

import os
from pathlib import Path

import numpy as np

from benchmarks.common import alternate, arguments, clock, prepared_study, temporary_folder
from lossary.data.batches import TrainingData, micro_batches


def main() -> None:
    """Measures and prints."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    import torch

    options = arguments(__doc__)
    with temporary_folder() as name:
        study, folder = prepared_study(Path(name), vocabulary=8000, batch=256)
        cores = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(cores)})
        data = TrainingData(study, folder, "torch")
        batches = 10 if options.quick else 60
        ours, peer = alternate(2 if options.quick else 5, lambda: build(data, batches), collator(data))
        os.sched_setaffinity(0, cores)
        torch.set_num_threads(2)
        share = share_of_step(data)
    print(f"lossary                         {ours:10,.0f} examples/s")
    print(f"DataCollatorForLanguageModeling {peer:10,.0f} examples/s")
    print(f"share of a training step        {share:10.2%}")
    print(f"ratio={ours / peer:.1f}")


def build(data: TrainingData, batches: int) -> float:
    """Examples a second of `batches` batches of 256."""
    data.batch(0)
    start = clock()
    for step in range(batches):
        data.batch(step)
    return batches * data.batch_size / (clock() - start)


def collator(data: TrainingData):  # type: ignore[no-untyped-def]
    """The peer on the tokens of some batches, in a DataLoader of this process, one thread."""
    import datasets
    import torch
    from tokenizers import Tokenizer, models
    from transformers import DataCollatorForLanguageModeling, PreTrainedTokenizerFast

    torch.set_num_threads(1)
    vocabulary = {f"t{i}": i for i in range(8000)}
    fast = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(vocabulary, unk_token="t1")),
        pad_token="t0",
        unk_token="t1",
        cls_token="t2",
        sep_token="t3",
        mask_token="t4",
    )
    collate = DataCollatorForLanguageModeling(fast, mlm_probability=0.15, pad_to_multiple_of=128)
    batches = [data.batch(step) for step in range(8)]
    rows = [(batch, i, int(batch.lengths[i])) for batch in batches for i in range(len(batch))]
    table = datasets.Dataset.from_dict(
        {
            "input_ids": [batch.token_ids[i, :n].tolist() for batch, i, n in rows],
            "token_type_ids": [batch.segment_ids[i, :n].tolist() for batch, i, n in rows],
            "attention_mask": [[1] * n for _, _, n in rows],
        }
    )

    def measure() -> float:
        start = clock()
        for _ in torch.utils.data.DataLoader(table, batch_size=32, shuffle=True, collate_fn=collate):
            pass
        return len(table) / (clock() - start)

    return measure


def share_of_step(data: TrainingData) -> float:
    """Time to build a batch of 32 over the time to train on it."""
    from lossary.backends.torch.backend import TorchBackend
    from lossary.models.parameters import initial_parameters
    from lossary.models.shapes import AlbertShape
    from lossary.models.update_laws import UpdateLaw

    data.batch_size = 32
    shape = AlbertShape(vocabulary_size=8000, hidden_size=256, num_layers=6, num_heads=4, intermediate_size=1024)
    backend = TorchBackend(shape, device="cpu")
    backend.load_parameters(initial_parameters(shape, 0))
    backend.set_law(UpdateLaw(name="adamw"))
    building, training = [], []
    for step in range(12):
        start = clock()
        batch = data.batch(step)
        parts = [part.examples for part in micro_batches(batch, max_tokens=8192, sequence_length=128)]
        middle = clock()
        backend.train_step(
            parts, (float(batch.masked.sum()), float((batch.sop_labels >= 0).sum())), step=step, rate=1e-4
        )
        building.append(middle - start)
        training.append(clock() - middle)
    return float(np.median(building) / np.median(training))


if __name__ == "__main__":
    main()
