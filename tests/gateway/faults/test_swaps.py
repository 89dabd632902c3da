"""Versions are pushed while clients ask: no request fails, and no answer is stale.

Stale: an answer of a version lower than one that any client had received before the request was
sent.
"""

from __future__ import annotations

from typing import Any

import pytest


def _push_under_load(gateway: Any, releases: Any, client: Any, versions: range, model: str) -> None:
    """Each push when an equal share of the requests has been answered."""
    with client:
        for version in versions:
            client.go_on(500)
            releases.push(version, model)
        client.go_on(500)
        for _ in range(100):
            if client.highest == versions[-1]:
                break
            client.go_on(200)


def test_no_request_fails_and_no_answer_is_stale_while_versions_are_pushed(shared, load) -> None:
    client = load(shared.gateway, model="swapped")
    _push_under_load(shared.gateway, shared.releases, client, range(2, 6), "swapped")
    client.check()
    assert client.highest == 5
    assert client.hits > 0


def test_a_rollback_under_load_fails_no_request_and_finds_its_answers_warm(
    shared, load, wait
) -> None:
    gateway, directory = shared.gateway, shared.releases.directory("rolled")
    with load(gateway, model="rolled", only_newer=False) as client:
        client.go_on(300)
        before = gateway.predict(1, 2, 3, model="rolled")
        shared.releases.push(2, "rolled")
        wait(lambda: client.versions[2], "answers of version 2")
        directory.set_label("stable", 1, by="a test", reason="to see it")
        wait(lambda: gateway.predict(1, 2, 3, model="rolled").body == before.body, "version 1")
        assert gateway.predict(1, 2, 3, model="rolled").cache == "hit"
        assert gateway.predict(4, 5, 6, model="rolled").headers["x-encore-version"] == "1"
        client.go_on(300)
    client.check()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_twenty_swaps_under_load_give_no_stale_answer_and_no_failure(
    make_releases, start_gateway, load, tmp_path, workers: int
) -> None:
    releases = make_releases()
    flags = [f"--releases={releases.root}", f"--workers={workers}", f"--cache_dir={tmp_path}"]
    client = load(start_gateway(*flags), threads=8, rows=2000)
    with client:
        for version in range(2, 22):
            client.go_on(1000)
            releases.push(version)
        client.go_on(1000)
        for _ in range(100):
            if client.highest == 21:
                break
            client.go_on(200)
    client.check()
    assert client.highest == 21
    assert client.requests >= 20_000
