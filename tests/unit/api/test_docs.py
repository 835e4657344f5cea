"""Every example in Python of the pages for users runs, in its order."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[3] / "docs"


def run_page(name: str, *, least: int) -> dict[str, Any]:
    """Runs the examples of a page; returns their names."""
    text = (DOCS / name).read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) >= least
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, name, "exec"), names)  # noqa: S102 - the page's own examples
    return names


def test_all_examples_of_the_page_run(
    synthetic: Callable[..., Any], planted: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = synthetic({"torch_xxl": "torch", "tf_xxl": "tensorflow"})
    for run in ("torch_xxl", "tf_xxl"):
        made.score(run, {name: planted() for name in ("reform", "views", "dialogue")})
    monkeypatch.chdir(tmp_path)
    made.folder.root.rename(tmp_path / "my-study")
    (tmp_path / "losses.md").write_text("| dataset | a mlm_loss |\n|---|---|\n| views | 1.5 |\n")
    decided = run_page("deciding.md", least=2)
    assert decided["found"].decisions
    assert decided["ranking"].may_be_best
    names = run_page("python.md", least=4)
    assert names["page"].is_file()
    assert names["imported"].value("a", "views", "mlm_loss") == 1.5
    assert names["comparison"].deltas
