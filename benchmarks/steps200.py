"""200 steps of a small model from the same start in torch, tensorflow and jax: do the losses stay together?

Noise is torch against itself: with another number of threads, with another cut of each batch, and with every weight
moved to a neighbouring float, up or down at random, before each step, as another kernel's rounding might. The curves go
to docs/steps200.csv and docs/steps200.svg. The last line is the largest difference of a step's MLM loss between
frameworks over the largest difference that is noise.

    python -m benchmarks.steps200 [--quick]
"""

import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import arguments, in_process, neighbours, prepared_study, temporary_folder
from lossary.data.batches import TrainingData, micro_batches
from lossary.folder import StudyFolder
from lossary.models.shapes import AlbertShape
from lossary.study_file import parse_study

SHAPE = AlbertShape(
    vocabulary_size=1000,
    hidden_size=64,
    num_layers=2,
    num_heads=4,
    intermediate_size=256,
    embedding_size=64,
    initializer_range=0.15,
)
SIDES = {
    "torch": ("torch", 2, 8192, False),
    "torch, one thread": ("torch", 1, 8192, False),
    "torch, small micro batches": ("torch", 2, 512, False),
    "torch, one-ulp noise": ("torch", 2, 8192, True),
    "tensorflow": ("tensorflow", 2, 8192, False),
    "jax": ("jax", 2, 8192, False),
}


def main() -> None:
    """Measures, draws and prints."""
    if "--job" in sys.argv:
        print(json.dumps(losses(json.loads(sys.argv[sys.argv.index("--job") + 1]))))
        return
    options = arguments(__doc__)
    steps = 20 if options.quick else 200
    with temporary_folder() as name:
        prepared_study(Path(name), vocabulary=1000, batch=16)
        curves = {}
        for side, (backend, threads, max_tokens, noisy) in SIDES.items():
            job = {"root": name, "backend": backend, "max_tokens": max_tokens, "steps": steps, "noisy": noisy}
            environment = {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", "OMP_NUM_THREADS": str(threads)}
            curves[side] = in_process("benchmarks.steps200", job, **environment)
    mlm = {side: np.array(curve["mlm"]) for side, curve in curves.items()}
    base = mlm["torch"]
    noise = {side: float(np.abs(mlm[side] - base).max()) for side in SIDES if side.startswith("torch, ")}
    between = {side: float(np.abs(mlm[side] - base).max()) for side in ("tensorflow", "jax")}
    print(f"MLM loss of step 1 {base[0]:.4f}, of step {steps} {base[-1]:.4f}")
    for side, difference in (noise | between).items():
        print(f"largest difference of a step from torch: {side:28}{difference:.1e}")
    if not options.quick:
        write(curves)
    print(f"ratio={max(between.values()) / max(noise.values()):.2f}")


def losses(job: dict[str, Any]) -> dict[str, list[float]]:
    """MLM and SOP loss of every step."""
    from lossary.backends.api import load_backend
    from lossary.models.parameters import initial_parameters
    from lossary.models.update_laws import UpdateLaw, learning_rate

    root = Path(job["root"])
    study = parse_study((root / "study.toml").read_text())
    data = TrainingData(study, StudyFolder(root), "torch")
    backend = load_backend(job["backend"])(SHAPE, device="cpu")
    backend.load_parameters(initial_parameters(SHAPE, 1))
    backend.set_law(UpdateLaw(name="adamw"))
    optimizer = study.recipe.optimizer.model_copy(update={"warmup": 20, "learning_rate": 2e-3})
    found: dict[str, list[float]] = {"mlm": [], "sop": []}
    rng = np.random.default_rng(3)
    for step in range(job["steps"]):
        if job["noisy"]:
            backend.load_parameters(neighbours(backend.parameters(), rng))
        batch = data.batch(step)
        micro = micro_batches(batch, max_tokens=job["max_tokens"], sequence_length=128, few_shapes=backend.few_shapes)
        counts = (float(batch.masked.sum()) + 1e-5, float((batch.sop_labels >= 0).sum()))
        rate = learning_rate(step, optimizer, job["steps"])
        rows = backend.train_step([part.examples for part in micro], counts, step=step, rate=rate).rows
        found["mlm"].append(sum(float(row.mlm_nats.sum()) for row in rows) / counts[0])
        found["sop"].append(sum(float(row.sop_nats.sum()) for row in rows) / counts[1])
    return found


def write(curves: dict[str, dict[str, list[float]]]) -> None:
    """The curves as a table and as a picture."""
    import altair
    import vl_convert

    docs = Path(__file__).parent.parent / "docs"
    with (docs / "steps200.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["step", *(f"{side}: {metric}" for side in curves for metric in ("mlm", "sop"))])
        for step in range(len(curves["torch"]["mlm"])):
            row = [f"{curve[metric][step]:.7f}" for curve in curves.values() for metric in ("mlm", "sop")]
            writer.writerow([step + 1, *row])
    base = np.array(curves["torch"]["mlm"])
    points = [
        {"step": step + 1, "run": side, "difference": max(abs(value - base[step]), 1e-9)}
        for side, curve in curves.items()
        if side != "torch"
        for step, value in enumerate(curve["mlm"])
    ]
    loss = [
        {"step": step + 1, "run": side, "loss": value}
        for side in ("torch", "tensorflow", "jax")
        for step, value in enumerate(curves[side]["mlm"])
    ]
    line = altair.Chart(altair.Data(values=loss)).mark_line(strokeWidth=1.2)
    upper = line.encode(
        x=altair.X("step:Q"),
        y=altair.Y("loss:Q", title="MLM loss, nats", scale=altair.Scale(zero=False)),
        color="run:N",
        strokeDash="run:N",
    ).properties(width=520, height=180)
    lower = (
        altair.Chart(altair.Data(values=points))
        .mark_line(strokeWidth=1.2)
        .encode(
            x=altair.X("step:Q"),
            y=altair.Y("difference:Q", title="difference from torch", scale=altair.Scale(type="log")),
            color="run:N",
            strokeDash="run:N",
        )
        .properties(width=520, height=180)
    )
    chart = altair.vconcat(upper, lower).resolve_scale(color="independent", strokeDash="independent")
    (docs / "steps200.svg").write_text(vl_convert.vegalite_to_svg(chart.to_dict()), encoding="utf-8")


if __name__ == "__main__":
    main()
