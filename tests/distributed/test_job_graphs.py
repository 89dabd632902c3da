"""What Flink, Spark and other runners are given, up to where a cluster is needed."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

IMAGE = "registry.example/encore:1"
ROOT = Path(__file__).resolve().parents[2]
# A graph names files and settings; rows never travel in it. TFMA's is the largest, 0.44 MB.
GRAPH_BYTES = 600_000
OURS = {
    "RequestLogExampleGen": {"Read log", "Read labels", "Meet", "Write", "All notes"},
    "SlicedEvaluator": {"ExtractEvaluateAndWriteResults"},
    "StatisticsGen": {"GenerateStatistics[train]", "GenerateStatistics[eval]"},
    "CacheWarmer, by split": {"Rows", "Meet", "Merge", "Head", "Transform", "Answer"},
    "CacheWarmer, by time": {"Scan", "Sample", "Rows", "Meet", "Merge", "Head", "Answer"},
    "CacheWarmer, by log": {"Scan", "Rows", "Meet", "Merge", "Head", "Answer"},
    "LoggedEvaluator": {"Count", "Together", "Merge", "Draw", "Answer again", "Write"},
    "SnapshotCoverage and rewarm": {"Covered", "Scan", "Rows", "Merge", "Answer"},
}


@pytest.fixture(scope="module")
def submitted(world, tmp_path_factory):
    """Every job as a Flink job server gets it, run once; name -> (jobs, folder of the run)."""
    import jobs
    from job_server import recording

    from tfx_encore.pipeline.beam_options import beam_args

    with recording() as (address, taken):
        options = (f"--job_endpoint={address}", f"--sdk_container_image={IMAGE}")
        run = jobs.Run(world, tmp_path_factory.mktemp("shared"), beam_args("FlinkRunner", options))
        found = {}
        for name, job in jobs.JOBS.items():
            before = len(taken)
            job(run)
            found[name] = taken[before:]
        yield found, run.folder


@pytest.mark.parametrize("name", OURS)
def test_every_step_runs_in_the_image_that_was_named(name, submitted):
    jobs, _ = submitted
    assert jobs[name]
    for job in jobs[name]:
        assert job.images() == {IMAGE}


@pytest.mark.parametrize("name", OURS)
def test_the_graph_is_small_whatever_there_is_to_do(name, submitted):
    jobs, _ = submitted
    for job in jobs[name]:
        assert job.size < GRAPH_BYTES, job.names


@pytest.mark.parametrize("name", OURS)
def test_the_steps_have_names_of_their_own(name, submitted):
    jobs, _ = submitted
    names = {part for job in jobs[name] for full in job.names for part in full.split("/")}
    assert OURS[name] <= names, sorted(names)
    assert not [part for job in jobs[name] for part in job.names if part.startswith("Map(<lambda")]


@pytest.mark.parametrize("name", OURS)
def test_no_place_of_this_machine_travels_but_what_is_shared(name, submitted, world):
    jobs, folder = submitted
    places = (str(folder), str(world.root))
    for job in jobs[name]:
        payload = job.payload()
        for place in places:
            payload = payload.replace(place.encode(), b"SHARED")
        assert b"SHARED" in payload, "nothing that is read or written was found"
        for ours in (b"/tmp/", f"{ROOT}/components".encode(), f"{ROOT}/pipeline".encode()):
            assert ours not in payload, payload[max(payload.find(ours) - 200, 0) :][:600]


def test_a_wheel_that_is_named_is_staged_as_it_was_built(world, tmp_path):
    import jobs
    from job_server import recording

    from tfx_encore.pipeline.beam_options import beam_args

    wheel = build_wheel(tmp_path / "wheel")
    with recording() as (address, taken):
        options = (f"--job_endpoint={address}", f"--extra_package={wheel}")
        run = jobs.Run(world, tmp_path, beam_args("SparkRunner", options))
        jobs.log_examples(run)
    (job,) = taken
    assert job.staged[wheel.name] == wheel.read_bytes()
    with zipfile.ZipFile(wheel) as opened:
        names = set(opened.namelist())
    assert "tfx_encore/components/request_log_example_gen/reading_stage.py" in names
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"tfx_encore"}


def test_a_graph_does_not_grow_with_the_rows(tmp_path):
    import jobs
    import world as made
    from job_server import recording

    from tfx_encore.pipeline.beam_options import beam_args

    sizes = []
    with recording() as (address, taken):
        options = (f"--job_endpoint={address}", "--environment_type=LOOPBACK")
        for rows in (300, 1200):
            folder = tmp_path / f"{rows:04d}"
            world = made.make_world(folder / "world", rows)
            jobs.log_examples(jobs.Run(world, folder, beam_args("PortableRunner", options)))
            sizes.append(taken[-1].size)
    assert abs(sizes[1] - sizes[0]) < 100


def test_dataflows_workers_would_start_from_the_image():
    from apache_beam.options.pipeline_options import PipelineOptions, WorkerOptions

    from tfx_encore.pipeline.beam_options import beam_args

    options = (
        *("--project=p", "--region=r", "--temp_location=gs://b/tmp"),
        f"--sdk_container_image={IMAGE}",
    )
    args = list(beam_args("DataflowRunner", options))
    assert PipelineOptions(args).view_as(WorkerOptions).sdk_container_image == IMAGE


def build_wheel(folder: Path) -> Path:
    """Builds the wheel as docs/scale.md says, from a copy of what belongs to the repository."""
    import shutil

    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    copy = folder / "checkout"
    for name in listed:
        if (ROOT / name).is_file() and not name.startswith(("tests/", "docs/", "benchmarks/")):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    (copy / "README.md").write_text((ROOT / "README.md").read_text())
    built = subprocess.run(
        [
            *(sys.executable, "-m", "build", "--wheel", "--no-isolation"),
            *("--outdir", str(folder), str(copy)),
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr[-2000:]
    (wheel,) = folder.glob("*.whl")
    return wheel
