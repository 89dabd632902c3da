"""Volumes and secrets of the tasks: the `kubernetes` platform of a pipeline. No IO here.

The messages are those of `kubernetes_executor_config.proto` in kubeflow/pipelines. Claims and
Secrets are named by the fields that every backend from 2.0 on knows. The newer ones, that may name
them by a parameter, are unknown to backends before 2.5, which refuse unknown fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfx_encore.kubeflow.target import SecretVariable, Target, Volume


def platform_spec(spec: Mapping[str, Any], target: Target) -> dict[str, Any]:
    """The PlatformSpec of a compiled pipeline; {} if its tasks need nothing.

    Args:
        spec: the PipelineSpec.
        target: where it will run.
    """
    config = _executor_config(target)
    if not config:
        return {}
    executors = spec["deploymentSpec"]["executors"]
    containers = sorted(name for name, executor in executors.items() if "container" in executor)
    configs = dict.fromkeys(containers, config)
    return {"platforms": {"kubernetes": {"deploymentSpec": {"executors": configs}}}}


def _executor_config(target: Target) -> dict[str, Any]:
    config: dict[str, Any] = {}
    if target.volumes:
        config["pvcMount"] = [_mount(volume) for volume in target.volumes]
    if target.secrets:
        config["secretAsEnv"] = [_secret(variable) for variable in target.secrets]
    if target.pull_secrets:
        config["imagePullSecret"] = [{"secretName": name} for name in target.pull_secrets]
    if target.pull_policy:
        config["imagePullPolicy"] = target.pull_policy
    return config


def _mount(volume: Volume) -> dict[str, Any]:
    return {"constant": volume.claim, "mountPath": volume.path}


def _secret(variable: SecretVariable) -> dict[str, Any]:
    key = {"secretKey": variable.key, "envVar": variable.variable}
    return {"secretName": variable.secret, "keyToEnv": [key]}
