"""A snapshot is of one moment: what is written while it is read never meets what was there before."""

import os
import re
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from tests.scored import score_run

from lossary.dashboard import snapshots
from lossary.dashboard.app import create_app
from lossary.dashboard.snapshots import WatchedStudy, fingerprint
from lossary.errors import DivergenceError
from lossary.folder import StudyFolder
from lossary.lease import hold, run_lease
from lossary.results.endings import remembered
from lossary.study import Study

RUNS = ("torch_a", "tf_a")


@pytest.fixture
def root(prepared: tuple[Study, StudyFolder], tmp_path: Path) -> Path:
    path = tmp_path / "study"
    shutil.copytree(prepared[1].root, path)
    for run in RUNS:
        score_run(StudyFolder(path), run)
    return path


def wait_for_newer(watched: WatchedStudy, version: str) -> snapshots.Snapshot:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        found = watched.snapshot()
        if found.version != version and found.note is None:
            return found
        time.sleep(0.05)
    raise AssertionError("no newer snapshot came")


def test_a_snapshot_stays_until_a_file_changes(root: Path) -> None:
    watched = WatchedStudy(root)
    first = watched.snapshot()
    assert watched.snapshot(wait=True) is first
    (root / "notes.txt").write_text("no business of the dashboard's")
    (root / "runs" / "tf_a" / "scores" / ".00000012.parquet.x.tmp").write_bytes(b"half")
    assert watched.snapshot(wait=True) is first
    score_run(StudyFolder(root), "tf_a", mean=5.0)
    second = watched.snapshot(wait=True)
    assert second.version != first.version
    assert second.opened is not None
    assert first.has_old_scores
    assert not second.has_old_scores


def test_what_changed_while_it_was_read_is_read_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watched, taken = WatchedStudy(root), []
    take = snapshots._take

    def disturbed(*arguments: object) -> snapshots.Snapshot:
        found = take(*arguments)  # type: ignore[arg-type]
        taken.append(found)
        if len(taken) < 3:
            score_run(StudyFolder(root), "tf_a", mean=5.0 + len(taken))
        return found

    monkeypatch.setattr(snapshots, "_take", disturbed)
    found = watched.snapshot()
    assert len(taken) == 3
    assert found is taken[-1]
    assert found.fingerprint == fingerprint(root)


def test_where_there_is_never_a_quiet_moment_the_last_good_snapshot_stays(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = WatchedStudy(root)
    good = watched.snapshot()
    take = snapshots._take
    count = [0]

    def disturbed(*arguments: object) -> snapshots.Snapshot:
        found = take(*arguments)  # type: ignore[arg-type]
        count[0] += 1
        score_run(StudyFolder(root), "tf_a", mean=5.0 + count[0])
        return found

    monkeypatch.setattr(snapshots, "_take", disturbed)
    score_run(StudyFolder(root), "tf_a", mean=9.0)
    found = watched.snapshot(wait=True)
    assert found.opened is good.opened
    assert found.note is not None
    assert "replaced" in found.note
    monkeypatch.setattr(snapshots, "_take", take)
    assert watched.snapshot(wait=True).note is None


def test_a_long_reading_goes_on_behind_the_last_good_snapshot(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "_PATIENCE_S", 0.0)
    monkeypatch.setattr(snapshots, "_LOOK_EVERY_S", 0.0)
    watched = WatchedStudy(root)
    first = watched.snapshot()
    go, take = threading.Event(), snapshots._take

    def slow(*arguments: object) -> snapshots.Snapshot:
        assert go.wait(20)
        return take(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(snapshots, "_take", slow)
    watched._not_before = 0.0
    score_run(StudyFolder(root), "tf_a", mean=5.0)
    meanwhile = watched.snapshot()
    assert meanwhile.opened is first.opened
    assert meanwhile.note == "newer files are being read"
    go.set()
    assert wait_for_newer(watched, first.version).opened is not first.opened


PATHS = [
    "/s/study/",
    "/s/study/compare?first=torch_a&second=tf_a",
    "/s/study/examples?dataset=stories&first=torch_a&second=tf_a",
    "/s/study/run?name=tf_a",
]


def test_pages_read_while_scores_are_rewritten_are_whole(root: Path) -> None:
    """Scores are replaced again and again, each time until every page was read anew: none is torn, none breaks."""
    folder, stop = StudyFolder(root), threading.Event()
    asked = TestClient(create_app([root]), base_url="http://localhost:8000")
    asked.get("/s/study/")
    found: dict[str, list[tuple[int, str]]] = {path: [] for path in PATHS}

    def read(path: str) -> None:
        while not stop.is_set():
            answer = asked.get(path)
            found[path].append((answer.status_code, answer.text))

    def read_anew(version: str) -> str:
        """Waits until a newer version is served and every page was read after that; the version."""
        until = time.monotonic() + 60
        while time.monotonic() < until:
            state = asked.get("/s/study/state.json").json()
            if state["version"] != version and state["note"] is None:
                counts = {path: len(answers) for path, answers in found.items()}
                while any(len(found[path]) < count + 2 for path, count in counts.items()):
                    assert time.monotonic() < until
                    time.sleep(0.02)
                return str(state["version"])
            time.sleep(0.05)
        raise AssertionError("no newer version was served")

    with ThreadPoolExecutor(len(PATHS)) as pool:
        readers = [pool.submit(read, path) for path in PATHS]
        try:
            version = read_anew("")
            for mean in (4.0, 6.0, 8.0):
                for run in RUNS:
                    score_run(folder, run, mean=mean)
                version = read_anew(version)
        finally:
            stop.set()
        for reader in readers:
            reader.result()
    for path, answers in found.items():
        # A page whose scores are replaced as fast as it reads them may say so; that is no page of theirs.
        assert {status for status, _ in answers} <= {200, 503}, path
        whole = {text for status, text in answers if status == 200}
        assert len(whole) >= 4, path
        assert all(text.rstrip().endswith("</html>") for text in whole)
    for _, text in found[PATHS[2]]:
        deltas = [float(delta) for delta in re.findall(r'<b class="(?:lost|gained)">([+-][\d.]+)</b> nats', text)]
        assert deltas == sorted(deltas, reverse=True)


def test_who_works_and_what_failed_is_said_while_it_is_so(root: Path) -> None:
    folder, watched = StudyFolder(root), WatchedStudy(root)
    with TestClient(create_app([root]), base_url="http://localhost:8000") as client:
        before = watched.snapshot()
        assert "Progress" in client.get("/s/study/").text
        with hold(folder, run_lease("torch_stories"), doing="train"):
            during = watched.snapshot(wait=True)
            assert during.is_running
            assert during.version != before.version
            # A sign of life is nothing new.
            os.utime(folder.leases / "run-torch_stories.json")
            assert watched.snapshot(wait=True) is during
        assert not watched.snapshot(wait=True).is_running
        with pytest.raises(DivergenceError), remembered(folder, "torch_stories", "train"):
            raise DivergenceError("the loss is <b>no number</b>")
        assert watched.snapshot(wait=True).version != during.version
    with TestClient(create_app([root]), base_url="http://localhost:8000") as client:
        page = client.get("/s/study/").text
        assert "failed to train" in page
        assert "the loss is &lt;b&gt;no number&lt;/b&gt;" in page
        assert "trains run torch_stories" not in page
    with (
        hold(folder, run_lease("torch_stories"), doing="train"),
        TestClient(create_app([root]), base_url="http://localhost:8000") as client,
    ):
        assert f"process {os.getpid()} of " in client.get("/s/study/").text
        assert "trains run torch_stories since" in client.get("/s/study/").text
