"""A Kubeflow backend small enough to read: its driver and its launcher, for one compiled pipeline.

It does what kubeflow/pipelines `backend/src/v2/driver` and `backend/src/v2/component` do between a
specification and a container: resolves parameters and placeholders, gives each output a URI below
the pipeline root, renders the ExecutorInput, copies artifacts between the bucket and local paths,
runs the command, and takes what it wrote. What is strange about the real one is so here as well:
types of input artifacts are lost, numbers in metadata come back as floats, metadata of its own is
added, and a log is added to the outputs.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Runs a container: image, command with arguments, environment.
Run = Callable[[str, Sequence[str], Mapping[str, str]], None]
JOB_UUID = "0f8fad5b-d9cb-469f-a165-70867728950e"


class BackendError(Exception):
    """The real backend would fail here."""


@dataclass
class Task:
    """What became of a task."""

    name: str
    artifacts: dict[str, dict[str, Any]] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)
    executor_input: dict[str, Any] = field(default_factory=dict)


@dataclass
class Backend:
    """Runs one pipeline.

    Attributes:
        pipeline: the PipelineSpec.
        bucket: folder that stands for the bucket.
        local: folder that stands for the root of the containers' file system.
        run_container: runs a command.
        root: pipeline root, a URI.
        scheduled_at: time for which the run was scheduled; None for a backend that does not tell.
        publish_logs: whether a log is added to the outputs, as from 2.5 on.
    """

    pipeline: dict[str, Any]
    bucket: Path
    local: Path
    run_container: Run
    root: str = "minio://mlpipeline/v2/artifacts"
    scheduled_at: str | None = None
    publish_logs: bool = True
    tasks: dict[str, Task] = field(default_factory=dict)

    def run(self, parameters: Mapping[str, Any] | None = None) -> dict[str, Task]:
        """Runs every task in order of dependency; returns what became of them."""
        given = self._root_parameters(parameters or {})
        for name in self.order():
            self.tasks[name] = self.run_task(name, given)
        return self.tasks

    def order(self) -> Iterator[str]:
        """The tasks, each after those it depends on."""
        tasks, done = self.pipeline["root"]["dag"]["tasks"], set()
        while len(done) < len(tasks):
            ready = sorted(
                n for n, t in tasks.items()
                if n not in done and set(t.get("dependentTasks", [])) <= done
            )  # fmt: skip
            if not ready:
                raise BackendError("tasks depend on each other in a circle")
            for name in ready:
                done.add(name)
                yield name

    def run_task(self, name: str, given: Mapping[str, Any]) -> Task:
        """Drives and launches one task."""
        task = self.pipeline["root"]["dag"]["tasks"][name]
        component = self.pipeline["components"][task["componentRef"]["name"]]
        executor = self.pipeline["deploymentSpec"]["executors"][component["executorLabel"]]
        rendered = {
            "inputs": self._inputs(task, component, given),
            "outputs": self._outputs(name, component),
        }
        container = executor["container"]
        text = json.dumps(rendered)
        command = [
            part.replace("{{$}}", text)
            for part in [*container.get("command", []), *container.get("args", [])]
        ]
        self._download(rendered)
        self._prepare(rendered)
        environment = {e["name"]: e["value"] for e in container.get("env", [])}
        self.run_container(container["image"], command, environment)
        return self._publish(name, rendered)

    def _root_parameters(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """As `validatePipelineJobInputs` in the API server."""
        declared = self.pipeline["root"].get("inputDefinitions", {}).get("parameters", {})
        unknown = set(given) - set(declared)
        if unknown:
            raise BackendError(f"parameter(s) provided are not required by pipeline: {unknown}")
        values = {}
        for name, parameter in declared.items():
            value = given.get(name, parameter.get("defaultValue"))
            if value is None:
                raise BackendError(f"parameter {name} is not optional, yet has no value")
            wanted = str if parameter["parameterType"] == "STRING" else (int, float)
            if not isinstance(value, wanted):
                raise BackendError(f"input parameter {name} requires {parameter['parameterType']}")
            values[name] = value
        return values

    def _inputs(self, task: Any, component: Any, given: Mapping[str, Any]) -> dict[str, Any]:
        inputs = task.get("inputs", {})
        parameters = {
            name: self._parameter(source, given)
            for name, source in inputs.get("parameters", {}).items()
        }
        artifacts = {
            name: {"artifacts": [self._artifact(source["taskOutputArtifact"])]}
            for name, source in inputs.get("artifacts", {}).items()
        }
        declared = component.get("inputDefinitions", {})
        for kind, found in (("parameters", parameters), ("artifacts", artifacts)):
            if set(found) != set(declared.get(kind, {})):
                raise BackendError(f"{kind} do not fit the component: {sorted(found)}")
        return {"parameterValues": parameters, "artifacts": artifacts}

    def _parameter(self, source: Any, given: Mapping[str, Any]) -> Any:
        if "componentInputParameter" in source:
            return given[source["componentInputParameter"]]
        if "taskOutputParameter" in source:
            output = source["taskOutputParameter"]
            if output["producerTask"] not in self.tasks:
                raise BackendError(f"producer task, {output['producerTask']}, not in tasks")
            return self.tasks[output["producerTask"]].parameters[output["outputParameterKey"]]
        constant = source["runtimeValue"]["constant"]
        known = {"{{$.pipeline_job_uuid}}": JOB_UUID}
        if self.scheduled_at is not None:
            known["{{$.pipeline_job_schedule_time_utc}}"] = self.scheduled_at
        return known.get(constant, constant) if isinstance(constant, str) else constant

    def _artifact(self, source: Any) -> dict[str, Any]:
        """As `OutputArtifact.ToRuntimeArtifact`: the type is an empty instance schema."""
        produced = self.tasks[source["producerTask"]].artifacts[source["outputArtifactKey"]]
        artifact = copy.deepcopy(produced)
        artifact["type"] = {"instanceSchema": ""}
        return artifact

    def _outputs(self, task: str, component: Any) -> dict[str, Any]:
        declared = component.get("outputDefinitions", {})
        folder = f"{self.root}/{self.pipeline['pipelineInfo']['name']}/{JOB_UUID}/{task}/42"
        artifacts = {
            name: {
                "artifacts": [
                    {"name": name, "uri": f"{folder}/{name}", "type": spec["artifactType"],
                     "metadata": spec.get("metadata", {})}
                ]
            }
            for name, spec in declared.get("artifacts", {}).items()
        }  # fmt: skip
        if self.publish_logs:
            log = {
                "name": "executor-logs",
                "uri": f"{folder}/executor-logs",
                "type": {"schemaTitle": "system.Artifact"},
            }
            artifacts["executor-logs"] = {"artifacts": [log]}
        parameters = {
            name: {"outputFile": f"{self.local}/tmp/kfp/outputs/{name}"}
            for name in declared.get("parameters", {})
        }
        output_file = f"{self.local_path(folder)}/output_metadata.json"
        return {"artifacts": artifacts, "parameters": parameters, "outputFile": output_file}

    def local_path(self, uri: str) -> Path:
        """As `LocalPathForURI`, below `local`."""
        for scheme, folder in (("minio://", "minio"), ("s3://", "s3"), ("gs://", "gcs")):
            if uri.startswith(scheme):
                return self.local / folder / uri.removeprefix(scheme)
        raise BackendError(f"failed to generate local path for URI {uri}")

    def _blob(self, uri: str) -> Path:
        return self.bucket / uri.partition("://")[2]

    def _download(self, rendered: Any) -> None:
        for listed in rendered["inputs"]["artifacts"].values():
            (artifact,) = listed["artifacts"]
            _copy(self._blob(artifact["uri"]), self.local_path(artifact["uri"]))

    def _prepare(self, rendered: Any) -> None:
        """The launcher makes the folders that outputs lie in, not the outputs' own."""
        for listed in rendered["outputs"]["artifacts"].values():
            (artifact,) = listed["artifacts"]
            self.local_path(artifact["uri"]).parent.mkdir(parents=True, exist_ok=True)

    def _publish(self, name: str, rendered: Any) -> Task:
        file = Path(rendered["outputs"]["outputFile"])
        said = json.loads(file.read_text()) if file.exists() else {}
        done = Task(name, parameters=said.get("parameterValues", {}), executor_input=rendered)
        for parameter in rendered["outputs"]["parameters"]:
            if parameter not in done.parameters:
                raise BackendError(f"failed to read output parameter name={parameter!r}")
        for number, (key, listed) in enumerate(rendered["outputs"]["artifacts"].items()):
            (artifact,) = listed["artifacts"]
            told = said.get("artifacts", {}).get(key, {}).get("artifacts", [{}])[0]
            uri = told.get("uri") or artifact["uri"]
            _copy(self.local_path(uri), self._blob(uri))
            metadata = {**artifact.get("metadata", {}), **told.get("metadata", {})}
            floats = {k: float(v) if isinstance(v, int) else v for k, v in metadata.items()}
            added = {"display_name": key, "store_session_info": "{}"}
            done.artifacts[key] = {
                "name": str(1000 * len(self.tasks) + number),
                "uri": uri,
                "metadata": {**added, **floats},
            }
        self._forget()
        return done

    def _forget(self) -> None:
        """The next task has a container of its own."""
        shutil.rmtree(self.local, ignore_errors=True)


def _copy(source: Path, target: Path) -> None:
    """Copies files; a bucket has no folders, and so an empty one does not arrive.

    "We allow components to not produce output files."
    """
    if source.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        return
    for file in source.rglob("*") if source.is_dir() else ():
        if file.is_file():
            _copy(file, target / file.relative_to(source))
