"""What differs between the supported releases of TFX and its parts, each with its reason.

The same code runs with TFX 1.16 (TensorFlow 2.16, protobuf 3.20 and newer, Python 3.10) and with
TFX 1.21 (TensorFlow 2.21, protobuf 6, Python 3.11 to 3.13). A file that has to ask which one is
there asks here; a test keeps it so. What is found is the thing itself, never a version number.

Nothing of theirs is loaded before it is asked for, so pure files may import this one.
"""

from __future__ import annotations

from typing import Any


def message_class(pool: Any, name: str) -> Any:
    """Returns the class of the message `name` of a `google.protobuf` descriptor pool.

    protobuf has `GetMessageClass` since 4.22, and since 5 nothing else; the set for TFX 1.16 holds
    3.20, which has only the factory.

    Raises:
        KeyError: the pool has no such message.
    """
    from google.protobuf import message_factory

    descriptor = pool.FindMessageTypeByName(name)
    if hasattr(message_factory, "GetMessageClass"):
        return message_factory.GetMessageClass(descriptor)
    return message_factory.MessageFactory(pool).GetPrototype(descriptor)


def is_repeated(field: Any) -> bool:
    """Returns whether a field of a protobuf message, given by its descriptor, is repeated.

    protobuf 6, of TFX 1.21, has this as a property and warns of `label`, which is to go; 3.20, of
    TFX 1.16, has only the label.
    """
    from google.protobuf.descriptor import FieldDescriptor

    if hasattr(FieldDescriptor, "is_repeated"):
        return bool(field.is_repeated)
    return bool(field.label == FieldDescriptor.LABEL_REPEATED)


def kubeflow_call(api: Any, service: str, name: str) -> Any:
    """Returns a call of one of the services of `kfp.Client`, as `create_pipeline`.

    The client of Kubeflow Pipelines 2.16 and newer, of TFX 1.21, puts the service's name before
    that of the call (`pipeline_service_create_pipeline`) and names its argument otherwise; the one
    of TFX 1.16 does not. Hand the argument on by its place.

    Raises:
        AttributeError: the service has no such call.
    """
    import kfp_server_api

    if hasattr(kfp_server_api.HealthzServiceApi, "healthz_service_get_healthz"):
        name = f"{service}_{name}"
    return getattr(api, name)
