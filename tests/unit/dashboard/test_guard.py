"""Who may ask, for what and under which name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from lossary.dashboard.app import create_app
from lossary.errors import UsageError

TOKEN = "a-token-of-enough-characters"


@pytest.fixture
def study(synthetic: Callable[..., Any], planted: Any) -> Path:
    made = synthetic({"tf_a": "tensorflow", "torch_a": "torch"})
    for run in ("tf_a", "torch_a"):
        made.score(run, {name: planted() for name in ("reform", "views", "dialogue")})
    return Path(made.folder.root)


def client(
    study: Path, *, host: str = "127.0.0.1", token: str | None = None, base: str = "http://localhost:8000"
) -> TestClient:
    return TestClient(create_app([study], host=host, token=token), base_url=base, follow_redirects=False)


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8000", "127.0.0.1:9", "LOCALHOST", "[::1]:8000", "localhost."]
)
def test_this_machine_is_asked_under_its_own_names(study: Path, host: str) -> None:
    assert client(study).get("/s/synthetic/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.nip.io",
        "",
        "localhost:x",
        "[::1",
        "10.0.0.1",
        "a@localhost",
    ],
)
def test_another_name_is_refused(study: Path, host: str) -> None:
    found = client(study).get("/s/synthetic/", headers={"host": host})
    assert found.status_code == 400
    assert "reform" not in found.text


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"])
def test_only_reading_is_possible(study: Path, method: str) -> None:
    found = client(study).request(method, "/s/synthetic/")
    assert (found.status_code, found.headers["allow"]) == (405, "GET, HEAD")


def test_a_head_has_the_headers_and_no_body(study: Path) -> None:
    found = client(study).head("/s/synthetic/")
    assert (found.status_code, found.content) == (200, b"")
    assert found.headers["etag"]


@pytest.mark.parametrize(
    "path", ["/s/synthetic/", "/s/synthetic/state.json", "/nothing", "/assets/page.js", "/assets/x", "/"]
)
def test_every_answer_has_the_headers(study: Path, path: str) -> None:
    headers = client(study).get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "access-control-allow-origin" not in headers
    assert headers["cache-control"]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org"])
def test_beyond_this_machine_a_token_is_needed(study: Path, host: str) -> None:
    with pytest.raises(UsageError, match="token"):
        create_app([study], host=host)


def test_a_bearer_opens_and_anything_else_does_not(study: Path) -> None:
    asked = client(study, host="0.0.0.0", token=TOKEN, base="http://10.1.2.3:8000")
    assert asked.get("/s/synthetic/").status_code == 401
    for wrong in (f"Bearer {TOKEN}x", "Bearer", f"Basic {TOKEN}", TOKEN, "Bearer \xe9"):
        assert asked.get("/s/synthetic/", headers={"authorization": wrong.encode("latin-1")}).status_code == 401
    assert asked.get("/s/synthetic/", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert asked.get("/s/synthetic/?token=wrong").status_code == 401
    assert asked.get("/s/synthetic/", headers={"cookie": f"lossary_8000={TOKEN}"}).status_code == 401
    assert (
        asked.get("/s/synthetic/", headers={"host": "evil.example", "authorization": f"Bearer {TOKEN}"}).status_code
        == 400
    )


def test_a_token_in_the_address_becomes_a_cookie_and_leaves_the_address(study: Path) -> None:
    asked = client(study, host="0.0.0.0", token=TOKEN, base="http://10.1.2.3:8000")
    found = asked.get(f"/s/synthetic/run?name=tf_a&token={TOKEN}")
    assert (found.status_code, found.headers["location"]) == (303, "/s/synthetic/run?name=tf_a")
    cookie = found.headers["set-cookie"]
    assert TOKEN not in cookie
    assert "HttpOnly" in cookie
    assert asked.get("/s/synthetic/run?name=tf_a").status_code == 200
    outward = asked.get(f"//evil.example/?token={TOKEN}").headers["location"]
    assert outward.startswith("/")
    assert not outward.startswith("//")


def test_a_token_is_asked_for_on_this_machine_too_if_there_is_one(study: Path) -> None:
    asked = client(study, token=TOKEN)
    for path in ("/", "/s/synthetic/", "/s/synthetic/state.json", "/s/synthetic/report.html", "/assets/page.js", "/x"):
        assert asked.get(path).status_code == 401
