"""Which ML Metadata store a project's configuration names."""

from __future__ import annotations

import pathlib

import pytest

from tfx_encore.gateway.settings import Opener
from tfx_encore.metadata.mlmd_connection import GrpcConnection, MysqlConnection, SqliteConnection
from tfx_encore.metadata.night_store import NightStore
from tfx_encore.pipeline import night_acting, serve_settings
from tfx_encore.pipeline.config import ProjectConfig, load_config
from tfx_encore.pipeline.mlmd import connection, open_ledger
from tfx_encore.pipeline.publish import reconcile_project
from tfx_encore.pipeline.run import Project
from tfx_encore.pipeline.workspace import Workspace
from tfx_encore.schemas.errors import ConfigError
from tfx_encore.schemas.records import Cause, RecordDraft, SelectAll

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


def _project(folder: pathlib.Path, **metadata: object) -> Project:
    config = load_config(ROOT / "encore.yaml")
    document = {**config.model_dump(by_alias=True), "metadata": metadata}
    changed = ProjectConfig.model_validate(document)
    file = folder / "encore.yaml"
    return Project(config=changed, file=file, workspace=Workspace.of(changed, file))


def _draft() -> RecordDraft:
    return RecordDraft(
        model="taxi", cause=Cause.MANUAL, selector=SelectAll(), reason="wrong", created_by="ada"
    )


def test_the_release_journal_is_the_ledger_where_it_is_configured(tmp_path: pathlib.Path) -> None:
    project = _project(tmp_path, journal=True)
    record = project.releases.append_record(_draft())
    with open_ledger(project) as ledger:
        assert ledger.records("taxi") == (record,)
    assert reconcile_project(project) == ()
    assert not project.workspace.sqlite(project.config).exists(), "no store is made"


def test_the_records_are_the_same_as_those_in_a_store(tmp_path: pathlib.Path) -> None:
    stored, journalled = _project(tmp_path), _project(tmp_path, journal=True)
    stored.releases.append_record(_draft())
    stored.releases.append_record(_draft())
    assert len(reconcile_project(stored)) == 2
    with open_ledger(stored) as one, open_ledger(journalled) as other:
        assert one.records("taxi") == other.records("taxi")
        assert len(one.records("taxi")) == 2


def test_a_journal_and_a_store_are_not_both_the_ledger(tmp_path: pathlib.Path) -> None:
    project = _project(tmp_path, journal=True, grpc="metadata-grpc:8080")
    with pytest.raises(ConfigError, match="journal and grpc; choose one"), open_ledger(project):
        pass


def test_gateways_of_a_project_follow_its_journal_where_it_is_configured(
    tmp_path: pathlib.Path,
) -> None:
    project = _project(tmp_path, journal=True)
    assert serve_settings._ledger(None, project) == "journal"
    with pytest.raises(ConfigError, match="--ledger: this project's ledger is the release journal"):
        serve_settings._ledger("mlmd", project)
    assert serve_settings._ledger("none", project) == "none"
    assert isinstance(serve_settings._ledger(None, _project(tmp_path)), Opener)


def test_nights_are_not_told_to_a_store_that_is_not_there(tmp_path: pathlib.Path) -> None:
    project = _project(tmp_path, journal=True)
    assert night_acting.publish(project, NightStore(project.workspace.releases, "taxi")) == ()
    assert not project.workspace.sqlite(project.config).exists()
