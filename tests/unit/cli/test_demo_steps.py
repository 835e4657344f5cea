"""The demo's steps: as many as end within its time where they are timed; the study file keeps them."""

from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossary.cli.demo_steps import BUDGET_S, FULL, choose, fits, has_choice, with_choice
from lossary.pipeline import StepTime
from lossary.study_file import parse_study

TEMPLATE = files("lossary.cli").joinpath("demo.toml").read_text(encoding="utf-8")
TIMES = st.builds(StepTime, st.floats(1e-4, 10), st.floats(0.1, 100))


@given(st.lists(TIMES, min_size=1, max_size=4), st.integers(1, 4), st.floats(0, 200))
def test_what_is_chosen_ends_in_time_or_is_the_least(times: list[StepTime], at_once: int, spent_s: float) -> None:
    named = {f"run{number}": time for number, time in enumerate(times)}
    choice = choose(named, at_once=at_once, spent_s=spent_s)
    # One after another is the longest that it can take, all side by side the shortest.
    each = [time.start_s + choice.steps * time.step_s for time in times]
    assert choice.total_s >= spent_s + max(each)
    assert choice.total_s <= BUDGET_S or choice.steps == 200
    slower = {name: StepTime(2 * time.step_s, 2 * time.start_s) for name, time in named.items()}
    assert choose(slower, at_once=at_once, spent_s=spent_s).steps <= choice.steps


def test_a_quick_machine_takes_all_steps_and_a_slow_one_few() -> None:
    quick, slow = ({run: StepTime(step_s, 5.0) for run in ("torch_xxl", "tf_xxl", "tf_xl")} for step_s in (0.02, 2.0))
    assert choose(quick, at_once=2, spent_s=30).steps == FULL
    assert choose(slow, at_once=2, spent_s=30).steps == 200
    # The third run takes the place that is free first: (20 + 20) beside 30, not 30 beside 20 and 20 more.
    uneven = {"a": StepTime(0.01, 0.0), "b": StepTime(0.02, 0.0), "c": StepTime(0.01, 0.0)}
    even = {"a": StepTime(0.02, 0.0), "b": StepTime(0.02, 0.0)}
    assert choose(uneven, at_once=2, spent_s=0).total_s == pytest.approx(choose(even, at_once=2, spent_s=0).total_s)


@pytest.mark.parametrize("step_s", [0.01, 0.05, 0.1, 0.2, 5.0])
def test_the_study_file_says_the_number_and_why_and_is_known_again(step_s: float) -> None:
    choice = choose({"torch_xxl": StepTime(step_s, 5.0), "tf_xl": StepTime(step_s, 9.0)}, at_once=2, spent_s=20)
    text = with_choice(TEMPLATE, choice)
    assert parse_study(text).recipe.steps == choice.steps
    assert f"chosen: a step takes torch_xxl {step_s:.3f} s" in text
    assert has_choice(text)
    assert fits(text, TEMPLATE)


def test_the_template_is_the_demo_without_a_choice_and_nothing_else_is() -> None:
    assert parse_study(TEMPLATE).recipe.steps == FULL
    assert fits(TEMPLATE, TEMPLATE)
    assert not has_choice(TEMPLATE)
    for old, new in (("steps = 2000", "steps = 1999"), ("seed = 17", "seed = 18"), ("steps = 2000", "")):
        assert old in TEMPLATE
        assert not fits(TEMPLATE.replace(old, new), TEMPLATE)
