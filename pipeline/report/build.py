"""Renders a release report as one HTML file that needs nothing but itself."""

from __future__ import annotations

import os
import re
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from tfx_encore.pipeline.report import charts, slice_charts, views, words
from tfx_encore.pipeline.report.data import DRIFT_GATE, SLICE_GATE, ReleaseReport
from tfx_encore.schemas.decisions import Outcome

_HERE = Path(__file__).parent


def render(report: ReleaseReport) -> str:
    """Returns the report as HTML; equal reports give equal text.

    Whatever the report's texts hold is shown, never interpreted. The page makes no request and
    runs no script: its content security policy forbids both.
    """
    return _template().render(
        report=report,
        verdict=views.verdict(report),
        gates=views.gates(report),
        features=[(view, _feature_chart(view, i)) for i, view in enumerate(views.features(report))],
        metrics=[_metric(view, i) for i, view in enumerate(views.metrics(report))],
        curve=charts.coverage_curve(report.coverage, "cov") if report.coverage else None,
        style=_style(),
        **_vocabulary(),
    )


def write(report: ReleaseReport, path: Path) -> Path:
    """Writes the report to `path` and returns it; a reader sees the old file or the new one.

    The directory is made if it is missing.

    Raises:
        OSError: the file cannot be written; nothing is left behind.
    """
    text = render(report)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    staged = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            out.write(text)
        staged.chmod(0o644)
        staged.replace(path)
    except BaseException:
        staged.unlink(missing_ok=True)
        raise
    return path


def _feature_chart(view: views.FeatureView, index: int) -> Markup:
    drawn = view.chart.current or view.chart.baseline
    return charts.distribution(view.chart, f"f{index}") if drawn else Markup()


def _metric(view: views.MetricView, index: int) -> dict[str, Any]:
    name = words.measure(view.measure)
    return {
        "view": view,
        "name": name,
        "differences": slice_charts.differences(
            view.differences, f"{name} by slice, candidate minus baseline, worst first", f"d{index}"
        )
        if view.differences
        else None,
        "values": slice_charts.values(
            view.values, f"{name} by slice, candidate beside baseline, worst first", f"v{index}"
        )
        if view.values
        else None,
    }


def _vocabulary() -> dict[str, Any]:
    """The names that the template uses beside the report's own data."""
    return {
        "Outcome": Outcome,
        "DRIFT_GATE": DRIFT_GATE,
        "SLICE_GATE": SLICE_GATE,
        "REASONS_SHOWN": views.REASONS_SHOWN,
        "MAX_ROWS": slice_charts.MAX_ROWS,
        "marks": words.MARKS,
        "outcome_words": words.OUTCOMES,
        "words": words,
        "strip": views.strip,
        "stopping": views.stopping,
        "tally": views.tally,
        "said": views.said,
        "columns": views.columns,
        "is_difference": views.is_difference,
    }


@lru_cache(maxsize=1)
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html")


@lru_cache(maxsize=1)
def _style() -> Markup:
    text = (_HERE / "report.css").read_text(encoding="utf-8")
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    return Markup(re.sub(r"\s*\n\s*", "\n", text).strip())  # noqa: S704 - our own file
