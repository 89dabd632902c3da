"""Who may read: the host that is asked for, the method, the token. And the headers of every answer.

A page of another origin can make a browser ask this server, also under a name of its own that it
lets point here (DNS rebinding). So the name asked for must be one that this server goes by.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "encore_ui"
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")

# Plotly sets style attributes and fills a style element of its own, hence 'unsafe-inline' for
# styles. No script but ours and Plotly's runs: neither inline nor evaluated.
POLICY = (
    "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
_REFUSED = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>Token needed</title>
<h1>Token needed</h1><p>Open the address that <code>encore ui</code> printed: it ends in
<code>?token=...</code>. Scripts send it as <code>Authorization: Bearer ...</code>.</p></html>"""


@dataclass(frozen=True)
class Rules:
    """Who may read.

    Attributes:
        token: asked for from everybody; None if nobody is asked.
        hosts: names, without port, that requests may ask for; None for any.
    """

    token: str | None = None
    hosts: frozenset[str] | None = frozenset(LOOPBACK_NAMES)


def is_loopback(host: str) -> bool:
    """True if only this machine can reach a server that listens at `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def hosts_of(host: str) -> frozenset[str] | None:
    """The names that a server at `host` goes by; None if it listens everywhere, so by any."""
    if host.strip("[]") in {"", "0.0.0.0", "::"}:  # noqa: S104 - compared, not bound
        return None
    bare = host.strip("[]")
    return frozenset({*LOOPBACK_NAMES, f"[{bare}]" if ":" in bare else bare.lower()})


class Guard:
    """Lets through who may read, and puts the headers on every answer.

    Args:
        app: the pages.
        rules: who may read.
    """

    def __init__(self, app: ASGIApp, rules: Rules) -> None:
        self._app = app
        self._rules = rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or has it answered."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
            await send(message)

        refusal = self._refusal(scope)
        await (refusal or self._app)(scope, receive, with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        if scope["method"] not in {"GET", "HEAD"}:
            return PlainTextResponse(
                "this page only reads: GET or HEAD\n", 405, {"allow": "GET, HEAD"}
            )
        hosts = self._rules.hosts
        if hosts is not None and _name(headers.get("host", "")) not in hosts:
            return PlainTextResponse(
                "this server does not go by that name; open the address that `encore ui` printed\n",
                421,
            )
        return self._token_refusal(scope, headers) if self._rules.token else None

    def _token_refusal(self, scope: Scope, headers: Headers) -> Response | None:
        """None for who has shown the token; who shows it in the address gets a cookie for it."""
        token = self._rules.token or ""
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        shown = [value for name, value in query if name == "token"]
        if shown:
            if not _equal(shown[0], token):
                return HTMLResponse(_REFUSED, 401)
            kept = urlencode([(n, v) for n, v in query if n != "token"])
            path = "/" + scope["path"].lstrip("/")
            answer = RedirectResponse(f"{path}?{kept}" if kept else path, 303)
            answer.set_cookie(
                COOKIE, proof(token), httponly=True, samesite="strict", path="/", max_age=30 * 86400
            )
            return answer
        bearer = headers.get("authorization", "").partition(" ")
        if bearer[0].lower() == "bearer" and _equal(bearer[2].strip(), token):
            return None
        if _equal(_cookie(headers), proof(token)):
            return None
        return HTMLResponse(_REFUSED, 401, {"www-authenticate": "Bearer"})


def proof(token: str) -> str:
    """What the cookie holds: it proves that its bearer knew the token, and does not tell it."""
    return hmac.new(token.encode(), b"encore ui", hashlib.sha256).hexdigest()


def _equal(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode())


def _cookie(headers: Mapping[str, str]) -> str:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found else ""


def _name(host: str) -> str:
    """The name in a Host header, without the port."""
    host = host.lower()
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]
