"""Checkpoints of google-research's ALBERT and BERT as TensorFlow's Saver writes them: the same, or a clear error."""

import json
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from typer.testing import CliRunner

from lossary.backends.torch.huggingface import open_huggingface
from lossary.backends.torch.scorer import HuggingFaceScorer
from lossary.cli.main import app
from lossary.errors import CheckpointError, UsageError, VocabularyError
from lossary.models.checkpoints import export_checkpoint, load_checkpoint, weights_digest
from lossary.models.folders import recognise
from lossary.models.parameters import initial_parameters
from lossary.models.shapes import AlbertShape
from lossary.models.tf_albert import _wanted
from lossary.models.tf_bert import bert_vocabulary, export_tf_bert, read_tf_bert
from lossary.models.tf_bundle import Bundle, bundle_prefix
from lossary.models.vocabularies import compare_vocabulary
from lossary.scoring.foreign import foreign_of
from lossary.vocabulary.open import open_vocabulary

pytestmark = pytest.mark.frameworks
SHAPE = AlbertShape(
    vocabulary_size=50, hidden_size=16, num_layers=2, num_heads=4, intermediate_size=64, embedding_size=8
)
CONFIG = {
    "vocab_size": 50,
    "embedding_size": 8,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_hidden_groups": 1,
    "inner_group_num": 1,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0,
    "attention_probs_dropout_prob": 0,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "initializer_range": 0.02,
    "net_structure_type": 0,
}
BERT = {
    "attention_probs_dropout_prob": 0.1,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 16,
    "initializer_range": 0.02,
    "intermediate_size": 40,
    "max_position_embeddings": 24,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "type_vocab_size": 2,
    "vocab_size": 30,
}
BERT_NAMES = (
    (r"layer\.(\d+)\.", r"layer_\1."),
    (r"embeddings\.weight$", "embeddings"),
    (r"LayerNorm\.weight$", "LayerNorm.gamma"),
    (r"LayerNorm\.bias$", "LayerNorm.beta"),
    (r"cls\.predictions\.bias$", "cls.predictions.output_bias"),
    (r"seq_relationship\.(\w+)$", r"seq_relationship.output_\1s"),
    ("output_biass", "output_bias"),
    (r"weight$", "kernel"),
    (r"\.", "/"),
)
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklm", *(f"##{letter}" for letter in "abcdefghijkl")]
# As a training script saves it: variables by name, slots of the optimizer beside them, a step.
SAVER = """
import os, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import tensorflow as tf
from safetensors.numpy import load_file
for file in sys.argv[1:]:
    values = load_file(file)
    tf1 = tf.compat.v1
    with tf.Graph().as_default(), tf1.Session() as session:
        kinds = {name: tf.bfloat16 if name.startswith("bf16:") else value.dtype for name, value in values.items()}
        made = [
            tf1.get_variable(name.removeprefix("bf16:"), initializer=tf.cast(tf1.constant(value), kinds[name]))
            for name, value in values.items()
        ]
        session.run(tf1.global_variables_initializer())
        tf1.train.Saver(made).save(session, file.removesuffix(".safetensors"), write_meta_graph=True)
"""


def theirs(parameters: dict[str, np.ndarray], prefix: str = "") -> dict[str, np.ndarray]:
    """Weights under google-research's names."""
    return {
        prefix + name: np.ascontiguousarray(parameters[own].T if is_kernel else parameters[own])
        for name, (own, is_kernel) in _wanted().items()
        if own in parameters
    }


def twin() -> Any:
    """A BERT of transformers whose activation is what google-research computes."""
    import torch
    import transformers

    torch.manual_seed(5)
    model = transformers.BertForPreTraining(transformers.BertConfig(**{**BERT, "hidden_act": "gelu_new"}))
    with torch.no_grad():
        for value in model.parameters():
            value.copy_(torch.randn(value.shape) * 0.3)
    return model.eval()


def berts() -> dict[str, dict[str, np.ndarray]]:
    """The twin under the names of google-research/bert, as conversions to TensorFlow have written them for years."""
    plain = {}
    for name, tensor in twin().state_dict().items():
        value = tensor.numpy()
        for ours, theirs in BERT_NAMES:
            name = re.sub(ours, theirs, name)
        if "cls/predictions/decoder" not in name:
            plain[name] = np.ascontiguousarray(value.T if name.endswith("/kernel") else value)
    slots = {f"{name}/adam_{moment}": value * 0 + 1 for name, value in plain.items() for moment in "mv"}
    return {
        "bert": plain | slots | {"global_step": np.int64([1000]).reshape(())},
        "bert_hub": {f"module/{name}": value for name, value in plain.items()},
        "bert_no_order": {name: value for name, value in plain.items() if "seq_relationship" not in name},
        "bert_no_head": {n: v for n, v in plain.items() if "predictions" not in n} | {"output_bias": np.zeros(2)},
        "bert_cut": {name: value for name, value in plain.items() if "cls/predictions/transform" not in name},
        "bert_strange": plain | {"bert/encoder/layer_0/adapter/kernel": np.zeros((2, 2), np.float32)},
        "bert_misshapen": plain | {"bert/encoder/layer_1/output/dense/kernel": np.zeros((16, 40), np.float32)},
        "bert_nan": plain | {"bert/pooler/dense/bias": np.full(16, np.nan, np.float32)},
    }


def variants() -> dict[str, dict[str, np.ndarray]]:
    parameters = initial_parameters(SHAPE, 3)
    plain = theirs(parameters)
    slots = {f"{name}/adam_{moment}": value * 0 + 1 for name, value in plain.items() for moment in "mv"}
    group = "bert/encoder/transformer/group_0/inner_group_0"
    return {
        "model.ckpt-125000": plain | slots | {"global_step": np.int64([125000]).reshape(())},
        "hub": {f"module/{name}": value for name, value in plain.items()},
        "no_order": {name: value for name, value in plain.items() if "seq_relationship" not in name},
        "no_head": {name: value for name, value in plain.items() if not name.startswith("cls/")},
        "bf16": {f"bf16:{name}": value for name, value in plain.items()},
        "brightmart": {"bert/encoder/layer_shared/attention/self/query/kernel": np.zeros((2, 2), np.float32)},
        "groups": plain
        | {f"{group}/x": np.zeros(1, np.float32).reshape(1)}
        | {"bert/encoder/transformer/group_1/inner_group_0/ffn_1/x": np.zeros(1, np.float32)},
        "strange": plain | {"bert/adapter/kernel": np.zeros((2, 2), np.float32)},
        "other": {"resnet/kernel": np.zeros((2, 2), np.float32)},
        "nan": plain | {"bert/pooler/dense/bias": np.full(16, np.nan, np.float32)},
        "misshapen": plain | {"bert/pooler/dense/bias": np.zeros(17, np.float32)},
        **berts(),
        "integers": plain | {"bert/pooler/dense/bias": np.zeros(16, bool)},
    }


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each variant, written by TensorFlow."""
    root = tmp_path_factory.mktemp("tf1")
    files = []
    for name, values in variants().items():
        folder = root / name
        folder.mkdir()
        files.append(folder / f"{name if name.startswith('model') else 'model.ckpt-best'}.safetensors")
        save_file(values, files[-1])
        config = {"bert_config.json": BERT} if name.startswith("bert") else {"albert_config.json": CONFIG}
        for config_name, value in config.items():
            (folder / config_name).write_text(json.dumps(value))
        if name.startswith("bert"):
            (folder / "vocab.txt").write_text("\n".join(PIECES) + "\n")
    subprocess.run([sys.executable, "-c", SAVER, *map(str, files)], check=True, capture_output=True)
    for file in files:
        file.unlink()
    return root


def named(saved: Path, name: str) -> Path:
    return saved / name / (name if name.startswith("model") else "model.ckpt-best")


@pytest.mark.parametrize("name", ["model.ckpt-125000", "hub"])
@pytest.mark.parametrize("form", ["folder", "prefix", "index", "data"])
def test_the_same_weights_by_every_name(saved: Path, name: str, form: str) -> None:
    prefix = named(saved, name)
    path = {
        "folder": prefix.parent,
        "prefix": prefix,
        "index": prefix.with_name(prefix.name + ".index"),
        "data": prefix.with_name(prefix.name + ".data-00000-of-00001"),
    }[form]
    found = load_checkpoint(path)
    assert weights_digest(found.parameters) == weights_digest(initial_parameters(SHAPE, 3))
    assert found.shape == SHAPE
    assert found.has_sop
    assert found.state == ({"step": 125000} if name.startswith("model") else {})


def test_what_tensorflow_reads_is_what_is_read(saved: Path) -> None:
    prefix = named(saved, "model.ckpt-125000")
    code = (
        "import os, sys; os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'\n"
        "import numpy as np, tensorflow as tf\n"
        "reader = tf.train.load_checkpoint(sys.argv[1])\n"
        "names = reader.get_variable_to_shape_map()\n"
        "np.savez(sys.argv[2], **{name.replace('/', '|'): reader.get_tensor(name) for name in names})"
    )
    out = prefix.parent / "read.npz"
    subprocess.run([sys.executable, "-c", code, str(prefix), str(out)], check=True, capture_output=True)
    bundle = Bundle(prefix)
    with np.load(out) as expected:
        assert {name.replace("|", "/") for name in expected} == set(bundle.shapes)
        for name in bundle.shapes:
            assert np.array_equal(bundle.read(name), expected[name.replace("/", "|")])


def test_bfloat16_is_widened_exactly(saved: Path) -> None:
    found = load_checkpoint(named(saved, "bf16")).parameters
    for name, value in initial_parameters(SHAPE, 3).items():
        assert np.abs(found[name] - value).max() <= np.abs(value).max() * 2**-8
        assert not (found[name].view(np.uint32) & 0xFFFF).any()


def test_without_an_order_head_there_is_none(saved: Path, tmp_path: Path) -> None:
    found = load_checkpoint(named(saved, "no_order"))
    assert not found.has_sop
    export_checkpoint(found, tmp_path / "out")
    again = load_checkpoint(tmp_path / "out")
    assert not again.has_sop
    # Only the order head reads the pooler.
    read = {name for name in found.parameters if not name.startswith(("albert.pooler", "sop_classifier"))}
    assert all(np.array_equal(again.parameters[name], found.parameters[name]) for name in read)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no_head", "parameters are missing: predictions"),
        ("brightmart", "brightmart/albert_zh's own layout"),
        ("bert", "a BERT, whose layers share nothing"),
        ("groups", "several groups"),
        ("strange", "1 of its variables are none of google-research's ALBERT: bert/adapter/kernel"),
        ("other", "none of an ALBERT: it holds resnet/kernel"),
        ("nan", "1 of 32 parameters hold NaN"),
        ("misshapen", "shapes differ"),
        ("integers", "TensorFlow's type 10"),
    ],
)
def test_what_is_no_albert_of_google_research_is_refused_by_name(saved: Path, name: str, said: str) -> None:
    with pytest.raises(CheckpointError, match=said):
        load_checkpoint(named(saved, name))


def without_configuration(folder: Path) -> None:
    (folder / "albert_config.json").unlink()


def another_structure(folder: Path) -> None:
    (folder / "albert_config.json").write_text(json.dumps(CONFIG | {"net_structure_type": 3}))


def relu(folder: Path) -> None:
    (folder / "albert_config.json").write_text(json.dumps(CONFIG | {"hidden_act": "relu"}))


def no_object(folder: Path) -> None:
    (folder / "albert_config.json").write_text("[1]")


def no_json(folder: Path) -> None:
    (folder / "albert_config.json").write_text("{")


def no_values(folder: Path) -> None:
    next(folder.glob("*.data-*")).unlink()


def cut_values(folder: Path) -> None:
    file = next(folder.glob("*.data-*"))
    file.write_bytes(file.read_bytes()[:-100])


def cut_index(folder: Path) -> None:
    file = next(folder.glob("*.index"))
    file.write_bytes(file.read_bytes()[:-10])


def empty_index(folder: Path) -> None:
    next(folder.glob("*.index")).write_bytes(b"")


def two_checkpoints(folder: Path) -> None:
    (folder / "model.ckpt-1.index").write_bytes(b"")


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (without_configuration, "no albert_config.json beside it"),
        (another_structure, "net_structure_type is 3"),
        (relu, "hidden_act is 'relu'"),
        (no_object, "not a JSON object"),
        (no_json, "not JSON|not readable"),
        (no_values, "lacks its values"),
        (cut_values, "not what was written"),
        (cut_index, "does not end in the mark of a table"),
        (empty_index, "does not end in the mark of a table"),
        (two_checkpoints, "2 TensorFlow checkpoints lie there"),
    ],
)
def test_a_broken_folder_is_one_clear_error(
    saved: Path, tmp_path: Path, break_it: Callable[[Path], None], said: str
) -> None:
    folder = Path(shutil.copytree(saved / "hub", tmp_path / "copy"))
    break_it(folder)
    with pytest.raises(CheckpointError, match=said):
        load_checkpoint(folder)


def test_a_flipped_bit_is_found_or_changes_nothing(saved: Path, tmp_path: Path) -> None:
    expected = weights_digest(initial_parameters(SHAPE, 3))
    rng = random.Random(5)
    folder = Path(shutil.copytree(saved / "hub", tmp_path / "copy"))
    found = 0
    for file in (next(folder.glob("*.index")), next(folder.glob("*.data-*"))):
        whole = file.read_bytes()
        for _ in range(150):
            broken = bytearray(whole)
            broken[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
            file.write_bytes(broken)
            try:
                assert weights_digest(load_checkpoint(folder).parameters) == expected
            except CheckpointError:
                found += 1
        file.write_bytes(whole)
    assert found > 250


def test_its_vocabulary_is_compared_under_any_name(saved: Path, tmp_path: Path, prepared: Any) -> None:
    own = prepared[1].tokenizer / "spiece.model"
    folder = Path(shutil.copytree(saved / "hub", tmp_path / "copy"))
    assert compare_vocabulary(folder, own, load_checkpoint(folder).vocabularies) == "unknown"
    shutil.copyfile(own, folder / "30k-clean.model")
    assert compare_vocabulary(folder, own, load_checkpoint(folder).vocabularies) == "same"
    (folder / "30k-clean.model").write_bytes(b"another")
    with pytest.raises(CheckpointError):
        compare_vocabulary(folder, own, load_checkpoint(folder).vocabularies)


def test_a_saved_model_keeps_its_variables_in_a_folder_of_their_own(saved: Path, tmp_path: Path) -> None:
    hub = tmp_path / "module"
    (hub / "variables").mkdir(parents=True)
    for file in (saved / "hub").glob("model.ckpt-best.*"):
        shutil.copyfile(file, hub / "variables" / file.name.replace("model.ckpt-best", "variables"))
    (hub / "assets").mkdir()
    shutil.copyfile(saved / "hub" / "albert_config.json", hub / "assets" / "albert_config.json")
    assert bundle_prefix(hub) == hub / "variables" / "variables"
    assert weights_digest(load_checkpoint(hub).parameters) == weights_digest(initial_parameters(SHAPE, 3))


def test_transformers_opens_what_was_converted(saved: Path, tmp_path: Path) -> None:
    out = tmp_path / "converted"
    export_checkpoint(load_checkpoint(saved / "model.ckpt-125000"), out)
    code = (
        "import sys; from transformers import AlbertForPreTraining\n"
        "model, said = AlbertForPreTraining.from_pretrained(sys.argv[1], output_loading_info=True)\n"
        "assert not said['missing_keys'] and not said['unexpected_keys'], said\n"
        "model.save_pretrained(sys.argv[2])"
    )
    subprocess.run([sys.executable, "-c", code, str(out), str(tmp_path / "again")], check=True, capture_output=True)
    again = load_checkpoint(tmp_path / "again")
    assert weights_digest(again.parameters) == weights_digest(initial_parameters(SHAPE, 3))
    assert load_checkpoint(out).state == {"step": 125000}
    with pytest.raises(UsageError, match="exists already"):
        export_checkpoint(again, out)


@pytest.mark.parametrize("name", ["bert", "bert_hub"])
def test_a_bert_is_its_twin_to_the_last_bit(saved: Path, tmp_path: Path, name: str) -> None:
    import torch
    import transformers

    path = named(saved, name)
    found, step = recognise(path), 1000 if name == "bert" else None
    assert (found.kind, found.step) == ("transformers", step)
    scorer = open_huggingface(path, open_vocabulary(path.parent))
    assert "its tanh form" in scorer.notes[-1]
    assert scorer.weights_digest() == HuggingFaceScorer(twin()).weights_digest()
    # The folder that it is converted to is opened by transformers, and cuts words as the files beside it do.
    out = tmp_path / "out"
    assert CliRunner().invoke(app, ["convert", str(path), str(out)]).exit_code == 0
    model = transformers.BertForPreTraining.from_pretrained(out).eval()
    ids = torch.tensor([[2, 7, 9, 4, 20, 3, 8, 4, 3]])
    types = torch.tensor([[0, 0, 0, 0, 0, 0, 1, 1, 1]])
    with torch.no_grad():
        ours, theirs = (m(input_ids=ids, token_type_ids=types) for m in (model, twin()))
    # The weights are the same bits; where tensors lie in memory may round a sum of products otherwise.
    torch.testing.assert_close(ours.prediction_logits, theirs.prediction_logits, rtol=0, atol=1e-5)
    torch.testing.assert_close(ours.seq_relationship_logits, theirs.seq_relationship_logits, rtol=0, atol=1e-5)
    text = "Abc DEF, xyz"
    own = open_vocabulary(path.parent).encode([text])[0].ids.tolist()
    assert transformers.AutoTokenizer.from_pretrained(out)(text, add_special_tokens=False)["input_ids"] == own
    assert recognise(out).step == step


def test_a_bert_without_a_head_for_the_next_sentence_is_a_masked_one(saved: Path) -> None:
    made = read_tf_bert(named(saved, "bert_no_order"))
    assert made.config["architectures"] == ["BertForMaskedLM"]
    assert not [name for name in made.parameters if "pooler" in name]
    scorer = open_huggingface(named(saved, "bert_no_order"))
    assert type(scorer.model).__name__ == "BertForMaskedLM"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("bert_no_head", "1 of its variables are none of google-research's BERT: output_bias"),
        ("bert_cut", "4 of a BERT's variables are missing: cls/predictions/transform"),
        ("bert_strange", "none of google-research's BERT: bert/encoder/layer_0/adapter/kernel"),
        ("bert_misshapen", r"layer.1.output.dense.weight is \(40, 16\), where \(16, 40\) is expected"),
        ("bert_nan", "1 of 46 parameters hold NaN"),
    ],
)
def test_what_is_no_bert_that_can_be_scored_is_refused_by_name(saved: Path, name: str, said: str) -> None:
    with pytest.raises(CheckpointError, match=said):
        open_huggingface(named(saved, name))


@pytest.mark.parametrize(("key", "value"), [("num_hidden_layers", 3), ("vocab_size", 31), ("intermediate_size", 64)])
def test_a_configuration_of_another_bert_is_refused(saved: Path, tmp_path: Path, key: str, value: int) -> None:
    folder = Path(shutil.copytree(saved / "bert", tmp_path / "copy"))
    (folder / "bert_config.json").write_text(json.dumps(BERT | {key: value}))
    with pytest.raises(CheckpointError, match=f"{key} is {BERT[key]} of its weights, and its configuration says"):
        read_tf_bert(folder / "model.ckpt-best")


def test_the_case_of_a_vocabulary_with_capitals_has_to_be_said(saved: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(saved / "bert", tmp_path / "copy"))
    (folder / "vocab.txt").write_text("\n".join([*PIECES[:-1], "A"]))
    with pytest.raises(VocabularyError, match="nothing beside it says whether it folds case"):
        export_tf_bert(read_tf_bert(folder / "model.ckpt-best"), tmp_path / "out", bert_vocabulary(folder / "model"))
    assert not (tmp_path / "out").exists()
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    assert open_vocabulary(folder).encode(["A"])[0].ids.tolist() == [29]
    (folder / "vocab.txt").unlink()
    with pytest.raises(UsageError, match="there is no vocab"):
        foreign_of(folder)
