"""Why a request fails, in the codes of gRPC and HTTP. No IO here.

Both wire formats say the same: an error is made once, as TensorFlow Serving makes it, and each
service writes its code in its own way.
"""

from __future__ import annotations

from enum import IntEnum

from tfx_encore.schemas.errors import EncoreError


class Code(IntEnum):
    """The codes of gRPC (grpc/doc/statuscodes.md), which are those of absl::Status."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


# tensorflow_serving/model_servers/http_server.cc, ToHTTPStatusCode.
_HTTP_STATUS = {
    Code.OK: 200,
    Code.CANCELLED: 499,
    Code.UNKNOWN: 500,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.UNAUTHENTICATED: 401,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DATA_LOSS: 500,
}


class ServingError(EncoreError):
    """A request that cannot be answered.

    Args:
        code: what kind of failure it is.
        message: for the client, as TensorFlow Serving words it where it has words for it.
    """

    def __init__(self, code: Code, message: str) -> None:
        self.code = code
        self.message = message
        super().__init__(message)

    @property
    def http_status(self) -> int:
        """The HTTP status that TensorFlow Serving gives this code."""
        return _HTTP_STATUS[self.code]


def invalid(message: str) -> ServingError:
    """Returns an error of code INVALID_ARGUMENT."""
    return ServingError(Code.INVALID_ARGUMENT, message)


def not_found(message: str) -> ServingError:
    """Returns an error of code NOT_FOUND."""
    return ServingError(Code.NOT_FOUND, message)
