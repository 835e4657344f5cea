"""`lossary serve` as a user types it."""

import http.client
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.unit.cli.command import lossary

TOKEN = "a-token-of-enough-characters"


@pytest.fixture
def study(synthetic: Callable[..., Any], planted: Any) -> Path:
    made = synthetic({"tf_a": "tensorflow"})
    made.score("tf_a", {name: planted() for name in ("reform", "views", "dialogue")})
    return Path(made.folder.root)


@dataclass
class Served:
    """A dashboard in a process of its own; `said` is all that it wrote, once it has ended."""

    port: int
    said: str
    code: int | None = None


@contextmanager
def serving(*arguments: str) -> Iterator[Served]:
    command = [sys.executable, "-m", "lossary", "serve", *arguments, "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        first = process.stderr.readline()
        port = urlsplit(next(word for word in first.split() if word.startswith("http")).rstrip(";")).port
        served = Served(port or 0, first)
        try:
            yield served
        finally:
            process.send_signal(signal.SIGINT)
            served.said += "".join(process.communicate(timeout=20))
            served.code = process.returncode


def get(port: int, path: str, **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    found = answer.status, answer.read().decode()
    connection.close()
    return found


def test_it_serves_and_stops_at_ctrl_c(study: Path) -> None:
    with serving(str(study)) as served:
        assert "127.0.0.1" in served.said
        status, page = get(served.port, "/s/synthetic/")
        assert (status, "reform" in page) == (200, True)
        assert get(served.port, "/s/synthetic/", host="evil.example")[0] == 400
    assert served.code in (0, 130)
    assert "Traceback" not in served.said


def test_a_token_is_asked_for_and_never_written(study: Path) -> None:
    with serving(str(study), "--token", TOKEN) as served:
        assert get(served.port, "/s/synthetic/")[0] == 401
        assert get(served.port, f"/s/synthetic/?token={TOKEN}")[0] == 303
        assert get(served.port, "/s/synthetic/?token=wrong-token-wrong-token")[0] == 401
        assert get(served.port, "/s/synthetic/", authorization=f"Bearer {TOKEN}")[0] == 200
    assert TOKEN not in served.said


def test_mistakes_have_one_message(study: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        found = lossary("serve", str(study), "--port", port)
        assert (found.returncode, "cannot listen" in found.stderr) == (2, True)
    for arguments, message in (
        ([str(tmp_path / "nothing")], "neither a study nor imported tables"),
        ([str(study), "--host", "0.0.0.0"], "a token is needed"),
        ([str(study), "--host", "0.0.0.0", "--token", "short"], "the token has 5 characters"),
        ([str(study), "--host", "no.such.host.invalid", "--token", TOKEN], "cannot listen"),
    ):
        found = lossary("serve", *arguments, "--port", "0")
        assert (found.returncode, message in found.stderr) == (2, True), found.stderr


def test_without_its_packages_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, study: Path) -> None:
    import importlib.util

    from lossary.cli.serve import serve
    from lossary.errors import MissingPackage

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "starlette" else find(name))
    with pytest.raises(MissingPackage, match="starlette") as found:
        serve([study])
    assert found.value.hint == 'Install: pip install "lossary[serve]"'


def test_the_verb_is_known_without_loading_a_server() -> None:
    code = "import sys, lossary.cli.main; sys.exit(bool({'starlette', 'uvicorn', 'jinja2'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
