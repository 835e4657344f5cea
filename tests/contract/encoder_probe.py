"""What BERT and RoBERTa compute on one backend; `python encoder_probe.py NAME FOLDER`, torch first.

Weights, gradients and what steps come to go to FOLDER/NAME.npz, checkpoints to FOLDER/NAME-FAMILY; on Keras the
logits of KerasHub's own models too.
"""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from tests.unit.backends.examples import ragged_examples

from lossary.backends.api import initial_weights, new_backend, resolved
from lossary.models.architectures import SPECIALS, EncoderShape, shape_from, shape_value
from lossary.models.checkpoints import load_own_checkpoint, save_checkpoint
from lossary.models.update_laws import UpdateLaw

VOCABULARY_SIZE, LONGEST, STEPS = 60, 18, 3
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
# Of the second two only the outputs are compared, with those of KerasHub's own models, which know no other settings.
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("bert", SIZES | STILL),
    "roberta": ("roberta", SIZES | STILL | {"layer_norm_eps": 1e-5}),
    "bert-as-kerashub": ("bert", SIZES | STILL | {"hidden_act": "gelu_new"}),
    "roberta-as-kerashub": ("roberta", SIZES | STILL | {"layer_norm_eps": 1e-5, "type_vocab_size": 1}),
}
TRAINED = ("bert", "roberta")


def shape_for(name: str) -> EncoderShape:
    family, settings = MODELS[name]
    asked = EncoderShape(
        family=family,
        settings="{}",
        vocabulary_size=VOCABULARY_SIZE,
        max_positions=LONGEST,
        initializer_range=0.1,
    )
    return asked.with_config(settings)


def main(name: str, folder: Path) -> None:
    found: dict[str, Any] = {}
    for model in MODELS:
        # What torch says to another process is the same for all models; it is asked once.
        asked = name if model == "roberta" else "torch"
        if name != "torch" and asked == "torch":
            shape = shape_from(json.loads((folder / f"{model}.json").read_text()))
            with np.load(folder / "torch.npz") as drawn:
                begins = f"{model}|start|"
                start = {key.removeprefix(begins): drawn[key] for key in drawn.files if key.startswith(begins)}
        else:
            shape, _ = resolved(shape_for(model), asked)
            start = initial_weights(shape, 3, asked)
        assert isinstance(shape, EncoderShape)
        if name == "torch":
            (folder / f"{model}.json").write_text(json.dumps(shape_value(shape)))
        found |= {f"{model}/start/{key}": value for key, value in start.items()}
        found |= {f"{model}/{key}": value for key, value in probe(name, model, shape, start, folder).items()}
    np.savez(folder / f"{name}.npz", **{key.replace("/", "|"): value for key, value in found.items()})


def probe(name: str, model: str, shape: EncoderShape, start: dict[str, Any], folder: Path) -> dict[str, Any]:
    examples = ragged_examples(VOCABULARY_SIZE)
    # Moved a little: biases that are all 0 and types that are all alike hide mistakes.
    rng = np.random.default_rng(0)
    moved = {key: value + rng.normal(0, 0.05, value.shape).astype(np.float32) for key, value in sorted(start.items())}
    backend = begun(name, shape, moved, None)
    found: dict[str, Any] = {f"roundtrip/{key}": value for key, value in backend.parameters().items()}
    found["logits"] = backend.logits(examples).mlm
    if model not in TRAINED:
        if name != "torch":
            found["kerashub"] = of_kerashub(shape, moved, examples)
        return found
    rows = np.arange(len(examples))
    parts = [examples.take(rows[:3]), examples.take(rows[3:])]
    whole = float(examples.masked.sum()) + 1e-5, 0.0
    found["nats"] = backend.score(examples).rows.mlm_nats
    wide = examples.padded(length=24, predictions=5, rows=len(examples) + 2) if name != "torch" else examples
    found["filled"] = backend.score(wide).rows.mlm_nats[: len(examples)]
    found |= {f"gradient/{key}": value for key, value in backend.gradients([examples], whole).items()}
    found |= {f"split/{key}": value for key, value in backend.gradients(parts, whole).items()}
    losses = []
    for step in range(STEPS):
        seen = backend.train_step(parts, whole, step=step, rate=1e-3).rows
        losses.append(sum(row.mlm_nats.sum() for row in seen) / whole[0])
    found["losses"] = np.array(losses)
    kept = saved(folder / f"{name}-{model}" / f"step-{STEPS:08d}", shape, backend)
    found |= {f"trained/{key}": value for key, value in kept.parameters.items()}
    found["scored"] = backend.score(examples).rows.mlm_nats
    other = begun(name, kept.shape, kept.parameters, kept.moments)
    for continued, who in ((backend, "went on"), (other, "restored")):
        continued.train_step(parts, whole, step=STEPS, rate=1e-3)
        found |= {f"{who}/{key}": value for key, value in continued.parameters().items()}
    return found | taken_up(name, folder / f"torch-{model}" / f"step-{STEPS:08d}", parts, whole)


def taken_up(name: str, path: Path, parts: list[Any], whole: tuple[float, float]) -> dict[str, Any]:
    """What a backend holds of the checkpoint of torch, and what it comes to in further steps."""
    kept = load_own_checkpoint(path)
    backend = begun(name, kept.shape, kept.parameters, kept.moments)
    slots = backend.moments()
    held = {"weights": backend.parameters(), "m": slots.m, "v": slots.v}
    found = {f"held/{of}/{key}": value for of, values in held.items() for key, value in values.items()}
    losses = []
    for step in range(STEPS, 2 * STEPS):
        seen = backend.train_step(parts, whole, step=step, rate=1e-3).rows
        losses.append(sum(row.mlm_nats.sum() for row in seen) / whole[0])
    reached = {f"reached/{key}": value for key, value in backend.parameters().items()}
    return found | reached | {"further": np.array(losses)}


def begun(name: str, shape: Any, weights: Any, moments: Any) -> Any:
    backend = new_backend(name, shape, device="cpu")
    backend.set_law(UpdateLaw(name="adamw", epsilon=1e-4))
    backend.load_parameters(weights)
    backend.load_moments(moments)
    return backend


def saved(path: Path, shape: EncoderShape, backend: Any) -> Any:
    path.parent.mkdir(parents=True)
    vocabulary = path.parent / "spiece.model"
    vocabulary.write_bytes(b"pieces")
    tokenizer: Any = SimpleNamespace(files=[vocabulary], specials=SPECIALS)
    kept = {"parameters": backend.parameters(), "moments": backend.moments()}
    save_checkpoint(path, shape=shape, **kept, state={"step": STEPS}, tokenizer=tokenizer)
    return load_own_checkpoint(path)


def of_kerashub(shape: EncoderShape, weights: dict[str, Any], examples: Any) -> Any:
    """Logits of `BertMaskedLM` or `RobertaMaskedLM` themselves with these weights."""
    import keras_hub

    from lossary.backends.keras.encoders import _TANH, _canonical
    from lossary.backends.keras.model import to_keras

    sizes = {"num_layers": 2, "num_heads": 4, "hidden_dim": 32, "intermediate_dim": 48, "dropout": 0.0}
    classes = {
        "bert": (keras_hub.models.BertBackbone, keras_hub.models.BertMaskedLM),
        "roberta": (keras_hub.models.RobertaBackbone, keras_hub.models.RobertaMaskedLM),
    }
    backbone_class, model_class = classes[shape.family]
    positions = shape.config["max_position_embeddings"]
    weights = dict(weights)
    if shape.family == "roberta":
        # KerasHub's positions begin at 0, and it has no token types: the one that there is goes into the positions.
        table = weights["roberta.embeddings.position_embeddings.weight"][1:]
        weights["roberta.embeddings.position_embeddings.weight"] = (
            table + weights["roberta.embeddings.token_type_embeddings.weight"]
        )
        positions -= 1
    model = model_class(backbone_class(vocabulary_size=VOCABULARY_SIZE, max_sequence_length=positions, **sizes))
    # transformers' head has epsilon and activation of the layers; KerasHub's of BERT has 1e-5 and the exact gelu.
    model.masked_lm_head._intermediate_layer_norm.epsilon = shape.config["layer_norm_eps"]
    if shape.family == "bert":
        model.masked_lm_head._intermediate_dense.activation = _TANH
    for variable in model.trainable_variables:
        if "pooled" in variable.path:
            continue
        [name] = [name for path, name in _canonical(shape).items() if f"/{variable.path}".endswith(f"/{path}")]
        variable.assign(to_keras(name, weights[name], tuple(variable.shape)))
    inputs = {"token_ids": examples.token_ids, "padding_mask": examples.attention_mask}
    inputs["mask_positions"] = examples.positions
    if shape.family == "bert":
        inputs["segment_ids"] = examples.segment_ids
    return np.where(examples.weights[..., None] > 0, np.asarray(model(inputs)), 0)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
