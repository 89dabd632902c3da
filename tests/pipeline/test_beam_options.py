"""Beam runners and their options, checked before anything is run."""

from __future__ import annotations

import pytest

from tfx_encore.pipeline.beam_options import (
    POOL_RUNNER,
    BeamChoice,
    beam_args,
    problems,
    require_reachable,
    runner_name,
)
from tfx_encore.pipeline.config import parse_config
from tfx_encore.schemas.errors import ConfigError

IMAGE = "--sdk_container_image=registry.example/encore:1"
POOLS = ("--environment_type=EXTERNAL", "--environment_config=10.0.0.2:50000,10.0.0.3:50000")
FLINK = "--flink_master=flink.example:8081"


def test_dask_is_refused_with_the_reason():
    with pytest.raises(ConfigError, match="DaskRunner is refused: it loses data without a word"):
        beam_args("DaskRunner")
    with pytest.raises(ConfigError, match="loses data"):
        runner_name("apache_beam.runners.dask.dask_runner.DaskRunner".rpartition(".")[2])


@pytest.mark.parametrize("name", ["DirectRunner", "direct", "SwitchingDirectRunner", "fnapirunner"])
def test_direct_runner_means_the_engine_that_downloads_nothing(name):
    assert beam_args(name)[0] == "--runner=FnApiRunner"


@pytest.mark.parametrize(
    ("name", "meant"),
    [("flink", "FlinkRunner"), ("SPARK", "SparkRunner"), ("DataflowRunner", "DataflowRunner")],
)
def test_names_are_taken_as_beam_takes_them(name, meant):
    assert runner_name(name) == meant


def test_an_unknown_runner_names_those_that_are_known():
    with pytest.raises(ConfigError, match=r"no Beam runner 'Fink'; valid: FnApiRunner, FlinkRun"):
        beam_args("Fink")


def test_a_runner_of_ones_own_is_taken_as_it_is():
    assert beam_args("company.beam.OurRunner", ("--x=1",)) == (
        "--runner=company.beam.OurRunner",
        "--x=1",
    )


def test_in_this_process_nothing_is_packed_for_workers():
    _, placeholder = beam_args("FnApiRunner")
    assert placeholder.startswith("--sdk_container_image=")


@pytest.mark.parametrize(
    ("runner", "options"),
    [
        ("FlinkRunner", (FLINK, "--environment_type=DOCKER", "--environment_config=i:1")),
        ("FlinkRunner", (FLINK, *POOLS, IMAGE)),
        (
            "DataflowRunner",
            ("--project=p", "--region=r", "--temp_location=gs://b/tmp", IMAGE),
        ),
    ],
)
def test_other_runners_get_what_was_given_and_nothing_else(runner, options):
    assert beam_args(runner, options) == (f"--runner={runner}", *options)


@pytest.mark.parametrize(
    ("runner", "options"),
    [
        ("FlinkRunner", ("--job_endpoint=j:8099", IMAGE)),
        ("SparkRunner", ("--job_endpoint=j:8099", IMAGE)),
        ("SparkRunner", ("--spark_master_url=spark://s:7077", IMAGE)),
        ("PortableRunner", ("--job_endpoint=j:8099", IMAGE)),
    ],
)
def test_the_image_is_used_even_where_beam_would_do_the_work_here(runner, options):
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.runners.runner import create_runner

    given = list(beam_args(runner, options))
    environment = create_runner(runner).default_environment(PipelineOptions(given))
    assert environment.container_image == IMAGE.partition("=")[2]


def test_worker_pools_are_run_by_our_runner():
    runner, *rest = beam_args("FnApiRunner", POOLS)
    assert runner == f"--runner={POOL_RUNNER}"
    assert set(POOLS) <= set(rest)
    choice = BeamChoice.of("FnApiRunner", POOLS)
    assert choice.pools == ("10.0.0.2:50000", "10.0.0.3:50000")
    assert not choice.here


@pytest.mark.parametrize(
    ("runner", "options", "says"),
    [
        ("FlinkRunner", (IMAGE,), "--flink_master=HOST:PORT"),
        ("FlinkRunner", (FLINK,), "workers would lack tfx-encore"),
        ("SparkRunner", (IMAGE,), "--spark_master_url=spark://HOST:7077"),
        ("SparkRunner", (IMAGE, "--spark_submit_uber_jar"), "--spark_rest_url"),
        ("DataflowRunner", ("--region=r", IMAGE), "--project=PROJECT"),
        (
            "DataflowRunner",
            ("--project=p", "--region=r", "--temp_location=/tmp", IMAGE),
            "--temp_location on gs://, not '/tmp'",
        ),
        ("PortableRunner", (IMAGE,), "--job_endpoint=HOST:PORT"),
        ("PortableRunner", (IMAGE, "--job_endpoint=here"), "not 'here'"),
        ("PrismRunner", (), "--prism_location=PATH"),
        ("FnApiRunner", ("--environment_type=DOCKER",), "passes over --environment_type=DOCKER"),
        ("FnApiRunner", ("--environment_type=EXTERNAL",), "HOST:PORT,HOST:PORT"),
        (
            "FnApiRunner",
            ("--environment_type=EXTERNAL", "--environment_config=a:1,b"),
            "not 'b'",
        ),
        (
            "FlinkRunner",
            (FLINK, "--environment_type=PROCESS", "--environment_config={}"),
            '"command"',
        ),
    ],
)
def test_what_is_missing_is_said_with_the_way_out(runner, options, says):
    assert says in " ".join(problems(BeamChoice.of(runner, options)))
    with pytest.raises(ConfigError):
        beam_args(runner, options)


def test_an_option_and_its_value_may_be_two_items():
    assert BeamChoice.of("flink", ("--flink_master", "a:1", "--x")).options == {
        "flink_master": "a:1",
        "x": "",
    }
    with pytest.raises(ConfigError, match="'parallelism=4' is no option"):
        BeamChoice.of("flink", ("parallelism=4",))


def test_dataflow_is_refused_where_artifacts_lie_on_a_disk():
    require_reachable("FlinkRunner", "/shared/work")
    with pytest.raises(ConfigError, match="Dataflow's workers cannot read the workspace /here"):
        require_reachable("dataflow", "/here")


@pytest.mark.parametrize(
    ("beam", "says"),
    [
        ({"runner": "DaskRunner"}, "it loses data"),
        ({"runner": "FlinkRunner"}, "--flink_master=HOST:PORT"),
    ],
)
def test_a_project_file_with_an_impossible_runner_is_not_read(beam, says):
    document = {
        "model": "m",
        "data": {"spans": "x-{SPAN}/*.csv", "schema": "s.pbtxt"},
        "training": {"module": "m.py"},
        "evaluation": {"label_key": "y"},
        "beam": beam,
    }
    with pytest.raises(ConfigError, match=r"encore\.yaml: beam") as told:
        parse_config(document, source="encore.yaml")
    assert says in str(told.value)
