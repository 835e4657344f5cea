"""Studies on S3, by PyArrow's client against moto's server, which also fails, stalls and breaks off."""

import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lossary.errors import StoreError, StudyError
from lossary.remote.copies import working
from lossary.remote.readers import reading
from lossary.remote.wants import Wants

pytest.importorskip("moto")
FILES = {
    "study.toml": b"name = 'a'\n",
    "runs/a/run.json": b"{}",
    "runs/a/checkpoints/step-1/w": bytes(range(256)) * 9000,
}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.s3_server"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    process.terminate()
    process.wait()
    process.stdout.close()


@pytest.fixture
def faults(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, int], int]]:
    """Sets which answers fail; gives how many did since the last call."""
    for name, value in {
        "AWS_ENDPOINT_URL": server,
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    urllib.request.urlopen(urllib.request.Request(f"{server}/bucket", method="PUT")).close()

    def set_faults(kind: str, every: int) -> int:
        with urllib.request.urlopen(f"{server}/_faults/{kind}/{every}") as answer:
            return int(answer.read())

    yield set_faults
    set_faults("none", 1)


def write(root: Path) -> None:
    for name, data in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)


def held(url: str) -> dict[str, bytes]:
    with reading(url, Wants.ALL) as root:
        return {name: (root / name).read_bytes() for name in FILES}


@pytest.mark.parametrize(("kind", "every"), [("none", 1), ("error", 3), ("stall", 4), ("broken", 1)])
def test_a_study_is_written_and_read_whatever_answers_are_like(
    kind: str, every: int, faults: Callable[[str, int], int], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"s3://bucket/{kind}/study"
    faults(kind, every)
    with working(url, doing="test", is_new=True) as root:
        write(root)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache / "elsewhere"))
    assert held(url) == FILES
    injected = faults("none", 1)
    assert injected > 0 or kind == "none"


def test_what_is_wrong_with_a_place_is_told(faults: Callable[[str, int], int], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StudyError, match="there is no study"):
        held("s3://bucket/nothing")
    with pytest.raises(StoreError, match="there is no such bucket"):
        held("s3://no-such-bucket/study")
    with pytest.raises(StoreError, match="there is no such bucket"), working("s3://no-such-bucket/study", doing="test"):
        pass
    faults("error", 1)
    with pytest.raises(StoreError, match="did not answer, 6 times"):
        held("s3://bucket/study")
    faults("none", 1)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    with pytest.raises(StoreError, match="no permission, or no credentials"):
        held("s3://bucket/study")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StoreError, match="did not answer, 6 times"):
        held("s3://bucket/study")
