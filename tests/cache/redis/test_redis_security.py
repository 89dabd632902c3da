"""TLS with certificates made here, and an ACL user who may do what docs/redis.md lists, no more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import redis
import trustme

from tfx_encore.cache.redis_accelerator import InvalidationAccelerator
from tfx_encore.cache.redis_config import RedisConfig
from tfx_encore.cache.redis_lease import RedisLease
from tfx_encore.cache.redis_store import RedisStore
from tfx_encore.schemas.errors import ConfigError, StoreUnavailableError

pytestmark = pytest.mark.service("redis-server")

Use = Callable[[RedisStore], Awaitable[Any]]
PASSWORD = "correct horse"
ENVIRON = {"REDIS_PASSWORD": PASSWORD}


def with_store(config: RedisConfig, use: Use, **options: Any) -> Any:
    async def run() -> Any:
        store = RedisStore(config, "taxi", **options)
        try:
            return await use(store)
        finally:
            await store.close()

    return asyncio.run(run())


class Authority:
    """Signs certificates for a test, and writes them with their keys into a folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._signs = trustme.CA()
        self.file = str(folder / "ca.pem")
        self._signs.cert_pem.write_to_path(self.file)

    def issue(self, name: str, address: str = "127.0.0.1") -> tuple[str, str]:
        """Returns the files of a certificate for an address and of its key."""
        made = self._signs.issue_cert(address)
        certificate, key = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        made.cert_chain_pems[0].write_to_path(certificate)
        made.private_key_pem.write_to_path(key)
        return str(certificate), str(key)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "pki")


@pytest.fixture
def start_tls(start_server, authority) -> Callable[..., Any]:
    """Starts a server that speaks TLS only, on the port of its url."""

    def start(
        *more: str, address: str = "127.0.0.1", clients: str = "no", sentinel: bool = False
    ) -> Any:
        certificate, key = authority.issue("server", address)
        options = ["--tls-cert-file", certificate, "--tls-key-file", key]
        options += ["--tls-ca-cert-file", authority.file, "--tls-auth-clients", clients]
        server = start_server(*options, *more, sentinel=sentinel)
        server.kill()
        return server.start("--port", "0", "--tls-port", str(server.port))

    return start


def tls_config(server: Any, **tls: Any) -> RedisConfig:
    url = f"rediss://127.0.0.1:{server.port}"
    config = {"url": url, "read_deadline_ms": 3_000, "write_deadline_ms": 3_000, "tls": tls}
    return RedisConfig.model_validate(config)


def test_entries_pass_over_tls(start_tls, authority, entry_of) -> None:
    async def use(store: RedisStore) -> None:
        assert await store.put_many([entry_of(1)]) == 1
        assert await store.get_many([entry_of(1).key]) == [entry_of(1)]

    with_store(tls_config(start_tls(), ca_file=authority.file), use)


def tls_client(server: Any, authority: Authority) -> redis.Redis:
    """A client beside the one under test."""
    return redis.Redis("127.0.0.1", server.port, ssl=True, ssl_ca_certs=authority.file, protocol=2)


def test_a_cluster_speaks_tls(start_tls, authority, entry_of) -> None:
    server = start_tls("--cluster-enabled", "yes", "--tls-cluster", "yes")
    beside = tls_client(server, authority)
    beside.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16_383)
    while b"cluster_state:ok" not in beside.execute_command("CLUSTER", "INFO"):
        time.sleep(0.05)

    async def use(store: RedisStore) -> None:
        assert await store.put_many([entry_of(1)]) == 1
        assert await store.get_many([entry_of(1).key]) == [entry_of(1)]

    config = tls_config(server, ca_file=authority.file).model_copy(update={"cluster": True})
    with_store(config, use)


def test_sentinels_and_their_master_speak_tls(start_tls, authority, entry_of) -> None:
    master = start_tls()
    # Sentinels show the master a certificate, as replicas do.
    watcher = start_tls("--tls-replication", "yes", sentinel=True)
    monitor = ("SENTINEL", "MONITOR", "taxi-cache", "127.0.0.1", str(master.port), "1")
    tls_client(watcher, authority).execute_command(*monitor)
    config = RedisConfig.model_validate(
        {
            "sentinel": {
                "service": "taxi-cache",
                "nodes": [f"127.0.0.1:{watcher.port}"],
                "tls": True,
            },
            "tls": {"ca_file": authority.file},
            "read_deadline_ms": 3_000,
            "write_deadline_ms": 3_000,
        }
    )

    async def use(store: RedisStore) -> None:
        assert await store.put_many([entry_of(1)]) == 1
        assert await store.get_many([entry_of(1).key]) == [entry_of(1)]

    with_store(config, use)


def test_a_handshake_longer_than_the_deadline_is_finished_for_the_next_read(
    start_tls, authority, entry_of
) -> None:
    async def use(store: RedisStore) -> None:
        with pytest.raises(StoreUnavailableError, match="no answer in"):
            await store.get_many([entry_of(1).key], deadline_ms=0.2)
        while store.link.under_way:
            await asyncio.sleep(0.005)
        assert await store.get_many([entry_of(1).key], deadline_ms=500) == [None]

    with_store(tls_config(start_tls(), ca_file=authority.file), use)


async def _refused(store: RedisStore) -> str:
    with pytest.raises(StoreUnavailableError) as caught:
        await store.ping()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_server_signed_by_someone_else_is_not_trusted(start_tls, tmp_path) -> None:
    other = Authority(tmp_path / "other")
    message = with_store(tls_config(start_tls(), ca_file=other.file), _refused)
    assert "certificate verify failed" in message.lower()
    assert "certificate verify failed" in with_store(tls_config(start_tls()), _refused).lower()


def test_a_certificate_of_another_host_is_refused_unless_told(
    start_tls, authority, entry_of
) -> None:
    server = start_tls(address="10.9.8.7")
    message = with_store(tls_config(server, ca_file=authority.file), _refused)
    assert "mismatch" in message or "not match" in message

    async def use(store: RedisStore) -> None:
        assert await store.put_many([entry_of(1)]) == 1

    with_store(tls_config(server, ca_file=authority.file, verify_hostname=False), use)


def test_a_client_shows_its_certificate_where_the_server_asks(start_tls, authority) -> None:
    server = start_tls(clients="yes")
    certificate, key = authority.issue("client")
    shown = tls_config(server, ca_file=authority.file, cert_file=certificate, key_file=key)
    with_store(shown, RedisStore.ping)
    with_store(tls_config(server, ca_file=authority.file), _refused)


def test_plain_text_to_a_tls_server_is_unavailable(start_tls) -> None:
    plain = RedisConfig(url=f"redis://127.0.0.1:{start_tls().port}")
    with_store(plain, _refused)


def test_a_missing_certificate_file_is_named(authority) -> None:
    config = RedisConfig.model_validate(
        {"url": "rediss://127.0.0.1:1", "tls": {"ca_file": "/nowhere/ca.pem"}}
    )
    with pytest.raises(ConfigError, match=r"/nowhere/ca\.pem is not there"):
        RedisStore(config, "taxi")


def set_user(server: Any, guide_user: Callable[[str], list[str]]) -> None:
    server.client.execute_command("ACL", "SETUSER", *guide_user(PASSWORD))


def user_config(server: Any, user: str = "encore", **changes: Any) -> RedisConfig:
    plain = {"url": server.url, "username": user, "password_env": "REDIS_PASSWORD"}
    deadlines = {"read_deadline_ms": 3_000, "write_deadline_ms": 3_000}
    return RedisConfig.model_validate({**plain, **deadlines, **changes})


def test_the_rights_in_the_guide_suffice_for_everything(server, entry_of, guide_user) -> None:
    set_user(server, guide_user)

    async def use(store: RedisStore) -> None:
        await store.ping()
        assert await store.put_many([entry_of(1), entry_of(2)]) == 2
        assert await store.get_many([entry_of(1).key]) == [entry_of(1)]
        assert (await store.usage()).entries == 2
        assert await store.remove([entry_of(1).key]) == 1
        assert await store.clear("ab" * 32) == 1
        lease = RedisLease(store.link, "taxi")
        (held,) = await lease.acquire([b"k"])
        assert held is not None
        assert await lease.acquire([b"k"]) == [None]
        assert await lease.release([held]) == 1
        accelerator = InvalidationAccelerator(user_config(server), "taxi", environ=ENVIRON)
        assert await accelerator.wait(5)  # the subscription itself wakes once
        assert await accelerator.announce(1)
        assert await accelerator.wait(5)
        await accelerator.close()

    with_store(user_config(server), use, environ=ENVIRON)


def test_the_rights_in_the_guide_allow_nothing_else(server, guide_user) -> None:
    set_user(server, guide_user)
    client = server.client
    for command in (
        ["KEYS", "*"],
        ["FLUSHALL"],
        ["CONFIG", "GET", "*"],
        ["GET", "other"],
        ["SET", "other", "x"],
        ["PUBLISH", "other", "x"],
        ["DEBUG", "SLEEP", "0"],
        ["ACL", "LIST"],
        ["MONITOR"],
        ["SCRIPT", "FLUSH"],
    ):
        verdict = client.execute_command("ACL", "DRYRUN", "encore", *command)
        assert b"no permissions" in verdict, command


def test_a_wrong_password_and_a_missing_right_are_unavailable(server, entry_of, guide_user) -> None:
    set_user(server, guide_user)
    wrong = {"REDIS_PASSWORD": "wrong"}
    message = with_store(user_config(server), _refused, environ=wrong)
    assert "wrong" not in message.replace("WRONGPASS", "").lower()
    server.client.execute_command("ACL", "SETUSER", "encore", "-mget", "-unlink", "-set")

    async def use(store: RedisStore) -> None:
        with pytest.raises(StoreUnavailableError, match="mget"):
            await store.get_many([b"k"])
        with pytest.raises(StoreUnavailableError, match="unlink"):
            await store.remove([b"k"])
        assert await store.put_many([entry_of(1)]) == 0
        assert "set" in store.counts.last_refusal

    with_store(user_config(server), use, environ=ENVIRON)


def test_a_password_that_is_not_set_names_its_variable(server) -> None:
    with pytest.raises(ConfigError, match="REDIS_PASSWORD is not set"):
        RedisStore(user_config(server), "taxi", environ={})
