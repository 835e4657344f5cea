"""Real sizes in three frameworks from the same weights: losses, logits, gradients, one LAMB and one AdamW update.

Everything is held against a float64 replay in PyTorch. The noise of fp32 is what PyTorch itself differs from float64
by, in ways of computing the same: the batch whole on all threads, and twice sequence by sequence on one thread with
every weight moved to a neighbouring float; the largest of them. Of a loss it is at least what that noise in the logits
makes of it, of an update at least what the float64 law makes of that noise in the gradient: where a gradient is near 0,
AdamW's first update turns its rounding into whole steps, and how many is chance. TensorFlow and JAX pass where they
differ from float64 by no more than three times the noise. Differences are relative: of logits, the largest over the
largest value; of gradients and updates, norms over norms, for each parameter. The last line is the worst ratio.

    python -m benchmarks.parity --size xlarge|xxlarge [--sequences 2] [--length 128] [--quick]
"""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import arguments, clock, in_process, neighbours, temporary_folder
from lossary.data.examples import Examples
from lossary.models.parameters import initial_parameters, is_excluded
from lossary.models.shapes import AlbertShape, shape_of
from lossary.models.update_laws import UpdateLaw, reference_update
from lossary.study import ScaledSize

LAWS = {"lamb": UpdateLaw(name="lamb"), "adamw": UpdateLaw(name="adamw")}
RATE = 1e-3
ALLOWED = 3.0
# A shift of all scores of a query changes no softmax: this gradient is zero, and what is computed is rounding.
ZERO_GRADIENT = "attention.key.bias"


def main() -> None:
    """Measures and prints; exits 1 where a framework is beyond three times the noise."""
    if "--job" in sys.argv:
        job = json.loads(sys.argv[sys.argv.index("--job") + 1])
        print(json.dumps(work(job)))
        return
    options = arguments(__doc__, ("--size", "xlarge"), ("--sequences", 0), ("--length", 0))
    small = options.size == "xxlarge"
    sequences, length = options.sequences or (1 if small else 2), options.length or (64 if small else 128)
    job = {"size": options.size, "sequences": sequences, "length": length, "quick": options.quick}
    shape = shape_from(job)
    print(f"{options.size}: {shape.hidden_size} wide, {shape.num_layers} layers; {sequences} × {length} tokens, fp32")
    with temporary_folder() as name:
        sides = (
            ("float64", "torch", 2),
            ("torch", "torch", 2),
            ("torch again", "torch", 1),
            ("tensorflow",) * 2,
            ("jax",) * 2,
        )
        differences: dict[str, dict[str, float]] = {}
        for side, backend, *threads in sides:
            started = clock()
            environment = {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
            environment["OMP_NUM_THREADS"] = str(threads[0] if threads else 2)
            result = in_process(
                "benchmarks.parity", job | {"side": side, "backend": backend, "folder": name}, **environment
            )
            if side != "float64":
                differences[side] = result
            print(f"  {side:<12} {clock() - started:6.0f} s", file=sys.stderr)
    worst = report(differences)
    print(f"ratio={worst:.2f}")
    if worst > ALLOWED:
        sys.exit(1)


def shape_from(job: dict[str, Any]) -> AlbertShape:
    """The real size, or a small one in its shape for a quick look."""
    size = (
        ScaledSize.model_validate({"from": job["size"], "width": 0.0625, "depth": 0.25})
        if job["quick"]
        else job["size"]
    )
    return shape_of(size, vocabulary_size=2000 if job["quick"] else 30000)


def report(differences: dict[str, dict[str, float]]) -> float:
    """A line for each kind of quantity; returns the worst ratio."""
    worst = 0.0
    first, again = differences["torch"], differences["torch again"]
    noise = {name: max(first[name], again[name]) for name in first}
    groups = {
        "loss": [name for name in noise if name.startswith("loss")],
        "logits": [name for name in noise if name.startswith("logits")],
        "gradients": [name for name in noise if name.startswith("gradient/")],
        "LAMB update": [name for name in noise if name.startswith("lamb/")],
        "AdamW update": [name for name in noise if name.startswith("adamw/")],
    }
    print(f"{'':<14}{'noise of fp32':>15}{'tensorflow':>13}{'jax':>11}   worst ratio to the noise")
    for title, names in groups.items():
        ratios = {
            (side, name): differences[side][name] / max(noise[name], 1e-8)
            for side in ("tensorflow", "jax")
            for name in names
        }
        where = max(ratios, key=lambda key: ratios[key])
        largest = [max(part[name] for name in names) for part in (noise, differences["tensorflow"], differences["jax"])]
        print(
            f"{title:<14}{largest[0]:>15.1e}{largest[1]:>13.1e}{largest[2]:>11.1e}   "
            f"{ratios[where]:.2f} {where[0]}, {where[1]} ({noise[where[1]]:.1e})"
        )
        worst = max(worst, ratios[where])
    return worst


def examples_of(shape: AlbertShape, sequences: int, length: int) -> Examples:
    """Random pieces with ragged lengths, masks and order labels."""
    rng = np.random.default_rng(1)
    lengths = np.maximum(length // 2, length - 9 * np.arange(sequences)).astype(np.int32)
    used = np.arange(length) < lengths[:, None]
    masked = np.full(sequences, max(1, round(0.15 * length // 2)), np.int32)
    positions = np.stack([np.sort(rng.permutation(length // 2 - 1)[: masked[0]] + 1) for _ in range(sequences)])
    return Examples(
        dataset=np.zeros(sequences, np.int16),
        example=np.arange(sequences, dtype=np.uint64),
        token_ids=np.where(used, rng.integers(5, shape.vocabulary_size, used.shape), 0).astype(np.int32),
        segment_ids=((np.arange(length) > length // 3) & used).astype(np.int32),
        lengths=lengths,
        positions=positions.astype(np.int32),
        labels=rng.integers(5, shape.vocabulary_size, positions.shape).astype(np.int32),
        masked=masked,
        sop_labels=(np.arange(sequences) % 2).astype(np.int8),
        bytes=np.zeros(sequences, np.int32),
    )


def work(job: dict[str, Any]) -> dict[str, float]:
    """One side: computes and stores (float64), or computes and compares."""
    shape, folder = shape_from(job), Path(job["folder"])
    start = initial_parameters(shape, 0)
    examples = examples_of(shape, job["sequences"], job["length"])
    if job["side"] == "float64":
        replay(shape, start, examples, folder)
        return {}
    from lossary.backends.api import load_backend

    backend = load_backend(job["backend"])(shape, device="cpu")
    if job["side"] == "torch again":
        import torch

        torch.set_num_threads(1)
        parts = [examples.take(np.array([row])) for row in range(len(examples))]
    else:
        parts = [examples]
    if job["side"] == "torch again":
        draws = [neighbours(start, np.random.default_rng(seed)) for seed in (1, 2)]
        found = [compare(backend, draw, (examples, parts), job) for draw in draws]
        return {name: max(one[name] for one in found) for name in found[0]}
    return compare(backend, start, (examples, parts), job)


def compare(backend: Any, start: dict[str, Any], given: tuple[Examples, list[Examples]], job: dict[str, Any]) -> Any:
    """Differences from the float64 replay: logits, losses, gradients, updates."""
    folder, (examples, parts) = Path(job["folder"]), given
    denominators = (float(examples.masked.sum()) + 1e-5, float(len(examples)))
    backend.load_parameters(start)
    found: dict[str, float] = {}
    logits = [backend.logits(part) for part in parts]
    for head in ("mlm", "sop"):
        values = np.concatenate([getattr(part, head) for part in logits])
        found[f"logits {head}"] = largest(values, np.load(folder / f"{head}.npy"))
    scores = [backend.score(part).rows for part in parts]
    for head in ("mlm", "sop"):
        nats = np.concatenate([getattr(rows, f"{head}_nats") for rows in scores])
        found[f"loss {head}"] = largest(nats, np.load(folder / f"{head}-nats.npy"))
        if job["side"] == "torch":
            labels = examples.labels if head == "mlm" else examples.sop_labels[:, None]
            noise = loss_noise(np.load(folder / f"{head}.npy"), labels, found[f"logits {head}"])
            found[f"loss {head}"] = max(found[f"loss {head}"], noise)
    for name, gradient in backend.gradients(parts, denominators).items():
        if ZERO_GRADIENT not in name:
            found[f"gradient/{name}"] = distance(gradient, np.load(folder / f"gradient-{name}.npy"))
    for label, law in LAWS.items():
        backend.load_parameters(start)
        backend.load_moments(None)
        backend.set_law(law)
        backend.train_step(parts, denominators, step=0, rate=RATE)
        for name, value in backend.parameters().items():
            if ZERO_GRADIENT not in name:
                change = value.astype(np.float64) - start[name]
                found[f"{label}/{name}"] = distance(change, np.load(folder / f"{label}-{name}.npy"))
        if job["side"] == "torch":
            for name, value in start.items():
                if ZERO_GRADIENT not in name:
                    jittered = jitter(law, name, value, (folder, found[f"gradient/{name}"]))
                    noise = distance(jittered, np.load(folder / f"{label}-{name}.npy"))
                    found[f"{label}/{name}"] = max(found[f"{label}/{name}"], noise)
    return found


def loss_noise(logits: Any, labels: Any, relative: float) -> float:
    """The largest relative change of a float64 loss by noise in its logits, of the size that fp32 was seen to have."""
    rng = np.random.default_rng(7)
    logits = logits.reshape(len(labels), -1, logits.shape[-1])

    def nats(values: Any) -> Any:
        top = values.max(-1, keepdims=True)
        normaliser = np.log(np.exp(values - top).sum(-1)) + top[..., 0]
        return (normaliser - np.take_along_axis(values, labels[..., None].astype(np.int64), -1)[..., 0]).sum(1)

    size = relative * np.abs(logits).max()
    return max(largest(nats(logits + rng.uniform(-size, size, logits.shape)), nats(logits)) for _ in range(8))


def jitter(law: UpdateLaw, name: str, value: Any, noise: tuple[Path, float]) -> Any:
    """The float64 update by a gradient with normal noise, of the norm that fp32 was seen to have."""
    folder, relative = noise
    gradient = np.load(folder / f"gradient-{name}.npy")
    draw = np.random.default_rng(7).standard_normal(gradient.shape)
    draw *= relative * np.linalg.norm(gradient) / np.linalg.norm(draw)
    return update(law, name, value, gradient + draw, float(np.load(folder / "norm.npy")))


def largest(value: Any, reference: Any) -> float:
    """The largest difference over the largest value."""
    return float(np.abs(value - reference).max() / np.abs(reference).max())


def distance(value: Any, reference: Any) -> float:
    """The norm of the difference over the norm."""
    scale = float(np.linalg.norm(reference))
    return float(np.linalg.norm(value.astype(np.float64) - reference)) / scale if scale else 0.0


def replay(shape: AlbertShape, start: dict[str, Any], examples: Examples, folder: Path) -> None:
    """The same in float64: PyTorch's autograd and the reference update laws."""
    import torch
    from torch.nn.functional import cross_entropy

    from lossary.backends.torch.backend import TorchBackend

    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    backend = TorchBackend(shape, device="cpu")
    backend.load_parameters(start)
    model = backend.model.double()
    ids, mask, segments = (
        torch.from_numpy(values.astype(np.int64))
        for values in (examples.token_ids, examples.attention_mask, examples.segment_ids)
    )
    hidden, pooled = model.albert(input_ids=ids, attention_mask=mask, token_type_ids=segments, return_dict=False)[:2]
    rows = torch.arange(len(examples))[:, None]
    mlm = model.predictions(hidden[rows, torch.from_numpy(examples.positions.astype(np.int64))])
    sop = model.sop_classifier(pooled)
    labels = torch.from_numpy(examples.labels.astype(np.int64))
    mlm_nats = cross_entropy(mlm.transpose(1, 2), labels, reduction="none").sum(1)
    sop_nats = cross_entropy(sop, torch.from_numpy(examples.sop_labels.astype(np.int64)), reduction="none")
    (mlm_nats.sum() / (examples.masked.sum() + 1e-5) + sop_nats.sum() / len(examples)).backward()
    for name, tensor in (("mlm", mlm), ("sop", sop), ("mlm-nats", mlm_nats), ("sop-nats", sop_nats)):
        np.save(folder / f"{name}.npy", tensor.detach().numpy())
    gradients = {name: p.grad.numpy() for name, p in model.named_parameters() if p.grad is not None}
    for name, gradient in gradients.items():
        np.save(folder / f"gradient-{name}.npy", gradient)
    norm = float(np.sqrt(sum(float(np.square(g).sum()) for g in gradients.values())))
    np.save(folder / "norm.npy", norm)
    for label, law in LAWS.items():
        for name, value in start.items():
            np.save(folder / f"{label}-{name}.npy", update(law, name, value, gradients[name], norm))
    assert any(is_excluded(name) for name in start)


def update(law: UpdateLaw, name: str, value: Any, gradient: Any, norm: float) -> Any:
    """The first update of one parameter in float64: so a large model fits. Clips by the norm of all gradients."""
    clip = law.clip_norm / max(law.clip_norm, norm) if law.clip_norm else 1.0
    one, zero = {name: value.astype(np.float64)}, {name: np.zeros(value.shape)}
    unclipped = UpdateLaw(name=law.name, clip_norm=None)
    new = reference_update(unclipped, one, {name: gradient * clip}, (zero, zero), step=0, rate=RATE)
    return new.parameters[name] - one[name]


if __name__ == "__main__":
    main()
