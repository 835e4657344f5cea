"""Runs one backend in a process of its own and stores what it computes; the contract tests compare."""

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lossary.backends.api import load_backend
from lossary.data.examples import Examples
from lossary.models.parameters import initial_parameters
from lossary.models.shapes import AlbertShape
from lossary.models.update_laws import Moments, UpdateLaw

SHAPE = AlbertShape(
    vocabulary_size=60,
    hidden_size=16,
    num_layers=2,
    num_heads=2,
    intermediate_size=32,
    embedding_size=8,
    max_positions=32,
    initializer_range=0.2,
)
UPDATES = 20


def make_examples(rows: int = 7, length: int = 14, seed: int = 5) -> Examples:
    """Ragged examples with and without a sentence-order label."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(5, length + 1, rows).astype(np.int32)
    lengths[0] = length
    used = np.arange(length) < lengths[:, None]
    tokens = np.where(used, rng.integers(5, SHAPE.vocabulary_size, (rows, length)), 0).astype(np.int32)
    tokens[:, 0] = 2
    masked = np.minimum(3, np.maximum(1, lengths // 5)).astype(np.int32)
    positions = np.sort(np.stack([rng.permutation(4)[:3] + 1 for _ in range(rows)]), axis=1).astype(np.int32)
    kept = np.arange(3) < masked[:, None]
    return Examples(
        dataset=np.zeros(rows, np.int16),
        example=np.arange(rows, dtype=np.uint64),
        token_ids=tokens,
        segment_ids=((np.arange(length) > 3) & used).astype(np.int32),
        lengths=lengths,
        positions=np.where(kept, positions, 0).astype(np.int32),
        labels=np.where(kept, rng.integers(5, SHAPE.vocabulary_size, (rows, 3)), 0).astype(np.int32),
        masked=masked,
        sop_labels=rng.integers(-1, 2, rows).astype(np.int8),
        bytes=np.ones(rows, np.int32),
    )


def denominators(examples: Examples) -> tuple[float, float]:
    """Of a whole batch."""
    return float(examples.masked.sum()) + 1e-5, float((examples.sop_labels >= 0).sum())


def main(name: str, path: Path) -> None:
    """Everything the contract asks, in one start of the framework."""
    found: dict[str, np.ndarray] = {}
    kind = load_backend(name)
    if os.environ.get("LOSSARY_PROBE_GPU"):
        backend = kind(SHAPE)
        backend.load_parameters(initial_parameters(SHAPE, 3))
        assert backend.device.startswith("cuda"), backend.device
        batch = make_examples()
        found = {"logits": backend.logits(batch).mlm}
        found |= {f"gradient/{k}": g for k, g in backend.gradients([batch], denominators(batch)).items()}
        np.savez(path, **{key.replace("/", "|"): value for key, value in found.items()})
        return
    backend = kind(SHAPE, device="cpu")
    start = initial_parameters(SHAPE, 3)
    backend.load_parameters(start)
    found |= {f"roundtrip/{key}": value for key, value in backend.parameters().items()}

    batch = make_examples()
    whole = denominators(batch)
    logits = backend.logits(batch)
    found |= {"logits/mlm": logits.mlm, "logits/sop": logits.sop}
    rows = np.arange(len(batch))
    wide = batch.padded(length=20, predictions=5, rows=len(batch) + 3)
    for label, parts in {
        "whole": [batch],
        "split": [batch.take(rows[:3]), batch.take(rows[3:])],
        "filled": [wide],
        "one by one": [batch.take(rows[i : i + 1]) for i in rows],
    }.items():
        scores = [backend.score(part) for part in parts]
        for field in ("mlm_nats", "mlm_correct", "sop_nats", "sop_correct"):
            found[f"score/{label}/{field}"] = np.concatenate([getattr(s.rows, field) for s in scores])[: len(batch)]
        found |= {f"gradient/{label}/{key}": g for key, g in backend.gradients(parts, whole).items()}
    found["positions/nats"] = backend.score(batch).position_nats
    unlabelled = replace(batch, sop_labels=np.full(len(batch), -1, np.int8))
    found |= {f"no sop/{k}": g for k, g in backend.gradients([unlabelled], denominators(unlabelled)).items()}

    for law in (
        UpdateLaw(name="lamb"),
        UpdateLaw(name="adamw"),
        UpdateLaw(name="lamb", clip_norm=None, weight_decay=0),
    ):
        label = f"{law.name}{'' if law.clip_norm else ' unclipped'}"
        backend = kind(SHAPE, device="cpu")
        backend.load_parameters(start)
        backend.load_moments(None)
        backend.set_law(law)
        norms = []
        for step in range(UPDATES):
            norms.append(backend.train_step([batch], whole, step=step, rate=0.01 / (step + 1)).gradient_norm)
            if step == 0:
                found |= {f"first/{label}/{key}": value for key, value in backend.parameters().items()}
        found[f"norms/{label}"] = np.array(norms)
        found |= {f"updated/{label}/{key}": value for key, value in backend.parameters().items()}
        moments = backend.moments()
        found |= {f"m/{label}/{key}": value for key, value in moments.m.items()}
        found |= {f"v/{label}/{key}": value for key, value in moments.v.items()}
        other = kind(SHAPE, device="cpu")
        other.load_parameters(backend.parameters())
        other.load_moments(moments)
        other.set_law(law)
        for continued, who in ((backend, "went on"), (other, "restored")):
            continued.train_step([batch], whole, step=UPDATES, rate=0.001)
            found |= {f"{who}/{label}/{key}": value for key, value in continued.parameters().items()}

    found |= taken_up(kind(SHAPE, device="cpu"), start, batch)
    half = kind(SHAPE, precision="bf16", device="cpu")
    half.load_parameters(start)
    found["bf16/mlm_nats"] = half.score(batch).rows.mlm_nats
    half.load_moments(None)
    half.set_law(UpdateLaw(name="adamw"))
    losses = [
        sum(r.mlm_nats.sum() for r in half.train_step([batch], whole, step=step, rate=0.01).rows)
        for step in range(UPDATES)
    ]
    found["bf16/losses"] = np.array(losses)
    found |= {f"bf16 weights/{key}": value for key, value in half.parameters().items()}
    np.savez(path, **{key.replace("/", "|"): value for key, value in found.items()})


def taken_up(backend: Any, start: dict[str, Any], batch: Examples) -> dict[str, Any]:
    """A state that another backend might have left, the same for all: what is held of it, and three further steps."""
    rng, whole = np.random.default_rng(7), denominators(batch)
    m = {key: rng.normal(0, 1e-3, value.shape).astype(np.float32) for key, value in sorted(start.items())}
    v = {key: (rng.normal(0, 1e-2, value.shape) ** 2).astype(np.float32) for key, value in sorted(start.items())}
    backend.load_parameters(start)
    backend.load_moments(Moments(m, v))
    backend.set_law(UpdateLaw(name="lamb"))
    slots = backend.moments()
    found = {f"taken/m/{key}": np.abs(slots.m[key] - m[key]).max() for key in m}
    found |= {f"taken/v/{key}": np.abs(slots.v[key] - v[key]).max() for key in v}
    steps = [backend.train_step([batch], whole, step=UPDATES + step, rate=0.01) for step in range(3)]
    found["taken losses"] = np.array([sum(row.mlm_nats.sum() for row in step.rows) / whole[0] for step in steps])
    return found | {f"taken weights/{key}": value for key, value in backend.parameters().items()}


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
