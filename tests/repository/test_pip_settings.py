"""tools/pip_settings.py: what pip is configured to do, said to uv."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def tool(root: Path, load_module: Callable[[Path], ModuleType]) -> ModuleType:
    return load_module(root / "tools/pip_settings.py")


def test_the_environment_wins_over_a_section_and_the_section_over_global(tool) -> None:
    lines = [
        ":env:.index-url='https://env.example'",
        "global.index-url='https://global.example'",
        "install.timeout='9'",
        "global.timeout='5'",
        "download.timeout='1'",
    ]
    assert tool.parse(lines) == {"index-url": "https://env.example", "timeout": "9"}


def test_several_indexes_are_all_searched_as_pip_does(tool) -> None:
    out = tool.exports(
        {"extra-index-url": "\nhttps://a.example\nfile:///b"}, {"SSL_CERT_FILE": "x"}
    )
    assert out == {
        "UV_INDEX": "https://a.example file:///b",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
    }


def test_every_setting_has_its_counterpart(tool) -> None:
    pip = {
        "index-url": "https://a.example",
        "find-links": "/wheels /more",
        "trusted-host": "a.example",
        "proxy": "http://proxy.example:3128",
        "default-timeout": "180",
    }
    assert tool.exports(pip, {"SSL_CERT_FILE": "x"}) == {
        "UV_DEFAULT_INDEX": "https://a.example",
        "UV_FIND_LINKS": "/wheels,/more",
        "UV_INSECURE_HOST": "a.example",
        "ALL_PROXY": "http://proxy.example:3128",
        "UV_HTTP_TIMEOUT": "180",
    }


@pytest.mark.parametrize("known", ["UV_DEFAULT_INDEX", "UV_INDEX_URL"])
def test_what_uv_was_told_already_stays(tool, known: str) -> None:
    env = {known: "https://mine.example", "SSL_CERT_FILE": "x"}
    assert tool.exports({"index-url": "https://a.example"}, env) == {}


def test_pips_certificate_is_used_when_it_exists(tool, tmp_path: Path) -> None:
    certificate = tmp_path / "ca.pem"
    certificate.touch()
    assert tool.exports({"cert": str(certificate)}, {}) == {"SSL_CERT_FILE": str(certificate)}


def test_without_a_certificate_file_the_systems_are_used(
    tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tool, "SYSTEM_CERTIFICATES", tmp_path)
    assert tool.exports({"cert": "/nowhere/ca.pem"}, {}) == {}
    monkeypatch.setattr(tool, "SYSTEM_CERTIFICATES", Path(__file__))
    assert tool.exports({}, {})["UV_SYSTEM_CERTS"] == "true"


def test_a_value_cannot_run_as_a_command(root: Path) -> None:
    value = "https://a.example/$(touch x); '`id`"
    run = subprocess.run(
        [sys.executable, root / "tools/pip_settings.py"],
        input=f"global.index-url={value!r}\n",
        env={"SSL_CERT_FILE": "x"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert shlex.split(run.stdout) == ["export", f"UV_DEFAULT_INDEX={value}"]
