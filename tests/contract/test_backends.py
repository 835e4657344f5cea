"""One contract for torch, tensorflow and jax: same names, losses, gradients and updates; micro batches add up.

Tolerances are measured: what a framework differs from itself by when a batch is cut another way bounds what two
frameworks may differ by; the update laws are held against float64.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lossary.models.parameters import initial_parameters, parameter_table
from lossary.models.shapes import AlbertShape
from lossary.models.update_laws import UpdateLaw, reference_update

BACKENDS = ("torch", "tensorflow", "jax")
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
PARAMETERS = list(parameter_table(SHAPE))
# Mathematically without effect (softmax ignores a shift of all its scores): its gradient is rounding noise alone.
NOISE_ONLY = "attention.key.bias"
Found = dict[str, NDArray[np.float64]]


@pytest.fixture(scope="session")
def probes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Found]:
    """What each backend computed, in a process of its own."""
    folder = tmp_path_factory.mktemp("probes")
    workers = {}
    for name in BACKENDS:
        environment = dict(os.environ) | {"KERAS_BACKEND": name, "TF_CPP_MIN_LOG_LEVEL": "3", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, str(Path(__file__).parent / "probe.py"), name, str(folder / f"{name}.npz")]
        workers[name] = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    for name, worker in workers.items():
        _, errors = worker.communicate(timeout=600)
        assert worker.returncode == 0, f"{name}: {errors[-3000:]}"
    loaded = {name: np.load(folder / f"{name}.npz") for name in BACKENDS}
    return {name: {key.replace("|", "/"): file[key] for key in file.files} for name, file in loaded.items()}


@pytest.fixture(params=BACKENDS)
def found(request: pytest.FixtureRequest, probes: dict[str, Found]) -> Found:
    return probes[request.param]


def part(found: Found, prefix: str) -> Found:
    return {key.removeprefix(prefix): value for key, value in found.items() if key.startswith(prefix)}


def relative(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Largest difference, relative to the largest value."""
    return float(np.abs(a.astype(np.float64) - b).max() / max(np.abs(b).max(), 1e-12))


def test_parameters_come_out_as_they_went_in(found: Found) -> None:
    start = initial_parameters(SHAPE, 3)
    assert list(part(found, "roundtrip/")) == PARAMETERS
    for name, value in part(found, "roundtrip/").items():
        np.testing.assert_array_equal(value, start[name], strict=True)


def test_backends_agree_within_the_noise_of_one(probes: dict[str, Found]) -> None:
    torch = probes["torch"]
    split, whole = part(torch, "gradient/split/"), part(torch, "gradient/whole/")
    noise = max(relative(split[name], whole[name]) for name in PARAMETERS if NOISE_ONLY not in name)
    assert 0 < noise < 1e-5
    for other in ("tensorflow", "jax"):
        np.testing.assert_allclose(probes[other]["logits/mlm"], torch["logits/mlm"], atol=2e-5)
        np.testing.assert_allclose(probes[other]["logits/sop"], torch["logits/sop"], atol=2e-5)
        gradients = part(probes[other], "gradient/whole/")
        for name in PARAMETERS:
            if NOISE_ONLY not in name:
                assert relative(gradients[name], whole[name]) < 10 * noise, (other, name)


def test_scores_do_not_depend_on_the_batch(found: Found) -> None:
    for how in ("split", "filled", "one by one"):
        for field in ("mlm_correct", "sop_correct"):
            np.testing.assert_array_equal(found[f"score/{how}/{field}"], found[f"score/whole/{field}"])
        for field in ("mlm_nats", "sop_nats"):
            np.testing.assert_allclose(
                found[f"score/{how}/{field}"], found[f"score/whole/{field}"], rtol=1e-5, atol=1e-6
            )


def test_scores_are_the_sums_of_their_positions(found: Found) -> None:
    np.testing.assert_allclose(found["positions/nats"].sum(axis=1), found["score/whole/mlm_nats"], rtol=1e-6)


def test_micro_batches_add_up_and_filler_weighs_nothing(found: Found) -> None:
    whole = part(found, "gradient/whole/")
    for how in ("split", "filled", "one by one"):
        for name, gradient in part(found, f"gradient/{how}/").items():
            if NOISE_ONLY not in name:
                assert relative(gradient, whole[name]) < 2e-5, (how, name)


def test_without_a_labelled_pair_the_order_head_has_no_gradient(found: Found) -> None:
    gradients = part(found, "no sop/")
    assert not gradients["sop_classifier.classifier.weight"].any()
    assert gradients["predictions.dense.weight"].any()


@pytest.mark.parametrize(
    ("label", "law"),
    [
        ("lamb", UpdateLaw(name="lamb")),
        ("adamw", UpdateLaw(name="adamw")),
        ("lamb unclipped", UpdateLaw(name="lamb", clip_norm=None, weight_decay=0)),
    ],
)
def test_updates_follow_the_law(found: Found, probes: dict[str, Found], label: str, law: UpdateLaw) -> None:
    """The first update against float64; twenty of them against another backend's."""
    parameters = {name: value.astype(np.float64) for name, value in initial_parameters(SHAPE, 3).items()}
    gradients = {name: value.astype(np.float64) for name, value in part(found, "gradient/whole/").items()}
    zeros = {name: np.zeros_like(value) for name, value in parameters.items()}
    expected = reference_update(law, parameters, gradients, (zeros, zeros), step=0, rate=0.01)
    assert found[f"norms/{label}"][0] == pytest.approx(expected.gradient_norm, rel=1e-5)
    for name, value in part(found, f"first/{label}/").items():
        if NOISE_ONLY not in name:
            moved, due = value - parameters[name], expected.parameters[name] - parameters[name]
            assert relative(moved, due) < 1e-3, f"{name}: the first update"
    for name, value in part(found, f"updated/{label}/").items():
        if NOISE_ONLY in name:
            continue
        other = probes["torch"][f"updated/{label}/{name}"]
        assert relative(value, other) < 2e-3, name
        assert relative(value, parameters[name]) > 1e-4, f"{name} did not move"


def test_a_restored_optimizer_goes_on_to_the_same_bits(found: Found) -> None:
    for label in ("lamb", "adamw"):
        restored = part(found, f"restored/{label}/")
        for name, value in part(found, f"went on/{label}/").items():
            np.testing.assert_array_equal(restored[name], value)


def test_what_another_backend_left_goes_on_alike(found: Found, probes: dict[str, Found]) -> None:
    held = part(found, "taken/")
    assert len(held) == 2 * len(PARAMETERS)
    assert not any(held.values())
    losses = probes["torch"]["taken losses"]
    np.testing.assert_allclose(found["taken losses"], losses, rtol=1e-6)
    assert losses[-1] != losses[0]
    for name, value in part(probes["torch"], "taken weights/").items():
        assert relative(part(found, "taken weights/")[name], value) < 1e-4, name


def test_bf16_is_near_fp32_and_keeps_weights_in_fp32(found: Found) -> None:
    np.testing.assert_allclose(found["bf16/mlm_nats"], found["score/whole/mlm_nats"], rtol=0.05)
    assert found["bf16/losses"][-1] < found["bf16/losses"][0]
    weights = found["bf16 weights/albert.pooler.weight"]
    assert weights.dtype == np.float32
    assert (weights.view(np.uint32) & 0xFFFF).any(), "weights were rounded to bfloat16"


@pytest.mark.gpu
@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.skipif(shutil.which("nvidia-smi") is None, reason="no NVIDIA GPU here: the GPU path is not tested")
def test_a_gpu_computes_the_same(probes: dict[str, Found], tmp_path: Path, name: str) -> None:
    environment = dict(os.environ) | {"KERAS_BACKEND": name, "LOSSARY_PROBE_GPU": "1"}
    path = tmp_path / "gpu.npz"
    subprocess.run(
        [sys.executable, str(Path(__file__).parent / "probe.py"), name, str(path)], env=environment, check=True
    )
    found = np.load(path)
    np.testing.assert_allclose(found["logits"], probes["torch"]["logits/mlm"], atol=5e-3)
    for parameter in PARAMETERS:
        if NOISE_ONLY not in parameter:
            reference = probes["torch"][f"gradient/whole/{parameter}"]
            assert relative(found[f"gradient|{parameter}"], reference) < 1e-2, parameter
