"""The arbiter against finite differences, against itself put another way, and against frameworks."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lossary.diagnosis.adapter import Feed
from lossary.diagnosis.probes import ProbeKind, probe_feed, probe_parameters
from lossary.models.arbiter import (
    Architecture,
    Arithmetic,
    Dropout,
    Outputs,
    embeddings,
    forward,
    gradients,
    layer,
    loss_gradients,
    mapped,
    mlm_hidden,
    mlm_logits_from_hidden,
    pooled,
    record,
    sop_logits,
)
from lossary.models.parameters import parameter_table
from lossary.models.shapes import AlbertShape

SHAPE = AlbertShape(
    vocabulary_size=40,
    hidden_size=12,
    num_layers=2,
    num_heads=3,
    intermediate_size=20,
    embedding_size=8,
    max_positions=16,
)
BASE = Architecture.of(SHAPE)
PARAMETERS = probe_parameters(SHAPE, 1)
FEED = probe_feed(SHAPE, 1, examples=6, length=12)
WORDS = "albert.embeddings.word_embeddings.weight"
# One change for every field, all kinds of value included.
CHANGES: list[dict[str, Any]] = [
    {"num_layers": 3},
    {"num_heads": 4},
    *({"activation": name} for name in ("gelu", "silu", "tanh", "quick_gelu", "none", "relu")),
    {"head_activation": "gelu"},
    {"pooler_activation": "none"},
    {"pooler_activation": "gelu"},
    {"epsilon_embeddings": 1e-2},
    {"epsilon_layers": 1e-2},
    {"epsilon_head": 1e-2},
    {"norm": "unbiased"},
    {"norm": "rms"},
    {"norm_placement": "pre"},
    {"embeddings_norm": False},
    {"attention_norm": False},
    {"feedforward_norm": False},
    {"head_norm": False},
    *({"mask": name} for name in ("none", "inverted", "causal", "added")),
    *({"segments": name} for name in ("zero", "absent", "flipped")),
    {"position_embeddings": False},
    {"position_offset": 2},
    {"embedding_scale": 3.0},
    *({"attention_scale": name} for name in ("hidden", "none", "twice")),
    {"softmax_over": "queries"},
    {"head_layout": "interleaved"},
    {"head_merge": "raw"},
    {"attention_residual": False},
    {"feedforward_residual": False},
    {"pooling": "mean"},
    {"pooling": "mean_all"},
    {"pooler": False},
    {"sop_swapped": True},
    {"output_bias_times": 0},
    {"output_bias_times": 2},
    {"decoder_scale": 0.4},
    {"decoder_scale": 0.4, "output_bias_times": 2},
    {"norm_placement": "pre", "pooling": "mean", "head_layout": "interleaved", "num_heads": 4, "segments": "absent"},
]


def loss_of(parameters: Mapping[str, NDArray[Any]], architecture: Architecture) -> float:
    outputs = forward(parameters, architecture, FEED)
    found = loss_gradients(outputs, FEED.labels, FEED.weights, FEED.sop_labels)
    return found.loss


def gradients_of(architecture: Architecture) -> dict[str, NDArray[Any]]:
    run = record(PARAMETERS, architecture, FEED)
    losses = loss_gradients(run.outputs, FEED.labels, FEED.weights, FEED.sop_labels)
    return run.gradients(losses.d_mlm, losses.d_sop).parameters


def along(direction: Mapping[str, NDArray[Any]], architecture: Architecture, step: float = 1e-5) -> float:
    """The derivative of the loss along a direction, by central differences of the fourth order."""

    def at(distance: float) -> float:
        moved = {
            name: value.astype(np.float64) + distance * direction.get(name, 0.0) for name, value in PARAMETERS.items()
        }
        return loss_of(moved, architecture)

    near, far = at(step) - at(-step), at(2 * step) - at(-2 * step)
    return (8 * near - far) / (12 * step)


@pytest.fixture(scope="module")
def plain_gradients() -> dict[str, NDArray[Any]]:
    return gradients_of(BASE)


@pytest.mark.parametrize("name", list(parameter_table(SHAPE)))
def test_gradients_of_every_parameter_are_the_slopes_of_the_loss(
    plain_gradients: dict[str, NDArray[Any]], name: str
) -> None:
    random = np.random.default_rng([1, len(name)])
    for _ in range(3):
        direction = random.standard_normal(PARAMETERS[name].shape)
        expected = along({name: direction}, BASE)
        scale = np.linalg.norm(plain_gradients[name]) * np.linalg.norm(direction)
        # The last term: rounding of the loss, divided by the step.
        assert abs((plain_gradients[name] * direction).sum() - expected) < 1e-8 * scale + 1e-9
    assert plain_gradients[name].shape == PARAMETERS[name].shape


@pytest.mark.parametrize("changes", CHANGES, ids=str)
def test_gradients_follow_every_setting(changes: dict[str, Any]) -> None:
    architecture = replace(BASE, **changes)
    found = gradients_of(architecture)
    random = np.random.default_rng(2)
    for part in ("embeddings", "albert_layers", "pooler", "predictions", "sop"):
        names = [name for name in PARAMETERS if part in name]
        direction = {name: random.standard_normal(PARAMETERS[name].shape) for name in names}
        expected = along(direction, architecture)
        given = sum(float((found[name] * direction[name]).sum()) for name in names)
        assert given == pytest.approx(expected, rel=1e-6, abs=1e-7), part


@pytest.mark.parametrize("changes", CHANGES, ids=str)
def test_every_setting_changes_the_outputs(changes: dict[str, Any]) -> None:
    before, after = forward(PARAMETERS, BASE, FEED), forward(PARAMETERS, replace(BASE, **changes), FEED)
    used = FEED.weights > 0
    assert max(np.abs(before.mlm - after.mlm)[used].max(), np.abs(before.sop - after.sop).max()) > 1e-4


def test_every_field_is_among_the_changes() -> None:
    assert {name for changes in CHANGES for name in changes} == {field.name for field in fields(Architecture)}


def test_the_two_uses_of_the_word_embeddings_add_up() -> None:
    random = np.random.default_rng(3)
    d_mlm, d_sop = random.standard_normal((*FEED.positions.shape, 40)), random.standard_normal((6, 2))
    both = gradients(PARAMETERS, BASE, FEED, d_mlm, d_sop)
    np.testing.assert_array_equal(both.parameters[WORDS], both.tied_part + both.lookup_part)
    order = gradients(PARAMETERS, BASE, FEED, None, d_sop)
    assert not order.tied_part.any()
    assert order.lookup_part.any()
    words = gradients(PARAMETERS, BASE, FEED, d_mlm, None)
    for name, value in both.parameters.items():
        np.testing.assert_allclose(value, words.parameters[name] + order.parameters[name], atol=1e-10)


def test_a_recording_gives_gradients_as_often_as_asked() -> None:
    run = record(PARAMETERS, BASE, FEED)
    losses = loss_gradients(run.outputs, FEED.labels, FEED.weights, FEED.sop_labels)
    first = run.gradients(losses.d_mlm, losses.d_sop).parameters
    run.gradients(losses.d_mlm, None)
    again = run.gradients(losses.d_mlm, losses.d_sop).parameters
    for name, value in first.items():
        np.testing.assert_array_equal(value, again[name])


def test_losses_are_means_and_parts_of_a_batch_add_up() -> None:
    outputs = forward(PARAMETERS, BASE, FEED)
    whole = loss_gradients(outputs, FEED.labels, FEED.weights, FEED.sop_labels)
    masked, pairs = float(FEED.weights.sum()) + 1e-5, float((FEED.sop_labels >= 0).sum())
    parts = [
        loss_gradients(
            Outputs(mlm=outputs.mlm[rows], sop=outputs.sop[rows]),
            FEED.labels[rows],
            FEED.weights[rows],
            FEED.sop_labels[rows],
            (masked, pairs),
        )
        for rows in (slice(0, 2), slice(2, None))
    ]
    assert sum(part.loss for part in parts) == pytest.approx(whole.loss, rel=1e-12)
    np.testing.assert_allclose(np.concatenate([part.d_sop for part in parts]), whole.d_sop, rtol=1e-12)
    used = FEED.weights > 0
    logs = outputs.mlm - np.log(np.exp(outputs.mlm).sum(axis=-1, keepdims=True))
    chosen = np.take_along_axis(logs, FEED.labels[..., None].astype(np.int64), axis=-1)[..., 0]
    assert whole.mlm == pytest.approx(-chosen[used].sum() / masked, rel=1e-12)
    unlabelled = loss_gradients(outputs, FEED.labels, FEED.weights, np.full(6, -1))
    assert unlabelled.sop == 0.0
    assert not unlabelled.d_sop.any()


def test_padding_and_company_change_nothing() -> None:
    def wider(values: NDArray[Any]) -> NDArray[Any]:
        return np.pad(values, ((0, 0), (0, 4)))

    wide = replace(
        FEED,
        token_ids=wider(FEED.token_ids) + wider(1 - FEED.attention_mask) * 7,
        attention_mask=wider(FEED.attention_mask),
        segment_ids=wider(FEED.segment_ids),
    )
    outputs = forward(PARAMETERS, BASE, FEED)
    for rows in ([0, 1, 2, 3, 4, 5], [3, 1]):
        found = forward(PARAMETERS, BASE, wide.take(np.array(rows)))
        np.testing.assert_allclose(found.mlm, outputs.mlm[rows], atol=1e-12)
        np.testing.assert_allclose(found.sop, outputs.sop[rows], atol=1e-12)


def test_a_query_without_any_key_gives_numbers() -> None:
    empty = replace(FEED, attention_mask=np.zeros_like(FEED.attention_mask))
    for precision in ("float64", "float32", "bf16", "fp16"):
        assert np.isfinite(forward(PARAMETERS, BASE, empty, precision=precision).mlm).all()


def test_logits_at_all_tokens_hold_those_at_the_targets() -> None:
    some, whole = forward(PARAMETERS, BASE, FEED), forward(PARAMETERS, BASE, FEED, positions="all")
    rows = np.arange(6)[:, None]
    np.testing.assert_allclose(whole.mlm[rows, FEED.positions], some.mlm, atol=1e-13)


def test_stages_one_after_another_are_the_forward_pass() -> None:
    whole = forward(PARAMETERS, BASE, FEED, activations=True)
    found = {"embeddings": embeddings(PARAMETERS, BASE, FEED)}
    found["mapped"] = x = mapped(PARAMETERS, BASE, found["embeddings"])
    for number in range(2):
        found[f"layer.{number}"] = x = layer(PARAMETERS, BASE, x, FEED.attention_mask)
    found["pooled"] = pooled(PARAMETERS, BASE, x, FEED.attention_mask)
    found["mlm_hidden"] = mlm_hidden(PARAMETERS, BASE, x[np.arange(6)[:, None], FEED.positions])
    names = {*found, "layer.0.attention", "layer.1.attention"}
    assert set(whole.activations) == names
    for name, value in found.items():
        np.testing.assert_allclose(value, whole.activations[name], atol=1e-13, err_msg=name)
    np.testing.assert_allclose(mlm_logits_from_hidden(PARAMETERS, BASE, found["mlm_hidden"]), whole.mlm, atol=1e-13)
    np.testing.assert_allclose(sop_logits(PARAMETERS, BASE, found["pooled"]), whole.sop, atol=1e-13)
    assert not forward(PARAMETERS, BASE, FEED).activations


def error(precision: Any) -> float:
    exact, found = forward(PARAMETERS, BASE, FEED), forward(PARAMETERS, BASE, FEED, precision=precision)
    return float(np.sqrt(np.mean(np.square(found.mlm - exact.mlm))))


def test_precisions_err_in_their_order() -> None:
    errors = [error(name) for name in ("float32", "tf32", "fp16", "bf16_products", "bf16")]
    assert errors == sorted(errors)
    assert errors[0] < 1e-5 < errors[1] < 1e-2 < errors[3] < 0.2


def test_orders_of_summing_are_equally_right() -> None:
    plain = error("float32")
    others = [error(Arithmetic("float32", "shuffled", seed)) for seed in (1, 2)]
    others.append(error(Arithmetic("float32", "blocks")))
    assert len({plain, *others}) == 4
    assert all(plain / 4 < other < 4 * plain for other in others)
    for order in ("shuffled", "blocks"):
        assert error(Arithmetic("float64", order, 1)) < 1e-13


def test_gradients_in_float32_are_near_those_in_float64(plain_gradients: dict[str, NDArray[Any]]) -> None:
    run = record(PARAMETERS, BASE, FEED, precision="float32")
    losses = loss_gradients(run.outputs, FEED.labels, FEED.weights, FEED.sop_labels)
    for name, value in run.gradients(losses.d_mlm, losses.d_sop).parameters.items():
        np.testing.assert_allclose(value, plain_gradients[name], atol=3e-6, err_msg=name)


def test_rounding_is_to_the_nearest_with_ties_to_even() -> None:
    numbers = np.array([1.0, 1.0 + 2**-8, 1.0 + 3 * 2**-8, -1.0 - 2**-8 - 2**-20, np.inf, -np.inf], np.float32)
    rounded = Arithmetic("bf16").as_factor(numbers)
    np.testing.assert_array_equal(rounded, [1.0, 1.0, 1.0 + 2**-6, -1.0 - 2**-7, np.inf, -np.inf])
    assert np.isnan(Arithmetic("bf16").as_factor(np.array([np.nan], np.float32))).all()
    random = np.random.default_rng(4).standard_normal(1000).astype(np.float32)
    assert np.abs(Arithmetic("bf16").as_factor(random) / random - 1).max() <= 2**-8
    assert np.abs(Arithmetic("tf32").as_factor(random) / random - 1).max() <= 2**-11
    np.testing.assert_array_equal(Arithmetic("fp16").as_factor(random), random.astype(np.float16))


def test_pure_half_precision_loses_epsilon() -> None:
    tiny = probe_parameters(SHAPE, 1, kind="tiny-variance")
    for precision, finite in (("float32", True), ("bf16", True), ("fp16", False)):
        assert np.isfinite(forward(tiny, BASE, FEED, precision=precision).sop).all() == finite, precision
    larger = replace(BASE, epsilon_embeddings=1e-4, epsilon_layers=1e-4, epsilon_head=1e-4)
    assert np.isfinite(forward(tiny, larger, FEED, precision="fp16").sop).all()


def test_dropout_is_random_by_its_seed_and_unbiased_in_scale() -> None:
    exact = forward(PARAMETERS, BASE, FEED).sop
    one, same, other = (forward(PARAMETERS, BASE, FEED, dropout=Dropout(0.1, seed)).sop for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 1e-3
    np.testing.assert_array_equal(forward(PARAMETERS, BASE, FEED, dropout=Dropout(0.0, 1)).sop, exact)
    small, large = (
        np.mean(
            [np.abs(forward(PARAMETERS, BASE, FEED, dropout=Dropout(rate, n)).sop - exact).mean() for n in range(8)]
        )
        for rate in (0.02, 0.3)
    )
    assert small < large / 2


@dataclass(frozen=True)
class Side:
    mlm: NDArray[Any]
    sop: NDArray[Any]
    gradients: dict[str, NDArray[Any]]


_SIDE = """
import json, sys
import numpy as np
from lossary.backends.api import load_backend
from lossary.diagnosis.own import examples_of
from lossary.diagnosis.probes import probe_feed, probe_parameters
from lossary.models.shapes import AlbertShape

name, folder, shape = sys.argv[1], sys.argv[2], AlbertShape(**json.loads(sys.argv[3]))
backend = load_backend(name)(shape, device="cpu")
feed = probe_feed(shape, 1, examples=6, length=12)
examples = examples_of(feed)
whole = (float(feed.weights.sum()) + 1e-5, float((feed.sop_labels >= 0).sum()))
for kind in ("plain", "low-variance"):
    backend.load_parameters(probe_parameters(shape, 1, kind=kind))
    logits = backend.logits(examples)
    found = {f"gradient|{key}": value for key, value in backend.gradients([examples], whole).items()}
    np.savez(f"{folder}/{kind}.npz", mlm=logits.mlm, sop=logits.sop, **found)
"""


@pytest.fixture(scope="module", params=["torch", "tensorflow"])
def sides(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[ProbeKind, Side]:
    """What a backend computes of the probes, in a process of its own."""
    backend, folder = request.param, tmp_path_factory.mktemp(request.param)
    sizes = json.dumps({field.name: getattr(SHAPE, field.name) for field in fields(SHAPE)})
    environment = dict(os.environ) | {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", _SIDE, backend, str(folder), sizes]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    sides: dict[ProbeKind, Side] = {}
    for kind in ("plain", "low-variance"):
        found = np.load(folder / f"{kind}.npz")
        slopes = {key.removeprefix("gradient|"): found[key] for key in found.files if key.startswith("gradient|")}
        sides[kind] = Side(mlm=found["mlm"], sop=found["sop"], gradients=slopes)
    return sides


@pytest.mark.frameworks
@pytest.mark.parametrize("kind", ["plain", "low-variance"])
def test_frameworks_compute_what_the_arbiter_computes(sides: dict[ProbeKind, Side], kind: ProbeKind) -> None:
    """As near to float64 as the arbiter itself in float32, three times over for another order of sums."""
    found, parameters = sides[kind], probe_parameters(SHAPE, 1, kind=kind)
    exact, single = (record(parameters, BASE, FEED, precision=p) for p in ("float64", "float32"))
    used = FEED.weights > 0
    for name, rows in (("mlm", used), ("sop", np.ones(6, np.bool_))):
        reference = getattr(exact.outputs, name)[rows]
        noise = np.sqrt(np.mean(np.square(getattr(single.outputs, name)[rows] - reference)))
        assert np.sqrt(np.mean(np.square(getattr(found, name)[rows] - reference))) < 3 * noise, name
    slopes = []
    for run in (exact, single):
        losses = loss_gradients(run.outputs, FEED.labels, FEED.weights, FEED.sop_labels)
        slopes.append(run.gradients(losses.d_mlm, losses.d_sop).parameters)
    # A shift of all scores of a query changes no softmax: the keys' bias has no gradient but rounding.
    names = [name for name in PARAMETERS if "key.bias" not in name]

    def relative(values: dict[str, NDArray[Any]], name: str) -> float:
        return float(np.abs(values[name] - slopes[0][name]).max() / np.abs(slopes[0][name]).max())

    noise = max(relative(slopes[1], name) for name in names)
    assert noise < 1e-5
    for name in names:
        assert relative(found.gradients, name) < 4 * noise, name


def test_a_feed_of_another_kind_is_read_as_well() -> None:
    @dataclass(frozen=True)
    class Inputs:
        token_ids: NDArray[Any]
        attention_mask: NDArray[Any]
        segment_ids: NDArray[Any]
        positions: NDArray[Any]

    inputs = Inputs(FEED.token_ids, FEED.attention_mask, FEED.segment_ids, FEED.positions)
    assert isinstance(FEED, Feed)
    np.testing.assert_array_equal(forward(PARAMETERS, BASE, inputs).mlm, forward(PARAMETERS, BASE, FEED).mlm)
