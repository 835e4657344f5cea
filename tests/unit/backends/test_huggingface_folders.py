"""Folders of transformers as scorers, and what is refused of them before anything in them is run."""

import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks.families import FAMILIES, make_examples, make_model
from safetensors.torch import load_file, save_file

from lossary.backends.torch.huggingface import open_huggingface
from lossary.backends.torch.scorer import HuggingFaceScorer
from lossary.errors import CheckpointError, UsageError
from lossary.models.folders import recognise, step_of_folder

pytestmark = pytest.mark.frameworks


def saved(folder: Path, family: str = "BERT", **options: Any) -> Path:
    make_model(family).save_pretrained(folder, **options)
    return folder


def nats(scorer: HuggingFaceScorer, family: str) -> Any:
    return scorer.score(make_examples(family)).rows.mlm_nats


def change_config(folder: Path, **values: Any) -> None:
    config = json.loads((folder / "config.json").read_text()) | values
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_model_scores_as_the_model(family: str, tmp_path: Path) -> None:
    expected = nats(HuggingFaceScorer(make_model(family)), family)
    assert np.array_equal(nats(open_huggingface(saved(tmp_path / "model", family), device="cpu"), family), expected)


@pytest.mark.parametrize("family", ["BERT", "BERT, untied", "RoBERTa", "Llama"])
def test_weights_in_parts_score_as_the_model(family: str, tmp_path: Path) -> None:
    folder = saved(tmp_path / "model", family, max_shard_size="20KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    assert np.array_equal(nats(open_huggingface(folder), family), nats(HuggingFaceScorer(make_model(family)), family))


def pickled(folder: Path, state: Any) -> Path:
    folder = saved(folder)
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    return folder


def test_pickled_tensors_are_read_without_running_anything(tmp_path: Path) -> None:
    model = make_model("BERT")
    folder = pickled(tmp_path / "tensors", model.state_dict())
    assert np.array_equal(nats(open_huggingface(folder), "BERT"), nats(HuggingFaceScorer(model), "BERT"))


class Runs:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def test_pickled_code_is_refused_and_does_not_run(tmp_path: Path) -> None:
    folder = pickled(tmp_path / "code", make_model("BERT").state_dict() | {"extra": Runs(tmp_path / "ran")})
    with pytest.raises(CheckpointError, match="its pickle holds more than tensors"):
        open_huggingface(folder)
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Runs(tmp_path / "ran"), protocol=2))
    with pytest.raises(CheckpointError, match="its pickle holds more than tensors"):
        open_huggingface(folder)
    assert not (tmp_path / "ran").exists()


def test_bf16_weights_are_kept_or_widened(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    make_model("BERT").bfloat16().save_pretrained(folder)
    widened, kept = open_huggingface(folder), open_huggingface(folder, precision="bf16")
    assert (widened.precision, kept.precision) == ("fp32", "bf16")
    assert (widened.weights_dtype, kept.weights_dtype) == (torch.float32, torch.bfloat16)


def test_what_cannot_be_opened_is_one_clear_message(tmp_path: Path) -> None:
    def expect(folder: Path, message: str) -> None:
        with pytest.raises(CheckpointError, match=message):
            open_huggingface(folder)

    expect(tmp_path / "nowhere", "there is no such file or folder")
    folder = saved(tmp_path / "code")
    change_config(folder, auto_map={"AutoModelForMaskedLM": "modeling_mine.Mine"})
    expect(folder, "code from a folder is never run")
    folder = saved(tmp_path / "attention")
    change_config(folder, attn_implementation="somebody/attention")
    expect(folder, "attention code from elsewhere: 'somebody/attention'")
    folder = saved(tmp_path / "adapter")
    (folder / "adapter_config.json").write_text("{}")
    expect(folder, "it is an adapter of PEFT")
    folder = saved(tmp_path / "parts", max_shard_size="20KB")
    sorted(folder.glob("model-*.safetensors"))[0].unlink()
    expect(folder, "a part of the weights is missing: model-00001")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../elsewhere.safetensors"}}))
    expect(folder, "names a file outside the checkpoint")
    folder = saved(tmp_path / "unnamed")
    change_config(folder, architectures=None)
    expect(folder, "does not say which class")
    folder = saved(tmp_path / "damaged")
    (folder / "config.json").write_text("{")
    expect(folder, "config.json")
    folder = saved(tmp_path / "other sizes")
    change_config(folder, intermediate_size=52)
    expect(folder, "transformers cannot open it as BertForMaskedLM")


def test_a_model_without_its_head_is_refused(tmp_path: Path) -> None:
    make_model("BERT").bert.save_pretrained(tmp_path / "encoder")
    with pytest.raises(CheckpointError, match=r"BertModel has no head: .*\n.* it would get one of random numbers"):
        open_huggingface(tmp_path / "encoder")
    change_config(tmp_path / "encoder", architectures=["BertForMaskedLM"])
    with pytest.raises(CheckpointError, match=r"parameters of BertForMaskedLM are missing: cls\.predictions"):
        open_huggingface(tmp_path / "encoder")


def test_weights_that_are_no_numbers_are_named(tmp_path: Path) -> None:
    model = make_model("BERT")
    with torch.no_grad():
        model.bert.pooler = None
        model.bert.embeddings.LayerNorm.bias[3] = float("inf")
    model.save_pretrained(tmp_path / "model")
    with pytest.raises(CheckpointError, match=r"1 parameters hold NaN or infinite values: bert\.embeddings\.LayerNorm"):
        open_huggingface(tmp_path / "model")


def test_kinds_are_told_by_content(tmp_path: Path) -> None:
    assert recognise(saved(tmp_path / "a", "ALBERT")).kind == "albert"
    found = recognise(saved(tmp_path / "checkpoint-500", "RoBERTa"))
    assert (found.kind, found.architecture, found.step) == ("transformers", "RobertaForMaskedLM", 500)


@pytest.mark.parametrize(
    ("name", "step"),
    [("checkpoint-500", 500), ("step-00000100", 100), ("global_step7", 7), ("bert-base-512", None), ("steps-x", None)],
)
def test_the_step_is_in_the_name_or_in_what_a_trainer_wrote(name: str, step: int | None, tmp_path: Path) -> None:
    folder = tmp_path / name
    folder.mkdir()
    assert step_of_folder(folder) == step
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": 40}))
    assert step_of_folder(folder) == 40


@pytest.mark.parametrize(("before", "inside"), [("module.", ""), ("_orig_mod.module.", ""), ("", "_orig_mod.")])
def test_names_that_wrappers_gave_are_read_without_them(before: str, inside: str, tmp_path: Path) -> None:
    model = make_model("BERT")
    state = {
        before + name.replace("encoder.", f"encoder.{inside}"): value for name, value in model.state_dict().items()
    }
    scorer = open_huggingface(pickled(tmp_path / "wrapped", state))
    assert np.array_equal(nats(scorer, "BERT"), nats(HuggingFaceScorer(model), "BERT"))
    assert [note.partition(":")[0] for note in scorer.notes] == [
        "names of its weights are read without what wraps them"
    ]


def test_weights_that_mean_something_else_are_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path / "layers")
    change_config(folder, num_hidden_layers=1)
    with pytest.raises(CheckpointError, match=r"have no place in the model .*: bert\.encoder\.layer\.1\."):
        open_huggingface(folder)
    change_config(saved(tmp_path / "method"), quantization_config={"quant_method": "gptq", "bits": 4})
    with pytest.raises(CheckpointError, match=r"its weights are quantised \(gptq\)"):
        recognise(tmp_path / "method")
    name = "bert.encoder.layer.0.intermediate.dense.weight"
    state = make_model("BERT").state_dict()
    with pytest.raises(CheckpointError, match=rf"1 of its parameters are quantised \(int8\).*: {name}"):
        open_huggingface(pickled(tmp_path / "pickled", state | {name: (state[name] * 100).to(torch.int8)}))
    folder = saved(tmp_path / "eight")
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors | {name: tensors[name].to(torch.float8_e4m3fn)}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=rf"1 of its parameters are quantised \(F8_E4M3\).*: {name}"):
        open_huggingface(folder)
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone" / "adapter_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="it is an adapter of PEFT"):
        recognise(tmp_path / "alone")


def test_weights_of_another_kind_are_named(tmp_path: Path) -> None:
    state = make_model("BERT").state_dict()
    scorer = open_huggingface(pickled(tmp_path / "more", state | {"bert.other.weight": torch.zeros(3)}))
    assert scorer.notes == ["not of BertForMaskedLM, and not used: bert.other.weight"]


def test_an_encoder_that_is_called_causal_is_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path / "model")
    change_config(folder, architectures=["BertLMHeadModel"])
    with pytest.raises(UsageError, match="BertLMHeadModel is scored as a causal model, and sees the pieces"):
        nats(open_huggingface(folder), "BERT")
    change_config(folder, is_decoder=True)
    assert np.isfinite(nats(open_huggingface(folder), "BERT")).all()
