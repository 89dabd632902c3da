"""Redis as it is deployed: its configuration and the secrets that are made start a real server."""

from __future__ import annotations

import base64
import contextlib
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml
from redis.backoff import NoBackoff
from redis.retry import Retry

from tfx_encore.cache.entry import Entry
from tfx_encore.cache.redis_config import parse_redis_config
from tfx_encore.cache.redis_store import RedisStore

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.service("npm", "openssl", "redis-server")


def make_secrets(*args: str) -> dict[str, dict[str, str]]:
    """Name -> key -> value, of what the script writes."""
    done = subprocess.run(
        [ROOT / "kubeflow/make-secrets", *args], capture_output=True, text=True, check=True
    )
    found = list(yaml.safe_load_all(done.stdout))
    assert all((each["kind"], each["type"]) == ("Secret", "Opaque") for each in found)
    return {each["metadata"]["name"]: each["stringData"] for each in found}


@dataclass
class Server:
    """The server of the pod, on this machine."""

    folder: Path
    port: int
    password: str
    process: subprocess.Popen[bytes]
    objects: list[dict[str, Any]]

    @property
    def authority(self) -> str:
        return str(self.folder / "etc/encore/tls/ca.crt")

    def client(self, user: str, password: str, **options: Any) -> redis.Redis:
        given: dict[str, Any] = {
            "ssl": True,
            "ssl_ca_certs": self.authority,
            "ssl_check_hostname": False,
        }
        given["retry"] = Retry(NoBackoff(), 0)
        return redis.Redis(
            port=self.port, username=user, password=password, protocol=2, **(given | options)
        )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def server(
    build: Any, find: Any, pod: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    objects = build("redis")
    folder = Path(str(tmp_path_factory.mktemp("redis")))
    spec = find(objects, "Deployment", "encore-redis")["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    pod.lay_out(objects, spec, container, folder)
    secrets = make_secrets("--tls")
    for volume in spec["volumes"]:
        if "secret" in volume:
            (mount,) = [m for m in container["volumeMounts"] if m["name"] == volume["name"]]
            for name, text in secrets[volume["secret"]["secretName"]].items():
                (folder / mount["mountPath"].lstrip("/") / name).write_text(text)
    (config,) = container["args"]
    file, port = Path(pod.mapped(config, folder)), free_port()
    text = file.read_text().replace("\ndir /tmp\n", f"\ndir {folder}/tmp\n")
    file.write_text(text.replace("tls-port 6379", f"tls-port {port}") + "\nbind 127.0.0.1\n")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(["redis-server", str(file)], stdout=log, stderr=log)
    found = Server(folder, port, secrets["encore-redis"]["password"], process, objects)
    try:
        end = time.monotonic() + 30
        while not answers(port):
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < end
            time.sleep(0.05)
        yield found
    finally:
        process.kill()
        process.wait()


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def test_the_probe_of_the_pod_succeeds(server: Server, find: Any) -> None:
    spec = find(server.objects, "Deployment", "encore-redis")["spec"]["template"]["spec"]
    commands = {
        tuple(spec["containers"][0][f"{name}Probe"]["exec"]["command"])
        for name in ("startup", "readiness", "liveness")
    }
    ((shell, script),) = commands
    file = str(server.folder / script.lstrip("/"))
    environment = {"PATH": os.environ["PATH"], "CA": server.authority}
    ran = subprocess.run([shell, file], env=environment | {"PORT": str(server.port)}, check=False)
    assert ran.returncode == 0
    other = subprocess.run([shell, file], env=environment | {"PORT": str(free_port())}, check=False)
    assert other.returncode != 0


async def store_works(store: RedisStore) -> list[Entry | None]:
    entry = Entry(b"k" * 32, b"row", b"answer", "ab" * 32, "answer", 7, 1.5, 0.0, 250.0)
    try:
        await store.put_many([entry])
        found = await store.get_many([entry.key])
        await store.remove([entry.key])
        return [*found, *(await store.get_many([entry.key]))]
    finally:
        await store.close()


def test_the_gateways_configuration_reads_and_writes(
    server: Server, find: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import asyncio

    text = find(server.objects, "ConfigMap", "encore-redis-client")["data"]["redis.yaml"]
    document = yaml.safe_load(text)["redis"]
    assert document["url"] == "rediss://encore-redis:6379/0"
    document["url"] = f"rediss://127.0.0.1:{server.port}/0"
    document["tls"] = {"ca_file": server.authority, "verify_hostname": False}
    document |= {"read_deadline_ms": 5000, "write_deadline_ms": 5000}
    monkeypatch.setenv(document["password_env"], server.password)
    store = RedisStore(parse_redis_config(document, source="redis.yaml"), "taxi")
    found = asyncio.run(store_works(store))
    assert [entry and entry.answer for entry in found] == [b"answer", None]


def test_the_certificate_is_one_that_the_strictest_clients_take(server: Server) -> None:
    """Python does from 3.13 on: it wants the identifiers of both keys."""
    certificate = Path(server.authority).with_name("tls.crt")
    command = ["openssl", "verify", "-x509_strict", "-CAfile", server.authority, str(certificate)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"{certificate}: OK\n")


def test_the_certificate_is_for_the_services_name(server: Server) -> None:
    pem = (server.folder / "etc/encore/tls/tls.crt").read_text()
    der = base64.b64decode("".join(pem.splitlines()[1:-1]))
    assert b"encore-redis" in der
    with pytest.raises(redis.ConnectionError, match="Hostname mismatch"):
        server.client("encore", server.password, ssl_check_hostname=True).ping()


@pytest.mark.parametrize(
    "command",
    [
        ("KEYS", "*"),
        ("FLUSHALL",),
        ("CONFIG", "GET", "*"),
        ("ACL", "LIST"),
        ("SET", "other:key", "x"),
        ("GET", "other:key"),
        ("SHUTDOWN", "NOSAVE"),
        ("PUBLISH", "elsewhere", "x"),
    ],
    ids=" ".join,
)
def test_the_gateways_user_may_do_nothing_else(server: Server, command: tuple[str, ...]) -> None:
    with pytest.raises(redis.exceptions.NoPermissionError):
        server.client("encore", server.password).execute_command(*command)
    assert server.client("encore", server.password).ping()


def test_nobody_else_gets_in(server: Server) -> None:
    with pytest.raises(redis.exceptions.NoPermissionError):
        server.client("probe", "any").get("encore:taxi:00")
    for user, password in (("encore", "wrong"), ("default", ""), ("default", server.password)):
        with pytest.raises(redis.exceptions.AuthenticationError):
            server.client(user, password).ping()
    with pytest.raises(redis.exceptions.ConnectionError):
        server.client("encore", server.password, ssl=False).ping()


def test_it_keeps_nothing_on_disk_and_gives_up_the_oldest_when_full(server: Server) -> None:
    text = (server.folder / "etc/encore/server/redis.conf").read_text()
    options = dict(re.findall(r"^([a-z-]+) (.*)$", text, re.MULTILINE))
    wanted = {"save": '""', "appendonly": "no", "maxmemory-policy": "allkeys-lru", "port": "0"}
    assert wanted.items() <= options.items()


def test_the_memory_bound_leaves_room_for_what_redis_needs_besides(build: Any, find: Any) -> None:
    spec = find(build("redis"), "Deployment", "encore-redis")["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    text = find(build("redis"), "ConfigMap", "encore-redis-server")["data"]["redis.conf"]
    assert "\nmaxmemory 1gb\n" in text
    assert container["resources"]["limits"]["memory"] == "1536Mi"


def test_each_run_makes_another_password_and_the_rights_are_those_of_the_guide() -> None:
    first, second = make_secrets(), make_secrets()
    assert set(first) == {"encore-redis", "encore-redis-acl"}
    assert first["encore-redis"]["password"] != second["encore-redis"]["password"]
    users = first["encore-redis-acl"]["users.acl"]
    (line,) = re.findall(r"^user encore (.*)$", users, re.MULTILINE)
    guide = (ROOT / "docs/redis.md").read_text()
    (rights,) = re.findall(r"^ACL SETUSER encore (.*)$", guide, re.MULTILINE)
    of_a_cluster = {"+cluster|slots", "+command"}
    said = {word for word in rights.split() if word[0] in "~&+"} - of_a_cluster
    assert {word for word in line.split() if word[0] in "~&+"} == said
    assert first["encore-redis"]["password"] not in users
