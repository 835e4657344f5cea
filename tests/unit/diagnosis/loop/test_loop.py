"""The loop of any model: what its loss and gradients are of, and that right ones raise no alarm."""

from pathlib import Path

import numpy as np
import pytest

from lossary.backends.torch.loop import record_loop
from lossary.diagnosis.loop.diagnose import LoopRequest, diagnose_script, judge
from lossary.diagnosis.loop.record import Record
from lossary.diagnosis.loop.solver import Knob, Stage, choice, solve
from lossary.diagnosis.model import Diagnosis
from lossary.errors import UsageError

families = pytest.importorskip("benchmarks.faults.trainers.families")


def diagnosed(family: str, **settings: object) -> Diagnosis:
    return judge(Record.of(record_loop(families.make_trainer(family, **settings), steps=2)))


def compared(found: Diagnosis) -> list[str]:
    """Verdicts of what was looked at; the last outcome says what was not."""
    *looked_at, rest = found.outcomes
    assert rest.verdict == "not observable"
    assert "schedule" in rest.needs
    return [outcome.verdict for outcome in looked_at]


def named(found: Diagnosis) -> set[str]:
    return {cause.name for cause in found.causes}


def test_a_head_that_ignores_the_number_of_targets_is_named_in_loss_and_gradients() -> None:
    found = diagnosed("bert", k=4)
    assert named(found) == {"loss-times-micro-batches"}
    assert compared(found) == ["confirmed", "confirmed"]
    assert not any(outcome.ties for outcome in found.outcomes)


@pytest.mark.parametrize(("family", "k"), [("bert", 1), ("modernbert", 1), ("modernbert", 4), ("llama", 4)])
def test_right_loops_are_ruled_out(family: str, k: int) -> None:
    assert compared(diagnosed(family, k=k)) == ["ruled out", "ruled out"]


def test_nothing_is_written_to_the_users_folder(tmp_path: Path) -> None:
    diagnosed("bert", output_dir=str(tmp_path / "mine"), save_strategy="steps", save_steps=1)
    assert not list((tmp_path / "mine").glob("checkpoint-*"))


def test_the_solver_takes_the_fewest_changes_and_tells_ties() -> None:
    stage = Stage(
        settings={"a": 1.0, "b": 0.0},
        predict=lambda s: np.array([s["a"] + s["b"], 2 * s["a"]]),
        noise=1e-9,
        how="",
        knobs=(
            choice("doubled", "", a=2.0),
            choice("raised", "", b=1.0),
            Knob(name="fitted", says="a is {a:.3g}", change=lambda *more: iter([{"a": more[2][1] / 2}])),
        ),
    )
    assert solve(stage, np.array([1.0, 2.0])).equal
    fit = solve(stage, np.array([2.0, 4.0]))
    assert {candidate.names for candidate in (fit.tried[0], *fit.ties)} == {("doubled",), ("fitted",)}
    both = solve(stage, np.array([3.0, 4.0]))
    assert both.best is not None
    assert both.confirmed
    assert "raised" in both.best.names
    assert not solve(stage, np.array([9.0, 2.5])).confirmed


@pytest.mark.parametrize("named_as", ["nothing", "nowhere.py:trainer"])
def test_what_names_no_trainer_is_refused(named_as: str) -> None:
    with pytest.raises(UsageError):
        diagnose_script(named_as, LoopRequest())
