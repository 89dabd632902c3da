"""PredictionService.GetModelMetadata and ModelService: what is served, and in which state.

What is refused, in which order and in which words: tensorflow_serving/servables/tensorflow/
get_model_metadata_impl.cc, model_servers/{get_model_status_impl,model_service_impl}.cc.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
)

from tfx_encore.gateway.errors import invalid
from tfx_encore.gateway.routing import Router
from tfx_encore.gateway.rpc.call import Call
from tfx_encore.gateway.rpc.messages import read
from tfx_encore.gateway.rpc.model_spec import given_spec, target_of
from tfx_encore.gateway.status import Models, VersionStatus

SIGNATURE_DEF = "signature_def"


def get_model_metadata(router: Router, call: Call) -> bytes:
    """Answers GetModelMetadata.

    Raises:
        ServingError: it is refused.
    """
    request = read(get_model_metadata_pb2.GetModelMetadataRequest, call.request)
    spec = given_spec(request)
    call.model, call.label = spec.name, spec.version_label
    _check_fields(request.metadata_field)
    servable = call.servable = router.pointer(target_of(spec)).target
    assert servable is not None  # `pointer` raises where there is none
    signatures = get_model_metadata_pb2.SignatureDefMap()
    for name, definition in servable.model.signature_def.items():
        signatures.signature_def[name].CopyFrom(definition)
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    response.model_spec.name = servable.name
    response.model_spec.version.value = servable.version
    response.metadata[SIGNATURE_DEF].Pack(signatures)
    return bytes(response.SerializeToString())


def get_model_status(models: Models, call: Call) -> bytes:
    """Answers GetModelStatus; a label is not looked at, as in TensorFlow Serving.

    Raises:
        ServingError: it is refused.
    """
    request = read(get_model_status_pb2.GetModelStatusRequest, call.request)
    spec = given_spec(request)
    call.model, call.label = spec.name, spec.version_label
    version = spec.version.value if spec.HasField("version") else None
    response = get_model_status_pb2.GetModelStatusResponse()
    for status in models.status(spec.name, version):
        _add_status(response, status)
    return bytes(response.SerializeToString())


async def handle_reload(
    models: Models, call: Call, metric: Callable[[str], int] | None = None
) -> bytes:
    """Answers HandleReloadConfigRequest.

    Args:
        models: whoever loads what the configuration says.
        call: the call.
        metric: value of a metric by its name, 0 for one that is not known; the response tells by
            how much those that the request names have grown.

    Raises:
        ServingError: it is refused.
    """
    request = read(model_management_pb2.ReloadConfigRequest, call.request)
    if request.config.WhichOneof("config") != "model_config_list":
        raise invalid(
            "ServerModelConfig type not supported by HandleReloadConfigRequest. Only "
            "ModelConfigList is currently supported"
        )
    names = tuple(dict.fromkeys(request.metric_names))
    before = {name: metric(name) if metric else 0 for name in names}
    await models.reload(request.config)
    response = model_management_pb2.ReloadConfigResponse()
    response.status.error_code = 0
    for name in names:
        grown = (metric(name) if metric else 0) - before[name]
        response.metric.add(name=name, int64_value_increase=grown)
    return bytes(response.SerializeToString())


def _check_fields(fields: Any) -> None:
    if not fields:
        raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
    for name in fields:
        if name != SIGNATURE_DEF:
            raise invalid(f"Metadata field {name} is not supported")


def _add_status(response: Any, status: VersionStatus) -> None:
    added = response.model_version_status.add(version=status.version, state=int(status.state))
    added.status.error_code = int(status.code)
    added.status.error_message = status.message
