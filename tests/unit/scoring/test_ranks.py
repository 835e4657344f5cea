"""Scoring rank by rank: the same rows in the same order, and no rank that waits for one that failed."""

import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from tests.unit.scoring.test_score import Counting

from lossary.backends.ranks import OneRank, OtherFailed, Said, Word
from lossary.data.examples import Examples
from lossary.errors import LossaryError
from lossary.folder import StudyFolder
from lossary.scoring import evaluate
from lossary.scoring import ranks as ranks_of_scores
from lossary.scoring.api import Window
from lossary.scoring.evaluate import Asked, score_study
from lossary.study import Study


class ThreadRanks:
    """Ranks that are threads of this process."""

    def __init__(self, rank: int, shared: "Shared") -> None:
        self.rank, self.size, self._shared = rank, shared.size, shared

    def exchange(self, word: Word, payload: bytes = b"") -> list[Said]:
        self._shared.said[self.rank] = Said(word, payload)
        # Who waits for nobody is found: a rank that is left alone fails the test, and does not hang it.
        self._shared.barrier.wait(timeout=30)
        found = list(self._shared.said)
        self._shared.barrier.wait(timeout=30)
        return found if self.rank == 0 else [replace_payload(said) for said in found]


def replace_payload(said: Said) -> Said:
    return said._replace(payload=b"")


class Shared:
    def __init__(self, size: int) -> None:
        self.size, self.barrier = size, threading.Barrier(size)
        self.said: list[Said] = [Said(Word.HERE, b"")] * size


class Short:
    """A view whose windows have seven examples."""

    def __init__(self, view: Any) -> None:
        self._view = view

    def __getattr__(self, name: str) -> Any:
        return getattr(self._view, name)

    def __len__(self) -> int:
        return len(self._view)

    def windows(self) -> Iterator[Window]:
        for window in self._view.windows():
            for start in range(0, len(window.examples), 7):
                rows = np.arange(start, min(start + 7, len(window.examples)))
                sizes = window.target_bytes
                yield replace(
                    window, examples=window.examples.take(rows), target_bytes=None if sizes is None else sizes[rows]
                )


@pytest.fixture
def folder(prepared: tuple[Study, StudyFolder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudyFolder:
    shutil.copytree(prepared[1].root, tmp_path / "study")
    opened = evaluate.open_view
    monkeypatch.setattr(evaluate, "open_view", lambda *a, **k: Short(opened(*a, **k)))
    return StudyFolder(tmp_path / "study")


def together(folder: StudyFolder, size: int, run: str, make: Callable[[int], Any]) -> list[BaseException | None]:
    """Scores with so many ranks; what each of them raised."""
    shared, errors = Shared(size), [None] * size

    def work(rank: int) -> None:
        try:
            asked = Asked(run=run, step=5)
            score_study(folder, make(rank), asked, ranks=ThreadRanks(rank, shared), emit=lambda _: None)
        except BaseException as error:
            errors[rank] = error

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return errors


def rows(folder: StudyFolder, run: str) -> Any:
    return pq.read_table(folder.scores(run, 5)).drop_columns(["run"])


@pytest.mark.parametrize("size", [2, 3, 4, 11])
def test_ranks_store_what_one_alone_stores(size: int, folder: StudyFolder) -> None:
    score_study(folder, Counting(), Asked(run="alone", step=5), ranks=OneRank(), emit=lambda _: None)
    scorers = [Counting() for _ in range(size)]
    assert together(folder, size, "many", lambda rank: scorers[rank]) == [None] * size
    assert rows(folder, "many").equals(rows(folder, "alone"))
    assert len(rows(folder, "many")) >= 60
    # Nine windows or more: each rank has its part, and none all of them.
    assert all(scorer.scored < 60 for scorer in scorers)
    assert sum(scorer.scored for scorer in scorers) == 60


class Fails(Counting):
    """Fails at its second batch."""

    def score(self, examples: Examples) -> Any:
        if self.scored:
            raise LossaryError("the weights are gone")
        return super().score(examples)


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_a_rank_that_fails_takes_all_with_it_and_nothing_is_stored(failing: int, folder: StudyFolder) -> None:
    errors = together(folder, 3, "many", lambda rank: Fails() if rank == failing else Counting())
    assert "the weights are gone" in str(errors[failing])
    others = [error for rank, error in enumerate(errors) if rank != failing]
    assert all(isinstance(error, OtherFailed) and f"rank {failing}" in str(error) for error in others)
    assert not list(folder.run("many").rglob("*.parquet"))


@pytest.mark.parametrize("when", ["first", "last"])
def test_a_file_that_cannot_be_written_ends_all_ranks(
    when: str, folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(_: Path, tables: Iterator[Any], __: Any) -> None:
        for _table in tables:
            if when == "first":
                raise OSError(28, "No space left on device")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ranks_of_scores, "write_score_windows", write)
    first, *others = together(folder, 3, "many", lambda _: Counting())
    assert "No space left" in str(first)
    assert all(isinstance(error, OtherFailed) for error in others)


def test_a_view_that_cannot_be_made_ends_all_ranks(folder: StudyFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise LossaryError("there is no text")

    monkeypatch.setattr(evaluate, "open_view", fails)
    first, *others = together(folder, 2, "many", lambda _: Counting())
    assert "there is no text" in str(first)
    assert all(isinstance(error, OtherFailed) for error in others)


SCRIPT = """
import os, sys
from datetime import timedelta
from pathlib import Path
import torch
from torch import distributed
from tests.unit.scoring.test_ranks import Short
from tests.unit.scoring.test_score import Counting
import lossary
from lossary.scoring import evaluate
from lossary.scoring import ranks as ranks_of_scores

opened = evaluate.open_view
evaluate.open_view = lambda *a, **k: Short(opened(*a, **k))
distributed.init_process_group("gloo", timeout=timedelta(seconds=120))
table = lossary.evaluate(Counting(), sys.argv[1], run=f"ranks{distributed.get_world_size()}", step=5)
assert len(table.to_arrow())
alone = f"alone{distributed.get_rank()}of{distributed.get_world_size()}"
lossary.evaluate(Counting(), sys.argv[1], run=alone, step=5, distributed=False)
distributed.destroy_process_group()
"""


@pytest.mark.frameworks
def test_processes_of_a_launch_store_the_same_rows(folder: StudyFolder) -> None:
    for size in (1, 2, 3):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        places = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(size)}
        workers = [
            subprocess.Popen(
                [sys.executable, "-c", SCRIPT, str(folder.root)],
                env={**os.environ, **places, "RANK": str(rank)},
                cwd=Path(__file__).parents[3],
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(size)
        ]
        for worker in workers:
            _, errors = worker.communicate(timeout=300)
            assert worker.returncode == 0, errors[-2000:]
    expected = rows(folder, "alone0of1")
    for run in ("ranks1", "ranks2", "ranks3", "alone1of2", "alone2of3"):
        assert rows(folder, run).equals(expected), run


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.unit.scoring.test_ranks import Short
from tests.unit.scoring.test_score import Counting
from lossary.folder import StudyFolder
from lossary.scoring import evaluate
from lossary.scoring import ranks as ranks_of_scores

class Dies(Counting):
    def score(self, examples):
        if self.scored >= int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().score(examples)

opened = evaluate.open_view
evaluate.open_view = lambda *a, **k: Short(opened(*a, **k))
evaluate.score_study(StudyFolder(Path(sys.argv[1])), Dies(), evaluate.Asked(run="killed", step=5), emit=lambda _: None)
"""


def test_a_process_that_is_killed_leaves_no_half_file(folder: StudyFolder) -> None:
    command = [sys.executable, "-c", KILLED, str(folder.root)]
    for scored in (0, 20, 50):
        done = subprocess.run([*command, str(scored)], cwd=Path(__file__).parents[3], check=False)
        assert done.returncode == -9
        assert not folder.scores("killed", 5).exists()
    score_study(folder, Counting(), Asked(run="alone", step=5), emit=lambda _: None)
    subprocess.run([*command, "61"], cwd=Path(__file__).parents[3], check=True)
    assert rows(folder, "killed").equals(rows(folder, "alone"))
