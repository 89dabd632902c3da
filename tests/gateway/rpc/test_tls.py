"""Certificates from an `--ssl_config_file`."""

from __future__ import annotations

import asyncio
import ssl

import grpc
import pytest
import trustme
from tensorflow_serving.apis import prediction_service_pb2_grpc

from tfx_encore.gateway.rpc.server import serve_grpc
from tfx_encore.gateway.tls import parse_ssl_config, read_ssl_config
from tfx_encore.schemas.errors import ConfigError

CA, STRANGERS = trustme.CA(), trustme.CA()
AUTHORITY, STRANGER_AUTHORITY = CA.cert_pem.bytes(), STRANGERS.cert_pem.bytes()


def signed(authority, name):
    """A key and a certificate, as PEM."""
    made = authority.issue_cert(name, "127.0.0.1")
    return made.private_key_pem.bytes(), made.cert_chain_pems[0].bytes()


SERVER, CLIENT = signed(CA, "localhost"), signed(CA, "client")
STRANGER = signed(STRANGERS, "client")


def text(**fields):
    lines = []
    for name, value in fields.items():
        pem = isinstance(value, bytes)
        shown = '"' + value.decode().replace("\n", "\\n") + '"' if pem else value
        lines.append(f"{name}: {shown}")
    return "\n".join(lines)


PLAIN = text(server_key=SERVER[0], server_cert=SERVER[1])
MUTUAL = text(
    server_key=SERVER[0], server_cert=SERVER[1], custom_ca=AUTHORITY, client_verify="true"
)


def predict(kit, config, credentials, tmp_path):
    """Asks a server that was started from a file."""
    file = tmp_path / "ssl.config"
    file.write_text(config)

    async def scenario():
        gateway = kit.Gateway()
        listener = await serve_grpc(gateway.service, "127.0.0.1", 0, tls=read_ssl_config(file))
        address = f"127.0.0.1:{listener.port}"
        channel = (
            grpc.aio.secure_channel(address, credentials)
            if credentials
            else grpc.aio.insecure_channel(address)
        )
        try:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            return await stub.Predict(kit.predict_request(), timeout=20)
        except grpc.aio.AioRpcError as error:
            return error.code()
        finally:
            await channel.close()
            await listener.close(0)

    return asyncio.run(scenario())


def test_a_client_that_knows_the_authority_is_answered(kit, tmp_path):
    credentials = grpc.ssl_channel_credentials(AUTHORITY)
    answer = predict(kit, PLAIN, credentials, tmp_path)
    assert list(answer.outputs["y"].float_val) == [2.0]


def test_a_client_without_tls_or_with_another_authority_is_not(kit, tmp_path):
    assert predict(kit, PLAIN, None, tmp_path) == grpc.StatusCode.UNAVAILABLE
    credentials = grpc.ssl_channel_credentials(STRANGER_AUTHORITY)
    assert predict(kit, PLAIN, credentials, tmp_path) == grpc.StatusCode.UNAVAILABLE


def test_mutual_tls_lets_in_only_whom_the_authority_vouches_for(kit, tmp_path):
    known = grpc.ssl_channel_credentials(AUTHORITY, *CLIENT)
    answer = predict(kit, MUTUAL, known, tmp_path)
    assert list(answer.outputs["y"].float_val) == [2.0]
    nobody = grpc.ssl_channel_credentials(AUTHORITY)
    assert predict(kit, MUTUAL, nobody, tmp_path) == grpc.StatusCode.UNAVAILABLE
    stranger = grpc.ssl_channel_credentials(AUTHORITY, *STRANGER)
    assert predict(kit, MUTUAL, stranger, tmp_path) == grpc.StatusCode.UNAVAILABLE


def test_the_same_file_makes_a_context_of_python():
    plain = parse_ssl_config(PLAIN, "f").ssl_context()
    mutual = parse_ssl_config(MUTUAL, "f").ssl_context()
    assert (plain.verify_mode, mutual.verify_mode) == (ssl.CERT_NONE, ssl.CERT_REQUIRED)
    assert plain.minimum_version == ssl.TLSVersion.TLSv1_2

    async def scenario():
        async def answer(_, writer):
            writer.write(b"here")
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=plain)
        port = server.sockets[0].getsockname()[1]
        client = ssl.create_default_context(cadata=AUTHORITY.decode())
        client.verify_flags |= ssl.VERIFY_X509_STRICT  # the default since Python 3.13
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client)
        try:
            return await reader.read()
        finally:
            writer.close()
            server.close()

    assert asyncio.run(scenario()) == b"here"


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ("", "server_key"),
        (text(server_key=b"/etc/key.pem", server_cert=SERVER[1]), "server_key"),
        (text(server_key=SERVER[0]), "server_cert"),
        (text(server_key=SERVER[0], server_cert=SERVER[0]), "server_cert"),
        (text(server_key=STRANGER[0], server_cert=SERVER[1]), "server_key"),
        (PLAIN + "\nclient_verify: true", "custom_ca"),
        (PLAIN + '\ncustom_ca: "no"', "custom_ca"),
    ],
)
def test_a_wrong_field_is_named_with_its_file_and_no_key_is_shown(config, field):
    with pytest.raises(ConfigError) as raised:
        parse_ssl_config(config, "ssl.config")
    assert (raised.value.file, raised.value.key) == ("ssl.config", field)
    assert "PRIVATE" not in str(raised.value)


@pytest.mark.parametrize("config", ["server_keys: 'x'", "server_key", "client_verify: 7"])
def test_text_that_is_no_such_message_is_refused(config):
    with pytest.raises(ConfigError, match="SSLConfig"):
        parse_ssl_config(config, "ssl.config")


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ConfigError, match="absent"):
        read_ssl_config(tmp_path / "absent")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="binary"):
        read_ssl_config(tmp_path / "binary")
    (tmp_path / "large").write_bytes(b"#" * 2**21)
    with pytest.raises(ConfigError, match="larger"):
        read_ssl_config(tmp_path / "large")
