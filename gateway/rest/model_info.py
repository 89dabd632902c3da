"""Status and metadata of a model by REST.

tensorflow_serving/model_servers/get_model_status_impl.cc, and servables/tensorflow/
get_model_metadata_impl.cc.
"""

from __future__ import annotations

from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2

from tfx_encore.gateway.rest.json_response import proto_json
from tfx_encore.gateway.servable import Servable
from tfx_encore.gateway.status import VersionStatus

SIGNATURE_DEF = "signature_def"


def status_json(statuses: list[VersionStatus]) -> bytes:
    """Returns what is known of versions, as GetModelStatusResponse."""
    response = get_model_status_pb2.GetModelStatusResponse()
    for status in statuses:
        added = response.model_version_status.add(version=status.version, state=int(status.state))
        added.status.error_code = int(status.code)
        added.status.error_message = status.message
    return proto_json(response)


def metadata_json(servable: Servable) -> bytes:
    """Returns the signatures of a version, as GetModelMetadataResponse."""
    signatures = get_model_metadata_pb2.SignatureDefMap()
    for name, definition in servable.model.signature_def.items():
        signatures.signature_def[name].CopyFrom(definition)
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    response.model_spec.name = servable.name
    response.model_spec.version.value = servable.version
    response.metadata[SIGNATURE_DEF].Pack(signatures)
    return proto_json(response)
