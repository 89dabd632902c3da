"""A Beam job server that keeps what it is given: graph, options, artifacts; then runs the job here.

What Flink's or Spark's job server would get is got over gRPC from the runner's own client. To run
it, the environment is replaced by one in this process; what was asked for is in `jobs`.
"""

from __future__ import annotations

import base64
import bz2
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.portability import local_job_service
from apache_beam.runners.portability.fn_api_runner import fn_runner
from apache_beam.transforms import environments
from apache_beam.utils import proto_utils

_BASE64 = re.compile(rb"[A-Za-z0-9+/]{40,}={0,2}")


@dataclass(frozen=True)
class Job:
    """A job as it was submitted.

    Attributes:
        pipeline: the graph.
        options: Beam's options by URN.
        staged: artifacts, name -> content.
    """

    pipeline: Any
    options: dict[str, Any]
    staged: dict[str, bytes]

    @property
    def names(self) -> set[str]:
        """The names of its steps, those outermost."""
        return {step.unique_name for step in self.pipeline.components.transforms.values()}

    @property
    def size(self) -> int:
        """Bytes of the graph."""
        return int(self.pipeline.ByteSize())

    def environments(self) -> list[Any]:
        """(URN, payload) of each environment that a step asks for."""
        parts = self.pipeline.components
        used = {step.environment_id for step in parts.transforms.values()} - {""}
        return [parts.environments[name] for name in sorted(used)]

    def images(self) -> set[str]:
        """The container images of those environments."""
        return {
            beam_runner_api_pb2.DockerPayload.FromString(environment.payload).container_image
            for environment in self.environments()
        }

    def payload(self) -> bytes:
        """All that travels to workers, unpacked as far as it can be."""
        found = []
        for step in self.pipeline.components.transforms.values():
            found.append(step.spec.payload)
            for packed in _BASE64.findall(step.spec.payload):
                found.extend(_unpacked(packed))
        return b"\n".join(found)


@contextmanager
def recording() -> Iterator[tuple[str, list[Job]]]:
    """Runs a job server on loopback; gives its address and the jobs that it has had."""
    jobs: list[Job] = []

    class Recorded(local_job_service.BeamJob):
        """Keeps the job, then runs it in this process."""

        def _invoke_runner(self) -> Any:
            jobs.append(_job(self))
            here = environments.EmbeddedPythonEnvironment.default().to_runner_api(None)
            for environment in self._pipeline_proto.components.environments.values():
                environment.CopyFrom(here)
            self.set_state(local_job_service.beam_job_api_pb2.JobState.RUNNING)
            return fn_runner.FnApiRunner().run_via_runner_api(
                self._pipeline_proto, self.pipeline_options()
            )

    servicer = local_job_service.LocalJobServicer(beam_job_type=Recorded)
    port = servicer.start_grpc_server()
    try:
        yield f"localhost:{port}", jobs
    finally:
        servicer.stop()


def _job(job: Any) -> Job:
    from apache_beam.runners.job import utils

    kept = beam_runner_api_pb2.Pipeline()
    kept.CopyFrom(job._pipeline_proto)
    staged = {}
    for environment in kept.components.environments.values():
        for artifact in environment.dependencies:
            name = proto_utils.parse_Bytes(
                artifact.role_payload, beam_runner_api_pb2.ArtifactStagingToRolePayload
            ).staged_name
            file = proto_utils.parse_Bytes(
                artifact.type_payload, beam_runner_api_pb2.ArtifactFilePayload
            ).path
            staged[name] = Path(file).read_bytes()
    return Job(kept, utils.struct_to_dict(job._pipeline_options), staged)


def _unpacked(packed: bytes) -> Iterator[bytes]:
    """What Beam's pickler packed, whichever way; nothing if it was not packed at all."""
    for unpack in (bz2.decompress, zlib.decompress):
        with suppress(OSError, ValueError, zlib.error):
            yield unpack(base64.b64decode(packed))
