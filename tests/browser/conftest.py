"""A real browser (Debian's chromium, driven by Playwright), and pages to look at with it."""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from lossary.findings.folder import check_table, with_base
from lossary.reports.page import write_report
from lossary.results.importers.names import parse_maps
from lossary.results.importers.recognise import read_any
from lossary.tables.imported import save_import
from lossary.tables.load import open_table

from .studies import Shape, write_study

HOSTILE = "<img src=x onerror=alert(1)> \u202e & \"'`"


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
    root = tmp_path_factory.mktemp("reports")
    studies = {
        "plain": write_study(root / "plain", Shape()),
        "hostile": write_study(root / "hostile", Shape(missing=True), name=HOSTILE, link="javascript:alert(1)"),
        "bare": write_study(root / "bare", Shape(runs=1, sop=False)),
        "wide": write_study(root / "wide", Shape(runs=60, datasets=12, examples=4, steps=20)),
        "imported": _imported(root / "imported"),
    }
    return {name: _report(path) for name, path in studies.items()}


def _imported(root: Path) -> Path:
    root.mkdir()
    cell = HOSTILE.replace("|", "")
    lines = [
        f"| dataset | train rows | val % | {cell} MLM loss | other MLM loss |",
        "|---|---|---|---|---|",
        f"| {cell} | 1000 | 40 | [1.5](javascript:alert(1)) | 2.5 |",
        "| [second](data:text/html,x) | 2000 | 60 | — | [3.5](https://example.org/run) |",
    ]
    path = root / "page.md"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    save_import(root, HOSTILE, [read_any(path, parse_maps([]))])
    return root


def _report(path: Path) -> Path:
    opened = with_base(open_table(path))
    written = write_report(opened, check_table(opened, where="study"))
    assert written.html is not None, written.note
    return written.html


@dataclass
class Visit:
    """A page that is open, and everything it did that it should not."""

    page: Any
    wrong: list[str] = field(default_factory=list)

    def drawn(self) -> None:
        """Waits until every chart that is in a visible part was drawn by the engine."""
        self.page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
        for figure in self.page.locator("figure[data-chart]").all():
            figure.scroll_into_view_if_needed()
        self.until("[...document.querySelectorAll('figure[data-chart]')].every((f) => f.dataset.drawn === 'true')")

    def until(self, expression: str) -> Any:
        """Waits for an expression to be true; Playwright's own waiting would need `eval`, which the page forbids."""
        for _ in range(200):
            value = self.page.evaluate(expression)
            if value:
                return value
            self.page.wait_for_timeout(100)
        raise AssertionError(f"never true: {expression}")


WATCH = """
window.violations = [];
addEventListener("securitypolicyviolation", (event) => violations.push(`${event.violatedDirective} ${event.sample}`));
"""


@pytest.fixture
def visit(browser: Any, reports: dict[str, Path]) -> Iterator[Callable[..., Visit]]:
    """Opens a report; at the end nothing may have gone wrong."""
    visits: list[Visit] = []
    contexts = []

    def start(name: str, **options: Any) -> Visit:
        options = {"viewport": {"width": 1280, "height": 900}} | options
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        found = Visit(page)
        url = reports[name].as_uri()
        page.on("console", lambda m: found.wrong.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: found.wrong.append(str(error)))
        page.on("dialog", lambda dialog: found.wrong.append(f"dialog: {dialog.message}"))
        page.on("request", lambda r: found.wrong.append(r.url) if r.url.split("#")[0] != url else None)
        page.add_init_script(WATCH)
        page.goto(url)
        visits.append(found)
        return found

    yield start
    try:
        for found in visits:
            if found.page.evaluate("typeof violations") == "object":
                found.wrong += found.page.evaluate("violations")
            assert not found.wrong
    finally:
        for context in contexts:
            context.close()


@pytest.fixture(scope="session")
def axe() -> str:
    """The source of axe-core."""
    return files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
