"""A study at a URL: what is written is read again, whatever ends a commit; two writers are told apart."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
import pytest
from tests.unit.remote.conftest import URL

from lossary.errors import BusyError, DataError, StoreError, StudyError
from lossary.remote import claims as claims_module
from lossary.remote.claims import Claim, claims_of
from lossary.remote.copies import WorkingCopy, working
from lossary.remote.manifests import newest_manifest
from lossary.remote.readers import Following, reading
from lossary.remote.store import ObjectStore
from lossary.remote.wants import Wants

OLD = {"study.toml": b"name = 'a'\n", "runs/a/run.json": b"{}", "runs/a/checkpoints/step-1/w": b"weights of 1"}
NEW = {"study.toml": b"name = 'a'\n", "runs/a/run.json": b"{}", "runs/a/checkpoints/step-2/w": b"weights of 2"}


def write(root: Path, files: dict[str, bytes]) -> None:
    """Makes a folder hold these files and no others, but for leases and what is hidden."""
    for path in list(root.rglob("*")):
        if path.is_file() and "leases" not in path.parts:
            path.unlink()
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.tmp")
        temporary.write_bytes(data)
        temporary.replace(path)


def held(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and "leases" not in path.parts and not path.name.startswith(".")
    }


def there(url: str = URL) -> dict[str, bytes]:
    with reading(url, Wants.ALL) as root:
        return held(root)


def store(files: dict[str, bytes], url: str = URL) -> None:
    with working(url, doing="test", is_new=True) as root:
        write(root, files)


class Killed(BaseException):
    """The end of the process, at once."""


class Faulty:
    """A file system whose nth operation ends the process, before it did anything, half way or when it is done."""

    def __init__(self, system: Any, at: int, how: str) -> None:
        self._system, self._at, self._how = system, at, how
        self.count = 0
        self.dead = False

    def _do(self, action: Callable[[], Any], half: Callable[[], Any] | None = None) -> Any:
        if self.dead:
            raise Killed
        self.count += 1
        if self.count == self._at:
            self.dead = True
            if self._how == "half" and half is not None:
                half()
            elif self._how == "after":
                action()
            raise Killed
        return action()

    def pipe_file(self, path: str, data: bytes) -> None:
        half = lambda: self._system.pipe_file(path, data[: len(data) // 2])  # noqa: E731
        self._do(lambda: self._system.pipe_file(path, data), half)

    def open(self, path: str, mode: str) -> Any:
        half = (lambda: self._system.pipe_file(path, b"weig")) if mode == "wb" else None
        return self._do(lambda: self._system.open(path, mode), half)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._system, name)
        return lambda *args, **more: self._do(lambda: found(*args, **more))


def attempt(at: int, how: str) -> Faulty:
    """One writer that is killed at an operation, on another machine than the next one."""
    copy = WorkingCopy(URL)
    faulty = copy.store.system = Faulty(copy.store.system, at, how)
    try:
        with Claim(copy.store, doing="test") as claim, copy.opened(claim, Wants.ALL):
            write(copy.root, NEW)
            copy.finish()
    except Killed:
        pass
    return faulty


@pytest.mark.parametrize("how", ["before", "half", "after"])
def test_a_writer_that_is_killed_at_any_operation_leaves_the_old_or_the_new_state(
    how: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims_module, "_SILENT_S", 0.0)  # Of a claim that is cut in half nobody knows whose it was.
    at, seen = 0, set()
    while True:
        at += 1
        shutil.rmtree(cache, ignore_errors=True)
        fsspec.filesystem("memory").store.clear()
        store(OLD)
        faulty = attempt(at, how)
        found = there()
        assert found in (OLD, NEW), f"operation {at}"
        seen.add(found == NEW)
        if not faulty.dead:
            break
        # The next one, on another machine, goes on from there.
        shutil.rmtree(cache, ignore_errors=True)
        for stale in fsspec.filesystem("memory").glob("/bucket/study/claims/*"):
            fsspec.filesystem("memory").rm(stale)
        attempt(-1, how)
        assert there() == NEW, f"operation {at}"
    assert at > 15
    assert seen == {True, False}


@pytest.mark.parametrize("how", ["before", "after"])
def test_what_a_killed_writer_had_made_is_there_when_it_begins_again_on_its_machine(how: str) -> None:
    at = 0
    while True:
        at += 1
        fsspec.filesystem("memory").store.clear()
        store(OLD)
        faulty = attempt(at, how)
        if not faulty.dead:
            break
        for stale in fsspec.filesystem("memory").glob("/bucket/study/claims/*"):
            fsspec.filesystem("memory").rm(stale)
        before = held(WorkingCopy(URL).root)
        with working(URL, doing="test") as root:
            assert before.items() <= held(root).items()
        assert before.items() <= there().items()


@pytest.fixture
def flaky() -> Callable[[ObjectStore, int], None]:
    """Makes every nth operation of a store fail, so that some patience is enough."""

    def make(store: ObjectStore, every: int) -> None:
        counts = {"all": 0}
        system = store.system

        class Flaky:
            def __getattr__(self, name: str) -> Any:
                found = getattr(system, name)
                if name == "invalidate_cache":
                    return found

                def call(*args: Any, **more: Any) -> Any:
                    counts["all"] += 1
                    if counts["all"] % every:
                        raise OSError("AWS Error UNKNOWN (HTTP status 503): please reduce your request rate")
                    return found(*args, **more)

                return call

        store.system = Flaky()

    return make


def test_a_store_that_fails_two_of_three_times_is_written_all_the_same(
    flaky: Callable[[ObjectStore, int], None],
) -> None:
    store(OLD)
    copy = WorkingCopy(URL)
    flaky(copy.store, 3)
    with Claim(copy.store, doing="test") as claim, copy.opened(claim, Wants.ALL):
        write(copy.root, NEW)
        copy.finish()
    assert there() == NEW


def test_a_store_that_never_answers_is_an_error_and_the_work_is_kept(flaky: Callable[[ObjectStore, int], None]) -> None:
    store(OLD)
    copy = WorkingCopy(URL)
    with Claim(copy.store, doing="test") as claim, copy.opened(claim, Wants.ALL):
        write(copy.root, NEW)
        system = copy.store.system
        flaky(copy.store, 1_000_000)
        with pytest.raises(StoreError, match="did not answer, 6 times: AWS Error UNKNOWN"):
            copy.finish()
        copy.store.system = system
    assert there() == OLD
    with working(URL, doing="test") as root:
        assert NEW.items() <= held(root).items()
    assert NEW.items() <= there().items()


def test_a_second_writer_is_refused_and_names_the_first() -> None:
    store(OLD)
    with working(URL, doing="train"):
        second = working(URL, doing="train")
        with pytest.raises(BusyError, match=r"another process works on it since .* process \d+"), second:
            pass
        assert there() == OLD


def test_a_writer_that_was_replaced_writes_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store(OLD)
    copy = WorkingCopy(URL)
    with Claim(copy.store, doing="test") as claim, copy.opened(claim, Wants.ALL):
        write(copy.root, NEW)
        monkeypatch.setattr(claims_module.Claimed, "is_alive", lambda *_: False)
        monkeypatch.setenv("XDG_CACHE_HOME", str(cache / "elsewhere"))
        store({**OLD, "runs/b/run.json": b"{}"})
        with pytest.raises(BusyError, match="another one took over"):
            copy.finish()
    assert "runs/b/run.json" in there()
    assert "runs/a/checkpoints/step-2/w" not in there()


def test_what_was_made_of_a_state_that_somebody_else_went_on_from_steps_aside(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(OLD)
    root = WorkingCopy(URL).root
    write(root, NEW)
    with monkeypatch.context() as other:
        other.setenv("XDG_CACHE_HOME", str(cache / "elsewhere"))
        store({**OLD, "runs/b/run.json": b"{}"})
    notes: list[str] = []
    with working(URL, doing="test", note=notes.append) as root:
        assert held(root) == {**OLD, "runs/b/run.json": b"{}"}
    [note] = notes
    [aside] = root.parent.glob("work-*")
    assert str(aside) in note
    assert held(aside) == NEW


def test_of_many_that_want_to_write_at_once_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the order in which their operations come: each holds its breath before it lists."""
    import threading

    monkeypatch.setattr(claims_module, "_TRIES", 1)
    place = ObjectStore(URL)
    barrier = threading.Barrier(4)
    holding, most, refused = [], [0], []

    def want() -> None:
        barrier.wait()
        try:
            with Claim(place, doing="test") as claim:
                holding.append(claim)
                most[0] = max(most[0], len(holding))
                holding.remove(claim)
        except BusyError:
            refused.append(1)

    for _ in range(20):
        threads = [threading.Thread(target=want) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert most[0] <= 1
    assert refused
    assert claims_of(place) == []


def test_a_flipped_bit_in_a_content_is_an_error_that_names_the_object(cache: Path) -> None:
    store(OLD)
    shutil.rmtree(cache)
    system = fsspec.filesystem("memory")
    [path] = [path for path in system.glob("/bucket/study/objects/*") if system.cat_file(path) == b"weights of 1"]
    system.pipe_file(path, b"weights of 3")
    with pytest.raises(DataError, match="not what was written") as found:
        there()
    assert path.rpartition("/")[2] in str(found.value)


def test_a_flipped_bit_in_a_manifest_is_an_error_and_not_the_state_before() -> None:
    store(OLD)
    store(NEW)
    system = fsspec.filesystem("memory")
    path = sorted(system.glob("/bucket/study/manifests/*"))[-1]
    system.pipe_file(path, system.cat_file(path).replace(b'"number": 2', b'"number": 3'))
    with pytest.raises(DataError, match="checksum is another"):
        there()


@pytest.mark.parametrize("path", ["../out", "/etc/x", "a/../../b", ""])
def test_a_manifest_that_names_a_path_outside_of_the_folder_is_refused(path: str) -> None:
    from lossary.remote.manifests import Manifest, Stored, add_manifest, new_name

    place = ObjectStore(URL)
    files = {path: Stored("blake2b:" + "0" * 32, 1, 1)}
    add_manifest(place, Manifest(name=new_name(1), number=1, files=files))
    with pytest.raises(DataError, match="leaves the folder"):
        there()


def test_a_damaged_content_on_this_machine_is_fetched_again(cache: Path) -> None:
    store(OLD)
    for path in (cache / "contents").glob("*/*"):
        data = path.read_bytes()
        path.unlink()
        path.write_bytes(bytes(len(data)))
    shutil.rmtree(cache / "studies")
    assert there() == OLD


def test_contents_are_held_below_the_limit(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store(OLD)
    there()
    shutil.rmtree(cache / "studies")
    monkeypatch.setenv("LOSSARY_CACHE_BYTES", "0")
    with working("memory://bucket/other", doing="test", is_new=True) as root:
        write(root, {"study.toml": b"name = 'b'\n"})
    names = [path.read_bytes() for path in (cache / "contents").glob("*/*")]
    assert b"weights of 1" not in names
    assert there() == OLD


def test_no_study_and_a_plain_copy_of_a_folder_say_what_to_do() -> None:
    fsspec.filesystem("memory").pipe_file("/bucket/study/study.toml", b"name = 'a'\n")
    with pytest.raises(StudyError, match="there is no study") as found:
        there()
    assert "lossary push" in str(found.value)
    with pytest.raises(StudyError, match="there is no study"), working(URL, doing="test"):
        pass


def test_who_watches_sees_new_states_and_who_works() -> None:
    from lossary.folder import StudyFolder
    from lossary.lease import hold, run_lease, who_works

    store(OLD)
    following = Following(URL, Wants.ALL)
    with following as seen:
        assert held(seen) == OLD
        assert who_works(StudyFolder(seen)) == []
        copy = WorkingCopy(URL)
        with Claim(copy.store, doing="train", leases=copy.leases) as claim, copy.opened(claim, Wants.ALL):
            with hold(StudyFolder(copy.root), run_lease("a"), doing="train"):
                claim._write()
                write(copy.root, NEW)
                copy.commit()
                following.refresh()
                assert held(seen) == NEW
                assert [holder.run for holder in who_works(StudyFolder(seen))] == ["a"]
            copy.finish()
        following.refresh()
        assert who_works(StudyFolder(seen)) == []
    assert not seen.exists()


def test_states_and_contents_that_nobody_needs_go(monkeypatch: pytest.MonkeyPatch) -> None:
    from lossary.remote import copies

    monkeypatch.setattr(copies, "_GRACE_S", -1.0)
    for step in range(6):
        store({"study.toml": b"x", "runs/a/w": b"weights of %d" % step})
    system = fsspec.filesystem("memory")
    assert len(system.glob("/bucket/study/manifests/*")) == 2
    assert len(system.glob("/bucket/study/objects/*")) == 3
    assert there()["runs/a/w"] == b"weights of 5"


def test_a_folder_by_its_url_is_written_and_read(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/shelf/study"
    store(OLD, url)
    store(NEW, url)
    assert there(url) == NEW
    assert newest_manifest(ObjectStore(url)).number == 2


@contextmanager
def unchanged() -> Iterator[None]:
    before = dict(fsspec.filesystem("memory").store)
    yield
    after = {name for name in fsspec.filesystem("memory").store if "/claims/" not in name}
    assert after == {name for name in before if "/claims/" not in name}


def test_nothing_new_is_no_new_state() -> None:
    store(OLD)
    with unchanged(), working(URL, doing="test"):
        pass
