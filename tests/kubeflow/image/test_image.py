"""What is in the built image, and that it starts as Kubernetes would start it."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from image_pods import PLANTED, run_restricted

pytestmark = [pytest.mark.slow, pytest.mark.service("podman"), pytest.mark.timeout(2400)]

# Uncompressed, with the base; docs/kubeflow-image.md states what it is.
LARGEST_MB = 2000


def _shell(image, script: str, *options: str) -> str:
    done = run_restricted(image.engine, image.tag, ["sh", "-c", script], *options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def files(image):
    """The folder where the image's files are."""
    folder = image.engine.output("image", "mount", image.tag).strip()
    yield Path(folder)
    image.engine("image", "unmount", image.tag)


def _settings_of_this_machine() -> list[str]:
    """What pip is told here: addresses, hosts and folders, each of which would be a leak."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    values = re.findall(r"'([^']*)'", listed)
    words = [word for value in values for line in value.split("\\n") for word in line.split()]
    hosts = [urlsplit(word).hostname or "" for word in words]
    # The system's certificates lie at one path on every Debian.
    told = {w for w in (*words, *hosts) if len(w) > 6 and not w.startswith("/etc/ssl/")}
    return sorted(told)


def test_nothing_of_the_machine_that_built_it_is_in_it(image, files, root) -> None:
    secrets = [PLANTED, str(root), *_settings_of_this_machine()]
    (inspected,) = json.loads(image.engine.output("image", "inspect", image.tag))
    del inspected["GraphDriver"]  # where podman keeps it, which is not of the image
    history = image.engine.output("history", "--no-trunc", "--format", "json", image.tag)
    for secret in secrets:
        assert secret not in json.dumps(inspected), secret
        assert secret not in history, secret
    patterns = [word for secret in secrets for word in ("-e", secret)]
    found = subprocess.run(
        ["grep", "-rlF", *patterns, files / "opt", files / "etc", files / "tmp", files / "root"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.stdout == "", found.stdout


def test_a_planted_setting_would_have_been_found(files) -> None:
    found = subprocess.run(
        ["grep", "-rlF", "-e", "class TaxiModel", "-e", "def preprocessing_fn", files / "opt"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "tfx_encore/pipeline/taxi/model.py" in found.stdout


def test_it_has_no_compiler_no_cache_and_no_tests(image, files) -> None:
    for program in ("gcc", "g++", "cc", "c++", "ld", "as", "make", "uv"):
        done = run_restricted(image.engine, image.tag, ["sh", "-c", f"command -v {program}"])
        assert done.returncode != 0, done.stdout
    assert not (files / "build").exists()
    assert not list(files.glob("**/.cache/*"))
    packages = next((files / "opt/encore/lib").glob("python3*")) / "site-packages"
    assert not (packages / "numpy/core/tests").exists()
    assert not (packages / "tensorflow/include").exists()


def test_everything_in_it_belongs_to_root_and_nothing_can_be_written(image, files) -> None:
    wrong = ["(", "!", "-uid", "0", "-o", "-perm", "/022", ")", "!", "-type", "l"]
    writable = subprocess.run(
        ["find", files / "opt", *wrong], capture_output=True, text=True, check=True
    ).stdout
    assert writable == ""


def test_it_runs_as_an_ordinary_user_whichever(image) -> None:
    assert _shell(image, "id -u").strip() == "10001"
    version = importlib.metadata.version("tfx-encore")
    for user in ("10001:10001", "123456:0"):
        done = run_restricted(
            image.engine, image.tag, ["encore", "--version"], f"--user={user}", "--network=none"
        )
        assert done.returncode == 0, done.stderr
        assert version in done.stdout


def test_it_holds_exactly_the_pinned_packages(image, root) -> None:
    script = (
        "import importlib.metadata as m, json; "
        "print(json.dumps({d.metadata['Name']: d.version for d in m.distributions()}))"
    )
    done = run_restricted(image.engine, image.tag, ["python", "-c", script])
    found = {_normal(name): version for name, version in json.loads(done.stdout).items()}
    text = image.requirements.read_text()
    pinned = {
        _normal(name): version
        for name, version in re.findall(
            r"^([A-Za-z0-9._-]+)(?:\[.*?\])?==([^\s;]+)", text, re.MULTILINE
        )
    }
    assert found.pop("tfx-encore")
    assert found == pinned


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_it_is_described_and_not_larger_than_stated(image, root) -> None:
    (inspected,) = json.loads(image.engine.output("image", "inspect", image.tag))
    labels = inspected["Labels"]
    assert labels["org.opencontainers.image.version"] in (root / "pyproject.toml").read_text()
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert labels["org.opencontainers.image.base.name"].startswith("docker.io/library/python:")
    assert inspected["Size"] / 1e6 < LARGEST_MB
