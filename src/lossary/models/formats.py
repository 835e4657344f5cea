"""Checkpoints that are not opened: what lies there, told by names and first bytes, and how it is made one that is.

    raise not_opened(Path("out/checkpoint-10"))      # CheckpointError: of FSDP; accelerate merge-weights …
    check_whole(Path("model.safetensors"))           # CheckpointError: a pointer of Git LFS, or cut short

Nothing is unpickled and no framework is loaded. docs/any-model.md has the same as a table.
"""

import json
import shlex
import zipfile
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

from lossary.errors import CheckpointError

__all__ = ["WEIGHTS", "check_whole", "models_below", "not_opened"]

# What transformers opens of a folder, the first that is there.
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")

_BESIDE = "with config.json and the tokenizer beside it"
_FROM_4 = (
    "transformers 4 still reads it (pip install 'transformers<5'): "
    "AutoModelForMaskedLM.from_pretrained({code}, {option}=True).save_pretrained(NEW), or AutoModelForCausalLM."
)
_IN_PYTHON = "In the code that knows the model: {load}; then model.save_pretrained(NEW), or lossary.evaluate(model, …)."


# safetensors' own limit.
_LONGEST_HEADER = 100_000_000


class _Format(NamedTuple):
    files: tuple[str, ...]  # patterns, of which one is enough
    what: str
    hint: str  # {path}: the folder, quoted for a shell; {code}: for Python


_FOLDERS = (
    _Format(
        ("latest_checkpointed_iteration.txt", "mp_rank_*/model_optim_rng.pt", "model_optim_rng.pt"),
        "it is a checkpoint of Megatron-LM",
        "Its tools/checkpoint/convert.py, or the export of Megatron Bridge, makes a folder of transformers.",
    ),
    _Format(
        ("zero_to_fp32.py", "*/*mp_rank_*_model_states.pt", "*mp_rank_*_model_states.pt"),
        "it is a checkpoint of DeepSpeed, in parts",
        "In the folder that holds `latest`, `python zero_to_fp32.py . NEW --safe_serialization` joins them (DeepSpeed "
        f"writes the script there); score NEW, {_BESIDE}.",
    ),
    _Format(
        ("common.pt",),
        "it is a distributed checkpoint of Megatron-LM or NeMo",
        "The export of Megatron Bridge or NeMo makes a folder of transformers.",
    ),
    _Format(
        ("*.distcp", "pytorch_model_fsdp_*/*.distcp", "model/*.distcp"),
        "it is a distributed checkpoint of PyTorch (FSDP), in parts",
        f"`accelerate merge-weights {{path}} NEW` joins them; score NEW, {_BESIDE}.",
    ),
    _Format(
        ("_CHECKPOINT_METADATA", "manifest.ocdbt", "*/_CHECKPOINT_METADATA", "*/manifest.ocdbt"),
        "it is a checkpoint of Orbax (JAX)",
        "Restore it in the code that made it; lossary.KerasScorer(call, tokenizer) scores a call that gives logits.",
    ),
    _Format(
        ("saved_model.pb",),
        "it is a SavedModel of TensorFlow 2",
        "Load it in Python; lossary.KerasScorer(call, tokenizer) scores a call that gives logits.",
    ),
    _Format(
        ("consolidated.*.pth", "consolidated.safetensors"),
        "it is a model as Meta or Mistral publish it",
        "Score the repository of the same model for transformers, or convert it with transformers' convert_*_to_hf.py.",
    ),
    _Format(
        ("random_states_*.pkl", "*/random_states_*.pkl"),
        "accelerate's save_state wrote it, which stores weights without config.json",
        "accelerator.unwrap_model(model).save_pretrained(NEW) does; or copy config.json and the tokenizer to it.",
    ),
    _Format(
        ("tf_model.h5", "tf_model.h5.index.json"),
        "its weights are those of TensorFlow (tf_model.h5)",
        _FROM_4.replace("{option}", "from_tf"),
    ),
    _Format(
        ("flax_model.msgpack", "flax_model.msgpack.index.json"),
        "its weights are those of Flax (flax_model.msgpack)",
        _FROM_4.replace("{option}", "from_flax"),
    ),
)

# By suffix, the file itself or what a folder holds.
_GGUF = _Format(
    (".gguf",),
    "it is a GGUF file of llama.cpp, whose weights are mostly quantised",
    "Score the model that it was made from. One of 16 or 32 bits transformers opens (with the package gguf): "
    "AutoModelForCausalLM.from_pretrained(FOLDER, gguf_file=NAME).save_pretrained(NEW).",
)
_SUFFIXES = (
    _GGUF,
    _Format(
        (".onnx", ".tflite", ".mlmodel", ".engine", ".pte"),
        "it is an exported graph",
        "Score the folder that it was exported from; or run it in Python: "
        "lossary.ModuleScorer(call, tokenizer) scores a call that gives logits.",
    ),
    _Format((".nemo",), "it is an archive of NeMo", "NeMo's export makes a folder of transformers."),
    _Format((".gz", ".tar", ".zip", ".tgz", ".7z"), "it is an archive", "Unpack it, and name the folder."),
    _Format(
        (".h5", ".hdf5", ".keras"),
        "it is a file of weights of Keras, which do not say what is computed of them",
        "Load the model in Python: lossary.evaluate(lossary.KerasScorer(call, tokenizer), study, run=NAME); "
        "docs/checkpoints.md has the call.",
    ),
    _Format(
        (".msgpack", ".npz", ".npy"),
        "it is a file of weights (JAX, NumPy), which do not say what is computed of them",
        "Load it in the code that made it; lossary.KerasScorer(call, tokenizer) scores a call that gives logits.",
    ),
    _Format(
        (".py",),
        "it is Python code",
        "An adapter is scored from Python, lossary.evaluate(adapter, study, run=NAME), and compared by "
        "`lossary diagnose`; the script that trains your model can call lossary.evaluate, too: docs/checkpoints.md.",
    ),
    _Format(
        (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib"),
        "it is a file of weights, which do not say what is computed of them",
        f"Name a folder that has it as model.safetensors or pytorch_model.bin, {_BESIDE}. "
        + _IN_PYTHON.format(load="model.load_state_dict(…)"),
    ),
)
_LIGHTNING = _Format(
    (),
    "it is a checkpoint of Lightning: weights under the names of its module, which do not say what is computed of them",
    _IN_PYTHON.format(
        load='model.load_state_dict({name.removeprefix("model."): value for name, value in '
        'torch.load(FILE, weights_only=True)["state_dict"].items()})'
    ),
)
_TORCHSCRIPT = _Format(
    (),
    "it is TorchScript: a program, and code from a path is not run",
    "If you trust it, in Python: lossary.ModuleScorer(lambda ids, mask, types: scripted(ids, mask), tokenizer), of "
    "scripted = torch.jit.load(FILE). Or score the folder that it was traced from.",
)


def not_opened(path: Path) -> CheckpointError:
    """What a path is that is none of the checkpoints that are opened, or a folder with config.json and no weights."""
    place, found = _folder(path) if path.is_dir() else _file(path)
    hint = found.hint.replace("{path}", shlex.quote(str(place))).replace("{code}", repr(str(place)))
    return CheckpointError(f"cannot be scored as it is: {found.what}", where=str(path), hint=hint)


def _folder(path: Path) -> tuple[Path, _Format]:
    """The folder of which it is said, and what it is."""
    if not (path / "config.json").is_file() and (below := models_below(path)):
        return path, _of_models(path, below)
    if half := _half_downloaded(path):
        return path, _Format(
            (), f"the download of its weights has not ended ({half})", "Download it again, to its end."
        )
    for one in _FOLDERS:
        for file in (file for pattern in one.files for file in path.glob(pattern)):
            return file.parent, one
    return path, _by_files(path)


def _by_files(path: Path) -> _Format:
    """What a folder is of which only the suffixes of its files say something."""
    names = sorted(entry.name for entry in path.iterdir() if not entry.name.startswith("."))
    weights = [name for name in names if name.endswith((".safetensors", ".bin", ".pt", ".pth")) and _is_model(name)]
    if (path / "config.json").is_file():
        return _without_weights(path, names, weights)
    if any(name in WEIGHTS for name in names):
        kept = ", ".join(name for name in names if name in WEIGHTS)
        return _Format(
            (),
            f"there is no config.json beside {kept}, so that nothing says what is computed of them",
            "Copy config.json (and the tokenizer) from the model that was trained, or write it: "
            "model.config.save_pretrained({code}).",
        )
    for file in (file for level in ("*", "*/*", "*/*/*") for file in sorted(path.glob(level))):
        if file.is_file() and file.name.endswith(tuple(suffix for one in _SUFFIXES for suffix in one.files)):
            told = _file(file)[1]
            return told._replace(what=told.what.replace("it is", f"{file.relative_to(path)} is", 1))
    known = "Known are folders that transformers saves, and google-research's files of TensorFlow 1: docs/any-model.md."
    holds = f"it holds {', '.join(names[:6])}{' …' if len(names) > 6 else ''}" if names else "it is empty"
    return _Format((), f"there is no config.json; {holds}", known)


def _of_models(path: Path, below: list[Path]) -> _Format:
    """A folder above models: of a Trainer's the steps, else what lies there."""
    named = ", ".join(str(one.relative_to(path)) for one in below[:8]) + (" …" if len(below) > 8 else "")
    options = " ".join(f"--checkpoint {shlex.quote(str(one))}" for one in below[-1:])
    if (path / "MLmodel").is_file():
        tokenizer = path / "components" / "tokenizer"
        options += f" --tokenizer {shlex.quote(str(tokenizer))}" if tokenizer.is_dir() else ""
        return _Format((), "it is a folder of MLflow around a model", f"Give {options}.")
    steps = all(one.name.startswith("checkpoint-") for one in below)
    more = "; given one after another, several are steps of one column" if steps and len(below) > 1 else ""
    return _Format((), f"there is no config.json; below it lie models: {named}", f"Name one: {options}{more}.")


def _without_weights(path: Path, names: list[str], weights: list[str]) -> _Format:
    if weights:
        kind = "model.safetensors" if weights[0].endswith(".safetensors") else "pytorch_model.bin"
        link = f"ln -s {shlex.quote(weights[0])} {{path}}/{kind}"
        return _Format(
            (),
            f"its weights have another name ({', '.join(weights[:4])}) than transformers opens",
            f"Is it the model? `{link}` gives it the name.",
        )
    for name in (name for name in names if name.endswith(".gguf")):
        return _GGUF._replace(what=_GGUF.what.replace("it is", f"{name} is", 1))
    if exported := sorted(path.glob("**/*.onnx"))[:1]:
        one = next(one for one in _SUFFIXES if ".onnx" in one.files)
        return one._replace(what=f"there are no weights but an exported graph: {exported[0].relative_to(path)}")
    return _Format((), f"there are no weights: {', '.join(WEIGHTS)}", "Copy them to where config.json lies.")


def _is_model(name: str) -> bool:
    """Whether a file may hold a model's weights, and is none that trainers write beside them."""
    beside = ("optimizer", "scheduler", "training_args", "rng_state", "scaler", "adapter_", "sampler", "random_states")
    return name not in WEIGHTS and not name.startswith(beside)


def models_below(path: Path) -> list[Path]:
    """Folders of models one or two levels below, the steps of a Trainer by number."""
    found = [file.parent for pattern in ("*/config.json", "*/*/config.json") for file in path.glob(pattern)]
    models = [folder for folder in found if _says_model(folder / "config.json")]

    def order(folder: Path) -> tuple[int, str]:
        number = folder.name.rpartition("-")[2]
        return (int(number) if number.isdecimal() else 0, str(folder))

    return sorted(models, key=order)


def _says_model(config: Path) -> bool:
    try:
        value: Any = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(value, dict) and bool(value.get("architectures") or value.get("model_type"))


def _half_downloaded(path: Path) -> str:
    """What says that a download was not ended: a partial file, or a link of the hub's cache that leads nowhere."""
    for name in WEIGHTS:
        if (path / name).is_symlink() and not (path / name).exists():
            return f"{name} leads to a file that is not there"
    blobs = path.parent.parent / "blobs"
    places = [path, path / ".cache" / "huggingface" / "download", *([blobs] if path.parent.name == "snapshots" else [])]
    partial = [file.name for place in places for file in sorted(place.glob("*.incomplete"))]
    return partial[0] if partial else ""


def _file(path: Path) -> tuple[Path, _Format]:
    """The folder of which it is said, and what the file is."""
    for one in _FOLDERS:
        if any(fnmatch(path.name, pattern) for pattern in one.files):
            return path.parent, one
    if path.suffix in (".ckpt", ".pt", ".pth") and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if any("/code/" in name for name in names):
                return path, _TORCHSCRIPT
            pickled = next((name for name in names if name.endswith("data.pkl")), None)
            # Its names stand in the pickle as they are; it is not opened as one.
            if pickled is not None and b"pytorch-lightning_version" in archive.read(pickled):
                return path, _LIGHTNING
    for one in _SUFFIXES:
        if path.name.endswith(one.files):
            return path, one
    known = "Name the folder that save_pretrained wrote, or google-research's model.ckpt-N."
    return path, _Format((), "it is neither a folder nor a file of TensorFlow 1", known)


def check_whole(path: Path) -> None:
    """CheckpointError where a file of weights is none: a pointer of Git LFS, a page of HTML, or cut short."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(64)
    if head.startswith(b"version https://git-lfs"):
        what, hint = "it is a pointer of Git LFS, not the file itself", "`git lfs pull` in that folder fetches it."
    elif size == 0 or head.lstrip()[:1] == b"<":
        what = "it is empty" if size == 0 else "it is a page of HTML, not weights"
        hint = "Was the download refused? Copy it again."
    elif cut := _cut_short(path, size):
        what = f"it is cut short: {cut}"
        hint = "Copy it again; if training wrote it so, the disk was full or it was stopped: use another checkpoint."
    else:
        return
    raise CheckpointError(what, where=str(path), hint=hint)


def _cut_short(path: Path, size: int) -> str:
    """How much of a file is there; empty if all is, or the file does not say."""
    with path.open("rb") as file:
        head = file.read(8)
        if path.suffix != ".safetensors":
            # The archive of torch.save has its table at the end.
            return f"{size:,} bytes without the end" if head[:2] == b"PK" and not zipfile.is_zipfile(path) else ""
        length = int.from_bytes(head, "little")
        if length > _LONGEST_HEADER:
            return ""
        try:
            header = json.loads(file.read(length)) if 8 + length <= size else {}
            ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
            whole = 8 + length + max(ends, default=0)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            return ""
    return f"{size:,} of {whole:,} bytes" if size < whole else ""
