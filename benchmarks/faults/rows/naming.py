"""Short forms for rows that have one patch a side."""

from typing import Any

from benchmarks.faults.patching import Fault, Patch, Patches

__all__ = ["KERAS", "TORCH", "named", "one", "pair"]

TORCH, KERAS = "torch_trainer.py", "keras_trainer.py"


def one(file: str, old: str, new: str) -> tuple[Patch, ...]:
    return (Patch(file, old, new),)


def named(
    name: str, stage: str, patches: Patches, *, title: str = "", also: frozenset[str] = frozenset(), **more: Any
) -> Fault:
    """A fault of the library; `also` are other names of what the patch does, or of what follows from it."""
    return Fault(
        code=f"N:{name}" + (f" ({title})" if title else ""),
        title=(title or name.replace("-", " ")),
        source="well known",
        stage=stage,
        expected=frozenset({name}) | also,
        patches=patches,
        **more,
    )


def pair(torch: tuple[str, str], keras: tuple[str, str]) -> Patches:
    return {"torch": one(TORCH, *torch), "keras": one(KERAS, *keras)}
