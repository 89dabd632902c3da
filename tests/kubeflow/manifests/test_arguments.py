"""The arguments of every container, read by the very parsers that will read them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from tfx_encore.gateway.models.cache_config import CacheConfig
from tfx_encore.gateway.supervisor import _KILL_AFTER_SECONDS
from tfx_encore.gateway.worker_main import _CLOSING_SECONDS
from tfx_encore.metadata.release_state import ReleaseState, dump
from tfx_encore.pipeline.cli import cli
from tfx_encore.pipeline.commands.options import open_project
from tfx_encore.pipeline.serve_settings import Wanted, check, settings_of

pytestmark = pytest.mark.service("npm")

BUILDS = [
    ("overlays/local",),
    ("overlays/production",),
    ("redis", "certificates", "tf-serving", "monitoring", "nightly", "keda"),
]
MIB = 2**20
ROOT = Path(__file__).parents[3]

Object = dict[str, Any]


def parsed(args: list[str]) -> click.Context:
    """What the command line makes of it, without running it."""
    command = cli.get_command(click.Context(cli), args[0])
    assert command is not None
    return command.make_context(args[0], args[1:])


@pytest.fixture(params=BUILDS, ids=["local", "production", "everything"])
def objects(build: Any, request: Any) -> list[Object]:
    found: list[Object] = build(*request.param)
    return found


def encore_containers(objects: list[Object], pod_specs: Any) -> dict[str, Object]:
    return {
        each["name"]: each
        for _, spec in pod_specs(objects)
        for each in spec["containers"]
        if "tfx-encore" in each["image"]
    }


def test_every_container_of_ours_has_arguments_that_the_command_takes(
    objects: list[Object], pod_specs: Any, pod: Any
) -> None:
    found = encore_containers(objects, pod_specs)
    for each in found.values():
        parsed(pod.expanded(each, {"MODEL": "taxi"}))
    assert {"gateway", "nightly"} <= set(found) <= {"gateway", "nightly", "monitor"}


def test_an_argument_that_does_not_exist_is_noticed() -> None:
    with pytest.raises(click.UsageError):
        parsed(["serve", "--worker=2"])
    with pytest.raises(click.UsageError):
        parsed(["nightly", "--acts"])


# --- the gateway ---------------------------------------------------------------------------------


@pytest.fixture
def wanted_of(find: Any, pod: Any, tmp_path: Path) -> Callable[..., tuple[Wanted, Object]]:
    """The settings that the gateway's arguments give, and its pod spec; paths below `tmp_path`."""

    def read(objects: list[Object]) -> tuple[Wanted, Object]:
        spec = find(objects, "Deployment", "encore-gateway")["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        pod.lay_out(objects, spec, container, tmp_path)
        args = [pod.mapped(arg, tmp_path) for arg in pod.expanded(container, {"MODEL": "taxi"})]
        return settings_of(parsed(args).params, environ={}), spec

    return read


def test_the_gateways_settings_are_taken_whole_and_without_a_note(
    objects: list[Object], wanted_of: Any, tmp_path: Path
) -> None:
    wanted, spec = wanted_of(objects)
    (tmp_path / "var/lib/encore/releases/taxi/labels.json").write_bytes(dump(ReleaseState()))
    ports = {p["name"]: p["containerPort"] for p in spec["containers"][0]["ports"]}
    settings = wanted.settings
    assert wanted.notes == ()
    assert {"rest": settings.rest_api_port, "grpc": settings.port} == ports
    free = settings.model_copy(update={"rest_api_port": 0, "port": 0})
    assert check(free) == []
    assert settings.model_name == "taxi"
    assert settings.ledger == "journal"
    # What is written lies where the pod may write.
    mounts = {m["mountPath"]: m for m in spec["containers"][0]["volumeMounts"]}
    for path in (settings.cache_dir, settings.request_log_dir):
        assert not mounts["/" + str(Path(str(path)).relative_to(tmp_path))].get("readOnly")


def test_the_pod_waits_longer_than_the_gateway_takes_to_end(
    objects: list[Object], wanted_of: Any, tmp_path: Path
) -> None:
    wanted, spec = wanted_of(objects)
    settings = wanted.settings
    longest = settings.lame_duck_seconds + settings.drain_seconds + _KILL_AFTER_SECONDS
    assert longest > settings.lame_duck_seconds + settings.drain_seconds + _CLOSING_SECONDS
    assert longest + 5 <= spec["terminationGracePeriodSeconds"]
    assert settings.lame_duck_seconds >= 5  # until it is out of everybody's list of endpoints
    probe = spec["containers"][0]["livenessProbe"]
    if settings.workers > 1:  # the supervisor is to be quicker
        assert probe["periodSeconds"] * probe["failureThreshold"] > settings.hang_seconds + 10


def quantity(text: str) -> float:
    """A Kubernetes quantity as a number."""
    units = {"m": 1e-3, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "": 1}
    number, unit = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", text).groups()  # type: ignore[union-attr]
    return float(number) * units[unit]


def test_threads_and_memory_are_what_the_guide_derives(
    objects: list[Object], wanted_of: Any
) -> None:
    """docs/kubernetes.md, "Processors" and "Memory"."""
    wanted, spec = wanted_of(objects)
    settings, resources = wanted.settings, spec["containers"][0]["resources"]
    if settings.workers > 1:
        assert quantity(resources["requests"]["cpu"]) == settings.workers
    assert settings.intra_op_threads == settings.inter_op_threads == 1
    policy = (
        CacheConfig.parse(
            yaml.safe_load(Path(str(settings.cache_config)).read_text()), "cache.yaml"
        )
        .setting("taxi")
        .policy
    )
    each = policy.memory_bytes + settings.raw_cache_bytes + BARE_WORKER_MIB * MIB
    assert each * settings.workers * 1.5 <= quantity(resources["limits"]["memory"])
    (cache,) = [v for v in spec["volumes"] if v["name"] == "cache"]
    assert policy.lmdb_bytes * 1.5 <= quantity(cache["emptyDir"]["sizeLimit"])
    assert quantity(cache["emptyDir"]["sizeLimit"]) <= quantity(
        resources["limits"]["ephemeral-storage"]
    )


BARE_WORKER_MIB = 500  # measured by benchmarks/bench_pod.py, rounded up


# --- redis, nights -------------------------------------------------------------------------------


def test_the_gateway_reaches_the_redis_that_is_deployed(
    build: Any, find: Any, wanted_of: Any
) -> None:
    objects = build("redis")
    wanted, spec = wanted_of(objects)
    redis = wanted.settings.redis
    assert redis is not None
    service = find(objects, "Service", "encore-redis")
    (port,) = service["spec"]["ports"]
    assert redis.url == f"rediss://{service['metadata']['name']}:{port['port']}/0"
    environment = {e["name"] for e in spec["containers"][0]["env"]}
    assert redis.password_env in environment
    (mount,) = [m for m in spec["containers"][0]["volumeMounts"] if m["name"] == "redis-tls"]
    assert str(redis.tls.ca_file).endswith(f"{mount['mountPath']}/ca.crt")
    assert redis.tls.verify_hostname


def test_the_gateway_reaches_the_tensorflow_serving_that_is_deployed(
    build: Any, find: Any, wanted_of: Any
) -> None:
    objects = build("tf-serving")
    wanted, _ = wanted_of(objects)
    service = find(objects, "Service", "encore-tf-serving")
    (port,) = service["spec"]["ports"]
    assert wanted.settings.upstream == f"{service['metadata']['name']}:{port['port']}"


def test_the_nightly_project_is_one_and_lies_where_the_pod_may_write(
    build: Any, find: Any, pod: Any, tmp_path: Path
) -> None:
    objects = build("nightly")
    spec = find(objects, "CronJob", "encore-nightly")["spec"]["jobTemplate"]["spec"]["template"][
        "spec"
    ]
    (container,) = spec["containers"]
    files = pod.config_files(objects, spec)
    for volume, contents in files.items():
        (tmp_path / volume).mkdir()
        for name, text in contents.items():
            (tmp_path / volume / name).write_text(text)
    context = parsed(pod.expanded(container, {}))
    assert context.params["config_file"] == "/etc/encore/project/encore.yaml"
    project = open_project(str(tmp_path / "project/encore.yaml"))
    writable = {m["mountPath"] for m in container["volumeMounts"] if not m.get("readOnly")}
    assert {str(project.workspace.root), str(project.workspace.releases)} <= writable
    assert project.config.nightly.request_log in writable
    gateway = find(objects, "Deployment", "encore-gateway")["spec"]["template"]["spec"]
    assert (
        f"--request_log_dir={project.config.nightly.request_log}"
        in gateway["containers"][0]["args"]
    )
    assert project.config.data.schema_file == "/etc/encore/schema/schema.pbtxt"
    assert files["schema"]["schema.pbtxt"] == (ROOT / "schemas/taxi.pbtxt").read_text()
