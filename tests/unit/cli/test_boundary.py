"""Nothing that a machine does to a command ends in a traceback, or in a code that means something else."""

import ctypes
import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.unit.cli.command import lossary


@pytest.fixture
def scored(synthetic: Callable[..., Any], planted: Any) -> Path:
    study = synthetic({"torch_xxl": "torch", "tf_xxl": "tensorflow"})
    for run in ("torch_xxl", "tf_xxl"):
        study.score(run, {name: planted() for name in ("reform", "views", "dialogue")})
    return Path(study.folder.root)


# What each verb writes to standard output, given a study with scores.
SPEAKING = {
    "--help": (),
    "--version": (),
    "init": ("--schema",),
    "show": ("{study}",),
    "compare": ("torch_xxl", "tf_xxl", "{study}"),
    "check": ("{study}",),
    "report": ("{study}",),
    "export": ("{study}",),
    "import": ("{table}", "--dry-run"),
}


def started(*arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    options: dict[str, Any] = {"text": True, "timeout": 60, "check": False, "stderr": subprocess.PIPE} | more
    return subprocess.run([sys.executable, "-m", "lossary", *arguments], **options)


def one_message(said: str) -> None:
    """What progress there was, then a message of a line and a hint."""
    assert "Traceback" not in said
    assert said.count("lossary: ") == 1, said
    assert len(said[said.index("lossary: ") :].splitlines()) <= 2, said


def spoken(verb: str, study: Path, tmp_path: Path) -> list[str]:
    table = tmp_path / "table.md"
    table.write_text("| dataset | run mlm_loss |\n|---|---|\n| a | 1.5 |\n")
    return [verb, *(word.format(study=study, table=table) for word in SPEAKING[verb])]


@pytest.mark.parametrize("verb", SPEAKING)
def test_standard_output_that_is_full(verb: str, scored: Path, tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        found = started(*spoken(verb, scored, tmp_path), stdout=full)
    one_message(found.stderr)
    assert "standard output: no space left on device" in found.stderr
    assert found.returncode == 3


@pytest.mark.parametrize("verb", ["check", "export"])
def test_a_file_that_is_a_device_is_written_to_and_stays_one(verb: str, scored: Path, tmp_path: Path) -> None:
    found = started(*spoken(verb, scored, tmp_path), "--out", "/dev/full", stdout=subprocess.PIPE)
    one_message(found.stderr)
    assert "/dev/full: no space left on device" in found.stderr
    assert found.returncode == 3
    assert Path("/dev/full").is_char_device()
    into = started(*spoken(verb, scored, tmp_path), "--out", "/dev/stdout", stdout=subprocess.PIPE)
    assert into.stdout.startswith(started(*spoken(verb, scored, tmp_path), stdout=subprocess.PIPE).stdout[:100])


@pytest.mark.parametrize("verb", ["--help", "show", "compare", "export"])
def test_a_reader_that_went_away_is_no_error(verb: str, scored: Path, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    found = started(*spoken(verb, scored, tmp_path), stdout=writer)
    os.close(writer)
    assert (found.returncode, found.stderr) == (0, "")


@pytest.mark.parametrize("verb", ["--help", "show", "export"])
def test_standard_output_that_is_closed(verb: str, scored: Path, tmp_path: Path) -> None:
    command = " ".join(f"'{word}'" for word in [sys.executable, "-m", "lossary", *spoken(verb, scored, tmp_path)])
    found = subprocess.run(f"{command} >&-", shell=True, capture_output=True, text=True, timeout=60, check=False)
    assert (found.returncode, found.stderr) == (0, "")


def test_standard_error_that_is_full_changes_no_code(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        assert started("show", str(tmp_path), stdout=full, stderr=full).returncode == 2


def bound_by_permissions() -> None:
    """Root may read and write everything, unless it gives up the two capabilities that say so."""
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    for path in folders:
        path.chmod(0o555)
    try:
        yield
    finally:
        for path in folders:
            path.chmod(0o755)


@pytest.mark.parametrize(
    ("verb", "where"),
    [("prepare", "leases"), ("init", "study.toml"), ("report", "report"), ("diagnose", "diagnosis")],
)
def test_a_folder_that_is_read_only(
    verb: str, where: str, scored: Path, tmp_path: Path, write_study: Any, prepared: Any
) -> None:
    folder = {"prepare": tmp_path / "own", "init": tmp_path / "empty"}.get(verb, scored)
    folder.mkdir(exist_ok=True)
    if verb == "prepare":
        write_study(folder)
    if verb == "diagnose":
        shutil.copytree(prepared[1].root, folder, dirs_exist_ok=True)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    sides = ("torch", "reference") if verb == "diagnose" else ()
    with read_only(folder):
        found = started(verb, *sides, str(folder), preexec_fn=bound_by_permissions, stdout=subprocess.PIPE)
    one_message(found.stderr)
    assert found.returncode == 3
    assert "permission denied" in found.stderr
    assert where in found.stderr
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


@pytest.mark.parametrize("name", ["study.toml", "validation/manifest.json", "runs/torch_xxl/scores/00000100.parquet"])
def test_a_file_that_may_not_be_read(name: str, scored: Path) -> None:
    (scored / name).chmod(0)
    found = started("show", str(scored), preexec_fn=bound_by_permissions, stdout=subprocess.PIPE)
    assert found.returncode == 3
    one_message(found.stderr)
    assert name in found.stderr
    assert "permission denied" in found.stderr.lower()


@pytest.mark.parametrize("target", ["study.toml", "validation", "runs/torch_xxl/scores/00000100.parquet"])
def test_a_link_that_leads_to_itself(target: str, scored: Path) -> None:
    path = scored / target
    path.rename(scored / "aside")
    path.symlink_to(path)
    found = lossary("show", str(scored))
    assert found.returncode in (2, 3)
    assert found.stderr.startswith("lossary: ")


def test_files_larger_than_the_limit(tmp_path: Path, write_study: Any) -> None:
    write_study(tmp_path)
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))  # noqa: E731
    found = started("prepare", str(tmp_path), preexec_fn=limit, stdout=subprocess.PIPE)
    one_message(found.stderr)
    assert found.returncode == 3
    assert "file too large" in found.stderr
    assert not [path for path in tmp_path.rglob("*") if path.suffix == ".tmp"]
    assert lossary("prepare", str(tmp_path)).returncode == 0


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_command_in_order(kind: signal.Signals, tmp_path: Path, write_study: Any) -> None:
    write_study(tmp_path)
    script = (
        "import os, sys, lossary.data.prepare as p\n"
        f"p.make_tokenizer = lambda *_: os.kill(os.getpid(), {int(kind)}) or __import__('time').sleep(30)\n"
        "from lossary.cli.main import main\n"
        f"sys.argv = ['lossary', 'prepare', {str(tmp_path)!r}]\nmain()"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert found.returncode == 130
    assert found.stderr.endswith("lossary: interrupted\n")
    assert "Traceback" not in found.stderr


@pytest.mark.parametrize("wish", ["", "1"])
def test_a_mistake_of_our_own_says_so_and_keeps_its_traceback(wish: str, scored: Path, tmp_path: Path) -> None:
    script = (
        "import sys, lossary.tables.load as load\n"
        "def broken(*_, **__): raise KeyError('planted')\n"
        "load.open_table = broken\n"
        f"sys.argv = ['lossary', 'show', {str(scored)!r}]\n"
        "from lossary.cli.main import main\nmain()"
    )
    environment = dict(os.environ) | {"TMPDIR": str(tmp_path), "LOSSARY_TRACEBACK": wish}
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False, env=environment
    )
    assert found.returncode == 70
    kept = list(tmp_path.glob("lossary-traceback-*.txt"))
    assert ("Traceback" in found.stderr) == bool(wish)
    assert "KeyError: 'planted'" in found.stderr
    assert len(kept) == (not wish)
    if not wish:
        one_message(found.stderr)
        assert str(kept[0]) in found.stderr
        assert "broken" in kept[0].read_text()


def test_the_errno_of_every_refusal_is_said() -> None:
    from lossary.failures import explain

    for code in (errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO, errno.ENAMETOOLONG, errno.EMFILE, errno.ELOOP):
        told = explain(OSError(code, os.strerror(code), "/some/file"))
        assert told is not None
        assert told.exit_code == 3
        assert told.where == "/some/file"
        assert told.message == os.strerror(code).lower()
        assert told.hint


def test_a_disk_without_room_for_files_is_not_said_to_have_space(monkeypatch: pytest.MonkeyPatch) -> None:
    from lossary.failures import explain

    found = os.statvfs("/tmp")
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result([*found[:5], 100, 0, 0, *found[8:10]]))
    told = explain(OSError(errno.ENOSPC, "", "/tmp/a"))
    assert told is not None
    assert "too many files" in (told.hint or "")


def test_what_stands_in_the_way_of_a_file_or_a_folder_is_named(tmp_path: Path) -> None:
    from lossary.failures import explain

    (tmp_path / "runs").write_text("a file")
    (tmp_path / "logs").symlink_to("nowhere")
    (tmp_path / "study.toml").mkdir()
    (tmp_path / "scores").mkdir()
    blocked: dict[str, tuple[Path, str]] = {
        "runs": (tmp_path / "runs" / "a" / "scores", "a folder is expected here, and there is a file"),
        "logs": (tmp_path / "logs", "a link leads to nowhere, which is not there"),
        "study.toml": (tmp_path / "study.toml", "a file is expected here, and there is a folder"),
    }
    for name, (path, said) in blocked.items():
        with pytest.raises(OSError) as caught:  # noqa: PT011
            path.write_text("") if name == "study.toml" else path.mkdir()
        told = explain(caught.value)
        assert told is not None
        assert (told.message, told.where) == (said, str(tmp_path / name))
    told = explain(FileExistsError(errno.EEXIST, "", str(tmp_path / "scores" / "x")))
    assert told is not None
    assert told.message == "file exists"
