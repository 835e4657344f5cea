"""What goes wrong in a worker is told as if it had gone wrong here."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lossary.backends.process import StopRequest, WarmWorkers, run_worker, stop_on_signals
from lossary.backends.rank_workers import run_ranks
from lossary.errors import DataError, InternalError, Interrupted, LossaryError, MachineError, RunError, WorkerError
from lossary.files import read_json

WORKER = """
import json
from pathlib import Path
from lossary.backends.process import worker_main
from lossary.errors import DataError

def deep():
    return json.loads("[" * 100_000)

warmed = []
worker_main(lambda job, emit: {"answer": eval(job["code"]), "warmed": warmed}, warm_up=warmed.append)
"""


@pytest.fixture(params=["cold", "warm"])
def work(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Runs code in a worker, started with the job or before it: one is as good as the other."""
    (tmp_path / "planted_worker.py").write_text(WORKER)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")

    def run(code: str, log: Path = tmp_path / "logs" / "a.log") -> dict[str, Any]:
        job = {"code": code}
        more: dict[str, Any] = {"emit": lambda _: None, "stop": StopRequest(), "warm": warm}
        return run_worker("planted_worker", job, backend="torch", threads=1, log=log, **more)

    with WarmWorkers() as warm:
        if request.param == "warm":
            warm.start("planted_worker", backend="torch", threads=1)
        yield run


def test_an_answer_comes_back(work: Any, request: pytest.FixtureRequest) -> None:
    found = work("1 + 1")
    assert found["answer"] == 2
    assert found["warmed"] == (["torch"] if "warm" in request.node.callspec.id else [])
    assert work("2 + 2")["warmed"] == []


def test_warm_workers_end_with_the_block_and_a_dead_one_is_not_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "planted_worker.py").write_text(WORKER.replace("warmed.append", "lambda _: 1 / 0"))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    more: dict[str, Any] = {"emit": lambda _: None, "stop": StopRequest(), "log": tmp_path / "a.log"}
    with WarmWorkers() as warm:
        for threads in (1, 2, 3):
            warm.start("planted_worker", backend="torch", threads=threads)
        workers = [worker for waiting in warm._waiting.values() for worker in waiting]
        assert run_worker("planted_worker", {"code": "1"}, backend="torch", threads=2, warm=warm, **more)["answer"] == 1
        assert workers[1].poll() == 0
        assert [workers[0].poll(), workers[2].poll()] == [None, None]
        workers[2].kill()
        workers[2].wait()
        assert run_worker("planted_worker", {"code": "3"}, backend="torch", threads=3, warm=warm, **more)["answer"] == 3
    assert workers[0].poll() is not None


@pytest.mark.parametrize(
    ("code", "kind", "said"),
    [
        ("Path('/nowhere/at/all').read_text()", MachineError, "/nowhere/at/all: no such file"),
        ("Path('/dev/full').write_text('x' * 9)", MachineError, "no space left on device"),
        ("(_ for _ in ()).throw(MemoryError('Unable to allocate 9 TiB'))", MachineError, "not enough memory"),
        ("(_ for _ in ()).throw(RuntimeError('CUDA out of memory. Tried'))", MachineError, "not enough memory"),
        ("deep()", DataError, "nested too deeply"),
        ("(_ for _ in ()).throw(KeyboardInterrupt())", Interrupted, "interrupted"),
        ("(_ for _ in ()).throw(DataError('gone', where='x'))", DataError, "x: gone"),
        ("{}['planted']", InternalError, "KeyError: 'planted'"),
    ],
)
def test_an_error_of_a_worker_is_its_parents(code: str, kind: type[LossaryError], said: str, work: Any) -> None:
    with pytest.raises(kind) as caught:
        work(code)
    assert type(caught.value) is kind
    assert said in str(caught.value)
    assert "Traceback" not in str(caught.value)


class Signalled:
    def __init__(self) -> None:
        self.got: list[signal.Signals] = []

    def send_signal(self, kind: signal.Signals) -> None:
        self.got.append(kind)


@pytest.mark.parametrize(
    "kinds", [(a, b) for a in (signal.SIGINT, signal.SIGTERM) for b in (signal.SIGINT, signal.SIGTERM)]
)
def test_signals_of_one_moment_are_one_request(kinds: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    stop, worker = StopRequest(), Signalled()
    stop.add(worker)  # type: ignore[arg-type]
    with stop_on_signals(stop):
        for kind in kinds:
            os.kill(os.getpid(), kind)
            now[0] += 0.4
        assert worker.got == [signal.SIGTERM]
        now[0] += 0.4
        os.kill(os.getpid(), kinds[0])
    assert worker.got == [signal.SIGTERM, signal.SIGKILL]


def test_the_traceback_of_a_mistake_is_in_the_log(work: Any) -> None:
    with pytest.raises(InternalError) as caught:
        work("{}['planted']")
    assert caught.value.where is not None
    assert "Traceback" in Path(caught.value.where).read_text()


def test_a_log_that_cannot_be_written_is_named(work: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        work("1", tmp_path / "file" / "a.log")
    (tmp_path / "a.log").mkdir()
    with pytest.raises(OSError, match=r"a\.log"):
        work("1", tmp_path / "a.log")


@pytest.mark.parametrize("work", ["cold"], indirect=True)
def test_a_worker_that_cannot_start_is_an_error_of_the_machine(work: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    with pytest.raises(OSError, match="/nowhere/python"):
        work("1")


@pytest.fixture
def together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs code as two ranks that know the job; events and notes are collected."""
    text = "import os, time\nfrom lossary.errors import Interrupted, RankLost, RunError\n" + WORKER
    asked = 'eval(job["code"], globals() | {"job": job, "emit": emit})'
    (tmp_path / "planted_worker.py").write_text(text.replace('eval(job["code"])', asked))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")

    def run(code: str, events: list[Any]) -> dict[str, Any]:
        more: dict[str, Any] = {"emit": events.append, "stop": StopRequest(), "log": tmp_path / "logs" / "a.log"}
        return run_ranks("planted_worker", {"code": code, "seen": str(tmp_path)}, ranks=2, threads=1, **more)

    return run


def test_ranks_know_their_places_and_the_first_one_speaks(together: Callable[..., Any]) -> None:
    events: list[Any] = []
    found = together(
        "(job['rank'], job['ranks'], os.path.isdir(os.path.dirname(job['store'].removeprefix('file://'))))", events
    )
    assert found["answer"] == [0, 2, True]
    assert [event["event"] for event in events] == ["done"]


def test_the_error_of_any_rank_is_that_of_all(together: Callable[..., Any]) -> None:
    code = "time.sleep(60) if job['rank'] == 0 else (_ for _ in ()).throw(RunError('no memory here'))"
    with pytest.raises(RunError, match="no memory here"):
        together(code, [])


def test_a_rank_that_hears_of_a_loss_first_has_all_begin_again(together: Callable[..., Any]) -> None:
    code = (
        "'twice' if os.path.exists(job['seen'] + '/once') else (time.sleep(60) if job['rank'] else"
        " (open(job['seen'] + '/once', 'w').close(), (_ for _ in ()).throw(RankLost('connection reset'))))"
    )
    events: list[Any] = []
    assert together(code, events)["answer"] == "twice"
    assert [event["text"] for event in events if event["event"] == "note"] == [
        "a rank of 2 was lost: all go on from the last checkpoint"
    ]


def test_what_a_rank_said_before_it_went_is_the_error_of_all(together: Callable[..., Any]) -> None:
    code = (
        "(emit({'event': 'error', 'kind': 'RunError', 'message': 'no memory here'}), time.sleep(60)) if job['rank']"
        " else (time.sleep(2), (_ for _ in ()).throw(RankLost('connection reset')))"
    )
    with pytest.raises(RunError, match="no memory here"):
        together(code, [])


def test_ranks_begin_again_while_they_come_further_and_end_where_they_do_not(together: Callable[..., Any]) -> None:
    # Each time one step further, up to step 3; then no further.
    code = (
        "(emit({'event': 'progress', 'step': min(3, len(os.listdir(job['seen'])))}),"
        " open(f\"{job['seen']}/{time.time_ns()}\", 'w').close(), os.kill(os.getpid(), 9))"
        " if job['rank'] == 0 else time.sleep(60)"
    )
    events: list[Any] = []
    with pytest.raises(WorkerError, match="ended by SIGKILL"):
        together(code, events)
    notes = [event["text"] for event in events if event["event"] == "note"]
    assert notes
    assert all(note.startswith("rank 0 of 2 was lost") for note in notes)
    assert [event["step"] for event in events if event["event"] == "progress"][-3:] == [3, 3, 3]


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "\xff", "null"])
def test_json_that_is_damaged_names_its_file(text: str, tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    path.write_text(text, encoding="latin-1")
    if text == "null":
        assert read_json(path) is None
        return
    with pytest.raises(DataError) as caught:
        read_json(path)
    assert caught.value.where == str(path)


def test_json_that_lacks_a_key_names_its_file(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    path.write_text('{"a": {"b": 1}}')
    assert read_json(path) == {"a": {"b": 1}}
    with pytest.raises(DataError, match="'digest'"):
        read_json(path)["a"]["digest"]
