"""What a file of partial scores says of itself: where each dataset stopped, by which rule, and what was clear there."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from lossary.errors import ScoreError
from lossary.naming import Names

__all__ = ["Stopped", "StoppedPart"]

_Value = TypeVar("_Value")


@dataclass(frozen=True, kw_only=True)
class StoppedPart:
    """A dataset where its evaluation stopped; `low` and `high` hold at this and every other look."""

    examples: int  # scored
    available: int
    part: str  # the digest of the frozen examples that they are of
    value: float | None  # run minus base
    low: float | None
    high: float | None
    answer: Literal["equal", "differs", "undecided"]
    reason: str | None  # why nothing can be answered


@dataclass(frozen=True, kw_only=True)
class Stopped:
    """An evaluation against a base that stopped where answers were clear."""

    rule: str  # statistics.sequential.Rule
    level: float  # the chance that any answer is false
    margin: float | None
    metric: str
    base: str
    base_step: int
    base_weights_digest: str
    shares: dict[str, float]
    parts: dict[str, StoppedPart]

    @property
    def is_whole(self) -> bool:
        """Whether all examples were scored."""
        return all(part.examples == part.available for part in self.parts.values())

    @classmethod
    def decode(cls, value: Any, where: Path) -> Self:
        """From JSON. ScoreError if it is not what was written."""
        known = {field.name for field in fields(cls)}
        try:
            parts = {str(name): StoppedPart(**part) for name, part in value["parts"].items()}
            if value.keys() != known or parts.keys() != value["shares"].keys():
                raise KeyError
            return cls(**{**value, "parts": parts})
        except (KeyError, TypeError, AttributeError):
            raise ScoreError("the header does not say how the evaluation stopped", where=str(where)) from None

    def called(self, names: Names) -> Self:
        """The same by present names of datasets."""
        return replace(self, shares=_called(self.shares, names), parts=_called(self.parts, names))


def _called(by_name: Mapping[str, _Value], names: Names) -> dict[str, _Value]:
    return {names.called(name): value for name, value in by_name.items()}
