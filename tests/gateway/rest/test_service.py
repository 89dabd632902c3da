"""What the service answers, and who is told of it."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import Any

import pytest
from tensorflow.core.protobuf import meta_graph_pb2

from tfx_encore.gateway.errors import Code
from tfx_encore.gateway.metrics import GatewayMetrics
from tfx_encore.gateway.request_record import RequestRecord

Wire = Any


class Log:
    """Wants everything, and keeps it."""

    def __init__(self, room: int = 1000) -> None:
        self.room = room
        self.records: list[RequestRecord] = []

    def wants(self, model: str, code: Code) -> bool:
        return True

    def offer(self, record: RequestRecord) -> bool:
        if len(self.records) < self.room:
            self.records.append(record)
            return True
        return False


def asked(wire: Wire, *bodies: Any, path: str | None = None, **options: Any) -> list[Any]:
    """The responses to several bodies on one connection."""

    async def work() -> list[Any]:
        async with wire.serving(wire.Gateway(**options)) as gateway:
            client = await wire.connect(gateway)
            return [await client.ask(body, path or wire.path) for body in bodies]

    return wire.run(work)


def test_row_and_columnar_answers(wire: Wire) -> None:
    columnar = {"inputs": {"x": [1.0, 2.0]}}
    row, column, again = asked(wire, wire.rows(1.0, 2.0), columnar, columnar)
    assert row.json == {"predictions": [1.0, 1.0]}
    assert column.json == again.json == {"outputs": [1.0, 1.0]}
    assert column.headers["x-encore-cache"] == "hit"


def test_equal_rows_in_other_bytes_are_hits(wire: Wire) -> None:
    bodies = [b'{"instances":[7]}', b'{ "instances" : [7.0] }', b'{"instances":[{"x":7e0}]}']
    answers = asked(wire, *bodies)
    assert [one.headers["x-encore-cache"] for one in answers] == ["miss", "hit", "hit"]
    assert len({one.body for one in answers}) == 1


@pytest.mark.parametrize(
    ("body", "path", "status", "message"),
    [
        (b"", ":predict", 400, "JSON Parse error: The document is empty"),
        (b"instances = [1, 2]", ":predict", 400, "JSON Parse error: Invalid value"),
        (b'{"instances": ["x"]}', ":predict", 400, "not of expected type: float"),
        (
            *(b'{"signature_name": 100}', ":predict", 400),
            "'signature_name' key must be a string value.",
        ),
        (
            *(b'{"signature_name": "no", "instances": [1]}', ":predict", 400),
            'Serving signature name: "no" not found in signature def',
        ),
        (
            *(b'{"instances": [1]}', "/versions/9:predict", 404),
            "Servable not found for request: Specific(m, 9)",
        ),
        (
            *(b'{"instances": ["x"]}', "/labels/no:predict", 400),
            "Unrecognized servable version label: no",
        ),
        (b"[", "/versions/9:predict", 400, "JSON Parse error"),
        (b'{"instances": [-1]}', ":predict", 400, "negative"),
        (b'{"instances": [13]}', ":predict", 503, "not now"),
        (
            *(b'{"examples": [{}], "signature_name": "no"}', ":classify", 400),
            "No signature was found with the name: no",
        ),
        (b'{"examples": [{}]}', ":regress", 400, "No regression inputs found"),
    ],
)
def test_errors_are_those_of_tensorflow_serving(
    wire: Wire, body: bytes, path: str, status: int, message: str
) -> None:
    # The second is answered as the first, whatever is remembered of it.
    for answer in asked(wire, body, body, path=f"/v1/models/m{path}"):
        assert answer.status == status
        assert list(answer.json) == ["error"]
        assert message in answer.json["error"]
        assert answer.headers["content-type"] == "application/json"
        assert "x-encore-cache" not in answer.headers


def test_a_refused_body_is_never_kept(wire: Wire) -> None:
    async def work() -> tuple[int, set[int]]:
        async with wire.serving() as gateway:
            client = await wire.connect(gateway)
            bodies = [b'{"instances": [-1]}', b'{"instances": [1], "x": 1}', b"{"]
            found = {(await client.ask(body)).status for body in bodies * 6}
            return len(gateway.service.raw), found

    kept, found = wire.run(work)
    assert found == {400} or found == {200, 400}
    # Of these only the one with a name that nobody reads is answered.
    assert kept == (1 if 200 in found else 0)


def test_classify_and_regress(wire: Wire) -> None:
    async def work() -> list[Any]:
        async with wire.serving() as gateway:
            client = await wire.connect(gateway)
            classify = {"signature_name": "classify", "examples": [{"x": 1.0}, {"x": 2.0}]}
            regress = {"signature_name": "regress", "examples": [{"x": 1.0}]}
            paths = [f"/v1/models/m:{verb}" for verb in ("classify", "classify", "regress")]
            return [
                await client.ask(body, path)
                for body, path in zip([classify, classify, regress], paths, strict=True)
            ]

    first, second, regressed = wire.run(work)
    assert first.json == second.json == {"results": [[["yes", 1.0]], [["yes", 1.0]]]}
    assert [one.headers["x-encore-cache"] for one in (first, second)] == ["miss", "hit"]
    assert regressed.json == {"results": [1.0]}
    assert regressed.headers["x-encore-cache"] == "off"


def test_status_and_metadata(wire: Wire) -> None:
    async def work() -> list[Any]:
        async with wire.serving() as gateway:
            servable = gateway.servable(3)
            definition = meta_graph_pb2.SignatureDef(method_name="tensorflow/serving/predict")
            servable.model.signature_def = {"serving_default": definition}
            gateway.publish(servable, labels={"stable": 3})
            client = await wire.connect(gateway)
            base = "/v1/models/m"
            paths = [base, f"{base}/versions/3", f"{base}/labels/stable/metadata", "/v1/models/no"]
            return [await client.get(path) for path in [*paths, "/v1/models"]]

    status, version, metadata, missing, nameless = wire.run(work)
    assert status.json["model_version_status"][0]["status"] == {
        "error_code": "OK",
        "error_message": "",
    }
    assert version.json["model_version_status"][0]["version"] == "3"
    assert metadata.json["model_spec"]["name"] == "m"
    assert metadata.json["model_spec"]["version"] == "3"
    found = metadata.json["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert found["method_name"] == "tensorflow/serving/predict"
    assert missing.status == 404
    assert missing.json == {"error": "Could not find any versions of model no"}
    assert nameless.json == {"error": "Missing model name in request."}


def test_health_readiness_and_metrics(wire: Wire) -> None:
    is_ready: list[bool] = []

    async def slow_page() -> tuple[str, bytes]:
        await asyncio.sleep(0)
        return "text/plain; version=0.0.4", b"a 1\n"

    async def work() -> list[Any]:
        gateway = wire.Gateway(
            ready=lambda: bool(is_ready),
            metrics=slow_page,
            metrics_paths=("/metrics", "/monitoring/prometheus/metrics"),
        )
        async with wire.serving(gateway):
            client = await wire.connect(gateway)
            answers = [await client.get(path) for path in ("/healthz", "/readyz", "/metrics")]
            is_ready.append(True)
            answers.append(await client.get("/readyz"))
            answers.append(await client.get("/monitoring/prometheus/metrics"))
            return answers

    health, not_ready, page, ready, other = wire.run(work)
    assert [one.status for one in (health, not_ready, ready)] == [200, 503, 200]
    assert page.body == other.body == b"a 1\n"
    assert page.headers["content-type"] == "text/plain; version=0.0.4"


def test_cors_headers_are_sent_if_wanted(wire: Wire) -> None:
    async def work() -> list[Any]:
        async with wire.serving(wire.Gateway(cors=True)) as gateway:
            client = await wire.connect(gateway)
            ask = [await client.ask(wire.rows(1.0)) for _ in range(5)]
            preflight = await client.get(wire.path, "OPTIONS", Origin="https://a.example")
            refused = await client.get(wire.path, "OPTIONS")
            return [*ask, preflight, refused]

    *answers, refused = wire.run(work)
    for answer in answers:
        assert answer.status == 200
        assert answer.headers["access-control-allow-origin"] == "*"
        assert answer.headers["access-control-allow-methods"] == "post, get"
    assert answers[-1].body == b""
    assert refused.status == 400
    assert refused.json == {"error": "Origin header is missing in CORS preflight"}


def test_a_request_that_takes_too_long_fails_and_the_next_does_not(wire: Wire) -> None:
    async def work() -> tuple[Any, Any]:
        async with wire.serving(wire.Gateway(timeout_seconds=0.05)) as gateway:
            model = gateway.serve(2)
            model.gate.clear()
            client = await wire.connect(gateway)
            late = await client.ask(wire.rows(1.0))
            model.gate.set()
            await wire.until(lambda: gateway.cache._flights is not None and model.calls == 1)
            return late, await client.ask(wire.rows(2.0))

    late, after = wire.run(work)
    assert late.status == 504
    assert late.json == {"error": "Timed out waiting for notification"}
    assert after.status == 200


def test_a_bug_in_a_model_is_an_internal_error(wire: Wire) -> None:
    async def work() -> Any:
        async with wire.serving() as gateway:
            gateway.serve(2).broken = True
            client = await wire.connect(gateway)
            broken = await client.ask(wire.rows(1.0))
            assert (await client.get("/healthz")).status == 200
            return broken

    answer = wire.run(work)
    assert answer.status == 500
    assert answer.json == {"error": "Internal error."}


def test_the_observer_hears_of_every_request_on_every_way(wire: Wire) -> None:
    async def work() -> Any:
        async with wire.serving() as gateway:
            client = await wire.connect(gateway)
            for _ in range(7):  # miss, hit, by its body, and by everything received
                await client.ask(wire.rows(1.0, 2.0))
            await client.ask(b"{")
            await client.ask(wire.rows(1.0), "/v1/models/no:predict")
            await client.get("/v1/models/m")
            await client.get("/v1/nothing")
            return gateway

    gateway = wire.run(work)
    told = gateway.told.requests
    assert [one["status"] for one in told] == ["miss", *["hit"] * 6, *["error"] * 2, "off", "error"]
    assert [one["code"] for one in told[7:]] == [3, 5, 0, 3]
    assert {one["method"] for one in told[:9]} == {"Predict"}
    assert [one["model"] for one in told[7:]] == ["m", "", "m", ""]
    assert {(one["version"], one["signature"]) for one in told[:7]} == {(1, "serving_default")}
    assert all(0 <= one["seconds"] < 60 for one in told)
    assert gateway.told.counted == [("m", 0, 2), *[("m", 2, 2)] * 6]


def test_metrics_count_repeated_responses_too(wire: Wire) -> None:
    async def work() -> bytes:
        gateway = wire.Gateway()
        metrics = GatewayMetrics()
        gateway.service._reporter._observer = metrics
        async with wire.serving(gateway):
            client = await wire.connect(gateway)
            for _ in range(9):
                await client.ask(wire.rows(1.0))
        return metrics.render()[1]

    page = wire.run(work).decode()
    hits = [line for line in page.splitlines() if 'status="hit"' in line or 'cache="hit"' in line]
    assert any(line.endswith((" 8", " 8.0")) for line in hits), page


def test_the_request_log_gets_what_went_over_the_wire(wire: Wire) -> None:
    log = Log()

    async def work() -> None:
        async with wire.serving(wire.Gateway(log=log)) as gateway:
            gateway.publish(gateway.servable(4), labels={"stable": 4})
            client = await wire.connect(gateway)
            path = "/v1/models/m/labels/stable:predict"
            packed = gzip.compress(json.dumps(wire.rows(1.0)).encode())
            for number in range(5):
                await client.ask(packed, path, Content_Encoding="gzip", X_Request_Id=f"a{number}")
            for _ in range(5):
                await client.ask(wire.rows(1.0), path)
            await client.ask(wire.rows(-1.0))

    wire.run(work)
    *good, bad = log.records
    assert [one.status for one in good] == ["miss", *["hit"] * 9]
    assert {one.request for one in good} == {json.dumps(wire.rows(1.0)).encode()}
    assert {one.response for one in good} == {b'{\n    "predictions": [4.0\n    ]\n}'}
    assert {(one.version, one.label, one.method) for one in good} == {(4, "stable", "Predict")}
    assert [one.request_id for one in good] == [*(f"a{n}" for n in range(5)), *[""] * 5]
    assert {one.fingerprint for one in good} == {f"sha256:{4:064x}"}
    assert (bad.code, bad.message, bad.status) == (Code.INVALID_ARGUMENT, "negative", "error")
    assert bad.response == b""


def test_each_way_of_answering_gives_the_same_bytes(wire: Wire) -> None:
    async def work() -> list[bytes]:
        async with wire.serving(wire.Gateway(headers=False)) as gateway:
            client = await wire.connect(gateway)
            return [(await client.ask(wire.rows(1.0, 5.5))).body for _ in range(8)]

    assert len(set(wire.run(work))) == 1


def test_without_a_budget_nothing_is_kept_whole(wire: Wire) -> None:
    async def work() -> int:
        async with wire.serving(wire.Gateway(raw_bytes=0)) as gateway:
            client = await wire.connect(gateway)
            for _ in range(6):
                assert (await client.ask(wire.rows(1.0))).status == 200
            return len(gateway.service.raw)

    assert wire.run(work) == 0


def test_an_erasure_leaves_nothing_of_requests_and_answers(wire: Wire) -> None:
    async def work() -> tuple[int, Any, Any]:
        async with wire.serving() as gateway:
            client = await wire.connect(gateway)
            for _ in range(6):
                await client.ask(wire.rows(4.25))
            service = gateway.service
            writer = service._writer
            service.raw.clear()
            assert service._writer is not writer
            assert not service._quick._ready
            await gateway.cache.forget()
            return len(service.raw), service.raw.bytes_used, await client.ask(wire.rows(4.25))

    kept, used, answer = wire.run(work)
    assert (kept, used) == (0, 0)
    assert answer.headers["x-encore-cache"] == "miss"
