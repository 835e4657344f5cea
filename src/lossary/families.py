"""Families of masked language models and the settings of each, from transformers' source text; nothing is imported.

    family_names()                  # ("albert", "bart", "bert", …); empty if transformers is not installed
    setting_names("modernbert")     # {"hidden_size", "num_hidden_layers", …}; empty if they are not told by its text

Importing transformers takes seconds, and a study file is read by every verb; its text says the same in some hundredths.
"""

import ast
import importlib.util
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

__all__ = ["family_names", "lacking_on_keras", "setting_names"]

_MAPPING = re.compile(r"^MODEL_FOR_MASKED_LM_MAPPING_NAMES = OrderedDict\((.*?)^\)", re.MULTILINE | re.DOTALL)
_BASE = "PreTrainedConfig"

_ON_KERAS = ("bert", "roberta")
# By setting: what transformers takes as its default, and what is made of KerasHub's layers.
_KERAS_SETTINGS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "hidden_dropout_prob": (0.1, (0,)),
    "attention_probs_dropout_prob": (0.1, (0,)),
    "hidden_act": ("gelu", ("gelu", "gelu_new", "gelu_pytorch_tanh", "relu")),
    "tie_word_embeddings": (True, (True,)),
    "add_cross_attention": (False, (False,)),
    "is_decoder": (False, (False,)),
}


def lacking_on_keras(family: str, settings: Mapping[str, Any]) -> str | None:
    """Why a model cannot be trained on TensorFlow or JAX; None if it can."""
    if family not in _ON_KERAS:
        return f"of {family} there is no Keras code: BERT and RoBERTa train on TensorFlow and JAX, others on torch"
    for key, (default, known) in _KERAS_SETTINGS.items():
        value = settings.get(key, default)
        if value not in known:
            written = " or ".join(str(x).lower() if isinstance(x, bool) else repr(x).replace("'", '"') for x in known)
            said = "" if key in settings else ", as transformers has it where nothing is said"
            return f"{key} is {value!r}{said}; on TensorFlow and JAX it has to be {written}"
    return None


@lru_cache(maxsize=1)
def family_names() -> tuple[str, ...]:
    """The `model_type` of each family that has a masked language model."""
    root = _root()
    try:
        found = _MAPPING.search(_read(root / "models" / "auto" / "modeling_auto.py")) if root else None
        return tuple(sorted({name for name, _ in ast.literal_eval(found[1].strip())})) if found else ()
    except (OSError, ValueError, TypeError, SyntaxError):
        return ()


@lru_cache(maxsize=16)
def setting_names(family: str) -> frozenset[str]:
    """The settings that the configuration of a family knows, the common ones among them."""
    root, folder = _root(), family.replace("-", "_")
    if root is None or not re.fullmatch(r"\w+", folder):
        return frozenset()
    try:
        own = _fields(root / "models" / folder / f"configuration_{folder}.py", family)
        common = _fields(root / "configuration_utils.py", None)
    except (OSError, ValueError, SyntaxError):
        return frozenset()
    return own | common if own and common else frozenset()


def _root() -> Path | None:
    found = importlib.util.find_spec("transformers")
    return None if found is None or found.origin is None else Path(found.origin).parent


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _fields(path: Path, family: str | None) -> frozenset[str]:
    """Fields and aliases of the configuration of a family (None: the class that all are made of) in a file."""
    for node in ast.parse(_read(path)).body:
        if not isinstance(node, ast.ClassDef):
            continue
        is_base = node.name == _BASE
        # What a class inherits from another family's stands in another file: better none than too few.
        direct = [base.id for base in node.bases if isinstance(base, ast.Name)] == [_BASE]
        if is_base if family is None else direct and _assigned(node.body, "model_type") == family:
            return frozenset(_names(node.body))
    return frozenset()


def _names(body: list[ast.stmt]) -> Iterable[str]:
    for line in body:
        if isinstance(line, ast.AnnAssign) and "ClassVar" not in ast.unparse(line.annotation):
            yield ast.unparse(line.target)
    aliases = _assigned(body, "attribute_map")
    yield from aliases if isinstance(aliases, dict) else ()


def _assigned(body: list[ast.stmt], name: str) -> object:
    """The value of a plain assignment to a name; None if there is none."""
    for line in body:
        if isinstance(line, ast.Assign) and [ast.unparse(target) for target in line.targets] == [name]:
            return ast.literal_eval(line.value)
    return None
