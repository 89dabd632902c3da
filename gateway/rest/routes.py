"""The paths of the REST API, and what is wrong with those that are none. No IO here.

The grammar, its order of errors and its words are those of tensorflow_serving/model_servers/
http_rest_api_util.cc and http_rest_api_handler.cc; which characters a URL may hold is libevent's
(http.c, evhttp_uri_parse). A query counts as part of the path there, and so it does here.

Two cases differ: a version that is no int64 gets its message in the body, where TensorFlow
Serving's is empty; and what it leaves to chance for HEAD, PUT, DELETE and PATCH (an uninitialised
variable) is always "Malformed request".
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple
from urllib.parse import unquote_to_bytes

from tfx_encore.gateway.errors import Code, ServingError, invalid
from tfx_encore.gateway.routing import Target

Kind = Literal["predict", "classify", "regress", "status", "metadata", "preflight"]

_MODELS = r"(?i:/v1/models"
_VERSION = r"(?:(?:/versions/([0-9]+))|(?:/labels/([^/:]+)))?"
_POST = re.compile(_MODELS + r"/([^/:]+)" + _VERSION + r":(classify|regress|predict))")
_GET = re.compile(_MODELS + r"(?:/([^/:]+))?" + _VERSION + r"(?:/(metadata))?)")
_OURS = re.compile(r"(?i:/v1/.*)")
_ORIGIN = re.compile(rb"https?://")

_TEXT = r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/]|%[0-9A-Fa-f]{2})*"
_MORE = _TEXT.replace("@/", "@/?")
_URL = re.compile(
    rf"(?:[A-Za-z][A-Za-z0-9+.\-]*://[^/?#\s]*)?({_TEXT}(?:\?{_MORE})?(?:\#{_MORE})?)".encode()
)
_INT64 = 2**63


class Route(NamedTuple):
    """What a request asks for.

    Attributes:
        kind: of request.
        target: the model, perhaps with version or label; for `preflight` without a name.
    """

    kind: Kind
    target: Target


_PREFLIGHT = Route("preflight", Target(""))


def path_of(url: bytes) -> str | None:
    """Returns path, query and fragment of a URL; None if it is none."""
    if not url.startswith(b"/") and b"://" not in url:
        return None
    found = _URL.fullmatch(url)
    return None if found is None else found[1].decode("ascii")


def is_api(path: str) -> bool:
    """True for a path of the REST API, well formed or not."""
    return _OURS.fullmatch(path) is not None


def route_of(method: str, path: str, origin: bytes = b"") -> Route:
    """Returns what a request asks for.

    Args:
        method: of HTTP, in capitals.
        path: for which `is_api` is true, with its query.
        origin: the header of this name; empty if there is none.

    Raises:
        ServingError: INVALID_ARGUMENT, it asks for nothing; FAILED_PRECONDITION, a preflight
            without origin.
    """
    if method == "POST":
        return _post(path)
    if method == "GET":
        return _get(path)
    if method != "OPTIONS":
        raise _malformed(method, path)
    if not _ORIGIN.search(origin):
        raise ServingError(Code.FAILED_PRECONDITION, "Origin header is missing in CORS preflight")
    return _PREFLIGHT


def _post(path: str) -> Route:
    found = _POST.fullmatch(path)
    if found is None:
        raise _malformed("POST", path)
    model, version, label, verb = found.groups()
    target = _target(model, version, label)
    # The grammar takes capitals; the dispatcher behind it does not.
    if verb == "predict":
        return Route("predict", target)
    if verb == "classify":
        return Route("classify", target)
    if verb == "regress":
        return Route("regress", target)
    raise _malformed("POST", path)


def _get(path: str) -> Route:
    found = _GET.fullmatch(path)
    if found is None:
        raise _malformed("GET", path)
    model, version, label, subresource = found.groups()
    target = _target(model or "", version, label)
    if not target.model:
        raise invalid("Missing model name in request.")
    return Route("metadata" if subresource == "metadata" else "status", target)


def _target(model: str, version: str | None, label: str | None) -> Target:
    number = None
    if version is not None:
        # A number of more digits is out of range whatever it is, and slow to read.
        number = int(version) if len(version.lstrip("0")) < 20 else _INT64
        if number >= _INT64:
            raise invalid(f"Failed to convert version: {version} to numeric.")
    return Target(_decoded(model), number, None if label is None else _decoded(label))


def _decoded(text: str) -> str:
    """As curl_easy_unescape; what is then no UTF-8 names nothing that exists."""
    return unquote_to_bytes(text).decode("utf-8", errors="replace") if "%" in text else text


def _malformed(method: str, path: str) -> ServingError:
    return invalid(f"Malformed request: {method} {path}")
