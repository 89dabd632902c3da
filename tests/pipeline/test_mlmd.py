"""Which ML Metadata store a project's configuration names."""

from __future__ import annotations

import pathlib

import pytest

from tfx_encore.metadata.mlmd_connection import GrpcConnection, MysqlConnection, SqliteConnection
from tfx_encore.pipeline.config import ProjectConfig, load_config
from tfx_encore.pipeline.mlmd import connection
from tfx_encore.pipeline.workspace import Workspace
from tfx_encore.schemas.errors import ConfigError

ROOT = pathlib.Path(__file__).parents[2]


def _connection(**metadata: str):
    config = load_config(ROOT / "encore.yaml")
    document = {**config.model_dump(by_alias=True), "metadata": metadata}
    changed = ProjectConfig.model_validate(document)
    return connection(changed, Workspace.of(changed, ROOT / "encore.yaml"))


def test_sqlite_in_the_workspace_is_the_default():
    assert _connection() == SqliteConnection(path=str(ROOT / ".encore" / "metadata.sqlite"))


def test_mysql_is_named_by_a_url_and_its_password_by_a_variable(monkeypatch):
    monkeypatch.setenv("STORE_PASSWORD", "s3cret")
    found = _connection(mysql="mysql://ada@db.local/encore", password_env="STORE_PASSWORD")
    assert isinstance(found, MysqlConnection)
    assert (found.host, found.port, found.user, found.database) == (
        "db.local", 3306, "ada", "encore",
    )  # fmt: skip
    assert found.password.get_secret_value() == "s3cret"


def test_grpc_is_named_by_host_and_port():
    assert _connection(grpc="metadata-grpc:8080") == GrpcConnection(host="metadata-grpc", port=8080)


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({"mysql": "postgres://ada@db/encore"}, "mysql://USER@HOST:PORT/DATABASE"),
        ({"mysql": "mysql://db/encore"}, "mysql://USER@HOST:PORT/DATABASE"),
        ({"mysql": "mysql://ada:pw@db/encore"}, "ENCORE_METADATA_PASSWORD"),
        ({"grpc": "metadata-grpc"}, "HOST:PORT"),
        ({"grpc": "a:1", "sqlite": "x.sqlite"}, "choose one"),
    ],
)
def test_a_store_that_cannot_be_understood_is_refused_with_the_right_form(metadata, said):
    with pytest.raises(ConfigError, match=said.replace("/", ".")):
        _connection(**metadata)
