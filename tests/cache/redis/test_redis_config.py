"""The redis section: what is accepted, and what a person is told."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tfx_encore.cache.redis_client import RedisLink
from tfx_encore.cache.redis_config import (
    Address,
    RedisConfig,
    host_and_port,
    parse_redis_config,
    safe_name,
)
from tfx_encore.cache.redis_lease import LeasePolicy
from tfx_encore.schemas.errors import ConfigError

SENTINEL = {"service": "m", "nodes": ["a:1"]}


@pytest.mark.parametrize(
    ("url", "address", "database"),
    [
        ("redis://cache", Address("cache", 6379), 0),
        ("redis://10.0.0.1:7000/3", Address("10.0.0.1", 7000), 3),
        ("rediss://[::1]:6380/", Address("::1", 6380), 0),
        ("unix:///run/redis.sock", Address("", 0, "/run/redis.sock"), 0),
    ],
)
def test_a_url_says_where(url: str, address: Address, database: int) -> None:
    config = parse_redis_config({"url": url})
    assert (config.address, config.database) == (address, database)
    assert config.uses_tls == url.startswith("rediss")


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({}, "exactly one of url and sentinel"),
        ({"url": "redis://a", "sentinel": SENTINEL}, "exactly one of url and sentinel"),
        ({"url": "http://a"}, "redis.yaml: url: url must begin with redis://"),
        ({"url": "a:6379"}, "url: url must begin with redis://"),
        ({"url": "redis://:6379"}, "names no host"),
        ({"url": "redis://a:99999"}, "url is not an address"),
        ({"url": "redis://a:0"}, "url must begin with"),
        ({"url": "redis://a/b"}, "only a database number may follow"),
        ({"url": "redis://a?ssl_cert_reqs=none"}, "takes no options"),
        ({"url": "redis://me:secret@a"}, "must not hold user or password"),
        ({"url": "redis://a?password=secret"}, "must not hold user or password"),
        ({"url": "unix://run/x"}, "unix:///path"),
        ({"url": "unix:///x", "cluster": True}, "a cluster is reached by"),
        ({"url": "redis://a/1", "cluster": True}, "database 0"),
        ({"sentinel": SENTINEL, "cluster": True}, "a cluster is reached by"),
        ({"sentinel": {"service": "m", "nodes": ["a"]}}, "sentinel.nodes: 'a' is not of the form"),
        ({"sentinel": {"service": "m", "nodes": []}}, "sentinel.nodes: "),
        ({"url": "redis://a", "tls": {"ca_file": "x"}}, "the url is not rediss://"),
        ({"url": "rediss://a", "tls": {"cert_file": "x"}}, "cert_file and key_file go together"),
        ({"url": "redis://a", "username": "u"}, "username without password_env"),
        ({"url": "redis://a", "password": "secret"}, "password: unknown key; valid: url, cluster"),
        ({"url": "redis://a", "password_env": "not a name"}, "password_env: "),
        ({"url": "redis://a", "pool_size": 0}, "pool_size: Input should be greater than"),
        ({"url": "redis://a", "read_deadline_ms": 0}, "read_deadline_ms: "),
        ({"url": "redis://a", "key_prefix": "a*"}, "key_prefix: "),
    ],
)
def test_a_wrong_section_is_refused_in_one_line(section: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_redis_config(section, source="redis.yaml")
    message = str(caught.value)
    assert message.startswith("redis.yaml")
    assert said in message
    assert "\n" not in message
    assert "secret" not in message


def test_a_configuration_survives_json() -> None:
    config = parse_redis_config({"sentinel": {**SENTINEL, "tls": True}, "tls": {"ca_file": "x"}})
    assert RedisConfig.model_validate_json(config.model_dump_json()) == config
    with pytest.raises(ValidationError, match="frozen"):
        config.url = "redis://a"  # type: ignore[misc]
    with pytest.raises(ConfigError, match="reached by sentinel"):
        config.address  # noqa: B018


@pytest.mark.parametrize("node", ["", "a", "a:", ":1", "a:0", "a:b", "a:1/x", "u@a:1", "a:70000"])
def test_a_node_without_host_or_port_is_refused(node: str) -> None:
    with pytest.raises(ValueError, match="host:port"):
        host_and_port(node)


@given(st.text(max_size=30), st.text(max_size=30))
def test_names_of_models_stay_apart_and_hold_no_pattern(a: str, b: str) -> None:
    try:
        names = safe_name(a), safe_name(b)
    except UnicodeEncodeError:
        return
    assert (names[0] == names[1]) == (a == b)
    assert not set("".join(names)) & set("*?[]{}:\\ ")


def test_a_sentinel_has_its_own_password() -> None:
    sentinel = {**SENTINEL, "password_env": "S", "username": "watcher"}
    config = parse_redis_config({"sentinel": sentinel, "password_env": "R"})
    with pytest.raises(ConfigError, match="variable S is not set"):
        RedisLink(config, {"R": "r"})
    with pytest.raises(ConfigError, match="variable R is not set"):
        RedisLink(config, {"S": "s"})
    client = RedisLink(config, {"R": "r", "S": "s"}).client
    manager = client.connection_pool.sentinel_manager
    assert client.connection_pool.connection_kwargs["password"] == "r"
    assert manager.sentinel_kwargs["password"] == "s"
    assert manager.sentinel_kwargs["username"] == "watcher"


def test_nobody_waits_longer_than_a_lease_lasts() -> None:
    with pytest.raises(ValueError, match="wait_ms above lease_ms"):
        LeasePolicy(lease_ms=100, wait_ms=200)
