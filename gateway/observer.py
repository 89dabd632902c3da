"""What the gateway tells whoever measures it. No IO here.

Subclass `GatewayObserver` and override what is wanted. Every method is called on the event loop and
must be quick.
"""

from __future__ import annotations

from typing import Literal

from tfx_encore.cache.observer import CacheObserver
from tfx_encore.gateway.errors import Code

Protocol = Literal["rest", "grpc"]
CacheStatus = Literal["hit", "partial", "miss", "off", "error"]


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

    def switched(self, model: str, label: str, version: int) -> None:
        """A label, or the default for an empty one, points at another version."""

    def cache(self, model: str) -> CacheObserver:
        """Returns who hears of this model's cache."""
        del model
        return CacheObserver()
