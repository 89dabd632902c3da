"""What a running gateway and ML Metadata say, asked over the real socket and the real store."""

import asyncio
import json
import threading
from contextlib import contextmanager

import pytest

from tfx_encore.gateway.admin import AdminServer
from tfx_encore.gateway.admin_messages import ModelStats, TierStats, VersionStats, WorkerStats
from tfx_encore.gateway.runtime_folder import runtime_folder
from tfx_encore.pipeline.ui.live import ask_gateway


def _stats(model="taxi"):
    return WorkerStats(
        worker=0,
        pid=1,
        is_ready=True,
        models=(
            ModelStats(
                model=model,
                hits={"raw": 700, "transformed": 50},
                misses=250,
                generation=3,
                ledger_age_seconds=0.4,
                versions=(VersionStats(version=2, fingerprint="sha256:22", labels=("stable",)),),
                tiers=(TierStats(tier="memory", entries=1200, bytes=200_000),),
            ),
        ),
    )


@contextmanager
def gateway(project, stats):
    """Answers `stats` on the project's admin socket meanwhile."""
    folder = runtime_folder(str(project.workspace.root / "gateway"))
    folder.mkdir(parents=True, exist_ok=True)
    ready, loop = threading.Event(), asyncio.new_event_loop()
    done = asyncio.Event()

    async def handle(request):
        assert request["command"] == "stats"
        return stats.model_dump(mode="json")

    async def main():
        server = AdminServer(folder, 0, handle)
        await server.start()
        ready.set()
        await done.wait()
        await server.stop()

    thread = threading.Thread(target=loop.run_until_complete, args=(main(),), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join(10)
        loop.close()


def test_the_tiers_and_the_hit_rate_of_a_running_gateway_are_shown(empty_place, serve, get):
    reader = empty_place.reader()
    with gateway(reader.project, _stats()), serve(reader) as address:
        text = get(f"{address}/cache").text
        assert "75%" in text
        assert "1,000 rows were hits since it started" in text
        assert "memory" in text
        assert json.loads(get(f"{address}/api/cache.json").text)["workers"] == 1


def test_a_gateway_that_serves_another_model_is_said_to(empty_place):
    project = empty_place.reader().project
    with gateway(project, _stats("other")):
        assert "does not serve taxi" in ask_gateway(project).trouble


def test_without_a_gateway_the_page_says_how_to_start_one(empty_place, serve, get):
    reader = empty_place.reader()
    assert ask_gateway(reader.project).model is None
    with serve(reader) as address:
        assert "encore serve" in get(f"{address}/cache").text


def test_acknowledgements_in_ml_metadata_are_shown_beside_those_of_the_journal(
    place, tmp_path, serve, get
):
    import shutil

    from tfx_encore.pipeline.commands.options import open_project
    from tfx_encore.pipeline.mlmd import open_ledger
    from tfx_encore.pipeline.ui.reading import Reader

    pytest.importorskip("ml_metadata")
    copy = tmp_path / "project"
    shutil.copytree(place.file.parent, copy)
    reader = Reader(open_project(str(copy / "encore.yaml")))
    record = reader.directory.records()[0]
    with open_ledger(reader.project) as ledger:
        ledger.publish(record)
        ledger.acknowledge(record, "serving@host-9")
    with serve(reader) as address:
        text = get(f"{address}/records").text
        assert "serving@host-9" in text
        assert "gateway@host-1" in text
