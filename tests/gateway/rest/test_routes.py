"""The paths of the REST API, as http_rest_api_handler_test.cc has them."""

from __future__ import annotations

import pytest

from tfx_encore.gateway.errors import Code, ServingError
from tfx_encore.gateway.rest.routes import is_api, path_of, route_of
from tfx_encore.gateway.routing import Target


def refused(method: str, path: str) -> str:
    with pytest.raises(ServingError) as caught:
        route_of(method, path)
    assert caught.value.code == Code.INVALID_ARGUMENT
    return caught.value.message


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/foo"),
        ("POST", "/v1/foo"),
        ("GET", "/v1/models/debug/model_name"),
        ("POST", "/v1/models"),
        ("GET", "/v1/models/foo:predict"),
        ("GET", "/v1/models/foo/version/50:predict"),
        ("POST", "/v1/models/foo/version/50:regress"),
        ("POST", "/v1/models/foo/versions/HELLO:regress"),
        ("POST", "/v1/models/foo/metadata"),
        ("POST", "/v1/models/foo/label/some_label:regress"),
        ("POST", "/v1/models/foo/versions/50/labels/some_label:regress"),
        ("POST", "/v1/models/foo/versions/some_label:regress"),
        ("POST", "/v1/models/foo:predict?x=1"),
        ("POST", "/v1/models/foo:PREDICT"),
        ("POST", "/v1/models/foo:predict/"),
        ("HEAD", "/v1/models/foo"),
        ("PUT", "/v1/models/foo:predict"),
        ("DELETE", "/v1/models/foo"),
        ("PATCH", "/v1/models/foo"),
    ],
)
def test_what_asks_for_nothing_is_malformed(method: str, path: str) -> None:
    assert refused(method, path) == f"Malformed request: {method} {path}"


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/versions/3", "/v1/models/labels/a"])
def test_a_status_without_a_model_is_refused(path: str) -> None:
    # `/v1/models/versions/3` reads best as no model of version 3, for RE2 as for us.
    assert refused("GET", path) == "Missing model name in request."


@pytest.mark.parametrize("number", [str(2**64 - 1), str(2**63), "9" * 5000])
def test_a_version_beyond_int64_is_refused(number: str) -> None:
    message = refused("POST", f"/v1/models/foo/versions/{number}:regress")
    assert message == f"Failed to convert version: {number} to numeric."


@pytest.mark.parametrize(
    ("path", "kind", "target"),
    [
        ("/v1/models/foo:predict", "predict", Target("foo")),
        ("/V1/MODELS/Foo:predict", "predict", Target("Foo")),
        ("/v1/models/foo/versions/007:classify", "classify", Target("foo", version=7)),
        ("/v1/models/foo/labels/a b:regress", "regress", Target("foo", label="a b")),
        ("/v1/models/a%20b/labels/%c3%a9%2F:predict", "predict", Target("a b", label="\xe9/")),
        (f"/v1/models/m/versions/{2**63 - 1}:predict", "predict", Target("m", 2**63 - 1)),
    ],
)
def test_a_post_names_method_and_target(path: str, kind: str, target: Target) -> None:
    assert route_of("POST", path) == (kind, target)


@pytest.mark.parametrize(
    ("path", "kind", "target"),
    [
        ("/v1/models/foo", "status", Target("foo")),
        ("/v1/models/foo/versions/5", "status", Target("foo", version=5)),
        ("/v1/models/foo/metadata", "metadata", Target("foo")),
        ("/v1/models/foo/labels/a/metadata", "metadata", Target("foo", label="a")),
        ("/v1/models/metadata", "status", Target("metadata")),
        # The grammar takes capitals, and the dispatcher then knows no such subresource.
        ("/v1/models/foo/METADATA", "status", Target("foo")),
        ("/v1/models/foo?x=1", "status", Target("foo?x=1")),
    ],
)
def test_a_get_names_what_it_wants_to_know(path: str, kind: str, target: Target) -> None:
    assert route_of("GET", path) == (kind, target)


def test_a_preflight_needs_an_origin() -> None:
    assert route_of("OPTIONS", "/v1/x", b"https://a.example").kind == "preflight"
    with pytest.raises(ServingError, match="Origin header is missing in CORS preflight") as caught:
        route_of("OPTIONS", "/v1/x")
    assert caught.value.code == Code.FAILED_PRECONDITION


def test_only_paths_under_v1_are_of_the_api() -> None:
    assert is_api("/v1/models")
    assert is_api("/V1/anything")
    assert not is_api("/statuspage")
    assert not is_api("/index")
    assert not is_api("/v1")


@pytest.mark.parametrize(
    ("url", "path"),
    [
        (b"/v1/models/m:predict", "/v1/models/m:predict"),
        (b"http://host:1/v1/models/m?q#f", "/v1/models/m?q#f"),
        (b"/a%20b", "/a%20b"),
        (b"/a b", None),
        (b"/a%2", None),
        (b"/\xc3\xa9", None),
        (b'/a"b', None),
        (b"*", None),
        (b"", None),
    ],
)
def test_a_url_is_taken_apart_as_libevent_does(url: bytes, path: str | None) -> None:
    assert path_of(url) == path
