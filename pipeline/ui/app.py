"""The pages as an ASGI application."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from pydantic import TypeAdapter
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from tfx_encore.pipeline.report import views, words
from tfx_encore.pipeline.report.data import DRIFT_GATE, SLICE_GATE
from tfx_encore.pipeline.ui import address
from tfx_encore.pipeline.ui.address import AddressError
from tfx_encore.pipeline.ui.found import Damaged
from tfx_encore.pipeline.ui.guard import Guard, Rules
from tfx_encore.pipeline.ui.pages import PAGES, SECTIONS, Asked, Page, find_release
from tfx_encore.pipeline.ui.reading import Reader
from tfx_encore.schemas.clock import utc_now
from tfx_encore.schemas.decisions import Outcome
from tfx_encore.schemas.errors import ConfigError

_HERE = Path(__file__).parent
_REPORT = _HERE.parent / "report"
_TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8"}
_YEAR = "public, max-age=31536000, immutable"

Clock = Callable[[], str]


def make_app(reader: Reader, rules: Rules, *, clock: Clock = utc_now) -> ASGIApp:
    """The application.

    Args:
        reader: the workspace.
        rules: who may read.
        clock: gives the time, UTC, RFC 3339.

    Raises:
        ConfigError: Plotly is not installed.
    """
    files = static_files()
    routes = [Route("/static/{name}", _static(files))]
    for page in PAGES:
        routes.append(Route(page.api, _api(page, reader, clock)))
        routes.append(Route(page.path, _html(page, reader, clock)))
    routes.append(Route("/releases/{version}/report", _report(reader, clock)))
    handlers = {AddressError: _lost(reader), HTTPException: _http_error(reader)}
    return Guard(Starlette(routes=routes, exception_handlers=handlers), rules)


def static_files() -> dict[str, Path]:
    """Name below `/static/` -> file: Plotly's from its own package.

    Raises:
        ConfigError: Plotly is not installed.
    """
    spec = importlib.util.find_spec("plotly")
    places = list(spec.submodule_search_locations or ()) if spec else []
    plotly = Path(places[0]) / "package_data" / "plotly.min.js" if places else None
    if plotly is None or not plotly.is_file():
        raise ConfigError("Plotly, which draws the charts, is not installed; `make setup` does it")
    static = _HERE / "static"
    return {
        "plotly.min.js": plotly,
        "ui.js": static / "ui.js",
        "ui.css": static / "ui.css",
        "report.css": _REPORT / "report.css",
    }


def plain(view: Any) -> Any:
    """A view as JSON values."""
    return TypeAdapter(type(view)).dump_python(view, mode="json")


def _asked(request: Request, reader: Reader, clock: Clock) -> Asked:
    query = {name: value for name, value in request.query_params.items() if "\0" not in value}
    return Asked(reader, request.path_params, query, clock()[:10])


def _html(page: Page, reader: Reader, clock: Clock) -> Callable[[Request], Response]:
    def endpoint(request: Request) -> Response:
        view = page.view(_asked(request, reader, clock))
        template = "damaged.html" if isinstance(view, Damaged) else page.template
        query = request.url.query
        api = "/api" + (request.url.path if page.path != "/" else "/overview") + ".json"
        text = (
            _templates()
            .get_template(template)
            .render(
                view=view,
                section=page.section,
                api=f"{api}?{query}" if query else api,
                **_shared(reader),
            )
        )
        return HTMLResponse(text)

    return endpoint


def _api(page: Page, reader: Reader, clock: Clock) -> Callable[[Request], Response]:
    def endpoint(request: Request) -> Response:
        return JSONResponse(plain(page.view(_asked(request, reader, clock))))

    return endpoint


def _static(files: dict[str, Path]) -> Callable[[Request], Response]:
    def endpoint(request: Request) -> Response:
        path = files.get(request.path_params["name"])
        if path is None:
            raise HTTPException(404)
        # The address carries the version, so a new file has a new address.
        caching = {"cache-control": _YEAR if request.query_params.get("v") else "no-cache"}
        return FileResponse(path, media_type=_TYPES[path.suffix], headers=caching)

    return endpoint


def _report(reader: Reader, clock: Clock) -> Callable[[Request], Response]:
    def endpoint(request: Request) -> Response:
        release = find_release(_asked(request, reader, clock))
        path = reader.report_file(release.version)
        if path is None:
            raise AddressError(
                f"Nobody wrote the report of version {release.version} yet; "
                f"`encore report {release.version}` does.",
                exists=[(f"version {release.version}", f"/releases/{release.version}")],
            )
        return FileResponse(path, media_type="text/html; charset=utf-8")

    return endpoint


def _lost(reader: Reader) -> Any:
    def handler(request: Request, error: AddressError) -> Response:
        if request.url.path.startswith("/api/"):
            body = {"error": str(error), "exists": [at for _, at in error.exists]}
            return JSONResponse(body, error.status)
        return _error_page(reader, error.status, str(error), error.exists)

    return handler


def _http_error(reader: Reader) -> Any:
    def handler(request: Request, error: HTTPException) -> Response:
        if request.url.path.startswith("/api/"):
            there = [page.api for page in PAGES]
            return JSONResponse({"error": error.detail, "exists": there}, error.status_code)
        exists = [(name, path) for path, name in SECTIONS]
        return _error_page(reader, error.status_code, "There is no such page.", exists)

    return handler


def _error_page(reader: Reader, status: int, message: str, exists: Any) -> Response:
    text = (
        _templates()
        .get_template("lost.html")
        .render(
            status=status, message=message, exists=exists, section="", api="", **_shared(reader)
        )
    )
    return HTMLResponse(text, status)


def _shared(reader: Reader) -> dict[str, Any]:
    return {"model": reader.model, "live_label": reader.label}


@lru_cache(maxsize=1)
def _templates() -> Environment:
    """The templates, those of the report included, with the names that both use."""
    environment = Environment(
        loader=FileSystemLoader([_HERE / "templates", _REPORT]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        Outcome=Outcome,
        DRIFT_GATE=DRIFT_GATE,
        SLICE_GATE=SLICE_GATE,
        REASONS_SHOWN=views.REASONS_SHOWN,
        sections=SECTIONS,
        marks=words.MARKS,
        outcome_words=words.OUTCOMES,
        words=words,
        strip=views.strip,
        stopping=views.stopping,
        tally=views.tally,
        said=views.said,
        columns=views.columns,
        is_difference=views.is_difference,
        link=address.link,
        long_date=address.long_date,
        short_date=address.short_date,
        weekday=address.weekday,
        assets=_assets(),
    )
    environment.filters["ticked"] = ticked
    environment.policies["json.dumps_kwargs"] = {"sort_keys": True, "allow_nan": False}
    return environment


def ticked(text: str) -> Markup:
    """A text in which what stands between backticks is code."""
    pieces = escape(text).split("`")
    if len(pieces) % 2 == 0:
        return Markup("`").join(pieces)
    code = Markup("<code>{}</code>")
    return Markup().join(code.format(p) if n % 2 else p for n, p in enumerate(pieces))


def _assets() -> dict[str, str]:
    """Name of a static file -> its address with what tells its versions apart."""
    versions = {
        name: f"{path.stat().st_size:x}-{int(path.stat().st_mtime):x}"
        for name, path in static_files().items()
    }
    versions["plotly.min.js"] = importlib.metadata.version("plotly")
    return {name: f"/static/{name}?v={version}" for name, version in versions.items()}
