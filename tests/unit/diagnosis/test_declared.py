"""What a side declares stands in the place of the recipe's."""

from pathlib import Path
from typing import Any

import pytest

from lossary.diagnosis.adapter import Setup
from lossary.diagnosis.subject import as_declared
from lossary.errors import UsageError
from lossary.models.shapes import AlbertShape
from lossary.study import Recipe

SHAPE = AlbertShape(
    vocabulary_size=50, hidden_size=8, num_layers=1, num_heads=2, intermediate_size=16, embedding_size=8
)
SETUP = Setup(shape=SHAPE, recipe=Recipe(seed=1), tokenizer=Path("none"), datasets=("a",), shares={"a": 1.0}, seed=1)


@pytest.mark.parametrize(
    ("declared", "recipe", "optimizer"),
    [
        ({"mask_rate": 0.2, "dropout": 0.1}, {"mask_rate": 0.2}, {}),
        ({"warmup": 30, "clip_norm": None}, {}, {"warmup": 30, "clip_norm": None}),
        ({"optimizer": "adamw", "epsilon": 1e-8}, {}, {"name": "adamw", "epsilon": 1e-8}),
        ({"optimizer": {"name": "adamw", "beta2": 0.98}}, {}, {"name": "adamw", "beta2": 0.98}),
    ],
)
def test_keys_of_the_recipe_and_of_its_optimizer_are_taken(
    declared: dict[str, Any], recipe: dict[str, Any], optimizer: dict[str, Any]
) -> None:
    found = as_declared(SETUP, declared).recipe
    expected = SETUP.recipe.model_copy(
        update={**recipe, "optimizer": SETUP.recipe.optimizer.model_copy(update=optimizer)}
    )
    assert found == expected
    assert found != SETUP.recipe


@pytest.mark.parametrize("declared", [{}, {"dropout": 0.1, "precision": "fp16", "epsilon_placement": "hat"}])
def test_what_is_of_no_recipe_leaves_it_as_it_is(declared: dict[str, Any]) -> None:
    assert as_declared(SETUP, declared) is SETUP


@pytest.mark.parametrize(
    ("declared", "message"),
    [({"mask_rate": 1.5}, "1.5 is declared"), ({"optimizer": "sgd"}, "'sgd' is declared"), ({"steps": "all"}, "'all'")],
)
def test_what_no_recipe_may_have_is_an_error(declared: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        as_declared(SETUP, declared)
