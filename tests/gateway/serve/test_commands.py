"""`encore cache` against a running gateway, and what `encore serve` says."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from tfx_encore.gateway.admin_messages import WorkerStats
from tfx_encore.gateway.settings import GatewaySettings
from tfx_encore.metadata.journal_ledger import JournalLedger
from tfx_encore.metadata.releases import ReleaseDirectory
from tfx_encore.pipeline.commands import cache
from tfx_encore.pipeline.commands.serve import banner
from tfx_encore.pipeline.gateway_place import place_of
from tfx_encore.schemas.errors import ConfigError, EncoreError
from tfx_encore.schemas.records import Cause, RecordDraft, SelectAll

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, short_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short_folder))


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(cache.command, list(arguments))


def _in_place(gateway: Any) -> str:
    return f"--cache_dir={gateway.folder / 'cache'}"


def test_stats_adds_the_workers_up(launch: Any) -> None:
    gateway = launch(workers=2)
    shown = _run("stats", _in_place(gateway)).output
    assert "66.7% of 6 rows were hits (66.7% raw)" in shown
    assert "stable" in shown
    said = json.loads(_run("stats", "--json", _in_place(gateway)).stdout)
    (model,) = said["models"]
    assert (model["hits"], model["misses"]) == ({"raw": 4}, 2)
    assert model["tiers"][0]["entries"] == 10
    assert {worker["pid"] for worker in said["workers"]} == {e["pid"] for e in gateway.ready}


def test_a_gateway_without_a_cache_directory_is_found(launch: Any, short_folder: Path) -> None:
    killed = launch(cache_dir=None)
    killed.process.kill()
    killed.wait()
    launch(cache_dir=None)
    assert "rows were hits" in _run("stats").output
    assert len(list(short_folder.glob("*/process-*"))) == 1  # the killed one's is removed
    launch(cache_dir=None)
    with pytest.raises(ConfigError, match="several gateways"):
        place_of(None, None)


@pytest.mark.parametrize("name", ["stats", "warm", "verify"])
def test_where_no_gateway_runs_it_is_said_how_to_start_one(name: str, tmp_path: Path) -> None:
    result = _run(name, f"--cache_dir={tmp_path}")
    assert isinstance(result.exception, EncoreError)
    assert f"`encore serve --cache_dir={tmp_path} ...` starts one" in str(result.exception)


def _answering(monkeypatch: pytest.MonkeyPatch, replies: list[dict[str, Any]]) -> None:
    asked = lambda folder, request, seconds: replies  # noqa: E731
    monkeypatch.setattr("tfx_encore.pipeline.gateway_place.ask", asked)


_DIFFERENCE = {
    "model": "taxi",
    "fingerprint": "sha256:" + "a" * 64,
    "signature": "serving_default",
    "key": "0f",
    "cached": "0.25",
    "computed": "0.75",
}


def test_verify_fails_if_one_answer_differs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    good = {"worker": 0, "checked": {"taxi": 90}}
    bad = {"worker": 1, "checked": {"taxi": 10}, "different": 1, "differences": [_DIFFERENCE]}
    _answering(monkeypatch, [good, bad])
    result = _run("verify", f"--cache_dir={tmp_path}")
    assert result.exit_code == 1
    assert "taxi: 100 cached answers recomputed" in result.output
    assert "0.25" in result.output
    assert str(result.exception) == "1 cached answers differ from the model's"
    _answering(monkeypatch, [good])
    assert _run("verify", f"--cache_dir={tmp_path}").output.endswith("all equal\n")


def test_a_model_that_could_not_be_verified_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _answering(monkeypatch, [{"worker": 0, "problems": ["wine: nothing of it is cached"]}])
    result = _run("verify", "--json", f"--cache_dir={tmp_path}")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["problems"] == ["wine: nothing of it is cached"]


def test_warm_says_what_was_loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _answering(monkeypatch, [{"worker": n, "loaded": {"taxi": 4_000}} for n in range(2)])
    result = _run("warm", f"--cache_dir={tmp_path}")
    assert result.output == "taxi: 8,000 answers loaded by 2 worker(s)\n"


# --- purge ---------------------------------------------------------------------------------------


@pytest.fixture
def releases(tmp_path: Path) -> Path:
    """A release directory with one record in its journal."""
    draft = RecordDraft("taxi", Cause.MANUAL, SelectAll(), "first", "a test")
    ReleaseDirectory(tmp_path / "releases", "taxi").append_record(draft)
    return tmp_path / "releases"


def test_purge_writes_a_record_and_waits_until_every_worker_has_applied_it(
    launch: Any, releases: Path
) -> None:
    gateway = launch()
    ledger = JournalLedger(releases)

    def follow() -> None:
        end = time.monotonic() + 30
        while time.monotonic() < end:
            for record in ledger.records("taxi", after=1):
                ledger.acknowledge(record, "gateway@here")
                return
            time.sleep(0.05)

    follower = threading.Thread(target=follow)
    follower.start()
    result = _run(
        *("purge", "--selector=all", "--reason=cents", f"--releases={releases}", "--model=taxi"),
        _in_place(gateway),
    )
    follower.join()
    assert result.exit_code == 0, result.exception
    assert "record taxi/000002 MANUAL written: cents" in result.output
    assert "  acknowledged by gateway@here" in result.output


def test_purge_fails_if_a_worker_that_runs_does_not_acknowledge(
    launch: Any, releases: Path
) -> None:
    gateway = launch()
    result = _run(
        *("purge", "--selector=all", f"--releases={releases}", "--model=taxi", "--json"),
        *("--wait_seconds=0.3", _in_place(gateway)),
    )
    assert result.exit_code == 1
    assert json.loads(result.stdout)["not_acknowledged_by"] == ["gateway@here"]
    assert len(JournalLedger(releases).records("taxi")) == 2


def test_purge_without_a_gateway_writes_the_record_all_the_same(releases: Path) -> None:
    result = _run("purge", "--selector=all", f"--releases={releases}", "--model=taxi")
    assert result.exit_code == 0
    assert "no gateway runs here" in result.output
    assert len(JournalLedger(releases).records("taxi")) == 2


def test_purge_of_an_unknown_model_writes_nothing(releases: Path) -> None:
    result = _run("purge", "--selector=all", f"--releases={releases}", "--model=wine")
    assert str(result.exception) == "--model: there are the models taxi"
    assert len(JournalLedger(releases).records("taxi")) == 1


def test_purge_in_a_project_goes_by_its_metadata_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(_project(tmp_path))
    result = _run("purge", "--selector=slice:payment_type=Cash")
    assert result.exit_code == 0, result.exception
    assert "record taxi/000001 MANUAL written" in result.output
    refused = _run("purge", "--selector=slice:colour=red")
    assert isinstance(refused.exception, ConfigError)


def _project(folder: Path) -> Path:
    project = folder / "project"
    project.mkdir()
    shutil.copy(ROOT / "encore.yaml", project)
    (project / "schemas").mkdir()
    shutil.copy(ROOT / "schemas" / "taxi.pbtxt", project / "schemas")
    return project


# --- serve ---------------------------------------------------------------------------------------


def _serve(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    code = "from tfx_encore.pipeline.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, "serve", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_serve_in_a_project_without_releases_says_what_to_do(tmp_path: Path) -> None:
    run = _serve(_project(tmp_path))
    assert run.returncode == 2
    assert "`encore run` pushes a release" in run.stderr


def test_serve_without_anything_to_serve_says_what_to_give(tmp_path: Path) -> None:
    run = _serve(tmp_path)
    assert run.returncode == 2
    assert run.stderr.startswith("encore: nothing to serve; give --releases=DIR")


def test_the_version_is_shown(tmp_path: Path) -> None:
    run = _serve(tmp_path, "--version")
    assert run.returncode == 0
    assert run.stdout.startswith("TFX Encore gateway: ")
    assert "TensorFlow Library: 2." in run.stdout


def test_a_wrong_command_line_is_refused_without_loading_tensorflow(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom tfx_encore.pipeline.commands.serve import command\n"
        "from tfx_encore.schemas.errors import ConfigError\n"
        "try:\n    command.main(['--model_base_path=/nope'], standalone_mode=False)\n"
        "except ConfigError as error:\n    print(error, 'tensorflow' in sys.modules)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "/nope is no directory" in run.stdout
    assert run.stdout.endswith("False\n")


@pytest.fixture
def stats() -> Callable[..., WorkerStats]:
    def make(number: int, **values: Any) -> WorkerStats:
        version = {
            "version": 2,
            "fingerprint": "f",
            "labels": ["stable"],
            "is_default": True,
            "warmed": 4_000,
            "caching": {"predict_raw": "off: random ops", "serving_default": "rows: certified"},
        }
        model = {"model": "taxi", "versions": [version], **values}
        return WorkerStats.model_validate(
            {"worker": number, "pid": 1, "is_ready": True, "rest_port": 8501, "models": [model]}
        )

    return make


def test_the_first_lines_say_what_is_served_where_and_how_it_is_cached(stats: Any) -> None:
    settings = GatewaySettings(releases="/r", rest_api_port=8501, cache_dir="/c", workers=2)
    assert list(banner(settings, [stats(0), stats(1)])) == [
        "REST  http://localhost:8501/v1/models/taxi:predict",
        "taxi  version 2 (stable, default), 4,000 answers warm",
        "    predict_raw not cached: random ops",
        "    serving_default cached by rows: certified",
        "2 workers, answers kept in memory, /c; Ctrl-C ends it",
    ]


def test_a_model_that_does_not_answer_is_named_with_the_reason(stats: Any) -> None:
    settings = GatewaySettings(releases="/r")
    lines = list(banner(settings, [stats(0, versions=[], problem="version 2: truncated")]))
    assert "taxi  no version answers yet: version 2: truncated" in lines


def test_the_commands_are_listed_by_encore() -> None:
    from tfx_encore.pipeline.cli import cli

    listed = cli.get_help(click.Context(cli))
    assert "serve" in listed
    assert "cache" in listed
