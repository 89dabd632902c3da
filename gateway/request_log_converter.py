"""The port behind which requests that came as JSON become messages. No IO here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from tfx_encore.gateway.request_record import RequestRecord


class Converted(NamedTuple):
    """A request and its answer as messages of tensorflow.serving.

    Attributes:
        request: a PredictRequest, ClassificationRequest, RegressionRequest or
            MultiInferenceRequest, by the record's method.
        response: the response of the same method; None for an error, or if it is not wanted.
    """

    request: Any
    response: Any = None


Converter = Callable[[RequestRecord], Converted]
"""Makes messages of a record of protocol `rest`. Called in the writer's thread, never at the same
time twice. It may raise anything: an answered request is then dropped, and of a failed one only the
metadata is logged."""
