"""What stands and who works, told of whole, half-made, damaged and working studies."""

import json
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.scored import score_run
from tests.unit.cli.command import lossary
from typer.testing import CliRunner

from lossary.cli.main import app
from lossary.errors import StudyError, UsageError
from lossary.files import read_json, write_json
from lossary.folder import StudyFolder
from lossary.lease import STUDY, hold, run_lease
from lossary.status import Status, status_of
from lossary.study import Study

HOLD = """
import sys
from pathlib import Path
from lossary.folder import StudyFolder
from lossary.lease import hold
with hold(StudyFolder(Path(sys.argv[1])), sys.argv[2], doing="train"):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def folder(prepared: tuple[Study, StudyFolder], tmp_path: Path) -> StudyFolder:
    root = shutil.copytree(prepared[1].root, tmp_path / "study", ignore=shutil.ignore_patterns("diagnosis", "runs"))
    score_run(StudyFolder(root), "torch_a")
    return StudyFolder(root)


def told(folder: StudyFolder) -> str:
    """As a user sees it; the same as JSON is well-formed."""
    runner = CliRunner()
    found = runner.invoke(app, ["status", str(folder.root)])
    assert found.exit_code == 0, found.output
    value = json.loads(runner.invoke(app, ["status", "--json", str(folder.root)]).output)
    assert value["schema"] == 1
    return found.output


def problems(found: Status) -> list[str]:
    return [Path(problem.where.split(":")[0]).name for problem in found.problems]


def test_what_stands(folder: StudyFolder) -> None:
    found = status_of(folder.root)
    assert (found.name, found.tokenizer, found.vocabulary_size) == ("tiny", "made", 120)
    assert [(one.name, one.state, one.validation) for one in found.datasets] == [
        ("pairs", "made", "made"),
        ("stories", "made", "made"),
        ("lines", "made", "made"),
    ]
    assert all(one.documents == 300 and one.training_examples[32] > 0 for one in found.datasets)
    assert sum(one.validation_examples or 0 for one in found.datasets) == 60
    assert [run.state for run in found.runs] == ["scored", "waiting", "waiting"]
    assert found.problems == ()
    assert "train torch_a, tf_a, torch_stories" in found.next.text
    assert "scored at" in told(folder)


def test_a_study_of_which_nothing_is_made(tiny_folder: StudyFolder) -> None:
    found = status_of(tiny_folder.root)
    assert found.tokenizer == "missing"
    assert {one.state for one in found.datasets} == {"missing"}
    assert found.next.text.startswith("train the tokenizer; prepare pairs, stories, lines; freeze")
    assert found.next.kind == "work"
    assert found.problems == ()


def test_where_there_is_no_study(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="no such study file"):
        status_of(tmp_path)
    (tmp_path / "imported.json").write_text("{}")
    with pytest.raises(UsageError, match="imported"):
        status_of(tmp_path)


def rewritten(path: str, text: str | bytes) -> Callable[[StudyFolder], None]:
    def damage(folder: StudyFolder) -> None:
        found = sorted(folder.root.glob(path))
        assert found, path
        found[0].write_bytes(text.encode() if isinstance(text, str) else text)

    return damage


def planted(path: str, text: str) -> Callable[[StudyFolder], None]:
    def damage(folder: StudyFolder) -> None:
        (folder.root / path).parent.mkdir(parents=True, exist_ok=True)
        (folder.root / path).write_text(text)

    return damage


def gone(path: str) -> Callable[[StudyFolder], None]:
    def damage(folder: StudyFolder) -> None:
        found = sorted(folder.root.glob(path))
        assert found, path
        shutil.rmtree(found[0]) if found[0].is_dir() else found[0].unlink()

    return damage


def well_formed(path: str, change: dict[str, Any]) -> Callable[[StudyFolder], None]:
    """Checksums and seals fit; what is said does not."""

    def damage(folder: StudyFolder) -> None:
        file = folder.root / path
        content = read_json(file) | change
        content.pop("seal", None)
        write_json(file, content | {"schema": 1})

    return damage


DAMAGED = {
    "study file is no TOML": (rewritten("study.toml", "name ="), "study.toml"),
    "study file of bytes": (rewritten("study.toml", b"\xff\xfe\x00"), "study.toml"),
    "study file is gone": (gone("study.toml"), "study.toml"),
    "unknown key": (rewritten("study.toml", "nam = 1"), "study.toml"),
    "tokenizer's manifest": (rewritten("tokenizer/manifest.json", "{"), "manifest.json"),
    "tokenizer's manifest is a list": (rewritten("tokenizer/manifest.json", "[]"), ""),
    "tokenizer's model": (gone("tokenizer/spiece.model"), "spiece.model"),
    "a dataset's manifest": (rewritten("prepared/lines/manifest.json", "{}"), "manifest.json"),
    "a dataset's manifest is a number": (rewritten("prepared/lines/manifest.json", "3"), "manifest.json"),
    "a dataset's counts are words": (well_formed("prepared/lines/manifest.json", {"documents": "many"}), ""),
    "a dataset's shards are no list": (well_formed("prepared/lines/manifest.json", {"shards": 3}), ""),
    "a shard": (gone("prepared/lines/documents-*.arrow"), "documents-00000.arrow"),
    "spans": (rewritten("prepared/lines/spans-32/manifest.json", "null"), "manifest.json"),
    "validation": (rewritten("validation/manifest.json", "x"), "manifest.json"),
    "validation lists nothing": (well_formed("validation/manifest.json", {"per_dataset": [], "parts": {}}), None),
    "a validation part": (gone("validation/lines"), "lines"),
    "another validation part": (well_formed("validation/lines/manifest.json", {"digest": "blake2b:0"}), "lines"),
    "a run's record": (planted("runs/torch_a/run.json", '{"recipe":'), "run.json"),
    "steps": (planted("runs/torch_a/steps.parquet", "PAR1"), "steps.parquet"),
    "steps are a folder": (planted("runs/torch_a/steps.parquet/x", ""), None),
    "a checkpoint that is none": (planted("runs/torch_a/checkpoints/step-last/state.json", "{}"), None),
    "scores that are none": (planted("runs/torch_a/scores/newest.parquet", ""), None),
    "an ending": (planted("logs/torch_a.train.ended.json", "{"), "torch_a.train.ended.json"),
    "a lease": (planted("leases/study.json", "{"), "study.json"),
    "a lease of other types": (planted("leases/run-torch_a.json", '{"pid": "x", "inode": 3}'), "run-torch_a.json"),
    "a run that is a file": (planted("runs/tf_a", "what?"), None),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_told_and_the_rest_as_well(folder: StudyFolder, name: str) -> None:
    damage, culprit = DAMAGED[name]
    damage(folder)
    found = status_of(folder.root)
    if culprit is not None:
        assert culprit in problems(found)
    shown = told(folder)
    assert ("problem:" in shown) == bool(found.problems)
    assert "`lossary run` would: " in shown
    # What is not damaged is told.
    assert {one.name for one in found.datasets} == {"pairs", "stories", "lines"}
    assert next(one for one in found.datasets if one.name == "pairs").state == "made"
    if found.name is None:
        assert found.next.kind == "refused"
        assert found.others == ("torch_a",)


def test_a_change_that_would_lose_something_is_refused(folder: StudyFolder) -> None:
    file = folder.study_file
    file.write_text(file.read_text().replace("vocabulary_size = 120", "vocabulary_size = 121"))
    found = status_of(folder.root)
    assert found.next.kind == "refused"
    assert "tokenizer" in found.next.text


def test_sources_are_not_read_for_long(folder: StudyFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lossary.data.contents._QUICKLY_READ", 0)
    found = status_of(folder.root)
    assert (found.next.kind, found.problems) == ("unknown", ())
    assert "pairs.jsonl: it may have changed" in found.next.text


def test_who_works_is_told_while_it_works_and_after_a_kill(folder: StudyFolder) -> None:
    command = [sys.executable, "-c", HOLD, str(folder.root), run_lease("tf_a")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "held"
        found = status_of(folder.root)
        (holder,) = found.leases.working
        assert (holder.pid, holder.run, holder.doing) == (process.pid, "tf_a", "train")
        assert found.runs[1].state == "training"
        assert "leave out tf_a, which others work on" in found.next.text
        assert "train torch_a, torch_stories;" in found.next.text
        assert f"works now: process {process.pid} of " in told(folder)
        process.send_signal(signal.SIGKILL)
        process.wait()
        found = status_of(folder.root)
        assert found.leases.working == []
        assert [left.pid for left in found.leases.left] == [process.pid]
        assert found.runs[1].killed is not None
        shown = told(folder)
        assert f"gone: process {process.pid} of " in shown
        assert "killed" in shown


def test_data_in_the_making_is_told(folder: StudyFolder) -> None:
    with hold(folder, STUDY, doing="prepare"):
        found = status_of(folder.root)
        assert found.next.kind == "busy"
        assert "prepares the study since" in told(folder)


def test_names_that_would_move_the_cursor_are_shown_harmless(folder: StudyFolder) -> None:
    with hold(folder, run_lease("torch_a")):
        record = read_json(folder.leases / "run-torch_a.json")
        write_json(folder.leases / "run-torch_a.json", record | {"command": "a\x1b[2Jb\nc"})
        shown = told(folder)
        assert "a·[2Jb·c" in shown
        assert "\x1b" not in shown


def test_files_that_come_and_go_meanwhile(folder: StudyFolder) -> None:
    """No state of a study in motion ends in an error."""
    stop = threading.Event()
    lines, scores = folder.dataset("lines"), folder.scores("torch_a", 12)

    def move() -> None:
        while not stop.is_set():
            for path in (lines, scores):
                path.rename(path.with_name(".aside"))
                path.with_name(".aside").rename(path)

    mover = threading.Thread(target=move)
    mover.start()
    try:
        for _ in range(40):
            assert len(status_of(folder.root).datasets) == 3
    finally:
        stop.set()
        mover.join()


def test_nothing_is_written_and_no_framework_loaded(folder: StudyFolder) -> None:
    def state() -> dict[str, tuple[int, int]]:
        return {str(path): (path.lstat().st_mtime_ns, path.lstat().st_size) for path in sorted(folder.root.rglob("*"))}

    before = state()
    code = f"""
import sys
from lossary.cli.main import main
sys.argv = ["lossary", "status", {str(folder.root)!r}]
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
heavy = [name for name in ("torch", "tensorflow", "keras", "jax", "duckdb", "scipy", "altair") if name in sys.modules]
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    assert state() == before


def test_an_unfit_argument_is_one_line(tmp_path: Path) -> None:
    found = lossary("status", str(tmp_path))
    assert found.returncode == 2
    assert "no such study file" in found.stderr
