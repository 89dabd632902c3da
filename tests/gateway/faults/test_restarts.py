"""The gateway is killed, and what it left on disk damaged: misses later, never a wrong answer."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb
import pytest

ROWS = range(400)
STEP = 1_000_000


def _file_of(cache_dir: Path, model: str) -> Path:
    (file,) = (cache_dir / model / "answers").glob("entries-*.lmdb")
    return file


def _written(cache_dir: Path, model: str) -> int:
    """Entries that are in the file, and so survive a kill."""
    path = str(_file_of(cache_dir, model))
    env = lmdb.open(path, subdir=False, readonly=True, lock=False, max_dbs=8)
    try:
        entries = env.open_db(b"entries", create=False)
        with env.begin(db=entries) as reading:
            return int(reading.stat()["entries"])
    except lmdb.NotFoundError:
        return 0
    finally:
        env.close()


def _truncate(file: Path) -> None:
    """Cuts it in the middle of a page."""
    os.truncate(file, file.stat().st_size // 2 + 1000)


def _truncate_to_nothing(file: Path) -> None:
    os.truncate(file, 0)


def _overwrite(file: Path) -> None:
    """Random bytes from the first to the last."""
    file.write_bytes(os.urandom(file.stat().st_size))


def _overwrite_pages(file: Path) -> None:
    """Leaves what LMDB looks at when it opens a file, and nothing else."""
    with file.open("r+b") as pages:
        pages.seek(2 * 4096)
        pages.write(os.urandom(file.stat().st_size - 2 * 4096))


def _flip_bits(file: Path) -> None:
    """One bit in each page but the first two."""
    chance = random.Random(7)
    content = bytearray(file.read_bytes())
    for page in range(2, len(content) // 4096):
        content[page * 4096 + chance.randrange(4096)] ^= 1 << chance.randrange(8)
    file.write_bytes(bytes(content))


def _make_version_of_tomorrow(file: Path) -> None:
    env = lmdb.open(str(file), subdir=False, max_dbs=8, map_size=2**30)
    with env.begin(write=True, db=env.open_db(b"about")) as change:
        change.put(b"format", b"9999")
    env.close()


DAMAGE: dict[str, Callable[[Path], None]] = {
    "cut": _truncate,
    "emptied": _truncate_to_nothing,
    "overwritten": _overwrite,
    "gutted": _overwrite_pages,
    "flipped": _flip_bits,
    "newer": _make_version_of_tomorrow,
}


def _ask_all(gateway: Any, model: str) -> dict[str, int]:
    """Asks for every row by itself and checks it; returns how many there were of each status."""
    found: dict[str, int] = {}
    for row in ROWS:
        reply = gateway.predict(row, model=model)
        assert reply.json() == {"predictions": [row + STEP]}
        found[reply.cache] = found.get(reply.cache, 0) + 1
    return found


@pytest.fixture(scope="module")
def killed(
    make_releases: Any,
    start_gateway: Any,
    load: Any,
    wait: Any,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Any, Path, Any]:
    """A gateway killed under load, its files damaged, and started again under the same load.

    Every model's file but `sound` is damaged in its own way while nobody has it open.
    """
    cache_dir = tmp_path_factory.mktemp("cache")
    releases = make_releases("sound", *DAMAGE)
    flags = [f"--releases={releases.root}", f"--cache_dir={cache_dir}"]
    gateway = start_gateway(*flags, policy={"lmdb_bytes": 2**24})
    for model in DAMAGE:
        assert _ask_all(gateway, model) == {"miss": len(ROWS)}
    with load(gateway, model="sound", rows=2000, retry=True) as client:
        client.go_on(1500)
        wait(lambda: _written(cache_dir, "sound") > 0, "the first batch on disk")
        gateway.kill()
        for model, damage in DAMAGE.items():
            damage(_file_of(cache_dir, model))
        gateway.start()
        client.go_on(500)
    return gateway, cache_dir, client


@pytest.fixture
def restarted(killed: tuple[Any, Path, Any]) -> Any:
    """That gateway."""
    return killed[0]


def test_a_gateway_killed_under_load_answers_right_when_it_is_back(killed) -> None:
    client = killed[2]
    client.check()
    assert client.broken > 0


def test_after_a_kill_the_first_hits_come_from_lmdb(killed) -> None:
    assert killed[0].count("encore_cache_hits_total", model="sound", tier="lmdb") > 0


@pytest.mark.parametrize("model", ["cut", "emptied", "overwritten", "newer"])
def test_a_file_that_no_lmdb_can_open_is_begun_anew(restarted, killed, model: str) -> None:
    assert _ask_all(restarted, model) == {"miss": len(ROWS)}
    assert _ask_all(restarted, model) == {"hit": len(ROWS)}
    assert _file_of(killed[1], model).name != "entries-000001.lmdb"


@pytest.mark.parametrize("model", ["gutted", "flipped"])
def test_a_file_damaged_inside_gives_no_wrong_answer(restarted, model: str) -> None:
    _ask_all(restarted, model)
    assert _ask_all(restarted, model) == {"hit": len(ROWS)}


@pytest.mark.slow
def test_a_gateway_that_ended_in_order_has_every_answer_after_a_restart(
    make_releases, start_gateway, tmp_path
) -> None:
    gateway = start_gateway(f"--releases={make_releases().root}", f"--cache_dir={tmp_path}")
    assert _ask_all(gateway, "row") == {"miss": len(ROWS)}
    assert gateway.terminate() == 0
    gateway.start()
    assert _ask_all(gateway, "row") == {"hit": len(ROWS)}
    assert gateway.count("encore_cache_hits_total", tier="lmdb") == len(ROWS)


@pytest.mark.slow
def test_a_gateway_killed_at_ten_moments_answers_right_each_time(
    make_releases, start_gateway, load, tmp_path
) -> None:
    releases = make_releases()
    chance, from_lmdb = random.Random(10), 0.0
    gateway = start_gateway(f"--releases={releases.root}", f"--cache_dir={tmp_path}")
    with load(gateway, rows=2000, retry=True) as client:
        for number in range(10):
            client.go_on(chance.randrange(200, 2000))
            if number % 3 == 1:
                releases.push(2 + number // 3)  # killed while a version is loaded
            gateway.kill()
            gateway.start()
            client.go_on(200)
            # None if it was killed before the first batch of a version was written.
            from_lmdb += gateway.count("encore_cache_hits_total", tier="lmdb")
    client.check()
    assert client.broken >= 10
    assert from_lmdb > 0
    assert gateway.terminate() == 0
