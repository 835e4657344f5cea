"""Checkpoints in every floating point format give the same numbers; what cannot be trusted is refused by name."""

import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
from safetensors.numpy import save_file

from lossary.errors import CheckpointError
from lossary.files import write_json
from lossary.folder import StudyFolder
from lossary.models.checkpoints import load_checkpoint, weights_digest
from lossary.models.parameters import Parameters, hf_config, initial_parameters
from lossary.models.shapes import AlbertShape
from lossary.models.tensors import read_tensors
from lossary.models.vocabularies import compare_vocabulary
from lossary.protobuf import fields, varint
from lossary.study import Study

SHAPE = AlbertShape(
    vocabulary_size=11,
    hidden_size=4,
    num_layers=1,
    num_heads=2,
    intermediate_size=8,
    embedding_size=3,
    max_positions=6,
    initializer_range=0.02,
    layer_norm_epsilon=1e-12,
)
NAMES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I8": "<i1"}


def write_tensors(path: Path, tensors: dict[str, tuple[str, np.ndarray]]) -> None:
    """A safetensors file as its format says, with kinds of numbers that NumPy does not have."""
    header, data = {}, b""
    for name, (kind, value) in tensors.items():
        part = np.ascontiguousarray(value).tobytes()
        header[name] = {"dtype": kind, "shape": value.shape, "data_offsets": [len(data), len(data) + len(part)]}
        data += part
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def narrowed(value: np.ndarray, kind: str) -> np.ndarray:
    """Values that the kind holds exactly, as it holds them."""
    if kind == "BF16":
        return (value.view(np.uint32) >> 16).astype(np.uint16)
    return value.astype(NAMES[kind])


def exact() -> Parameters:
    """Weights that float16 and bfloat16 both hold: seven bits of mantissa, small exponents."""
    rng = np.random.default_rng(0)
    return {
        name: (np.round(value * 0 + rng.integers(-127, 128, value.shape)) / 64).astype(np.float32)
        for name, value in initial_parameters(SHAPE, 0).items()
    }


@pytest.mark.parametrize("kinds", [("F32",), ("BF16",), ("F16",), ("F64",), ("BF16", "F32", "F16")])
@pytest.mark.parametrize("parts", [1, 3])
def test_every_format_gives_the_same_weights(tmp_path: Path, kinds: tuple[str, ...], parts: int) -> None:
    expected = exact()
    cut = {name: index for index, name in enumerate(expected)}
    by_file: dict[str, dict[str, tuple[str, np.ndarray]]] = {}
    for name, value in expected.items():
        kind = kinds[cut[name] % len(kinds)]
        file = "model.safetensors" if parts == 1 else f"model-{cut[name] % parts}.safetensors"
        by_file.setdefault(file, {})[name] = (kind, narrowed(value, kind))
    for file, tensors in by_file.items():
        write_tensors(tmp_path / file, tensors)
    if parts > 1:
        weight_map = {name: file for file, tensors in by_file.items() for name in tensors}
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (tmp_path / "config.json").write_text(json.dumps(hf_config(SHAPE)))
    assert weights_digest(load_checkpoint(tmp_path).parameters) == weights_digest(expected)


def test_every_bfloat16_is_widened_exactly(tmp_path: Path) -> None:
    bits = np.arange(1 << 16, dtype=np.uint16)
    write_tensors(tmp_path / "all.safetensors", {"all": ("BF16", bits), "none": ("F32", np.zeros((0, 3), "<f4"))})
    found = read_tensors(tmp_path / "all.safetensors")
    assert np.array_equal(found["all"].view(np.uint32), bits.astype(np.uint32) << 16)
    assert found["none"].shape == (0, 3)


def foreign(folder: Path, change: Parameters | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    save_file(exact() | (change or {}), folder / "model.safetensors")
    write_json(folder / "config.json", hf_config(SHAPE))
    return folder


def test_quantised_weights_are_refused_by_the_name_of_their_kind(tmp_path: Path) -> None:
    foreign(tmp_path)
    write_tensors(tmp_path / "model.safetensors", {"w": ("I8", np.zeros(3, "<i1")), "v": ("F32", np.zeros(3, "<f4"))})
    with pytest.raises(CheckpointError, match="I8"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_named_and_counted(tmp_path: Path, bad: float) -> None:
    weight = exact()["albert.pooler.weight"]
    weight[1, :3] = bad
    with pytest.raises(CheckpointError, match=r"1 of \d+ parameters .*albert\.pooler\.weight \(3 of 16\)"):
        load_checkpoint(foreign(tmp_path, {"albert.pooler.weight": weight}))


# Vocabularies


@pytest.fixture
def own(prepared: tuple[Study, StudyFolder]) -> Path:
    return prepared[1].tokenizer / "spiece.model"


def rebuilt(model: bytes, change: dict[int, bytes | None]) -> bytes:
    """A model with some of its fields written anew, or left out."""
    kept = b"".join(whole for number, whole, _ in fields(model) if number not in change)
    return kept + b"".join(
        varint(number << 3 | 2) + varint(len(content)) + content
        for number, content in change.items()
        if content is not None
    )


def content(model: bytes, wanted: int) -> bytes:
    return next(part for number, _, part in fields(model) if number == wanted)


def test_the_same_vocabulary_is_found_in_every_form(own: Path, tmp_path: Path) -> None:
    assert compare_vocabulary(tmp_path, own) == "unknown"
    shutil.copyfile(own, tmp_path / "spiece.model")
    assert compare_vocabulary(tmp_path, own) == "same"
    # The record of training names files and threads; it changes no piece.
    trainer = content(own.read_bytes(), 2)
    without = b"".join(whole for number, whole, _ in fields(trainer) if number == 3)
    (tmp_path / "spiece.model").write_bytes(rebuilt(own.read_bytes(), {2: without}))
    assert (tmp_path / "spiece.model").read_bytes() != own.read_bytes()
    assert compare_vocabulary(tmp_path, own) == "same"
    processor = sentencepiece.SentencePieceProcessor(model_file=str(own))
    pieces = [processor.id_to_piece(i) for i in range(processor.vocab_size())]
    for name, value in listed(pieces).items():
        only = tmp_path / name.partition(".")[0]
        only.mkdir()
        (only / name.split("/")[-1]).write_text(value, encoding="utf-8")
        assert compare_vocabulary(only, own) == "same", name


def listed(pieces: list[str]) -> dict[str, str]:
    unigram = {"type": "Unigram", "vocab": [[piece, 0.0] for piece in pieces]}
    return {
        "tokenizer.json": json.dumps({"model": unigram, "added_tokens": [{"id": 0, "content": pieces[0]}]}),
        "vocab.json": json.dumps({piece: number for number, piece in enumerate(pieces)}),
    }


@pytest.mark.parametrize("what", ["normaliser", "scores", "pieces", "tokenizer.json", "vocab.json", "vocab.txt"])
def test_another_vocabulary_of_the_same_size_is_refused_and_both_are_named(
    own: Path, tmp_path: Path, what: str
) -> None:
    model = own.read_bytes()
    processor = sentencepiece.SentencePieceProcessor(model_file=str(own))
    pieces = [processor.id_to_piece(i) for i in range(processor.vocab_size())]
    pieces[-1], pieces[-2] = pieces[-2], pieces[-1]
    if what == "normaliser":
        changed = rebuilt(model, {3: content(model, 3) + varint(3 << 3) + varint(0)})
        (tmp_path / "spiece.model").write_bytes(changed)
    elif what in ("scores", "pieces"):
        at = model.rindex(content_of_last_piece(model)[what])
        size = len(content_of_last_piece(model)[what])
        (tmp_path / "spiece.model").write_bytes(
            model[:at] + bytes(b ^ 1 for b in model[at : at + size]) + model[at + size :]
        )
    else:
        (tmp_path / what).write_text(listed(pieces).get(what, "\n".join(pieces)), encoding="utf-8")
    with pytest.raises(CheckpointError, match="tokenizer is not the study's") as refused:
        compare_vocabulary(tmp_path, own)
    assert str(own) in str(refused.value)
    assert str(tmp_path) in str(refused.value)


def content_of_last_piece(model: bytes) -> dict[str, bytes]:
    last = [part for number, _, part in fields(model) if number == 1][-1]
    return {"pieces": content(last, 1), "scores": content(last, 2)}


@pytest.mark.parametrize("name", ["spiece.model", "tokenizer.json", "vocab.json"])
def test_a_vocabulary_that_cannot_be_read_is_an_error_not_an_unknown(own: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x0a\xff{")
    with pytest.raises(Exception, match="not readable") as refused:
        compare_vocabulary(tmp_path, own)
    assert getattr(refused.value, "exit_code", None) == 3
