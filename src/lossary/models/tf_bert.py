"""Checkpoints of google-research/bert, as TensorFlow 1 writes them, under transformers' names.

    model.ckpt-1000000.{index,data-00000-of-00001,meta}, bert_config.json, vocab.txt

Source: google-research/bert, modeling.py and run_pretraining.py.
"""

import re
import shutil
from pathlib import Path

from safetensors.numpy import save_file

from lossary.errors import CheckpointError, UsageError
from lossary.files import write_directory_atomic, write_plain_json
from lossary.models.parameters import Parameters
from lossary.models.tensors import check_finite, some
from lossary.models.tf1 import Tf1, Wanted, places_of, plain_names, read_tf1, wanted_of
from lossary.models.tf_bundle import Bundle
from lossary.vocabulary.roles import read_beside
from lossary.vocabulary.vocab_txt import from_vocab_txt

__all__ = ["GELU_NOTE", "bert_vocabulary", "export_tf_bert", "read_tf_bert"]

GELU_NOTE = "gelu is its tanh form, as google-research/bert computes it since May 2019, and the erf form before"

_OF_LAYER = {
    "attention/self/query": "attention.self.query",
    "attention/self/key": "attention.self.key",
    "attention/self/value": "attention.self.value",
    "attention/output/dense": "attention.output.dense",
    "intermediate/dense": "intermediate.dense",
    "output/dense": "output.dense",
}
_NORMALISATIONS_OF_LAYER = {
    "attention/output/LayerNorm": "attention.output.LayerNorm",
    "output/LayerNorm": "output.LayerNorm",
}
_DENSE = {
    "bert/pooler/dense": "bert.pooler.dense",
    "cls/predictions/transform/dense": "cls.predictions.transform.dense",
}
_NORMALISATIONS = {
    "bert/embeddings/LayerNorm": "bert.embeddings.LayerNorm",
    "cls/predictions/transform/LayerNorm": "cls.predictions.transform.LayerNorm",
}
_ORDER = ("cls/seq_relationship/output_weights", "cls/seq_relationship/output_bias")
_SAME = {
    "bert/embeddings/word_embeddings": "bert.embeddings.word_embeddings.weight",
    "bert/embeddings/position_embeddings": "bert.embeddings.position_embeddings.weight",
    "bert/embeddings/token_type_embeddings": "bert.embeddings.token_type_embeddings.weight",
    "cls/predictions/output_bias": "cls.predictions.bias",
    _ORDER[0]: "cls.seq_relationship.weight",
    _ORDER[1]: "cls.seq_relationship.bias",
}
_POOLER = ("bert/pooler/dense/kernel", "bert/pooler/dense/bias")
_LAYER = re.compile(r"bert/encoder/layer_(\d+)/")
_CONFIGURATIONS = ("bert_config.json", "config.json")
_VOCABULARIES = ("tokenizer.json", "vocab.txt")
_TOKENIZERS = (*_VOCABULARIES, "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")


def read_tf_bert(prefix: Path) -> Tf1:
    """The checkpoint whose files start with `prefix`; its configuration names BertForPreTraining, or BertForMaskedLM
    where it has no head for the next sentence.

    CheckpointError: damaged files, no configuration beside it or that of another model, names that nobody knows,
    weights that are missing, as those of the head of masked words after fine-tuning.
    """
    bundle = Bundle(prefix)
    names = plain_names(bundle)
    layers = 1 + max(int(found[1]) for name in names if (found := _LAYER.match(name)))
    wanted = _wanted(layers)
    made = read_tf1(bundle, wanted, configurations=_CONFIGURATIONS, family="BERT")
    is_whole = all(name in names for name in (*_ORDER, *_POOLER))
    unread = () if is_whole else (*_ORDER, *_POOLER)
    missing = [name for name in wanted if name not in names and name not in unread]
    if missing:
        raise CheckpointError(
            f"{len(missing)} of a BERT's variables are missing: {some(missing)}",
            where=str(prefix),
            hint="A model without its head of masked words (cls/predictions) cannot be scored.",
        )
    left_out = {wanted[name][0] for name in unread}
    parameters = {name: value for name, value in made.parameters.items() if name not in left_out}
    named = {"model_type": "bert", "architectures": ["BertForPreTraining" if is_whole else "BertForMaskedLM"]}
    sizes = _sizes(parameters, prefix) | {"num_hidden_layers": layers}
    for key, value in sizes.items():
        if made.config.get(key, value) != value:
            raise CheckpointError(
                f"{key} is {value:,} of its weights, and its configuration says {made.config[key]!r}", where=str(prefix)
            )
    check_finite(parameters, prefix)
    return Tf1(parameters, {**made.config, **sizes, **named}, made.step)


def _sizes(parameters: Parameters, prefix: Path) -> dict[str, int]:
    """The configuration's sizes, from weights. CheckpointError if one of these is of another shape than others say."""
    embedding, layer = "bert.embeddings.{}_embeddings.weight", "bert.encoder.layer.0."
    table = {name: parameters[embedding.format(name)] for name in ("word", "position", "token_type")}
    inner = parameters[f"{layer}intermediate.dense.bias"]
    hidden = parameters["bert.embeddings.LayerNorm.bias"].size
    tables = {embedding.format(name): (len(value), hidden) for name, value in table.items()}
    for name, value in parameters.items():
        expected = tables.get(name) or _shape(name, hidden, inner.size, len(table["word"]))
        if value.shape != expected:
            raise CheckpointError(f"{name} is {value.shape}, where {expected} is expected", where=str(prefix))
    return {
        "vocab_size": len(table["word"]),
        "hidden_size": hidden,
        "intermediate_size": inner.size,
        "max_position_embeddings": len(table["position"]),
        "type_vocab_size": len(table["token_type"]),
    }


def _shape(name: str, hidden: int, inner: int, vocabulary: int) -> tuple[int, ...]:
    rows = {"cls.seq_relationship": 2, "cls.predictions.bias": vocabulary}
    out = next((size for start, size in rows.items() if name.startswith(start)), hidden)
    out = inner if ".intermediate." in name else out
    if name.endswith("bias") or "LayerNorm" in name:
        return (out,)
    return (out, inner) if ".output.dense" in name and ".attention." not in name else (out, hidden)


def bert_vocabulary(prefix: Path) -> Path | None:
    """The folder beside a checkpoint in which its vocabulary lies."""
    return next((place for place in places_of(prefix) if any((place / name).is_file() for name in _VOCABULARIES)), None)


def export_tf_bert(made: Tf1, out: Path, vocabulary: Path | None) -> None:
    """Writes a new folder that transformers opens: weights, configuration, and what a vocabulary's folder holds.

    UsageError if it exists. VocabularyError where nobody could say how the vocabulary cuts words.
    """
    if out.exists():
        raise UsageError("it exists already", where=str(out), hint="Name a folder that does not.")
    files = [file for name in _TOKENIZERS if vocabulary and (file := vocabulary / name).is_file()]
    with write_directory_atomic(out) as temporary:
        save_file(made.parameters, temporary / "model.safetensors", {"format": "pt"})
        write_plain_json(temporary / "config.json", made.config)
        for file in files:
            shutil.copyfile(file, temporary / file.name)
        if files and not {"tokenizer.json", "tokenizer_config.json"} & {file.name for file in files}:
            # transformers asks for it, and takes capitals for small letters where it is not there.
            value, _ = from_vocab_txt(temporary / "vocab.txt", read_beside(temporary))
            folds = {"do_lower_case": value["normalizer"]["lowercase"]}
            write_plain_json(temporary / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer", **folds})
        if made.step is not None:
            write_plain_json(temporary / "trainer_state.json", {"global_step": made.step})


def _wanted(layers: int) -> Wanted:
    dense, normalisations = dict(_DENSE), dict(_NORMALISATIONS)
    for number in range(layers):
        theirs, ours = f"bert/encoder/layer_{number}", f"bert.encoder.layer.{number}"
        dense |= {f"{theirs}/{name}": f"{ours}.{own}" for name, own in _OF_LAYER.items()}
        normalisations |= {f"{theirs}/{name}": f"{ours}.{own}" for name, own in _NORMALISATIONS_OF_LAYER.items()}
    return wanted_of(dense, normalisations, _SAME)
