"""Which rule of eviction suits your traffic: replays a trace of keys against each. No IO here.

What is replayed is the code that evicts in the memory tier (`cache.eviction`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tfx_encore.cache.eviction import Shelf, make_shelf

RULES = ("lru", "s3fifo")


@dataclass(frozen=True)
class Replay:
    """How one rule did on a trace.

    Attributes:
        rule: `lru` or `s3fifo`.
        budget: bytes.
        requests: asked for.
        hits: of these, found.
        bytes_asked: sum of the sizes asked for.
        bytes_hit: sum of the sizes found.
    """

    rule: str
    budget: int
    requests: int
    hits: int
    bytes_asked: int
    bytes_hit: int

    @property
    def hit_rate(self) -> float:
        """Share of the requests that hit, in [0, 1]."""
        return self.hits / self.requests if self.requests else 0.0


def replay(trace: Iterable[tuple[bytes, int]], budget: int, rule: str) -> Replay:
    """Replays a trace: a miss is put, as the cache does.

    Args:
        trace: row key and size in bytes, overhead included, in the order of asking.
        budget: bytes.
        rule: `lru` or `s3fifo`.

    Raises:
        ConfigError: no such rule.
    """
    shelf: Shelf[bytes] = make_shelf(rule, budget)
    requests = hits = asked = found = 0
    for key, size in trace:
        requests += 1
        asked += size
        if shelf.get(key) is None:
            shelf.put(key, key, size)
        else:
            hits += 1
            found += size
    return Replay(rule, budget, requests, hits, asked, found)


def choose(
    trace: Sequence[tuple[bytes, int]], budget: int, rules: Sequence[str] = RULES
) -> tuple[Replay, ...]:
    """Returns how each rule did, the best hit rate first; of equals the first named."""
    results = [replay(trace, budget, rule) for rule in rules]
    return tuple(sorted(results, key=lambda result: -result.hit_rate))
