"""What the gateway tells whoever measures it. No IO here.

Subclass `GatewayObserver` and override what is wanted. Every method is called on the event loop and
must be quick.
"""

from __future__ import annotations

from typing import Any, Literal

from tfx_encore.cache.observer import CacheObserver
from tfx_encore.gateway.errors import Code

Protocol = Literal["rest", "grpc"]
CacheStatus = Literal["hit", "partial", "miss", "off", "error"]


class RequestHandle:
    """Hears of requests that are alike in everything but their time."""

    __slots__ = ()

    def count(self, seconds: float, rows: int = 0) -> None:
        """As `GatewayObserver.request`, and `rows` of them were answered without the model."""


class GatewayObserver:
    """Hears nothing of what it is told."""

    def request(
        self,
        *,
        protocol: Protocol,
        method: str,
        model: str,
        version: int,
        signature: str,
        code: Code,
        status: CacheStatus,
        seconds: float,
    ) -> None:
        """A request was answered.

        Args:
            protocol: by which it came.
            method: `Predict`, `Classify`, `Regress`, `MultiInference`, `GetModelMetadata`...
            model: as the client named it, if there is such a model, else empty.
            version: that answered; 0 if none did.
            signature: that answered; empty if none did.
            code: how it ended.
            status: where its rows came from.
            seconds: from the last byte read to the first byte written.
        """

    def handle(
        self,
        *,
        protocol: Protocol,
        method: str,
        model: str,
        version: int,
        signature: str,
        code: Code = Code.OK,
        status: CacheStatus = "hit",
    ) -> RequestHandle:
        """Returns who hears of such requests: for whoever answers the same thing many times.

        Keep it for as long as the version answers.
        """
        return _Passing(self, protocol, method, model, version, signature, code, status)

    def rows(self, model: str, hits: int, rows: int) -> None:
        """Of the rows of a request so many were answered without the model."""

    def batch(self, model: str, signature: str, *, rows: int, padded: int, seconds: float) -> None:
        """The model computed one batch; `padded` counts the rows that nobody asked for."""

    def queued(self, model: str, rows: int) -> None:
        """Rows that wait for a batch now."""

    def logged(self, model: str, requests: int, dropped: int) -> None:
        """Requests went into the request log's queue, or found it full."""

    def version_state(self, model: str, version: int, state: str, problem: str) -> None:
        """A version changed its state: START, LOADING, AVAILABLE, UNLOADING, END."""

    def warmed_up(self, model: str, version: int, *, records: int, seconds: float) -> None:
        """A version's warm-up file was replayed."""

    def switched(self, model: str, label: str, version: int) -> None:
        """A label, or the default for an empty one, points at another version."""

    def cache(self, model: str) -> CacheObserver:
        """Returns who hears of this model's cache."""
        del model
        return CacheObserver()


class _Passing(RequestHandle):
    """Passes on what it hears of."""

    __slots__ = ("_labels", "_observer")

    def __init__(self, observer: GatewayObserver, *labels: Any) -> None:
        self._observer = observer
        self._labels = labels

    def count(self, seconds: float, rows: int = 0) -> None:
        protocol, method, model, version, signature, code, status = self._labels
        self._observer.request(
            protocol=protocol,
            method=method,
            model=model,
            version=version,
            signature=signature,
            code=code,
            status=status,
            seconds=seconds,
        )
        if rows:
            self._observer.rows(model, rows, rows)
