"""How Redis is reached: the `redis` section of a cache configuration. No IO here.

A password never stands in the configuration: `password_env` names the variable that holds it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import SplitResult, quote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from tfx_encore.schemas.errors import ConfigError

_DEFAULT_PORTS = {"redis": 6379, "rediss": 6379}
_EnvName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
_FROZEN = ConfigDict(frozen=True, extra="forbid")


class Address(NamedTuple):
    """Where a server listens: host and port, or the path of a Unix socket."""

    host: str
    port: int
    path: str = ""


class RedisTls(BaseModel):
    """TLS: how the server is verified, and what the client shows of itself."""

    model_config = _FROZEN

    ca_file: str | None = Field(
        default=None, description="Certificates (PEM) that are trusted; the system's if left out."
    )
    cert_file: str | None = Field(default=None, description="The client's certificate (PEM).")
    key_file: str | None = Field(default=None, description="The client's private key (PEM).")
    verify_hostname: bool = Field(
        default=True,
        description="Whether the server's certificate must name the host; it is verified anyway.",
    )

    @model_validator(mode="after")
    def _certificate_with_key(self) -> RedisTls:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file go together")
        return self


class RedisSentinel(BaseModel):
    """Sentinels that know which server is the master."""

    model_config = _FROZEN

    service: str = Field(min_length=1, description="Name of the master, as `mymaster`.")
    nodes: tuple[str, ...] = Field(min_length=1, description="Sentinels, each as `host:port`.")
    username: str | None = Field(default=None, description="User at the Sentinels.")
    password_env: _EnvName | None = Field(
        default=None, description="Variable that holds the password at the Sentinels."
    )
    tls: bool = Field(default=False, description="Whether Sentinels and servers speak TLS.")
    database: int = Field(default=0, ge=0, le=65_535, description="Number of the database.")

    @field_validator("nodes")
    @classmethod
    def _addresses(cls, nodes: tuple[str, ...]) -> tuple[str, ...]:
        for node in nodes:
            host_and_port(node)
        return nodes


class RedisConfig(BaseModel):
    """The `redis` section of a cache configuration."""

    model_config = _FROZEN

    url: str | None = Field(
        default=None,
        description="`redis://host:6379/0`, `rediss://...` for TLS, `unix:///path`; for a cluster, "
        "any of its nodes. Without user and password. Leave it out with `sentinel`.",
    )
    cluster: bool = Field(default=False, description="Whether the server is part of a cluster.")
    sentinel: RedisSentinel | None = Field(default=None, description="Instead of `url`.")
    tls: RedisTls = Field(default=RedisTls(), description="Files for TLS.")
    username: str | None = Field(default=None, min_length=1, description="User of the ACL.")
    password_env: _EnvName | None = Field(
        default=None, description="Environment variable that holds the password."
    )
    key_prefix: str = Field(
        default="encore",
        pattern=r"^[A-Za-z0-9._-]{1,64}$",
        description="What all names of ours begin with.",
    )
    read_deadline_ms: float = Field(
        default=20.0, gt=0.0, le=60_000.0, description="A batch not read by then is a miss."
    )
    write_deadline_ms: float = Field(
        default=200.0, gt=0.0, le=60_000.0, description="How long a caller waits for a write."
    )
    connect_timeout_ms: float = Field(
        default=1_000.0, gt=0.0, le=60_000.0, description="For a connection, TLS included."
    )
    socket_timeout_ms: float = Field(
        default=1_000.0,
        gt=0.0,
        le=60_000.0,
        description="Without an answer for so long, a connection is dropped.",
    )
    scan_seconds: float = Field(
        default=600.0,
        gt=0.0,
        le=86_400.0,
        description="A walk over all names (clearing a fingerprint) takes no longer.",
    )
    pool_size: int = Field(
        default=8, ge=1, le=1_000, description="Connections to a server, by process, at most."
    )
    max_waiting: int = Field(
        default=1_024,
        ge=1,
        le=1_000_000,
        description="Calls under way at once; one more is refused at once.",
    )
    max_value_bytes: int = Field(
        default=1_048_576,
        ge=256,
        le=512 * 2**20,
        description="A larger value is neither written nor believed.",
    )
    max_ttl_seconds: float = Field(
        default=7 * 86_400.0,
        ge=0.001,
        le=10 * 365 * 86_400.0,
        description="An entry is gone after this time, also one that never expires by itself.",
    )

    @field_validator("url")
    @classmethod
    def _plain_url(cls, url: str | None) -> str | None:
        if url is not None:
            _check_url(url)
        return url

    @model_validator(mode="after")
    def _fits_together(self) -> RedisConfig:
        if (self.url is None) == (self.sentinel is None):
            raise ValueError("give exactly one of url and sentinel")
        if self.cluster and (self.sentinel or self.scheme == "unix" or self.database):
            raise ValueError("a cluster is reached by a url of redis:// or rediss://, database 0")
        if self.tls != RedisTls() and not self.uses_tls:
            raise ValueError("tls is set, but the url is not rediss:// (or sentinel.tls not true)")
        if self.username and not self.password_env:
            raise ValueError("username without password_env")
        return self

    @property
    def scheme(self) -> Literal["redis", "rediss", "unix", "sentinel"]:
        """How a server is reached."""
        return "sentinel" if self.url is None else urlsplit(self.url).scheme  # type: ignore[return-value]

    @property
    def uses_tls(self) -> bool:
        """Whether connections are encrypted and the server verified."""
        return self.sentinel.tls if self.sentinel else self.scheme == "rediss"

    @property
    def database(self) -> int:
        """Number of the database."""
        if self.sentinel:
            return self.sentinel.database
        parts = urlsplit(self.url or "")
        return 0 if parts.scheme == "unix" else int(parts.path.strip("/") or 0)

    @property
    def address(self) -> Address:
        """Of the server that `url` names.

        Raises:
            ConfigError: it is reached by Sentinels.
        """
        if self.url is None:
            raise ConfigError("redis: reached by sentinel, so that there is no one address")
        parts = urlsplit(self.url)
        if parts.scheme == "unix":
            return Address("", 0, parts.path)
        return Address(parts.hostname or "", parts.port or _DEFAULT_PORTS[parts.scheme])

    @property
    def place(self) -> str:
        """What messages call the server."""
        return self.url or f"sentinel {self.sentinel.service if self.sentinel else ''}"


def parse_redis_config(data: Mapping[str, Any], *, source: str = "redis") -> RedisConfig:
    """Validates a `redis` section.

    Args:
        data: key -> value, as read from YAML or JSON.
        source: the file or section, for messages.

    Raises:
        ConfigError: one line that names the key, the value and what would be right.
    """
    try:
        return RedisConfig.model_validate(data)
    except ValidationError as error:
        details = error.errors(include_url=False)
        unknown = [detail for detail in details if detail["type"] == "extra_forbidden"]
        first = (unknown or details)[0]
        key = ".".join(str(part) for part in first["loc"])
        if unknown:
            message = f"unknown key; valid: {', '.join(RedisConfig.model_fields)}"
        elif first["type"] == "value_error":
            message = str(first.get("ctx", {}).get("error"))
        else:
            message = f"{first['msg']}, found {str(first.get('input'))[:60]!r}"
        raise ConfigError(message, file=source, key=key or None) from None


def host_and_port(node: str) -> Address:
    """Reads `host:port`, `[v6]:port`.

    Raises:
        ValueError: it is not of that form.
    """
    try:
        parts = urlsplit(f"//{node}")
        if parts.hostname and parts.port and parts.netloc == node and "@" not in node:
            return Address(parts.hostname, parts.port)
    except ValueError:
        pass
    raise ValueError(f"{node[:80]!r} is not of the form host:port")


def safe_name(model: str) -> str:
    """Returns a model's name as it stands in names of Redis keys and channels.

    Other characters than letters, digits and `._-` are written %xx, so that no name is a glob or a
    hash tag, and different models never share a name.
    """
    return re.sub("~", "%7E", quote(model, safe=""))


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        port_ok = parts.port != 0
    except ValueError as error:
        raise ValueError(f"url is not an address: {error}") from None
    if "@" in parts.netloc or "password" in parts.query:
        raise ValueError("url must not hold user or password; use username and password_env")
    if parts.query or parts.fragment:
        raise ValueError("url takes no options; use the keys of this section")
    if parts.scheme not in ("redis", "rediss", "unix") or not port_ok:
        raise ValueError(f"url must begin with redis://, rediss:// or unix://, found {url[:60]!r}")
    _check_parts(parts, url)


def _check_parts(parts: SplitResult, url: str) -> None:
    if parts.scheme == "unix":
        if parts.netloc or len(parts.path) < 2:
            raise ValueError(f"url of a socket is unix:///path, found {url[:60]!r}")
        return
    if not parts.hostname:
        raise ValueError(f"url names no host: {url[:60]!r}")
    if not re.fullmatch(r"/?|/[0-9]{1,5}", parts.path):
        raise ValueError(f"url ends in {parts.path[:20]!r}; only a database number may follow")
