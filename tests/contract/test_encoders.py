"""BERT and RoBERTa on TensorFlow are those of torch: first weights, losses, gradients, some steps, what is kept.

JAX runs the same Keras code as TensorFlow, and is held by the contract of ALBERT; compiled shape by shape it would take
minutes here: `KERAS_BACKEND=jax python -m tests.contract.encoder_probe jax FOLDER` computes the same after torch's.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.contract.encoder_probe import MODELS, STEPS, TRAINED

pytestmark = pytest.mark.frameworks

Found = dict[str, NDArray[np.float64]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoders")
    for name in ("torch", "tensorflow"):
        environment = dict(os.environ) | {"KERAS_BACKEND": name, "TF_CPP_MIN_LOG_LEVEL": "3", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "tests.contract.encoder_probe", name, str(folder)]
        root = Path(__file__).parents[2]
        done = subprocess.run(
            command, env=environment, cwd=root, capture_output=True, text=True, check=False, timeout=600
        )
        assert done.returncode == 0, f"{name}: {done.stderr[-3000:]}"
    return folder


@pytest.fixture(scope="module")
def probes(folder: Path) -> dict[str, Found]:
    loaded = {name: np.load(folder / f"{name}.npz") for name in ("torch", "tensorflow")}
    return {name: {key.replace("|", "/"): file[key] for key in file.files} for name, file in loaded.items()}


def part(found: Found, prefix: str) -> Found:
    return {key.removeprefix(prefix): value for key, value in found.items() if key.startswith(prefix)}


def distance(a: Found, b: Found) -> float:
    assert a
    assert set(a) == set(b)
    return max(float(np.abs(a[name].astype(np.float64) - b[name]).max()) for name in a)


@pytest.fixture(params=TRAINED)
def both(request: pytest.FixtureRequest, probes: dict[str, Found]) -> tuple[Found, Found]:
    return part(probes["torch"], f"{request.param}/"), part(probes["tensorflow"], f"{request.param}/")


def test_a_run_begins_with_the_weights_of_torch_and_keeps_them_as_they_are(both: tuple[Found, Found]) -> None:
    torch, keras = both
    assert distance(part(torch, "start/"), part(keras, "start/")) == 0
    assert distance(part(torch, "roundtrip/"), part(keras, "roundtrip/")) == 0


def test_outputs_and_gradients_agree_within_the_noise_of_torch(both: tuple[Found, Found]) -> None:
    torch, keras = both
    whole = part(torch, "gradient/")
    noise = distance(whole, part(torch, "split/"))
    assert 0 < noise < 1e-6
    assert distance(whole, part(keras, "gradient/")) < 10 * noise
    assert max(np.abs(value).max() for value in whole.values()) > 0.1
    np.testing.assert_allclose(keras["logits"], torch["logits"], atol=2e-5)
    np.testing.assert_allclose(keras["nats"], torch["nats"], rtol=1e-6, atol=1e-5)
    np.testing.assert_allclose(keras["filled"], keras["nats"], rtol=1e-6, atol=1e-5)


def test_steps_stay_together_and_what_is_taken_up_goes_on_to_the_bit(both: tuple[Found, Found]) -> None:
    torch, keras = both
    assert len(keras["losses"]) == STEPS
    np.testing.assert_allclose(keras["losses"], torch["losses"], rtol=1e-6)
    assert keras["losses"][-1] < keras["losses"][0] - 0.1
    assert distance(part(torch, "trained/"), part(keras, "trained/")) < 1e-6
    assert distance(part(keras, "went on/"), part(keras, "restored/")) == 0


def test_a_checkpoint_of_torch_goes_on_here_as_it_does_there(both: tuple[Found, Found]) -> None:
    torch, keras = both
    held = part(torch, "held/")
    assert all(any(value.any() for key, value in held.items() if key.startswith(of)) for of in ("weights", "m", "v"))
    assert distance(held, part(keras, "held/")) == 0
    assert distance(part(torch, "held/weights/"), part(torch, "trained/")) == 0
    np.testing.assert_allclose(keras["further"], torch["further"], rtol=1e-6)
    assert torch["further"][0] < torch["losses"][-1]
    assert distance(part(torch, "reached/"), part(keras, "reached/")) < 2e-6


@pytest.mark.parametrize("model", [name for name in MODELS if name not in TRAINED])
def test_the_layers_are_those_of_kerashubs_own_models(probes: dict[str, Found], model: str) -> None:
    found = part(probes["tensorflow"], f"{model}/")
    np.testing.assert_allclose(found["logits"], found["kerashub"], atol=2e-6)
    np.testing.assert_allclose(found["logits"], probes["torch"][f"{model}/logits"], atol=2e-5)


@pytest.mark.parametrize("model", TRAINED)
def test_transformers_and_torch_open_what_keras_keeps(folder: Path, probes: dict[str, Found], model: str) -> None:
    import transformers
    from tests.unit.backends.examples import ragged_examples

    from lossary.backends.api import new_backend
    from lossary.models.checkpoints import load_own_checkpoint
    from lossary.models.update_laws import UpdateLaw

    path = folder / f"tensorflow-{model}" / f"step-{STEPS:08d}"
    _, told = transformers.AutoModelForMaskedLM.from_pretrained(path, output_loading_info=True)
    assert not any(told[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"))
    kept, examples = load_own_checkpoint(path), ragged_examples(60)
    backend = new_backend("torch", kept.shape, device="cpu")
    backend.set_law(UpdateLaw(name="adamw", epsilon=1e-4))
    backend.load_parameters(kept.parameters)
    backend.load_moments(kept.moments)
    found = part(probes["tensorflow"], f"{model}/")
    np.testing.assert_allclose(backend.score(examples).rows.mlm_nats, found["scored"], rtol=1e-6, atol=1e-5)
    rows = np.arange(len(examples))
    whole = float(examples.masked.sum()) + 1e-5, 0.0
    backend.train_step([examples.take(rows[:3]), examples.take(rows[3:])], whole, step=STEPS, rate=1e-3)
    assert distance(backend.parameters(), part(found, "went on/")) < 1e-6
