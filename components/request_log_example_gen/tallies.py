"""Counts that many workers make, added up, and the report that comes of them. No IO here.

A tally is name -> number. Names have parts: `rows_by_path/hit`. Most numbers are added; of the
times the least or the greatest stays. What a sampling rate divides is counted by rate and divided
at the end, so that the order of adding never shows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from tfx_encore.schemas.nights import HIT, PATHS, LogReport

Tally = dict[str, int]
FIRST, LAST = "first_us", "last_us"
SQUARES = "squares"
_SEPARATOR = "\x1f"
_MAX_REASONS = 50
_MAX_KINDS = 10_000  # of requests that are counted together
_OTHERS = "other reasons"
_ROUND = 6


def count(tally: Tally, *name: object, by: int = 1) -> None:
    """Adds to the number of this name."""
    key = _SEPARATOR.join(str(part) for part in name)
    tally[key] = tally.get(key, 0) + by


def add(total: Tally, more: Mapping[str, int]) -> None:
    """Adds a tally to a total."""
    for name, number in more.items():
        if name not in total:
            total[name] = number
        elif name == FIRST:
            total[name] = min(total[name], number)
        elif name == LAST:
            total[name] = max(total[name], number)
        else:
            total[name] += number


class Requests:
    """Counts answered requests (`records.Answered`) with their rows; alike ones together.

    Args:
        tally: has the counts once `close` was called.
    """

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._alike: dict[tuple[Any, ...], list[int]] = {}
        self._first = self._last = 0

    def add(self, answer: Any) -> None:
        """Counts a request."""
        paths, took_us, time_us = answer.paths, answer.took_us, answer.time_us
        alike = (
            answer.version,
            answer.fingerprint,
            answer.cache,
            answer.rate,
            took_us is not None,
            *[paths.count(path) for path in PATHS],
        )
        held = self._alike.get(alike)
        if held is None:
            if len(self._alike) >= _MAX_KINDS:
                self.close()
            if not self._alike:
                self._first = self._last = time_us
            held = self._alike[alike] = [0, 0]
        held[0] += 1
        held[1] += took_us or 0
        if time_us < self._first:
            self._first = time_us
        elif time_us > self._last:
            self._last = time_us

    def close(self) -> None:
        """Adds what was counted to the tally."""
        for alike, (requests, took_us) in self._alike.items():
            _count_alike(self._tally, alike, requests, took_us)
        if self._alike:
            add(self._tally, {FIRST: self._first, LAST: self._last})
        self._alike = {}


def _count_alike(tally: Tally, alike: tuple[Any, ...], requests: int, took_us: int) -> None:
    version, fingerprint, cache, sampled, timed, *numbers = alike
    rows = requests * sum(numbers)
    count(tally, "requests", by=requests)
    count(tally, "rows", by=rows)
    count(tally, "rows_by_version", version, by=rows)
    if fingerprint:
        count(tally, "fingerprints", version, fingerprint, by=rows)
    for path, number in zip(PATHS, numbers, strict=True):
        if number:
            count(tally, "rows_by_path", path, by=requests * number)
    if cache:
        count(tally, "requests_by_cache", cache, by=requests)
        if timed:
            count(tally, "latency_us", cache, by=took_us)
    rate = _rate(sampled)
    count(tally, "weighted_requests", rate, by=requests)
    count(tally, "weighted_rows", rate, by=rows)
    hits = requests * numbers[PATHS.index(HIT)]
    if hits:
        count(tally, "weighted_hits", rate, by=hits)


@lru_cache(maxsize=1000)
def _rate(rate: float) -> str:
    return f"{rate:.7g}"  # 0.1 travels as a float32


def report_of(tally: Mapping[str, int], files: int, bad_labels: Iterable[str]) -> LogReport:
    """Returns the report of a whole day.

    Args:
        tally: of everything.
        files: files read.
        bad_labels: a line for some of the labels that could not be used.
    """
    rows, squares = tally.get("rows", 0), tally.get(SQUARES, 0)
    fingerprints: dict[str, str] = {}
    # Of several fingerprints under one number, the one with most rows.
    told = Counter(_below(tally, "fingerprints"))
    for name, _ in sorted(told.items(), key=lambda item: (-item[1], item[0])):
        version, _, fingerprint = name.partition(_SEPARATOR)
        fingerprints.setdefault(version, fingerprint)
    return LogReport(
        files=files,
        records=tally.get("records", 0),
        unreadable=tally.get("unreadable", 0),
        unusable=_most(_below(tally, "unusable")),
        set_aside="set_aside" if tally.get("unreadable") else "",
        requests=tally.get("requests", 0),
        rows=rows,
        failed=_below(tally, "failed"),
        rows_by_version=_below(tally, "rows_by_version"),
        fingerprints=fingerprints,
        rows_by_path=_below(tally, "rows_by_path"),
        requests_by_cache=_below(tally, "requests_by_cache"),
        latency_us={name: float(sum_) for name, sum_ in _below(tally, "latency_us").items()},
        weighted_requests=_weighted(tally, "weighted_requests"),
        weighted_rows=_weighted(tally, "weighted_rows"),
        weighted_hits=_weighted(tally, "weighted_hits"),
        labelled=tally.get("labelled", 0),
        labels_read=tally.get("labels_read", 0),
        labels_repeated=tally.get("labels_repeated", 0),
        labels_unmatched=tally.get("labels_unmatched", 0),
        labels_bad=tally.get("labels_bad", 0),
        bad_labels=tuple(bad_labels),
        effective_rows=rows * rows / squares if squares else 0.0,
        first_us=tally.get(FIRST),
        last_us=tally.get(LAST),
    )


def _below(tally: Mapping[str, int], name: str) -> dict[str, int]:
    start = name + _SEPARATOR
    return {key[len(start) :]: tally[key] for key in sorted(tally) if key.startswith(start)}


def _weighted(tally: Mapping[str, int], name: str) -> float:
    found = _below(tally, name)
    return round(sum(number / float(rate) for rate, number in found.items()), _ROUND)


def _most(reasons: Mapping[str, int]) -> dict[str, int]:
    """At most so many reasons; they may name what clients sent."""
    ordered = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    kept = dict(ordered[:_MAX_REASONS])
    if len(ordered) > _MAX_REASONS:
        kept[_OTHERS] = sum(number for _, number in ordered[_MAX_REASONS:])
    return kept
