"""Progress on standard error: for eyes, for a log, for a program, or not at all; it never stops the work."""

import io
import json
import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from tests.unit.cli.command import lossary

from lossary.cli.common import Style
from lossary.cli.progress import JsonListener, TerminalListener, listener_of
from lossary.errors import DataError

# Every kind of event, and the keys that it always has; `docs/operating.md` documents them.
KEYS = {
    "progress": {"event", "time", "stage", "run", "done", "total"},
    "note": {"event", "time", "run", "text"},
    "error": {"event", "time", "kind", "message", "where", "hint"},
    "done": {"event", "time"},
}
MORE = {"prepare": {"text"}, "train": {"tokens_per_s", "eta_s", "loss"}, "evaluate": set()}
TRAINING = {
    "event": "progress",
    "run": "a",
    "step": 3,
    "steps": 12,
    "tokens_per_s": 10.5,
    "eta_s": None,
    "loss": {"lines": {"mlm": 4.5, "sop": None}},
}


def objects(text: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in text.splitlines()]
    for one in found:
        more = MORE[one["stage"]] if one["event"] == "progress" else set()
        assert KEYS[one["event"]] <= set(one) <= KEYS[one["event"]] | more, one
        assert datetime.fromisoformat(one["time"]).tzinfo is not None
    return found


def test_every_event_is_an_object_as_documented() -> None:
    stream = io.StringIO()
    with JsonListener(stream) as listener:
        listener.progress("lines: 5 MB", 5.0, None)
        listener.event("a", TRAINING)
        listener.event("a", {"event": "progress", "run": "a", "done": 5, "total": 60, "examples_per_s": 3.0})
        listener.event("a", {"event": "note", "text": "goes on"})
        listener.event("a", {"event": "ready"})
        listener.note("a\nb")
    found = objects(stream.getvalue())
    assert [one["event"] for one in found] == ["progress", "progress", "progress", "note", "note", "done"]
    assert [one.get("stage") for one in found[:3]] == ["prepare", "train", "evaluate"]
    assert (found[1]["done"], found[1]["total"], found[1]["loss"]) == (3, 12, TRAINING["loss"])
    documented = (Path(__file__).parents[3] / "docs" / "operating.md").read_text(encoding="utf-8")
    assert all(f"`{key}`" in documented for keys in (*KEYS.values(), *MORE.values()) for key in keys)


@pytest.mark.parametrize(
    ("error", "code", "kind"),
    [
        (DataError("gone", where="x", hint="look"), 3, "DataError"),
        (OSError(28, "No space left on device", "/x"), 3, "MachineError"),
        (KeyboardInterrupt(), 130, "Interrupted"),
    ],
)
def test_an_error_is_an_object_and_keeps_its_code(error: BaseException, code: int, kind: str) -> None:
    stream = io.StringIO()
    with pytest.raises(SystemExit) as caught, JsonListener(stream):
        raise error
    (told,) = objects(stream.getvalue())
    assert (caught.value.code, told["kind"]) == (code, kind)


def test_a_mistake_of_our_own_is_left_to_the_boundary() -> None:
    with pytest.raises(KeyError), JsonListener(io.StringIO()):
        raise KeyError("planted")


class Broken(io.StringIO):
    def write(self, _: str) -> int:
        raise BrokenPipeError


@pytest.mark.parametrize("style", [None, *Style])
def test_nobody_who_reads_stops_no_work(style: Style | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", Broken())
    with listener_of(style, quiet=False) as listener:
        listener.progress("lines", 1, 2)
        listener.event("a", TRAINING)
        listener.note("a note")


@pytest.mark.parametrize(
    ("style", "quiet", "has_progress", "has_notes"),
    [
        (None, False, True, True),
        (Style.PLAIN, False, True, True),
        (Style.JSON, False, True, True),
        (Style.NONE, False, False, True),
        *((style, True, False, False) for style in (None, *Style)),
    ],
)
def test_what_is_told(
    style: Style | None, quiet: bool, has_progress: bool, has_notes: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    with listener_of(style, quiet=quiet) as listener:
        listener.event("a", TRAINING)
        listener.note("a note")
    said = capsys.readouterr()
    assert said.out == ""
    assert ("12" in said.err) == has_progress
    assert ("a note" in said.err) == has_notes


def test_bars_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with TerminalListener(Style.BARS) as listener:
        listener.event("a", TRAINING)
    assert "━" in capsys.readouterr().err


@pytest.fixture
def study(tmp_path: Path, write_study: Callable[..., None]) -> Path:
    write_study(tmp_path)
    return tmp_path


def test_a_program_can_follow_a_command(study: Path) -> None:
    found = lossary("prepare", "--progress", "json", str(study))
    assert found.returncode == 0
    told = objects(found.stderr)
    assert told[-1]["event"] == "done"
    assert {one["stage"] for one in told if one["event"] == "progress"} == {"prepare"}
    found = lossary("evaluate", "--progress", "json", str(study))
    assert found.returncode == 3
    assert objects(found.stderr)[-1]["event"] == "error"


def test_quiet_says_errors_alone(study: Path) -> None:
    found = lossary("prepare", "-q", str(study))
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")
    found = lossary("evaluate", "-q", str(study))
    assert found.returncode == 3
    assert "lossary: " in found.stderr


def test_a_key_is_set_for_one_command(study: Path) -> None:
    before = (study / "study.toml").read_bytes()
    assert lossary("prepare", "-q", "--set", "validation.examples=30", str(study)).returncode == 0
    assert json.loads((study / "validation" / "manifest.json").read_text())["examples"] <= 30
    assert (study / "study.toml").read_bytes() == before
    found = lossary("prepare", "--set", "recipe.stepz=50", str(study))
    assert found.returncode == 2
    assert found.stderr.startswith("lossary: --set recipe.stepz=50: unknown key 'stepz'")
    assert "Did you mean 'steps'?" in found.stderr


@pytest.mark.frameworks
def test_a_worker_trains_the_study_as_it_is_set(prepared: Any, tmp_path: Path) -> None:
    study = Path(shutil.copytree(prepared[1].root, tmp_path / "study"))
    settings = ("--run", "torch_a", "--set", "recipe.steps=2", "--set", "runs.torch_a.batch_size=4")
    found = lossary("train", *settings, "--progress", "json", str(study), timeout_s=240)
    assert found.returncode == 0, found.stderr
    told = [one for one in objects(found.stderr) if one.get("stage") == "train"]
    assert {one["total"] for one in told} == {2}
    assert [path.name for path in (study / "runs" / "torch_a" / "checkpoints").iterdir()][-1] == "step-00000002"
    assert json.loads((study / "runs" / "torch_a" / "run.json").read_text())["recipe"]["batch_size"] == 4
