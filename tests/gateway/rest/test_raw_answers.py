"""Whole responses by the bytes of their requests: budget, eviction, and what is let go."""

from __future__ import annotations

import gc
import tracemalloc
import weakref
from typing import Any

import pytest

from tfx_encore.gateway.prediction import Freshness
from tfx_encore.gateway.rest.http_message import (
    BodyTooLargeError,
    HttpRequest,
    ResponseHeads,
    finished,
    inflate,
    tail_of,
)
from tfx_encore.gateway.rest.raw_answers import RawAnswer, RawAnswers
from tfx_encore.gateway.routing import Target

Wire = Any


def freshness_of(gateway: Any, expires_at: float = 0.0) -> Freshness:
    pointer = gateway.router.pointer(Target("m"))
    return Freshness(pointer, pointer.target, gateway.cache.state.changes, expires_at)


def source_of(raw: RawAnswers, gateway: Any) -> Any:
    return raw.source(freshness_of(gateway), "Predict", "s", lambda: lambda seconds, rows: None)


def kept(raw: RawAnswers, source: Any, number: int, size: int = 100) -> RawAnswer:
    body = b"%d" % number
    answer = RawAnswer((b"/p", body), b"t" * size, source, 0.0, 1)
    answer.request = body
    raw.put(answer, len(body))
    return answer


@pytest.fixture
def gateway(wire: Wire) -> Any:
    async def make() -> Any:
        made = wire.Gateway()
        made.serve(1)
        return made

    return wire.run(make)


def test_the_budget_is_kept_and_what_is_asked_for_stays(gateway: Any) -> None:
    raw = RawAnswers(30_000)
    source = source_of(raw, gateway)
    for number in range(500):
        kept(raw, source, number)
        assert raw.bytes_used <= 30_000
        first = raw.get((b"/p", b"0"))
        assert first is not None
        first.asked = True
    assert 10 < len(raw) < 40


def test_an_answer_that_would_take_the_room_of_many_is_not_kept(gateway: Any) -> None:
    raw = RawAnswers(30_000)
    kept(raw, source_of(raw, gateway), 1, size=10_000)
    assert len(raw) == 0
    assert raw.bytes_used == 0


def test_the_same_request_again_replaces(gateway: Any) -> None:
    raw = RawAnswers(30_000)
    source = source_of(raw, gateway)
    for _ in range(1000):
        kept(raw, source, 7)
    assert len(raw) == 1
    assert len(raw._requests._queue) < 100
    raw.clear()
    assert (len(raw), raw.bytes_used) == (0, 0)
    assert raw.get((b"/p", b"7")) is None


def test_all_that_was_received_is_known_from_its_second_time(gateway: Any) -> None:
    raw = RawAnswers(300_000)
    answer = kept(raw, source_of(raw, gateway), 1)
    raw.learn(b"all of it", answer)
    assert raw.get_whole(b"all of it") is None
    raw.learn(b"all of it", answer)
    found = raw.get_whole(b"all of it")
    assert found is not None
    assert (found.tail, found.request, found.rows) == (answer.tail, answer.request, answer.rows)
    raw.drop(found)
    assert raw.get_whole(b"all of it") is None


def test_bodies_are_known_from_their_second_time_and_forgotten_after_many(gateway: Any) -> None:
    raw = RawAnswers(2048 * 64)
    assert not raw.is_known(b"a")
    assert raw.is_known(b"a")
    for number in range(200):
        assert not raw.is_known(b"b%d" % number)
    assert not raw.is_known(b"a")


def test_a_model_that_was_replaced_is_let_go(gateway: Any, wire: Wire) -> None:
    raw = RawAnswers(300_000)
    source = source_of(raw, gateway)
    answer = kept(raw, source, 1)
    assert source_of(raw, gateway) is source
    assert answer.is_fresh(0.0)
    raw.sweep()
    assert answer.is_fresh(0.0)
    old = weakref.ref(gateway.router.pointer(Target("m")).target)

    async def switch() -> None:
        gateway.serve(2)

    wire.run(switch)
    assert not answer.is_fresh(0.0)
    raw.sweep()
    gc.collect()
    assert old() is None
    assert not answer.is_fresh(0.0)
    assert source_of(raw, gateway) is not source


def test_an_entry_takes_what_is_counted(gateway: Any) -> None:
    raw = RawAnswers(100_000_000)
    source = source_of(raw, gateway)
    count = 20_000
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(count):
        body = b"%450d" % number
        answer = RawAnswer((b"/p", body), b"%220d" % number, source, 1e9 + number, 1)
        answer.request = body
        raw.put(answer, 450 + 2)
    taken = (tracemalloc.get_traced_memory()[0] - before) / count
    tracemalloc.stop()
    assert len(raw) == count
    counted = raw.bytes_used / count
    assert 0.85 * taken <= counted <= 1.3 * taken, (taken, counted)


# --- messages -----------------------------------------------------------------------------------


def test_the_date_moves_with_the_clock_both_ways() -> None:
    heads = ResponseHeads()
    for now, date in (
        *((0.0, b"Thu, 01 Jan 1970 00:00:00 GMT"), (0.9, b"Thu, 01 Jan 1970 00:00:00 GMT")),
        *((1.0, b"Thu, 01 Jan 1970 00:00:01 GMT"), (0.5, b"Thu, 01 Jan 1970 00:00:00 GMT")),
    ):
        assert heads.start_ok(now).endswith(b"Date: " + date)
        assert heads.start(404, b"", now) == b"HTTP/1.1 404 Not Found\r\nDate: " + date


def test_a_response_is_put_together_as_the_request_wants() -> None:
    request = HttpRequest("GET", b"/")
    start, tail = b"HTTP/1.1 200 OK\r\nDate: d", tail_of(b"abc", b"\r\nx: y")
    assert finished(request, start, tail) == start + b"\r\nContent-Length: 3\r\nx: y\r\n\r\nabc"
    request.is_1_1 = request.keep_alive = False
    assert finished(request, start, tail).startswith(
        b"HTTP/1.0 200 OK\r\nDate: d\r\nConnection: close\r\nContent-Length: 3\r\n"
    )


def test_gzip_members_are_joined_and_bounded() -> None:
    import gzip

    two = gzip.compress(b"abc") + gzip.compress(b"def")
    assert inflate(two, 6) == b"abcdef"
    assert inflate(two + b"\0\0", 0) == b"abcdef"
    with pytest.raises(BodyTooLargeError):
        inflate(two, 5)
    for bad in (two[:-1], two + b"x", b"abc", two[:20] + b"\xff" * 8 + two[28:]):
        assert inflate(bad, 0) == b""
