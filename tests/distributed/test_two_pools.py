"""Every Beam job of ours on two machines puts out what it puts out on one, to the last row."""

from __future__ import annotations

import time
from collections import defaultdict
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.service("ip"), pytest.mark.timeout(900)]

# Sums of numbers with fractions, and sketches of quantiles, are TFDV's own and depend in their last
# bits on the order in which parts meet. Everything else in its statistics is compared exactly.
_TFDV = 1e-12

# The steps in which the work of each job is done.
STEPS = {
    "RequestLogExampleGen": ["Read log", "Write"],
    "StatisticsGen": ["GenerateStatistics"],
    "SlicedEvaluator": ["ExtractEvaluateAndWriteResults"],
    "CacheWarmer, by split": ["Rows", "Merge", "Transform", "Answer"],
    "CacheWarmer, by time": ["Scan", "Rows", "Merge", "Transform", "Answer"],
    "CacheWarmer, by log": ["Scan", "Rows", "Merge", "Transform", "Answer"],
    "LoggedEvaluator": ["Count", "Merge"],
    "SnapshotCoverage and rewarm": ["Covered", "Rows", "Merge", "Answer"],
}


class Cluster:
    """The two pools, and what each has done since it was last asked.

    Args:
        pools: them.
        folder: of their `.steps`.
    """

    def __init__(self, pools, folder: Path) -> None:
        self.pools = pools
        self._folder = folder
        self._read: dict[Path, int] = defaultdict(int)

    @property
    def options(self) -> tuple[str, ...]:
        """Beam's own options that name them."""
        listed = ",".join(pool.address for pool in self.pools)
        return "--environment_type=EXTERNAL", f"--environment_config={listed}"

    def steps(self) -> dict[str, set[str]]:
        """Step -> the machines on which it had something to do."""
        found: dict[str, set[str]] = defaultdict(set)
        for file in sorted(self._folder.glob("*.steps")):
            text = file.read_text()
            for line in text[self._read[file] :].splitlines():
                machine, _, step = line.partition("\t")
                found[step].add(machine)
            self._read[file] = len(text)
        return found

    def logs(self) -> str:
        """The end of what they said."""
        return "\n".join(pool.log.read_text()[-2000:] for pool in self.pools)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Two machines, a pool on each."""
    import machines as network

    folder = tmp_path_factory.mktemp("pools")
    with network.machines(2) as made, network.pools(made, folder, watched=True) as pools:
        yield Cluster(pools, folder)


@pytest.fixture(scope="module")
def here(world, tmp_path_factory):
    """The run on this machine, and what its jobs put out; each is run when first asked for."""
    import jobs

    from tfx_encore.pipeline.beam_options import beam_args

    run = jobs.Run(world, tmp_path_factory.mktemp("here"), beam_args("FnApiRunner"))
    done: dict[str, object] = {}

    def until(name: str):
        """Runs the jobs up to one; later ones read what earlier ones wrote."""
        for job in jobs.JOBS:
            if job not in done:
                done[job] = jobs.JOBS[job](run)
            if job == name:
                return done[job]
        raise KeyError(name)

    return run, until


@pytest.mark.usefixtures("namespaces", "small_pieces")
@pytest.mark.parametrize("name", STEPS)
def test_two_machines_put_out_what_one_does(name, world, here, cluster, tmp_path):
    import jobs

    from tfx_encore.pipeline.beam_options import beam_args

    run, until = here
    expected = until(name)
    far = jobs.Run(world, tmp_path, beam_args("FnApiRunner", cluster.options), run.folder)
    cluster.steps()
    try:
        found = jobs.JOBS[name](far)
    except Exception:
        print(cluster.logs())  # noqa: T201 - what the workers said
        raise
    if name == "StatisticsGen":
        _same_statistics(expected, found)
    else:
        assert found == expected
    where = cluster.steps()
    for step in STEPS[name]:
        machines = set().union(*(at for full, at in where.items() if _is(step, full)))
        assert len(machines) == 2, f"{step} ran on {machines or 'no machine'}: {dict(where)}"


@pytest.mark.usefixtures("namespaces")
def test_beams_own_pools_share_the_work_and_hear_where_the_driver_is(tmp_path, monkeypatch):
    import apache_beam as beam
    import machines as network
    import tasks

    with network.machines(2) as made, network.pools(made, tmp_path) as pools:
        monkeypatch.setenv("BEAM_RUNNER_HOST", made[1].driver)
        with beam.Pipeline(argv=_args(pools)) as pipeline:
            _ = (
                pipeline
                | beam.Create(list(range(40)))
                | beam.Reshuffle()
                | beam.Map(tasks.where, str(tmp_path))
            )
        told = [path.read_text() for path in tmp_path.glob("task-*")]
    assert len(told) == 40
    assert {line.split()[0] for line in told} == {machine.name for machine in made}
    assert len({tuple(line.split()) for line in told}) == 2, "a process on each machine"


@pytest.mark.usefixtures("namespaces")
def test_a_pool_that_is_not_there_fails_the_step_and_is_named(world, tmp_path):
    import jobs
    import machines as network

    from tfx_encore.pipeline.beam_options import beam_args
    from tfx_encore.schemas.errors import WorkerPoolError

    with network.machines(1) as (machine,):
        nobody = f"{machine.address}:{network.PORT}"
        options = ("--environment_type=EXTERNAL", f"--environment_config={nobody}")
        run = jobs.Run(world, tmp_path, beam_args("FnApiRunner", options))
        with pytest.raises(WorkerPoolError, match=f"worker pool {nobody}: it cannot be reached"):
            jobs.log_examples(run)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.usefixtures("namespaces")
@pytest.mark.parametrize("how", ["killed", "unplugged"])
def test_a_worker_lost_at_work_fails_the_step_and_leaves_no_half_file(how, tmp_path, monkeypatch):
    import threading

    import apache_beam as beam
    import machines as network
    import tasks

    from tfx_encore.pipeline import worker_pools
    from tfx_encore.schemas.errors import WorkerPoolError

    monkeypatch.setattr(worker_pools, "PROBE_SECONDS", 0.5)
    out, scratch = tmp_path / "out", tmp_path / "scratch"
    out.mkdir()
    scratch.mkdir()
    with network.machines(2) as made, network.pools(made, tmp_path) as pools:

        def lose() -> None:
            end = time.monotonic() + 120
            while not (tmp_path / made[1].name).exists() and time.monotonic() < end:
                time.sleep(0.1)
            pools[1].kill() if how == "killed" else made[1].unplug()

        trouble = threading.Thread(target=lose)
        trouble.start()
        with (
            pytest.raises(WorkerPoolError, match=f"worker pool {pools[1].address}: its worker was"),
            beam.Pipeline(argv=_args(pools)) as pipeline,
        ):
            _ = (
                pipeline
                | beam.Create([str(out / f"{number}") for number in range(8)])
                | beam.Reshuffle()
                | beam.Map(tasks.write_slowly, str(scratch), str(tmp_path))
            )
        trouble.join()
    assert {path.read_text() for path in out.iterdir()} <= {tasks.WHOLE}


def _is(step: str, full: str) -> bool:
    """Whether a step's full name is that of the step or of a part of it."""
    first = full.split("/", maxsplit=1)[0]
    return first == step or first.startswith(f"{step}[")


def _args(pools) -> list[str]:
    from tfx_encore.pipeline.beam_options import beam_args

    listed = ",".join(pool.address for pool in pools)
    options = ("--environment_type=EXTERNAL", f"--environment_config={listed}")
    return list(beam_args("FnApiRunner", options))


def _same_statistics(expected, found) -> None:
    assert expected.keys() == found.keys()
    for split in expected:
        worst = _difference(expected[split], found[split])
        assert worst <= _TFDV, f"{split}: {worst}"


def _difference(one, two) -> float:
    """The largest relative difference of a number with a fraction; all else must be equal."""
    worst = 0.0
    assert [f.name for f, _ in one.ListFields()] == [f.name for f, _ in two.ListFields()]
    for (field, a), (_, b) in zip(one.ListFields(), two.ListFields(), strict=True):
        many = field.label == field.LABEL_REPEATED
        pairs = list(zip(a, b, strict=True)) if many else [(a, b)]
        for x, y in pairs:
            if field.message_type is not None:
                worst = max(worst, _difference(x, y))
            elif field.cpp_type in (field.CPPTYPE_DOUBLE, field.CPPTYPE_FLOAT):
                worst = max(worst, abs(x - y) / max(abs(x), abs(y), 1e-300))
            else:
                assert x == y, f"{field.full_name}: {x} and {y}"
    return worst
