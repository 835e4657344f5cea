"""What is scored and who scores it: views of the frozen validation set, and scorers.

A view is the validation set in one vocabulary: ids, targets, and the bytes of text that the targets of each example
stand for. A scorer is whatever can score a batch of it: a backend, a transformers model, a module or Keras model with a
call, code behind an adapter.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from lossary.backends.api import ScoreOutput
from lossary.data.examples import Examples
from lossary.vocabulary.api import Vocabulary

__all__ = ["Scorer", "View", "Window"]


@dataclass(frozen=True, kw_only=True)
class Window:
    """Some examples of one dataset.

    Of an `mlm` view, `positions` are of hidden pieces and `labels` what stood there. Of a `clm` view nothing is hidden:
    `labels` are the next tokens of `positions`, so that a model's outputs at `positions` are scored against `labels` in
    both. `target_bytes` is None where the study keeps no text.
    """

    dataset: str
    examples: Examples
    target_bytes: NDArray[np.int32] | None  # (B,)


class View(Protocol):
    """The frozen validation set in one vocabulary, for one objective."""

    @property
    def objective(self) -> Literal["mlm", "clm"]: ...

    @property
    def digest(self) -> str:
        """Of the parts, their text, the vocabulary, what is too long, and how views are made."""
        ...

    @property
    def vocabulary_digest(self) -> str: ...

    @property
    def vocabulary_title(self) -> str:
        """For people."""
        ...

    @property
    def folds_case(self) -> bool:
        """Whether its vocabulary loses capitals."""
        ...

    @property
    def datasets(self) -> list[str]:
        """Those that it has examples of, in the order of the study."""
        ...

    @property
    def parts(self) -> dict[str, str]:
        """The digest of the part of each dataset."""
        ...

    @property
    def longest(self) -> int:
        """Tokens of the longest example."""
        ...

    @property
    def left_out(self) -> Mapping[str, Mapping[str, int]]:
        """By dataset: how many examples or hidden words the vocabulary or the model cannot hold, by what it is."""
        ...

    def __len__(self) -> int: ...

    def windows(self) -> Iterator[Window]:
        """All examples, dataset by dataset, a few thousand at a time."""
        ...


class Scorer(Protocol):
    """Something that scores examples of a view of its vocabulary."""

    @property
    def vocabulary(self) -> Vocabulary | None:
        """Its own; None: the study's."""
        ...

    @property
    def objectives(self) -> tuple[str, ...]:
        """`mlm` or `clm`; and `sop` where it has a head for the order of segments."""
        ...

    @property
    def max_tokens(self) -> int:
        """Padded tokens of a batch that the device takes well."""
        ...

    @property
    def max_length(self) -> int | None:
        """Tokens of the longest example that it takes; None: any."""
        ...

    @property
    def device(self) -> str: ...

    @property
    def few_shapes(self) -> bool:
        """Whether every new shape of a batch is compiled."""
        ...

    def score(self, examples: Examples) -> ScoreOutput:
        """Nats and predictions of each target; OutOfDeviceMemory where the batch is too large."""
        ...
