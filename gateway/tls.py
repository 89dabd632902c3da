r"""`--ssl_config_file`: the server's certificate, and whether clients need one.

The file is a tensorflow.serving.SSLConfig in text form (tensorflow_serving/config/
ssl_config.proto), with the PEM texts themselves in it:

    server_key: "-----BEGIN PRIVATE KEY-----\n..."
    server_cert: "-----BEGIN CERTIFICATE-----\n..."
    custom_ca: "-----BEGIN CERTIFICATE-----\n..."
    client_verify: false

TensorFlow Serving applies it to gRPC only. `ServerTls.ssl_context` makes the same of it for others.
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificates
from google.protobuf import descriptor_pb2, descriptor_pool, text_format

from tfx_encore.schemas.compat import message_class
from tfx_encore.schemas.errors import ConfigError

_MAX_BYTES = 2**20


@dataclass(frozen=True)
class ServerTls:
    """A server's certificate, and who is let in. The PEM texts fit each other.

    Attributes:
        key: private key, PEM, not encrypted.
        certificate: certificate and whatever leads from it to the root, PEM.
        custom_ca: certificates that vouch for clients, PEM; empty for none.
        client_verify: whether a client must show a certificate that `custom_ca` vouches for.
    """

    key: bytes = field(repr=False)
    certificate: bytes
    custom_ca: bytes = b""
    client_verify: bool = False

    def grpc_credentials(self) -> Any:
        """Returns grpc.ServerCredentials."""
        import grpc

        return grpc.ssl_server_credentials(
            [(self.key, self.certificate)],
            root_certificates=self.custom_ca or None,
            require_client_auth=self.client_verify,
        )

    def ssl_context(self) -> ssl.SSLContext:
        """Returns the same for servers that use Python's ssl; TLS 1.2 at least.

        Raises:
            ssl.SSLError: the PEM texts do not fit each other.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        with _MemoryFile(self.certificate) as certificate, _MemoryFile(self.key) as key:
            context.load_cert_chain(certificate, key)
        if self.custom_ca:
            context.load_verify_locations(cadata=self.custom_ca.decode("ascii"))
        if self.client_verify:
            context.verify_mode = ssl.CERT_REQUIRED
        return context


def read_ssl_config(path: str | Path) -> ServerTls:
    """Reads and checks an `--ssl_config_file`.

    Raises:
        ConfigError: it cannot be read; a field is unknown, missing or not what it should be; the
            key is not the certificate's.
    """
    file = Path(path)
    try:
        if file.stat().st_size > _MAX_BYTES:
            raise ConfigError(f"larger than {_MAX_BYTES} bytes", file=str(path))
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", file=str(path)) from error
    return parse_ssl_config(text, str(path))


def parse_ssl_config(text: str, name: str) -> ServerTls:
    """Reads and checks an SSLConfig in text form; errors as `read_ssl_config`.

    Args:
        text: the message.
        name: of the file, for errors.
    """
    message = _ssl_config_class()()
    try:
        text_format.Parse(text, message)
    except text_format.ParseError as error:
        raise ConfigError(
            f"not a tensorflow.serving.SSLConfig in text form: {error}", file=name
        ) from error
    tls = ServerTls(
        message.server_key.encode(),
        message.server_cert.encode(),
        message.custom_ca.encode(),
        message.client_verify,
    )
    _check(tls, name)
    return tls


def _check(tls: ServerTls, file: str) -> None:
    _check_pem(file, "server_key", tls.key, lambda pem: load_pem_private_key(pem, None))
    _check_pem(file, "server_cert", tls.certificate, load_pem_x509_certificates)
    if tls.client_verify and not tls.custom_ca:
        raise ConfigError(
            "empty, but client_verify is true; give the certificates that vouch for clients",
            file=file,
            key="custom_ca",
        )
    if tls.custom_ca:
        _check_pem(file, "custom_ca", tls.custom_ca, load_pem_x509_certificates)
    try:
        tls.ssl_context()
    except ssl.SSLError as error:
        raise ConfigError(
            f"not the key of server_cert: {error.reason or error}", file=file, key="server_key"
        ) from error


def _check_pem(file: str, key: str, pem: bytes, load: Any) -> None:
    try:
        load(pem)
    except (ValueError, TypeError) as error:
        # The text itself is not shown: it may be a key.
        kind = "private key, not encrypted," if key == "server_key" else "certificate"
        raise ConfigError(
            f"not a {kind} in PEM form ({len(pem)} bytes); give the text itself, not a path, with "
            "\\n at the end of each line",
            file=file,
            key=key,
        ) from error


class _MemoryFile:
    """A file that is on no disk, for a library that takes nothing but paths."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._handle = -1

    def __enter__(self) -> str:
        self._handle = os.memfd_create("encore-tls", os.MFD_CLOEXEC)
        with os.fdopen(os.dup(self._handle), "wb") as file:
            file.write(self._data)
        return f"/proc/self/fd/{self._handle}"

    def __exit__(self, *_: object) -> None:
        os.close(self._handle)


@lru_cache(maxsize=1)
def _ssl_config_class() -> Any:
    """Returns the message's class; tensorflow-serving-api does not have it."""
    strings, flag = ("server_key", "server_cert", "custom_ca"), "client_verify"
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="tfx_encore/ssl_config.proto", package="tensorflow.serving", syntax="proto3"
    )
    message = file.message_type.add(name="SSLConfig")
    for number, name in enumerate((*strings, flag), start=1):
        kind = kinds.TYPE_BOOL if name == flag else kinds.TYPE_STRING
        message.field.add(name=name, number=number, type=kind, label=kinds.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_class(pool, "tensorflow.serving.SSLConfig")
