"""Kubeflow's API server, through the official client: the only file that knows it.

Errors of the client, of HTTP and of the network become `KubeflowError`, each with the way out.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import pathlib
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Optional, TypeVar

from tfx_encore.kubeflow.schedule_plan import Existing, Schedule
from tfx_encore.kubeflow.spec_package import Package, package_text
from tfx_encore.schemas.compat import kubeflow_call
from tfx_encore.schemas.errors import ConfigError, KubeflowError

T = TypeVar("T")

TOKEN_VARIABLE = "ENCORE_KUBEFLOW_TOKEN"  # noqa: S105 - the name of a variable
HOST_VARIABLE = "KF_PIPELINES_ENDPOINT"
DEFAULT_EXPERIMENT = "Default"
_PAGE = 100
_NOT_FOUND, _CONFLICT = 404, 409


@dataclass(frozen=True)
class Access:
    """How the API server is reached.

    Attributes:
        host: its URL; "" for KF_PIPELINES_ENDPOINT, the service in the cluster, or kubectl's.
        namespace: of a multi-user Kubeflow; "" in single-user mode.
        token_file: file with a bearer token; "" for ENCORE_KUBEFLOW_TOKEN, else the service
            account's, else none.
        ca_file: certificate of the server's authority; "" for the system's.
    """

    host: str = ""
    namespace: str = ""
    token_file: str = ""
    ca_file: str = ""

    @property
    def shown(self) -> str:
        """The server as messages name it."""
        return self.host or os.environ.get(HOST_VARIABLE, "") or "Kubeflow's API server"


@dataclass(frozen=True)
class Submitted:
    """A run that was submitted.

    Attributes:
        run_id: its id.
        name: its name.
        link: its page in the UI.
    """

    run_id: str
    name: str
    link: str


@dataclass(frozen=True)
class RunState:
    """How a run goes.

    Attributes:
        state: such as RUNNING, SUCCEEDED, FAILED; "" before the backend has said anything.
        tasks: task -> its state, of the tasks that the backend knows of by now.
        error: what the backend says went wrong.
    """

    state: str
    tasks: Mapping[str, str] = field(default_factory=dict)
    error: str = ""


class Server:
    """Kubeflow Pipelines' API.

    Args:
        access: how to reach it.

    Raises:
        KubeflowError: it cannot be reached, or does not let this user in.
        ConfigError: no host is given and none is found, or a file cannot be read.
    """

    def __init__(self, access: Access) -> None:
        self._access = access
        token = _token(access)
        if access.ca_file and not pathlib.Path(access.ca_file).is_file():
            raise ConfigError(f"no such file: {access.ca_file}", key="--ca-cert")
        self._client = self._asked("reach the server", lambda: _client(access, token))

    def upload(self, package: Package, version: str) -> tuple[str, str]:
        """Uploads a pipeline version, unless it is there; returns the pipeline's and its id."""
        client, namespace = self._client, self._access.namespace or None
        pipeline = self._pipeline_id(package.name)
        if pipeline is None:
            body = client.api_models.V2beta1Pipeline(display_name=package.name, namespace=namespace)
            add = kubeflow_call(client.pipelines, "pipeline_service", "create_pipeline")
            made = self._asked(f"create the pipeline {package.name}", lambda: add(body))
            pipeline = str(made.pipeline_id)
        found = self._pages(
            f"list the versions of {package.name}",
            lambda **page: client.list_pipeline_versions(
                pipeline_id=pipeline, filter=_named(version), **page
            ),
            "pipeline_versions",
        )
        for known in found:
            return pipeline, str(known.pipeline_version_id)
        with _package_file(package) as file:
            uploaded = self._asked(
                f"upload {package.name}",
                lambda: client.upload_pipeline_version(
                    pipeline_package_path=file,
                    pipeline_version_name=version,
                    pipeline_id=pipeline,
                ),
            )
        return pipeline, str(uploaded.pipeline_version_id)

    def _pipeline_id(self, name: str) -> Optional[str]:
        found = self._pages(
            "list pipelines",
            lambda **page: self._client.list_pipelines(
                namespace=self._access.namespace or None, filter=_named(name), **page
            ),
            "pipelines",
        )
        for pipeline in found:
            return str(pipeline.pipeline_id)
        return None

    def experiment(self, name: str, *, create: bool) -> Optional[str]:
        """The id of an experiment; None if there is none and it is not to be created."""
        client, namespace = self._client, self._access.namespace or None
        found = self._pages(
            "list experiments",
            lambda **page: client.list_experiments(
                namespace=namespace, filter=_named(name), **page
            ),
            "experiments",
        )
        for experiment in found:
            return str(experiment.experiment_id)
        if not create:
            return None
        body = client.api_models.V2beta1Experiment(display_name=name, namespace=namespace)
        add = kubeflow_call(client.experiments, "experiment_service", "create_experiment")
        made = self._asked(f"create the experiment {name}", lambda: add(body))
        return str(made.experiment_id)

    def submit(
        self,
        ids: tuple[str, str],
        experiment: str,
        name: str,
        values: Mapping[str, Any],
        *,
        pipeline_root: str = "",
        service_account: str = "",
        cache: Optional[bool] = None,
    ) -> Submitted:
        """Starts a run of an uploaded version.

        Args:
            ids: of the pipeline and of the version.
            experiment: the experiment's id.
            name: the run's name.
            values: parameter -> value, where they differ from the compiled ones.
            pipeline_root: where its artifacts go; "" for the pipeline's own.
            service_account: that its tasks run under; "" for the backend's own.
            cache: False answers no task from the cache.
        """
        run = self._asked(
            f"start the run {name}",
            lambda: self._client.run_pipeline(
                experiment_id=experiment,
                job_name=name,
                pipeline_id=ids[0],
                version_id=ids[1],
                params=dict(values),
                pipeline_root=pipeline_root or None,
                service_account=service_account or None,
                enable_caching=cache,
            ),
        )
        return Submitted(str(run.run_id), name, f"{self._ui()}/#/runs/details/{run.run_id}")

    def state(self, run_id: str) -> RunState:
        """How a run goes now."""
        run = self._asked(f"ask for the run {run_id}", lambda: self._client.get_run(run_id=run_id))
        details = getattr(run.run_details, "task_details", None) or []
        tasks = {str(d.display_name): str(d.state or "PENDING") for d in details}
        error = getattr(run.error, "message", "") or ""
        return RunState(str(run.state or ""), tasks, error)

    def schedules(self, name: str = "") -> tuple[Existing, ...]:
        """The recurring runs, or those of one name, oldest first."""
        found = self._pages(
            "list recurring runs",
            lambda **page: self._client.list_recurring_runs(
                namespace=self._access.namespace or None,
                filter=_named(name) if name else None,
                sort_by="created_at asc",
                **page,
            ),
            "recurring_runs",
        )
        return tuple(map(_existing, found))

    def create_schedule(self, schedule: Schedule, experiment: str) -> str:
        """Creates a recurring run; returns its id."""
        made = self._asked(
            f"create the recurring run {schedule.name}",
            lambda: self._client.create_recurring_run(
                experiment_id=experiment,
                job_name=schedule.name,
                description=schedule.description,
                cron_expression=schedule.cron,
                start_time=schedule.start or None,
                end_time=schedule.end or None,
                max_concurrency=schedule.max_concurrency,
                no_catchup=schedule.no_catchup,
                params=dict(schedule.values),
                pipeline_id=schedule.ids[0],
                version_id=schedule.ids[1],
                pipeline_root=schedule.pipeline_root or None,
                service_account=schedule.service_account or None,
            ),
        )
        return str(made.recurring_run_id)

    def delete_schedule(self, identity: str) -> None:
        """Deletes a recurring run; one that is gone already is well."""
        self._gone_is_well(
            f"delete the recurring run {identity}",
            lambda: self._client.delete_recurring_run(identity),
        )

    def enable_schedule(self, identity: str, *, enabled: bool) -> None:
        """Enables or disables a recurring run."""
        client = self._client
        change = client.enable_recurring_run if enabled else client.disable_recurring_run
        verb = "enable" if enabled else "disable"
        self._asked(f"{verb} the recurring run {identity}", lambda: change(identity))

    def _ui(self) -> str:
        return self._access.shown.rstrip("/") if self._access.shown.startswith("http") else ""

    def _gone_is_well(self, what: str, call: Callable[[], Any]) -> None:
        try:
            self._asked(what, call)
        except KubeflowError as error:
            if error.status != _NOT_FOUND:
                raise

    def _pages(self, what: str, call: Callable[..., Any], key: str) -> Iterator[Any]:
        token = ""
        while True:
            page = self._asked(what, lambda at=token: call(page_token=at, page_size=_PAGE))  # type: ignore[misc]
            yield from getattr(page, key) or []
            token = page.next_page_token or ""
            if not token:
                return

    def _asked(self, what: str, call: Callable[[], T]) -> T:
        """Calls the client, without what it prints; its errors become ours."""
        import kfp_server_api
        import urllib3

        try:
            with contextlib.redirect_stdout(io.StringIO()):
                return call()
        except kfp_server_api.ApiException as error:
            raise _refused(self._access, what, error) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise _unreachable(self._access, what, error) from error


def _client(access: Access, token: Optional[str]) -> Any:
    """The official client, asked once where it would try five times before it says anything."""
    warnings.filterwarnings("ignore", module="kfp")
    logging.getLogger("kubernetes").setLevel(logging.ERROR)
    import kfp

    class Client(kfp.Client):
        """Asks for the server's health once."""

        def get_kfp_healthz(self, sleep_duration: int = 5) -> Any:
            """What the server says of itself."""
            del sleep_duration
            return kubeflow_call(self.healthzs, "healthz_service", "get_healthz")()

    client = Client(
        host=access.host or None,
        namespace=access.namespace or "kubeflow",
        existing_token=token,
        ssl_ca_cert=access.ca_file or None,
    )
    client.get_kfp_healthz()
    return client


def _token(access: Access) -> Optional[str]:
    if access.token_file:
        try:
            return pathlib.Path(access.token_file).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ConfigError(
                f"{access.token_file} cannot be read: {error.strerror}", key="--token-file"
            ) from error
    given = os.environ.get(TOKEN_VARIABLE)
    if given:
        return given
    mounted = pathlib.Path(
        os.environ.get("KF_PIPELINES_SA_TOKEN_PATH", "/var/run/secrets/kubeflow/pipelines/token")
    )
    return mounted.read_text(encoding="utf-8").strip() if mounted.is_file() else None


def _existing(run: Any) -> Existing:
    reference = run.pipeline_version_reference
    trigger = getattr(run.trigger, "cron_schedule", None)
    config = run.runtime_config
    return Existing(
        id=str(run.recurring_run_id),
        name=str(run.display_name),
        cron=str(getattr(trigger, "cron", "") or ""),
        enabled=str(run.status or run.mode or "") in {"ENABLED", "ENABLE"},
        max_concurrency=int(run.max_concurrency or 0),
        no_catchup=bool(run.no_catchup),
        version_id=str(getattr(reference, "pipeline_version_id", "") or ""),
        values=dict(getattr(config, "parameters", None) or {}),
        start=_time(getattr(trigger, "start_time", None)),
        end=_time(getattr(trigger, "end_time", None)),
        pipeline_root=str(getattr(config, "pipeline_root", "") or ""),
        service_account=str(run.service_account or ""),
        experiment_id=str(run.experiment_id or ""),
    )


def _time(value: Any) -> str:
    return "" if value is None else value.strftime("%Y-%m-%dT%H:%M:%SZ")


def _named(name: str) -> str:
    """The API's filter for objects of one name."""
    predicate = {"operation": "EQUALS", "key": "display_name", "stringValue": name}
    return json.dumps({"predicates": [predicate]})


@contextlib.contextmanager
def _package_file(package: Package) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / f"{package.name}.yaml"
        file.write_text(package_text(package), encoding="utf-8")
        yield str(file)


_WAYS_OUT = {
    400: "correct what it names",
    401: f"give a token: --token-file FILE, or the variable {TOKEN_VARIABLE}",
    403: "ask for the right to use pipelines in this namespace, or name another: --namespace",
    _NOT_FOUND: "check --host (the URL that the UI is under) and --namespace",
    _CONFLICT: "another was made at the same time; try again",
}


def _refused(access: Access, what: str, error: Any) -> KubeflowError:
    said = _message(error)
    status = int(error.status or 0)
    way_out = _WAYS_OUT.get(status)
    if way_out is None:
        way_out = "try again; if it stays so, look at the logs of ml-pipeline"
    return KubeflowError(
        f"{access.shown} refused to {what}: HTTP {status}{': ' + said if said else ''}; {way_out}",
        status=status,
    )


def _message(error: Any) -> str:
    """What the server says; it says so in JSON where it is the one that answers."""
    try:
        body = json.loads(error.body or "")
    except ValueError:
        return str(error.reason or "").strip()
    if not isinstance(body, dict):
        return str(error.reason or "").strip()
    text = str(body.get("message") or body.get("error_message") or body.get("error") or "")
    return " ".join(text.split())


def _unreachable(access: Access, what: str, error: Exception) -> KubeflowError:
    cause = getattr(error, "reason", None) or error
    if not access.host and HOST_VARIABLE not in os.environ:
        hint = f"give its URL: --host, or the variable {HOST_VARIABLE}"
    else:
        hint = "check --host, and that it is reached from here (kubectl port-forward)"
    return KubeflowError(f"cannot {what}: {access.shown} is not reached ({cause}); {hint}")
