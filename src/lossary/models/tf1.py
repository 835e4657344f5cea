"""What checkpoints of google-research's TensorFlow 1 code have in common: names, slots, a step, a configuration.

    model.ckpt-125000.{index,data-00000-of-00001,meta}, albert_config.json or bert_config.json, the vocabulary

Kernels are stored transposed, slots of the optimizer stand beside the weights, and TF-Hub puts `module/` in front of
every name. Sources: modeling.py, optimization.py and run_pretraining.py of google-research/albert and
google-research/bert.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from lossary.errors import CheckpointError, DataError
from lossary.files import read_json
from lossary.models.parameters import Parameters
from lossary.models.tf_bundle import Bundle

__all__ = ["Tf1", "Wanted", "family_of", "places_of", "plain_names", "read_tf1", "step_of", "wanted_of"]

Family = Literal["albert", "bert"]
# Our name by theirs, and whether the value is stored transposed.
Wanted = Mapping[str, tuple[str, bool]]

_SLOTS = re.compile(r"/(adam|lamb)_[mv](_\d+)?$|/Adam(_1)?$|^(beta[12]_power|loss_scale|good_steps)$")
_STEP = "global_step"
_BERT_LAYER = "bert/encoder/layer_0/"


class Tf1(NamedTuple):
    """Weights under transformers' names, the configuration in its words, and the step."""

    parameters: Parameters
    config: dict[str, Any]
    step: int | None


def family_of(bundle: Bundle) -> Family:
    """Whose names a checkpoint has: BERT's, whose layers are numbered, or else, at least perhaps, ALBERT's."""
    return "bert" if any(name.startswith(_BERT_LAYER) for name in plain_names(bundle)) else "albert"


def plain_names(bundle: Bundle) -> dict[str, str]:
    """Names as the code has them, and as the file has them."""
    return {name.removeprefix("module/"): name for name in bundle.shapes}


def wanted_of(dense: Mapping[str, str], normalisations: Mapping[str, str], same: Mapping[str, str]) -> Wanted:
    """A dense layer is a kernel, stored transposed, and a bias; a normalisation gamma and beta; others are as here."""
    found = {name: (own, False) for name, own in same.items()}
    for name, own in dense.items():
        found |= {f"{name}/kernel": (f"{own}.weight", True), f"{name}/bias": (f"{own}.bias", False)}
    for name, own in normalisations.items():
        found |= {f"{name}/gamma": (f"{own}.weight", False), f"{name}/beta": (f"{own}.bias", False)}
    return found


def read_tf1(bundle: Bundle, wanted: Wanted, *, configurations: tuple[str, ...], family: str) -> Tf1:
    """All values that are wanted and there, and the first of the configurations that lies beside them.

    CheckpointError: damaged values, no configuration, or a variable that is neither wanted nor a slot of an optimizer:
    it may be a part of the function.
    """
    names, where = plain_names(bundle), str(bundle.prefix)
    if not any(name in wanted for name in names):
        some = ", ".join(sorted(names)[:3])
        raise CheckpointError(f"a TensorFlow checkpoint, but none of an {family}: it holds {some}", where=where)
    strange = sorted(name for name in names if name not in wanted and name != _STEP and not _SLOTS.search(name))
    if strange:
        raise CheckpointError(
            f"{len(strange)} of its variables are none of google-research's {family}: {', '.join(strange[:3])}",
            where=where,
        )
    parameters = {}
    for name, (own, is_kernel) in wanted.items():
        if name in names:
            value = np.asarray(bundle.read(names[name]), np.float32)
            parameters[own] = np.array(value.T if is_kernel else value, order="C")
    return Tf1(parameters, _configuration(bundle.prefix, configurations), step_of(bundle))


def step_of(bundle: Bundle) -> int | None:
    """The step of `global_step`, else of the name."""
    if name := plain_names(bundle).get(_STEP):
        return int(bundle.read(name))
    found = re.search(r"-(\d+)$", bundle.prefix.name)
    return int(found[1]) if found else None


def places_of(prefix: Path) -> list[Path]:
    """Folders in which what belongs to a checkpoint lies, the nearest first; TF-Hub has `assets/`."""
    return [place for folder in (prefix.parent, prefix.parent.parent) for place in (folder, folder / "assets")]


def _configuration(prefix: Path, names: tuple[str, ...]) -> dict[str, Any]:
    files = [path for place in places_of(prefix) for name in names if (path := place / name).is_file()]
    if not files:
        raise CheckpointError(
            f"there is no {names[0]} beside it, which says how many layers and heads it has",
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
    # What google-research calls gelu, its default, is the tanh form of it.
    return value | ({"hidden_act": "gelu_new"} if value.get("hidden_act", "gelu") == "gelu" else {})
