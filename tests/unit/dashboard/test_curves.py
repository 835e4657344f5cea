"""Curves as JSON: every extreme is there, on the axis asked for."""

import shutil

import numpy as np
import pyarrow as pa
import pytest
from starlette.testclient import TestClient
from tests.scored import score_run

from lossary.dashboard.app import create_app
from lossary.folder import StudyFolder
from lossary.results.records import STEP_SCHEMA, write_steps
from lossary.study import Study

STEPS = 20_000


@pytest.fixture(scope="module")
def asked(prepared: tuple[Study, StudyFolder], tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    root = tmp_path_factory.mktemp("curves") / "study"
    shutil.copytree(prepared[1].root, root)
    folder = StudyFolder(root)
    score_run(folder, "tf_a")
    write_steps(folder.steps("tf_a"), steps(losses()))
    return TestClient(create_app([root]), base_url="http://localhost:8000")


def losses() -> np.ndarray:
    found = 3 + 5 / np.sqrt(np.arange(1, STEPS + 1))
    found[[77, 12_345, 19_998]] = [50.0, 60.0, 0.5]
    return found


def steps(loss: np.ndarray) -> pa.Table:
    step = np.arange(1, STEPS + 1)
    ones = np.ones(STEPS, np.int64)
    columns = dict.fromkeys(STEP_SCHEMA.names, ones) | {
        "run": pa.array(["tf_a"] * STEPS).dictionary_encode(),
        "dataset": pa.array(["lines"] * STEPS).dictionary_encode(),
        "step": step,
        "examples": ones * 8,
        "masked": ones * 10,
        "mlm_nats": loss * 10,
        "total_tokens": step * 100,
        "elapsed_s": step * 0.1,
    }
    return pa.table(columns).select(STEP_SCHEMA.names).cast(STEP_SCHEMA)


@pytest.mark.parametrize(("unit", "scale"), [("tokens", 100), ("examples", 8), ("steps", 1)])
def test_every_extreme_is_kept_on_every_axis(asked: TestClient, unit: str, scale: int) -> None:
    value = asked.get(f"/s/study/curves.json?dataset=lines&x={unit}&width=400").json()
    (curve,) = value["curves"]
    assert curve["steps"] == STEPS
    assert len(curve["x"]) == len(curve["loss"]) <= 4 * 402
    at = dict(zip(curve["loss"], curve["x"], strict=True))
    for step, loss in ((78, 50.0), (12_346, 60.0), (19_999, 0.5)):
        assert at[loss] == pytest.approx(step * scale, rel=1e-6)
    assert curve["x"] == sorted(curve["x"])
    assert (curve["x"][0], curve["x"][-1]) == (pytest.approx(scale), pytest.approx(STEPS * scale))
    assert value["floor"] is not None


def test_what_cannot_be_meant_is_said(asked: TestClient) -> None:
    for query, status in (
        ("dataset=nothing", 404),
        ("", 404),
        ("dataset=lines&metric=acc", 400),
        ("dataset=lines&x=hours", 400),
        ("dataset=lines&width=0", 400),
        ("dataset=lines&width=9999999", 400),
    ):
        assert asked.get(f"/s/study/curves.json?{query}").status_code == status
    assert asked.get("/s/study/curves.json?dataset=stories").json()["curves"] == []
