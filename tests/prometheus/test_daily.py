"""`encore daily`: what a day's log, or a gateway, says was saved."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tfx_encore.gateway.errors import Code
from tfx_encore.gateway.metrics import GatewayMetrics
from tfx_encore.metadata.night_store import NightStore
from tfx_encore.pipeline.commands.daily import command
from tfx_encore.pipeline.daily import daily_summary, lines_of, summary_of_metrics
from tfx_encore.schemas.daily import DailySummary
from tfx_encore.schemas.decisions import Outcome
from tfx_encore.schemas.errors import DataError
from tfx_encore.schemas.nights import LogReport, NightRecord

LOG = LogReport(
    requests=100,
    rows=200,
    failed={"INVALID_ARGUMENT": 2},
    rows_by_path={"hit": 150, "miss": 50},
    requests_by_cache={"hit": 60, "partial": 30, "miss": 10},
    latency_us={"hit": 60 * 200.0, "partial": 0.0, "miss": 10 * 4_200.0},
    weighted_requests=1000.0,
    weighted_rows=2000.0,
    weighted_hits=1500.0,
)


def of(log: LogReport) -> DailySummary:
    return daily_summary(NightRecord("taxi", "2016-01-12", Outcome.OK, "", log=log))


def test_savings_are_of_all_traffic_where_the_log_is_a_sample() -> None:
    summary = of(LOG)
    assert (summary.requests, summary.rows, summary.hits) == (1000, 2000, 1500)
    assert summary.hit_rate == 0.75
    assert summary.model_rows_saved == 1500
    assert summary.mean_hit_seconds == pytest.approx(0.0002)
    assert summary.mean_miss_seconds == pytest.approx(0.0042)
    # 4 ms for a request of two rows are 2 ms for each of 1,500 rows.
    assert summary.cpu_seconds_saved == pytest.approx(3.0)
    assert "mean time of a miss" in summary.cpu_estimate


def test_a_log_of_tensorflow_serving_says_no_times() -> None:
    plain = dataclasses.replace(LOG, latency_us={}, requests_by_cache={}, rows_by_path={})
    summary = of(plain)
    assert (summary.hit_rate, summary.mean_hit_seconds, summary.cpu_seconds_saved) == (None,) * 3
    assert any("CPU time unknown" in line for line in lines_of(summary))


def test_a_day_without_requests_has_no_rates() -> None:
    summary = of(LogReport())
    assert (summary.requests, summary.rows, summary.hit_rate) == (0, 0, None)
    assert list(lines_of(summary))


def test_tokens_are_said_not_to_be_counted() -> None:
    assert of(LOG).tokens_saved is None
    assert any("not counted" in line for line in lines_of(of(LOG)))


@pytest.fixture
def page() -> str:
    """Of a gateway that answered 3 of 4 rows from its cache."""
    metrics = GatewayMetrics()
    asked = {"protocol": "rest", "method": "Predict", "model": "taxi", "version": 1}
    asked |= {"signature": "s"}
    metrics.request(**asked, code=Code.OK, status="hit", seconds=0.001)
    metrics.request(**asked, code=Code.OK, status="miss", seconds=0.02)
    metrics.request(**asked, code=Code.INVALID_ARGUMENT, status="error", seconds=0.0)
    metrics.rows("taxi", 3, 4)
    metrics.batch("taxi", "s", rows=1, padded=0, seconds=0.01)
    return metrics.render()[1].decode()


def test_a_gateways_page_says_what_was_saved_since_it_started(page: str) -> None:
    summary = summary_of_metrics(page, "taxi", "there")
    assert (summary.requests, summary.failed, summary.rows, summary.hits) == (2, 1, 4, 3)
    assert summary.hit_rate == 0.75
    assert summary.mean_hit_seconds == pytest.approx(0.001)
    assert summary.cpu_seconds_saved == pytest.approx(0.03)
    assert summary.date is None


def test_a_page_without_the_model_names_those_that_it_has(page: str) -> None:
    with pytest.raises(DataError, match="'bikes'; it has taxi"):
        summary_of_metrics(page, "bikes", "there")
    with pytest.raises(DataError, match="no page of metrics"):
        summary_of_metrics("<html>", "taxi", "there")


def run(project_file: Path, *args: str) -> Any:
    return CliRunner().invoke(command, ["--config", str(project_file), *args])


def test_the_newest_night_is_summarised_as_text_and_json(project_file: Path, story: Any) -> None:
    store = NightStore(project_file.parent / ".encore/releases", "taxi")
    for number, date in ((1, "2016-01-12"), (2, "2016-01-13")):
        story.commit(store, story.story_of(number, date))
    text = run(project_file)
    assert text.exit_code == 0, text.output
    assert text.output.startswith("taxi, 2016-01-13 (from the request log)\n")
    summary = json.loads(run(project_file, "--json", "--date", "2016-01-12").output)
    assert summary["date"] == "2016-01-12"
    assert 0.7 < summary["hit_rate"] < 0.74
    missing = run(project_file, "--date", "2016-01-20")
    assert "there are 2016-01-12 to 2016-01-13" in str(missing.exception)


def test_without_a_night_it_says_what_to_run(project_file: Path) -> None:
    found = run(project_file)
    assert isinstance(found.exception, DataError)
    assert "encore nightly" in str(found.exception)


@pytest.fixture
def address(page: str) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(page.encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/metrics"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_running_gateway_can_be_asked(project_file: Path, address: str) -> None:
    found = run(project_file, "--metrics", address)
    assert found.exit_code == 0, found.output
    assert f"taxi, since the gateway started (from {address})" in found.output
    assert run(project_file, "--metrics", address, "--date", "2016-01-12").exit_code == 2


def test_a_gateway_that_is_not_there_is_said(project_file: Path, free_port: Any) -> None:
    found = run(project_file, "--metrics", f"http://127.0.0.1:{free_port()}/metrics")
    assert isinstance(found.exception, DataError)
    assert "is the gateway running?" in str(found.exception)
