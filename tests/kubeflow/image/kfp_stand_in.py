"""What the open-source Kubeflow Pipelines backend does with a compiled pipeline, for tests.

Its driver resolves the inputs of a task; its launcher fills them into the container's arguments,
keeps copies of artifacts at local paths, and reads what the component said of its outputs. Written
after `backend/src/v2` of kubeflow/pipelines 2.5: what it refuses is refused here, what gets lost
in MLMD on the way from task to task is lost here.
"""

from __future__ import annotations

import copy
import graphlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

OUTPUT_METADATA = "/tmp/kfp_outputs/output_metadata.json"
OUTPUT_PARAMETERS = "/tmp/kfp/outputs"
_LOCAL = {"gs://": "/gcs/", "s3://": "/s3/", "minio://": "/minio/"}
_LOGS = "executor-logs"
_PLACEHOLDER = re.compile(r"\{\{\$[^}]*\}\}")

Json = dict[str, Any]


class RefusedError(Exception):
    """The backend would not run this."""


@dataclass(frozen=True)
class Outcome:
    """What a task left: its artifacts as MLMD gives them to the next, and its parameters."""

    artifacts: Mapping[str, Json] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    """One container to run.

    Attributes:
        name: of the task.
        image: of its executor.
        command: the executor's command and arguments, filled in.
        environment: the executor's variables.
        executor_input: the ExecutorInput that was filled in.
        volumes: mount path -> name of the PersistentVolumeClaim.
    """

    name: str
    image: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    executor_input: Json
    volumes: Mapping[str, str]

    @property
    def inputs(self) -> list[str]:
        """URIs of the input artifacts."""
        return [artifact["uri"] for _, artifact in _each(self.executor_input, "inputs")]

    @property
    def outputs(self) -> list[str]:
        """URIs of the output artifacts."""
        return [artifact["uri"] for _, artifact in _each(self.executor_input, "outputs")]


class Run:
    """One run of a compiled pipeline.

    Args:
        spec: the PipelineSpec.
        platform: the PlatformSpec; {} if there is none.
        parameters: values of pipeline parameters; the others have their defaults.
        root: the pipeline root, as `minio://bucket/folder`.
        run_id: the run's uuid.
        display_name: the run's name.
    """

    def __init__(
        self,
        spec: Json,
        platform: Json,
        *,
        parameters: Mapping[str, Any],
        root: str,
        run_id: str,
        display_name: str = "test",
    ) -> None:
        self._spec = json_format.MessageToDict(
            json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
        )
        self._platform = platform
        self._root = f"{root}/{self._spec['pipelineInfo']['name']}/{run_id}"
        local_path(self._root)
        self._constants = {
            "{{$.pipeline_job_name}}": display_name,
            "{{$.pipeline_job_resource_name}}": display_name,
            "{{$.pipeline_job_uuid}}": run_id,
        }
        self._parameters = self._pipeline_parameters(parameters)
        self._tasks: Json = self._spec["root"]["dag"]["tasks"]
        self._ids = iter(range(1, 10**6))

    def order(self) -> graphlib.TopologicalSorter[str]:
        """The tasks by what they wait for."""
        waits = {
            name: {*task.get("dependentTasks", ()), *_producers(task)}
            for name, task in self._tasks.items()
        }
        if unknown := {name for names in waits.values() for name in names} - set(self._tasks):
            raise RefusedError(f"tasks wait for tasks that do not exist: {sorted(unknown)}")
        return graphlib.TopologicalSorter(waits)

    def task(self, name: str, done: Mapping[str, Outcome]) -> Task:
        """A task, ready to be run, after the tasks that it waits for."""
        task = self._tasks[name]
        for unknown in {"iteratorModel", "artifactIterator", "parameterIterator"} & set(task):
            raise RefusedError(f"{name}: {unknown} is not in this stand-in")
        component, label = self._component(name)
        executor = self._spec["deploymentSpec"]["executors"][label]
        if "container" not in executor:
            raise RefusedError(f"{name}: non-container and non-importer executor not implemented")
        container = executor["container"]
        executor_input = {
            "inputs": self._inputs(name, component, done),
            "outputs": self._outputs(name, component),
        }
        words = [*container.get("command", ()), *container.get("args", ())]
        if not words:
            raise RefusedError(f"{name}: command and arguments are empty")
        return Task(
            name,
            container["image"],
            tuple(fill(word, executor_input) for word in words),
            {e["name"]: e.get("value", "") for e in container.get("env", ())},
            executor_input,
            self._volumes(label),
        )

    def outcome(self, task: Task, said: Json, files: Mapping[str, str]) -> Outcome:
        """What the next tasks see of a task that ended well.

        Args:
            task: the task.
            said: what its component wrote into the output metadata file; {} if it wrote none.
            files: output parameter -> text of its file, for those that wrote one.
        """
        json_format.ParseDict(said, pipeline_spec_pb2.ExecutorOutput())
        component, _ = self._component(task.name)
        artifacts = {
            name: self._recorded(artifact, said.get("artifacts", {}).get(name, {}))
            for name, artifact in _each(task.executor_input, "outputs")
            if name != _LOGS
        }
        parameters = dict(said.get("parameterValues", {}))
        declared = component.get("outputDefinitions", {}).get("parameters", {})
        for name, declaration in declared.items():
            if name not in parameters:
                parameters[name] = _parsed(files[name], declaration["parameterType"])
        return Outcome(artifacts, parameters)

    def _component(self, task: str) -> tuple[Json, str]:
        component = self._spec["components"][self._tasks[task]["componentRef"]["name"]]
        if "executorLabel" not in component:
            raise RefusedError(f"{task}: pipelines in pipelines are not in this stand-in")
        return component, component["executorLabel"]

    def _pipeline_parameters(self, given: Mapping[str, Any]) -> Json:
        declared = self._spec["root"].get("inputDefinitions", {}).get("parameters", {})
        if unknown := set(given) - set(declared):
            raise RefusedError(f"the pipeline has no parameters {sorted(unknown)}")
        values = {name: d["defaultValue"] for name, d in declared.items() if "defaultValue" in d}
        values.update(given)
        if missing := set(declared) - set(values):
            raise RefusedError(f"parameters without a value: {sorted(missing)}")
        return values

    def _inputs(self, name: str, component: Json, done: Mapping[str, Outcome]) -> Json:
        given = self._tasks[name].get("inputs", {})
        parameters = {
            key: self._parameter(name, source, done)
            for key, source in given.get("parameters", {}).items()
        }
        artifacts = {}
        for key, source in given.get("artifacts", {}).items():
            if "taskOutputArtifact" not in source:
                raise RefusedError(f"{name}: artifact {key} from {sorted(source)}")
            place = source["taskOutputArtifact"]
            artifact = done[place["producerTask"]].artifacts[place["outputArtifactKey"]]
            artifacts[key] = {"artifacts": [copy.deepcopy(artifact)]}
        for key, declaration in component.get("inputDefinitions", {}).get("parameters", {}).items():
            if key not in parameters and "defaultValue" in declaration:
                parameters[key] = declaration["defaultValue"]
        return {"parameterValues": parameters, "artifacts": artifacts}

    def _parameter(self, task: str, source: Json, done: Mapping[str, Outcome]) -> Any:
        if "componentInputParameter" in source:
            return self._parameters[source["componentInputParameter"]]
        if "taskOutputParameter" in source:
            place = source["taskOutputParameter"]
            return done[place["producerTask"]].parameters[place["outputParameterKey"]]
        if "constant" in source.get("runtimeValue", {}):
            constant = source["runtimeValue"]["constant"]
            known = isinstance(constant, str)
            return self._constants.get(constant, constant) if known else constant
        raise RefusedError(f"{task}: parameter from {sorted(source)}")

    def _outputs(self, name: str, component: Json) -> Json:
        declared = component.get("outputDefinitions", {})
        folder = f"{self._root}/{name}/{next(self._ids)}"
        artifacts = {
            key: {
                "artifacts": [{"type": d["artifactType"], "uri": f"{folder}/{key}", "metadata": {}}]
            }
            for key, d in declared.get("artifacts", {}).items()
        }
        artifacts[_LOGS] = {
            "artifacts": [{"type": {"schemaTitle": "system.Artifact"}, "uri": f"{folder}/{_LOGS}"}]
        }
        parameters = {
            key: {"outputFile": f"{OUTPUT_PARAMETERS}/{key}"}
            for key in declared.get("parameters", {})
        }
        return {"artifacts": artifacts, "parameters": parameters, "outputFile": OUTPUT_METADATA}

    def _recorded(self, artifact: Json, said: Json) -> Json:
        """An artifact after it went through MLMD: a number for a name, and no type."""
        words = (said.get("artifacts") or [{}])[0]
        metadata = {**artifact.get("metadata", {}), **words.get("metadata", {})}
        return {
            "name": str(next(self._ids)),
            "uri": words.get("uri") or artifact["uri"],
            "metadata": {key: _from_mlmd(value) for key, value in metadata.items()},
        }

    def _volumes(self, label: str) -> dict[str, str]:
        kubernetes = self._platform.get("platforms", {}).get("kubernetes", {})
        config = kubernetes.get("deploymentSpec", {}).get("executors", {}).get(label, {})
        return {mount["mountPath"]: mount["constant"] for mount in config.get("pvcMount", ())}


def local_path(uri: str) -> PurePosixPath:
    """Where the launcher keeps the copy of an artifact."""
    for scheme, folder in _LOCAL.items():
        if uri.startswith(scheme):
            return PurePosixPath(folder + uri.removeprefix(scheme))
    raise RefusedError(f"failed to generate local path for URI {uri}: unsupported storage scheme")


def fill(word: str, executor_input: Json) -> str:
    """Fills the launcher's placeholders into one word of a command."""
    message = json_format.ParseDict(executor_input, pipeline_spec_pb2.ExecutorInput())
    values = {"{{$}}": json_format.MessageToJson(message, indent=None)}
    for side in ("inputs", "outputs"):
        for name, artifact in _each(executor_input, side):
            values[f"{{{{$.{side}.artifacts['{name}'].uri}}}}"] = artifact["uri"]
            values[f"{{{{$.{side}.artifacts['{name}'].path}}}}"] = str(local_path(artifact["uri"]))
    for name, value in executor_input["inputs"]["parameterValues"].items():
        text = value if isinstance(value, str) else json.dumps(value)
        values[f"{{{{$.inputs.parameters['{name}']}}}}"] = text
    for name, output in executor_input["outputs"]["parameters"].items():
        values[f"{{{{$.outputs.parameters['{name}'].output_file}}}}"] = output["outputFile"]
    # One pass: what was filled in is not looked at again.
    return _PLACEHOLDER.sub(lambda match: values.get(match[0], match[0]), word)


def _each(executor_input: Json, side: str) -> Iterator[tuple[str, Json]]:
    for name, listed in executor_input[side]["artifacts"].items():
        for artifact in listed["artifacts"]:
            yield name, artifact


def _producers(task: Json) -> Iterator[str]:
    given = task.get("inputs", {})
    for source in [*given.get("artifacts", {}).values(), *given.get("parameters", {}).values()]:
        for kind in ("taskOutputArtifact", "taskOutputParameter"):
            if kind in source:
                yield source[kind]["producerTask"]


def _from_mlmd(value: Any) -> Any:
    """A value as MLMD gives it back: whole numbers as any other, lists and objects wrapped."""
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, list):
        return {"list": value}
    if isinstance(value, dict):
        return {"struct": value}
    return value


def _parsed(text: str, kind: str) -> Any:
    """The value of an output parameter's file."""
    if kind == "STRING":
        return text
    if kind in {"NUMBER_INTEGER", "NUMBER_DOUBLE"}:
        return float(text)
    return json.loads(text)
