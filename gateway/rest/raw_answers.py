"""Whole responses by the bytes of their requests: the first tier of all. No IO here.

Two dictionaries: one by path and body, one by everything that was received, head and body. What is
in them may be sent again only while the answer made from its rows would be the same, which is for
`inference.is_fresh` to say, each time.

A response holds on to nothing of its model but a `Source`, which lets go of the model once another
has taken its place: what is kept here must not keep a retired model in memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable

from tfx_encore.gateway.inference import is_fresh
from tfx_encore.gateway.prediction import Freshness

MAX_BODY_BYTES = 256 * 1024
"""Larger bodies are not looked up: hashing them would hold up everybody else."""

MAX_WHOLE_BYTES = 16 * 1024
"""What is received at once, at most, to be looked up whole."""

# Bodies seen before are known by their hashes; a wrong guess only keeps what may be of no use.
_MAX_SEEN = 32_768
_BYTES_PER_MARK = 2048

# Bytes that an answer takes beside its own byte strings: object, key, places in dictionary and
# queue. Measured on CPython 3.10 with tracemalloc; a test measures it again.
_OVERHEAD = 520


class Source:
    """What answers that may be repeated equally long were made from.

    Attributes:
        freshness: without an end in time; None once they may not be repeated any more.
        model: as the request names it.
        label: likewise; empty if it names none.
        method: as `Predict`.
        signature: that answered.
        version: that answered.
        fingerprint: of the model that answered.
    """

    __slots__ = (
        *("freshness", "model", "label", "method", "signature", "version", "fingerprint"),
        "count",
    )

    def __init__(
        self, freshness: Freshness, method: str, signature: str, count: Callable[[float, int], None]
    ) -> None:
        self.freshness: Freshness | None = freshness._replace(expires_at=0.0)
        self.model = freshness.pointer.name.model
        self.label = freshness.pointer.name.label or ""
        self.method = method
        self.signature = signature
        self.version = freshness.servable.version
        self.fingerprint = freshness.servable.fingerprint
        self.count = count

    def is_over(self) -> bool:
        """True if nothing made from it will ever be repeated again; lets go of the model then."""
        freshness = self.freshness
        if freshness is None:
            return True
        cache = freshness.servable.cache
        if (
            freshness.pointer.target is freshness.servable
            and cache is not None
            and cache.state.changes == freshness.changes
        ):
            return False
        self.freshness = None
        return True


class RawAnswer:
    """A whole response.

    Attributes:
        key: of the request.
        tail: the response after its Date.
        source: what it was made from.
        expires_at: seconds since 1970; 0.0 for never.
        rows: of the request.
        request: the request's body, as it was sent.
        size: bytes that it takes here; 0 once it is given up.
        asked: True if it was repeated since it last was at the head of the queue.
    """

    __slots__ = ("asked", "expires_at", "key", "request", "rows", "size", "source", "tail")

    def __init__(
        self, key: Hashable, tail: bytes, source: Source, expires_at: float, rows: int
    ) -> None:
        self.key = key
        self.tail = tail
        self.source = source
        self.expires_at = expires_at
        self.rows = rows
        self.request = b""
        self.asked = False
        self.size = 0

    def is_fresh(self, now: float) -> bool:
        """True if it may be repeated.

        Args:
            now: seconds since 1970.
        """
        freshness = self.source.freshness
        if freshness is None or (self.expires_at and now >= self.expires_at):
            return False
        return is_fresh(freshness, now)


class RawAnswers:
    """Responses by request, within a budget.

    Args:
        budget_bytes: memory at most, all overhead included; 0 keeps nothing.
        on_clear: called when everything is given up.
    """

    def __init__(self, budget_bytes: int, on_clear: Callable[[], None] | None = None) -> None:
        self._on_clear = on_clear
        self._requests = _Clock(budget_bytes * 2 // 3)
        self._whole = _Clock(budget_bytes // 3)
        self._seen = _Seen(min(max(budget_bytes // _BYTES_PER_MARK, 64), _MAX_SEEN))
        self._seen_whole = _Seen(_MAX_SEEN)
        self._sources: dict[tuple[int, int, int, str, str], Source] = {}
        self.get = self._requests.answers.get
        """By path and body: `(url, body)`, or `(url, body, encoding)` if the body is encoded."""
        self.get_whole = self._whole.answers.get
        """By everything that was received."""

    def __len__(self) -> int:
        """Number of responses."""
        return len(self._requests.answers)

    @property
    def bytes_used(self) -> int:
        """Memory that is taken, as well as it can be told."""
        return self._requests.used + self._whole.used

    def source(
        self,
        freshness: Freshness,
        method: str,
        signature: str,
        counter: Callable[[], Callable[[float, int], None]],
    ) -> Source:
        """Returns the source of answers with this freshness, whatever their end in time.

        Args:
            freshness: of an answer.
            method: as `Predict`.
            signature: that answered.
            counter: makes what is told the seconds and the rows of each repetition.
        """
        pointer, servable = freshness.pointer, freshness.servable
        wanted = (id(pointer), id(servable), freshness.changes, method, signature)
        found = self._sources.get(wanted)
        # Another object may be where one was that is gone.
        if found is None or found.freshness is None or found.freshness.pointer is not pointer:
            found = self._sources[wanted] = Source(freshness, method, signature, counter())
        return found

    def put(self, answer: RawAnswer, request_bytes: int) -> None:
        """Keeps a response.

        Args:
            answer: the response.
            request_bytes: that its key takes.
        """
        answer.size = request_bytes + len(answer.tail) + _OVERHEAD
        self._requests.put(answer)

    def is_known(self, body: bytes) -> bool:
        """True if a body was seen before, not too long ago; what was seen once takes no room."""
        return self._seen.again(body)

    def learn(self, data: bytes, answer: RawAnswer) -> None:
        """Notes that a request was all of what was received; kept when it is seen a second time."""
        if not answer.size:
            return
        if not self._seen_whole.again(data):
            return
        copy = RawAnswer(data, answer.tail, answer.source, answer.expires_at, answer.rows)
        copy.request = answer.request
        copy.size = len(data) + len(answer.tail) + _OVERHEAD
        self._whole.put(copy)

    def drop(self, answer: RawAnswer) -> None:
        """Gives up a response that may not be repeated."""
        self._requests.drop(answer)
        self._whole.drop(answer)

    def sweep(self) -> None:
        """Lets go of models that have been replaced."""
        for wanted in [wanted for wanted, found in self._sources.items() if found.is_over()]:
            del self._sources[wanted]

    def clear(self) -> None:
        """Gives up everything."""
        self._requests.clear()
        self._whole.clear()
        self._seen.clear()
        self._seen_whole.clear()
        self._sources.clear()
        if self._on_clear is not None:
            self._on_clear()


class _Seen:
    """The hashes of what was seen lately: of the last `most` at least, of twice as many at most."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._new: set[int] = set()
        self._old: set[int] = set()

    def again(self, data: bytes) -> bool:
        """True if it was seen lately; from now on it was."""
        mark = hash(data)
        if mark in self._new:
            return True
        if len(self._new) >= self._most:
            self._old, self._new = self._new, set()
        self._new.add(mark)
        return mark in self._old

    def clear(self) -> None:
        """Forgets everything."""
        self._new.clear()
        self._old.clear()


class _Clock:
    """A dictionary within a budget: FIFO, but what was asked for meanwhile gets another round.

    Asking costs one look into a dictionary and setting one attribute, which is what counts here.
    """

    def __init__(self, budget: int) -> None:
        self.answers: dict[Hashable, RawAnswer] = {}
        self.used = 0
        self._budget = budget
        self._queue: deque[RawAnswer] = deque()

    def put(self, answer: RawAnswer) -> None:
        """Keeps an answer, evicting others; not one that would take the room of many."""
        before = self.answers.get(answer.key)
        if before is not None:
            self.drop(before)
        if answer.size > self._budget // 8:
            return
        self.answers[answer.key] = answer
        self.used += answer.size
        self._queue.append(answer)
        while self.used > self._budget:
            self._evict()

    def drop(self, answer: RawAnswer) -> None:
        """Gives up an answer, if it is here; its place in the queue stays for a while."""
        if self.answers.get(answer.key) is not answer:
            return
        self._forget(answer)
        if len(self._queue) > 64 + 2 * len(self.answers):
            self._queue = deque(answer for answer in self._queue if answer.size)

    def clear(self) -> None:
        """Gives up everything."""
        self.answers.clear()
        self._queue.clear()
        self.used = 0

    def _evict(self) -> None:
        oldest = self._queue.popleft()
        if oldest.asked:
            oldest.asked = False
            self._queue.append(oldest)
        elif oldest.size:
            self._forget(oldest)

    def _forget(self, answer: RawAnswer) -> None:
        del self.answers[answer.key]
        self.used -= answer.size
        answer.size, answer.asked = 0, False
        answer.key, answer.tail, answer.request = None, b"", b""
