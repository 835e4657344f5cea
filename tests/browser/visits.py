"""Pages that are open in a browser, and everything they did that they should not."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

__all__ = ["Open", "Visit", "opening"]

_WATCH = """
window.violations = [];
addEventListener("securitypolicyviolation", (event) => violations.push(`${event.violatedDirective} ${event.sample}`));
"""


@dataclass
class Visit:
    """A page that is open."""

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

    def barriers(self) -> list[tuple[str, str, str]]:
        """What axe-core calls serious or critical: rule, element, what to do."""
        self.page.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8"))
        violations = self.page.evaluate("axe.run().then((result) => result.violations)")
        return [
            (violation["id"], node["html"][:200], node["failureSummary"])
            for violation in violations
            if violation["impact"] in ("serious", "critical")
            for node in violation["nodes"][:3]
        ]

    def watch(self, may_ask: Callable[[str], bool], expected: str) -> None:
        """Notes errors, dialogs, and requests that it may not make; messages that hold `expected` are none."""

        def heard(message: Any) -> None:
            if message.type in ("error", "warning") and not (expected and expected in message.text):
                self.wrong.append(message.text)

        self.page.on("console", heard)
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("dialog", lambda dialog: self.wrong.append(f"dialog: {dialog.message}"))
        self.page.on("request", lambda r: None if may_ask(r.url) else self.wrong.append(r.url))
        self.page.add_init_script(_WATCH)


Open = Callable[..., Visit]


@contextmanager
def opening(browser: Any) -> Iterator[Open]:
    """`open(url, may_ask=…, expected="")` opens a page, other options are those of a context; at the end nothing may
    have gone wrong on any."""
    visits: list[Visit] = []
    contexts = []

    def start(url: str, *, may_ask: Callable[[str], bool], expected: str = "", **options: Any) -> Visit:
        context = browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | options))
        contexts.append(context)
        # A page of a large study is drawn late where other work has the cores.
        context.set_default_navigation_timeout(120_000)
        found = Visit(context.new_page())
        found.watch(may_ask, expected)
        found.page.goto(url)
        visits.append(found)
        return found

    try:
        yield start
        for found in visits:
            if found.page.evaluate("typeof violations") == "object":
                found.wrong += found.page.evaluate("violations")
            assert not found.wrong
    finally:
        for context in contexts:
            context.close()
