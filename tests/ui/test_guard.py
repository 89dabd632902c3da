"""Who may read: method, name of the host, token; and the headers of every answer."""

import http.client
from urllib.parse import urlsplit

import pytest

from tfx_encore.pipeline.ui.guard import COOKIE, Rules, hosts_of, is_loopback, proof

TOKEN = "a token of thirty characters.."


@pytest.fixture
def locked(place, serve):
    with serve(place.reader(), Rules(TOKEN)) as address:
        yield address


def _raw(address, method, path, host):
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=10)
    connection.putrequest(method, path, skip_host=True)
    if host is not None:
        connection.putheader("Host", host)
    connection.endheaders()
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_a_request_that_would_change_something_is_refused(site, get, method):
    answer = get(f"{site}/nights", method)
    assert answer.status == 405
    assert answer.headers["allow"] == "GET, HEAD"


def test_head_is_answered_without_a_body(site, get):
    answer = get(f"{site}/nights", "HEAD")
    assert (answer.status, answer.text) == (200, "")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.0.0.1:{port}", "[::1]:{port}"])
def test_the_server_goes_by_the_names_of_this_machine(site, host):
    assert _raw(site, "GET", "/", host.format(port=urlsplit(site).port)) == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil", ""])
def test_a_name_that_another_site_let_point_here_is_refused(site, host):
    assert _raw(site, "GET", "/", host) == 421
    assert _raw(site, "GET", "/api/nights.json", f"{host}:80") == 421


@pytest.mark.parametrize("path", ["/", "/nope", "/static/ui.css", "/api/records.json"])
def test_every_answer_carries_the_policy(site, get, path):
    headers = get(site + path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "script-src 'self';" in policy
    assert "unsafe-eval" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-frame-options"] == "DENY"


def test_a_page_is_never_kept_by_a_cache(site, get):
    assert get(f"{site}/nights").headers["cache-control"] == "no-store"


def test_nothing_is_shown_without_the_token(locked, get):
    for path in ("/", "/api/records.json", "/static/ui.css", "/nope", "/?token=", "/?token=wrong"):
        answer = get(locked + path)
        assert answer.status == 401, path
        assert "taxi" not in answer.text


def test_the_token_in_the_address_becomes_a_cookie_and_leaves_the_address(locked, get):
    answer = get(f"{locked}/nights?from=2016-01-01&token={TOKEN.replace(' ', '%20')}")
    assert answer.status == 303
    assert answer.headers["location"] == "/nights?from=2016-01-01"
    cookie = answer.headers["set-cookie"]
    assert TOKEN not in cookie
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    shown = get(f"{locked}/nights", cookie=cookie.partition(";")[0])
    assert shown.status == 200


def test_a_redirect_stays_on_this_server(locked, get):
    answer = get(f"{locked}//evil.example/?token={TOKEN.replace(' ', '%20')}")
    assert answer.status == 303
    assert answer.headers["location"].startswith("/evil.example")


def test_a_script_sends_the_token_as_a_bearer(locked, get):
    assert get(f"{locked}/api/nights.json", authorization=f"Bearer {TOKEN}").status == 200
    assert get(f"{locked}/api/nights.json", authorization="Bearer wrong").status == 401
    assert get(f"{locked}/api/nights.json", authorization=f"Basic {TOKEN}").status == 401


@pytest.mark.parametrize("value", ["", "wrong", TOKEN, proof("another token")])
def test_a_cookie_that_does_not_prove_the_token_is_refused(locked, get, value):
    assert get(f"{locked}/", cookie=f"{COOKIE}={value}").status == 401


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("localhost", True),
        ("::1", True),
        ("[::1]", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.4", False),
        ("localhost.evil", False),
    ],
)
def test_loopback_is_told_from_what_others_can_reach(host, expected):
    assert is_loopback(host) is expected


def test_a_server_on_all_addresses_goes_by_any_name():
    assert hosts_of("0.0.0.0") is None
    assert "10.0.0.7" in hosts_of("10.0.0.7")
    assert "evil.example" not in hosts_of("10.0.0.7")
