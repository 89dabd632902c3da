"""What every test of the gateway can rely on."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _gateway_log() -> Iterator[None]:
    """The gateway's log is heard whatever other tests of this process did to logging."""
    log = logging.getLogger("tfx_encore.gateway")
    before = (list(log.handlers), log.propagate, log.level)
    log.handlers[:], log.propagate = [], True
    log.setLevel(logging.INFO)
    yield
    log.handlers[:], log.propagate = before[:2]
    log.setLevel(before[2])
