"""Pages of a synthetic study, letter by letter; LOSSARY_UPDATE_GOLDEN=1 writes them anew, to be reviewed by eye."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lossary.reports.export import csv_text, json_value, latex_text
from lossary.reports.markdown import markdown_table
from lossary.reports.terminal import terminal_text
from lossary.tables.build import build_table

EXPECTED = Path(__file__).parent / "expected"
RUNS = {"torch_xxl": "torch", "tf_xxl": "tensorflow", "tf_xl": "tensorflow"}
VIEWS: dict[str, Callable[[Any], str]] = {
    "terminal.txt": terminal_text,
    "terminal-ascii.txt": lambda table: terminal_text(table, ascii_only=True),
    "table.md": lambda table: markdown_table(table, list(RUNS)) + "\n",
    "table.csv": csv_text,
    "table.tex": latex_text,
    "table.json": lambda table: json.dumps(json_value(table) | {"lossary": "0"}, indent=1, ensure_ascii=False) + "\n",
}


@pytest.mark.parametrize("view", VIEWS)
def test_a_page_is_what_was_reviewed(synthetic: Callable[..., Any], planted: Any, view: str) -> None:
    study = synthetic(RUNS)
    study.score(
        "torch_xxl", {"reform": planted(mlm=1.76, mlm_accuracy=0.66), "views": planted(mlm=4.04, mlm_accuracy=0.51)}
    )
    good = {"sop_accuracy": 0.97, "mlm_accuracy": 0.7}
    study.score(
        "tf_xxl",
        {
            "reform": planted(mlm=1.82, sop=0.098, **good),
            "views": planted(mlm=1.3, sop=0.03, **good),
            "dialogue": planted(mlm=1.51, sop=0.08, **good),
        },
    )
    study.score(
        "tf_xl",
        {
            "reform": planted(mlm=1.89, sop=1.03),
            "views": planted(mlm=3.71, sop=0.53),
            "dialogue": planted(mlm=3.69, sop=0.73),
        },
    )
    # Sums differ in their last bits between machines, as BLAS adds in another order.
    text = re.sub(
        r"\d+\.\d{9,}(e-\d+)?", lambda m: f"{float(m[0]):.9g}", VIEWS[view](build_table(study.study, study.folder))
    )
    path = EXPECTED / view
    if os.environ.get("LOSSARY_UPDATE_GOLDEN") == "1":
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")
