"""Predict requests by their rows alone: no tensors are made while every row is known. No IO here.

Where anything is unusual the full way judges, so that errors and their order are its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from tfx_encore.cache.inference_cache import InferenceCache
from tfx_encore.cache.row_request import RowRequest
from tfx_encore.gateway.inference import RowPlace
from tfx_encore.gateway.prediction import raise_rejection
from tfx_encore.gateway.rest.exchange import Counter
from tfx_encore.gateway.rest.json_rows import RowReader, parse_quick
from tfx_encore.gateway.routing import Pointer, Router, Target
from tfx_encore.gateway.servable import Servable
from tfx_encore.gateway.signature import DEFAULT_SIGNATURE

_MAX_TAILS = 1024
_MAX_URLS = 1024
_new = tuple.__new__

Prepare = Callable[[Servable, str], tuple[bytes, Counter]]
"""Returns what a hit of a version and signature says of itself, and what counts it."""


class _Tails(dict[int, bytes]):
    """Length of a body -> Content-Length, further fields, and the empty line."""

    def __init__(self, said: bytes) -> None:
        self._said = said

    def __missing__(self, length: int) -> bytes:
        if len(self) >= _MAX_TAILS:
            self.clear()
        made = self[length] = b"\r\nContent-Length: %d%b\r\n\r\n" % (length, self._said)
        return made


class ReadySignature:
    """A signature of a version that is cached by rows, ready to answer them.

    Args:
        servable: the version.
        cache: its cache.
        reader: makes the rows of a request.
        name: of the signature.
        prepare: see above.

    Attributes:
        read: as `RowReader.rows`.
        tails: length of a body -> what is sent of a hit between Date and body.
        count: counts hits.
    """

    __slots__ = (
        *("_find", "_fingerprint", "_key", "_maker", "_places", "count", "name", "read"),
        *("servable", "tails"),
    )

    def __init__(
        self,
        servable: Servable,
        cache: InferenceCache,
        reader: RowReader,
        name: str,
        prepare: Prepare,
    ) -> None:
        self.servable = servable
        self.name = name
        self.read = reader.rows
        said, self.count = prepare(servable, name)
        self.tails = _Tails(said)
        self._find = cache.find
        self._maker = servable.maker(name, ())
        self._key = self._maker.key
        self._places: list[RowPlace] = []
        self._fingerprint = servable.fingerprint

    def find(self, rows: Sequence[bytes]) -> list[bytes] | None:
        """Returns the answers of all rows, or None if a local tier lacks one.

        Raises:
            ServingError: the model is known to refuse a row.
        """
        fingerprint, name, find, key = self._fingerprint, self.name, self._find, self._key
        places, answers = self._places, []
        if len(rows) > len(places):
            places.extend(RowPlace(at, self._maker) for at in range(len(places), len(rows)))
        for row, place in zip(rows, places):  # noqa: B905 - there are more places than rows
            # As RowRequest(...), in half the time.
            answer = find(_new(RowRequest, (key(row), row, fingerprint, name, place)))
            if answer is None:
                return None
            entry = answer.entry
            if entry.kind == "rejection":
                raise_rejection((answer,))
            answers.append(entry.answer)
        return answers


class RowsRead(NamedTuple):
    """A request by its rows.

    Attributes:
        pointer: what it names.
        ready: the signature that is to answer; of the version that the pointer points at.
        rows: canonical, at least one.
    """

    pointer: Pointer
    ready: ReadySignature
    rows: list[bytes]


class QuickPredict:
    """Reads requests by their rows. Used by one thread.

    Args:
        router: knows which version answers.
        prepare: see above.
    """

    def __init__(self, router: Router, prepare: Prepare) -> None:
        self._router = router
        self._prepare = prepare
        self._ready: dict[Servable, dict[str, ReadySignature | None]] = {}
        self._pointers: dict[bytes, Pointer] = {}
        self._sync = router.sync

    def knows(self, url: bytes) -> bool:
        """True if a URL is known to ask for Predict, and of what."""
        return url in self._pointers

    def learn(self, url: bytes, target: Target) -> None:
        """Notes that a URL asks for Predict.

        Args:
            url: as it was sent.
            target: what it names.
        """
        if len(self._pointers) >= _MAX_URLS:
            self._pointers.clear()
        # A pointer of nothing; the router's own takes its place once there is something.
        self._pointers[url] = Pointer(target)

    def read(self, body: bytes, url: bytes) -> RowsRead | None:
        """Returns a request's rows, or None if the full way must judge.

        Args:
            body: of the request, unpacked.
            url: `knows` is true of it.

        Raises:
            ServingError: there is no such model, version or label.
        """
        quick = parse_quick(body)
        if quick is None:
            return None
        self._sync()
        pointer = self._pointers[url]
        servable = pointer.target
        if servable is None:
            # The router maintains a pointer for as long as it points at something.
            pointer = self._pointers[url] = self._router.pointer(pointer.name)
            servable = pointer.target
            assert servable is not None  # `pointer` raises where there is none
        name = quick.signature or DEFAULT_SIGNATURE
        known = self._ready.get(servable)
        ready = self._find(servable, name) if known is None or name not in known else known[name]
        if ready is None:
            return None
        rows = ready.read(quick.instances)
        return RowsRead(pointer, ready, rows) if rows else None

    def clear(self) -> None:
        """Lets go of everything that was remembered of requests."""
        self._ready.clear()

    def forget(self) -> None:
        """Lets go of versions that answer no more."""
        for servable in list(self._ready):
            if self._router.routes(servable.name).versions.get(servable.version) is not servable:
                del self._ready[servable]

    def _find(self, servable: Servable, name: str) -> ReadySignature | None:
        definition, cache = servable.model.signatures.get(name), servable.cache
        if definition is None:
            return None  # what clients make up must not stay in memory
        plan = servable.plan(name)
        ready = None
        if plan.mode == "rows" and plan.spec is not None and cache is not None:
            reader = RowReader(plan.spec, definition)
            ready = ReadySignature(servable, cache, reader, name, self._prepare)
        self._ready.setdefault(servable, {})[name] = ready
        return ready
