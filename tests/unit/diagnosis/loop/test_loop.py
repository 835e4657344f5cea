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
planted = pytest.importorskip("benchmarks.faults.trainers.planted")


def diagnosed(family: str, **settings: object) -> Diagnosis:
    return judge(Record.of(record_loop(families.make_trainer(family, **settings), steps=2)))


def compared(found: Diagnosis) -> list[str]:
    """Verdicts of what was looked at; the last outcome says what was not."""
    *looked_at, rest = found.outcomes
    assert rest.verdict == "not compared"
    assert "masks" in rest.needs
    return [outcome.verdict for outcome in looked_at]


def named(found: Diagnosis) -> set[str]:
    return {cause.name for cause in found.causes}


def test_a_head_that_ignores_the_number_of_targets_is_named_in_loss_and_gradients() -> None:
    found = diagnosed("bert", k=4)
    assert named(found) == {"loss-times-micro-batches"}
    assert [o.check for o in found.outcomes if o.verdict == "confirmed"] == ["loss", "gradients"]
    assert not any(outcome.ties for outcome in found.outcomes)


@pytest.mark.parametrize(("family", "k"), [("bert", 1), ("modernbert", 1), ("modernbert", 4), ("llama", 4)])
def test_right_loops_are_ruled_out(family: str, k: int) -> None:
    *verdicts, evaluated = compared(diagnosed(family, k=k))
    assert set(verdicts) == {"ruled out"}
    assert evaluated == "not compared"  # there is no eval_dataset


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler")
@pytest.mark.parametrize(
    ("name", "check", "cause"),
    [
        ("never_zeroed", "gradients", "gradients-not-cleared"),
        ("clips_each_micro_batch", "gradients", "clipped-each-micro-batch"),
        ("clips_after_the_step", "clipping", "no-clipping"),
        ("clips_each_tensor", "clipping", "clip-per-tensor"),
        ("decays_norms", "update", "decay-excluded-wrong"),
        ("decay_lost", "update", "weight-decay-value"),
        ("coupled_decay", "update", "decay-coupled"),
        ("beta_lost", "update", "beta-value"),
        ("optimizer_before_resize", "update", "parameters-not-in-optimizer"),
        ("warmup_in_micro_batches", "schedule", "schedule-times-n"),
        ("scheduler_each_micro_batch", "schedule", "schedule-times-n"),
        ("logged_times_micro_batches", "logged", "logged-times-micro-batches"),
        ("logged_since_the_start", "logged", "logged-since-the-start"),
        ("evaluates_means_of_means", "evaluation", "mean-of-batch-means"),
        ("trains_in_eval_mode", "conditions", "dropout-off-in-training"),
        ("attention_mask_forgotten", "conditions", "attention-mask-missing"),
    ],
)
def test_a_planted_fault_is_named_where_it_is_and_nowhere_else(name: str, check: str, cause: str) -> None:
    found = judge(Record.of(record_loop(planted.PLANTED[name].make(), steps=5)))
    alarms = [outcome for outcome in found.outcomes if outcome.verdict in ("confirmed", "stage only")]
    assert [outcome.check for outcome in alarms] == [check]
    assert cause in {one.name for one in alarms[0].causes}


@pytest.mark.parametrize("name", sorted(planted.HEALTHY))
def test_a_healthy_trainer_raises_no_alarm(name: str) -> None:
    found = judge(Record.of(record_loop(planted.HEALTHY[name](), steps=5)))
    assert [o.check for o in found.outcomes if o.verdict in ("confirmed", "stage only")] == []


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
