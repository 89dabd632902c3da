"""Custom resources against their published schemas: all rules at run time, unknown keys by tsc.

The schemas are those of the CRDs, as @kubernetes-models/* carry them. An API server prunes keys
that it does not know, so the schemas take them; the types of the same packages do not.
"""

from __future__ import annotations

import copy
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.service("npm")

PACKAGES = {
    "cert-manager.io/v1": "cert-manager",
    "keda.sh/v1alpha1": "keda",
    "monitoring.coreos.com/v1": "prometheus-operator",
}
KINDS = {"Certificate", "Issuer", "PrometheusRule", "ScaledObject", "ServiceMonitor"}
TSC = ["--noEmit", "--strict", "--skipLibCheck", "--module", "nodenext", "--target", "es2022"]

Object = dict[str, Any]
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def custom(build: Any) -> list[Object]:
    """Every custom resource that any component has."""
    objects = build("certificates", "monitoring", "keda")
    return [each for each in objects if each["apiVersion"] in PACKAGES]


@pytest.fixture
def run(packages: Path, tmp_path: Path) -> Run:
    """`run(command, file, text)`: in a folder with the packages and a file."""
    (tmp_path / "node_modules").symlink_to(packages / "node_modules")
    (tmp_path / "package.json").write_text('{"type": "module"}')

    def started(command: list[str], name: str, text: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / name).write_text(text)
        return subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=240
        )

    return started


def home(each: Object) -> str:
    version = each["apiVersion"]
    return f"@kubernetes-models/{PACKAGES[version]}/{version}/{each['kind']}"


def refusals(run: Run, objects: list[Object]) -> list[str]:
    """What the schemas say against each of some objects; empty where nothing."""
    lines = ["const said = [];"]
    for number, each in enumerate(objects):
        lines.append(f'import {{ {each["kind"]} as K{number} }} from "{home(each)}";')
        attempt = f"new K{number}({json.dumps(each)}).validate(); said.push('');"
        lines.append(f"try {{ {attempt} }} catch (e) {{ said.push(String(e)); }}")
    lines.append("console.log(JSON.stringify(said));")
    done = run(["node", "check.js"], "check.js", "\n".join(lines))
    assert done.returncode == 0, done.stdout + done.stderr
    return list(json.loads(done.stdout))


def types_say(run: Run, packages: Path, objects: list[Object]) -> str:
    """What tsc says against some objects; empty if nothing."""
    lines = []
    for number, each in enumerate(objects):
        lines.append(f'import type {{ I{each["kind"]} as K{number} }} from "{home(each)}";')
        lines.append(f"export const k{number}: K{number} = {json.dumps(each)};")
    tsc = str(packages / "node_modules/.bin/tsc")
    return run([tsc, *TSC, "check.ts"], "check.ts", "\n".join(lines)).stdout


def test_all_kinds_are_there(custom: list[Object]) -> None:
    assert {each["kind"] for each in custom} == KINDS


def test_the_published_schemas_take_them(custom: list[Object], run: Run) -> None:
    assert refusals(run, custom) == [""] * len(custom)


def test_the_published_types_know_every_key(custom: list[Object], run: Run, packages: Path) -> None:
    assert types_say(run, packages, custom) == ""


# One slip for each kind: the place, and what is put there.
WRONG: dict[str, tuple[str, Any]] = {
    "Certificate": ("secretName", 5),
    "Issuer": ("ca", {"secretName": None}),
    "PrometheusRule": ("groups", [{"name": "a", "rules": [{"alert": "b"}]}]),
    "ScaledObject": ("triggers", [{"type": "prometheus"}]),
    "ServiceMonitor": ("selector", None),
}


def test_a_wrong_value_is_refused(custom: list[Object], run: Run) -> None:
    """So that schemas that take anything would be noticed."""
    wrong = []
    for kind, (key, value) in WRONG.items():
        each = copy.deepcopy(next(e for e in custom if e["kind"] == kind))
        each["spec"][key] = value
        wrong.append(each)
    assert [kind for kind, said in zip(WRONG, refusals(run, wrong), strict=True) if not said] == []


def test_an_unknown_key_is_refused(custom: list[Object], run: Run, packages: Path) -> None:
    each = copy.deepcopy(next(e for e in custom if e["kind"] == "ScaledObject"))
    each["spec"]["minReplicas"] = 0
    assert "minReplicas\"' does not exist" in types_say(run, packages, [each])
