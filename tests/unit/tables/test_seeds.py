"""Runs that differ in their seed only have a spread of their own."""

from collections.abc import Callable
from typing import Any

import pytest

from lossary.files import write_json
from lossary.reports.terminal import terminal_text
from lossary.study_file import parse_study
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


def test_a_run_of_another_mixture_or_course_is_no_other_seed(synthetic: Callable[..., Any], planted: Any) -> None:
    """Both are set up alike now; one was begun before a dataset came, or before its steps were raised."""
    study = synthetic({"a": "torch", "b": "torch"})
    text = (study.folder.root / "study.toml").read_text(encoding="utf-8").replace('[runs."b"]', '[runs."b"]\nseed = 2')
    names = ["reform", "views", "dialogue"]
    for run in ("a", "b"):
        study.score(run, {name: planted() for name in names})

    def spread(**other: Any) -> bool:
        record = {"datasets": names, "weights": dict.fromkeys(names, 1.0), "recipe": {"steps": 9}}
        for run, more in (("a", {}), ("b", other)):
            write_json(study.folder.run(run) / "run.json", record | more)
        return bool(build_table(parse_study(text), study.folder).seed_spreads)

    assert spread()
    assert not spread(datasets=names[:2], weights=dict.fromkeys(names[:2], 1.0))
    assert not spread(weights={"reform": 2.0, "views": 1.0, "dialogue": 1.0})
    assert not spread(history=[{"from": 0, "steps": 6}, {"from": 6, "steps": 9}])


def test_the_seed_is_that_of_the_record(synthetic: Callable[..., Any], planted: Any) -> None:
    """The study file says another one since: the runs are the same, and two tables of theirs are no spread."""
    study = synthetic({"a": "torch", "b": "torch"})
    text = (study.folder.root / "study.toml").read_text(encoding="utf-8").replace('[runs."b"]', '[runs."b"]\nseed = 2')
    names = ["reform", "views", "dialogue"]
    for run in ("a", "b"):
        study.score(run, {name: planted() for name in names})

    def table(seed: int) -> Any:
        for run, of_run in (("a", 1), ("b", seed)):
            record = {"datasets": names, "weights": dict.fromkeys(names, 1.0), "recipe": {"steps": 9, "seed": of_run}}
            write_json(study.folder.run(run) / "run.json", record)
        return build_table(parse_study(text), study.folder)

    assert table(2).seed_spreads
    changed = table(1)
    assert not changed.seed_spreads
    assert [run.seed for run in changed.runs] == [1, 1]
    assert any("b was trained otherwise than the study file now says: recipe.seed 1, not 2" in n for n in changed.notes)
