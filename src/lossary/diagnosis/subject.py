"""What a check looks at: one side at work, the reference's inputs for it, and what earlier checks have identified.

Identified settings are handed on (`known`): a side whose loss is scaled has its gradients compared with those of the
scaled loss, so that one fault is found once, where it is.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from lossary.data.tokenizer import TokenizerModel
from lossary.diagnosis.adapter import Document, Feed, Setup, as_feed
from lossary.diagnosis.probes import probe_feed, probe_parameters
from lossary.diagnosis.session import Session
from lossary.errors import UsageError
from lossary.files import digest_file
from lossary.models.arbiter import Architecture
from lossary.models.parameters import Parameters
from lossary.study import Optimizer, Recipe

__all__ = ["Probes", "Subject", "as_declared"]

# Multiplications that a probe's forward pass may cost, so that a real size is probed with fewer examples.
_PROBE_BUDGET = 6e10
_PROBE_EXAMPLES, _PROBE_LENGTH = 16, 48
_MOVING = 5  # updates in a row that are looked at


def as_declared(setup: Setup, declared: Mapping[str, Any]) -> Setup:
    """The setup with what a side declares in the place of the recipe's; `optimizer` may be a law's name alone.

    UsageError if a value is none that a recipe may have.
    """
    optimizer = {key: value for key, value in declared.items() if key in Optimizer.model_fields and key != "name"}
    given = declared.get("optimizer", {})
    optimizer |= {"name": given} if isinstance(given, str) else dict(given)
    # Precisions that no recipe has may be declared, too: checks read them where they matter.
    recipe = {
        key: value
        for key, value in declared.items()
        if key in Recipe.model_fields and key not in ("optimizer", "precision")
    }
    if not optimizer and not recipe:
        return setup
    own = setup.recipe.model_dump()
    try:
        found = Recipe.model_validate({**own, **recipe, "optimizer": {**own["optimizer"], **optimizer}})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{first['input']!r} is declared: {first['msg']}", where=f"declared {name}") from None
    return replace(setup, recipe=found)


@dataclass(frozen=True, kw_only=True)
class Probes:
    """Weights and feeds that make settings matter which shapes do not show; the same for every side of a shape."""

    setup: Setup

    @cached_property
    def plain(self) -> Parameters:
        return probe_parameters(self.setup.shape, self.setup.seed, kind="plain")

    @cached_property
    def low_variance(self) -> Parameters:
        return probe_parameters(self.setup.shape, self.setup.seed, kind="low-variance")

    @cached_property
    def feed(self) -> Feed:
        examples, length = self.extent
        return probe_feed(self.setup.shape, self.setup.seed, examples=examples, length=length)

    @property
    def extent(self) -> tuple[int, int]:
        """Examples and tokens of a probe: fewer for a large model."""
        shape = self.setup.shape
        a_token = shape.num_layers * 12.0 * shape.hidden_size**2
        tokens = int(_PROBE_BUDGET / a_token)
        length = min(_PROBE_LENGTH, shape.max_positions, max(16, tokens // 4))
        return max(4, min(_PROBE_EXAMPLES, tokens // length)), length

    @property
    def is_large(self) -> bool:
        """Whether a forward pass is dear."""
        return self.extent[0] < _PROBE_EXAMPLES


@dataclass(kw_only=True)
class Subject:
    """One side, and everything a check needs to hold it against the reference."""

    session: Session
    setup: Setup
    documents: list[Document]
    probes: Probes
    known: dict[str, Any] = field(default_factory=dict)  # by check: the settings it has identified
    seen: dict[str, Any] = field(default_factory=dict)  # what a check leaves for a later one: tokens, feeds

    @property
    def label(self) -> str:
        return self.session.label

    def made(self, operation: str, **question: Any) -> Feed:
        """Examples that the side makes of the documents; FeedError if what it returns is none."""
        answer = self.session.ask(operation, documents=self.documents, **question)
        return as_feed(answer, where=f"{self.label}: {operation}")

    @cached_property
    def tokenizer(self) -> TokenizerModel:
        return TokenizerModel(self.setup.tokenizer, digest_file(self.setup.tokenizer))

    @property
    def declared(self) -> dict[str, Any]:
        """What the side means to do otherwise than the recipe."""
        return dict(self.session.description["declared"])

    @property
    def splits(self) -> bool:
        """Whether the side itself keeps documents that it evaluates out of training."""
        return bool(self.session.description["splits"])

    @property
    def precision(self) -> str:
        return str(self.declared.get("precision", self.setup.recipe.precision))

    @property
    def architecture(self) -> Architecture:
        """As declared by the shape, or as an earlier check has identified it."""
        found: Architecture = self.known.get("architecture") or Architecture.of(self.setup.shape)
        return found

    @property
    def first_update(self) -> int:
        """The step from which on updates are looked at: where neither the declared rate nor the side's own is 0."""
        declared = 1 if self.setup.recipe.optimizer.warmup else 0
        moving = np.asarray(self.known.get("rates", ()), np.float64) > 0
        starts = range(declared, len(moving) - _MOVING + 1)
        return next((step for step in starts if moving[step : step + _MOVING].all()), declared)

    @cached_property
    def gives_all_tokens(self) -> bool:
        """Whether the side's MLM logits are (B, T, V), not those of the scored positions alone."""
        return "mlm_all" in self.forward(self.probes.plain, self.probes.feed)[0]

    def forward(
        self, weights: Parameters, feed: Feed, *, training: bool = False, repeats: int = 1, attempt: int = 0
    ) -> list[dict[str, Any]]:
        """The side's outputs, MLM logits brought to the scored positions (B, P, V); `mlm_all` keeps (B, T, V)."""
        self.session.need("load", "forward")
        given = self.session.ask(
            "forward", feed=feed.arrays(), weights=weights, training=training, repeats=repeats, attempt=attempt
        )
        return [self._at_positions(outputs, feed) for outputs in given]

    def _at_positions(self, outputs: dict[str, Any], feed: Feed) -> dict[str, Any]:
        mlm: NDArray[np.float32] | None = outputs.get("mlm")
        if mlm is None or mlm.shape[1] == feed.positions.shape[1] != feed.token_ids.shape[1]:
            return outputs
        rows = np.arange(len(feed))[:, None]
        return {**outputs, "mlm": mlm[rows, feed.positions], "mlm_all": mlm}
