"""Which Beam runners a project may name, what each needs, and the arguments that Beam gets.

Nothing here imports Beam: a project file is checked in milliseconds. No IO here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tfx_encore.schemas.errors import ConfigError

LOCAL, FLINK, SPARK = "FnApiRunner", "FlinkRunner", "SparkRunner"
DATAFLOW, PORTABLE, PRISM = "DataflowRunner", "PortableRunner", "PrismRunner"
RUNNERS = (LOCAL, FLINK, SPARK, DATAFLOW, PORTABLE, PRISM)
POOL_RUNNER = "tfx_encore.pipeline.worker_pools.WorkerPoolRunner"
PAGE = "docs/scale.md"

# TFX packs itself into an archive for each Beam component unless it is told of a package or image.
# Where workers are started from an environment that is complete, this says so; nobody reads it.
_COMPLETE = "--sdk_container_image=workers-are-complete"
_SHIPPED = ("sdk_container_image", "extra_package", "extra_packages", "setup_file")
_OWN_ENVIRONMENTS = ("EXTERNAL", "PROCESS", "LOOPBACK")
_ADDRESS = re.compile(r"(\[[0-9a-fA-F:]+\]|[^\s:,/]+):\d{1,5}")
_CLASS = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")

_REFUSED = {
    "dask": "DaskRunner is refused: it loses data without a word (records written are gone, tagged "
    "outputs run together)",
    "interactive": "InteractiveRunner is for notebooks",
}


@dataclass(frozen=True)
class BeamChoice:
    """A runner and its options, read.

    Attributes:
        runner: the class as Beam names it, or the path of a class of one's own.
        options: name without dashes -> value, "" for a switch; of several the last.
        given: the options as they are written.
    """

    runner: str
    options: dict[str, str]
    given: tuple[str, ...]

    @classmethod
    def of(cls, runner: str, options: Sequence[str] = ()) -> BeamChoice:
        """Reads a runner's name, as Beam does: in any case, with or without `Runner`.

        Raises:
            ConfigError: no such runner, or one that is refused.
        """
        return cls(runner_name(runner), read_options(options), tuple(options))

    @property
    def environment(self) -> str:
        """Where workers run: DOCKER, EXTERNAL, PROCESS or LOOPBACK; "" if it is not said."""
        return self.options.get("environment_type", "").upper()

    @property
    def pools(self) -> tuple[str, ...]:
        """Addresses of worker pools; none where workers are found otherwise."""
        if self.environment != "EXTERNAL":
            return ()
        listed = self.options.get("environment_config", "").split(",")
        return tuple(pool.strip() for pool in listed if pool.strip())

    @property
    def here(self) -> bool:
        """True if all work is done in this process."""
        return self.runner == LOCAL and not self.pools


def runner_name(name: str) -> str:
    """A runner's class as Beam names it.

    Raises:
        ConfigError: no such runner, or one that is refused.
    """
    short = name.lower().removesuffix("runner")
    if short in _REFUSED or "dask" in short:
        raise ConfigError(
            f"{_REFUSED.get(short, _REFUSED['dask'])}; use {', '.join(RUNNERS)} ({PAGE})",
            key="beam.runner",
        )
    if short in ("direct", "fnapi", "switchingdirect"):
        # Beam's DirectRunner first downloads a program, Prism; this is the engine it falls back on.
        return LOCAL
    for known in RUNNERS:
        if short == known.lower().removesuffix("runner"):
            return known
    if _CLASS.fullmatch(name):
        return name
    raise ConfigError(
        f"no Beam runner {name!r}; valid: {', '.join(RUNNERS)}, or the path of a class as "
        "package.module.Class",
        key="beam.runner",
    )


def read_options(options: Sequence[str]) -> dict[str, str]:
    """Options by name: `--name=value`, `--name value` in two items, or `--name`.

    Raises:
        ConfigError: an item that is neither an option nor the value of one.
    """
    found: dict[str, str] = {}
    open_name = ""
    for item in options:
        if item.startswith("--"):
            name, equals, value = item[2:].partition("=")
            found[name] = value
            open_name = "" if equals else name
        elif open_name:
            found[open_name], open_name = item, ""
        else:
            raise ConfigError(f"{item!r} is no option; write --name=value", key="beam.options")
    return found


def problems(choice: BeamChoice) -> Iterator[str]:
    """What is missing or wrong among the options, a sentence each with the way out."""
    check = _CHECKS.get(choice.runner)
    if check is None:
        return
    yield from check(choice)
    if choice.runner not in (LOCAL, PRISM):
        yield from _workers(choice)


def beam_args(runner: str, options: Sequence[str] = ()) -> tuple[str, ...]:
    """The arguments that Beam gets.

    Raises:
        ConfigError: no such runner, or an option that it needs is missing.
    """
    choice = BeamChoice.of(runner, options)
    for problem in problems(choice):
        raise ConfigError(f"{problem} ({PAGE})", key="beam.options")
    name = POOL_RUNNER if choice.runner == LOCAL and choice.pools else choice.runner
    complete = choice.runner == LOCAL or choice.environment in _OWN_ENVIRONMENTS
    shipped = any(key in choice.options for key in _SHIPPED)
    added = (_COMPLETE,) if complete and not shipped else _container(choice)
    return (f"--runner={name}", *added, *choice.given)


def _container(choice: BeamChoice) -> tuple[str, ...]:
    """What makes Flink, Spark and the like start workers from the image that is named.

    Beam's portable runners look at `--environment_config` only and pass over
    `--sdk_container_image`, which is Dataflow's; and where a Flink or Spark master is not named,
    because a job server is, they take it for one in this process and do the work here.
    """
    if choice.runner not in (FLINK, SPARK, PORTABLE) or choice.environment not in ("", "DOCKER"):
        return ()
    kind = () if choice.environment else ("--environment_type=DOCKER",)
    image = choice.options.get("sdk_container_image", "")
    if image and not choice.options.get("environment_config"):
        return (*kind, f"--environment_config={image}")
    return kind


def require_reachable(runner: str, workspace: str) -> None:
    """Refuses a runner whose workers cannot read the workspace.

    Raises:
        ConfigError: Dataflow, which reads nothing but Google's storage.
    """
    if runner_name(runner) == DATAFLOW:
        raise ConfigError(
            f"Dataflow's workers cannot read the workspace {workspace}; compile the pipeline for "
            f"Kubeflow with a pipeline root on gs:// ({PAGE}), or use another runner here",
            key="beam.runner",
        )


def _local(choice: BeamChoice) -> Iterator[str]:
    if choice.environment not in ("", "EXTERNAL"):
        yield (
            f"{LOCAL} passes over --environment_type={choice.environment}; leave it out, or name "
            "worker pools with --environment_type=EXTERNAL"
        )
    if choice.environment == "EXTERNAL":
        yield from _pools(choice)


def _pools(choice: BeamChoice) -> Iterator[str]:
    wrong = [pool for pool in choice.pools if not _ADDRESS.fullmatch(pool)]
    if not choice.pools or wrong:
        found = f", not {', '.join(wrong)!r}" if wrong else ""
        yield f"--environment_config must name worker pools as HOST:PORT,HOST:PORT{found}"


def _flink(choice: BeamChoice) -> Iterator[str]:
    if not choice.options.get("flink_master") and not choice.options.get("job_endpoint"):
        yield (
            "Flink needs --flink_master=HOST:PORT, the address of its REST service, or "
            "--job_endpoint=HOST:PORT of a Beam job server for it"
        )


def _spark(choice: BeamChoice) -> Iterator[str]:
    options = choice.options
    if "spark_submit_uber_jar" in options and not options.get("spark_rest_url"):
        yield "--spark_submit_uber_jar needs --spark_rest_url=http://HOST:6066"
    elif not any(
        options.get(name) for name in ("spark_master_url", "spark_rest_url", "job_endpoint")
    ):
        yield (
            "Spark needs --spark_master_url=spark://HOST:7077, or --job_endpoint=HOST:PORT of a "
            "Beam job server for it"
        )


def _dataflow(choice: BeamChoice) -> Iterator[str]:
    for name, form in (
        ("project", "PROJECT"),
        ("region", "REGION"),
        ("temp_location", "gs://BUCKET/tmp"),
    ):
        if not choice.options.get(name):
            yield f"Dataflow needs --{name}={form}"
    place = choice.options.get("temp_location", "")
    if place and not place.startswith("gs://"):
        yield f"Dataflow needs --temp_location on gs://, not {place!r}"


def _portable(choice: BeamChoice) -> Iterator[str]:
    endpoint = choice.options.get("job_endpoint", "")
    if endpoint != "embed" and not _ADDRESS.fullmatch(endpoint):
        found = f", not {endpoint!r}" if endpoint else ""
        yield f"PortableRunner needs --job_endpoint=HOST:PORT of a Beam job server{found}"


def _prism(choice: BeamChoice) -> Iterator[str]:
    if not choice.options.get("prism_location"):
        yield "Prism needs --prism_location=PATH of its program; else Beam downloads one"


def _workers(choice: BeamChoice) -> Iterator[str]:
    """Workers need tfx-encore and what it needs, or they cannot unpickle a single step."""
    if choice.environment == "EXTERNAL":
        yield from _pools(choice)
        return
    config = choice.options.get("environment_config", "")
    if choice.environment == "PROCESS" and '"command"' not in config:
        yield (
            '--environment_type=PROCESS needs --environment_config={"command": "PATH"} of a '
            "program that starts a Beam worker"
        )
    docker = choice.environment in ("", "DOCKER")
    named = docker and bool(choice.environment and config)
    if docker and not named and not any(choice.options.get(name) for name in _SHIPPED):
        yield (
            "workers would lack tfx-encore: give --sdk_container_image=IMAGE that holds it (best), "
            "--extra_package=WHEEL on an image that holds TFX, or --environment_type=EXTERNAL"
        )


_CHECKS = {
    LOCAL: _local,
    FLINK: _flink,
    SPARK: _spark,
    DATAFLOW: _dataflow,
    PORTABLE: _portable,
    PRISM: _prism,
}
