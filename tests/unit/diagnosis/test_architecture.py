"""Every named fault of a forward function, put into a side, is found by its name and value; nothing else is."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lossary.diagnosis.laws.architecture import (
    ArchitectureFit,
    Observation,
    Setting,
    identify_architecture,
    settings_of,
    stage_distances,
)
from lossary.diagnosis.laws.architecture.evidence import Band
from lossary.diagnosis.probes import ProbeKind, probe_feed, probe_parameters
from lossary.models.arbiter import Architecture, Arithmetic, Precision, forward
from lossary.models.shapes import AlbertShape

SHAPE = AlbertShape(
    vocabulary_size=120,
    hidden_size=24,
    num_layers=2,
    num_heads=4,
    intermediate_size=40,
    embedding_size=16,
    max_positions=32,
)
BASE = Architecture.of(SHAPE)
KINDS: tuple[ProbeKind, ...] = ("plain", "low-variance")
WEIGHTS = {kind: probe_parameters(SHAPE, 1, kind=kind) for kind in (*KINDS, "tiny-variance")}
FEED = probe_feed(SHAPE, 1, examples=12, length=24)
SETTINGS = settings_of(BASE, WEIGHTS["plain"])
# The side sums in an order of its own, as any other program does.
SIDE = Arithmetic("float32", "shuffled", 77)


def asked(
    architecture: Architecture,
    *,
    precision: Precision | Arithmetic = SIDE,
    activations: bool = False,
    kinds: tuple[ProbeKind, ...] = KINDS,
) -> list[Observation]:
    """What a side of some architecture answers."""
    result = []
    for kind in kinds:
        outputs = forward(WEIGHTS[kind], architecture, FEED, precision=precision, activations=activations)
        result.append(
            Observation(
                parameters=WEIGHTS[kind],
                feed=FEED,
                mlm=outputs.mlm,
                sop=outputs.sop,
                activations=outputs.activations,
            )
        )
    return result


def setting(slug: str, **values: Any) -> Setting:
    """A setting by its name, and values where the name alone does not say it."""
    found = [one for one in SETTINGS if one.slug == slug and values.items() <= dict(one.values).items()]
    assert found, slug
    return found[0]


def having(*settings: Setting) -> Architecture:
    changes: dict[str, Any] = {}
    for one in settings:
        changes |= one.changes
    return replace(BASE, **changes)


def names(fit: ArchitectureFit) -> list[str]:
    assert fit.best is not None
    return sorted(fit.best.names)


SINGLES = [
    setting("heads", heads=8),
    setting("heads", heads=1),
    setting("layers-count", layers=3),
    setting("activation-erf", where="all"),
    setting("activation-erf", where="head"),
    setting("activation-erf", where="layers"),
    setting("activation-relu", where="all"),
    setting("activation-silu", where="all"),
    setting("activation-tanh", where="layers"),
    setting("activation-quick-gelu", where="all"),
    setting("activation-missing", where="head"),
    setting("pooler-activation-missing"),
    setting("pooler-activation", activation="gelu"),
    setting("epsilon").at(1e-5),
    setting("epsilon").at(1e-3),
    setting("epsilon-embeddings").at(1e-6),
    setting("epsilon-layers").at(1e-5),
    setting("epsilon-layers").at(3.7e-7),
    setting("epsilon-head").at(1e-8),
    setting("mask-ignored"),
    setting("mask-inverted"),
    setting("mask-causal"),
    setting("mask-added"),
    setting("segments-ignored", how="zero"),
    setting("segments-ignored", how="absent"),
    setting("segment-ids-flipped"),
    setting("positions-shifted", offset=1),
    setting("positions-shifted", offset=2),
    setting("positions-missing"),
    setting("embeddings-scaled"),
    setting("attention-scale", scale="none"),
    setting("attention-scale", scale="hidden"),
    setting("attention-scale", scale="twice"),
    setting("softmax-over-queries"),
    setting("heads-interleaved"),
    setting("heads-merged-untransposed"),
    setting("residual-missing", where="attention"),
    setting("residual-missing", where="feedforward"),
    setting("pre-layer-norm"),
    setting("layer-norm-unbiased"),
    setting("layer-norm-without-mean"),
    setting("norm-missing", where="embeddings"),
    setting("norm-missing", where="head"),
    setting("output-bias-twice"),
    setting("output-bias-missing"),
    setting("decoder-scaled"),
    setting("pooler-missing"),
    setting("pooling", pooling="mean"),
    setting("pooling", pooling="mean_all"),
    setting("sop-columns-swapped"),
]


def test_every_name_has_a_case() -> None:
    assert {one.slug for one in SETTINGS} - {"activation-tanh-gelu"} == {one.slug for one in SINGLES}


@pytest.mark.parametrize("fault", SINGLES, ids=lambda one: f"{one.slug} {dict(one.values)}")
def test_a_fault_is_found_by_its_name_and_value_and_no_other_is(fault: Setting) -> None:
    architecture = having(fault)
    fit = identify_architecture(asked(architecture), BASE)
    assert fit.confirmed
    assert fit.best is not None
    assert fit.best.names == (fault.slug,)
    assert fit.best.values == fault.values
    assert fit.best.says == fault.sentence()
    assert not fit.ties
    assert fit.architecture == architecture


@pytest.mark.parametrize("order", ["plain", "shuffled", "blocks"])
@pytest.mark.parametrize("seed", [5, 6])
def test_a_side_that_sums_otherwise_is_equal(order: Any, seed: int) -> None:
    fit = identify_architecture(asked(BASE, precision=Arithmetic("float32", order, seed)), BASE)
    assert fit.equal
    assert not fit.tried
    assert not fit.confirmed
    assert fit.architecture == BASE
    assert "float64" in fit.how


def test_either_output_alone_is_evidence() -> None:
    (answer,) = asked(having(setting("heads", heads=2)), kinds=("plain",))
    for part in (replace(answer, mlm=None), replace(answer, sop=None)):
        fit = identify_architecture([part], BASE)
        assert fit.confirmed
        assert names(fit) == ["heads"]
    with pytest.raises(ValueError, match="no observation has logits"):
        identify_architecture([replace(answer, mlm=None, sop=None)], BASE)


PAIRS = [
    (setting("heads", heads=8), setting("activation-erf", where="all")),
    (setting("epsilon").at(1e-5), setting("sop-columns-swapped")),
    (setting("epsilon-embeddings").at(1e-5), setting("epsilon-head").at(1e-6)),
    (setting("epsilon-layers").at(1e-5), setting("activation-relu", where="all")),
    (setting("output-bias-twice"), setting("pooler-activation-missing")),
    (setting("mask-ignored"), setting("segments-ignored", how="zero")),
    (setting("epsilon").at(1e-5), setting("activation-erf", where="all"), setting("output-bias-missing")),
]


@pytest.mark.parametrize("faults", PAIRS, ids=lambda faults: " ".join(one.slug for one in faults))
def test_faults_together_are_found_together(faults: tuple[Setting, ...]) -> None:
    architecture = having(*faults)
    fit = identify_architecture(asked(architecture), BASE)
    assert fit.confirmed
    assert names(fit) == sorted(one.slug for one in faults)
    assert not fit.ties
    assert fit.architecture is not None
    for name, value in vars(architecture).items():
        found = getattr(fit.architecture, name)
        # How many digits of an ε a fit bears depends on how the processor adds.
        assert found == (pytest.approx(value, rel=1e-5) if isinstance(value, float) else value), name


def test_two_values_of_one_kind_are_told_apart() -> None:
    fit = identify_architecture(asked(having(*PAIRS[2])), BASE)
    assert fit.best is not None
    # How many digits a fit bears depends on how the processor adds.
    assert fit.best.values == pytest.approx(
        {"epsilon-embeddings.epsilon": 1e-5, "epsilon-head.epsilon": 1e-6}, rel=1e-5
    )


def _scaled(answer: Observation) -> Observation:
    assert answer.mlm is not None
    return replace(answer, mlm=answer.mlm * np.float32(1.01))


def _shifted(answer: Observation) -> Observation:
    assert answer.mlm is not None
    return replace(answer, mlm=answer.mlm + 1e-3 * answer.mlm.std())


def _crossed(answer: Observation) -> Observation:
    assert answer.sop is not None
    return replace(answer, sop=np.roll(answer.sop, 1, axis=0))


@pytest.mark.parametrize("unknown", [_scaled, _shifted, _crossed])
def test_what_no_setting_does_gets_no_name(unknown: Any) -> None:
    fit = identify_architecture([unknown(answer) for answer in asked(BASE)], BASE)
    assert not fit.equal
    assert not fit.confirmed
    assert fit.architecture is None


def test_a_known_fault_beside_an_unknown_one_is_not_confirmed_but_leads() -> None:
    answers = [_shifted(answer) for answer in asked(having(setting("heads", heads=8)))]
    fit = identify_architecture(answers, BASE)
    assert not fit.confirmed
    assert fit.best is not None
    assert "heads" in fit.best.names
    assert fit.best.residual < fit.distance / 10


def test_only_given_candidates_are_tried() -> None:
    answers = asked(having(setting("heads", heads=8)))
    fit = identify_architecture(answers, BASE, candidates=[setting("mask-ignored"), setting("sop-columns-swapped")])
    assert not fit.confirmed
    assert {name for candidate in fit.tried for name in candidate.names} <= {"mask-ignored", "sop-columns-swapped"}


STAGES = [
    (setting("heads", heads=8), "layer.{}.attention"),
    (setting("activation-relu", where="layers"), "layer.{}"),
    (setting("segments-ignored", how="zero"), "embeddings"),
    (setting("pooler-activation-missing"), "pooled"),
    (setting("epsilon-head").at(1e-5), "mlm_hidden"),
    (setting("output-bias-twice"), "mlm"),
    (setting("sop-columns-swapped"), "sop"),
]


@pytest.mark.parametrize(("fault", "stage"), STAGES, ids=lambda one: one.slug if isinstance(one, Setting) else one)
def test_stages_from_the_sides_own_inputs_show_where_it_is(fault: Setting, stage: str) -> None:
    answers = asked(having(fault), activations=True)
    wrong = {name for name, distance in stage_distances(answers, BASE).items() if distance > 1.0}
    assert wrong == {stage.format(number) for number in range(2)}
    fit = identify_architecture(answers, BASE)
    assert names(fit) == [fault.slug]
    assert fit.confirmed
    assert not fit.ties
    assert not [d for d in stage_distances(asked(BASE, activations=True), BASE).values() if d > 1.0]


def test_two_faults_in_two_stages_with_some_stages_shown() -> None:
    faults = setting("heads", heads=8), setting("activation-erf", where="all")
    answers = [
        replace(answer, activations={name: answer.activations[name] for name in ("mapped", "layer.0", "layer.1")})
        for answer in asked(having(*faults), activations=True)
    ]
    fit = identify_architecture(answers, BASE)
    assert fit.confirmed
    assert names(fit) == ["activation-erf", "heads"]


@pytest.mark.parametrize(
    ("precision", "name"), [("bf16", "bf16"), ("bf16_products", "bf16"), ("fp16", "fp16"), ("tf32", "tf32")]
)
def test_low_precision_is_found_where_it_is_not_declared(precision: Precision, name: str) -> None:
    fit = identify_architecture(asked(BASE, precision=Arithmetic(precision, "shuffled", 78)), BASE)
    assert fit.confirmed
    assert names(fit) == ["low-precision"]
    assert fit.best is not None
    precisions = {candidate.values["precision"] for candidate in (fit.best, *fit.ties)}
    # float16 and TF32 keep as many bits: products alone do not tell them apart.
    assert name in precisions <= ({"bf16"} if name == "bf16" else {"fp16", "tf32"})


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_declared_low_precision_is_no_fault_and_hides_no_large_one(precision: Precision) -> None:
    way = Arithmetic(precision, "shuffled", 78)
    assert identify_architecture(asked(BASE, precision=way), BASE, precision=precision).equal
    fault = setting("heads", heads=8)
    fit = identify_architecture(asked(having(fault), precision=way), BASE, precision=precision)
    assert fit.confirmed
    assert names(fit) == ["heads"]
    assert fit.architecture == having(fault)


def test_a_fault_in_undeclared_low_precision_is_found_with_it() -> None:
    fit = identify_architecture(asked(having(setting("heads", heads=8)), precision="bf16"), BASE)
    assert fit.confirmed
    assert names(fit) == ["heads", "low-precision"]


def test_noise_of_the_size_of_low_precision_is_not_called_so() -> None:
    """The same sizes in every output, but nothing in it of what rounded weights do."""
    random = np.random.default_rng(5)
    answers = []
    for exact, half in zip(asked(BASE), asked(BASE, precision="bf16"), strict=True):
        assert exact.mlm is not None
        assert half.mlm is not None
        assert exact.sop is not None
        assert half.sop is not None
        used = FEED.weights > 0
        sizes = float((half.mlm - exact.mlm)[used].std()), float((half.sop - exact.sop).std())
        # Another hidden vector at each position, as an unknown fault would make.
        hidden = random.standard_normal((*used.shape, 16)) @ random.standard_normal((16, exact.mlm.shape[-1])) / 4
        order = random.standard_normal(exact.sop.shape)
        answers.append(replace(exact, mlm=exact.mlm + sizes[0] * hidden, sop=exact.sop + sizes[1] * order))
    fit = identify_architecture(answers, BASE)
    assert not fit.equal
    assert not fit.confirmed


def test_half_precision_that_loses_epsilon_is_found_by_what_is_no_number() -> None:
    answers = asked(BASE, precision="fp16", kinds=("plain", "tiny-variance"))
    fit = identify_architecture(answers, BASE)
    assert fit.confirmed
    assert names(fit) == ["half-precision-epsilon"]
    # Not so where other examples are concerned.
    assert answers[0].sop is not None
    broken = answers[0].sop.copy()
    broken[0] = np.nan
    assert not identify_architecture([replace(answers[0], sop=broken), answers[1]], BASE).confirmed


def test_noise_of_a_side_widens_its_tolerance_but_only_so_far() -> None:
    (answer,) = asked(having(setting("epsilon-layers").at(2e-9)), kinds=("low-variance",))
    fits = [
        identify_architecture([replace(answer, noise={"mlm": noise, "sop": noise})], BASE) for noise in (0.0, 1e-9, 1.0)
    ]
    assert fits[0].distance > 1.0
    assert fits[0].distance == pytest.approx(fits[1].distance)
    assert fits[2].distance < fits[0].distance
    # A side that is random is no excuse for what it computes.
    (wrong,) = asked(having(setting("heads", heads=8)), kinds=("plain",))
    assert identify_architecture([replace(wrong, noise={"mlm": 10.0, "sop": 10.0})], BASE).confirmed


def test_the_band_covers_the_next_sample_as_often_as_it_says() -> None:
    random = np.random.default_rng(6)
    samples = np.exp(random.normal(0.0, 0.3, (4000, 9)))
    beyond = sum(row[8] > Band.of(row[:8], 1).bound(0.0) for row in samples)
    assert beyond / len(samples) < 0.015
    assert Band.of([0.0, 0.0], 1).bound(0.0) == 0.0
    assert Band.of([2.0], 4).bound(0.0) == 2.0
