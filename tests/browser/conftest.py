"""A real browser (Debian's chromium, driven by Playwright), and reports to look at with it."""

import os
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from lossary.dashboard.app import create_app
from lossary.findings.folder import check_table, with_base
from lossary.reports.page import write_report
from lossary.tables.load import open_table

from .studies import special_studies
from .visits import Open, opening


def chromium() -> str | None:
    """The browser's path."""
    return next((path for name in ("chromium", "chromium-browser") if (path := shutil.which(name))), None)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """The browser; without one the tests are skipped, and say so."""
    path = chromium()
    if path is None:
        pytest.skip("NOT TESTED IN A BROWSER: there is no chromium (`apt-get install chromium`)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # The sandbox needs a user that is not root.
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Reports by what is special about their study."""
    studies = special_studies(tmp_path_factory.mktemp("reports"), most_datasets=12)
    return {name: _report(path) for name, path in studies.items()}


def _report(path: Path) -> Path:
    opened = with_base(open_table(path))
    written = write_report(opened, check_table(opened, where="study"))
    assert written.html is not None, written.note
    return written.html


@pytest.fixture
def visit(browser: Any, reports: dict[str, Path]) -> Iterator[Open]:
    """Opens a report, which asks for nothing but itself."""
    with opening(browser) as start:

        def of(name: str, **options: Any) -> Any:
            url = reports[name].as_uri()
            return start(url, may_ask=lambda asked: asked.split("#")[0] == url, **options)

        yield of


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Studies by what is special about them; `live` is written to by tests."""
    root = tmp_path_factory.mktemp("dashboard")
    found = special_studies(root, most_datasets=30)
    shutil.copytree(found["plain"], root / "live")
    return found | {"live": root / "live"}


@pytest.fixture(scope="module")
def origin(folders: dict[str, Path]) -> Iterator[str]:
    """The address of a dashboard of all studies."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(create_app(list(folders.values())), log_level="warning", access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join()
    listening.close()


@pytest.fixture
def look(browser: Any, origin: str) -> Iterator[Open]:
    """Opens a page of the dashboard, which asks its own origin only."""
    with opening(browser) as start:

        def at(address: str, **options: Any) -> Any:
            return start(f"{origin}/s/{address}", may_ask=lambda url: url.startswith(f"{origin}/"), **options)

        yield at
