"""docs/sources.md: its example is a study, and what it lists of conditions is what is known."""

import re
from pathlib import Path

from lossary.expressions import FUNCTIONS, parse_condition
from lossary.study_file import parse_study

PAGE = Path(__file__).parents[3] / "docs" / "sources.md"


def test_the_examples_are_studies() -> None:
    text = PAGE.read_text(encoding="utf-8")
    (example,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    study = parse_study(f'name = "x"\n{example}\n[runs.r]\nbackend = "torch"\nsize = "base"\n')
    assert [dataset.is_pair for dataset in study.datasets.values()] == [False, False, True]
    for block in re.findall(r"((?:    .+\n)+)", text):
        parse_study(f'name = "x"\n{block}\n[runs.r]\nbackend = "torch"\nsize = "base"\n')


def test_every_function_is_listed_and_every_condition_is_one() -> None:
    text = PAGE.read_text(encoding="utf-8")
    # The four that have "escape" in their name are ways of writing LIKE.
    missing = [name for name in FUNCTIONS if f"`{name}`" not in text and not name.endswith("_escape")]
    assert not missing
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"``.*?``", "", text))
    conditions = [span for span in spans if re.search(r" (<>|>|in) \S", span) and "…" not in span]
    assert len(conditions) >= 4
    for condition in conditions:
        parse_condition(condition)
