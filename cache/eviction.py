"""Containers with a budget, each with its own rule of eviction. No IO here.

`LruShelf`     least recently used first.
`S3FifoShelf`  S3-FIFO: Yang, Zhang, Qiu, Yue, Rashmi, FIFO queues are all you need for cache
               eviction, SOSP 2023. A small queue (10% of the budget) sorts out what is asked for
               once; what is asked for again moves to the main queue, which gives what was asked
               for another round. A ghost queue of keys remembers what the small queue gave up: it
               goes straight to the main queue when it comes back.

Both are used from one thread, and count sizes as they are told.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from operator import itemgetter
from typing import Generic, Protocol, TypeVar

import cachetools

from tfx_encore.schemas.errors import ConfigError

V = TypeVar("V")


class Shelf(Protocol[V]):
    """Values by key within a budget of bytes."""

    budget: int

    @property
    def used(self) -> int:
        """Sum of the sizes."""
        ...

    def get(self, key: bytes) -> V | None:
        """Returns the value and notes that it was asked for."""
        ...

    def put(self, key: bytes, value: V, size: int) -> bool:
        """Keeps a value, evicting others; False if it is larger than the budget."""
        ...

    def put_warm(self, key: bytes, value: V, size: int) -> bool:
        """The same, for a value that is known to be asked for often."""
        ...

    def pop(self, key: bytes) -> V | None:
        """Removes and returns a value."""
        ...

    def items(self) -> Iterator[tuple[bytes, V]]:
        """Yields everything, in no order; nothing may be changed meanwhile."""
        ...

    def __len__(self) -> int:
        """Number of values."""
        ...


Told = Callable[[V], None]


def _ignore(_: object) -> None:
    """Nobody needs to know."""


class _Lru(cachetools.LRUCache[bytes, "tuple[V, int]"], Generic[V]):
    """cachetools' LRU with a word to whoever wants to know what it evicts."""

    def __init__(self, budget: int, evicted: Told[V]) -> None:
        super().__init__(budget, getsizeof=itemgetter(1))
        self._evicted = evicted

    def popitem(self) -> tuple[bytes, tuple[V, int]]:
        """Evicts one; cachetools calls it when room is needed."""
        key, pair = super().popitem()
        self._evicted(pair[0])
        return key, pair


class LruShelf(Generic[V]):
    """Evicts what was not asked for longest: cachetools' LRUCache, with sizes.

    Args:
        budget: bytes.
        evicted: told each value that was evicted.
        left: told each value that is there no more: evicted, popped or replaced.
    """

    def __init__(self, budget: int, evicted: Told[V] = _ignore, left: Told[V] = _ignore) -> None:
        self.budget = budget
        self._left = left
        self._items = _Lru(budget, self._drop)
        self._evicted = evicted

    @property
    def used(self) -> int:
        """Sum of the sizes."""
        return int(self._items.currsize)

    def get(self, key: bytes) -> V | None:
        """Returns the value and notes that it was asked for."""
        found = self._items.get(key)
        return None if found is None else found[0]

    def put(self, key: bytes, value: V, size: int) -> bool:
        """Keeps a value, evicting others; False if it is larger than the budget."""
        self.pop(key)
        if size > self.budget:
            return False
        self._items[key] = (value, size)
        return True

    put_warm = put

    def pop(self, key: bytes) -> V | None:
        """Removes and returns a value."""
        found = self._items.pop(key, None)
        if found is None:
            return None
        self._left(found[0])
        return found[0]

    def _drop(self, value: V) -> None:
        self._evicted(value)
        self._left(value)

    def items(self) -> Iterator[tuple[bytes, V]]:
        """Yields everything; nothing may be changed meanwhile."""
        for key in self._items:
            # The class's own lookup would count as asking.
            yield key, cachetools.Cache.__getitem__(self._items, key)[0]

    def __len__(self) -> int:
        return len(self._items)


class _Node(Generic[V]):
    """A value in a queue; `value` is None once it has left, its place in the queue stays."""

    __slots__ = ("asked", "in_main", "key", "size", "value")

    def __init__(self, key: bytes, value: V, size: int, asked: int, in_main: bool) -> None:
        self.key = key
        self.value: V | None = value
        self.size = size
        self.asked = asked
        self.in_main = in_main


class S3FifoShelf(Generic[V]):
    """Evicts what was asked for once before what was asked for again.

    Args:
        budget: bytes.
        evicted: told each value that was evicted.
        left: told each value that is there no more: evicted, popped or replaced.
    """

    SMALL_SHARE = 0.1
    MOST_ASKED = 3

    def __init__(self, budget: int, evicted: Told[V] = _ignore, left: Told[V] = _ignore) -> None:
        self.budget = budget
        self.used = 0
        self._evicted = evicted
        self._told_left = left
        self._small_used = 0
        self._nodes: dict[bytes, _Node[V]] = {}
        self._small: deque[_Node[V]] = deque()
        self._main: deque[_Node[V]] = deque()
        # 8 bytes of each key that the small queue gave up; two keys that share them only make
        # an eviction less apt.
        self._ghosts: set[bytes] = set()
        self._ghost_queue: deque[bytes] = deque()
        self._has_evicted = False
        self._empty = 0  # places in the queues whose value has left

    def get(self, key: bytes) -> V | None:
        """Returns the value and notes that it was asked for."""
        node = self._nodes.get(key)
        if node is None:
            return None
        if node.asked < self.MOST_ASKED:
            node.asked += 1
        return node.value

    def put(self, key: bytes, value: V, size: int, *, warm: bool = False) -> bool:
        """Keeps a value, evicting others; False if it is larger than the budget."""
        asked = 0
        before = self._nodes.get(key)
        if before is not None:
            asked = before.asked
            self.pop(key)
        if size > self.budget:
            return False
        while self.used + size > self.budget:
            self._evict()
        # While there is room the small queue takes no more than its share, as libCacheSim has it:
        # what comes before the first eviction is not sorted out yet.
        ghost = key[:8]
        is_ghost = ghost in self._ghosts
        if is_ghost:
            self._ghosts.discard(ghost)
        full = self._small_used + size > self.SMALL_SHARE * self.budget
        filling = full and not self._has_evicted
        in_main = warm or is_ghost or asked > 0 or filling
        node = _Node(key, value, size, asked, in_main)
        self._nodes[key] = node
        self.used += size
        if in_main:
            self._main.append(node)
        else:
            self._small.append(node)
            self._small_used += size
        return True

    def put_warm(self, key: bytes, value: V, size: int) -> bool:
        """Keeps a value in the main queue at once, as it is known to be asked for often."""
        return self.put(key, value, size, warm=True)

    def pop(self, key: bytes) -> V | None:
        """Removes and returns a value."""
        node = self._nodes.pop(key, None)
        if node is None:
            return None
        value, node.value = node.value, None
        self._forget(node)
        if value is not None:
            self._told_left(value)
        self._empty += 1
        if self._empty > 64 + len(self._nodes):
            self._small = deque(node for node in self._small if node.value is not None)
            self._main = deque(node for node in self._main if node.value is not None)
            self._empty = 0
        return value

    def items(self) -> Iterator[tuple[bytes, V]]:
        """Yields everything; nothing may be changed meanwhile."""
        for key, node in self._nodes.items():
            if node.value is not None:
                yield key, node.value

    def __len__(self) -> int:
        return len(self._nodes)

    def _evict(self) -> None:
        """Evicts one value, or moves one on."""
        self._has_evicted = True
        is_small_full = self._small_used >= self.SMALL_SHARE * self.budget
        if (self._small and is_small_full) or not self._main:
            self._evict_small()
        else:
            self._evict_main()

    def _evict_small(self) -> None:
        node = self._small.popleft()
        if node.value is None:
            self._empty -= 1
        elif node.asked:
            self._small_used -= node.size
            node.in_main, node.asked = True, 0
            self._main.append(node)
        else:
            self._remember(node.key)
            self._drop(node, node.value)

    def _evict_main(self) -> None:
        node = self._main.popleft()
        if node.value is None:
            self._empty -= 1
        elif node.asked:
            node.asked -= 1
            self._main.append(node)
        else:
            self._drop(node, node.value)

    def _drop(self, node: _Node[V], value: V) -> None:
        del self._nodes[node.key]
        node.value = None
        self._forget(node)
        self._evicted(value)
        self._told_left(value)

    def _forget(self, node: _Node[V]) -> None:
        self.used -= node.size
        if not node.in_main:
            self._small_used -= node.size

    def _remember(self, key: bytes) -> None:
        self._ghosts.add(key[:8])
        self._ghost_queue.append(key[:8])
        while len(self._ghost_queue) > len(self._nodes):
            self._ghosts.discard(self._ghost_queue.popleft())


def make_shelf(
    name: str, budget: int, evicted: Told[V] = _ignore, left: Told[V] = _ignore
) -> Shelf[V]:
    """Returns a shelf by the name of its rule: `lru` or `s3fifo`; the rest as they have it.

    Raises:
        ConfigError: no such rule.
    """
    if name == "lru":
        return LruShelf(budget, evicted, left)
    if name == "s3fifo":
        return S3FifoShelf(budget, evicted, left)
    raise ConfigError(f"no eviction rule {name!r}; choose `lru` or `s3fifo`")
