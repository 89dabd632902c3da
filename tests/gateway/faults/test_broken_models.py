"""A version is half copied, broken or removed: its status says so, and the old one serves on."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest

STEP = 1_000_000
CONFIG = "model_config_list {{ {} }}"
ONE = "config {{ name: '{}' base_path: '{}' model_platform: 'tensorflow' }}"
NAMES = ("half", "broken", "removed", "emptied")


class Served(NamedTuple):
    """A gateway, and the base paths of its models."""

    gateway: Any
    root: Path


@pytest.fixture(scope="module")
def served(models: Path, start_gateway: Any, tmp_path_factory: pytest.TempPathFactory) -> Served:
    root = tmp_path_factory.mktemp("base")
    for name in NAMES:
        shutil.copytree(models / "1", root / name / "1")
    shutil.copytree(models / "2", root / "removed" / "2")
    config = root / "models.config"
    config.write_text(CONFIG.format(" ".join(ONE.format(name, root / name) for name in NAMES)))
    flags = [f"--model_config_file={config}", "--file_system_poll_wait_seconds=1"]
    return Served(start_gateway(*flags, "--max_num_load_retries=0"), root)


def test_a_version_half_copied_says_so_and_the_old_one_serves_until_it_is_whole(
    served, models, load, wait
) -> None:
    gateway, home = served.gateway, served.root / "half"
    with load(gateway, model="half", threads=2) as client:
        client.go_on(200)
        (home / "2").mkdir()
        _await_failure(gateway, "half", 2, wait)
        shutil.copy(models / "2/saved_model.pb", home / "2")
        shutil.copy(models / "2/fingerprint.pb", home / "2")
        client.go_on(300)
        state, code, message = _await_failure(gateway, "half", 2, wait)
        assert (state, code) != ("END", "OK")
        assert str(home / "2") in message
        assert gateway.states("half")[1] == ("AVAILABLE", "OK", "")
        assert gateway.predict(5, model="half").json() == {"predictions": [5 + STEP]}
        shutil.copytree(models / "2/variables", home / "2/variables")
        wait(lambda: client.highest == 2, "version 2")
        client.go_on(200)
    client.check()
    wait(lambda: gateway.states("half")[1][0] == "END", "end of version 1")
    assert gateway.states("half")[2] == ("AVAILABLE", "OK", "")


def _await_failure(gateway: Any, model: str, version: int, wait: Any) -> tuple[str, str, str]:
    def failed() -> Any:
        state = gateway.states(model).get(version)
        return state if state and state[0] == "END" and state[1] != "OK" else None

    found: tuple[str, str, str] = wait(failed, f"failure of {model} {version}")
    return found


def _cut_variables(version: Path) -> None:
    (data,) = (version / "variables").glob("*.data-*")
    os.truncate(data, data.stat().st_size // 2)


def _overwrite_graph(version: Path) -> None:
    graph = version / "saved_model.pb"
    graph.write_bytes(os.urandom(graph.stat().st_size))


@pytest.mark.parametrize(
    ("version", "damage"), [(3, _cut_variables), (4, _overwrite_graph)], ids=["cut", "garbage"]
)
def test_a_version_that_cannot_be_loaded_says_why_and_the_old_one_serves(
    served, models, load, wait, tmp_path, version: int, damage: Any
) -> None:
    gateway = served.gateway
    copy = tmp_path / "copy"
    shutil.copytree(models / str(version), copy)
    damage(copy)
    with load(gateway, model="broken", threads=2) as client:
        client.go_on(200)
        copy.rename(served.root / "broken" / str(version))
        _, _, message = _await_failure(gateway, "broken", version, wait)
        client.go_on(200)
    client.check()
    assert message
    assert client.highest == 1
    assert gateway.states("broken")[1] == ("AVAILABLE", "OK", "")
    assert gateway.ask("/readyz").status == 200
    pinned = gateway.ask(f"/v1/models/broken/versions/{version}:predict", b'{"instances": [1]}')
    assert pinned.status == 404
    assert "Servable not found for request: Specific(broken" in pinned.json()["error"]


def test_a_version_removed_under_load_is_answered_for_by_the_one_before(served, load, wait) -> None:
    gateway = served.gateway
    with load(gateway, model="removed", only_newer=False) as client:
        client.go_on(200)
        assert client.highest == 2
        shutil.rmtree(served.root / "removed" / "2")
        wait(lambda: client.versions[1], "answers of version 1")
        client.go_on(200)
    client.check()
    wait(lambda: gateway.states("removed")[2][0] == "END", "end of version 2")
    assert gateway.states("removed")[1] == ("AVAILABLE", "OK", "")


def test_a_base_path_that_is_gone_changes_nothing_and_an_emptied_one_unloads(
    served, models, load, wait
) -> None:
    """As TensorFlow Serving: storage_path/file_system_storage_path_source.cc."""
    gateway, home = served.gateway, served.root / "emptied"
    with load(gateway, model="emptied", threads=2) as client:
        client.go_on(200)
        home.rename(served.root / "away")
        wait(lambda: str(home) in gateway.log.read_text(), "that it is noticed")
        client.go_on(200)
        (served.root / "away").rename(home)
        client.go_on(200)
    client.check()
    shutil.rmtree(home / "1")
    wait(lambda: gateway.states("emptied")[1][0] == "END", "end of version 1")
    reply = gateway.predict(1, model="emptied")
    assert (reply.status, reply.json()) == (
        404,
        {"error": "Servable not found for request: Latest(emptied)"},
    )
    shutil.copytree(models / "1", home / "1")
    wait(lambda: gateway.predict(1, model="emptied").status == 200, "that it is back")
    assert gateway.predict(1, model="emptied").json() == {"predictions": [1 + STEP]}


def test_a_release_changed_after_its_push_is_refused_and_the_old_one_serves(
    shared, load, wait, tmp_path, models
) -> None:
    gateway, home = shared.gateway, shared.releases.root / "damaged"
    copy = tmp_path / "copy"
    shutil.copytree(models / "2", copy)
    _cut_variables(copy)
    with load(gateway, model="damaged", threads=2) as client:
        client.go_on(200)
        shared.releases.push(2, "damaged", saved_model=copy)
        _await_failure(gateway, "damaged", 2, wait)
        client.go_on(200)
        # What lies there is made whole, and is then not what was pushed.
        (data,) = (models / "2/variables").glob("*.data-*")
        (cut,) = (home / "2/variables").glob("*.data-*")
        cut.chmod(0o644)
        cut.write_bytes(data.read_bytes())
        wait(lambda: gateway.states("damaged")[2][1] == "DATA_LOSS", "that it is refused")
        client.go_on(200)
        directory = shared.releases.directory("damaged")
        directory.set_label("stable", 1, by="a test", reason="version 2 is damaged")
        shared.releases.push(3, "damaged")
        wait(lambda: client.highest == 3, "version 3")
    client.check()
