"""What the tasks of a compiled pipeline are promised of their nodes. No IO here.

The fields are the numbers that every backend from 2.0 on knows, not the texts that came with 2.5,
which older ones refuse.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tfx_encore.kubeflow.target import Target
from tfx_encore.schemas.errors import ConfigError

_GIGABYTE = 1e9  # Kubeflow's unit: it writes `<number>G`


def set_resources(spec: dict[str, Any], target: Target) -> None:
    """Writes into each container what its task is promised.

    Memory is promised and bounded alike, so that a node never runs out of it. Processor time is
    promised but not bounded: a bound would only leave cores idle.

    Args:
        spec: the PipelineSpec; changed in place.
        target: says how much.
    """
    for task, container in containers(spec).items():
        cpu, memory = target.cpu.of(task), target.memory.of(task)
        found: dict[str, float] = {}
        if cpu is not None:
            found["cpuRequest"] = cpu
        if memory is not None:
            found["memoryRequest"] = found["memoryLimit"] = memory / _GIGABYTE
        if found:
            container["resources"] = found


def containers(spec: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Task -> its container, of the tasks that have one."""
    found: dict[str, dict[str, Any]] = {}
    for name, task in spec["root"]["dag"]["tasks"].items():
        label = spec["components"][task["componentRef"]["name"]].get("executorLabel", "")
        container = spec["deploymentSpec"]["executors"].get(label, {}).get("container")
        if container is not None:
            found[name] = container
    return found


def check_tasks_named(target: Target, specs: Iterable[Mapping[str, Any]]) -> None:
    """Checks that whoever is promised something is there.

    Args:
        target: says who gets how much.
        specs: the pipelines; a task of any of them will do.

    Raises:
        ConfigError: names the option, the task, and those that there are.
    """
    known = sorted({task for spec in specs for task in containers(spec)})
    for option, amounts in (("--cpu", target.cpu), ("--memory", target.memory)):
        for task in amounts.of_task:
            if task not in known:
                raise ConfigError(
                    f"there is no task {task!r}; name one of {', '.join(known)}", key=option
                )
