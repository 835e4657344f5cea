"""Models of transformers as scorers: against a loop over one example at a time, and left as they were."""

from typing import Any

import numpy as np
import pytest
import torch
import transformers
from benchmarks.families import CAUSAL, FAMILIES, VOCABULARY_SIZE, make_examples, make_model, score_by_hand

from lossary.backends.api import OutOfDeviceMemory, ScoreOutput
from lossary.backends.torch.scorer import HuggingFaceScorer
from lossary.data.examples import Examples, concatenate
from lossary.errors import UsageError
from lossary.vocabulary.api import Specials

pytestmark = pytest.mark.frameworks


def score(scorer: HuggingFaceScorer, examples: Examples, *, size: int = 64) -> list[ScoreOutput]:
    starts = range(0, len(examples), size)
    return [scorer.score(examples.take(np.arange(start, min(start + size, len(examples))))) for start in starts]


def sums(outputs: list[ScoreOutput], name: str) -> np.ndarray[Any, Any]:
    return np.concatenate([getattr(output.rows, name) for output in outputs])


def rms(values: np.ndarray[Any, Any]) -> float:
    return float(np.sqrt((values**2).mean()))


class Pieces:
    """As much of a vocabulary as a scorer asks for."""

    title = "WordPiece"
    digest = "blake2b:0"
    kind = "masked"

    def __init__(self, size: int, pad: int | None = None) -> None:
        self.size, self.specials = size, Specials(pad=pad)

    def encode(self, texts: Any) -> Any:
        raise AssertionError(f"a scorer is given pieces, and cuts no text: {texts}")

    frame = encode


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_are_those_of_one_example_at_a_time(family: str) -> None:
    examples, model = make_examples(family), make_model(family)
    exact, single = (score_by_hand(model, examples, double=double) for double in (True, False))
    # What single precision itself leaves open.
    noise = rms(single.nats - exact.nats)
    scorer = HuggingFaceScorer(model)
    assert scorer.language == ("clm" if family in CAUSAL else "mlm")
    for size in (1, 7, 64):
        found = score(scorer, examples, size=size)
        assert rms(sums(found, "mlm_nats") - exact.nats) <= 3 * noise
        assert np.array_equal(sums(found, "mlm_correct"), exact.correct)
        if "sop" in scorer.objectives:
            assert np.allclose(sums(found, "sop_nats"), exact.order_nats, atol=1e-5)
    assert not any("all logits" in note for note in scorer.notes)


@pytest.mark.parametrize("family", ["BERT", "ModernBERT", "DeBERTa-v2", "ESM", "Llama"])
def test_in_double_precision_batches_do_not_matter_at_all(family: str) -> None:
    examples, model = make_examples(family), make_model(family).double()
    exact = score_by_hand(model, examples, double=True)
    for size in (1, 7, 64):
        outputs = score(HuggingFaceScorer(model), examples, size=size)
        # Single targets are kept in single precision: half a step of each.
        assert np.allclose(sums(outputs, "mlm_nats"), exact.nats, rtol=1e-7, atol=1e-6)


def test_predictions_are_pieces_at_their_targets() -> None:
    examples, model = make_examples("BERT"), make_model("BERT")
    output = HuggingFaceScorer(model).score(examples)
    used = examples.weights > 0
    assert np.array_equal(((output.predicted == examples.labels) & used).sum(axis=1), output.rows.mlm_correct)
    assert np.allclose(output.position_nats.sum(axis=1), output.rows.mlm_nats, rtol=1e-6)
    assert (output.position_nats[~used] == 0).all()


class MixesPositions(transformers.BertForMaskedLM):
    """Its head sees all positions: rows of targets are not enough for it."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output = super().forward(*args, **kwargs)
        output.logits = output.logits - output.logits.mean(dim=1, keepdim=True)
        return output


def test_a_head_that_is_not_by_position_is_computed_whole_and_a_note_says_so() -> None:
    plain, examples = make_model("BERT"), make_examples("BERT", count=2, longest=60)
    # As many tokens as there are in each: padding would be part of the mean.
    examples = concatenate([examples.take(np.array([0]))] * 2)
    model = MixesPositions(plain.config)
    model.load_state_dict(plain.state_dict())
    scorer = HuggingFaceScorer(model.eval())
    found = scorer.score(examples)
    exact = score_by_hand(model, examples, double=True)
    assert np.allclose(found.rows.mlm_nats, exact.nats, atol=1e-4)
    assert scorer.notes == ["MixesPositions is not scored on targets only: all logits are computed, slower"]


def test_a_model_in_training_is_left_as_it_was() -> None:
    examples, model = make_examples("BERT"), make_model("BERT", hidden_dropout_prob=0.3)
    expected = HuggingFaceScorer(model).score(examples)
    model.train()
    model.bert.encoder.layer[0].eval()
    before, generator = [module.training for module in model.modules()], torch.get_rng_state()
    with torch.autocast("cpu", torch.bfloat16):
        found = HuggingFaceScorer(model).score(examples)
    assert [module.training for module in model.modules()] == before
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert np.array_equal(found.rows.mlm_nats, expected.rows.mlm_nats)
    ids = torch.from_numpy(examples.token_ids).long()
    model(input_ids=ids, labels=ids).loss.backward()


def test_it_is_left_as_it_was_by_a_failure_too() -> None:
    model = make_model("Llama").train()

    def fails(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory\nand more")

    model.model.register_forward_pre_hook(fails)
    with pytest.raises(OutOfDeviceMemory, match=r"^CUDA out of memory$"):
        HuggingFaceScorer(model).score(make_examples("Llama"))
    assert all(module.training for module in model.modules())


def test_a_compiled_or_wrapped_model_is_scored_as_itself() -> None:
    examples, model = make_examples("BERT"), make_model("BERT")
    expected = HuggingFaceScorer(model).score(examples)
    for wrapped in (torch.compile(model, backend="eager"), torch.nn.DataParallel(model)):
        assert np.array_equal(HuggingFaceScorer(wrapped).score(examples).rows.mlm_nats, expected.rows.mlm_nats)


def test_examples_without_a_target_have_no_nats() -> None:
    examples = make_examples("BERT").take(np.array([22]))
    output = HuggingFaceScorer(make_model("BERT")).score(examples)
    assert examples.masked.tolist() == [0]
    assert output.rows.mlm_nats.tolist() == [0.0]


def test_bf16_is_near_and_says_what_it_is() -> None:
    examples, model = make_examples("BERT"), make_model("BERT")
    exact = HuggingFaceScorer(model).score(examples).rows.mlm_nats
    autocast = HuggingFaceScorer(model, precision="bf16")
    narrow = HuggingFaceScorer(make_model("BERT").bfloat16())
    assert (autocast.precision, narrow.precision) == ("bf16", "bf16")
    for scorer in (autocast, narrow):
        found = scorer.score(examples).rows.mlm_nats
        assert 1e-6 < np.abs(found - exact).max() < 0.5


def test_weights_that_are_no_numbers_score_none() -> None:
    model = make_model("BERT")
    with torch.no_grad():
        model.bert.encoder.layer[0].output.dense.bias[0] = float("nan")
    output = HuggingFaceScorer(model).score(make_examples("BERT"))
    assert np.isnan(output.rows.mlm_nats[:-1]).all()


@pytest.mark.parametrize(
    ("family", "longest"), [("BERT", 64), ("RoBERTa", 62), ("XLM-R", 62), ("GPT-2", 64), ("ESM", 64), ("MPNet", 62)]
)
def test_the_longest_example_is_what_the_positions_allow(family: str, longest: int) -> None:
    model = make_model(family)
    scorer = HuggingFaceScorer(model)
    assert scorer.max_length == longest
    scorer.score(make_examples(family, count=1, longest=longest))
    with pytest.raises(UsageError, match="tokens, and the model takes"):
        scorer.score(make_examples(family, count=40, longest=longest + 1))


def test_padding_is_the_models_pad_id_whatever_the_vocabulary_says() -> None:
    examples, model = make_examples("RoBERTa"), make_model("RoBERTa")
    expected = HuggingFaceScorer(model).score(examples).rows.mlm_nats
    odd = HuggingFaceScorer(model, Pieces(VOCABULARY_SIZE, pad=0))
    assert np.array_equal(odd.score(examples).rows.mlm_nats, expected)


def test_a_vocabulary_that_is_not_the_models_is_refused_or_told() -> None:
    model = make_model("BERT")
    with pytest.raises(UsageError, match=r"\(WordPiece\) has 30,522 pieces, and the model 120"):
        HuggingFaceScorer(model, Pieces(30522))
    assert HuggingFaceScorer(model, Pieces(VOCABULARY_SIZE)).notes == []
    assert HuggingFaceScorer(model, Pieces(119)).notes == [
        "its head has 120 outputs for 119 pieces; the rest are never right"
    ]
    assert HuggingFaceScorer(model, Pieces(100)).notes == [
        "its head has 120 outputs for 100 pieces; the rest are never right. Is it the model's own tokenizer?"
    ]
    examples = make_examples("BERT")
    examples.token_ids[0, 2] = VOCABULARY_SIZE
    with pytest.raises(UsageError, match="the examples have the piece 120, and the model 120 pieces"):
        HuggingFaceScorer(model).score(examples)
    examples.token_ids[0, 2], examples.segment_ids[0, 2] = 5, 2
    with pytest.raises(UsageError, match="template has 3 token types, the model 2"):
        HuggingFaceScorer(model).score(examples)


def small(name: str, **settings: Any) -> Any:
    kind = getattr(transformers, name)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    return kind(kind.config_class(vocab_size=50, **(settings or sizes)))


def test_what_is_no_language_model_is_refused_by_name() -> None:
    bart = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    bart |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    refused = [
        (torch.nn.Linear(2, 2), "Linear is no model of transformers"),
        (small("BertModel"), "BertModel is neither a masked nor a causal"),
        (small("BertForSequenceClassification"), "neither a masked nor a causal"),
        (small("ElectraForPreTraining"), "ElectraForPreTraining has no head over its vocabulary"),
        (small("BartForConditionalGeneration", **bart), "is an encoder with a decoder"),
    ]
    for model, message in refused:
        with pytest.raises(UsageError, match=message):
            HuggingFaceScorer(model)


def test_what_a_class_of_ones_own_predicts_can_be_said() -> None:
    class Mine(transformers.LlamaForCausalLM):
        pass

    model = Mine(make_model("Llama").config)
    assert HuggingFaceScorer(model).objectives == ("clm",)
    assert HuggingFaceScorer(model, objective="mlm").objectives == ("mlm",)
    assert HuggingFaceScorer(small("BertLMHeadModel")).objectives == ("clm",)


def test_logits_of_a_causal_model_bound_how_much_is_scored_at_once() -> None:
    config = make_model("GPT-2").config
    config.vocab_size = 200_000
    causal = HuggingFaceScorer(transformers.GPT2LMHeadModel(config))
    assert causal.max_tokens * 200_000 * 12 <= 1 << 30
    assert HuggingFaceScorer(make_model("BERT")).max_tokens == 8192


def test_a_model_that_sees_padding_is_scored_alone_or_not_at_all() -> None:
    settings = {"hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 48, "max_position_embeddings": 64}
    torch.manual_seed(0)
    model = transformers.FNetForMaskedLM(transformers.FNetConfig(vocab_size=VOCABULARY_SIZE, **settings)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.15 * torch.randn_like(parameter))
    examples, scorer = make_examples("BERT"), HuggingFaceScorer(model)
    exact = score_by_hand(model, examples, double=True)
    for _ in range(2):
        with pytest.raises(UsageError, match="FNetForMaskedLM answers otherwise where an example is padded") as error:
            score(scorer, examples)
    assert "--batch-size 1" in str(error.value)
    assert np.allclose(sums(score(scorer, examples, size=1), "mlm_nats"), exact.nats, atol=1e-4)
