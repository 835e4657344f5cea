"""The dashboard as an ASGI application.

    app = create_app([Path("study")])

Pages are read-only and rendered at most once for every state of a study and every address; a browser that has a page
already is told so.
"""

import hashlib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from lossary.dashboard.addresses import Addresses
from lossary.dashboard.ask import Ask, Missing, Wrong
from lossary.dashboard.curves import curves_json
from lossary.dashboard.guard import Guard, host_names, is_loopback
from lossary.dashboard.pages import PAGES, Content
from lossary.dashboard.site import Rendered, Site
from lossary.dashboard.snapshots import Snapshot
from lossary.dashboard.views import failed_runs, with_code
from lossary.errors import LossaryError, ScoreError, UsageError
from lossary.reports.html.engine import chart_engine
from lossary.reports.html.file import chart_data, html_report
from lossary.reports.html.render import asset, environment
from lossary.reports.html.view import page_view
from lossary.reports.text import plain

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["create_app"]

# Pages that the bar on top names, by address.
_TITLES = {
    "": "Losses",
    "curves": "Curves",
    "decide": "Decide",
    "compare": "Compare",
    "examples": "Examples",
    "findings": "Findings",
    "diagnosis": "Diagnosis",
}
_ATTEMPTS = 3


def create_app(paths: Sequence[Path], *, host: str = "127.0.0.1", token: str | None = None) -> ASGIApp:
    """The dashboard of some studies, or folders of imports, for a server that listens on `host`.

    Raises UsageError for an address beyond loopback without a token.
    """
    if token is None and not is_loopback(host):
        raise UsageError(
            "beyond this machine a token is needed",
            where=f"--host {host}",
            hint="Give one with --token or LOSSARY_TOKEN.",
        )
    app = _App(Site(paths))
    routes = [
        Route("/", app.studies),
        Route("/assets/{name}", app.asset),
        Route("/favicon.ico", app.icon),
        Route("/s/{slug}/state.json", app.state),
        Route("/s/{slug}/curves.json", app.curves),
        Route("/s/{slug}/report.html", app.report),
        Route("/s/{slug}/", app.page),
        Route("/s/{slug}/{page}", app.page),
    ]
    handlers = {
        HTTPException: app.http_error,
        Missing: app.missing,
        Wrong: app.wrong,
        LossaryError: app.failed,
        OSError: app.gone,
    }
    # Outside of everything else, so that no answer leaves without its headers.
    return Guard(
        Starlette(routes=routes, exception_handlers=handlers),
        names=host_names(host),
        any_address=not is_loopback(host),
        token=token,
    )


class _Bar(NamedTuple):
    """A page in the bar on top."""

    title: str
    href: str
    is_current: bool


class _NoPictures(dict[str, str]):
    """Charts are drawn by the page's script: a picture of each would take longer than the page."""

    def __missing__(self, _: str) -> str:
        return ""


class _App:
    def __init__(self, site: Site) -> None:
        self._site = site

    def studies(self, _: Request) -> Response:
        """All studies; of a single one, its page."""
        site = self._site
        if len(site.studies) == 1:
            return RedirectResponse(f"/s/{next(iter(site.studies))}/", 307)
        rows = [(watched.snapshot(), Addresses(slug)) for slug, watched in site.studies.items()]
        html = self._html(
            "studies.html", {"rows": [(s, plain(s.name), links.page("")) for s, links in rows], "data": ""}
        )
        return _answer(Rendered.of(html))

    def page(self, request: Request) -> Response:
        """A page of a study, rendered from one snapshot."""
        slug, page = request.path_params["slug"], request.path_params.get("page", "")
        self._known(slug, page)
        watched = self._site.studies[slug]
        for attempt in range(_ATTEMPTS):
            snapshot = watched.snapshot(wait=attempt > 0)
            try:
                return _answer(self._rendered(slug, page, snapshot, request), request)
            except (ScoreError, OSError):
                # Files were replaced after the snapshot was taken: the next one has the new ones.
                if attempt == _ATTEMPTS - 1:
                    raise
        raise AssertionError

    def _rendered(self, slug: str, page: str, snapshot: Snapshot, request: Request) -> Rendered:
        key: tuple[str | None, ...] = (slug, page, snapshot.version, snapshot.note, str(request.query_params))
        if request.query_params.get("other"):
            # Of two studies: the other one's state counts as well.
            key += tuple(watched.snapshot().version for watched in self._site.studies.values())
        return self._site.pages.get(key, lambda: self._render(slug, page, snapshot, request))

    def _render(self, slug: str, page: str, snapshot: Snapshot, request: Request) -> Rendered:
        content = PAGES[page](self._site, self._ask(slug, snapshot, request))
        values = {**content.values, "heads": content.heads, "pictures": _NoPictures(), "data": _data(content)}
        return Rendered.of(self._html(content.template, values, slug=slug, page=page, snapshot=snapshot))

    def _ask(self, slug: str, snapshot: Snapshot, request: Request) -> Ask:
        return Ask(snapshot, Addresses(slug, snapshot), dict(request.query_params))

    def state(self, request: Request) -> Response:
        """What a page asks again and again: whether there is something new."""
        slug = request.path_params["slug"]
        self._known(slug, "")
        snapshot = self._site.studies[slug].snapshot()
        return JSONResponse(
            {"version": snapshot.version, "note": snapshot.note, "running": snapshot.is_running},
            headers={"cache-control": "no-store"},
        )

    def curves(self, request: Request) -> Response:
        """The curves of a dataset as data."""
        slug = request.path_params["slug"]
        self._known(slug, "")
        return JSONResponse(curves_json(self._ask(slug, self._site.studies[slug].snapshot(), request)))

    def report(self, request: Request) -> Response:
        """The one-file report of the state that is shown."""
        slug = request.path_params["slug"]
        self._known(slug, "")
        snapshot = self._site.studies[slug].snapshot()
        if snapshot.opened is None or snapshot.checked is None:
            raise Missing("there is no table yet to report", what="pages", known=[("progress", f"/s/{slug}/")])
        opened, checked = snapshot.opened, snapshot.checked
        made = self._site.pages.get(
            (slug, "report", snapshot.version), lambda: Rendered.of(html_report(page_view(opened, checked)))
        )
        response = _answer(made, request)
        response.headers["content-disposition"] = f'attachment; filename="{slug}-report.html"'
        return response

    def asset(self, request: Request) -> Response:
        """A style sheet or script of the package; its address holds its digest, so that it may be kept for good."""
        name = request.path_params["name"]
        if name not in _assets():
            raise HTTPException(404)
        body, kind = _assets()[name]
        return Response(body, media_type=kind, headers={"cache-control": "public, max-age=31536000, immutable"})

    def icon(self, _: Request) -> Response:
        """No icon: pages name none, and a browser that asks anyway gets an answer without a body."""
        return Response(status_code=204)

    def _known(self, slug: str, page: str) -> None:
        if slug not in self._site.studies:
            known = [(name, Addresses(name).page("")) for name in self._site.studies]
            raise Missing(f"no study is served as {slug!r}", what="studies", known=known)
        if page not in PAGES:
            known = [(title, Addresses(slug).page(name)) for name, title in _TITLES.items()]
            raise Missing(f"no page is called {page!r}", what="pages", known=known)

    # --- errors, each as a page that says what to do

    def http_error(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        known = [(name, Addresses(name).page("")) for name in self._site.studies]
        return self._error(request, error.status_code, "There is no such page.", what="studies", known=known)

    def missing(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, Missing)
        return self._error(request, 404, error.message, what=error.what, known=error.known)

    def wrong(self, request: Request, error: Exception) -> Response:
        return self._error(request, 400, str(error))

    def failed(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, LossaryError)
        status = 404 if isinstance(error, UsageError) else 503
        response = self._error(request, status, error.message, hint=error.hint)
        if status == 503:
            response.headers["retry-after"] = "2"
        return response

    def gone(self, request: Request, error: Exception) -> Response:
        """A file that was there when the snapshot was taken is not, or not yet again."""
        return self.failed(request, ScoreError(f"a file went away while it was read: {type(error).__name__}"))

    def _error(self, request: Request, status: int, message: str, **more: Any) -> Response:
        slug = request.path_params.get("slug")
        slug = slug if slug in self._site.studies else None
        values = {
            "message": plain(message),
            "what": "",
            "known": [],
            "hint": None,
            "status": status,
            "heads": (),
            "data": "",
        } | more
        return Response(self._html("error.html", values, slug=slug), status, media_type="text/html")

    def _html(
        self,
        template: str,
        values: Any,
        *,
        slug: str | None = None,
        page: str | None = None,
        snapshot: Snapshot | None = None,
    ) -> str:
        site = self._site
        links = Addresses(slug) if slug else None
        shell = {
            "several": len(site.studies) > 1,
            "study": plain(snapshot.name) if snapshot else None,
            "bar": [_Bar(title, links.page(name), name == page) for name, title in _TITLES.items()] if links else [],
            "report": links.page("report.html") if links and snapshot and snapshot.opened else None,
            "home": links.page("") if links else "/",
            "links": links,
            "version": snapshot.version if snapshot else "",
            "note": plain(snapshot.note) if snapshot and snapshot.note else "",
            "state": links.page("state.json") if links else "",
            "asset": _asset_address,
        }
        return _environment().get_template(template).render(**{"shell": shell, "heads": ()} | values)


def _data(content: Content) -> str:
    """What the charts of a page are drawn from, to stand in its markup; empty if it has none."""
    from markupsafe import Markup

    if not content.charts and not content.curves:
        return ""
    return Markup(chart_data(content.charts, [head.name for head in content.heads], content.curves))


def _answer(page: Rendered, request: Request | None = None) -> Response:
    headers = {"etag": page.etag}
    if request is not None and request.headers.get("if-none-match") == page.etag:
        return Response(status_code=304, headers=headers)
    return Response(page.body, media_type="text/html", headers=headers)


@cache
def _environment() -> "Environment":
    """The report's templates, and over them the dashboard's own."""
    from jinja2 import ChoiceLoader, PackageLoader

    base = environment()
    assert base.loader is not None
    own = base.overlay(loader=ChoiceLoader([PackageLoader("lossary.dashboard"), base.loader]))
    # Options of a form hold a name as it is, and show it without what could turn the direction of text.
    own.filters = base.filters | {"plain": plain, "with_code": with_code, "failed": failed_runs}
    return own


@cache
def _assets() -> dict[str, tuple[str, str]]:
    own = files("lossary.dashboard").joinpath("assets")
    return {
        "page.css": (asset("page.css"), "text/css"),
        "page.js": (asset("page.js"), "text/javascript"),
        "charts.js": (chart_engine().script, "text/javascript"),
        "dashboard.css": (own.joinpath("dashboard.css").read_text(encoding="utf-8"), "text/css"),
        "dashboard.js": (own.joinpath("dashboard.js").read_text(encoding="utf-8"), "text/javascript"),
    }


@cache
def _asset_address(name: str) -> str:
    return f"/assets/{name}?{hashlib.blake2b(_assets()[name][0].encode(), digest_size=8).hexdigest()}"
