"""What runs in a component's container: `python -m tfx_encore.kubeflow.entrypoint ...`.

Arguments, inputs and outputs are those of TFX's own entry point, which does the work. Around it,
three things that Google's Vertex does for TFX and the open-source backend does not
(docs/adr/0008-kubeflow-runs-the-local-pipelines.md):

- artifacts are at `s3://` or `minio://` URIs; the backend copies them to and from local paths, and
  TFX is given these;
- the types of input artifacts arrive empty; they are in the component's declaration;
- outputs that the component did not declare are left to the backend: it adds one for its log.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from tfx_encore.schemas.errors import EncoreError

# Scheme -> where the backend's launcher keeps the copies.
_LOCAL = {"gs://": "/gcs/", "s3://": "/s3/", "minio://": "/minio/"}
_VALUE_TYPES = ("tfx.String", "tfx.Integer", "tfx.Float", "tfx.Boolean", "tfx.JsonValue")
_BACKEND_TYPES = "system."

Invocation = dict[str, Any]


def main(arguments: Sequence[str]) -> int:
    """Runs the component; returns the exit code."""
    options, beam_args = _parse(arguments)
    invocation: Invocation = json.loads(options.json_serialized_invocation_args)
    declared = json.loads(options.json_serialized_inputs_spec_args or "{}")
    uris = prepare(invocation, declared)
    _make_folders(invocation)
    try:
        _run(options, invocation, beam_args)
    except EncoreError as error:
        sys.stderr.write(f"encore: {error}\n")
        return error.exit_code
    restore_uris(invocation["outputs"]["outputFile"], uris)
    return 0


def prepare(invocation: Invocation, declared: dict[str, Any]) -> dict[str, str]:
    """Makes an ExecutorInput of the open-source backend one that TFX can use, in place.

    Args:
        invocation: the ExecutorInput.
        declared: the component's input definitions.

    Returns:
        local path -> URI, of the outputs.
    """
    inputs = invocation.get("inputs", {}).get("artifacts", {})
    types = declared.get("artifacts", {})
    for name, artifact in _artifacts(inputs):
        if not _type_name(artifact) and name in types:
            artifact["type"] = types[name]["artifactType"]
        artifact["uri"] = local_path(artifact.get("uri", ""))
    outputs = invocation.get("outputs", {}).get("artifacts", {})
    for name in [name for name, artifact in _artifacts(outputs) if _is_backends(artifact)]:
        del outputs[name]
    uris = {local_path(artifact["uri"]): artifact["uri"] for _, artifact in _artifacts(outputs)}
    for _, artifact in _artifacts(outputs):
        artifact["uri"] = local_path(artifact["uri"])
    return uris


def local_path(uri: str) -> str:
    """Where the backend's launcher keeps the copy of what a URI names; other URIs stay."""
    for scheme, folder in _LOCAL.items():
        if uri.startswith(scheme):
            return folder + uri.removeprefix(scheme)
    return uri


def restore_uris(output_file: str, uris: dict[str, str]) -> None:
    """Puts the URIs back into what the component said of its outputs."""
    file = pathlib.Path(output_file)
    said = json.loads(file.read_text(encoding="utf-8"))
    for _, artifact in _artifacts(said.get("artifacts", {})):
        artifact["uri"] = uris.get(artifact.get("uri", ""), artifact.get("uri", ""))
    file.write_text(json.dumps(said), encoding="utf-8")


def _artifacts(lists: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, listed in list(lists.items()):
        for artifact in listed.get("artifacts", []):
            yield name, artifact


def _type_name(artifact: dict[str, Any]) -> str:
    kind = artifact.get("type", {})
    return str(kind.get("instanceSchema") or kind.get("schemaTitle") or "")


def _is_backends(artifact: dict[str, Any]) -> bool:
    return str(artifact.get("type", {}).get("schemaTitle", "")).startswith(_BACKEND_TYPES)


def _make_folders(invocation: Invocation) -> None:
    """The launcher makes the folders above the outputs; components expect their own to be there."""
    outputs = invocation["outputs"]
    pathlib.Path(outputs["outputFile"]).parent.mkdir(parents=True, exist_ok=True)
    for _, artifact in _artifacts(outputs.get("artifacts", {})):
        if "://" not in artifact["uri"]:
            path = pathlib.Path(artifact["uri"])
            is_value = any(f"title: {name}\n" in _type_name(artifact) for name in _VALUE_TYPES)
            (path.parent if is_value else path).mkdir(parents=True, exist_ok=True)


def _run(options: argparse.Namespace, invocation: Invocation, beam_args: list[str]) -> None:
    from tfx.orchestration.kubeflow.v2.container import kubeflow_v2_run_executor as tfx_entry

    options.json_serialized_invocation_args = json.dumps(invocation)
    tfx_entry.main((options, beam_args))


def _parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--executor_class_path", required=True)
    parser.add_argument("--json_serialized_invocation_args", required=True)
    parser.add_argument("--json_serialized_inputs_spec_args", default="")
    return parser.parse_known_args(list(arguments))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
