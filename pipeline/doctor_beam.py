"""What `encore doctor --runner` looks at: all that Beam work on other machines needs."""

from __future__ import annotations

import importlib.metadata
import os
import pathlib
import re
import shutil
import socket
import subprocess
import zipfile
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

from tfx_encore.pipeline.beam_options import (
    DATAFLOW,
    FLINK,
    LOCAL,
    PAGE,
    PORTABLE,
    SPARK,
    BeamChoice,
    problems,
    runner_name,
)
from tfx_encore.pipeline.doctor import Check

AREA = "runner"
_CONNECT_SECONDS = 3.0
_JAVA = 11  # the oldest that Flink 1.20, Spark 3 and Beam's job servers run on
_SPARK_VERSION = "3"  # Beam's default
_PORTS = {"http": 80, "https": 443, "spark": 7077}


def choice_for(runner: str, configured: BeamChoice | None) -> BeamChoice:
    """What to look at: the project's own options, where they are for this runner.

    Raises:
        ConfigError: no such runner, or one that is refused.
    """
    if configured is not None and runner_name(runner) == configured.runner:
        return configured
    return BeamChoice.of(runner)


def runner_checks(choice: BeamChoice, workspace: pathlib.Path | None = None) -> Iterator[Check]:
    """The options, the programs and packages, the addresses, and our package at the workers.

    Args:
        choice: the runner and its options.
        workspace: of the project; None outside of one.
    """
    yield Check(AREA, "runner", "ok", choice.runner + (", in this process" if choice.here else ""))
    missing = list(problems(choice))
    for problem in missing:
        yield Check(AREA, "options", "missing", problem, f"set `beam.options`; see {PAGE}")
    if not missing and choice.given:
        yield Check(AREA, "options", "ok", " ".join(choice.given))
    if choice.runner in (FLINK, SPARK) and "job_endpoint" not in choice.options:
        yield java_check()
        yield job_server_check(choice)
    if choice.runner == DATAFLOW:
        yield gcp_check()
    yield from _addresses(choice)
    yield from _package(choice)
    if not choice.here:
        yield _storage(choice, workspace)


def java_check() -> Check:
    """Whether there is a Java that runs job servers."""
    program = shutil.which("java")
    advice = "apt install default-jre-headless"
    if program is None:
        return Check(AREA, "java", "missing", "for the job server that Beam starts", advice)
    shown = subprocess.run(  # noqa: S603 - what PATH calls java
        [program, "-version"], capture_output=True, text=True, check=False, timeout=60
    ).stderr
    version = re.search(r'version "(\d+)(?:\.(\d+))?', shown)
    number = int(version[2] if version and version[1] == "1" else version[1]) if version else 0
    if number >= _JAVA:
        return Check(AREA, "java", "ok", f"{program}, {number}")
    found = f"{program}, {number or 'of unknown version'}; needed: {_JAVA} or newer"
    return Check(AREA, "java", "problem", found, advice)


def job_server_check(choice: BeamChoice, cache: pathlib.Path | None = None) -> Check:
    """Whether Beam's job server for Flink or Spark is here; else Beam fetches it when it runs.

    Args:
        choice: the runner.
        cache: Beam's own folder of such files.
    """
    flink = choice.runner == FLINK
    option = "flink_job_server_jar" if flink else "spark_job_server_jar"
    given = choice.options.get(option, "")
    if given:
        there = "://" in given or pathlib.Path(given).is_file()
        state = "ok" if there else "missing"
        advice = "" if there else f"put the file there, or correct --{option}"
        return Check(AREA, "job server", "ok" if state == "ok" else "missing", given, advice)
    name = _jar(choice)
    file = (cache or pathlib.Path.home() / ".apache_beam/cache/jars") / name
    if file.is_file():
        return Check(AREA, "job server", "ok", str(file))
    artifact = name.rsplit("-", 1)[0]
    advice = (
        f"fetch org.apache.beam:{artifact}:{_beam_version()} from a Maven repository and name it "
        f"with --{option}=PATH; Beam tries Maven Central itself where this machine may"
    )
    return Check(AREA, "job server", "missing", f"{name} is not here", advice)


def gcp_check() -> Check:
    """Whether `apache-beam[gcp]` is installed whole."""
    from packaging.requirements import Requirement

    wanted = [
        requirement.name
        for requirement in map(Requirement, importlib.metadata.requires("apache-beam") or ())
        if requirement.marker is not None
        and requirement.marker.evaluate({"extra": "gcp"})
        and not requirement.marker.evaluate({"extra": ""})
    ]
    missing = sorted(name for name in wanted if not _installed(name))
    if not missing:
        return Check(AREA, "apache-beam[gcp]", "ok", f"{len(wanted)} packages")
    shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
    advice = f"pip install 'apache-beam[gcp]=={_beam_version()}'"
    found = f"{len(missing)} of {len(wanted)} packages are missing: {shown}"
    return Check(AREA, "apache-beam[gcp]", "missing", found, advice)


def address_check(name: str, address: str, advice: str) -> Check:
    """Whether something answers at an address: HOST:PORT or a URL."""
    host, port = _host_port(address)
    try:
        with socket.create_connection((host, port), _CONNECT_SECONDS):
            return Check(AREA, name, "ok", f"{address} answers")
    except (OSError, ValueError) as error:
        return Check(AREA, name, "problem", f"{address} does not answer: {error}", advice)


def wheel_check(path: str) -> Check:
    """Whether a wheel to be shipped is this version of tfx-encore."""
    wanted = importlib.metadata.version("tfx-encore")
    advice = f"build it: `pip wheel --no-deps .` in the checkout of tfx-encore {wanted}"
    try:
        with zipfile.ZipFile(path) as wheel:
            names = wheel.namelist()
    except (OSError, zipfile.BadZipFile) as error:
        return Check(AREA, "tfx-encore at workers", "problem", f"{path}: {error}", advice)
    if f"tfx_encore-{wanted}.dist-info/METADATA" in names:
        return Check(AREA, "tfx-encore at workers", "ok", f"{path}, {wanted}")
    found = f"{path} does not hold tfx-encore {wanted}"
    return Check(AREA, "tfx-encore at workers", "problem", found, advice)


def _addresses(choice: BeamChoice) -> Iterator[Check]:
    options = choice.options
    for pool in choice.pools:
        advice = (
            "start one there, from an environment with tfx-encore: python -m "
            "apache_beam.runners.worker.worker_pool_main --service_port=PORT"
        )
        yield address_check("worker pool", pool, advice)
    names: Sequence[str] = {
        FLINK: ("flink_master", "job_endpoint"),
        SPARK: ("spark_master_url", "spark_rest_url", "job_endpoint"),
        PORTABLE: ("job_endpoint",),
    }.get(choice.runner, ())
    for name in names:
        address = options.get(name, "")
        if address and address != "embed" and not re.match(r"\[|local", address):
            advice = f"start it, open the way to it, or correct --{name}"
            yield address_check(name, address, advice)


def _package(choice: BeamChoice) -> Iterator[Check]:
    """What the workers have of us."""
    name = "tfx-encore at workers"
    options = choice.options
    wheels = [options[key] for key in ("extra_package", "extra_packages") if options.get(key)]
    for path in wheels:
        if "tfx_encore" in os.path.basename(path):  # noqa: PTH119 - it may be a URL
            yield wheel_check(path)
    image = options.get("sdk_container_image")
    if image:
        found = f"in {image}, as is TFX; this is not looked into from here"
        yield Check(AREA, name, "ok", found)
    elif choice.runner == LOCAL and choice.pools:
        wanted = importlib.metadata.version("tfx-encore")
        yield Check(AREA, name, "ok", f"pools must run tfx-encore {wanted}; not asked from here")


def _storage(choice: BeamChoice, workspace: pathlib.Path | None) -> Check:
    if choice.runner == DATAFLOW:
        advice = f"compile for Kubeflow with a pipeline root on gs://; see {PAGE}"
        found = "`encore run` keeps artifacts in the workspace, which Dataflow cannot read"
        return Check(AREA, "storage", "problem", found, advice)
    place = str(workspace) if workspace else "the workspace"
    return Check(AREA, "storage", "ok", f"{place} must be there, under this path, at every worker")


def _jar(choice: BeamChoice) -> str:
    if choice.runner == FLINK:
        version = choice.options.get("flink_version") or flink_version()
        return f"beam-runners-flink-{version}-job-server-{_beam_version()}.jar"
    return f"beam-runners-spark-{_SPARK_VERSION}-job-server-{_beam_version()}.jar"


def _host_port(address: str) -> tuple[str, int]:
    parts = urlsplit(address if "://" in address else f"//{address}")
    return parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0)


def _beam_version() -> str:
    return importlib.metadata.version("apache-beam")


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def flink_version() -> str:
    """The Flink that Beam takes where no version is named: 2.0 for Beam 2.74, 2.2 for 2.77."""
    from apache_beam.options.pipeline_options import FlinkRunnerOptions, PipelineOptions

    return str(PipelineOptions([]).view_as(FlinkRunnerOptions).flink_version)
