"""Kubeflow's API server as far as we ask it, over real HTTP; it checks what it is sent.

Paths, fields and answers are those of kubeflow/pipelines `backend/api/v2beta1` (the swagger files
there), and what it refuses is what `backend/src/apiserver` refuses.
"""

from __future__ import annotations

import contextlib
import email.parser
import email.policy
import json
import re
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

BASE = "/apis/v2beta1"
_RUN_FIELDS = {
    "experiment_id", "display_name", "pipeline_version_reference", "runtime_config",
    "service_account", "description",
}  # fmt: skip
_RECURRING_FIELDS = {
    *_RUN_FIELDS, "mode", "no_catchup", "trigger", "max_concurrency",
}  # fmt: skip


class RefusedError(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, message: str) -> None:
        self.status, self.message = status, message
        super().__init__(message)


@dataclass(frozen=True)
class Request:
    """A request that was received."""

    method: str
    path: str
    query: dict[str, str]
    token: str
    body: Any


@dataclass
class Content:
    """What the server holds, and how it is to behave."""

    token: str = ""
    fail_with: dict[str, int] = field(default_factory=dict)  # path prefix -> status
    states: list[dict[str, Any]] = field(default_factory=list)  # of a run, one for each question
    pipelines: dict[str, dict[str, Any]] = field(default_factory=dict)
    versions: dict[str, dict[str, Any]] = field(default_factory=dict)
    experiments: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    recurring: dict[str, dict[str, Any]] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    namespaces: set[str] = field(default_factory=set)

    def sent(self, method: str, path: str) -> list[Request]:
        return [r for r in self.requests if r.method == method and r.path == BASE + path]

    def answer(self, request: Request) -> Any:
        self.requests.append(request)
        if self.token and request.token != f"Bearer {self.token}":
            raise RefusedError(401, "Request header error: there is no user identity header.")
        for prefix, status in self.fail_with.items():
            if request.path.startswith(BASE + prefix):
                raise RefusedError(status, "the server says so")
        for method, pattern, name in _ROUTES:
            match = re.fullmatch(BASE + pattern, request.path)
            if match and method == request.method:
                return getattr(self, name)(request, *match.groups())
        raise RefusedError(404, f"Not Found: {request.method} {request.path}")

    def health(self, request: Request) -> Any:
        return {"multi_user": bool(self.namespaces)}

    def _namespace(self, given: str | None) -> str:
        if self.namespaces and given not in self.namespaces:
            raise RefusedError(403, f"namespace {given!r}: unauthorized")
        if given and not self.namespaces:
            raise RefusedError(400, "In single-user mode, the namespace must be empty.")
        return given or ""

    def list_pipelines(self, request: Request) -> Any:
        namespace = self._namespace(request.query.get("namespace"))
        mine = [p for p in self.pipelines.values() if p.get("namespace", "") == namespace]
        return _page("pipelines", mine, request)

    def create_pipeline(self, request: Request) -> Any:
        _only(request.body, {"display_name", "description", "namespace"})
        namespace = self._namespace(request.body.get("namespace"))
        name = request.body["display_name"]
        if any(p["display_name"] == name for p in self.pipelines.values()):
            raise RefusedError(409, f"The name {name} already exist. Please specify a new name.")
        made = {"pipeline_id": _id(), "display_name": name, "namespace": namespace}
        self.pipelines[made["pipeline_id"]] = made
        return made

    def list_versions(self, request: Request, pipeline: str) -> Any:
        if pipeline not in self.pipelines:
            raise RefusedError(404, f"Pipeline {pipeline} not found.")
        mine = [v for v in self.versions.values() if v["pipeline_id"] == pipeline]
        return _page("pipeline_versions", mine, request)

    def upload_version(self, request: Request) -> Any:
        pipeline, name = request.query["pipelineid"], request.query["name"]
        if pipeline not in self.pipelines:
            raise RefusedError(400, "Failed to create a pipeline version")
        if any(v["display_name"] == name for v in self.versions.values()):
            raise RefusedError(409, f"The version {name} already exist.")
        spec, platform = parse_specification(request.body)
        made = {
            "pipeline_id": pipeline,
            "pipeline_version_id": _id(),
            "display_name": name,
            "pipeline_spec": {"pipeline_spec": spec, "platform_spec": platform},
        }
        self.versions[made["pipeline_version_id"]] = made
        return made

    def list_experiments(self, request: Request) -> Any:
        self._namespace(request.query.get("namespace"))
        return _page("experiments", list(self.experiments.values()), request)

    def create_experiment(self, request: Request) -> Any:
        _only(request.body, {"display_name", "description", "namespace"})
        self._namespace(request.body.get("namespace"))
        made = {"experiment_id": _id(), **request.body}
        self.experiments[made["experiment_id"]] = made
        return made

    def _check_run(self, body: dict[str, Any]) -> None:
        if body["experiment_id"] not in self.experiments:
            raise RefusedError(404, f"Experiment {body['experiment_id']} not found.")
        reference = body["pipeline_version_reference"]
        version = self.versions.get(reference["pipeline_version_id"])
        if version is None or version["pipeline_id"] != reference["pipeline_id"]:
            raise RefusedError(404, "PipelineVersion not found.")
        spec = version["pipeline_spec"]["pipeline_spec"]
        declared = spec["root"]["inputDefinitions"]["parameters"]
        for name, value in body.get("runtime_config", {}).get("parameters", {}).items():
            if name not in declared:
                raise RefusedError(
                    400, f"parameter(s) provided are not required by pipeline: {name}"
                )
            kind = declared[name]["parameterType"]
            if isinstance(value, str) != (kind == "STRING"):
                raise RefusedError(400, f"input parameter {name} requires type {kind}")

    def create_run(self, request: Request) -> Any:
        _only(request.body, _RUN_FIELDS)
        self._check_run(request.body)
        made = {"run_id": _id(), "state": "PENDING", **request.body}
        self.runs[made["run_id"]] = made
        return made

    def get_run(self, request: Request, run: str) -> Any:
        if run not in self.runs:
            raise RefusedError(404, f"Run {run} not found.")
        now = self.states.pop(0) if len(self.states) > 1 else (self.states or [{}])[0]
        if "status" in now:
            raise RefusedError(now["status"], "for a moment")
        return {**self.runs[run], **now}

    def list_recurring(self, request: Request) -> Any:
        self._namespace(request.query.get("namespace"))
        return _page("recurringRuns", list(self.recurring.values()), request)

    def create_recurring(self, request: Request) -> Any:
        body = request.body
        _only(body, _RECURRING_FIELDS)
        self._check_run(body)
        if len(body["trigger"]["cron_schedule"]["cron"].split()) != 6:
            raise RefusedError(400, "Schedule cron is not a valid cron expression.")
        if not 1 <= int(body["max_concurrency"]) <= 10:
            raise RefusedError(400, "The max concurrency of the job is out of range.")
        made = {
            **body,
            "recurring_run_id": _id(),
            "status": {"ENABLE": "ENABLED", "DISABLE": "DISABLED"}[body["mode"]],
            "max_concurrency": str(body["max_concurrency"]),  # protojson writes int64 as text
        }
        self.recurring[made["recurring_run_id"]] = made
        return made

    def delete_recurring(self, request: Request, identity: str) -> Any:
        if self.recurring.pop(identity, None) is None:
            raise RefusedError(404, f"Job {identity} not found.")
        return {}

    def enable(self, request: Request, identity: str) -> Any:
        self.recurring[identity]["status"] = "ENABLED"
        return {}

    def disable(self, request: Request, identity: str) -> Any:
        self.recurring[identity]["status"] = "DISABLED"
        return {}


_ROUTES = (
    ("GET", "/healthz", "health"),
    ("GET", "/pipelines", "list_pipelines"),
    ("POST", "/pipelines", "create_pipeline"),
    ("GET", "/pipelines/([^/]+)/versions", "list_versions"),
    ("POST", "/pipelines/upload_version", "upload_version"),
    ("GET", "/experiments", "list_experiments"),
    ("POST", "/experiments", "create_experiment"),
    ("POST", "/runs", "create_run"),
    ("GET", "/runs/([^/]+)", "get_run"),
    ("GET", "/recurringruns", "list_recurring"),
    ("POST", "/recurringruns", "create_recurring"),
    ("DELETE", "/recurringruns/([^/:]+)", "delete_recurring"),
    ("POST", "/recurringruns/([^/:]+):enable", "enable"),
    ("POST", "/recurringruns/([^/:]+):disable", "disable"),
)


def parse_specification(text: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads an upload as `NewV2SpecTemplate` does: by message, refusing what it does not know."""
    from google.protobuf import json_format
    from kfp.pipeline_spec import pipeline_spec_pb2

    documents = [d for d in yaml.safe_load_all(text) if d is not None]
    specs = [d for d in documents if "pipelineInfo" in d]
    platforms = [d for d in documents if "platforms" in d]
    if len(specs) != 1 or len(platforms) > 1:
        raise RefusedError(400, "no pipeline spec is provided")
    try:
        json_format.ParseDict(specs[0], pipeline_spec_pb2.PipelineSpec())
        for platform in platforms:
            json_format.ParseDict(platform, pipeline_spec_pb2.PlatformSpec())
    except json_format.ParseError as error:
        raise RefusedError(400, f"invalid v2 pipeline spec: {error}") from error
    if specs[0]["schemaVersion"] != "2.1.0":
        raise RefusedError(400, "KFP only supports schema version 2.1.0")
    return specs[0], platforms[0] if platforms else {}


def _only(body: dict[str, Any], allowed: set[str]) -> None:
    unknown = set(body) - allowed
    if unknown:
        raise RefusedError(400, f"unknown field {sorted(unknown)}")


def _page(key: str, found: list[Any], request: Request) -> Any:
    """One object a page, so that whoever reads the first page only is found out."""
    wanted = json.loads(request.query.get("filter") or "{}").get("predicates", [])
    for predicate in wanted:
        assert (predicate["operation"], predicate["key"]) == ("EQUALS", "display_name")
        found = [f for f in found if f["display_name"] == predicate["stringValue"]]
    at = int(request.query.get("page_token") or 0)
    more = {"next_page_token": str(at + 1)} if at + 1 < len(found) else {}
    return {key: found[at : at + 1], "total_size": len(found), **more}


def _id() -> str:
    return str(uuid.uuid4())


class _Handler(BaseHTTPRequestHandler):
    content: Content

    def _serve(self) -> None:
        url = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        request = Request(
            self.command,
            url.path,
            {key: values[0] for key, values in parse_qs(url.query).items()},
            self.headers.get("Authorization") or "",
            _body(self.headers.get("Content-Type") or "", self.rfile.read(length)),
        )
        try:
            status, answer = 200, self.content.answer(request)
        except RefusedError as error:
            details: list[Any] = []
            status = error.status
            answer = {
                "error": error.message, "code": 5, "message": error.message, "details": details,
            }  # fmt: skip
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_DELETE = _serve  # noqa: N815 - the base class's names

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


def _body(kind: str, data: bytes) -> Any:
    if kind.startswith("multipart/form-data"):
        head = f"Content-Type: {kind}\r\n\r\n".encode()
        message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + data)
        (part,) = message.iter_parts()
        assert part.get_param("name", header="content-disposition") == "uploadfile"
        return part.get_payload(decode=True)
    return json.loads(data) if data else None


@contextlib.contextmanager
def serving(content: Content) -> Iterator[str]:
    """Serves on a free port of loopback; gives the URL."""
    handler = type("Handler", (_Handler,), {"content": content})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
