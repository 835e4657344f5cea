"""A plan: what happens to each thing of a study, and why."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["Item", "ItemFate", "Kind", "Plan"]

Kind = Literal["tokenizer", "dataset", "validation", "texts", "run", "scores"]
# "left over": it stands in the folder and no longer in the study file. "unusable": `run` would stop there, before it
# touches anything, since a source or a device is not there.
ItemFate = Literal["kept", "made", "anew", "goes on", "refused", "left over", "unusable"]


@dataclass(frozen=True, kw_only=True)
class Item:
    """One thing, what happens to it and why; `ways` out where it is refused."""

    kind: Kind
    name: str
    fate: ItemFate
    why: str = ""
    ways: tuple[str, ...] = ()

    @property
    def what(self) -> str:
        """As it is called in a sentence: `dataset wiki`, `tokenizer`."""
        return self.kind if self.kind == "tokenizer" else f"{self.kind} {self.name}"

    @property
    def is_told(self) -> bool:
        """Whether it is worth a line before work begins; so is a dataset that stays for a reason."""
        return self.fate != "kept" or (self.kind == "dataset" and bool(self.why))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All items, in the order in which they are made; `lost_runs` could not stay if what is refused were done."""

    items: tuple[Item, ...]
    lost_runs: frozenset[str] = frozenset()

    @property
    def refused(self) -> tuple[Item, ...]:
        """What would lose something that stands."""
        return tuple(item for item in self.items if item.fate == "refused")

    @property
    def unusable(self) -> tuple[Item, ...]:
        """What cannot be made here."""
        return tuple(item for item in self.items if item.fate == "unusable")

    @property
    def changes(self) -> tuple[Item, ...]:
        """What is told before work begins."""
        return tuple(item for item in self.items if item.is_told)
