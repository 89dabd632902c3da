"""Beam's portable engine with its workers on other machines: FnApiRunner and worker pools.

On each machine runs `python -m apache_beam.runners.worker.worker_pool_main --service_port N`. The
pools are named by Beam's own options, `--environment_type=EXTERNAL` and `--environment_config=`
`HOST:PORT,HOST:PORT`; each is asked for a worker in turn. Driver and workers share storage.

There is no second try: a worker that is lost fails the step, with its pool's name, and at once.
Beam by itself would wait for it for ever.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import threading
from collections.abc import Iterator
from typing import Any, ClassVar

import grpc
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, PortableOptions
from apache_beam.portability import common_urns
from apache_beam.portability.api import (
    beam_fn_api_pb2,
    beam_fn_api_pb2_grpc,
    beam_runner_api_pb2,
    endpoints_pb2,
)
from apache_beam.runners.portability.fn_api_runner import fn_runner, worker_handlers
from apache_beam.transforms import environments

from tfx_encore.schemas.errors import WorkerPoolError

RUNNER_HOST = "BEAM_RUNNER_HOST"
START_SECONDS = 60.0
PROBE_SECONDS = 5.0
_PROBES = 3  # that fail one after the other before a machine is taken for lost


class WorkerPoolRunner(fn_runner.FnApiRunner):
    """FnApiRunner with `--environment_type=EXTERNAL`, which Beam's own passes over."""

    def run_pipeline(self, pipeline: Any, options: PipelineOptions) -> Any:
        """Runs the pipeline on the pools that the options name.

        Raises:
            WorkerPoolError: a pool cannot be reached, or a worker was lost.
        """
        pools = pools_of(options.view_as(PortableOptions).environment_config or "")
        direct = options.view_as(DirectOptions)
        direct.direct_num_workers = max(direct.direct_num_workers or 1, len(pools))
        self._default_environment = environments.ExternalEnvironment(",".join(pools))
        PoolWorker.lost = None
        try:
            return super().run_pipeline(pipeline, options)
        except RuntimeError as error:
            if PoolWorker.lost is not None:
                raise PoolWorker.lost from error
            raise


def pools_of(config: str) -> list[str]:
    """The pools of `--environment_config`."""
    return [pool.strip() for pool in config.split(",") if pool.strip()]


@worker_handlers.WorkerHandler.register_environment(
    common_urns.environments.EXTERNAL.urn, beam_runner_api_pb2.ExternalPayload
)
class PoolWorker(worker_handlers.GrpcWorkerHandler):
    """One worker of a pool, from start to end."""

    lost: ClassVar[WorkerPoolError | None] = None
    _turn = itertools.count()

    def __init__(self, payload: Any, state: Any, provision_info: Any, grpc_server: Any) -> None:
        # All workers are told one address: Beam writes it into the work that it hands out.
        self._pools = pools = pools_of(payload.endpoint.url)
        self.pool = pools[next(self._turn) % len(pools)]
        super().__init__(state, provision_info, grpc_server)
        self._ended = threading.Event()
        self._watched = _Watched(self.control_conn, self.pool)
        self._channel = grpc.insecure_channel(self.pool)
        self._stub = beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolStub(self._channel)

    def start_worker(self) -> None:
        """Asks the pool for a worker.

        Raises:
            WorkerPoolError: it cannot be reached, or cannot start one.
        """
        control = endpoints_pb2.ApiServiceDescriptor(url=self.control_address)
        request = beam_fn_api_pb2.StartWorkerRequest(
            worker_id=self.worker_id,
            control_endpoint=control,
            artifact_endpoint=control,
            provision_endpoint=control,
            logging_endpoint=self.logging_api_service_descriptor(),
        )
        try:
            problem = self._stub.StartWorker(request, timeout=START_SECONDS).error
        except grpc.RpcError as error:
            problem = f"it cannot be reached ({error.code().name})"
        if problem:
            raise WorkerPoolError(self.pool, problem.strip().splitlines()[-1])
        threading.Thread(target=self._probe, name=f"probe {self.pool}", daemon=True).start()

    def stop_worker(self) -> None:
        """Lets the worker go; the pool reaps its process."""
        self._ended.set()
        request = beam_fn_api_pb2.StopWorkerRequest(worker_id=self.worker_id)
        with contextlib.suppress(grpc.RpcError):  # it is gone already
            self._stub.StopWorker(request, timeout=START_SECONDS)
        self._channel.close()

    def host_from_worker(self) -> str:
        """The driver's address as workers see it: $BEAM_RUNNER_HOST, else that on the way out."""
        return os.environ.get(RUNNER_HOST) or _address_towards(self._pools[0])

    def _probe(self) -> None:
        """A machine that vanishes closes no connection: only asking shows it."""
        failed = 0
        while failed < _PROBES and not self._ended.wait(PROBE_SECONDS):
            failed = 0 if _answers(self.pool) else failed + 1
        if failed:
            self._watched.lose()


class _Watched:
    """A control connection that answers for a worker that no longer does."""

    def __init__(self, connection: Any, pool: str) -> None:
        self._connection = connection
        self._pool = pool
        self._push = connection.push
        self._set_input = connection.set_input
        self._lost = False
        connection.push, connection.set_input = self.push, self.set_input

    def push(self, request: Any) -> Any:
        """Sends a request; of a lost worker the answer is that it is lost."""
        future = self._push(request)
        if self._lost:
            self.lose()
        return future

    def set_input(self, responses: Iterator[Any]) -> None:
        """Takes the worker's answers, until there are none."""
        self._set_input(self._until_lost(responses))

    def lose(self) -> None:
        """Answers all that is waited for."""
        self._lost = True
        waiting = self._connection._futures_by_id  # noqa: SLF001 - Beam's has no other way in
        for name in list(waiting):
            future = waiting.pop(name, None)
            if future is not None:
                error = WorkerPoolError(self._pool, "its worker was lost at work")
                # The first is the cause: the others are given up because of it, and end at work.
                PoolWorker.lost = PoolWorker.lost or error
                text = str(error)
                future.set(beam_fn_api_pb2.InstructionResponse(instruction_id=name, error=text))

    def _until_lost(self, responses: Iterator[Any]) -> Iterator[Any]:
        try:
            for response in responses:
                if not self._lost:
                    yield response
        except Exception:  # noqa: BLE001, S110 - gRPC's end of a broken stream
            pass
        self.lose()


def _address_towards(pool: str) -> str:
    """The driver's address on the way to the pool."""
    host, _, port = pool.rpartition(":")
    family, kind, protocol, _, place = socket.getaddrinfo(
        host.strip("[]"), int(port), type=socket.SOCK_DGRAM
    )[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.connect(place)
        address = str(probe.getsockname()[0])
    return f"[{address}]" if ":" in address else address


def _answers(pool: str) -> bool:
    host, _, port = pool.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), PROBE_SECONDS):
            return True
    except OSError:
        return False
