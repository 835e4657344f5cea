"""Losses, metrics, gradients over micro batches."""

from benchmarks.faults.patching import Fault, Patch

__all__ = ["LOSSES"]

TORCH, KERAS = "torch_trainer.py", "keras_trainer.py"
_TORCH_LOOP = """            loss = self.loss(batch, masked, pairs)
            loss.backward()
"""
_KERAS_LOOP = """                loss = self.loss(batch, masked, pairs)
            gradients"""
_TORCH_WEIGHTS = "    return {name: torch.from_numpy(np.ascontiguousarray(batch[name], np.int64)) for name in names}\n"

LOSSES: tuple[Fault, ...] = (
    Fault(
        code="L1a",
        title="-1 is ignored where -100 is written: every slot is scored",
        source="huggingface/transformers#2759",
        stage="loss",
        expected=frozenset({"unmasked-positions-scored", "padding-scored", "accuracy-over-all-slots"}),
        patches={
            "torch": (Patch(TORCH, "IGNORE = -100\n", "IGNORE = -1\n"),),
            "keras": (
                Patch(
                    KERAS,
                    'tf.constant(np.asarray(batch["weights"], np.float32))}',
                    'tf.ones(batch["labels"].shape, tf.float32)}',
                ),
            ),
        },
    ),
    Fault(
        code="L1b",
        title="labels hold every token, and all are scored",
        source="huggingface/transformers#2759",
        stage="loss",
        expected=frozenset({"unmasked-positions-scored"}),
        patches={
            "torch": (
                Patch(
                    TORCH,
                    _TORCH_WEIGHTS,
                    """    batch = {**batch, "mlm_labels": every_label(batch)}
    return {name: torch.from_numpy(np.ascontiguousarray(batch[name], np.int64)) for name in names}


def every_label(batch):
    shown = np.where(batch["attention_mask"] > 0, batch["token_ids"], IGNORE)
    return np.where(batch["mlm_labels"] == IGNORE, shown, batch["mlm_labels"])
""",
                ),
                Patch(
                    "adapter_torch.py",
                    '        labels = feed["mlm_labels"]\n',
                    "        labels = every_label(feed)\n",
                ),
                Patch(
                    "adapter_torch.py",
                    "import IGNORE, Trainer\n",
                    "import IGNORE, Trainer, every_label\n",
                ),
            ),
        },
    ),
    Fault(
        code="L2",
        title="the ignored index is 0: one class of sentence order never counts",
        source="codertimo/BERT-pytorch#49",
        stage="loss",
        expected=frozenset({"class-ignored"}),
        patches={
            "torch": (
                Patch(
                    TORCH,
                    '    nats = F.cross_entropy(logits, labels, ignore_index=-1, reduction="none")\n',
                    '    labels = labels.clamp(min=0)\n    nats = F.cross_entropy(logits, labels, ignore_index=0, reduction="none")\n',
                ),
                Patch(TORCH, "    return nats, (labels >= 0).float()\n", "    return nats, (labels > 0).float()\n"),
                Patch(
                    TORCH,
                    '        pairs = sum(int((batch["sop_labels"] >= 0).sum()) for batch in batches)\n',
                    '        pairs = sum(int((batch["sop_labels"] > 0).sum()) for batch in batches)\n',
                ),
            ),
            "keras": (
                Patch(
                    KERAS,
                    "    labelled = tf.cast(labels >= 0, tf.float32)\n",
                    "    labelled = tf.cast(labels > 0, tf.float32)\n",
                ),
                Patch(
                    KERAS,
                    'tf.math.count_nonzero(batch["sop_labels"] >= 0)',
                    'tf.math.count_nonzero(batch["sop_labels"] > 0)',
                ),
            ),
        },
    ),
    Fault(
        code="L4",
        title="accuracy is unweighted where the loss is weighted",
        source="keras-team/keras#3855",
        stage="loss",
        expected=frozenset({"accuracy-over-all-slots"}),
        patches={
            "torch": (
                Patch(
                    TORCH,
                    '"mlm_accuracy": (mlm_hits * scored).sum() / masked,',
                    '"mlm_accuracy": mlm_hits.mean(),',
                ),
            ),
            "keras": (
                Patch(
                    KERAS,
                    '"mlm_accuracy": tf.reduce_sum(mlm_hits * weights) / masked,',
                    '"mlm_accuracy": tf.reduce_mean(mlm_hits),',
                ),
            ),
        },
    ),
    Fault(
        code="L5",
        title="a mean of the micro batches' means",
        source="huggingface/transformers#17898",
        stage="gradients",
        expected=frozenset({"mean-of-means"}),
        micro_batches=3,
        patches={
            "torch": (
                Patch(
                    TORCH,
                    _TORCH_LOOP,
                    """            loss = self.loss(batch, *self.counts([batch])) / len(batches)
            loss.backward()
""",
                ),
            ),
            "keras": (
                Patch(
                    KERAS,
                    _KERAS_LOOP,
                    """                loss = self.loss(batch, *self.counts([batch])) / len(batches)
            gradients""",
                ),
            ),
        },
    ),
    Fault(
        code="L8",
        title="the loss is summed over micro batches",
        source="huggingface/transformers#37766",
        stage="gradients",
        expected=frozenset({"loss-times-micro-batches"}),
        micro_batches=3,
        patches={
            "torch": (Patch(TORCH, _TORCH_LOOP, _TORCH_LOOP.replace("masked, pairs", "*self.counts([batch])")),),
            "keras": (Patch(KERAS, _KERAS_LOOP, _KERAS_LOOP.replace("masked, pairs", "*self.counts([batch])")),),
        },
    ),
)
