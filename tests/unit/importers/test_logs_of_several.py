"""Logs of Marian, of several processes, of several runs: each series is of what its lines say, or is left out."""

from collections.abc import Callable

import pytest

from lossary.errors import SourceError
from lossary.results.importers.model import Imported

MARIAN = """\
[2022-03-01 10:00:00] [config] cost-type: {cost}
[2022-03-01 10:04:00] Ep. 1 : Up. 500 : Sen. 40,611 : Cost 8.81 : Time 92.10s : 11034.55 words/s : gNorm 1.2
[2022-03-01 10:08:10] [valid] Ep. 1 : Up. 1000 : {metric} : 3.21 : new best
[2022-03-01 10:08:12] [valid] Ep. 1 : Up. 1000 : perplexity : 21.5 : stalled 1 times (last best: 21.4)
"""


def curves_of(found: Imported) -> dict[tuple[str, str, str], list[tuple[int, float]]]:
    return {
        (c.run, c.split, c.metric): [(int(s), float(v)) for s, v in zip(c.step, c.value, strict=True)]
        for c in found.curves
    }


def test_losses_of_marian_that_are_means_over_words_are_read(read: Callable[..., Imported]) -> None:
    found = read("m.log", MARIAN.format(cost="ce-mean-words", metric="ce-mean-words"))
    assert curves_of(found) == {
        ("m", "train", "loss"): [(500, 8.81)],
        ("m", "eval", "loss"): [(1000, 3.21)],
        ("m", "eval", "perplexity"): [(1000, 21.5)],
    }


@pytest.mark.parametrize("metric", ["cross-entropy", "ce-sum", "ce-mean"])
def test_losses_of_marian_by_sentence_are_left_out_with_the_reason(read: Callable[..., Imported], metric: str) -> None:
    found = read("m.log", MARIAN.format(cost="ce-sum", metric=metric))
    assert curves_of(found) == {("m", "eval", "perplexity"): [(1000, 21.5)]}
    reasons = {mapped.source: mapped.reason for mapped in found.mapping if mapped.reason}
    assert set(reasons) == {"train loss", f"valid {metric}"}
    assert all("sentence" in reason for reason in reasons.values())


def test_a_cost_that_is_printed_with_its_words_is_a_mean_over_them(read: Callable[..., Imported]) -> None:
    line = "[2022-03-01 10:04:00] Ep. 1 : Up. 500 : Sen. 9,000 : Cost 5.25 * 81,233 @ 900 after 88,000 : Time 9s\n"
    assert curves_of(read("m.log", line)) == {("m", "train", "loss"): [(500, 5.25)]}


@pytest.mark.parametrize("label", ["{}: ", "[rank{}]: ", "[default{}]:", "rank {}: "])
def test_losses_that_several_processes_say_each_for_itself_are_left_out(
    read: Callable[..., Imported], label: str
) -> None:
    lines = [
        f"{label.format(n)}step {s} | loss {3 - s / 1000 + n / 100:.3f} | lr 1e-4" for s in (100, 200) for n in (0, 1)
    ]
    with pytest.raises(SourceError) as refused:
        read("ranks.log", "\n".join(lines))
    assert "process 0 says 2.9 and process 1 2.91" in str(refused.value.hint)


def test_losses_that_all_processes_say_alike_are_one(read: Callable[..., Imported]) -> None:
    lines = [f"{n}: step {s} | loss {3 - s / 1000:.3f} | lr 1e-4" for s in (100, 200) for n in (0, 1)]
    assert curves_of(read("ranks.log", "\n".join(lines))) == {("ranks", "train", "loss"): [(100, 2.9), (200, 2.8)]}


def test_a_log_that_starts_anew_at_its_first_step_has_another_run(read: Callable[..., Imported]) -> None:
    lines = [f"step {s} train_loss {3 - s / 1000 - r / 10:.3f}" for r in (0, 1) for s in (100, 200)]
    found = read("two.log", "\n".join(lines))
    assert curves_of(found) == {
        ("two", "train", "loss"): [(100, 2.9), (200, 2.8)],
        ("two (2)", "train", "loss"): [(100, 2.8), (200, 2.7)],
    }
    assert any("line 3" in note for note in found.notes)


def test_steps_that_go_back_to_a_later_one_are_of_a_run_that_was_resumed(read: Callable[..., Imported]) -> None:
    steps = ((100, 2.9), (200, 2.8), (300, 2.7), (200, 2.85), (300, 2.75))
    found = read("r.log", "\n".join(f"step {s} train_loss {v}" for s, v in steps))
    assert curves_of(found) == {("r", "train", "loss"): [(100, 2.9), (200, 2.85), (300, 2.75)]}


def test_a_loss_may_be_said_in_a_sentence(read: Callable[..., Imported]) -> None:
    found = read("ms.log", "step: 422, loss is 3.2125\nstep: 844, loss is 2.6855\n")
    assert curves_of(found) == {("ms", "unknown", "loss"): [(422, 3.2125), (844, 2.6855)]}


@pytest.mark.parametrize(
    "line",
    [
        "Epoch 34 | iter {passes} step {step} | loss train: {loss}, val: n/a | iter time: 112.20 ms",
        "step: {step}, micro_step: {passes}, loss: {loss}, lr: 1e-4",
        "micro batch {passes}, global step {step}, loss={loss}",
    ],
)
def test_steps_count_updates_where_passes_stand_beside_them(read: Callable[..., Imported], line: str) -> None:
    points = [(10, 2.85), (20, 2.75)]
    lines = [line.format(passes=8 * step, step=step, loss=loss) for step, loss in points]
    [curve] = read("a.log", "\n".join(lines)).curves
    assert [(int(s), float(v)) for s, v in zip(curve.step, curve.value, strict=True)] == points


LABELLED = "label,step,loss,val_loss\na,1000,2.31,2.52\nb,1000,2.20,2.47\n"


def test_rows_of_one_step_that_a_text_tells_apart_are_asked_about(read: Callable[..., Imported]) -> None:
    with pytest.raises(SourceError, match="the column 'label' tells them apart: 'a', 'b'") as caught:
        read("t.csv", LABELLED)
    assert "--map 'label'=run" in (caught.value.hint or "")
    assert len(read("t.csv", LABELLED, "label=run").numbers) == 4
    assert {float(curve.value[0]) for curve in read("t.csv", LABELLED, "label=ignore").curves} == {2.20, 2.47}


def test_times_beside_a_step_that_stands_twice_name_no_run(read: Callable[..., Imported]) -> None:
    rows = ["step,time,loss", "10,2024-05-01 10:00,2.5", "20,2024-05-01 10:05,2.4", "20,2024-05-01 11:00,2.3"]
    [curve] = read("t.csv", "\n".join(rows)).curves
    assert [float(value) for value in curve.value] == [2.5, 2.3]
