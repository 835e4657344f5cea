"""Probes are what they are said to be: nothing is alike, all kinds of example are there, variances are small."""

import numpy as np
import pytest

from lossary.data.tokenizer import CLS, MASK, SEP
from lossary.diagnosis.probes import ProbeKind, probe_feed, probe_parameters
from lossary.models.arbiter import Architecture, forward
from lossary.models.parameters import parameter_table
from lossary.models.shapes import AlbertShape

SHAPE = AlbertShape(
    vocabulary_size=300,
    hidden_size=32,
    num_layers=3,
    num_heads=4,
    intermediate_size=64,
    embedding_size=24,
    max_positions=64,
)


@pytest.mark.parametrize("kind", ["plain", "low-variance", "tiny-variance"])
def test_weights_have_the_canonical_shapes_and_no_constant(kind: ProbeKind) -> None:
    weights = probe_parameters(SHAPE, 1, kind=kind)
    assert {name: value.shape for name, value in weights.items()} == parameter_table(SHAPE)
    for name, value in weights.items():
        assert value.dtype == np.float32
        assert value.std() > 0, name
        assert np.isfinite(value).all()
    again, other = probe_parameters(SHAPE, 1, kind=kind), probe_parameters(SHAPE, 2, kind=kind)
    for name, value in weights.items():
        np.testing.assert_array_equal(value, again[name])
        assert not np.array_equal(value, other[name])


@pytest.mark.parametrize(
    ("kind", "low", "high"), [("plain", 0.2, 4.0), ("low-variance", 1e-6, 1e-4), ("tiny-variance", 1e-11, 1e-8)]
)
def test_what_is_normalised_has_the_variance_of_its_kind(kind: ProbeKind, low: float, high: float) -> None:
    """Seen through an ε of that size: outputs shrink where the variance is no larger."""
    weights, feed = probe_parameters(SHAPE, 1, kind=kind), probe_feed(SHAPE, 1, examples=8, length=32)
    for place in ("embeddings", "layers", "head"):
        shares = []
        for epsilon in (low / 100, high * 100):
            architecture = Architecture(num_layers=3, num_heads=4, **{f"epsilon_{place}": epsilon})
            exact = forward(weights, Architecture.of(SHAPE), feed, activations=True).activations
            found = forward(weights, architecture, feed, activations=True).activations
            name = {"embeddings": "embeddings", "layers": "layer.0.attention", "head": "mlm_hidden"}[place]
            shares.append(float(found[name].std() / exact[name].std()))
        assert shares[0] == pytest.approx(1.0, abs=0.02), place
        assert shares[1] < 0.9, place


def test_a_feed_has_all_kinds_of_example() -> None:
    feed = probe_feed(SHAPE, 3, examples=20, length=32)
    lengths = feed.attention_mask.sum(axis=1)
    assert lengths.max() == 32
    assert len(set(lengths.tolist())) > 5
    assert set(feed.sop_labels.tolist()) == {-1, 0, 1}
    np.testing.assert_array_equal(feed.token_ids != 0, feed.attention_mask != 0)
    np.testing.assert_array_equal(feed.token_ids[:, 0], CLS)
    np.testing.assert_array_equal(feed.token_ids[np.arange(20), lengths - 1], SEP)
    for row in range(20):
        used = feed.weights[row] > 0
        places = feed.positions[row, used]
        assert len(places) == len(set(places.tolist())) >= 1
        assert (np.diff(places) > 0).all()
        assert (places < lengths[row]).all()
        assert (feed.labels[row, used] >= 5).all()
        assert not feed.labels[row, ~used].any()
        assert feed.segment_ids[row, : lengths[row]].any() == (feed.sop_labels[row] >= 0)
        assert not feed.segment_ids[row, lengths[row] :].any()
        # Segment 1 begins behind a separator.
        if feed.sop_labels[row] >= 0:
            assert feed.token_ids[row, np.argmax(feed.segment_ids[row]) - 1] == SEP
    hidden = feed.token_ids[feed.weights.nonzero()[0], feed.positions[feed.weights > 0]] == MASK
    assert 0.5 < hidden.mean() < 1.0
    np.testing.assert_array_equal(feed.token_ids, probe_feed(SHAPE, 3, examples=20, length=32).token_ids)


@pytest.mark.parametrize(("examples", "length"), [(1, 8), (3, 16), (16, 64)])
def test_feeds_of_any_size_can_be_run(examples: int, length: int) -> None:
    feed = probe_feed(SHAPE, 1, examples=examples, length=length)
    outputs = forward(probe_parameters(SHAPE, 1), Architecture.of(SHAPE), feed)
    assert outputs.mlm.shape == (*feed.positions.shape, 300)
    assert np.isfinite(outputs.sop).all()
