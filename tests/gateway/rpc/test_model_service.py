"""GetModelMetadata, GetModelStatus and HandleReloadConfigRequest."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
)

from tfx_encore.gateway.errors import Code, not_found
from tfx_encore.gateway.status import VersionState, VersionStatus

INVALID = grpc.StatusCode.INVALID_ARGUMENT


def ask(kit, service, method, request, gateway=None):
    async def scenario():
        async with kit.serving(gateway or kit.Gateway()) as client:
            try:
                return await getattr(getattr(client, service), method)(request)
            except grpc.aio.AioRpcError as error:
                return error.code(), error.details()

    return asyncio.run(scenario())


def metadata_request(name="m", fields=("signature_def",), version=None):
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
    if name is not None:
        request.model_spec.name = name
        request.model_spec.SetInParent()
    if version is not None:
        request.model_spec.version.value = version
    return request


def test_metadata_holds_every_signature_of_the_version(kit):
    gateway = kit.Gateway(kit.FakeModel(1), kit.FakeModel(2))
    answer = ask(kit, "prediction", "GetModelMetadata", metadata_request(version=1), gateway)
    assert (answer.model_spec.name, answer.model_spec.version.value) == ("m", 1)
    assert answer.model_spec.signature_name == ""
    assert list(answer.metadata) == ["signature_def"]
    found = get_model_metadata_pb2.SignatureDefMap()
    assert answer.metadata["signature_def"].Unpack(found)
    assert dict(found.signature_def) == kit.definitions()


@pytest.mark.parametrize(
    ("request_", "code", "message"),
    [
        (metadata_request(None), INVALID, "Missing ModelSpec"),
        (
            metadata_request(fields=()),
            INVALID,
            "GetModelMetadataRequest must specify at least one metadata_field",
        ),
        (metadata_request(fields=("x",)), INVALID, "Metadata field x is not supported"),
        (
            metadata_request("other", fields=("signature_def", "x")),
            INVALID,
            "Metadata field x is not supported",
        ),
        (metadata_request(""), INVALID, "ModelSpec has no name specified."),
        (
            metadata_request("other"),
            grpc.StatusCode.NOT_FOUND,
            "Servable not found for request: Latest(other)",
        ),
    ],
)
def test_metadata_that_cannot_be_given_is_refused(kit, request_, code, message):
    assert ask(kit, "prediction", "GetModelMetadata", request_) == (code, message)


def status_request(version=None, label=None, name="m"):
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = name
    if version is not None:
        request.model_spec.version.value = version
    if label is not None:
        request.model_spec.version_label = label
    return request


def test_status_tells_of_every_version(kit):
    gateway = kit.Gateway()
    gateway.models.statuses = [
        VersionStatus(2, VersionState.LOADING),
        VersionStatus(1, VersionState.END, Code.RESOURCE_EXHAUSTED, "no memory"),
    ]
    answer = ask(kit, "models", "GetModelStatus", status_request(), gateway)
    status = get_model_status_pb2.ModelVersionStatus
    found = [
        (item.version, item.state, item.status.error_code, item.status.error_message)
        for item in answer.model_version_status
    ]
    assert found == [(2, status.LOADING, 0, ""), (1, status.END, 8, "no memory")]
    assert gateway.models.asked == [("m", None, None)]


def test_status_of_one_version_is_asked_for_by_number_while_a_label_is_not_looked_at(kit):
    gateway = kit.Gateway()
    ask(kit, "models", "GetModelStatus", status_request(version=0), gateway)
    ask(kit, "models", "GetModelStatus", status_request(label="stable"), gateway)
    assert gateway.models.asked == [("m", 0, None), ("m", None, None)]


def test_status_that_cannot_be_given_is_refused(kit):
    gateway = kit.Gateway()
    gateway.models.raises = not_found("Could not find version 3 of model m")
    found = ask(kit, "models", "GetModelStatus", status_request(version=3), gateway)
    assert found == (grpc.StatusCode.NOT_FOUND, "Could not find version 3 of model m")
    empty = get_model_status_pb2.GetModelStatusRequest()
    assert ask(kit, "models", "GetModelStatus", empty) == (INVALID, "Missing ModelSpec")


def test_a_configuration_is_handed_on_and_the_growth_of_metrics_told(kit):
    values = iter([3, 10, 8, 10])
    gateway = kit.Gateway(metric=lambda name: next(values))
    request = model_management_pb2.ReloadConfigRequest(metric_names=["a", "b", "a"])
    request.config.model_config_list.config.add(name="m", base_path="/models/m")
    answer = ask(kit, "models", "HandleReloadConfigRequest", request, gateway)
    assert answer.HasField("status")
    assert answer.status.error_code == 0
    assert gateway.models.configs == [request.config]
    grown = [(metric.name, metric.int64_value_increase) for metric in answer.metric]
    assert grown == [("a", 5), ("b", 0)]


@pytest.mark.parametrize("field", ["none", "custom_model_config"])
def test_only_a_list_of_models_can_be_loaded(kit, field):
    request = model_management_pb2.ReloadConfigRequest()
    if field != "none":
        getattr(request.config, field).SetInParent()
    assert ask(kit, "models", "HandleReloadConfigRequest", request) == (
        INVALID,
        "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList "
        "is currently supported",
    )


def test_an_empty_list_is_a_configuration(kit):
    gateway = kit.Gateway()
    request = model_management_pb2.ReloadConfigRequest()
    request.config.model_config_list.SetInParent()
    ask(kit, "models", "HandleReloadConfigRequest", request, gateway)
    assert gateway.models.configs == [request.config]


def test_these_calls_are_counted_too(kit):
    gateway = kit.Gateway()
    ask(kit, "models", "GetModelStatus", status_request(), gateway)
    ask(kit, "prediction", "GetModelMetadata", metadata_request("made up"), gateway)
    told = [(item["method"], item["model"], item["code"]) for item in gateway.observer.requests]
    assert told == [
        ("GetModelStatus", "m", Code.OK),
        ("GetModelMetadata", "", Code.NOT_FOUND),
    ]
    assert not gateway.log.records
