"""A fault as a change of the user's source: exact replacements of text, each of which must fit exactly once.

    adapter = apply(fault, "torch", dataset="names", dose=0.05, into=folder)

A replacement may hold `{when}` (a condition: dataset and dose), `{here}` (dataset alone), `{dataset}` or `{dose}`. The
patched file holds neither flag nor name of the fault: it is what someone would have written by mistake.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

__all__ = ["SIDES", "USER", "Fault", "Patch", "PatchError", "Side", "apply", "both"]

Side = Literal["torch", "keras"]
SIDES: tuple[Side, ...] = ("torch", "keras")
USER = Path(__file__).parent / "user"
_FILES: dict[Side, tuple[str, ...]] = {
    "torch": ("feed.py", "torch_trainer.py", "adapter_torch.py"),
    "keras": ("feed.py", "keras_trainer.py", "adapter_keras.py"),
}


class PatchError(AssertionError):
    """A patch does not fit the user's source."""


@dataclass(frozen=True)
class Patch:
    """`old`, which stands exactly once in `file`, becomes `new`."""

    file: str
    old: str
    new: str


Patches = Mapping[Side, tuple[Patch, ...]]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault, on both sides."""

    code: str  # as in the list of faults; a letter follows where it has variants
    title: str
    source: str  # the public thread
    stage: str  # where it is first seen
    expected: frozenset[str]  # any of these names is right; empty: only the stage can be
    patches: Patches = field(default_factory=dict)
    settings: Patches = field(default_factory=dict)  # what the side declares in order to have it; healthy by itself
    recipe: Mapping[str, Any] = field(default_factory=dict)  # settings of the study's recipe
    datasets: tuple[str, ...] = ()  # where it can be put in; empty: all
    dosed: bool = False  # a dose between 0 and 1 means a share of the examples
    by_dataset: bool = False  # may concern one dataset alone
    strikes: frozenset[str] = frozenset()  # names whose faults strike the same examples; empty: those expected
    shown_by: float = 1.0  # share of a dataset's documents that can have it at all
    replicas: int = 1  # seen only from so many on
    micro_batches: int = 1

    @property
    def sides(self) -> tuple[Side, ...]:
        """The sides that it can be put into."""
        return tuple(side for side in SIDES if side in self.patches) or SIDES


def both(*patches: Patch) -> Patches:
    """The same patches on both sides."""
    return dict.fromkeys(SIDES, patches)


def apply(
    fault: Fault | Sequence[Fault],
    side: Side,
    *,
    dataset: str | None = None,
    dose: float = 1.0,
    into: Path,
    settings_only: bool = False,
) -> Path:
    """Copies the user's files of a side into a folder and puts a fault in, or several; returns the adapter's path.

    `settings_only` makes the healthy side that declares the same. Raises PatchError if a patch does not fit once.
    """
    faults = [fault] if isinstance(fault, Fault) else list(fault)
    into.mkdir(parents=True, exist_ok=True)
    for name in _FILES[side]:
        shutil.copy(USER / name, into / name)
    for one in faults:
        patches = [*one.settings.get(side, ()), *(() if settings_only else one.patches.get(side, ()))]
        for patch in patches:
            _patch(into / patch.file, patch, _conditions(dataset if one.by_dataset else None, dose))
    return into / f"adapter_{side}.py"


def _conditions(dataset: str | None, dose: float) -> dict[str, str]:
    here = "True" if dataset is None else f'dataset == "{dataset}"'
    parts = [] if dataset is None else [here]
    if dose < 1:
        parts.append(f"rng.random() < {dose}")
    return {
        "{when}": " and ".join(parts) or "True",
        "{here}": here,
        "{dataset}": dataset or "",
        "{dose}": repr(dose),
    }


def _patch(path: Path, patch: Patch, conditions: Mapping[str, str]) -> None:
    text = path.read_text(encoding="utf-8")
    count = text.count(patch.old)
    if count != 1:
        raise PatchError(f"{patch.file}: found {count} times, not once:\n{patch.old}")
    new = patch.new
    for name, value in conditions.items():
        new = new.replace(name, value)
    path.write_text(text.replace(patch.old, new), encoding="utf-8")
