"""Whatever bytes come, a call ends in an answer or a code."""

from __future__ import annotations

import asyncio
import logging

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tfx_encore.gateway.signature import CLASSIFY, REGRESS


class AbortedError(Exception):
    pass


class Context:
    """A call of grpc's, without grpc."""

    def set_trailing_metadata(self, _):
        pass

    def invocation_metadata(self):
        return ()

    def time_remaining(self):
        return None

    async def abort(self, code, message, trailers):
        raise AbortedError(code, message)


@pytest.fixture(scope="module")
def loop():
    made = asyncio.new_event_loop()
    yield made
    made.close()


def seeds(kit):
    vector = np.array([b"a", b"b"], dtype=object)
    two = kit.predict_request(signature="two", name=vector, x=np.ones((2, 2), np.float32))
    both = (("classify", CLASSIFY), ("regress", REGRESS))
    return {
        "Predict": [kit.predict_request([1.0, 2.0]), two],
        "Classify": [kit.classify_request([0.25, 0.5])],
        "Regress": [kit.regress_request([0.25])],
        "MultiInference": [kit.multi_request(both)],
        "GetModelMetadata": [],
        "GetModelStatus": [],
        "HandleReloadConfigRequest": [],
    }


@pytest.mark.parametrize(
    "method",
    [
        *("Predict", "Classify", "Regress", "MultiInference"),
        *("GetModelMetadata", "GetModelStatus", "HandleReloadConfigRequest"),
    ],
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_changed_requests_never_crash(kit, loop, method, data, caplog):
    caplog.set_level(logging.ERROR)
    gateway = kit.Gateway()
    handlers = gateway.service.handlers()
    handler = {name: made for group in handlers.values() for name, made in group.items()}[method]
    known = [request.SerializeToString() for request in seeds(kit)[method]]
    request = data.draw(st.binary(max_size=60))
    if known and data.draw(st.booleans()):
        changed = bytearray(data.draw(st.sampled_from(known)))
        for _ in range(data.draw(st.integers(0, 4))):
            changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
        request = bytes(changed)

    async def ask():
        try:
            return [await handler(request, Context()) for _ in range(3)]
        except AbortedError as error:
            return error

    answers = loop.run_until_complete(ask())
    # Faults of ours are logged; the fake model's own about shapes it does not know are not ours.
    faults = [entry for entry in caplog.records if "call failed" in entry.message]
    assert not faults, faults[0].exc_info
    if isinstance(answers, list):
        assert answers[0] == answers[1] == answers[2]
