"""The compiled release pipeline, run task by task in the image, as Kubeflow would run it.

Every task runs from the compiled specification, in a container of its own without a network, as an
ordinary user, with a root file system that nobody can write to.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from image_pods import Cluster, open_to_everybody, run_restricted, wait_until
from kfp_stand_in import Outcome, Run

from tfx_encore.kubeflow.spec_package import Package, read_package
from tfx_encore.metadata.release_layout import Layout
from tfx_encore.metadata.releases import ReleaseDirectory
from tfx_encore.pipeline.taxi.data import shipped_csv, write_spans
from tfx_encore.pipeline.taxi.replay import body_of, read_trips
from tfx_encore.pipeline.taxi.traffic import Ask
from tfx_encore.schemas.release import Manifest
from tfx_encore.schemas.serial import from_json

pytestmark = [pytest.mark.slow, pytest.mark.service("podman"), pytest.mark.timeout(2400)]

CLAIM = "encore-releases"
ENCORE = Path(sys.executable).parent / "encore"
COMPONENTS = {
    "CsvExampleGen",
    "StatisticsGen",
    "ExampleValidator",
    "LiveRelease",
    "DriftValidator",
    "Transform",
    "Trainer",
    "SlicedEvaluator",
    "CacheWarmer",
    "VersionedPusher",
}


@dataclass(frozen=True)
class Released:
    """Two runs of the compiled pipeline, on successive spans.

    Attributes:
        volume: what the tasks had mounted.
        runs: span -> task -> what it left.
    """

    volume: Path
    runs: Mapping[int, Mapping[str, Outcome]]

    @property
    def layout(self) -> Layout:
        return Layout(self.volume / ".encore/releases", "taxi")

    def manifest(self, version: int) -> Manifest:
        return _manifest(self.layout, version)


@pytest.fixture(scope="module")
def project(root, tmp_path_factory) -> Path:
    """The taxi example with its two spans."""
    folder = tmp_path_factory.mktemp("project")
    write_spans(shipped_csv(), folder / ".encore/data")
    (folder / "schemas").mkdir()
    for name in ("encore.yaml", "schemas/taxi.pbtxt"):
        (folder / name).write_bytes((root / name).read_bytes())
    return folder


@pytest.fixture(scope="module")
def released(image, project, tmp_path_factory) -> Released:
    folder = tmp_path_factory.mktemp("cluster")
    volume = folder / "claim"
    shutil.copytree(project / ".encore", volume / ".encore")
    open_to_everybody(volume)  # Kubernetes does it by fsGroup
    package = _compiled(project, image.tag)
    runs = {}
    for span in (1, 2):
        cluster = Cluster(image.engine, image.tag, folder / f"run-{span}", {CLAIM: volume})
        run = Run(
            package.pipeline,
            package.platform,
            parameters={"span": span},
            root="minio://mlpipeline/v2/artifacts",
            run_id=f"0f8fad5b-d9cb-469f-a165-70867728950{span}",
        )
        runs[span], seconds = cluster.run(run)
        (folder / f"seconds-{span}.json").write_text(json.dumps(seconds, indent=2))
    return Released(volume, runs)


@pytest.fixture(scope="module")
def local(released, project) -> Layout:
    """The same two releases by `encore run` on this machine."""
    assert not (project / ".encore/releases").exists()
    _encore(project, "run", "--all-spans")
    return Layout(project / ".encore/releases", "taxi")


def _compiled(project: Path, image: str) -> Package:
    options = ["--image", image, "--releases-claim", CLAIM, "--output", "compiled"]
    _encore(project, "kubeflow", "compile", "release", *options)
    (file,) = (project / "compiled").iterdir()
    return read_package(file)


def _encore(folder: Path, *arguments: str) -> None:
    done = subprocess.run(
        [ENCORE, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def _manifest(layout: Layout, version: int) -> Manifest:
    file = layout.manifest(version)
    return from_json(Manifest, file.read_bytes(), source=str(file))


def _judged(manifest: Manifest) -> dict[str, Any]:
    """What every gate said, and of which subjects.

    Statistics are the same to the last row, so that drift is judged the same in every point. Models
    that were trained twice differ by rounding, so that of slices only the gate's word is compared.
    """
    return {
        decision.gate: (
            decision.outcome,
            decision.baseline,
            sorted(
                (e.subject, e.measure, e.n, e.outcome if decision.gate == "drift" else "")
                for e in decision.evidence
            ),
        )
        for decision in manifest.decisions
    }


def test_every_component_ran_from_the_specification(released) -> None:
    for span in (1, 2):
        assert set(released.runs[span]) >= COMPONENTS


def test_the_first_run_pushes_version_1_with_its_evidence(released) -> None:
    layout, manifest = released.layout, released.manifest(1)
    assert (layout.version(1) / "saved_model.pb").is_file()
    assert manifest.baseline_version is None
    assert [span.span for span in manifest.spans] == [1]
    for name in manifest.evidence:
        assert (layout.evidence(1) / name).exists(), name
    assert {"drift_report", "slice_report", "snapshot", "statistics"} <= {
        name.split("/")[0] for name in manifest.evidence
    }


def test_the_second_run_is_judged_against_the_first_and_withdraws_it(released) -> None:
    manifest = released.manifest(2)
    assert manifest.baseline_version == 1
    assert {d.baseline for d in manifest.decisions} == {"release 1"}
    assert ReleaseDirectory(released.layout.root, "taxi").live("stable") == 2
    (entry,) = released.layout.journal.glob("*.json")
    record = json.loads(entry.read_text())
    assert (record["version_before"], record["version_after"]) == (1, 2)
    assert record["fingerprint_after"] == manifest.fingerprint


def test_the_records_are_artifacts_of_the_pusher(released) -> None:
    pusher = released.runs[2]["VersionedPusher"].artifacts
    assert pusher["pushed_model"]["metadata"]["version"] == 2
    assert pusher["invalidation"]["metadata"]["records"] == 1


@pytest.mark.parametrize("version", [1, 2])
def test_the_gates_say_what_they_say_on_this_machine(released, local, version) -> None:
    ours, theirs = released.manifest(version), _manifest(local, version)
    assert [(s.span, s.digest, s.examples) for s in ours.spans] == [
        (s.span, s.digest, s.examples) for s in theirs.spans
    ]
    assert _judged(ours) == _judged(theirs)
    assert ours.certificate is not None
    assert theirs.certificate is not None
    assert replace(ours.certificate, message="") == replace(theirs.certificate, message="")


_ASK = """
import json, sys, urllib.request
url = "http://127.0.0.1:8501/v1/models/taxi:predict"
for _ in range(2):
    request = urllib.request.Request(url, sys.argv[1].encode())
    with urllib.request.urlopen(request, timeout=60) as answer:
        names = ("version", "fingerprint", "cache")
        told = {name: answer.headers["x-encore-" + name] for name in names}
        print(json.dumps({**told, **json.load(answer)}))
"""


@pytest.fixture(scope="module")
def gateway(released, image, tmp_path_factory):
    """`encore serve` in the image, on what the pipeline pushed: name of the container."""
    name = f"encore-{os.getpid()}"
    options = ["--detach", "--rm=false", f"--name={name}", "--network=none"]
    options.append(f"--volume={released.layout.root}:/releases:ro")
    command = ["encore", "serve", "--releases=/releases", "--rest_api_port=8501"]
    started = run_restricted(image.engine, image.tag, command, *options)
    assert started.returncode == 0, started.stderr
    try:
        assert wait_until(lambda: "REST" in image.engine("logs", name).stdout, 400), image.engine(
            "logs", name
        ).stderr
        yield name
    finally:
        image.engine("rm", "--force", "--time=0", name)


def test_the_image_serves_what_was_pushed_and_answers_repeats_from_the_cache(
    released, image, gateway
) -> None:
    trip = read_trips(shipped_csv(), 2016)[0]
    body = body_of(Ask("one", (trip,), (0,))).decode()
    asked = image.engine.output("exec", gateway, "python", "-c", _ASK, body)
    first, again = map(json.loads, asked.splitlines())
    assert first["version"] == "2"
    assert first["fingerprint"] == released.manifest(2).fingerprint
    assert again["cache"].lower().startswith("hit")
    assert again["predictions"] == first["predictions"]


def test_the_gateway_ends_at_sigterm_by_itself(image, gateway) -> None:
    began = time.monotonic()
    image.engine.output("stop", "--time=60", gateway)
    code = image.engine.output("inspect", "--format={{.State.ExitCode}}", gateway).strip()
    assert code == "0", "137 is SIGKILL: the signal did not arrive"
    assert time.monotonic() - began < 50
