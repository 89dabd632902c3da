"""Containers for tests: tools/podman, and tasks of a pipeline run as Kubernetes would run them."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kfp_stand_in import OUTPUT_METADATA, OUTPUT_PARAMETERS, Outcome, Run, Task, local_path

# As a pod under the "restricted" standard: nothing may be written but what is mounted.
RESTRICTED = (
    "--read-only",
    "--read-only-tmpfs=false",
    "--cap-drop=all",
    "--security-opt=no-new-privileges",
    "--tmpfs=/tmp:rw,mode=1777",
)
# Name of a folder of packages that the build is given, to be looked for in what was built.
PLANTED = "planted-by-the-tests"


@dataclass(frozen=True)
class Engine:
    """podman with the storage of this checkout."""

    program: Path

    def __call__(self, *arguments: str, timeout: float = 600) -> subprocess.CompletedProcess[str]:
        """Runs podman; the caller looks at the exit code."""
        return subprocess.run(
            [str(self.program), *arguments],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def output(self, *arguments: str, timeout: float = 600) -> str:
        """What podman printed; fails unless it ended well."""
        done = self(*arguments, timeout=timeout)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
        return done.stdout


@dataclass(frozen=True)
class Cluster:
    """Runs tasks in containers, with a folder for a bucket and folders for claims.

    Attributes:
        engine: podman.
        image: what every task runs in; the specification names it.
        folder: for the bucket, and for what a task's pod has of its own.
        claims: PersistentVolumeClaim -> folder.
        options: for `podman run`, beside those of a restricted pod without a network.
    """

    engine: Engine
    image: str
    folder: Path
    claims: Mapping[str, Path]
    options: tuple[str, ...] = ("--network=none",)

    def run(self, run: Run, workers: int = 2) -> tuple[dict[str, Outcome], dict[str, float]]:
        """Runs a pipeline: each task as soon as those are done that it waits for.

        Returns:
            what each task left, and the seconds that it took.
        """
        order, done, seconds = run.order(), dict[str, Outcome](), dict[str, float]()
        lock = threading.Lock()

        def one(name: str) -> str:
            began = time.monotonic()
            with lock:
                task = run.task(name, done)
            outcome = run.outcome(task, *self.run_task(task))
            with lock:
                done[name], seconds[name] = outcome, time.monotonic() - began
            return name

        order.prepare()
        with ThreadPoolExecutor(workers) as pool:
            running: set[Future[str]] = set()
            while order.is_active():
                running |= {pool.submit(one, name) for name in order.get_ready()}
                ended, running = wait(running, return_when=FIRST_COMPLETED)
                for future in ended:
                    order.done(future.result())
        return done, seconds

    def run_task(self, task: Task) -> tuple[dict[str, Any], dict[str, str]]:
        """Runs a task in a container; gives its output metadata and its output parameters."""
        assert task.image == self.image
        pod = self.folder / "pods" / task.name
        shutil.rmtree(pod, ignore_errors=True)
        said, files = pod / "said", pod / "parameters"
        for folder in (said, files, *self._download(pod, task)):
            open_to_everybody(folder)
        mounts = {
            str(Path(OUTPUT_METADATA).parent): said,
            OUTPUT_PARAMETERS: files,
            **{f"/{name}": pod / name for name in ("gcs", "s3", "minio") if (pod / name).is_dir()},
            **{path: self.claims[claim] for path, claim in task.volumes.items()},
        }
        done = self.engine(*self._arguments(task, mounts), timeout=900)
        (pod / "log").write_text(done.stdout + done.stderr)
        assert done.returncode == 0, f"{task.name}: {(done.stdout + done.stderr)[-6000:]}"
        self._upload(pod, task)
        written = said / Path(OUTPUT_METADATA).name
        return (
            json.loads(written.read_text()) if written.exists() else {},
            {file.name: file.read_text() for file in files.iterdir()},
        )

    def _arguments(self, task: Task, mounts: Mapping[str, Path]) -> Iterator[str]:
        yield from ("run", "--rm", *RESTRICTED, *self.options)
        yield from (f"--volume={folder}:{path}" for path, folder in mounts.items())
        yield from (f"--env={name}={value}" for name, value in task.environment.items())
        yield f"--entrypoint={json.dumps(task.command[:1])}"
        yield from (task.image, *task.command[1:])

    def _download(self, pod: Path, task: Task) -> list[Path]:
        """Copies the inputs into the pod, makes room for the outputs; gives the folders made."""
        for uri in task.inputs:
            source, target = self._blob(uri), _outside(pod, uri)
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, dirs_exist_ok=True)
            elif source.exists():
                shutil.copyfile(source, target)
        for uri in task.outputs:
            _outside(pod, uri).parent.mkdir(parents=True, exist_ok=True)
        return [pod / name for name in ("gcs", "s3", "minio") if (pod / name).is_dir()]

    def _upload(self, pod: Path, task: Task) -> None:
        for uri in task.outputs:
            source, target = _outside(pod, uri), self._blob(uri)
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, dirs_exist_ok=True)
            elif source.exists():
                shutil.copyfile(source, target)

    def _blob(self, uri: str) -> Path:
        return self.folder / "bucket" / uri.partition("://")[2]


def run_restricted(
    engine: Engine, image: str, command: Sequence[str], *options: str
) -> subprocess.CompletedProcess[str]:
    """Runs a command in a restricted container of the image."""
    arguments = [*RESTRICTED, *options, f"--entrypoint={json.dumps(command[:1])}"]
    return engine("run", "--rm", *arguments, image, *command[1:])


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether the condition came true in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.2)
    return False


def _outside(pod: Path, uri: str) -> Path:
    """The launcher's local path, seen from outside of the container."""
    return pod / str(local_path(uri)).lstrip("/")


def open_to_everybody(folder: Path) -> None:
    """As an emptyDir is: whoever the container runs as may write."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in (folder, *(p for p in folder.rglob("*") if p.is_dir())):
        path.chmod(0o777)
