"""What is handed to the request log. No IO here."""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

from tfx_encore.gateway.errors import Code
from tfx_encore.gateway.observer import CacheStatus


class RequestRecord(NamedTuple):
    """One request and its answer, as they went over the wire.

    Attributes:
        protocol: by which it came.
        method: `Predict`, `Classify`, `Regress`, `MultiInference`.
        model: its name.
        version: that answered; 0 if none did.
        label: by which the version was named; empty if by none.
        signature: that answered.
        fingerprint: of the model that answered; empty if none did.
        request: body of the request: JSON for `rest`, the serialised message for `grpc`.
        response: body of the response, likewise; empty for an error.
        code: how it ended.
        message: of the error; empty if there was none.
        status: where its rows came from.
        request_id: what the client calls it (`x-request-id`); empty if it does not say.
        received_at: seconds since 1970.
        seconds: from the last byte of the request to the answer; negative if not known.
        hit_rows: of a request of which the cache answered some rows, which: bit i % 8 of byte
            i // 8 for row i; empty otherwise.
    """

    protocol: Literal["rest", "grpc"]
    method: str
    model: str
    version: int
    label: str
    signature: str
    fingerprint: str
    request: bytes
    response: bytes
    code: Code
    message: str
    status: CacheStatus
    request_id: str
    received_at: float
    seconds: float = -1.0
    hit_rows: bytes = b""


class RequestLog(Protocol):
    """Where answered requests may be logged. Used on the event loop."""

    def wants(self, model: str, code: Code) -> bool:
        """True if the next request of this model and outcome is to be logged. Very quick."""
        ...

    def offer(self, record: RequestRecord) -> bool:
        """Hands over a record without waiting; False if the queue is full and it was dropped."""
        ...
