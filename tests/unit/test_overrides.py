"""`--set`: a key of the study file, written as there, for one command."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.conftest import TINY

from lossary.errors import UsageError
from lossary.overrides import override, parse_override
from lossary.study import Study
from lossary.study_file import check_study, parse_study


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("recipe.steps=50", lambda study: study.recipe_of("torch_a").steps == 50),
        ("recipe.steps = 50", lambda study: study.recipe.steps == 50),
        ("runs.torch_a.device=cpu", lambda study: study.runs["torch_a"].device == "cpu"),
        ("runs.torch_a.device=cuda:1", lambda study: study.runs["torch_a"].device == "cuda:1"),
        ("runs.torch_a.steps=7", lambda study: study.recipe_of("torch_a").steps == 7 and study.recipe.steps == 12),
        ("recipe.optimizer.learning_rate=1e-4", lambda study: study.recipe.optimizer.learning_rate == 1e-4),
        ('name="my study"', lambda study: study.name == "my study"),
        ('recipe.objective=["mlm"]', lambda study: not study.recipe.has_sop),
        ('runs.torch_a.size={from="base", width=0.5}', lambda study: study.runs["torch_a"].size.width == 0.5),
        ("mixture.shares=examples", lambda study: study.mixture.shares == "examples"),
        ('datasets.lines.source="a=b.txt"', lambda study: study.datasets["lines"].source == "a=b.txt"),
    ],
)
def test_a_key_is_set(text: str, read: Callable[[Study], bool]) -> None:
    assert read(parse_study(TINY, [text]))
    assert not read(parse_study(TINY))


def test_the_last_of_two_holds_and_others_stay() -> None:
    study = parse_study(TINY, ["recipe.steps=5", "recipe.steps=6", "recipe.batch_size=4"])
    assert (study.recipe.steps, study.recipe.batch_size) == (6, 4)
    assert study.model_copy(update={"recipe": parse_study(TINY).recipe}) == parse_study(TINY)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("recipe.stepz=50", "unknown key 'stepz'"),
        ("recipe.steps=many", "valid integer"),
        ("recipe.steps=5O", "no value of TOML"),
        ("recipe.steps=", "no value of TOML"),
        ("recipe.steps=0", "greater than or equal to 1"),
        ("recipe", "a key and a value"),
        ("=5", "a key and a value"),
        ("recipe..steps=5", "a key and a value"),
        ("recipe.steps.x=5", "no table"),
        ("recipe=5", "valid dictionary"),
        ("recipe.steps=5\nrecipe.batch_size=4", "no value of TOML|one value"),
        ("recipe.a\nb=5", "a key and a value"),
        ("runs.torch_a.backend=jaxx", "'torch', 'tensorflow' or 'jax'"),
        ("runs.torch_a.datasets=[]", "no dataset is named"),
    ],
)
def test_what_is_wrong_names_the_option(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        parse_study(TINY, [text])
    assert caught.value.where == f"--set {text}"


def test_a_setting_that_does_not_fit_the_others_is_named_too() -> None:
    with pytest.raises(UsageError, match="warm-up") as caught:
        parse_study(TINY, ["recipe.steps=1"])
    assert "--set recipe.steps=1" in str(caught.value)


def test_a_mistake_of_the_file_is_the_files() -> None:
    with pytest.raises(UsageError) as caught:
        parse_study(TINY.replace("seed = 3", "sead = 3"), ["recipe.steps=50"])
    assert caught.value.where == "$.sead"


@example("#", 0)
@given(st.text(min_size=1, max_size=20).filter(lambda text: "=" not in text), st.integers(-9, 9))
def test_any_key_is_set_or_refused(key: str, value: int) -> None:
    tables: dict[str, Any] = {"a": {"b": 1}}
    try:
        change = parse_override(f"{key}={value}")
        changed = override(tables, [change])
    except UsageError:
        return
    found: Any = changed
    for part in change.key:
        found = found[part]
    assert found == value
    assert tables == {"a": {"b": 1}}


@pytest.mark.parametrize("changes", [[], ["recipe.steps=5", "runs.torch_a.device=cpu", "recipe.seed=9"]])
def test_a_resolved_study_is_the_same_in_a_worker(changes: list[str]) -> None:
    study = parse_study(TINY, changes)
    assert check_study(study.model_dump(mode="json", by_alias=True)) == study
