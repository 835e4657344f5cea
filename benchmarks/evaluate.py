"""Examples scored a second, against `Trainer.evaluate` with a dict of the same datasets, and against a loop by hand.

The same model, the same frozen examples. ALBERT (6 × 256, torch backend), two threads: the Trainer pads to 128, and
scores at batch sizes 1, 7 and 64 are compared example by example. BERT and ModernBERT (6 × 256), one thread, in
time of its processor, which other work on the machine changes little: the Trainer and the loop pad each batch to its
longest example, and both compute logits at every position, as models of transformers do. Losses by dataset are held
against the loop's, and the Trainer's against the same means of its batches. The last line is the smallest ratio to the
Trainer; targets are 2.5, and 1.5 to the loop.

    python -m benchmarks.evaluate [--quick] [--models albert,bert,modernbert]
"""

import json
import sys
import tempfile
from pathlib import Path
from time import process_time
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
        validation = load_validation(StudyFolder(Path(job["root"])))
        is_encoder = job["side"] == "encoder"
        found = Encoder(job["model"]).sides(validation, job["rounds"]) if is_encoder else SIDES[job["side"]](validation)
        print(json.dumps(found))
        return
    options = arguments(__doc__, ("--models", "albert,bert,modernbert"))
    ratios = []
    with temporary_folder() as name:
        prepared_study(Path(name), vocabulary=VOCABULARY, validation=160 if options.quick else 1200)
        for model in options.models.split(","):
            measure = albert if model == "albert" else encoder
            ratios.append(measure(name, model, 1 if options.quick else 3))
    print(f"ratio={min(ratios):.2f}")


def _run(side: str, root: str, model: str) -> dict[str, Any]:
    job = {"side": side, "root": root, "model": model}
    return in_process("benchmarks.evaluate", job, OMP_NUM_THREADS="2")


def albert(root: str, model: str, rounds: int) -> float:
    """Prints both sides and what batch sizes change; returns the ratio."""
    sides = ("lossary", "trainer")
    ours, peer = alternate(rounds, *((lambda s=side: float(_run(s, root, model)["examples_per_s"])) for side in sides))
    print(f"ALBERT: lossary          {ours:8,.1f} examples/s")
    print(f"ALBERT: Trainer.evaluate {peer:8,.1f} examples/s, padded to {LENGTH}: {ours / peer:.2f}")
    for size, found in _run("invariance", root, model).items():
        print(
            f"batch size {size:>3}   nats differ by at most {found['nats']:.1e} relative, counts in {found['counts']}"
        )
    return ours / peer


def encoder(root: str, model: str, rounds: int) -> float:
    """Prints three sides of an encoder of transformers; returns the ratio to the Trainer. Exits if losses differ."""
    job = {"side": "encoder", "root": root, "model": model, "rounds": rounds}
    found = in_process("benchmarks.evaluate", job, OMP_NUM_THREADS="1")
    ours, trainer, loop = (found["examples_per_s"][side] for side in ("lossary", "trainer", "loop"))
    print(f"{model}: lossary                       {ours:8,.1f} examples/s")
    print(f"{model}: Trainer.evaluate, dynamic     {trainer:8,.1f} examples/s: {ours / trainer:.2f}")
    print(f"{model}: a loop, dynamic, all logits   {loop:8,.1f} examples/s: {ours / loop:.2f}")
    print(f"{model}: losses off by {found['losses']:.1e}, the Trainer's means by {found['means']:.1e} relative")
    if max(found["losses"], found["means"]) > 1e-4:
        sys.exit(f"{model}: the sides do not compute the same")
    return float(ours / trainer)


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


def _trainer_settings() -> Any:
    """How `Trainer` evaluates: in batches of 32, and nothing but losses."""
    from transformers import TrainingArguments

    return TrainingArguments(
        output_dir=str(Path(tempfile.gettempdir()) / "lossary-benchmark-unused"),
        per_device_eval_batch_size=32,
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        prediction_loss_only=True,
    )


def trainer_side(validation: ValidationSet) -> dict[str, float]:
    """Trainer.evaluate with a dict of datasets."""
    import torch
    from transformers import AlbertConfig, AlbertForPreTraining, Trainer

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
    model = AlbertForPreTraining(AlbertConfig.from_dict(hf_config(SHAPE)))
    trainer = Trainer(model=model, args=_trainer_settings(), eval_dataset=datasets)
    start = clock()
    trainer.evaluate()
    return {"examples_per_s": len(padded) / (clock() - start)}


class Encoder:
    """A random encoder of transformers with a head over the study's vocabulary, and the sides that score it."""

    def __init__(self, family: str) -> None:
        import torch
        import transformers

        torch.set_num_threads(1)
        torch.manual_seed(0)
        sizes = {"vocab_size": VOCABULARY, "hidden_size": 256, "num_hidden_layers": 6, "num_attention_heads": 4}
        kind = {"bert": transformers.BertForMaskedLM, "modernbert": transformers.ModernBertForMaskedLM}[family]
        wide = {"bert": 1024, "modernbert": 384}[family]
        ends = {"pad_token_id": 0, "cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
        self.model = kind(kind.config_class(**sizes, **ends, intermediate_size=wide, max_position_embeddings=LENGTH))
        self.model.eval()
        self.has_types = family == "bert"

    def sides(self, validation: ValidationSet, rounds: int) -> dict[str, Any]:
        """Figures of all sides in turn, after one that imports; and how far losses and means are apart."""
        self.scorer(validation)
        calls = {"lossary": self.scorer, "trainer": self.trainer, "loop": self.loop}
        last: dict[str, dict[str, Any]] = {}

        def figure(side: str) -> float:
            last[side] = calls[side](validation)
            return float(last[side]["examples_per_s"])

        figures = alternate(rounds, *((lambda s=side: figure(s)) for side in calls))
        pairs = [("losses", last["lossary"], last["loop"]), ("means", last["trainer"], last["loop"])]
        off = {what: max(abs(a[what][n] / b[what][n] - 1) for n in b[what]) for what, a, b in pairs}
        return {"examples_per_s": dict(zip(calls, figures, strict=True)), **off}

    def scorer(self, validation: ValidationSet) -> dict[str, Any]:
        """lossary's scores, stored as it stores them."""
        from lossary.backends.torch.scorer import HuggingFaceScorer
        from lossary.results.scorefile import ScoreFile
        from lossary.scoring.evaluate import Asked, score_study

        asked = Asked(run="encoder", step=0)
        (validation.folder.scores("encoder", 0)).unlink(missing_ok=True)
        start = process_time()
        path = score_study(validation.folder, HuggingFaceScorer(self.model), asked, emit=lambda _: None)
        seconds = process_time() - start
        sums = ScoreFile(path).sums()["mlm"]
        losses = {name: sums[name].nats.y / sums[name].nats.x for name in validation.datasets}
        return {"examples_per_s": len(validation) / seconds, "losses": losses}

    def trainer(self, validation: ValidationSet) -> dict[str, Any]:
        """Trainer.evaluate with a dict of datasets, each batch padded to its longest example."""
        import torch
        from transformers import Trainer

        datasets = _rows(validation, has_types=self.has_types)

        def collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
            return {name: torch.from_numpy(values) for name, values in _padded(rows).items()}

        trainer = Trainer(model=self.model, args=_trainer_settings(), eval_dataset=datasets, data_collator=collate)
        start = process_time()
        metrics = trainer.evaluate()
        seconds = process_time() - start
        means = {name: metrics[f"eval_{name}_loss"] for name in validation.datasets}
        return {"examples_per_s": len(validation) / seconds, "means": means}

    def loop(self, validation: ValidationSet) -> dict[str, Any]:
        """What people write: batches padded to their longest example, all logits, a sum of cross entropies."""
        import torch
        from torch.nn.functional import cross_entropy

        datasets = _rows(validation, has_types=self.has_types)
        losses, means = {}, {}
        start = process_time()
        with torch.no_grad():
            for name, rows in datasets.items():
                nats, targets, weighted = 0.0, 0, 0.0
                for first in range(0, len(rows), 32):
                    batch = {key: torch.from_numpy(v) for key, v in _padded(rows[first : first + 32]).items()}
                    labels = batch.pop("labels")
                    logits = self.model(**batch).logits
                    total = float(cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum"))
                    count = int((labels != -100).sum())
                    nats, targets = nats + total, targets + count
                    weighted += total / count * len(labels)
                losses[name], means[name] = nats / targets, weighted / len(rows)
        seconds = process_time() - start
        return {"examples_per_s": len(validation) / seconds, "losses": losses, "means": means}


def _rows(validation: ValidationSet, *, has_types: bool) -> dict[str, list[dict[str, Any]]]:
    """Examples as a dataset of transformers has them, by dataset, without padding."""
    examples = validation.examples
    datasets: dict[str, list[dict[str, Any]]] = {name: [] for name in validation.datasets}
    for i in range(len(examples)):
        length, targets = int(examples.lengths[i]), int(examples.masked[i])
        labels = np.full(length, -100, np.int64)
        labels[examples.positions[i, :targets]] = examples.labels[i, :targets]
        row = {"labels": labels, "input_ids": examples.token_ids[i, :length].astype(np.int64)}
        if has_types:
            row["token_type_ids"] = examples.segment_ids[i, :length].astype(np.int64)
        datasets[validation.datasets[examples.dataset[i]]].append(row)
    return datasets


def _padded(rows: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """A batch as long as its longest example."""
    longest = max(len(row["input_ids"]) for row in rows)
    names = ["attention_mask", *rows[0]]
    batch = {name: np.full((len(rows), longest), -100 if name == "labels" else 0, np.int64) for name in names}
    for i, row in enumerate(rows):
        batch["attention_mask"][i, : len(row["input_ids"])] = 1
        for name, values in row.items():
            batch[name][i, : len(values)] = values
    return batch


SIDES = {"lossary": lossary_side, "trainer": trainer_side, "invariance": invariance}

if __name__ == "__main__":
    main()
