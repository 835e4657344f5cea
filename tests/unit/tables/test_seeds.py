"""Runs that differ in their seed only have a spread of their own."""

from collections.abc import Callable
from typing import Any

import pytest

from lossary.reports.terminal import terminal_text
from lossary.study import parse_study
from lossary.tables.build import build_table


def test_seeds_have_a_column_of_their_own(synthetic: Callable[..., Any], planted: Any) -> None:
    study = synthetic({"a": "torch", "b": "torch", "other": "tensorflow"})
    text = (study.folder.root / "study.toml").read_text(encoding="utf-8").replace('[runs."b"]', '[runs."b"]\nseed = 2')
    for run, mlm in (("a", 2.0), ("b", 2.4), ("other", 3.0)):
        study.score(run, {name: planted(mlm=mlm) for name in ("reform", "views", "dialogue")})
    table = build_table(parse_study(text), study.folder)
    row = next(r for r in table.seed_spreads if r.dataset == "views" and r.metric == "mlm_loss")
    assert row.runs == ["a", "b"]
    values = [table.cell(run, "views", "mlm_loss").value or 0 for run in ("a", "b")]
    assert row.mean == pytest.approx(sum(values) / 2)
    assert row.deviation == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    assert "2 seeds: a, b" in terminal_text(table)
    alone = build_table(study.study, study.folder, runs=["a", "other"])
    assert alone.seed_spreads == []
