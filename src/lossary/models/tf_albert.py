"""Checkpoints of google-research/albert, as TensorFlow 1 writes them: their names, their configuration, their step.

    model.ckpt-125000.{index,data-00000-of-00001,meta}, albert_config.json, 30k-clean.model

Kernels are stored transposed, slots of the optimizer stand beside the weights, and TF-Hub puts `module/` in front of
every name. Source: google-research/albert, modeling.py and run_pretraining.py.
"""

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lossary.errors import CheckpointError, DataError
from lossary.files import read_json
from lossary.models.parameters import LAYER, Parameters
from lossary.models.tf_bundle import Bundle

__all__ = ["TfAlbert", "read_tf_albert"]

_GROUP = "bert/encoder/transformer/group_0/inner_group_0"
# Ours by theirs; a dense layer is a kernel, stored transposed, and a bias, a normalisation gamma and beta.
_DENSE = {
    "bert/encoder/embedding_hidden_mapping_in": "albert.encoder.embedding_hidden_mapping_in",
    f"{_GROUP}/attention_1/self/query": f"{LAYER}.attention.query",
    f"{_GROUP}/attention_1/self/key": f"{LAYER}.attention.key",
    f"{_GROUP}/attention_1/self/value": f"{LAYER}.attention.value",
    f"{_GROUP}/attention_1/output/dense": f"{LAYER}.attention.dense",
    f"{_GROUP}/ffn_1/intermediate/dense": f"{LAYER}.ffn",
    f"{_GROUP}/ffn_1/intermediate/output/dense": f"{LAYER}.ffn_output",
    "bert/pooler/dense": "albert.pooler",
    "cls/predictions/transform/dense": "predictions.dense",
}
_NORMALISATIONS = {
    "bert/embeddings/LayerNorm": "albert.embeddings.LayerNorm",
    f"{_GROUP}/LayerNorm": f"{LAYER}.attention.LayerNorm",
    f"{_GROUP}/LayerNorm_1": f"{LAYER}.full_layer_layer_norm",
    "cls/predictions/transform/LayerNorm": "predictions.LayerNorm",
}
_SAME = {
    "bert/embeddings/word_embeddings": "albert.embeddings.word_embeddings.weight",
    "bert/embeddings/position_embeddings": "albert.embeddings.position_embeddings.weight",
    "bert/embeddings/token_type_embeddings": "albert.embeddings.token_type_embeddings.weight",
    "cls/predictions/output_bias": "predictions.bias",
    "cls/seq_relationship/output_weights": "sop_classifier.classifier.weight",
    "cls/seq_relationship/output_bias": "sop_classifier.classifier.bias",
}
_SLOTS = re.compile(r"/(adam|lamb)_[mv](_\d+)?$|/Adam(_1)?$|^(beta[12]_power|loss_scale|good_steps)$")
_STEP = "global_step"
# Names that tell another architecture apart.
_OTHERS = {
    "bert/encoder/layer_shared": "an ALBERT of brightmart/albert_zh's own layout, another architecture; its "
    "albert_*_google files can be read",
    "bert/encoder/layer_0": "a BERT, whose layers share nothing",
    "bert/encoder/transformer/group_1": "an ALBERT of several groups of layers",
    f"{_GROUP.removesuffix('0')}1": "an ALBERT of several layers a group",
}
_CONFIGURATIONS = ("albert_config.json", "config.json")


class TfAlbert(NamedTuple):
    """Weights under lossary's names, the configuration as transformers has it, the step, and vocabularies beside it."""

    parameters: Parameters
    config: dict[str, Any]
    step: int | None
    vocabularies: tuple[Path, ...]


def read_tf_albert(prefix: Path) -> TfAlbert:
    """The checkpoint whose files start with `prefix`.

    CheckpointError: damaged files, another architecture, no configuration beside it, names that nobody knows.
    """
    bundle = Bundle(prefix)
    names = {name.removeprefix("module/"): name for name in bundle.shapes}
    for start, what in _OTHERS.items():
        if any(name.startswith(f"{start}/") for name in names):
            raise CheckpointError(f"it is {what}", where=str(prefix))
    wanted = _wanted()
    if not any(name in wanted for name in names):
        raise CheckpointError(
            f"a TensorFlow checkpoint, but none of an ALBERT: it holds {', '.join(sorted(names)[:3])}",
            where=str(prefix),
        )
    strange = [name for name in names if name not in wanted and name != _STEP and not _SLOTS.search(name)]
    if strange:
        raise CheckpointError(
            f"{len(strange)} of its variables are none of google-research's ALBERT: {', '.join(sorted(strange)[:3])}",
            where=str(prefix),
        )
    parameters = {}
    for name, (own, is_kernel) in wanted.items():
        if name in names:
            value = np.asarray(bundle.read(names[name]), np.float32)
            parameters[own] = np.ascontiguousarray(value.T if is_kernel else value)
    step = int(bundle.read(names[_STEP])) if _STEP in names else _step_of(prefix)
    places = [place for folder in (prefix.parent, prefix.parent.parent) for place in (folder, folder / "assets")]
    vocabularies = next((found for place in places[:2] if (found := tuple(sorted(place.glob("*.model"))))), ())
    return TfAlbert(parameters, _configuration(prefix, places), step, vocabularies)


def _wanted() -> dict[str, tuple[str, bool]]:
    """Their names to ours, and whether a value is stored transposed."""
    found = {name: (own, False) for name, own in _SAME.items()}
    for name, own in _DENSE.items():
        found |= {f"{name}/kernel": (f"{own}.weight", True), f"{name}/bias": (f"{own}.bias", False)}
    for name, own in _NORMALISATIONS.items():
        found |= {f"{name}/gamma": (f"{own}.weight", False), f"{name}/beta": (f"{own}.bias", False)}
    return found


def _step_of(prefix: Path) -> int | None:
    found = re.search(r"-(\d+)$", prefix.name)
    return int(found[1]) if found else None


def _configuration(prefix: Path, places: list[Path]) -> dict[str, Any]:
    """The configuration beside a checkpoint, in transformers' words."""
    files = [path for place in places for name in _CONFIGURATIONS if (path := place / name).is_file()]
    if not files:
        raise CheckpointError(
            "there is no albert_config.json beside it, which says how many layers and heads it has",
            where=str(prefix),
            hint="Copy it there from where the checkpoint was trained.",
        )
    try:
        value = read_json(files[0])
    except DataError as error:
        raise CheckpointError(error.message, where=error.where) from None
    if not isinstance(value, dict):
        raise CheckpointError("not a JSON object", where=str(files[0]))
    if value.get("net_structure_type", 0) != 0:
        raise CheckpointError(
            f"net_structure_type is {value['net_structure_type']!r}; 0 is expected", where=str(files[0])
        )
    # What google-research calls gelu is the tanh form of it.
    return value | ({"hidden_act": "gelu_new"} if value.get("hidden_act") == "gelu" else {})
