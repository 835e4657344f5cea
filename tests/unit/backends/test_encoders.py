"""Encoders of transformers in training: gradients by hand, micro batches, resumed runs, what transformers opens.

Tolerances are measured: what a batch that is cut another way differs from itself by bounds what a hand loop in float64
may differ by, as a multiple.
"""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray
from tests.unit.backends.examples import ragged_examples

from lossary.backends.api import initial_weights, new_backend, resolved
from lossary.backends.torch.encoders import TorchEncoder
from lossary.data.examples import Examples
from lossary.errors import CheckpointError, StudyError
from lossary.models.architectures import SPECIALS, EncoderShape
from lossary.models.checkpoints import export_checkpoint, load_own_checkpoint, save_checkpoint
from lossary.models.parameters import Parameters
from lossary.models.update_laws import UpdateLaw, reference_update

pytestmark = pytest.mark.frameworks

VOCABULARY_SIZE, LONGEST = 60, 20
_SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
_STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "BERT": ("bert", _SIZES | _STILL),
    "BERT, untied": ("bert", _SIZES | _STILL | {"tie_word_embeddings": False}),
    "RoBERTa": ("roberta", _SIZES | _STILL | {"max_position_embeddings": 8}),
    "ModernBERT": ("modernbert", _SIZES | {"local_attention": 8}),
    "DeBERTa-v2": ("deberta-v2", _SIZES | _STILL | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]}),
    "ELECTRA": ("electra", _SIZES | _STILL | {"embedding_size": 16}),
    "ESM": ("esm", _SIZES | _STILL | {"position_embedding_type": "rotary", "token_dropout": True}),
    "ESM, absolute": ("esm", _SIZES | _STILL | {"position_embedding_type": "absolute"}),
    "DistilBERT": (
        "distilbert",
        {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48, "dropout": 0.0, "attention_dropout": 0.0},
    ),
}


def shape_for(family: str, settings: dict[str, Any], *, strict: bool = True) -> EncoderShape:
    asked = EncoderShape(
        family=family,
        settings="{}",
        vocabulary_size=VOCABULARY_SIZE,
        max_positions=LONGEST,
        initializer_range=0.1,
    )
    return replace(asked.with_config(settings), strict=strict)


def shape_of(title: str, **more: Any) -> EncoderShape:
    family, settings = FAMILIES[title]
    shape, _ = resolved(shape_for(family, settings | more))
    assert isinstance(shape, EncoderShape)
    return shape


@pytest.fixture(params=FAMILIES)
def shape(request: pytest.FixtureRequest) -> EncoderShape:
    return shape_of(request.param)


def started(shape: EncoderShape, law: UpdateLaw | None = None, **more: Any) -> TorchEncoder:
    """With its initial weights, each moved a little: biases that are all 0 hide mistakes."""
    backend = new_backend("torch", shape, device="cpu", **more)
    assert isinstance(backend, TorchEncoder)
    backend.load_parameters(moved(initial_weights(shape, 3)))
    backend.load_moments(None)
    backend.set_law(law or UpdateLaw(name="lamb"))
    return backend


def moved(parameters: Parameters) -> Parameters:
    rng = np.random.default_rng(0)
    kept = {name: "inv_freq" in name for name in parameters}
    return {
        name: value if kept[name] else value + rng.normal(0, 0.05, value.shape).astype(np.float32)
        for name, value in sorted(parameters.items())
    }


def denominators(examples: Examples) -> tuple[float, float]:
    return float(examples.masked.sum()) + 1e-5, 0.0


def relative(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Largest difference, relative to the largest value."""
    return float(np.abs(np.asarray(a, np.float64) - b).max() / max(float(np.abs(b).max()), 1e-12))


def by_hand(shape: EncoderShape, weights: Parameters, examples: Examples) -> dict[str, NDArray[np.float64]]:
    """Gradients of the step's loss: each example alone, all of its logits, in float64, by the class's own forward."""
    kind = getattr(transformers, shape.config["architectures"][0])
    config = kind.config_class(**{k: v for k, v in shape.config.items() if k != "architectures"})
    model = kind._from_config(config, dtype=torch.float64, attn_implementation="eager")
    named = dict(model.named_parameters())
    with torch.no_grad():
        for name, tensor in named.items():
            tensor.copy_(torch.from_numpy(weights[name]).double())
    model.train()
    total = torch.zeros((), dtype=torch.float64)
    for row in range(len(examples)):
        length, count = int(examples.lengths[row]), int(examples.masked[row])
        given = {"input_ids": torch.from_numpy(examples.token_ids[row : row + 1, :length].astype(np.int64))}
        if shape.config.get("type_vocab_size", 0) > 1:
            segments = examples.segment_ids[row : row + 1, :length].astype(np.int64)
            given["token_type_ids"] = torch.from_numpy(segments)
        logits = model(**given, attention_mask=torch.ones_like(given["input_ids"])).logits[0]
        for position, label in zip(examples.positions[row, :count], examples.labels[row, :count], strict=True):
            total = total - torch.log_softmax(logits[int(position)], dim=0)[int(label)]
    (total / denominators(examples)[0]).backward()
    return {name: tensor.grad.numpy() for name, tensor in named.items() if tensor.grad is not None}


def test_gradients_are_those_of_a_loop_by_hand(shape: EncoderShape) -> None:
    backend, examples = started(shape), ragged_examples(VOCABULARY_SIZE)
    whole = backend.gradients([examples], denominators(examples))
    rows = np.arange(len(examples))
    split = backend.gradients([examples.take(rows[:3]), examples.take(rows[3:])], denominators(examples))
    exact = by_hand(shape, backend.parameters(), examples)
    assert set(exact) == set(whole)
    largest = max(float(np.abs(value).max()) for value in exact.values())

    def distance(a: Parameters, b: Any) -> float:
        """Relative to the largest gradient of all: what softmax cancels is rounding noise alone."""
        return max(float(np.abs(a[name].astype(np.float64) - b[name]).max()) for name in exact) / largest

    noise = distance(split, whole)
    assert noise < 1e-5
    assert distance(whole, exact) < 10 * max(noise, 1e-7)
    assert largest > 1e-3


def test_scores_are_those_of_the_head_on_all_positions(shape: EncoderShape) -> None:
    backend, examples = started(shape), ragged_examples(VOCABULARY_SIZE)
    scored = backend.score(examples)
    logits = backend.logits(examples).mlm.astype(np.float64)
    shifted = logits - logits.max(axis=2, keepdims=True)
    nats = np.log(np.exp(shifted).sum(axis=2)) - np.take_along_axis(shifted, examples.labels[..., None], 2)[..., 0]
    expected = np.where(examples.weights > 0, nats, 0.0).sum(axis=1)
    np.testing.assert_allclose(scored.rows.mlm_nats, expected, rtol=1e-5)


@pytest.mark.parametrize("law", [UpdateLaw(name="lamb"), UpdateLaw(name="adamw", epsilon=1e-3)], ids=lambda x: x.name)
def test_updates_are_those_of_the_law_and_vectors_do_not_decay(law: UpdateLaw) -> None:
    backend, examples = started(shape_of("ModernBERT"), law), ragged_examples(VOCABULARY_SIZE)
    before = {name: value.astype(np.float64) for name, value in backend.parameters().items()}
    gradients = {k: v.astype(np.float64) for k, v in backend.gradients([examples], denominators(examples)).items()}
    zeros = {name: np.zeros_like(value) for name, value in before.items()}
    # The reference goes by ALBERT's names: a vector is called so that it takes no part in decay.
    names = {name: f"{name}.bias" if value.ndim < 2 else name for name, value in before.items()}
    parts = [{names[name]: part[name] for name in before} for part in (before, gradients, zeros, zeros)]
    expected = reference_update(law, parts[0], parts[1], (parts[2], parts[3]), step=0, rate=0.01)
    backend.train_step([examples], denominators(examples), step=0, rate=0.01)
    for name, value in backend.parameters().items():
        change = expected.parameters[names[name]] - before[name]
        # A weight is float32: its change is known to a few of its last bits.
        allowed = 1e-4 * np.abs(change).max() + 4e-7 * np.abs(before[name]).max()
        assert np.abs((value - before[name]) - change).max() <= allowed, name


def test_training_that_is_taken_up_ends_with_the_same_bits(shape: EncoderShape, tmp_path: Path) -> None:
    examples = ragged_examples(VOCABULARY_SIZE)
    rows = np.arange(len(examples))
    parts = [examples.take(rows[:4]), examples.take(rows[4:])]

    def train(backend: TorchEncoder, steps: range) -> None:
        for step in steps:
            backend.train_step(parts, denominators(examples), step=step, rate=0.01)

    one, first = started(shape), started(shape)
    train(one, range(4))
    train(first, range(2))
    kept = saved(tmp_path / "step-00000002", shape, first)
    assert kept.shape == shape
    second = new_backend("torch", kept.shape, device="cpu")
    assert isinstance(second, TorchEncoder)
    second.set_law(UpdateLaw(name="lamb"))
    second.load_parameters(kept.parameters)
    second.load_moments(kept.moments)
    train(second, range(2, 4))
    for name, value in one.parameters().items():
        np.testing.assert_array_equal(second.parameters()[name], value, err_msg=name, strict=True)
    assert {name for name, value in one.moments().m.items() if value.any()} >= set(
        one.gradients(parts, denominators(examples))
    )


def test_dropout_follows_from_seed_step_and_micro_batch() -> None:
    shape = shape_of("BERT", hidden_dropout_prob=0.3)
    examples = ragged_examples(VOCABULARY_SIZE)

    def loss(step: int, seed: int) -> float:
        torch.manual_seed(step + seed)  # of whoever else draws here
        backend = started(shape, seed=seed)
        output = backend.train_step([examples], denominators(examples), step=step, rate=0.0)
        return float(output.rows[0].mlm_nats.sum())

    assert loss(5, 1) == loss(5, 1)
    assert len({loss(5, 1), loss(6, 1), loss(5, 2)}) == 3


def saved(path: Path, shape: EncoderShape, backend: TorchEncoder) -> Any:
    vocabulary = path.parent / "spiece.model"
    vocabulary.write_bytes(b"pieces")
    tokenizer: Any = SimpleNamespace(files=[vocabulary], specials=SPECIALS)
    save_checkpoint(
        path,
        shape=shape,
        parameters=backend.parameters(),
        moments=backend.moments(),
        state={"step": 2},
        tokenizer=tokenizer,
    )
    return load_own_checkpoint(path)


def test_transformers_opens_a_checkpoint_and_what_it_is_converted_to(shape: EncoderShape, tmp_path: Path) -> None:
    backend, examples = started(shape), ragged_examples(VOCABULARY_SIZE)
    checkpoint = saved(tmp_path / "step-00000002", shape, backend)
    export_checkpoint(checkpoint, tmp_path / "converted")
    scored = backend.score(examples).rows.mlm_nats
    for folder in (checkpoint.path, tmp_path / "converted"):
        model, told = transformers.AutoModelForMaskedLM.from_pretrained(folder, output_loading_info=True)
        assert not any(told[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"))
        assert type(model).__name__ == shape.config["architectures"][0]
        other = type(backend._scorer)(model, objective="mlm").score(examples)
        np.testing.assert_array_equal(other.rows.mlm_nats, scored)


def test_a_model_that_has_all_settings_stays_as_it_is(shape: EncoderShape) -> None:
    assert resolved(shape) == (shape, [])


def test_weights_of_another_model_are_refused() -> None:
    backend = started(shape_of("BERT"))
    parameters = backend.parameters()
    parameters.pop("cls.predictions.bias")
    with pytest.raises(CheckpointError, match=r"cls\.predictions\.bias"):
        backend.load_parameters(parameters)


def test_initial_weights_follow_from_seed_and_architecture_alone() -> None:
    shape = shape_of("BERT")
    first = initial_weights(shape, 3)
    torch.manual_seed(99)
    torch.rand(7)
    for name, value in initial_weights(shape, 3).items():
        np.testing.assert_array_equal(value, first[name], strict=True)
    table = "bert.embeddings.word_embeddings.weight"
    assert not np.array_equal(initial_weights(shape, 4)[table], first[table])
    assert abs(float(first[table].std()) - 0.1) < 0.01  # the recipe's initializer_range


def test_the_study_decides_vocabulary_and_positions_and_it_is_said() -> None:
    asked = _SIZES | {"vocab_size": 30522, "pad_token_id": 1, "max_position_embeddings": 8, "gone": 3}
    shape, notes = resolved(shape_for("roberta", asked, strict=False))
    assert isinstance(shape, EncoderShape)
    told = " ".join(notes)
    for word in ("gone", "vocab_size is 60", "pad_token_id is 0", "max_position_embeddings is 21"):
        assert word in told, (word, told)
    assert shape.config["max_position_embeddings"] == LONGEST + 1  # RoBERTa counts from behind the pad id


@pytest.mark.parametrize(
    ("family", "settings", "says"),
    [
        ("bert", {"hiden_size": 3}, "hidden_size"),
        ("bert", {"hidden_size": 30, "num_attention_heads": 4}, "30"),
        ("bert", {"hidden_size": "wide"}, "hidden_size"),
        ("bert", {"is_decoder": True}, "decoder"),
        ("bart", {}, "decoder"),
        ("berd", {}, "berd"),
    ],
)
def test_what_cannot_be_made_is_refused(family: str, settings: dict[str, Any], says: str) -> None:
    with pytest.raises(StudyError) as caught:
        resolved(shape_for(family, settings))
    assert says in f"{caught.value.message} {caught.value.hint}"
