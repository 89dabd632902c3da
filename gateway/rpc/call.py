"""One call on its way through a method. No IO here."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from tfx_encore.gateway.observer import CacheStatus
from tfx_encore.gateway.prediction import Freshness
from tfx_encore.gateway.servable import Servable


class Call:
    """What is known of a call so far, for metrics, the request log and the response's metadata.

    Args:
        method: `Predict`, `Classify`...
        request: the serialised message.
        context: grpc's own of the call.
        begun: when it came, by `time.perf_counter`.

    Attributes:
        model: its name, as the client has it.
        label: by which the version was named; empty if by none.
        signature: that is to answer; empty while it is not known.
        servable: that is to answer; None while it is not known.
    """

    __slots__ = (
        *("method", "request", "context", "begun"),
        *("model", "label", "signature", "servable"),
    )

    def __init__(self, method: str, request: bytes, context: Any, begun: float) -> None:
        self.method = method
        self.request = request
        self.context = context
        self.begun = begun
        self.model = ""
        self.label = ""
        self.signature = ""
        self.servable: Servable | None = None

    def request_id(self) -> str:
        """What the client calls it (`x-request-id`); empty if it does not say."""
        for key, value in self.context.invocation_metadata() or ():
            if key == "x-request-id":
                return value if isinstance(value, str) else value.decode("utf-8", "replace")
        return ""


class Done(NamedTuple):
    """A response.

    Attributes:
        body: the serialised message.
        status: where its rows came from.
        rows: of the request.
        hits: of these, answered without the model.
        freshness: until when it may be repeated; None if it may not.
        hit_rows: which rows those are, as `Prediction.hit_rows` has it.
    """

    body: bytes
    status: CacheStatus = "off"
    rows: int = 0
    hits: int = 0
    freshness: Freshness | None = None
    hit_rows: bytes = b""


class Work(Protocol):
    """A request that was read, bound to the version that its target is now."""

    def now(self) -> Done | None:
        """Returns the response if nothing has to be waited for.

        Raises:
            ServingError: the model is known to refuse the request.
        """
        ...

    async def finish(self) -> Done:
        """Returns the response; nothing is awaited between the last look at the route and it.

        Raises:
            ServingError: the model refuses the request, or cannot answer now.
            RouteMoved: it is another version's now.
        """
        ...


class Method(Protocol):
    """One method of PredictionService that runs a model.

    Attributes:
        name: `Predict`, `Classify`...
    """

    name: str

    def open(self, call: Call) -> Work:
        """Reads a request as the version that answers now reads it.

        Raises:
            ServingError: it is refused.
            RouteMoved: the version went while it was read.
        """
        ...
