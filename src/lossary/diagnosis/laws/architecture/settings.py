"""The space of settings: each way in which a forward function is known to go wrong, by name.

    for setting in settings_of(architecture, observation.parameters):
        replace(architecture, **setting.changes)

Most are alternatives out of a few; an ε is fitted.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from lossary.models.arbiter import Activation, Architecture

__all__ = ["Setting", "settings_of"]

_PLACES = ("embeddings", "layers", "head")
_ACTIVATION_SLUGS: dict[Activation, str] = {
    "gelu_new": "activation-tanh-gelu",
    "gelu": "activation-erf",
    "relu": "activation-relu",
    "silu": "activation-silu",
    "tanh": "activation-tanh",
    "quick_gelu": "activation-quick-gelu",
    "none": "activation-missing",
}
_ACTIVATION_NAMES: dict[Activation, str] = {
    "gelu_new": "GELU by tanh",
    "gelu": "GELU by erf",
    "relu": "ReLU",
    "silu": "SiLU",
    "tanh": "tanh",
    "quick_gelu": "GELU by a logistic function",
    "none": "nothing",
}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One named fault of a forward function."""

    slug: str
    says: str  # one sentence; {names} are those of `values`
    changes: Mapping[str, Any]  # fields of Architecture
    values: Mapping[str, Any] = field(default_factory=dict)  # what a reader wants to know of it
    fitted: bool = False  # all of `changes` are one ε, which is to be found: see `at`

    def sentence(self) -> str:
        """What it says."""
        return self.says.format(**self.values)

    def at(self, epsilon: float) -> "Setting":
        """This fault with some ε."""
        return replace(self, changes=dict.fromkeys(self.changes, epsilon), values={"epsilon": epsilon})


def settings_of(architecture: Architecture, parameters: Mapping[str, NDArray[Any]]) -> tuple[Setting, ...]:
    """All alternatives to an architecture of parameters of these shapes."""
    hidden, embedding = parameters["albert.encoder.embedding_hidden_mapping_in.weight"].shape
    groups = (
        _heads(architecture, hidden),
        _layers(architecture),
        _activations(architecture),
        _epsilons(),
        _inputs(architecture, hidden, embedding),
        _attention(),
        _norms(),
        _outputs(architecture, embedding),
    )
    return tuple(setting for group in groups for setting in group if _differs(architecture, setting))


def _differs(architecture: Architecture, setting: Setting) -> bool:
    return replace(architecture, **setting.changes) != architecture


def _one(slug: str, says: str, values: Mapping[str, Any] | None = None, **changes: Any) -> Setting:
    return Setting(slug=slug, says=says, changes=changes, values=values or {})


def _heads(architecture: Architecture, hidden: int) -> Iterator[Setting]:
    says = f"Attention has {{heads}} heads, not {architecture.num_heads}"
    for number in range(1, hidden + 1):
        if hidden % number == 0:
            yield _one("heads", says, {"heads": number}, num_heads=number)


def _layers(architecture: Architecture) -> Iterator[Setting]:
    count = architecture.num_layers
    says = f"There are {{layers}} layers, not {count}"
    for number in sorted({1, count // 2, count - 1, count + 1, count + 2, 2 * count} - {0}):
        yield _one("layers-count", says, {"layers": number}, num_layers=number)


def _activations(architecture: Architecture) -> Iterator[Setting]:
    layers, head = architecture.activation, architecture.activation_of_head
    for name in get_args(Activation):
        slug = _ACTIVATION_SLUGS[name]
        for where, text, changes in (
            ("all", "The activation", {"activation": name, "head_activation": name}),
            ("layers", "The activation of the layers, not of the MLM head,", {"activation": name}),
            ("head", "The activation of the MLM head, not of the layers,", {"head_activation": name}),
        ):
            if where == "layers":
                changes["head_activation"] = head
            same = {"all": name in (layers, head), "layers": name == layers, "head": name == head}
            if same[where]:
                continue
            yield _one(slug, f"{text} is {_ACTIVATION_NAMES[name]}", {"activation": name, "where": where}, **changes)
        if name == "none":
            yield _one("pooler-activation-missing", "The pooler has no activation", pooler_activation=name)
        elif name != architecture.pooler_activation:
            says = f"The activation of the pooler is {_ACTIVATION_NAMES[name]}"
            yield _one("pooler-activation", says, {"activation": name}, pooler_activation=name)


def _epsilons() -> Iterator[Setting]:
    for places in (_PLACES, *((place,) for place in _PLACES)):
        whole = len(places) > 1
        where = "" if whole else f" of the {places[0]}" + (" of MLM" if places[0] == "head" else "")
        slug = "epsilon" if whole else f"epsilon-{places[0]}"
        yield Setting(
            slug=slug,
            says=f"ε of layer normalisation{where} is {{epsilon:.3g}}",
            changes={f"epsilon_{place}": None for place in places},
            fitted=True,
        )


def _inputs(architecture: Architecture, hidden: int, embedding: int) -> Iterator[Setting]:
    yield _one("mask-ignored", "Padding is attended", mask="none")
    yield _one("mask-inverted", "Padding is attended, and nothing else", mask="inverted")
    yield _one("mask-causal", "No token attends later ones", mask="causal")
    yield _one("mask-added", "The attention mask is added to the scores as 0 and 1", mask="added")
    yield _one("segments-ignored", "All tokens have the embedding of segment 0", {"how": "zero"}, segments="zero")
    yield _one("segments-ignored", "No segment embedding is added", {"how": "absent"}, segments="absent")
    yield _one("segment-ids-flipped", "Segments 0 and 1 are exchanged", segments="flipped")
    yield _one("positions-missing", "No position embedding is added", position_embeddings=False)
    for offset in (-1, 1, 2):
        says = "Token t has the embedding of position t{offset:+d}"
        yield _one("positions-shifted", says, {"offset": offset}, position_offset=architecture.position_offset + offset)
    for name, width in (("E", embedding), ("H", hidden)):
        factor = float(np.sqrt(width))
        says = f"Word embeddings are multiplied by √{name} = {{factor:.4g}}"
        yield _one("embeddings-scaled", says, {"factor": factor}, embedding_scale=factor)


def _attention() -> Iterator[Setting]:
    for scale, text in (
        ("none", "not scaled"),
        ("hidden", "divided by √H, not by the root of a head's size"),
        ("twice", "divided by a head's size, not by its root"),
        ("head", "divided by the root of a head's size"),
    ):
        yield _one("attention-scale", f"Attention scores are {text}", {"scale": scale}, attention_scale=scale)
    yield _one("softmax-over-queries", "Softmax of attention runs over queries, not keys", softmax_over="queries")
    yield _one("heads-interleaved", "A head owns every n-th number of a vector, not a block", head_layout="interleaved")
    says = "Heads are merged without being transposed back"
    yield _one("heads-merged-untransposed", says, head_merge="raw")
    for part, text in (("attention", "attention"), ("feedforward", "the feed-forward part")):
        says = f"What enters {text} is not added to what it gives"
        yield _one("residual-missing", says, {"where": part}, **{f"{part}_residual": False})


def _norms() -> Iterator[Setting]:
    yield _one("pre-layer-norm", "Layer normalisation comes before attention and feed-forward", norm_placement="pre")
    yield _one("layer-norm-unbiased", "Layer normalisation divides the variance by n−1", norm="unbiased")
    yield _one("layer-norm-without-mean", "Layer normalisation does not take the mean off", norm="rms")
    for part, text in (
        ("embeddings", "Embeddings are"),
        ("attention", "Attention's result is"),
        ("feedforward", "The feed-forward part's result is"),
        ("head", "The MLM head's result is"),
    ):
        yield _one("norm-missing", f"{text} not normalised", {"where": part}, **{f"{part}_norm": False})


def _outputs(architecture: Architecture, embedding: int) -> Iterator[Setting]:
    yield _one("output-bias-twice", "The MLM output bias is added twice", output_bias_times=2)
    yield _one("output-bias-missing", "The MLM output bias is not added", output_bias_times=0)
    factor = float(embedding**-0.5)
    says = "MLM logits are multiplied by 1/√E = {factor:.4g} before the bias"
    yield _one("decoder-scaled", says, {"factor": factor}, decoder_scale=factor)
    yield _one("pooler-missing", "Order logits are computed without the pooler", pooler=False)
    for pooling, text in (("mean", "attended tokens"), ("mean_all", "all tokens, padding too,")):
        says = (
            f"The pooler reads the mean of {text} not [CLS]"
            if pooling == "mean_all"
            else (f"The pooler reads the mean of {text}, not [CLS]")
        )
        yield _one("pooling", says, {"pooling": pooling}, pooling=pooling)
    says = "The two order logits are exchanged"
    yield _one("sop-columns-swapped", says, sop_swapped=not architecture.sop_swapped)
