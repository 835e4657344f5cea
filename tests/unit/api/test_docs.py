"""Every example of docs/python.md runs, in its order."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[3] / "docs" / "python.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_all_examples_of_the_page_run(
    synthetic: Callable[..., Any], planted: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = synthetic({"torch_xxl": "torch", "tf_xxl": "tensorflow"})
    for run in ("torch_xxl", "tf_xxl"):
        made.score(run, {name: planted() for name in ("reform", "views", "dialogue")})
    monkeypatch.chdir(tmp_path)
    made.folder.root.rename(tmp_path / "my-study")
    (tmp_path / "losses.md").write_text("| dataset | a mlm_loss |\n|---|---|\n| views | 1.5 |\n")
    assert len(BLOCKS) >= 4
    names: dict[str, Any] = {}
    for block in BLOCKS:
        exec(compile(block, str(PAGE), "exec"), names)  # noqa: S102 - the page's own examples
    assert names["page"].is_file()
    assert names["imported"].value("a", "views", "mlm_loss") == 1.5
    assert names["comparison"].deltas
