"""Checkpoints as people save them, each built by hand: what is not opened says what it is, and how it is converted."""

import json
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from lossary.errors import CheckpointError, LossaryError, UsageError
from lossary.models.folders import name_of, recognise
from lossary.scoring.foreign import foreign_of

BERT = {"architectures": ["BertForMaskedLM"], "model_type": "bert"}
LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 437951328\n"
TENSORS = {"bert.embeddings.LayerNorm.weight": np.ones(300, np.float32)}
REVISION = "0123456789abcdef0123456789abcdef01234567"


def lay(root: Path, files: Mapping[str, Any]) -> Path:
    """Files by name: bytes, text, an object of JSON, or True for a small file of safetensors."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is True:
            save_file(TENSORS, path, {"format": "pt"})
        elif isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content))
    return root


def archive(names: Mapping[str, bytes]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as file:
            for name, content in names.items():
                file.writestr(name, content)

    return write


# Title: the files, the path that is given, what is said, and how it is converted.
FOLDERS: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "empty": ({"x/.keep": ""}, "x", "there is no config.json; it is empty", "docs/any-model.md"),
    "other files": ({"notes.md": ""}, "", "there is no config.json; it holds notes.md", "docs/any-model.md"),
    "Trainer's output": (
        {f"checkpoint-{step}/config.json": BERT for step in (90, 100, 20)},
        "",
        "below it lie models: checkpoint-20, checkpoint-90, checkpoint-100",
        "--checkpoint {path}/checkpoint-100; given one after another, several are steps of one column",
    ),
    "models in folders": (
        {"a b/config.json": BERT, "1_Pooling/config.json": {"dim": 3}},
        "",
        "below it lie models: a b",
        "--checkpoint '{path}/a b'",
    ),
    "hub's cache, two revisions": (
        {"models--me--bert/snapshots/a/config.json": BERT, "models--me--bert/snapshots/b/config.json": BERT},
        "models--me--bert",
        "below it lie models: snapshots/a, snapshots/b",
        "--checkpoint {path}/snapshots/b",
    ),
    "MLflow": (
        {"MLmodel": "", "model/config.json": BERT, "components/tokenizer/tokenizer.json": "{}"},
        "",
        "a folder of MLflow around a model",
        "--checkpoint {path}/model --tokenizer {path}/components/tokenizer",
    ),
    "weights without config": (
        {"model.safetensors": True},
        "",
        "no config.json beside model.safetensors",
        "Copy config",
    ),
    "config without weights": ({"config.json": BERT}, "", "there are no weights: model.safetensors, ", "Copy them"),
    "weights of another name": (
        {"config.json": BERT, "model.fp16.safetensors": True, "optimizer.bin": b""},
        "",
        r"another name \(model.fp16.safetensors\)",
        "ln -s model.fp16.safetensors {path}/model.safetensors",
    ),
    "TensorFlow": ({"config.json": BERT, "tf_model.h5": b""}, "", r"TensorFlow \(tf_model.h5\)", "from_tf=True"),
    "Flax": ({"config.json": BERT, "flax_model.msgpack": b""}, "", r"Flax \(flax_", "'{path}', from_flax=True"),
    "GGUF in a folder": ({"config.json": BERT, "a-Q4.gguf": b""}, "", "a-Q4.gguf is a GGUF file", "gguf_file=NAME"),
    "GGUF alone": ({"a-Q4.gguf": b""}, "", "a-Q4.gguf is a GGUF file of llama.cpp", "gguf_file=NAME"),
    "GGUF file": ({"a.gguf": b""}, "a.gguf", "it is a GGUF file", "Score the model that it was made from"),
    "ONNX": ({"config.json": BERT, "onnx/model.onnx": b""}, "", "an exported graph: onnx/model.onnx", "ModuleScorer"),
    "ONNX file": ({"model.onnx": b""}, "model.onnx", "it is an exported graph", "the folder that it was exported from"),
    "TorchScript": (
        {"s.pt": archive({"s/code/a.py": b"", "s/data.pkl": b""})},
        "s.pt",
        "TorchScript",
        "torch.jit.load",
    ),
    "Lightning": (
        {
            "logs/version_0/epoch=1.ckpt": archive(
                {"epoch/data.pkl": b"\x80\x02X\x19\x00\x00\x00pytorch-lightning_version"}
            )
        },
        "logs",
        "version_0/epoch=1.ckpt is a checkpoint of Lightning",
        '"state_dict"',
    ),
    "state_dict": ({"m.pt": archive({"m/data.pkl": b""})}, "m.pt", "it is a file of weights", "model.load_state_dict"),
    "FSDP": (
        {"config.json": BERT, "pytorch_model_fsdp_0/.metadata": b"", "pytorch_model_fsdp_0/__0_0.distcp": b""},
        "",
        "a distributed checkpoint of PyTorch",
        "accelerate merge-weights {path}/pytorch_model_fsdp_0 NEW",
    ),
    "DeepSpeed": (
        {"latest": "global_step10", "global_step10/mp_rank_00_model_states.pt": b"", "zero_to_fp32.py": ""},
        "",
        "a checkpoint of DeepSpeed",
        "python zero_to_fp32.py . NEW",
    ),
    "DeepSpeed's part": (
        {"global_step10/mp_rank_00_model_states.pt": b""},
        "global_step10/mp_rank_00_model_states.pt",
        "a checkpoint of DeepSpeed",
        "python zero_to_fp32.py . NEW",
    ),
    "Megatron": (
        {"latest_checkpointed_iteration.txt": "10", "iter_0000010/mp_rank_00/model_optim_rng.pt": b""},
        "",
        "a checkpoint of Megatron-LM",
        "tools/checkpoint/convert.py",
    ),
    "Megatron, distributed": ({"common.pt": b"", "__0_0.distcp": b""}, "", "of Megatron-LM or NeMo", "Megatron Bridge"),
    "Orbax": ({"10/_CHECKPOINT_METADATA": "{}", "10/default/d/x": b""}, "", "of Orbax", "KerasScorer"),
    "SavedModel": ({"saved_model.pb": b"", "assets/x": b""}, "", "SavedModel of TensorFlow 2", "KerasScorer"),
    "Meta's": ({"params.json": "{}", "consolidated.00.pth": b""}, "", "as Meta or Mistral publish", "convert_"),
    "accelerate": (
        {"model.safetensors": True, "optimizer.bin": b"", "random_states_0.pkl": b""},
        "",
        "accelerate's save_state wrote it",
        "unwrap_model",
    ),
    "adapter": (
        {"adapter_config.json": {"base_model_name_or_path": "me/bert"}, "adapter_model.safetensors": True},
        "",
        "an adapter of PEFT for me/bert",
        "merge_and_unload()",
    ),
    "code": ({"config.json": BERT | {"auto_map": {"AutoModel": "m.M"}}}, "", "code of its own", "If you trust it"),
    "quantised": (
        {"config.json": BERT | {"quantization_config": {"quant_method": "awq"}}, "model.safetensors": True},
        "",
        r"its weights are quantised \(awq\)",
        "dequantize",
    ),
    "without a class": ({"config.json": {"model_type": "bert"}}, "", "does not say which class", '"BertForMaskedLM"'),
    "Git LFS": ({"config.json": BERT, "model.safetensors": LFS}, "", "a pointer of Git LFS", "git lfs pull"),
    "Git LFS, pickle": ({"config.json": BERT, "pytorch_model.bin": LFS}, "", "a pointer of Git LFS", "git lfs pull"),
    "no bytes": ({"config.json": BERT, "model.safetensors": b""}, "", "it is empty", "Copy it again"),
    "HTML": ({"config.json": BERT, "model.safetensors": "<!DOCTYPE html>"}, "", "a page of HTML", "Copy it again"),
    "pickle cut short": ({"config.json": BERT, "pytorch_model.bin": b"PK\3\4abc"}, "", "cut short: 7 bytes", "Copy it"),
    "a part is missing": (
        {
            "config.json": BERT,
            "model.safetensors.index.json": {"weight_map": {"a": "model-00002-of-00002.safetensors"}},
        },
        "",
        "a part of the weights is missing: model-00002",
        "copy it from where",
    ),
    "download of the hub": (
        {"m/snapshots/a/config.json": BERT, "m/blobs/ab.incomplete": b""},
        "m/snapshots/a",
        r"has not ended \(ab.incomplete\)",
        "Download it again",
    ),
    "Keras": ({"a.weights.h5": b""}, "a.weights.h5", "a file of weights of Keras", "KerasScorer"),
    "JAX": ({"params.msgpack": b""}, "params.msgpack", r"weights \(JAX, NumPy\)", "KerasScorer"),
    "NeMo": ({"a.nemo": b""}, "a.nemo", "an archive of NeMo", "export"),
    "archive": ({"a.tar.gz": b""}, "a.tar.gz", "it is an archive", "Unpack"),
    "Python": ({"a.py": ""}, "a.py", "it is Python code", "lossary diagnose"),
    "text": ({"a.txt": ""}, "a.txt", "neither a folder nor a file of TensorFlow 1", "save_pretrained"),
    "nothing": ({}, "nowhere", "there is no such file or folder", ""),
}


@pytest.mark.parametrize("title", FOLDERS)
def test_what_is_not_opened_says_what_it_is_and_how_it_is_converted(title: str, tmp_path: Path) -> None:
    files, given, what, how = FOLDERS[title]
    lay(tmp_path, {name: b"" if callable(content) else content for name, content in files.items()})
    for name, content in files.items():
        if callable(content):
            content(tmp_path / name)
    path = tmp_path / given
    with pytest.raises(CheckpointError, match=what) as refused:
        recognise(path)
    assert how.replace("{path}", str(path)) in (refused.value.hint or "")
    assert str(tmp_path) in (refused.value.where or "")


def test_files_that_are_cut_short_say_by_how_much(tmp_path: Path) -> None:
    whole = (lay(tmp_path, {"config.json": BERT, "model.safetensors": True}) / "model.safetensors").read_bytes()
    for length in (len(whole) - 1, 20):
        (tmp_path / "model.safetensors").write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=f"it is cut short: {length:,} of "):
            recognise(tmp_path)
    with pytest.raises(CheckpointError, match=f"of {len(whole):,} bytes"):
        (tmp_path / "model.safetensors").write_bytes(whole[:-1])
        recognise(tmp_path)


def test_links_of_the_hub_that_lead_nowhere_are_half_a_download(tmp_path: Path) -> None:
    lay(tmp_path, {"config.json": BERT})
    (tmp_path / "model.safetensors").symlink_to("../../blobs/ab")
    with pytest.raises(CheckpointError, match=r"has not ended \(model.safetensors leads to a file that is not there\)"):
        recognise(tmp_path)


def test_the_folder_is_found_by_what_is_read_of_it(tmp_path: Path) -> None:
    parts = {"weight_map": {"a": "model-00001-of-00001.safetensors"}}
    single = lay(tmp_path / "single", {"config.json": BERT, "model.safetensors": True, "pytorch_model.bin": b"PK"})
    cut = lay(
        tmp_path / "cut",
        {"config.json": BERT, "model-00001-of-00001.safetensors": True, "model.safetensors.index.json": parts},
    )
    for folder, names in (
        (single, ["", "config.json", "model.safetensors"]),
        (cut, ["", "model-00001-of-00001.safetensors", "model.safetensors.index.json"]),
    ):
        assert [recognise(folder / name).path for name in names] == [folder] * len(names)
    # What would not be read is not taken for what is.
    with pytest.raises(CheckpointError, match="it is a file of weights"):
        recognise(single / "pytorch_model.bin")


def test_the_hubs_cache_is_called_by_its_model(tmp_path: Path) -> None:
    root = tmp_path / "models--me--my-bert"
    lay(root, {"refs/main": REVISION, "blobs/a": BERT, "blobs/b": True})
    snapshot = root / "snapshots" / REVISION
    snapshot.mkdir(parents=True)
    for name, blob in (("config.json", "a"), ("model.safetensors", "b")):
        (snapshot / name).symlink_to(os.path.relpath(root / "blobs" / blob, snapshot))
    for given in (root, snapshot, snapshot / "model.safetensors"):
        found = foreign_of(given)
        assert (found.name, found.checkpoint) == ("my-bert", snapshot.resolve())


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("out/checkpoint-500", "out"),
        ("out/checkpoint-best", "checkpoint-best"),
        ("models--me--a--b/snapshots/0", "b"),
        ("me/snapshots/0", "0"),
        ("größe α (1)", "größe α (1)"),
    ],
)
def test_a_checkpoint_is_called_by_its_folder(path: str, name: str) -> None:
    assert name_of(Path(path)) == name


def test_a_model_beside_its_steps_asks_of_which_step_it_is(tmp_path: Path) -> None:
    files = {
        f"{place}{name}": content for place in ("", "checkpoint-90/", "checkpoint-100/") for name, content in MODEL
    }
    out = lay(tmp_path / "my out", files)
    with pytest.raises(UsageError, match="beside it lie checkpoint-90, checkpoint-100") as asked:
        foreign_of(out)
    assert f"--checkpoint '{out}' --step 100" in str(asked.value)
    assert foreign_of(out, step=100).step == 100
    assert foreign_of(out, "final").step is None
    assert foreign_of(out / "checkpoint-90").step == 90
    (out / "trainer_state.json").write_text('{"global_step": 100}')
    assert foreign_of(out).step == 100


MODEL = [("config.json", BERT), ("model.safetensors", True)]


def test_a_refusal_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(LossaryError) as refused:
        foreign_of(lay(tmp_path / "of 'mine", {"a/config.json": BERT}))
    assert refused.value.exit_code == 3
    assert "--checkpoint '" in str(refused.value)
