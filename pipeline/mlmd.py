"""Where a project's ML Metadata store is, and which ledger a project has."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from tfx_encore.pipeline.config import MetadataConfig, ProjectConfig
from tfx_encore.pipeline.workspace import Workspace
from tfx_encore.schemas.errors import ConfigError

if TYPE_CHECKING:
    from tfx_encore.metadata.ledger import Ledger
    from tfx_encore.metadata.mlmd_connection import MysqlConnection
    from tfx_encore.pipeline.run import Project


def connection(config: ProjectConfig, workspace: Workspace) -> Any:
    """The description of the project's store (see `metadata.mlmd_connection`).

    Raises:
        ConfigError: `metadata` names two stores, or one that cannot be understood.
    """
    from tfx_encore.metadata.mlmd_connection import GrpcConnection, SqliteConnection

    section = config.metadata
    named = [name for name in ("sqlite", "mysql", "grpc") if getattr(section, name)]
    if section.journal:
        named = ["journal", *(name for name in named if name != "sqlite")]
    if len(named) > 1:
        raise ConfigError(f"names {' and '.join(named)}; choose one", key="metadata")
    if section.mysql:
        return _mysql(section)
    if section.grpc:
        host, _, port = section.grpc.rpartition(":")
        if not host or not port.isdigit():
            raise ConfigError(f"{section.grpc!r} is not HOST:PORT", key="metadata.grpc")
        return GrpcConnection(host=host, port=int(port))
    return SqliteConnection(path=str(workspace.sqlite(config)))


def connection_config(config: ProjectConfig, workspace: Workspace) -> Any:
    """The same as ml-metadata's own configuration, for TFX."""
    from tfx_encore.metadata import mlmd_connection

    return mlmd_connection.connection_config(connection(config, workspace))


@contextlib.contextmanager
def open_ledger(project: Project) -> Iterator[Ledger]:
    """The ledger of a project's invalidation records: its store, or its release journal."""
    store = connection(project.config, project.workspace)
    if project.config.metadata.journal:
        from tfx_encore.metadata.journal_ledger import JournalLedger

        yield JournalLedger(project.workspace.releases)
        return
    from tfx_encore.metadata.mlmd_ledger import MlmdLedger

    ledger = MlmdLedger(store)
    try:
        yield ledger
    finally:
        ledger.close()


def _mysql(section: MetadataConfig) -> MysqlConnection:
    from tfx_encore.metadata.mlmd_connection import MysqlConnection

    url = urlsplit(section.mysql or "")
    database = url.path.lstrip("/")
    if url.scheme != "mysql" or not (url.hostname and url.username and database):
        raise ConfigError(
            f"{section.mysql!r} is not mysql://USER@HOST:PORT/DATABASE", key="metadata.mysql"
        )
    if url.password:
        raise ConfigError(
            f"holds a password; put it into the environment variable {section.password_env}",
            key="metadata.mysql",
        )
    return MysqlConnection(
        host=url.hostname,
        port=url.port or 3306,
        user=unquote(url.username),
        password=os.environ.get(section.password_env, ""),
        database=database,
    )
