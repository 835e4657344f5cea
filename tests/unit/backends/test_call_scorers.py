"""Calls of users as scorers: a torch module, Keras code, the `forward` of an adapter."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks.families import CAUSAL, make_examples, make_model, score_by_hand

from lossary.backends.torch.module_scorer import ModuleScorer
from lossary.backends.torch.scorer import HuggingFaceScorer
from lossary.diagnosis.scorer import AdapterScorer
from lossary.errors import UsageError

pytestmark = pytest.mark.frameworks


def call_of(model: Any) -> Any:
    def call(token_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor) -> torch.Tensor:
        types = {} if model.config.model_type == "gpt2" else {"token_type_ids": token_type_ids}
        return model(input_ids=token_ids, attention_mask=attention_mask, **types).logits  # type: ignore[no-any-return]

    return call


@pytest.mark.parametrize("family", ["BERT", "GPT-2"])
def test_a_module_is_scored_as_the_same_model(family: str) -> None:
    examples, model = make_examples(family), make_model(family)
    expected = HuggingFaceScorer(model).score(examples)
    model.train()
    scorer = ModuleScorer(
        call_of(model), module=model, objectives=("clm",) if family in CAUSAL else ("mlm",), max_length=64
    )
    found = scorer.score(examples)
    assert model.training
    assert np.allclose(found.rows.mlm_nats, expected.rows.mlm_nats, atol=1e-5)
    assert np.array_equal(found.predicted, expected.predicted)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_causal_call_must_not_look_ahead(dtype: torch.dtype) -> None:
    examples, model = make_examples("GPT-2"), make_model("GPT-2").to(dtype)
    ModuleScorer(call_of(model), module=model, objectives=("clm",)).score(examples)
    seen = torch.randn(model.config.vocab_size, model.config.vocab_size, generator=torch.Generator().manual_seed(0))

    def peeking(ids: torch.Tensor, mask: torch.Tensor, types: torch.Tensor) -> torch.Tensor:
        return call_of(model)(ids, mask, types) + seen.to(dtype)[ids.roll(-1, dims=1)]  # type: ignore[no-any-return]

    scorer = ModuleScorer(peeking, module=model, objectives=("clm",))
    for _ in range(2):
        with pytest.raises(UsageError, match="sees the pieces that it predicts"):
            scorer.score(examples)


def test_a_masked_model_is_not_scored_as_a_causal_one() -> None:
    examples, model = make_examples("GPT-2"), make_model("BERT")
    with pytest.raises(UsageError, match="sees the pieces that it predicts"):
        ModuleScorer(call_of(model), module=model, objectives=("clm",)).score(examples)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("spread", [True, False])
def test_an_encoder_is_told_from_a_causal_model_before_it_is_trained(spread: bool, dtype: torch.dtype) -> None:
    examples, model = make_examples("GPT-2"), make_model("BERT", spread=spread).to(dtype)
    with pytest.raises(UsageError, match="scored as a causal model, and sees the pieces"):
        ModuleScorer(call_of(model), module=model, objectives=("clm",)).score(examples)


@pytest.mark.parametrize("ahead", [1, 2, 7])
def test_a_call_that_sees_ahead_inside_of_blocks_is_found(ahead: int) -> None:
    examples, model = make_examples("GPT-2"), make_model("GPT-2")
    seen = torch.randn(model.config.vocab_size, model.config.vocab_size, generator=torch.Generator().manual_seed(0))

    def peeking(ids: torch.Tensor, mask: torch.Tensor, types: torch.Tensor) -> torch.Tensor:
        shifted = torch.cat([ids[:, ahead:], torch.zeros_like(ids[:, :ahead])], dim=1)[:, : ids.shape[1]]
        return call_of(model)(ids, mask, types) + 0.01 * seen[shifted]  # type: ignore[no-any-return]

    with pytest.raises(UsageError, match="sees the pieces that it predicts"):
        ModuleScorer(peeking, module=model, objectives=("clm",)).score(examples)


def test_a_causal_model_is_not_scored_as_a_masked_one() -> None:
    examples, causal, decoder = make_examples("BERT"), make_model("GPT-2"), make_model("BERT", is_decoder=True)
    message = "scored as a masked model, and sees nothing that stands after a hidden word"
    with pytest.raises(UsageError, match=message) as refused:
        ModuleScorer(call_of(causal), module=causal).score(examples)
    assert 'objectives=("clm",)' in (refused.value.hint or "")
    with pytest.raises(UsageError, match=message):
        HuggingFaceScorer(decoder).score(examples)


def test_a_call_with_its_dropout_on_is_refused() -> None:
    examples, model = make_examples("BERT"), make_model("BERT").train()
    with pytest.raises(UsageError, match="answers otherwise when it is asked the same again"):
        # Nothing says which module it calls, so that nobody turns dropout off.
        ModuleScorer(lambda *given: call_of(model)(*given)).score(examples)
    ModuleScorer(call_of(model), module=model).score(examples)


def test_a_call_that_looks_at_no_text_is_scored() -> None:
    examples = make_examples("BERT")
    found = ModuleScorer(lambda ids, *_: torch.zeros(*ids.shape, 120)).score(examples)
    assert np.allclose(found.rows.mlm_nats, examples.masked * np.log(120), rtol=1e-5)


def test_a_call_that_leaves_the_mask_unused_is_refused() -> None:
    examples, model = make_examples("BERT"), make_model("BERT")
    exact = score_by_hand(model, examples, double=True, types=False)
    scorer = ModuleScorer(lambda ids, *_: model(input_ids=ids).logits, module=model)
    for _ in range(2):
        with pytest.raises(UsageError, match="the call of ModuleScorer answers otherwise where an example is padded"):
            scorer.score(examples)
    singly = [scorer.score(examples.take(np.array([row]))).rows.mlm_nats for row in range(len(examples))]
    assert np.allclose(np.concatenate(singly), exact.nats, atol=1e-4)


def both_heads(model: Any) -> Any:
    def call(token_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor) -> Any:
        out = model(input_ids=token_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)
        return out.prediction_logits, out.sop_logits

    return call


def test_a_call_may_give_the_order_too() -> None:
    examples, model = make_examples("ALBERT with SOP"), make_model("ALBERT with SOP")
    exact = score_by_hand(model, examples, double=True)
    found = ModuleScorer(both_heads(model), module=model, objectives=("mlm", "sop")).score(examples)
    assert np.allclose(found.rows.sop_nats, exact.order_nats, atol=1e-5)
    assert np.allclose(found.rows.mlm_nats, exact.nats, atol=1e-4)


def test_what_a_call_gives_is_checked() -> None:
    examples = make_examples("BERT", count=3)
    rows, length = 3, 60

    def expect(message: str, given: Any, objectives: tuple[str, ...] = ("mlm",)) -> None:
        with pytest.raises(UsageError, match=message):
            ModuleScorer(lambda *_: given, objectives=objectives).score(examples)

    expect(r"the call gives \(3, 120\); logits \(3, 60, \d+ or more\)", torch.zeros(rows, 120))
    expect(r"the call gives \(3, 60, 7\)", torch.zeros(rows, length, 7))
    expect("the call gives dict", {"logits": 1})
    expect("a pair is expected", torch.zeros(rows, length, 120), ("mlm", "sop"))
    expect("logits of the order are", (torch.zeros(rows, length, 120), torch.zeros(rows, 3)), ("mlm", "sop"))
    with pytest.raises(UsageError, match=r"objectives are \('sop',\)"):
        ModuleScorer(lambda *_: None, objectives=("sop",))


class Side:
    """An adapter with nothing but `forward`."""

    name = "mine"

    def __init__(self, model: Any, *, gathers: bool) -> None:
        self.model, self.gathers = model, gathers

    def forward(self, feed: dict[str, Any], *, training: bool = False) -> dict[str, Any]:
        assert not training
        ids, mask, types = (
            torch.from_numpy(np.asarray(feed[name])).long() for name in ("token_ids", "attention_mask", "segment_ids")
        )
        with torch.no_grad():
            out = self.model(input_ids=ids, attention_mask=mask, token_type_ids=types)
        mlm = out.prediction_logits.numpy()
        if self.gathers:
            mlm = np.take_along_axis(mlm, feed["positions"][..., None], axis=1)
        return {"mlm": mlm, "sop": out.sop_logits.numpy()}


@pytest.mark.parametrize("gathers", [True, False])
def test_an_adapters_forward_is_enough(gathers: bool) -> None:
    examples, model = make_examples("ALBERT with SOP"), make_model("ALBERT with SOP")
    exact = score_by_hand(model, examples, double=True)
    found = AdapterScorer(Side(model, gathers=gathers)).score(examples)
    assert np.allclose(found.rows.mlm_nats, exact.nats, atol=1e-4)
    assert np.array_equal(found.rows.mlm_correct, exact.correct)
    assert np.allclose(found.rows.sop_nats, exact.order_nats, atol=1e-5)


def test_an_adapter_that_does_not_see_what_follows_is_refused() -> None:
    model = make_model("ALBERT with SOP")

    class Causal(Side):
        def forward(self, feed: dict[str, Any], *, training: bool = False) -> dict[str, Any]:
            whole = super().forward(feed, training=training)
            mlm = [
                super(Causal, self).forward(feed | {"attention_mask": feed["attention_mask"] * (np.arange(60) <= at)})[
                    "mlm"
                ][:, at]
                for at in range(60)
            ]
            return whole | {"mlm": np.stack(mlm, axis=1)}

    with pytest.raises(UsageError, match="the adapter's forward is scored as a masked model, and sees nothing"):
        AdapterScorer(Causal(model, gathers=False)).score(make_examples("BERT"))


def test_an_adapter_without_what_is_needed_is_refused() -> None:
    with pytest.raises(UsageError, match="the adapter has no forward"):
        AdapterScorer(object())

    class Half:
        def forward(self, *_: Any, **__: Any) -> Any:
            return {"mlm": np.zeros((1, 2, 3))}

    with pytest.raises(UsageError, match="forward gives no sop"):
        AdapterScorer(Half()).score(make_examples("BERT"))


KERAS = """
import keras, numpy as np
from keras import ops
from benchmarks.families import VOCABULARY_SIZE, make_examples
from lossary.backends.keras.scorer import KerasScorer
from lossary.errors import UsageError

keras.utils.set_random_seed(0)
ids, mask = keras.Input((None,), dtype="int32"), keras.Input((None,), dtype="int32")
hidden = keras.layers.Embedding(VOCABULARY_SIZE, 16)(ids)
seen = keras.layers.Dense(1)(hidden) * keras.ops.cast(mask, "float32")[..., None]
hidden = keras.layers.Dropout(0.5)(hidden + keras.ops.sum(seen, axis=1, keepdims=True))
model = keras.Model([ids, mask], keras.layers.Dense(VOCABULARY_SIZE, kernel_initializer="normal")(hidden))
examples = make_examples("BERT")
scorer = KerasScorer(lambda ids, mask, types: model([ids, mask], training=False), max_length=60)
logits = keras.ops.convert_to_numpy(model([examples.token_ids, examples.attention_mask], training=False)).astype(float)
logits -= logits.max(axis=-1, keepdims=True)
nats = np.log(np.exp(logits).sum(axis=-1, keepdims=True)) - logits
at = np.take_along_axis(nats, examples.positions[..., None], axis=1)
expected = np.where(examples.weights > 0, np.take_along_axis(at, examples.labels[..., None], axis=2)[..., 0], 0)
for few in (examples, examples.padded(length=72, predictions=12, rows=32)):
    found = scorer.score(few)
    assert np.allclose(found.rows.mlm_nats[:23], expected.sum(axis=1), atol=1e-4)
    assert (found.rows.mlm_nats[23:] == 0).all()
    hits = (at.argmin(axis=2) == examples.labels) & (examples.weights > 0)
    assert np.array_equal(found.rows.mlm_correct[:23], hits.sum(axis=1))
assert scorer.few_shapes == (keras.backend.backend() != "torch")
def refused(message, given, objectives):
    for few in (make_examples("GPT-2"), make_examples("GPT-2").padded(length=72, predictions=71, rows=32)):
        try:
            KerasScorer(lambda ids, mask, types: given(ids, mask), objectives=objectives).score(few)
        except UsageError as error:
            assert message in error.message, error
        else:
            raise AssertionError(message)
table = keras.random.normal((VOCABULARY_SIZE, VOCABULARY_SIZE), seed=0)
along = lambda ids, mask: ops.cumsum(ops.take(table, ids, axis=0), axis=1) * ops.cast(mask, "float32")[..., None]
KerasScorer(lambda ids, mask, types: along(ids, mask), objectives=("clm",)).score(make_examples("GPT-2"))
refused("sees the pieces that it predicts", lambda ids, mask: model([ids, mask], training=False), ("clm",))
refused("sees nothing that stands after a hidden word", along, ("mlm",))
refused("when it is asked the same again", lambda ids, mask: model([ids, mask], training=True), ("mlm",))
try:
    KerasScorer(lambda *_: np.zeros((3, 2))).score(examples)
except UsageError as error:
    assert "(3, 2)" in error.message
else:
    raise AssertionError("two numbers an example are no logits")
"""


@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_keras_code_is_scored_on_each_of_its_backends(backend: str) -> None:
    environment = dict(os.environ) | {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, "-c", KERAS], env=environment, capture_output=True, text=True, cwd=Path(__file__).parents[3]
    )
    assert done.returncode == 0, done.stderr[-2000:]
