"""Files of thirty kinds that were written before any of them was read: each is read right."""

from pathlib import Path

import pytest
from tests.unit.importers.blind_files import FILES, BlindFile, outcome


@pytest.mark.parametrize("kind", FILES)
def test_each_is_read_right(kind: str, tmp_path: Path) -> None:
    assert outcome(FILES[kind], tmp_path) == "right"


@pytest.mark.parametrize(
    ("right", "expected"),
    [
        ({"*|wiki|loss": 2.5}, "right"),
        ({"*|wiki|loss": 2.25}, "silently wrong"),
        ({"*|books|loss": 2.5}, "silently wrong"),
        ({"*|wiki|loss": 2.5, "*|books|loss": 2.5}, "silently dropped"),
    ],
)
def test_outcomes_are_told_apart(right: dict[str, float], expected: str, tmp_path: Path) -> None:
    text = "| dataset | val loss |\n|---|---|\n| wiki | 2.5 |\n"
    assert outcome(BlindFile("t.md", text, right), tmp_path) == expected
    told = BlindFile("t.md", text + "\n| books | 2.5 |\n", {"*|wiki|loss": 2.5, "*|books|loss": 2.5})
    assert outcome(told, tmp_path) == "nearly"


def test_a_refusal_is_right_where_nothing_can_be_told(tmp_path: Path) -> None:
    assert outcome(BlindFile("t.md", "nothing\n", None), tmp_path) == "rightly refused"
    assert outcome(BlindFile("t.md", "nothing\n", {"*|wiki|loss": 2.5}), tmp_path) == "needlessly refused"
