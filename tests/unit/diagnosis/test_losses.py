"""Laws of losses and metrics: sides in float32, one for each named fault, healthy ones left alone."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lossary.diagnosis.adapter import Feed
from lossary.diagnosis.laws.losses import (
    MEASURES,
    MeasureObservation,
    ReportedObservation,
    identify_measures,
    identify_reported_loss,
    laws_of,
    measure_feeds,
    measure_outputs,
    not_separated,
    weights_of,
)

V = 800


def make_feed(seed: int, rows: int = 16, tokens: int = 64, slots: int = 10) -> Feed:
    random = np.random.default_rng(seed)
    lengths = random.integers(tokens // 3, tokens + 1, rows)
    text = np.arange(tokens) < lengths[:, None]
    ids = np.where(text, random.integers(5, V, (rows, tokens)), 0)
    masked = np.minimum(slots, np.maximum(2, lengths // 6))
    used = np.arange(slots) < masked[:, None]
    positions = np.zeros((rows, slots), np.int32)
    for row in range(rows):
        positions[row, : masked[row]] = np.sort(random.choice(lengths[row] - 2, masked[row], replace=False) + 1)
    labels = np.where(used, np.take_along_axis(ids, positions, 1), 0)
    ids[np.nonzero(used)[0], positions[used]] = 4
    return Feed(
        token_ids=ids.astype(np.int32),
        attention_mask=text.astype(np.int32),
        segment_ids=np.zeros((rows, tokens), np.int32),
        positions=positions,
        labels=labels.astype(np.int32),
        weights=used.astype(np.float32),
        sop_labels=random.integers(-1, 2, rows).astype(np.int8),
        dataset=np.zeros(rows, np.int16),
    )


def nats(logits: np.ndarray, labels: np.ndarray, smoothing: float = 0.0) -> np.ndarray:
    """Cross entropy in float32, as a training program computes it."""
    x = logits.astype(np.float32)
    logp = x - x.max(-1, keepdims=True)
    logp = logp - np.log(np.exp(logp).sum(-1, keepdims=True, dtype=np.float32))
    plain = -np.take_along_axis(logp, labels[..., None].astype(np.int64), -1)[..., 0]
    return np.float32(1 - smoothing) * plain + np.float32(smoothing) * -logp.mean(-1, dtype=np.float32)


Values = dict[str, float]
Side = Callable[[dict[str, Any], Feed], Values]


def healthy(outputs: dict[str, Any], feed: Feed, *, smoothing: float = 0.0, ignored: int | None = None) -> Values:
    rows = np.arange(len(feed))[:, None]
    mlm = outputs["mlm"]
    if mlm.shape[1] != feed.positions.shape[1]:
        mlm = mlm[rows, feed.positions]
    weights = feed.weights if ignored is None else feed.weights * (feed.labels != ignored)
    loss = nats(mlm, feed.labels, smoothing)
    pairs = feed.sop_labels >= 0
    order = nats(outputs["sop"], np.maximum(feed.sop_labels, 0))[pairs]
    m = float(np.float32((loss * weights).sum() / (weights.sum() + np.float32(1e-5))))
    s = float(np.float32(order.mean()))
    return {
        "loss": float(np.float32(m) + np.float32(s)),
        "mlm_loss": m,
        "sop_loss": s,
        "mlm_accuracy": float(((mlm.argmax(-1) == feed.labels) * weights).sum() / weights.sum()),
        "sop_accuracy": float((outputs["sop"].argmax(-1) == feed.sop_labels)[pairs].mean()),
    }


def observe(side: Side, seed: int = 0, *, whole: bool = False, count: int = 6) -> list[MeasureObservation]:
    found = []
    for number, feed in enumerate(measure_feeds(make_feed(seed), count=count, seed=seed)):
        outputs = measure_outputs(feed, V, whole=whole, seed=1000 * seed + number)
        found.append(MeasureObservation(outputs=outputs, feed=feed, measured=side(outputs, feed)))
    return found


def pieces(outputs: dict[str, Any], feed: Feed) -> dict[str, Any]:
    """What faulty sides are built from."""
    rows = np.arange(len(feed))[:, None]
    mlm = outputs["mlm"]
    whole = mlm.shape[1] != feed.positions.shape[1]
    slots = mlm[rows, feed.positions] if whole else mlm
    found = {
        "w": feed.weights,
        "ce": nats(slots, feed.labels),
        "hit": slots.argmax(-1) == feed.labels,
        "sop": nats(outputs["sop"], np.maximum(feed.sop_labels, 0)),
        "flip": nats(outputs["sop"], 1 - np.maximum(feed.sop_labels, 0)),
        "right": outputs["sop"].argmax(-1) == np.maximum(feed.sop_labels, 0),
        "pairs": feed.sop_labels >= 0,
        "label": feed.sop_labels,
    }
    if whole:
        labels = feed.arrays()["mlm_labels"]
        for name, fill in (("zero", np.zeros_like(labels)), ("shown", feed.token_ids)):
            full = np.where(labels < 0, fill, labels)
            found |= {f"{name}_ce": nats(mlm, full), f"{name}_hit": mlm.argmax(-1) == full}
        found["text"] = feed.attention_mask
        found["masked"] = labels >= 0
    return found


def frequent(feed: Feed) -> int:
    return int(feed.labels[0, 0])


FAULTS: dict[str, tuple[str, bool, Callable[[dict[str, Any]], float], set[str]]] = {
    "all slots": ("mlm_loss", False, lambda p: p["ce"].mean(), {"padding-scored"}),
    "divided by slots": ("mlm_loss", False, lambda p: (p["ce"] * p["w"]).mean(), {"loss-scaled"}),
    "sum": ("mlm_loss", False, lambda p: (p["ce"] * p["w"]).sum(), {"loss-scaled"}),
    "half": ("mlm_loss", False, lambda p: 0.5 * (p["ce"] * p["w"]).sum() / p["w"].sum(), {"loss-scaled"}),
    "bits": ("mlm_loss", False, lambda p: (p["ce"] * p["w"]).sum() / p["w"].sum() / np.log(2), {"log-base"}),
    "rows first": (
        "mlm_loss",
        False,
        lambda p: ((p["ce"] * p["w"]).sum(1) / p["w"].sum(1)).mean(),
        {"mean-of-means"},
    ),
    "all tokens": ("mlm_loss", True, lambda p: p["zero_ce"].mean(), {"unmasked-positions-scored"}),
    "all text": (
        "mlm_loss",
        True,
        lambda p: (p["zero_ce"] * p["text"]).sum() / p["text"].sum(),
        {"unmasked-positions-scored"},
    ),
    "all text for itself": (
        "mlm_loss",
        True,
        lambda p: (p["shown_ce"] * p["text"]).sum() / p["text"].sum(),
        {"unmasked-positions-scored"},
    ),
    "padding": (
        "mlm_loss",
        True,
        lambda p: p["zero_ce"][p["masked"] | (p["text"] == 0)].mean(),
        {"padding-scored"},
    ),
    "accuracy over slots": (
        "mlm_accuracy",
        False,
        lambda p: (p["hit"] * p["w"]).mean(),
        {"accuracy-over-all-slots"},
    ),
    "accuracy of slots": ("mlm_accuracy", False, lambda p: p["hit"].mean(), {"accuracy-over-all-slots"}),
    "accuracy of rows": (
        "mlm_accuracy",
        False,
        lambda p: ((p["hit"] * p["w"]).sum(1) / p["w"].sum(1)).mean(),
        {"mean-of-means"},
    ),
    "accuracy of all tokens": (
        "mlm_accuracy",
        True,
        lambda p: (p["shown_hit"] * p["text"]).sum() / p["text"].sum(),
        {"unmasked-positions-scored"},
    ),
    "percent": (
        "mlm_accuracy",
        False,
        lambda p: 100 * (p["hit"] * p["w"]).sum() / p["w"].sum(),
        {"loss-scaled"},
    ),
    "class 0 of order": ("sop_loss", False, lambda p: p["sop"][p["label"] == 1].mean(), {"class-ignored"}),
    "class 1 of order": ("sop_loss", False, lambda p: p["sop"][p["label"] == 0].mean(), {"class-ignored"}),
    "unlabelled pairs": ("sop_loss", False, lambda p: p["sop"].mean(), {"padding-scored"}),
    "order sum": ("sop_loss", False, lambda p: p["sop"][p["pairs"]].sum(), {"loss-scaled"}),
    "order flipped": ("sop_loss", False, lambda p: p["flip"][p["pairs"]].mean(), {"sop-columns-swapped"}),
    "order accuracy flipped": (
        "sop_accuracy",
        False,
        lambda p: 1 - p["right"][p["pairs"]].mean(),
        {"sop-columns-swapped"},
    ),
    "order accuracy of all": ("sop_accuracy", False, lambda p: p["right"].mean(), {"padding-scored"}),
}


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("seed", [0, 1])
def test_named_fault_of_one_number(name: str, seed: int) -> None:
    number, whole, value, names = FAULTS[name]

    def side(outputs: dict[str, Any], feed: Feed) -> Values:
        return healthy(outputs, feed) | {number: float(np.float32(value(pieces(outputs, feed))))}

    fits = identify_measures(observe(side, seed, whole=whole))
    fit = fits[number]
    assert fit.confirmed, (fit.distance, fit.tried[:2])
    assert set(fit.best.names) == names
    assert not fit.ties
    assert fit.distance > 100
    assert all(fits[other].equal for other in MEASURES if other != number)


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("whole", [False, True])
def test_healthy_sides_are_left_alone(seed: int, whole: bool) -> None:
    for number, fit in identify_measures(observe(healthy, seed, whole=whole and seed < 8, count=4)).items():
        assert fit.equal, number
        assert not fit.confirmed


@pytest.mark.parametrize("extra", [0.0, 1e-5])
def test_denominators_within_rounding_are_no_fault(extra: float) -> None:
    def side(outputs: dict[str, Any], feed: Feed) -> Values:
        p = pieces(outputs, feed)
        return {"mlm_loss": float((p["ce"] * p["w"]).sum() / (p["w"].sum() + extra))}

    assert identify_measures(observe(side))["mlm_loss"].equal


@pytest.mark.parametrize("smoothing", [0.1, 0.02])
def test_label_smoothing_has_its_value(smoothing: float) -> None:
    fit = identify_measures(observe(lambda o, f: healthy(o, f, smoothing=smoothing)))
    assert fit["mlm_loss"].best.names == ("label-smoothing",)
    assert fit["mlm_loss"].best.values["smoothing"] == pytest.approx(smoothing, rel=1e-4)
    assert fit["loss"].best.names == ("label-smoothing",)
    assert fit["sop_loss"].equal


def test_an_ignored_class_is_found_among_all() -> None:
    ignored = frequent(make_feed(0))
    fit = identify_measures(observe(lambda o, f: healthy(o, f, ignored=ignored)))
    for number in ("mlm_loss", "mlm_accuracy", "loss"):
        assert fit[number].confirmed
        assert fit[number].best.names == ("class-ignored",)
        assert fit[number].best.values["classes"] == [ignored]


def test_two_faults_at_once() -> None:
    ignored = frequent(make_feed(0))
    fit = identify_measures(observe(lambda o, f: healthy(o, f, ignored=ignored, smoothing=0.1)))
    for number in ("mlm_loss", "loss"):
        best = fit[number].best
        assert fit[number].confirmed
        assert best.names == ("class-ignored", "label-smoothing")
        assert best.values["smoothing"] == pytest.approx(0.1, rel=1e-4)
        assert best.values["classes"] == [ignored]
        assert set(best.values["sentences"]) == set(best.names)
    assert fit["mlm_accuracy"].best.names == ("class-ignored",)


@pytest.mark.parametrize(
    ("weights", "name", "values"),
    [
        ((1.0, 0.5), "loss-weight", {"sop_weight": 0.5}),
        ((1.0, 0.0), "loss-weight", {"sop_weight": 0.0}),
        ((0.5, 1.0), "loss-weight", {"mlm_weight": 0.5}),
        ((0.5, 0.5), "loss-scaled", {"factor": 0.5}),
        ((0.7, 0.3), "loss-weight", {"mlm_weight": 0.7, "sop_weight": 0.3}),
    ],
)
def test_weights_of_the_total(weights: tuple[float, float], name: str, values: dict[str, float]) -> None:
    def side(outputs: dict[str, Any], feed: Feed) -> Values:
        right = healthy(outputs, feed)
        return right | {"loss": weights[0] * right["mlm_loss"] + weights[1] * right["sop_loss"]}

    fits = identify_measures(observe(side, 2))
    assert fits["loss"].confirmed
    assert fits["loss"].best.names == (name,)
    for key, value in values.items():
        assert fits["loss"].best.values[key] == pytest.approx(value, abs=1e-5)
    assert fits["mlm_loss"].equal
    assert weights_of(fits["loss"]) == pytest.approx(weights, abs=1e-5)
    assert weights_of(fits["mlm_loss"]) == (1.0, 1.0)


def test_a_total_alone_shows_the_law_of_its_part_and_a_weight() -> None:
    def side(outputs: dict[str, Any], feed: Feed) -> Values:
        p = pieces(outputs, feed)
        return {"loss": float(p["ce"].mean() + 0.5 * p["sop"][p["pairs"]].mean())}

    fit = identify_measures(observe(side, 1))["loss"]
    assert fit.confirmed
    assert set(fit.best.names) == {"padding-scored", "loss-weight"}
    assert fit.best.values["sop_weight"] == pytest.approx(0.5, abs=1e-4)


def test_a_total_of_identified_parts() -> None:
    def side(outputs: dict[str, Any], feed: Feed) -> Values:
        p = pieces(outputs, feed)
        one, two = p["ce"].mean() / np.log(2), p["sop"].mean()
        return {"mlm_loss": float(one), "sop_loss": float(two), "loss": float(one + two)}

    fits = identify_measures(observe(side, 1))
    assert fits["mlm_loss"].best.names == ("log-base", "padding-scored")
    assert set(fits["loss"].best.names) == {"log-base", "padding-scored"}
    assert all(fit.confirmed for fit in fits.values())


@pytest.mark.parametrize("kind", ["focal", "clipped", "top two", "offset"])
def test_an_unknown_law_is_not_confirmed(kind: str) -> None:
    def side(outputs: dict[str, Any], feed: Feed) -> Values:
        p = pieces(outputs, feed)
        ce = {
            "focal": (1 - np.exp(-p["ce"])) ** 2 * p["ce"],
            "clipped": np.minimum(p["ce"], 6.0),
            "top two": p["ce"] * (p["ce"] < np.sort(p["ce"], axis=1)[:, [-2]]),
            "offset": p["ce"] + 0.01,
        }[kind]
        value = float((ce * p["w"]).sum() / p["w"].sum())
        return {"mlm_loss": value, "loss": value + float(p["sop"][p["pairs"]].mean())}

    for seed in range(5):
        for count in (3, 6):
            for fit in identify_measures(observe(side, seed, count=count)).values():
                assert not fit.equal
                assert not fit.confirmed, fit.best


def test_printed_numbers_are_known_to_half_a_digit() -> None:
    def side(outputs: dict[str, Any], feed: Feed) -> Values:
        return {name: round(value, 3) for name, value in healthy(outputs, feed).items()}

    rounding = dict.fromkeys(MEASURES, 0.0005)
    seen = [replace(o, rounding=rounding) for o in observe(side)]
    assert all(fit.equal for fit in identify_measures(seen).values())
    assert not any(fit.equal for fit in identify_measures(observe(side)).values())


def test_a_side_that_computes_in_bf16_is_judged_by_its_own_rounding() -> None:
    def side(outputs: dict[str, Any], feed: Feed) -> Values:
        cut = {
            k: (v.view(np.uint32) + 0x8000 & 0xFFFF0000).astype(np.uint32).view(np.float32) for k, v in outputs.items()
        }
        return healthy(cut, feed)

    assert all(fit.equal for fit in identify_measures(observe(side), precision="bf16").values())
    assert not identify_measures(observe(side))["mlm_loss"].equal


def test_values_that_are_no_number_are_a_difference_without_a_name() -> None:
    fit = identify_measures(observe(lambda *_: {"mlm_loss": float("nan"), "loss": float("nan")}))
    assert not fit["mlm_loss"].equal
    assert not fit["mlm_loss"].confirmed
    assert not fit["loss"].confirmed


def test_too_few_observations_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 3"):
        identify_measures(observe(healthy, count=2))


def test_feeds_and_outputs_separate_all_laws() -> None:
    for whole in (False, True):
        seen = observe(healthy, whole=whole)
        assert not_separated(seen, "mlm_loss") == ()
        assert not_separated(seen, "sop_loss") == ()
        assert not_separated(seen, "mlm_accuracy") == ()
    full = make_feed(0, slots=4)
    full = replace(full, weights=np.ones_like(full.weights))
    plain = [
        MeasureObservation(outputs=(o := measure_outputs(full, V, seed=i)), feed=full, measured=healthy(o, full))
        for i in range(3)
    ]
    assert "padding-scored" in not_separated(plain, "mlm_loss")
    assert "mean-of-means" in not_separated(plain, "mlm_loss")


def test_feeds_stay_in_form() -> None:
    for feed in measure_feeds(make_feed(3), seed=4):
        used = feed.weights > 0
        assert used.any(axis=1).all()
        assert not used.all(axis=1).any()
        rows, columns = np.nonzero(used)
        assert (feed.attention_mask[rows, feed.positions[rows, columns]] == 1).all()
        assert {-1, 0, 1} == set(feed.sop_labels.tolist())
        assert (feed.labels[~used] == 0).all()
    with pytest.raises(ValueError, match="at least 4"):
        measure_feeds(make_feed(3).take(np.arange(2)))


def test_a_feed_with_few_masked_positions_is_given_more() -> None:
    feed = make_feed(3, rows=8, tokens=16, slots=1)
    feeds = measure_feeds(feed, seed=4)
    seen = [
        MeasureObservation(outputs=(o := measure_outputs(f, V, seed=i)), feed=f, measured=healthy(o, f))
        for i, f in enumerate(feeds)
    ]
    assert not_separated(seen, "mlm_loss") == ()
    assert all(fit.equal for fit in identify_measures(seen).values())
    with pytest.raises(ValueError, match="ordinary"):
        measure_feeds(replace(feed, token_ids=np.zeros_like(feed.token_ids)))


def test_a_side_without_sentence_order() -> None:
    seen = [
        replace(o, outputs={"mlm": o.outputs["mlm"]}, measured={"loss": o.measured["mlm_loss"]})
        for o in observe(healthy)
    ]
    fits = identify_measures(seen)
    assert set(fits) == {"loss"}
    assert fits["loss"].equal


def test_the_law_found_is_handed_on() -> None:
    laws = laws_of(observe(lambda o, f: healthy(o, f, smoothing=0.1)))
    assert laws["mlm_loss"].smoothing == pytest.approx(0.1, rel=1e-4)
    assert laws["sop_loss"].parts == ()


def test_quick_enough() -> None:
    for whole in (False, True):
        seen = observe(healthy, whole=whole)
        bad = [replace(o, measured={k: 1.3 * v + 0.01 for k, v in o.measured.items()}) for o in seen]
        for observations in (seen, bad):
            started = time.process_time()
            identify_measures(observations)
            assert time.process_time() - started < 1.5


Step = list[tuple[dict[str, Any], Feed]]


def make_step(seed: int, k: int) -> Step:
    """Micro batches with unequal numbers of masked positions."""
    found = []
    for number in range(k):
        feed = measure_feeds(make_feed(100 * seed + number, slots=3 + 3 * number), count=1, seed=seed)[0]
        found.append((measure_outputs(feed, V, seed=50 * seed + number), feed))
    return found


def parts_of(step: Step) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Means of each micro batch and what they are means over: MLM, SOP."""
    each = [healthy(o, f) for o, f in step]
    masked = np.array([f.weights.sum() for _, f in step])
    pairs = np.array([(f.sop_labels >= 0).sum() for _, f in step])
    return np.array([e["mlm_loss"] for e in each]), np.array([e["sop_loss"] for e in each]), masked, pairs


def right_loss(step: Step) -> float:
    m, s, masked, pairs = parts_of(step)
    return float(m @ masked / masked.sum() + s @ pairs / pairs.sum())


def reported(
    value: Callable[[Step], float], seed: int, ks: tuple[int, ...] = (1, 2, 4, 3)
) -> list[ReportedObservation]:
    steps = [make_step(10 * seed + i, k) for i, k in enumerate(ks)]
    return [ReportedObservation(micro=tuple(step), reported=float(np.float32(value(step)))) for step in steps]


def of_means(reduce: Callable[[np.ndarray], float]) -> Callable[[Step], float]:
    return lambda step: reduce(parts_of(step)[0]) + reduce(parts_of(step)[1])


REPORTED: dict[str, tuple[Callable[[Step], float], set[str]]] = {
    "mean": (of_means(np.mean), {"mean-of-means"}),
    "sum": (of_means(np.sum), {"loss-times-micro-batches"}),
    "times": (lambda step: right_loss(step) * len(step), {"loss-times-micro-batches"}),
    "last": (of_means(lambda x: x[-1]), {"one-micro-batch-only"}),
    "first": (of_means(lambda x: x[0]), {"one-micro-batch-only"}),
    "divided twice": (lambda step: right_loss(step) / len(step), {"loss-scaled"}),
    "scaled": (lambda step: 128 * right_loss(step), {"loss-scaled"}),
    "without order": (
        lambda step: right_loss(step) - parts_of(step)[1] @ parts_of(step)[3] / parts_of(step)[3].sum(),
        {"loss-weight"},
    ),
    "mean of MLM only": (
        lambda step: parts_of(step)[0].mean() + parts_of(step)[1] @ parts_of(step)[3] / parts_of(step)[3].sum(),
        {"mean-of-means"},
    ),
    "last, divided": (
        lambda step: of_means(lambda x: x[-1])(step) / len(step),
        {"one-micro-batch-only", "loss-scaled"},
    ),
    "half the sum": (lambda step: 0.5 * of_means(np.sum)(step), {"loss-times-micro-batches", "loss-scaled"}),
}


@pytest.mark.parametrize("name", REPORTED)
@pytest.mark.parametrize("seed", [0, 1])
def test_reported_loss_of_a_step(name: str, seed: int) -> None:
    value, names = REPORTED[name]
    fit = identify_reported_loss(reported(value, seed))
    assert fit.confirmed, (fit.distance, fit.tried[:2])
    assert set(fit.best.names) == names
    assert not fit.ties
    assert fit.distance > 100


@pytest.mark.parametrize("seed", range(20))
def test_the_right_reported_loss_is_left_alone(seed: int) -> None:
    assert identify_reported_loss(reported(right_loss, seed, (1, 2, 4))).equal


def test_a_known_law_is_not_found_again() -> None:
    law = laws_of(observe(lambda o, f: healthy(o, f, smoothing=0.1)))["mlm_loss"]

    def value(step: Step) -> float:
        each = [healthy(o, f, smoothing=0.1) for o, f in step]
        return float(np.mean([e["mlm_loss"] for e in each]) + np.mean([e["sop_loss"] for e in each]))

    fit = identify_reported_loss(reported(value, 1), mlm=law)
    assert fit.best.names == ("mean-of-means",)
    assert fit.confirmed
    assert not identify_reported_loss(reported(value, 1)).confirmed


def test_an_unknown_reported_loss_is_not_confirmed() -> None:
    for seed in range(5):
        fit = identify_reported_loss(reported(lambda step: 0.9 * right_loss(step) + 0.4, seed))
        assert not fit.equal
        assert not fit.confirmed


def test_equal_micro_batches_hide_the_mean_of_means() -> None:
    step = make_step(0, 1) * 2
    m, s, _, _ = parts_of(step)
    seen = ReportedObservation(micro=tuple(step), reported=float(m.mean() + s.mean()))
    assert identify_reported_loss([seen]).equal


def test_a_logged_loss_has_its_printed_digits() -> None:
    seen = [replace(o, reported=round(o.reported, 2), rounding=0.005) for o in reported(of_means(np.mean), 3)]
    assert identify_reported_loss(seen).best.names == ("mean-of-means",)
    right = [replace(o, reported=round(o.reported, 2), rounding=0.005) for o in reported(right_loss, 3)]
    assert identify_reported_loss(right).equal
