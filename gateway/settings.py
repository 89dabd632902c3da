"""Everything that a gateway is told at its start, validated once. No IO here.

A field is a flag of `encore serve` of the same name unless `NOT_FLAGS` says otherwise; those that
TensorFlow Serving has too bear its spelling, meaning and default (tensorflow_serving/model_servers/
main.cc and server.h). Its other flags are in `tf_flags`. Paths are absolute. Worker processes
receive the settings as JSON, so that nothing here is more than a value: what has to be opened is
named by an `Opener`.
"""

from __future__ import annotations

import importlib
from typing import Any, Literal, Union

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tfx_encore.cache.crypto import EncryptionPolicy
from tfx_encore.cache.redis_config import RedisConfig

MIB = 2**20
_FROZEN = ConfigDict(frozen=True, extra="forbid")


class Opener(BaseModel):
    """Something that each process opens for itself."""

    model_config = _FROZEN

    function: str = Field(
        pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$", description="What opens it, `module:name`."
    )
    argument: str = Field(description="The only argument of the function.")

    def open(self) -> Any:
        """Returns what the function returns."""
        module, _, name = self.function.partition(":")
        return getattr(importlib.import_module(module), name)(self.argument)


class GatewaySettings(BaseModel):
    """How a gateway is set up."""

    model_config = _FROZEN

    # --- what is served --------------------------------------------------------------------------
    releases: str | None = Field(
        default=None,
        description="Release directory; every model in it is served, or the one of --model_name.",
    )
    model_config_file: str | None = Field(
        default=None,
        description="Text file of a ModelServerConfig: models, version policies, labels. "
        "--model_name and --model_base_path are then ignored.",
    )
    model_config_file_poll_wait_seconds: int = Field(
        default=0, ge=0, description="Pause between two looks at that file; 0: it is read once."
    )
    model_name: str | None = Field(
        default=None, min_length=1, description="Name of the model in --model_base_path [default]."
    )
    model_base_path: str | None = Field(
        default=None, description="Directory whose subdirectories are the versions of one model."
    )
    file_system_poll_wait_seconds: int = Field(
        default=1,
        ge=0,
        description="Pause between two looks for new versions; 0: one look at the start.",
    )
    allow_version_labels_for_unavailable_models: bool = Field(
        default=False, description="A new label may name a version that is not available yet."
    )
    force_allow_any_version_labels_for_unavailable_models: bool = Field(
        default=False, description="Any label may name a version that is not available yet."
    )
    num_load_threads: int = Field(
        default=0, ge=0, le=1024, description="Versions loaded at once after the start; 0: one."
    )
    max_num_load_retries: int = Field(
        default=5, ge=0, description="How often a load that failed is tried again."
    )
    load_retry_interval_micros: int = Field(
        default=60_000_000, description="Pause before it is tried again; negative: none."
    )
    upstream: str | None = Field(
        default=None,
        pattern=r"^(\[[0-9a-fA-F:.]+\]|[^\s:/]+):[0-9]{1,5}$",
        description="HOST:PORT of a TensorFlow Serving (gRPC) that computes instead of this "
        "process; it must serve the same versions.",
    )

    # --- REST and gRPC ---------------------------------------------------------------------------
    host: str = Field(default="0.0.0.0", min_length=1, description="Address to listen on.")  # noqa: S104
    port: int | None = Field(
        default=8500, ge=0, le=65_535, description="gRPC port; 0: no gRPC over TCP; auto: any free."
    )
    rest_api_port: int | None = Field(
        default=None, ge=0, le=65_535, description="REST port; 0: no REST; auto: any free."
    )
    grpc_socket_path: str | None = Field(
        default=None, description="Unix socket that speaks gRPC as well."
    )
    rest_api_timeout_in_ms: int = Field(
        default=30_000, ge=0, description="A REST request that takes longer fails."
    )
    rest_api_enable_cors_support: bool = Field(
        default=False, description="Send CORS headers in REST answers."
    )
    max_body_bytes: int = Field(
        default=256 * MIB, ge=0, description="Largest request, unpacked; 0: no limit of ours."
    )
    grpc_channel_arguments: str = Field(
        default="", description="NAME=VALUE,... for the gRPC server."
    )
    ssl_config_file: str | None = Field(
        default=None, description="Text file of an SSLConfig; gRPC then speaks TLS."
    )
    enable_grpc_healthcheck_service: bool = Field(
        default=False, description="Serve grpc.health.v1.Health."
    )
    monitoring_config_file: str | None = Field(
        default=None, description="Text file of a MonitoringConfig: a further path of the metrics."
    )
    cache_headers: bool = Field(
        default=True, description="Say in each answer whether it was a hit, and of which model."
    )

    # --- how models compute ----------------------------------------------------------------------
    enable_batching: bool = Field(
        default=False,
        description="Batch requests that are not cached, too; misses of cached rows always are.",
    )
    batching_parameters_file: str | None = Field(
        default=None, description="Text file of BatchingParameters."
    )
    tensorflow_session_parallelism: int = Field(
        default=0, ge=0, description="Threads within and between operations; 0: one a core."
    )
    tensorflow_intra_op_parallelism: int = Field(
        default=0, ge=0, description="Threads within an operation; 0: one a core."
    )
    tensorflow_inter_op_parallelism: int = Field(
        default=0, ge=0, description="Operations at once; 0: one a core."
    )
    enable_model_warmup: bool = Field(
        default=True, description="Replay a version's warm-up file before it is available."
    )
    num_request_iterations_for_warmup: int = Field(
        default=0, ge=0, description="How often the file is replayed; 0: once."
    )

    # --- the cache -------------------------------------------------------------------------------
    cache_config: str | None = Field(
        default=None, description="YAML or JSON file: what is cached of which model, and how long."
    )
    cache_dir: str | None = Field(
        default=None,
        description="Folder of what survives a restart (LMDB) and of the sockets of `encore "
        "cache`. None: memory only.",
    )
    redis: RedisConfig | None = Field(default=None, description="The tier that hosts share.")
    redis_lease: bool = Field(
        default=False,
        description="Of several gateways that miss a row one computes it and the others wait for "
        "it, by a lease in Redis; worth it where a row is dear to compute.",
    )
    encryption: EncryptionPolicy | None = Field(
        default=None, description="Keys that seal what LMDB and Redis keep."
    )
    raw_cache_bytes: int = Field(
        default=64 * MIB,
        ge=0,
        description="Whole answers kept for equal requests, in each worker; 0: none.",
    )
    ledger: Union[Opener, Literal["journal", "none"]] = Field(
        default="journal",
        description="Where invalidation records are followed: `journal`, that of the release "
        "directory in which a model's versions lie; `none`, nowhere; or what an opener opens.",
    )
    ledger_poll_seconds: float = Field(
        default=0.5, gt=0.0, le=60.0, description="Pause between two looks at the ledger."
    )
    consumer: str = Field(
        default="gateway",
        min_length=1,
        max_length=200,
        description="Who acknowledges invalidation records; the same after a restart "
        "[gateway@HOST:PORT].",
    )

    # --- the request log -------------------------------------------------------------------------
    request_log_dir: str | None = Field(
        default=None, description="Folder of PredictionLog files; None: no request log."
    )
    request_log_rate: float = Field(
        default=0.01, ge=0.0, le=1.0, description="Share of answered requests that is logged."
    )
    request_log_max_per_minute: int = Field(
        default=600,
        ge=0,
        description="Requests logged in a minute at most, by worker; 0: no limit.",
    )
    request_log_rotate_seconds: float = Field(
        default=600.0,
        gt=0.0,
        le=86_400.0,
        description="A file of the log is closed, and readable by others, when it is this old.",
    )
    request_log_keep_days: float = Field(
        default=7.0, ge=0.0, description="When a file of the log is removed; 0: never."
    )

    # --- processes -------------------------------------------------------------------------------
    workers: int = Field(default=1, ge=1, le=64, description="Processes behind the same ports.")
    drain_seconds: float = Field(
        default=30.0, ge=0.0, le=3600.0, description="Time for requests under way when told to end."
    )
    lame_duck_seconds: float = Field(
        default=0.0,
        ge=0.0,
        le=600.0,
        description="How long /readyz fails before the listeners close, for load balancers.",
    )
    hang_seconds: float = Field(
        default=60.0,
        ge=1.0,
        description="A worker whose event loop stands still for so long is replaced.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info",
        description="Least severe lines that are written to standard error "
        "[info; on a terminal warning].",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> GatewaySettings:
        problems = (self._sources, self._listeners, self._batching, self._threads, self._lease)
        for problem in (check() for check in problems):
            if problem:
                raise ValueError(problem)
        self.channel_arguments()
        return self

    @property
    def model_of_base_path(self) -> str:
        """The name of the model in `model_base_path`."""
        return self.model_name or "default"

    @property
    def intra_op_threads(self) -> int:
        """Threads within an operation; 0 for TensorFlow's own choice (server.cc)."""
        return self._threads_of(self.tensorflow_intra_op_parallelism)

    @property
    def inter_op_threads(self) -> int:
        """Operations at once; 0 for TensorFlow's own choice (server.cc)."""
        return self._threads_of(self.tensorflow_inter_op_parallelism)

    @property
    def warmup_iterations(self) -> int:
        """How often a warm-up file is replayed; 0 if it is not."""
        return max(self.num_request_iterations_for_warmup, 1) if self.enable_model_warmup else 0

    def channel_arguments(self) -> tuple[tuple[str, int | str], ...]:
        """Name and value of each gRPC channel argument, numbers as such (server.cc).

        Raises:
            ValueError: a part is not NAME=VALUE.
        """
        found: list[tuple[str, int | str]] = []
        for part in filter(None, self.grpc_channel_arguments.split(",")):
            name, equals, value = part.partition("=")
            if not name or not equals:
                raise ValueError(
                    f"grpc_channel_arguments: {part!r} is not NAME=VALUE, as "
                    "grpc.max_connection_age_ms=2000"
                )
            found.append((name, int(value) if value.lstrip("-").isdigit() else value))
        return tuple(found)

    def _threads_of(self, own: int) -> int:
        apart = self.tensorflow_intra_op_parallelism or self.tensorflow_inter_op_parallelism
        return own if apart else self.tensorflow_session_parallelism

    def _sources(self) -> str | None:
        other = [f for f in ("model_config_file", "model_base_path") if getattr(self, f)]
        if self.releases and other:
            return f"--releases and --{other[0]} both say what to serve; give one of them"
        if not self.releases and not other:
            return (
                "nothing to serve; give --releases=DIR, --model_base_path=DIR or "
                "--model_config_file=FILE, or start it in a project (a folder with encore.yaml)"
            )
        return None

    def _listeners(self) -> str | None:
        if self.port is None and self.rest_api_port is None and not self.grpc_socket_path:
            return "--port, --rest_api_port and --grpc_socket_path are all off; turn one on"
        if self.port and self.port == self.rest_api_port:
            return f"--port and --rest_api_port are both {self.port}; choose two ports"
        return None

    def _batching(self) -> str | None:
        if self.batching_parameters_file and not self.enable_batching:
            return "--batching_parameters_file is given without --enable_batching"
        return None

    def _lease(self) -> str | None:
        if self.redis_lease and self.redis is None:
            return "--redis_lease is given without --redis or --redis_config"
        return None

    def _threads(self) -> str | None:
        apart = (self.tensorflow_intra_op_parallelism, self.tensorflow_inter_op_parallelism)
        if all(apart) and self.tensorflow_session_parallelism:
            return (
                "--tensorflow_session_parallelism, --tensorflow_intra_op_parallelism and "
                "--tensorflow_inter_op_parallelism are all given; give the first, or the others"
            )
        return None


NOT_FLAGS = frozenset({"redis", "encryption", "ledger"})
"""Fields that the command makes from flags of other names."""
