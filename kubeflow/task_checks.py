"""Checks of the tasks of a compiled pipeline: names, wiring, where parameters come from. No IO."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from tfx_encore.kubeflow.problems import Problem

Spec = Mapping[str, Any]

TASK_NAME = re.compile(r"[a-zA-Z0-9][-a-zA-Z0-9]{0,62}\Z")


def check_tasks(pipeline: Spec) -> Iterator[Problem]:
    """Everything about the tasks that Argo, the compiler or the driver would reject."""
    tasks = pipeline.get("root", {}).get("dag", {}).get("tasks", {})
    for name, task in tasks.items():
        if not TASK_NAME.match(name):
            yield Problem("task_name", name, "not a name for a task")
        if "artifactIterator" in task:
            yield Problem("iterator", name, "a loop over artifacts")
        yield from _check_component(pipeline, name, task)
        yield from _check_producers(pipeline, name, task)
        yield from _check_parameters(pipeline, name, task)
    yield from _check_circles(tasks)


def _component(pipeline: Spec, task: Spec) -> Mapping[str, Any]:
    reference = task.get("componentRef", {}).get("name", "")
    found: Mapping[str, Any] = pipeline.get("components", {}).get(reference, {})
    return found


def _check_component(pipeline: Spec, name: str, task: Spec) -> Iterator[Problem]:
    component = _component(pipeline, task)
    if not component:
        yield Problem("component", name, "refers to no component")
        return
    label = component.get("executorLabel", "")
    executor = pipeline.get("deploymentSpec", {}).get("executors", {}).get(label)
    if executor is None and "dag" not in component:
        yield Problem("component", name, f"has no executor {label!r}")
    if executor and "importer" in executor and task.get("triggerPolicy", {}).get("condition"):
        yield Problem("condition", name, "an importer with a condition")


def _check_producers(pipeline: Spec, name: str, task: Spec) -> Iterator[Problem]:
    tasks = pipeline["root"]["dag"]["tasks"]
    for needed in task.get("dependentTasks", []):
        if needed not in tasks:
            yield Problem("producer", name, f"waits for {needed}, which is no task")
    inputs = task.get("inputs", {})
    wanted = [
        (key, source["taskOutputParameter"], "parameters", "outputParameterKey")
        for key, source in inputs.get("parameters", {}).items()
        if "taskOutputParameter" in source
    ]
    wanted += [
        (key, source.get("taskOutputArtifact", {}), "artifacts", "outputArtifactKey")
        for key, source in inputs.get("artifacts", {}).items()
    ]
    for key, source, kind, field in wanted:
        producer = source.get("producerTask", "")
        outputs = (
            _component(pipeline, tasks[producer]).get("outputDefinitions", {}).get(kind, {})
            if producer in tasks
            else {}
        )
        if source.get(field) not in outputs:
            place = f"{producer or 'nobody'}.{source.get(field, '')}"
            yield Problem("producer", f"{key} of {name}", f"comes from {place}, which is not there")


def _check_parameters(pipeline: Spec, name: str, task: Spec) -> Iterator[Problem]:
    root = pipeline["root"].get("inputDefinitions", {}).get("parameters", {})
    declared = _component(pipeline, task).get("inputDefinitions", {}).get("parameters", {})
    given = task.get("inputs", {}).get("parameters", {})
    for key, source in given.items():
        where = f"{key} of {name}"
        if key not in declared:
            yield Problem("parameter", where, "the component declares no such parameter")
        elif "componentInputParameter" in source:
            yield from _check_root(where, source["componentInputParameter"], root, declared[key])
        elif "runtimeValue" in source and "constant" not in source["runtimeValue"]:
            yield Problem("parameter", where, "a runtime value that is no constant")
    for key, parameter in declared.items():
        optional = parameter.get("isOptional") or "defaultValue" in parameter
        if key not in given and not optional:
            yield Problem("parameter", f"{key} of {name}", "no value")


def _check_root(where: str, name: str, root: Spec, declared: Spec) -> Iterator[Problem]:
    if name not in root:
        yield Problem("parameter", where, f"comes from the pipeline's {name!r}, which is not there")
    elif root[name].get("parameterType") != declared.get("parameterType"):
        kinds = f"{root[name].get('parameterType')} for a {declared.get('parameterType')}"
        yield Problem("parameter", where, kinds)


def _check_circles(tasks: Mapping[str, Any]) -> Iterator[Problem]:
    done: set[str] = set()
    waiting = dict(tasks)
    while waiting:
        ready = [
            name
            for name, task in waiting.items()
            if {n for n in task.get("dependentTasks", []) if n in tasks} <= done
        ]
        if not ready:
            yield Problem("circle", ", ".join(sorted(waiting)), "wait for each other")
            return
        done.update(ready)
        for name in ready:
            del waiting[name]
