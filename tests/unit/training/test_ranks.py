"""Several processes train one run: rows are taken once, weights are those of one process, a lost one loses nothing."""

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any, cast

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.conftest import TINY

from lossary import pipeline
from lossary.backends.ranks import OneRank
from lossary.data.examples import Examples
from lossary.engines.local import LocalEngine
from lossary.errors import RunError, StudyError
from lossary.folder import StudyFolder
from lossary.launcher import NotesOnly
from lossary.models.checkpoints import list_checkpoints, load_own_checkpoint
from lossary.results.records import read_steps
from lossary.stages.runs import check_devices
from lossary.study import Study
from lossary.study_file import parse_study
from lossary.training.loop import _rows_of_rank

_TORCH = TINY.split("[runs.tf_a]")[0]


class _Rank(OneRank):
    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size


class _Lengths:
    """Examples of which only the lengths matter."""

    def __init__(self, lengths: Any) -> None:
        self.lengths = np.asarray(lengths)

    def take(self, rows: Any) -> "_Lengths":
        return _Lengths(self.lengths[rows])


@given(lengths=st.lists(st.integers(1, 64), min_size=1, max_size=40), size=st.integers(1, 7))
def test_every_row_is_of_one_rank_and_no_rank_has_much_more(lengths: list[int], size: int) -> None:
    batch = cast(Examples, _Lengths(lengths))
    parts = [_rows_of_rank(batch, _Rank(rank, size)).lengths for rank in range(size)]
    assert sorted(np.concatenate(parts)) == sorted(lengths)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    tokens = [int(part.sum()) for part in parts]
    assert max(tokens) - min(tokens) <= max(lengths)


@pytest.fixture
def trained(prepared: tuple[Study, StudyFolder], tmp_path: Path) -> Callable[..., StudyFolder]:
    """The tiny study's torch run, trained by so many ranks."""

    def train(name: str, ranks: int, listener: NotesOnly | None = None, change: str = "") -> StudyFolder:
        if not (tmp_path / name).exists():
            shutil.copytree(prepared[1].root, tmp_path / name)
        text = _TORCH.replace("steps = 12", change or "steps = 12").replace(
            'backend = "torch"', f'backend = "torch"\nranks = {ranks}\ndevice = "cpu"'
        )
        folder = StudyFolder(tmp_path / name)
        folder.study_file.write_text(text)
        pipeline.train(parse_study(text), folder, threads=1, listener=listener or NotesOnly())
        return folder

    return train


def _weights(folder: StudyFolder, steps: int) -> dict[str, Any]:
    checkpoint = load_own_checkpoint(folder.checkpoint("torch_a", steps))
    return {"digest": checkpoint.state["weights_digest"], "parameters": checkpoint.parameters}


@pytest.mark.frameworks
@pytest.mark.slow
def test_ranks_have_the_weights_and_the_records_of_one_process(trained: Callable[..., StudyFolder]) -> None:
    scored = "steps = 12\nevaluate_every = 12"
    alone, shared = trained("alone", 1, change=scored), trained("shared", 3, change=scored)
    ours, theirs = _weights(shared, 12)["parameters"], _weights(alone, 12)["parameters"]
    # AdamW makes much of the rounding of small gradients; a row lost or taken twice is a thousand times as much.
    apart = np.concatenate([(ours[name] - theirs[name]).ravel() for name in theirs])
    assert np.linalg.norm(apart) < 1e-4 * np.linalg.norm(np.concatenate([value.ravel() for value in theirs.values()]))
    one, three = (read_steps(folder.steps("torch_a")) for folder in (alone, shared))
    for column in ("step", "dataset", "examples", "tokens", "masked", "sop_pairs", "total_tokens"):
        assert one[column].to_pylist() == three[column].to_pylist()
    np.testing.assert_allclose(three["mlm_nats"].to_numpy(), one["mlm_nats"].to_numpy(), rtol=1e-5)
    # Ranks score as one process does: the same rows in the same order.
    scores = shared.scores("torch_a", 12)
    together, text = pq.read_table(scores), shared.study_file.read_text()
    for by in ("ranks = 3", "ranks = 1"):
        scores.unlink()
        pipeline.evaluate(parse_study(text.replace("ranks = 3", by)), shared, listener=NotesOnly())
        assert pq.read_table(scores).equals(together)
        others = shared.log("torch_a", "evaluate").with_name("torch_a.evaluate.rank1.log")
        assert others.exists() == (by == "ranks = 3")
        others.unlink(missing_ok=True)
    # A checkpoint of three ranks goes on in one process, and nothing is counted twice.
    more = trained("shared", 1, change="steps = 15")
    assert pc.max(read_steps(more.steps("torch_a"))["step"]).as_py() == 15
    assert len(read_steps(more.steps("torch_a")).filter(pc.field("step") <= 12)) == len(three)


@pytest.mark.frameworks
@pytest.mark.slow
def test_a_lost_rank_loses_nothing(trained: Callable[..., StudyFolder], tmp_path: Path) -> None:
    steps = "steps = 400\nkeep_checkpoints = 99"
    whole = _weights(trained("whole", 2, change=steps), 400)["digest"]
    killed: list[int] = []
    notes: list[str] = []
    hunter = Thread(target=_kill_a_rank, args=(tmp_path / "lost", killed))
    hunter.start()
    lost = trained("lost", 2, NotesOnly(notes.append), change=steps)
    hunter.join()
    assert killed
    assert any("was lost: all go on from the last checkpoint" in note for note in notes)
    assert _weights(lost, 400)["digest"] == whole
    records = read_steps(lost.steps("torch_a"))
    assert sorted(set(records["step"].to_pylist())) == list(range(1, 401))


def _kill_a_rank(study: Path, killed: list[int]) -> None:
    """Kills the second rank once there is a checkpoint."""
    job = str(study / "logs" / "torch_a.train.rank1.job.json").encode()
    for _ in range(6000):
        time.sleep(0.01)
        if not list_checkpoints(StudyFolder(study).checkpoints("torch_a")):
            continue
        for place in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                found = place.read_bytes().split(b"\0")
            except OSError:
                continue
            if job in found:
                os.kill(int(place.parent.name), signal.SIGKILL)
                killed.append(int(place.parent.name))
                return


@pytest.mark.frameworks
def test_each_rank_has_a_gpu_of_its_own_or_none_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from lossary.backends.torch.ranks import device_of_rank

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert device_of_rank(None, _Rank(1, 2)) == device_of_rank("cuda", _Rank(1, 2)) == "cuda:1"
    assert device_of_rank("cpu", _Rank(1, 2)) == "cpu"
    with pytest.raises(RunError, match="3 ranks have 2 GPUs on this machine"):
        device_of_rank(None, _Rank(0, 3))
    # Of four ranks on two machines, as torchrun tells them.
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert device_of_rank(None, _Rank(3, 4)) == "cuda:1"


def test_devices_of_a_cluster_are_not_looked_for_here(prepared: tuple[Study, StudyFolder]) -> None:
    study, folder = prepared
    run = study.runs["torch_a"].model_copy(update={"device": "cuda:77"})
    study = study.model_copy(update={"runs": {"torch_a": run}})
    with pytest.raises(RunError, match="cuda:77 is not here"):
        check_devices(study, folder, ["torch_a"], LocalEngine())

    class Elsewhere(LocalEngine):
        is_local = False

    check_devices(study, folder, ["torch_a"], Elsewhere())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ('backend = "jax"\nranks = 2', "2 processes train together on torch only"),
        ('backend = "torch"\nranks = 2\ndevice = "cuda:1"', "is one device, and 2 ranks have one each"),
        ('backend = "torch"\nranks = 9', "9 ranks cannot share a batch of 8 examples"),
        ('backend = "torch"\nranks = 0', "ranks"),
        ('backend = "torch"\nmemory = "lots"', "a size is expected, as \"16GB\"; found 'lots'"),
    ],
)
def test_ranks_that_cannot_be_are_refused_at_reading(change: str, said: str) -> None:
    with pytest.raises(StudyError, match=said):
        parse_study(_TORCH.replace('backend = "torch"', change))
