"""What Kubeflow's open-source backend rejects, why, and the way out: the table. No IO here.

Reasons come from kubeflow/pipelines, `backend/src/apiserver/template` (when a specification is
uploaded), `backend/src/v2/compiler` (when a run starts), `backend/src/v2/driver` and
`backend/src/v2/component` (when a task starts).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Problem:
    """Something that the backend would reject, or that would not work there.

    Attributes:
        code: which kind; a key of `TABLE`.
        where: the task, parameter or key that it is about.
        what: what was found.
    """

    code: str
    where: str
    what: str

    @property
    def severity(self) -> Severity:
        """`error`: it will not run. `warning`: it will, but is not wise."""
        return TABLE[self.code].severity

    def __str__(self) -> str:
        entry = TABLE[self.code]
        return f"{self.where}: {self.what}: {entry.why}; {entry.way_out}"


@dataclass(frozen=True)
class Entry:
    """Why a kind of problem is one, and what to do about it."""

    why: str
    way_out: str
    severity: Severity = "error"


TABLE: dict[str, Entry] = {
    "schema_version": Entry(
        "the API server takes schema version 2.1.0 only",
        "compile with `use_pipeline_spec_2_1=True`, as `encore kubeflow compile` does",
    ),
    "name": Entry(
        "it becomes the name of a Kubernetes object, which lets pass only lower-case letters, "
        "digits and '-', at most 63 of them, with a letter first and no '-' last",
        "give another with --name",
    ),
    "root": Entry("there is nothing to run", "give the pipeline a component"),
    "task_name": Entry(
        "it becomes the name of an Argo task: letters, digits and '-'",
        "give the component another id with `.with_id()`",
    ),
    "component": Entry(
        "the backend looks the component up and finds none", "compile the pipeline again"
    ),
    "resolver": Entry(
        "the backend runs containers and importers only (`non-container and non-importer executor "
        "not implemented`)",
        "take what is live from LiveRelease, which is an ordinary component",
    ),
    "custom_job": Entry(
        "custom jobs are Google Cloud's", "use a component with a container of its own"
    ),
    "infra_validator": Entry(
        "TFX cannot compile it for Kubeflow v2, and it would start servers of its own",
        "leave it out; VersionedPusher loads the model, and the gateway does before it serves it",
    ),
    "iterator": Entry(
        "the backend has no loop over artifacts", "loop inside a component, or by parameters"
    ),
    "condition": Entry(
        "a condition on an importer is not supported", "put it on the components after it"
    ),
    "producer": Entry(
        "the run would fail with `producer task not in tasks`",
        "take the input from a component of the same pipeline",
    ),
    "circle": Entry("no task of a circle can start", "take one dependency away"),
    "parameter": Entry(
        "the driver would find no value of that type",
        "declare it as a RuntimeParameter with a default of that type, or give a constant",
    ),
    "default": Entry(
        "the API server refuses a run whose parameter has another type",
        "give the parameter a default of its type",
    ),
    "artifact_type": Entry(
        "the launcher needs the title of an instance schema to register the artifact",
        "use an artifact class with a TYPE_NAME such as `package.Class`",
    ),
    "typed_artifact": Entry(
        "the launcher keeps properties of custom types as custom properties only, and numbers as "
        "floats, so that a typed one comes back as another",
        "leave PROPERTIES empty and use custom properties",
    ),
    "artifact_list": Entry(
        "the launcher registers the first artifact of an output and drops the others",
        "write one artifact with several files, or use several outputs",
    ),
    "input_types": Entry(
        "the backend passes input artifacts without their type and adds a log to the outputs; "
        "TFX's own entry point fails at either",
        "compile with `encore kubeflow compile`, which runs tfx_encore.kubeflow.entrypoint",
    ),
    "span_pattern": Entry(
        "TFX looks for the span in a hook that only Vertex runs",
        "give a concrete pattern, or let ReleasePlanner fill in the parameter `span`",
    ),
    "image": Entry("every task runs in it", "give one with --image"),
    "image_tag": Entry(
        "what it names can change between two tasks of one run, and Kubeflow's cache would answer "
        "for code that is gone",
        "give a version or, best, a digest: name@sha256:...",
        severity="warning",
    ),
    "path": Entry(
        "each task has a file system of its own, so that the path is empty there",
        "put it below a volume (--releases-claim with --releases-mount, --volume CLAIM:PATH), or "
        "name a URI",
    ),
    "data": Entry(
        "the first task lists and digests these files as on one machine, through the file system",
        "keep them on a volume (--releases-claim, --volume CLAIM:PATH), which a CSI driver can lay "
        "over a bucket",
    ),
    "releases": Entry(
        "the release directory renames and locks files, which an object store cannot",
        "keep it on a ReadWriteMany volume: --releases-claim NAME --releases-mount PATH",
    ),
    "mount": Entry(
        "Kubernetes or the backend's launcher needs that place for itself, or cannot mount it",
        "mount it elsewhere, as at /encore",
    ),
    "claim": Entry(
        "Kubernetes knows no such name: lower-case letters, digits, '-' and '.'",
        "give the name that `kubectl get pvc` shows",
    ),
    "pipeline_root": Entry(
        "the launcher copies artifacts to s3://, gs:// and minio:// only",
        "name a bucket, or leave it out for the backend's own",
    ),
    "size": Entry(
        "Argo keeps the whole workflow in one Kubernetes object, which must stay below a megabyte",
        "shorten the schema or the policies",
    ),
    "module": Entry(
        "a file beside encore.yaml is in no container",
        "make it importable in the image (`FROM` the component image, `COPY model.py` into a "
        "folder on its PYTHONPATH) or lay it on a volume (--pythonpath), and name the module "
        "without .py: --module model",
    ),
    "runner": Entry(
        "it loses data without a word (WriteToTFRecord writes nothing, tagged outputs merge)",
        "use FnApiRunner, or a runner of docs/scale.md",
    ),
    "direct_runner": Entry(
        "it begins by downloading another runner, which a closed cluster does not let through",
        "set beam.runner to FnApiRunner",
        severity="warning",
    ),
    "sqlite": Entry(
        "SQLite's locks do not hold on network volumes, and the tasks do not write to it",
        "leave metadata.sqlite out; gateways follow `metadata.grpc` (Kubeflow's MLMD) or "
        "`metadata.journal` (docs/kubeflow.md)",
    ),
}
