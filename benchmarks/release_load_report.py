"""What the release-under-load benchmark shows: from two runs to a table, and its picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import release_load_client as client
from release_load_chart import Curve, draw
from release_load_steps import FEATURES, make_rows

TARGET = 0.95

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Size:
    """How large a run is.

    Attributes:
        rows: distinct ones.
        rate: requests a second.
        steady: seconds until the request log is read.
        after: seconds after the switch.
        first: seconds after the switch over which its hit rate is measured, and before the push.
    """

    rows: int
    rate: int
    steady: float
    after: float
    first: float


@dataclass(frozen=True)
class Run:
    """One run.

    Attributes:
        arrays: what became of each request (`release_load_client.run`).
        pushed_at: when the push began, seconds since the first request; likewise the next.
        switched_at: when version 2 answered first.
        warmed: the snapshot's folder; None without one.
        warm_seconds: what CacheWarmer took.
        log_requests: records in the request log that it was given.
        dropped: records that the log lost.
        tier_bytes: what the memory tier takes at the end.
        evicted: entries that it gave up.
    """

    arrays: dict[str, Array]
    pushed_at: float
    switched_at: float
    warmed: Path | None
    warm_seconds: float
    log_requests: int
    dropped: int
    tier_bytes: int
    evicted: int

    def between(self, begin: float, end: float) -> Array:
        """Which requests were answered from `begin` to `end`, seconds since the first request."""
        done = self.arrays["done"]
        return np.flatnonzero((done >= begin) & (done < end))

    def rate(self, begin: float, end: float) -> float:
        """The share of the answers of a time that were hits."""
        return float(self.arrays["hit"][self.between(begin, end)].mean())


def picture(file: Path, size: Size, warmed: Run, bare: Run) -> None:
    """Draws the hit rate of both runs around the switch."""
    file.parent.mkdir(parents=True, exist_ok=True)
    curves = [_curve("with CacheWarmer", warmed, size), _curve("without", bare, size)]
    draw(file, curves, TARGET * _steady(warmed, size), f"{TARGET:.0%} of the steady state")


@dataclass(frozen=True)
class Held:
    """What the snapshot held.

    Attributes:
        entries: answers.
        bytes: of them on disk.
        asked: answers of version 2 in the first time whose row it held.
        missed: of these, how many were no hits.
        of_log: the hit rate of the first time, had all rows of the log been in it.
        of_default: the same for a head of the policy's default size.
        replayed: the same for what it held; to compare with what was measured.
        of_nothing: the same for no snapshot.
    """

    entries: int
    bytes: int
    asked: int
    missed: int
    replayed: float
    of_log: float
    of_default: float
    of_nothing: float


def _held(run: Run, size: Size) -> Held:
    """Follows the rows of the snapshot through the requests after the switch."""
    from tfx_encore.cache.rows import decode_row, to_array
    from tfx_encore.cache.snapshot import read_entries, verify_snapshot

    assert run.warmed is not None
    directory = str(run.warmed / "snapshot")
    meta = verify_snapshot(directory)
    places = {row.tobytes(): place for place, row in enumerate(make_rows(size.rows))}
    order = []
    for entry in read_entries(directory):
        cells = decode_row(entry.row)
        values = [to_array(cells[name]).reshape(()) for name in FEATURES]
        order.append(places[np.array(values, "f").tobytes()])
    rows, hit = run.arrays["row"], run.arrays["hit"]
    first = run.between(run.switched_at, run.switched_at + size.first)
    asked = first[np.isin(rows[first], order) & (run.arrays["version"][first] == 2)]
    logged = rows[: run.log_requests]
    return Held(
        meta.entries,
        meta.bytes,
        len(asked),
        int((hit[asked] == 0).sum()),
        _replay(order, rows[first]),
        _replay(logged, rows[first]),
        _replay(order[: _default_head()], rows[first]),
        _replay([], rows[first]),
    )


def _default_head() -> int:
    from tfx_encore.schemas.warmup_policy import WarmupPolicy

    return WarmupPolicy().max_entries


def _replay(head: Sequence[int] | Array, rows: Array) -> float:
    """The hit rate of a cache that begins with the head and forgets nothing."""
    seen = set(head if isinstance(head, list) else head.tolist())
    hits = 0
    for row in rows.tolist():
        hits += row in seen
        seen.add(row)
    return hits / len(rows)


def _steady(run: Run, size: Size) -> float:
    return run.rate(run.pushed_at - size.first, run.pushed_at)


def _curve(label: str, run: Run, size: Size) -> Curve:
    """Hits and answers of each second; second 0 begins at the switch."""
    before = int(min(run.switched_at, size.after))
    edges = np.arange(-before, int(size.after) + 1) + run.switched_at
    places = np.digitize(run.arrays["done"], edges) - 1
    seconds = len(edges) - 1
    inside = (places >= 0) & (places < seconds)
    answers = np.bincount(places[inside], minlength=seconds)
    hits = np.bincount(places[inside], weights=run.arrays["hit"][inside], minlength=seconds)
    return Curve(label, -before, hits, answers)


def _recovered(run: Run, size: Size) -> int | str:
    """The first second after the switch up to which the last 5 seconds reach the target."""
    curve = _curve("", run, size)
    wanted = TARGET * _steady(run, size)
    for second, rate in zip(*curve.rolling(), strict=True):
        if second > 0 and rate >= wanted:
            return int(second)
    return f"not within {size.after:g}"


def _row(label: str, run: Run, size: Size) -> dict[str, Any]:
    steady = _steady(run, size)
    first = run.rate(run.switched_at, run.switched_at + size.first)
    arrays = run.arrays
    due = np.arange(len(arrays["done"])) / size.rate
    answered = arrays["status"] == 200
    after = run.between(run.switched_at, run.switched_at + size.first)
    return {
        "run": label,
        "requests": len(arrays["done"]),
        "hit rate, steady": round(steady, 4),
        f"in the {_time(size.first)} after the switch": round(first, 4),
        "share of steady": round(first / steady, 4),
        "target": "at least 0.95" if run.warmed else "",
        "s until 95% again": _recovered(run, size),
        "failed": int((~answered).sum()),
        "stale": int(arrays["stale"].sum()),
        "wrong": int(arrays["wrong"].sum()),
        "s from push to switch": round(run.switched_at - run.pushed_at, 2),
        "p99 before, ms": _p99(arrays, due, run.between(size.steady - size.first, size.steady)),
        "p99 after, ms": _p99(arrays, due, after),
    }


def _p99(arrays: dict[str, Array], due: Array, which: Array) -> float:
    return round(float(np.quantile(arrays["done"][which] - due[which], 0.99)) * 1e3, 2)


def _time(seconds: float) -> str:
    return "minute" if seconds == 60 else f"{seconds:g} s"


def report(size: Size, warmed: Run, bare: Run) -> dict[str, Any]:
    """The table and its notes."""
    held = _held(warmed, size)
    steady = _steady(warmed, size)
    dropped = warmed.dropped + bare.dropped
    return {
        "title": "Release under load",
        "rows": [
            _row("with CacheWarmer", warmed, size),
            _row("without", bare, size),
        ],
        "notes": [
            "![Hit rate before and after a release](images/release-under-load.png)",
            f"REST, one row of {len(FEATURES)} raw numbers a request, Zipf "
            f"{client.EXPONENT} over {size.rows:,} distinct rows, {size.rate:,} requests a second, "
            f"open loop over at most {client.CONNECTIONS} connections, one worker, memory tier, "
            "all settings of the cache by default; both runs get the same requests.",
            f"Version 1 for {warmed.pushed_at:.0f} s from an empty cache; steady is the last "
            f"{_time(size.first)} before the push. CacheWarmer read the log of the first "
            f"{size.steady:.0f} s ({warmed.log_requests:,} requests, rate 1.0; {dropped} dropped) "
            f"and took {warmed.warm_seconds:.0f} s at low priority beside the traffic.",
            f"The snapshot: {held.entries:,} answers, {held.bytes / 2**20:.1f} MiB on disk "
            f"(`warmup.max_entries` {size.rows:,}); the memory tier at the end: "
            f"{warmed.tier_bytes / 2**20:.0f} MiB with it, {bare.tier_bytes / 2**20:.0f} MiB "
            f"without; {warmed.evicted + bare.evicted} evictions.",
            f"Of the answers after the switch {held.asked:,} were to rows that the snapshot held; "
            f"{held.missed} of these were no hits.",
            "The same requests replayed against a head that begins as the snapshot give "
            f"{held.replayed / steady:.3f} of steady; {_default_head():,} answers, the default of "
            f"`warmup.max_entries`, {held.of_default / steady:.3f}; all rows of the log, of which "
            "CacheWarmer holds the latest 20% out to measure on, "
            f"{held.of_log / steady:.3f}; nothing, {held.of_nothing / steady:.3f}.",
            "Failed: no answer, or another than 200. Stale: a version lower than one that had "
            "answered before the request was sent. Wrong: not the score that the version in the "
            "answer's header gives for the row (all were computed before). Latency is counted from "
            f"when a request was due; before: the {_time(size.first)} before CacheWarmer begins; "
            f"after: the {_time(size.first)} after the switch.",
        ],
    }
