"""One process at a time writes a part of a study; a lease is free once its owner is gone, whatever ended it."""

import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lossary import lease
from lossary.errors import BusyError
from lossary.files import read_json, write_json
from lossary.folder import StudyFolder
from lossary.lease import STUDY, hold, refuse_beside_runs, run_lease, who_works

NO_FLOCK = """
import errno, fcntl
def none(*_): raise OSError(errno.ENOLCK, "no locks")
fcntl.flock = none
"""
HOLD = """
import sys, time
from pathlib import Path
from lossary.folder import StudyFolder
from lossary.lease import hold
with hold(StudyFolder(Path(sys.argv[1])), sys.argv[2]):
    print("held", flush=True)
    {work}
"""
# Waits for the start, tries, says whether it won, and stays alive until told.
RACE = """
import sys, time
from pathlib import Path
from lossary.errors import BusyError
from lossary.folder import StudyFolder
from lossary.lease import hold
folder = StudyFolder(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
try:
    with hold(folder, sys.argv[2]):
        print("won", flush=True)
        sys.stdin.readline()
except BusyError:
    print("busy", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    root = tmp_path / "study"
    root.mkdir()
    return StudyFolder(root)


def start(script: str, folder: StudyFolder, name: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", script, str(folder.root), name]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def hear(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def tell(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


@contextmanager
def held_elsewhere(folder: StudyFolder, name: str, work: str = "time.sleep(60)") -> Iterator["subprocess.Popen[str]"]:
    with start(HOLD.format(work=work), folder, name) as process:
        assert hear(process) == "held"
        try:
            yield process
        finally:
            process.kill()


def test_a_lease_names_its_holder_and_goes_with_the_block(folder: StudyFolder) -> None:
    with hold(folder, run_lease("tf_xl")):
        (holder,) = who_works(folder)
        assert (holder.run, holder.pid, holder.is_own) == ("tf_xl", os.getpid(), True)
        assert abs(time.time() - holder.since) < 60
    assert who_works(folder) == []


def test_a_lease_goes_with_an_exception(folder: StudyFolder) -> None:
    with pytest.raises(ValueError, match="planted"), hold(folder, STUDY):
        raise ValueError("planted")
    assert who_works(folder) == []


def test_what_is_held_by_this_process_can_be_held_again(folder: StudyFolder) -> None:
    with hold(folder, STUDY):
        with hold(folder, STUDY), hold(folder, run_lease("a")):
            assert len(who_works(folder)) == 2
        assert [holder.name for holder in who_works(folder)] == [STUDY]


@pytest.mark.parametrize(
    ("theirs", "mine", "is_free"),
    [
        (STUDY, STUDY, False),
        (STUDY, run_lease("a"), False),
        (run_lease("a"), run_lease("a"), False),
        (run_lease("a"), run_lease("b"), True),
        (run_lease("a"), run_lease("a.b"), True),
        (run_lease("study"), STUDY, True),
    ],
)
def test_who_keeps_whom_out(theirs: str, mine: str, is_free: bool, folder: StudyFolder) -> None:
    with held_elsewhere(folder, theirs) as process:
        if is_free:
            with hold(folder, mine):
                assert {holder.name for holder in who_works(folder)} == {theirs, mine}
        else:
            with pytest.raises(BusyError) as caught, hold(folder, mine):
                pass
            assert f"process {process.pid} of " in caught.value.message
            assert caught.value.exit_code == 75
            assert [holder.name for holder in who_works(folder)] == [theirs]


def test_data_that_runs_may_read_is_not_changed_beside_them(folder: StudyFolder) -> None:
    with hold(folder, STUDY), hold(folder, run_lease("own")):
        refuse_beside_runs(folder, "a new dataset")
    beside = pytest.raises(BusyError, match="works on run 'a'")
    with held_elsewhere(folder, run_lease("a")), hold(folder, STUDY), beside:
        refuse_beside_runs(folder, "a new dataset")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, None])
def test_the_next_one_takes_over_at_once(how: signal.Signals | None, folder: StudyFolder) -> None:
    with held_elsewhere(folder, STUDY, "time.sleep(60)" if how else "raise ValueError") as process:
        if how:
            process.send_signal(how)
        process.wait(timeout=30)
        with hold(folder, STUDY):
            assert [holder.pid for holder in who_works(folder)] == [os.getpid()]


def test_a_process_that_nobody_buried_is_gone(folder: StudyFolder) -> None:
    with held_elsewhere(folder, STUDY) as process:
        process.kill()
        # Not waited for: it is a zombie as long as this test does not ask for its code.
        for _ in range(200):
            if not who_works(folder):
                break
            time.sleep(0.02)
        assert process.returncode is None
        assert who_works(folder) == []


@pytest.mark.parametrize("flock", ["", NO_FLOCK], ids=["flock", "no flock"])
@pytest.mark.parametrize("before", ["nothing", "abandoned", "abandoned in the middle"])
def test_of_twenty_that_race_one_wins(before: str, flock: str, folder: StudyFolder) -> None:
    if before != "nothing":
        with held_elsewhere(folder, STUDY):
            pass
    if before == "abandoned in the middle":
        guard = folder.leases / ".guard"
        guard.touch()
        os.utime(guard, (1, 1))
    racers = [start(flock + RACE, folder, STUDY) for _ in range(20)]
    try:
        assert {hear(racer) for racer in racers} == {"ready"}
        for racer in racers:
            tell(racer)
        assert sorted(hear(racer) for racer in racers) == ["busy"] * 19 + ["won"]
        for racer in racers:
            tell(racer)
        assert {racer.wait(timeout=60) for racer in racers} == {0}
    finally:
        for racer in racers:
            racer.kill()
            racer.communicate()
    assert who_works(folder) == []


def alter(folder: StudyFolder, name: str, **fields: Any) -> Path:
    path = folder.leases / f"{name}.json"
    write_json(path, read_json(path) | fields)
    return path


@pytest.mark.parametrize(("silent_s", "is_alive"), [(0, True), (60, True), (200, False)])
def test_on_another_host_signs_of_life_decide(silent_s: float, is_alive: bool, folder: StudyFolder) -> None:
    with held_elsewhere(folder, STUDY):
        pass
    path = alter(folder, STUDY, host="node7", machine="node7 elsewhere")
    os.utime(path, (time.time() - silent_s,) * 2)
    assert len(who_works(folder)) == is_alive
    if is_alive:
        with pytest.raises(BusyError, match="node7"), hold(folder, STUDY):
            pass
    else:
        with hold(folder, STUDY):
            pass


def test_a_pid_that_is_used_again_is_no_owner(folder: StudyFolder) -> None:
    with held_elsewhere(folder, STUDY):
        pass
    alter(folder, STUDY, pid=os.getpid())
    assert who_works(folder) == []


def test_a_copy_has_no_owner_and_a_study_that_moved_keeps_its(folder: StudyFolder, tmp_path: Path) -> None:
    with hold(folder, STUDY):
        copy = StudyFolder(tmp_path / "copy")
        shutil.copytree(folder.root, copy.root)
        assert who_works(copy) == []
        linked = StudyFolder(tmp_path / "linked")
        linked.root.symlink_to(folder.root)
        assert len(who_works(linked)) == 1
        moved = StudyFolder(tmp_path / "moved")
        folder.root.rename(moved.root)
        assert len(who_works(moved)) == 1
        moved.root.rename(folder.root)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"pid": "x"}', "\0\0"])
def test_a_record_that_cannot_be_read_holds_nobody_out(text: str, folder: StudyFolder) -> None:
    folder.leases.mkdir()
    (folder.leases / "study.json").write_text(text)
    assert who_works(folder) == []
    with hold(folder, STUDY):
        assert len(who_works(folder)) == 1


def test_signs_of_life_are_given_while_it_works(folder: StudyFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "_SIGN_EVERY_S", 0.01)
    with hold(folder, STUDY):
        path = folder.leases / "study.json"
        os.utime(path, (1, 1))
        until = time.monotonic() + 30
        while path.stat().st_mtime < 2 and time.monotonic() < until:
            time.sleep(0.01)
        assert time.time() - path.stat().st_mtime < 60


def test_who_was_replaced_is_told_and_leaves_the_new_lease(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "_SIGN_EVERY_S", 0.01)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with pytest.raises(BusyError, match="no sign of life"), hold(folder, STUDY):
            alter(folder, STUDY, token="another", machine="node7 elsewhere")
            time.sleep(30)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert [holder.token for holder in who_works(folder)] == ["another"]


def test_readers_take_nothing_and_write_nothing(folder: StudyFolder) -> None:
    assert who_works(folder) == []
    assert not folder.leases.exists()
    with held_elsewhere(folder, STUDY):
        before = {path: path.stat().st_mtime_ns for path in [folder.leases, *folder.leases.iterdir()]}
        assert len(who_works(folder)) == 1
        assert {path: path.stat().st_mtime_ns for path in [folder.leases, *folder.leases.iterdir()]} == before


def test_a_file_system_without_locks(folder: StudyFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "no locks")

    monkeypatch.setattr(fcntl, "flock", none)
    with hold(folder, STUDY):
        assert len(who_works(folder)) == 1
    assert who_works(folder) == []
    assert not (folder.leases / ".guard").exists()
