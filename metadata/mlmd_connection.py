"""Connections to an ML Metadata store: how they are described. No IO here.

Needs `ml_metadata` only, not TFX.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Union

from ml_metadata.proto import metadata_store_pb2 as pb
from pydantic import BaseModel, ConfigDict, Field, SecretStr


class SqliteConnection(BaseModel):
    """An ML Metadata store in one file: the default, for a laptop or a single host."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["sqlite"] = "sqlite"
    path: str = Field(min_length=1, description="File of the store; created by the first writer.")

    def __str__(self) -> str:
        return f"SQLite {self.path}"


class MysqlConnection(BaseModel):
    """An ML Metadata store in MySQL or MariaDB."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["mysql"] = "mysql"
    host: str = Field(min_length=1, description="Name or address of the server.")
    port: int = Field(default=3306, ge=1, le=65535, description="Port of the server.")
    user: str = Field(min_length=1, description="Account, authenticated by password.")
    password: SecretStr = Field(default=SecretStr(""), description="Password of the account.")
    database: str = Field(min_length=1, description="Database; created by the first writer.")

    def __str__(self) -> str:
        return f"MySQL {self.user}@{self.host}:{self.port}/{self.database}"


class GrpcConnection(BaseModel):
    """An ML Metadata gRPC server, as Kubeflow Pipelines runs one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["grpc"] = "grpc"
    host: str = Field(min_length=1, description="Name or address of the server.")
    port: int = Field(default=8080, ge=1, le=65535, description="Port of the server.")
    timeout_seconds: float = Field(default=30.0, gt=0, le=3600, description="Bound of one call.")

    def __str__(self) -> str:
        return f"gRPC {self.host}:{self.port}"


MlmdConnection = Annotated[
    Union[SqliteConnection, MysqlConnection, GrpcConnection], Field(discriminator="kind")
]
_Described = Union[SqliteConnection, MysqlConnection, GrpcConnection]


def connection_config(connection: _Described) -> Any:
    """Returns ml_metadata's own configuration, a ConnectionConfig or MetadataStoreClientConfig."""
    if isinstance(connection, GrpcConnection):
        client = pb.MetadataStoreClientConfig(host=connection.host, port=connection.port)
        client.client_timeout_sec = connection.timeout_seconds
        return client
    config = pb.ConnectionConfig()
    if isinstance(connection, SqliteConnection):
        config.sqlite.filename_uri = str(Path(connection.path))
        config.sqlite.connection_mode = pb.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
        return config
    config.mysql.host, config.mysql.port = connection.host, connection.port
    config.mysql.user, config.mysql.database = connection.user, connection.database
    config.mysql.password = connection.password.get_secret_value()
    return config


def describe(config: Any) -> str:
    """Returns what a person would call the store of an ml_metadata configuration; no password."""
    if isinstance(config, pb.MetadataStoreClientConfig):
        return f"gRPC {config.host}:{config.port}"
    kind = config.WhichOneof("config") or "unset"
    if kind == "sqlite":
        return f"SQLite {config.sqlite.filename_uri or '(in memory)'}"
    if kind == "mysql":
        mysql = config.mysql
        return f"MySQL {mysql.user}@{mysql.host}:{mysql.port}/{mysql.database}"
    return f"ML Metadata ({kind})"
