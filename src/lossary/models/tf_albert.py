"""Checkpoints of google-research/albert, as TensorFlow 1 writes them, under lossary's names.

    model.ckpt-125000.{index,data-00000-of-00001,meta}, albert_config.json, 30k-clean.model

Source: google-research/albert, modeling.py and run_pretraining.py.
"""

from pathlib import Path
from typing import NamedTuple

from lossary.errors import CheckpointError
from lossary.models.parameters import LAYER
from lossary.models.tf1 import Tf1, Wanted, places_of, plain_names, read_tf1, wanted_of
from lossary.models.tf_bundle import Bundle

__all__ = ["TfAlbert", "read_tf_albert"]

_GROUP = "bert/encoder/transformer/group_0/inner_group_0"
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
# Names that tell another architecture apart.
_OTHERS = {
    "bert/encoder/layer_shared": "an ALBERT of brightmart/albert_zh's own layout, another architecture; its "
    "albert_*_google files can be read",
    "bert/encoder/layer_0": "a BERT, whose layers share nothing, where an ALBERT is wanted",
    "bert/encoder/transformer/group_1": "an ALBERT of several groups of layers",
    f"{_GROUP.removesuffix('0')}1": "an ALBERT of several layers a group",
}

_CONFIGURATIONS = ("albert_config.json", "config.json")


class TfAlbert(NamedTuple):
    """What was read, and the SentencePiece models beside it."""

    made: Tf1
    vocabularies: tuple[Path, ...]


def read_tf_albert(prefix: Path) -> TfAlbert:
    """The checkpoint whose files start with `prefix`.

    CheckpointError: damaged files, another architecture, no configuration beside it, names that nobody knows.
    """
    bundle = Bundle(prefix)
    names = plain_names(bundle)
    for start, what in _OTHERS.items():
        if any(name.startswith(f"{start}/") for name in names):
            raise CheckpointError(f"it is {what}", where=str(prefix))
    made = read_tf1(bundle, _wanted(), configurations=_CONFIGURATIONS, family="ALBERT")
    places = places_of(prefix)
    vocabularies = next((found for place in places[:2] if (found := tuple(sorted(place.glob("*.model"))))), ())
    return TfAlbert(made, vocabularies)


def _wanted() -> Wanted:
    return wanted_of(_DENSE, _NORMALISATIONS, _SAME)
