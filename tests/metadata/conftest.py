"""Small SavedModel look-alikes: the release directory copies models, it does not load them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def make_model(tmp_path: Path) -> Callable[[str], Path]:
    """Returns a function that makes a SavedModel of the given content."""

    def make(content: str) -> Path:
        model = tmp_path / "models" / content
        (model / "variables").mkdir(parents=True, exist_ok=True)
        (model / "assets").mkdir(exist_ok=True)
        (model / "saved_model.pb").write_text(f"graph {content}")
        (model / "variables" / "variables.index").write_text("index")
        (model / "variables" / "variables.data-00000-of-00001").write_text(f"weights {content}")
        (model / "assets" / "vocabulary.txt").write_text("Cash\nCard\n")
        (model / "fingerprint.pb").write_text(f"uuid of {content}")
        return model

    return make


@pytest.fixture
def evidence(tmp_path: Path) -> dict[str, Path]:
    """A folder of statistics and a schema, as the pusher hands them over."""
    statistics = tmp_path / "inputs" / "statistics" / "Split-train"
    statistics.mkdir(parents=True)
    (statistics / "FeatureStats.pb").write_text("statistics")
    (tmp_path / "inputs" / "schema.pbtxt").write_text("feature {}")
    return {
        "statistics": statistics.parent,
        "schema.pbtxt": tmp_path / "inputs" / "schema.pbtxt",
    }
