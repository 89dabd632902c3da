"""Two machines with a worker pool each, a world of data, and the same jobs run here and there."""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the helpers beside this file, here and at workers

import machines as network

_MISSING = "missing_service"


@functools.lru_cache(maxsize=1)
def _why_not() -> str:
    return network.can_make()


@pytest.fixture
def namespaces(request, cannot):
    """Skips where no network namespace can be made, and has it counted; a failure in CI."""
    if not _why_not():
        return
    request.node.user_properties.append((_MISSING, "network namespaces (root)"))
    cannot(f"no network namespace can be made here: {_why_not()}")


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """What the jobs read."""
    import world as made

    return made.make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def small_pieces(monkeypatch):
    """Cuts the world's few rows into as many pieces as a real day's, for whoever runs jobs here."""
    from tfx_encore.components.cache_warmer import count_pipeline as warming
    from tfx_encore.components.logged_evaluator import count_pipeline as counting
    from tfx_encore.components.request_log_example_gen import night_examples

    monkeypatch.setattr(warming, "BUCKET_BYTES", 50_000)
    monkeypatch.setattr(counting, "BUCKET_BYTES", 100_000)
    monkeypatch.setattr(night_examples, "BUCKET_BYTES", 100_000)
    monkeypatch.setattr(night_examples, "PART_BYTES", 100_000)
