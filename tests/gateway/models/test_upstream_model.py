"""A model in another server: it waits for it, names its version, and trusts only answers of it."""

from __future__ import annotations

import asyncio

import grpc
import numpy as np
import pytest
import trustme

from tfx_encore.gateway.errors import Code, ServingError
from tfx_encore.gateway.models.upstream_model import UpstreamLoader, UpstreamTls
from tfx_encore.gateway.status import VersionState
from tfx_encore.schemas.errors import ConfigError

LOADING = (VersionState.LOADING, Code.OK, "")
AVAILABLE = (VersionState.AVAILABLE, Code.OK, "")


@pytest.fixture
def run(make_fake_small, serve_upstream):
    """Returns a function that runs a coroutine function on (loader, upstream server)."""

    def run(work, model=None, tls=None, credentials=None, **options):
        async def main():
            behind = model or make_fake_small(name="small", version=3)
            async with serve_upstream(behind, credentials) as server:
                settings = {"deadline_seconds": 10.0, "poll_seconds": 0.01, "load_seconds": 10.0}
                loader = UpstreamLoader(server.address, **{**settings, **options}, tls=tls)
                try:
                    return await work(loader, server)
                finally:
                    await loader.close()

        return asyncio.run(main())

    return run


def failure(run, prepare, **options):
    """Loads what cannot be loaded; returns the error."""

    async def work(loader, server):
        prepare(server)
        with pytest.raises(ServingError) as caught:
            await loader.load("small", 3, "/nowhere")
        return caught.value

    return run(work, **options)


def test_each_request_names_the_version(run, make_inputs):
    async def work(loader, server):
        model = await loader.load("small", 3, "/nowhere")
        await model.run("serving_default", make_inputs(), ("score",))
        return server.requests[0]

    request = run(work)
    assert request.model_spec.name == "small"
    assert request.model_spec.version.value == 3
    assert request.model_spec.signature_name == "serving_default"
    assert list(request.output_filter) == ["score"]


def test_an_answer_of_another_version_is_no_answer(run, make_inputs):
    async def work(loader, server):
        model = await loader.load("small", 3, "/nowhere")
        server.answers_version = 4
        with pytest.raises(ServingError) as caught:
            await model.run("serving_default", make_inputs(), ("score",))
        return caught.value

    error = run(work)
    assert error.code == Code.INTERNAL
    assert "version 4 of small answered where 3 was asked for" in error.message


def test_loading_waits_until_the_version_is_available(run):
    async def work(loader, server):
        unknown = (VersionState.UNKNOWN, Code.NOT_FOUND, "Could not find version 3 of model small")
        server.states = [unknown, (VersionState.START, Code.OK, ""), LOADING, AVAILABLE]
        model = await loader.load("small", 3, "/nowhere")
        return model.signatures.keys(), server.states

    signatures, left = run(work)
    assert set(signatures) == {"serving_default", "total"}
    assert left == [AVAILABLE]


def test_a_version_that_the_server_cannot_load_fails_with_its_reason(run):
    def prepare(server):
        server.states = [LOADING, (VersionState.END, Code.RESOURCE_EXHAUSTED, "not enough memory")]

    error = failure(run, prepare)
    assert (error.code, error.message) == (Code.RESOURCE_EXHAUSTED, "not enough memory")


def test_loading_does_not_wait_for_ever(run):
    def prepare(server):
        server.states = [LOADING]

    error = failure(run, prepare, load_seconds=0.1)
    assert error.code == Code.UNAVAILABLE
    assert "its state is LOADING" in error.message


def test_the_server_must_have_the_signatures_of_the_files_here(run, small_model):
    async def work(loader, server):
        with pytest.raises(ServingError) as caught:
            await loader.load("small", 3, small_model)
        return caught.value

    error = run(work)
    assert error.code == Code.FAILED_PRECONDITION
    assert small_model in error.message


def test_a_server_that_is_gone_is_unavailable(run, make_inputs, make_fake_small):
    async def work(loader, server):
        model = await loader.load("small", 3, "/nowhere")
        await loader.close()  # the channel, then a port where nobody listens
        gone = UpstreamLoader("127.0.0.1:1", deadline_seconds=5.0, load_seconds=0.05)
        with pytest.raises(ServingError) as load:
            await gone.load("small", 3, "/nowhere")
        await gone.close()
        return model, load.value.code

    assert run(work)[1] == Code.UNAVAILABLE


def test_errors_of_the_server_keep_their_code_and_words(run, make_inputs, fake_model):
    class Failing(fake_model):
        async def run(self, signature, inputs, outputs):
            raise ServingError(failing[0], "in its words")

    model = Failing(s=({"x": ("FLOAT", (-1,))}, {"y": ("FLOAT", (-1,))}, None))
    failing = [Code.UNAVAILABLE]

    async def work(loader, server):
        loaded = await loader.load("small", 3, "/nowhere")
        seen = []
        for code in (Code.UNAVAILABLE, Code.INVALID_ARGUMENT, Code.RESOURCE_EXHAUSTED):
            failing[0] = code
            with pytest.raises(ServingError) as caught:
                await loaded.run("s", {"x": np.float32([1])}, ("y",))
            assert caught.value.message == "in its words"
            seen.append(caught.value.code)
        return seen

    assert run(work, model) == [Code.UNAVAILABLE, Code.INVALID_ARGUMENT, Code.RESOURCE_EXHAUSTED]


def test_a_server_that_does_not_answer_in_time(run, make_inputs):
    async def work(loader, server):
        model = await loader.load("small", 3, "/nowhere")
        server.delay = asyncio.Event()
        with pytest.raises(ServingError) as caught:
            await model.run("serving_default", make_inputs(), ("score",))
        server.delay.set()
        return caught.value.code

    assert run(work, deadline_seconds=0.5) == Code.DEADLINE_EXCEEDED


def test_messages_larger_than_grpcs_default_pass_both_ways(run, fake_model):
    takes, gives = {"x": ("STRING", (-1,))}, {"y": ("STRING", (-1,))}
    model = fake_model(echo=(takes, gives, lambda x: {"y": x}))

    async def work(loader, server):
        loaded = await loader.load("small", 3, "/nowhere")
        large = np.array([b"z" * 6_000_000], dtype=object)
        found = await loaded.run("echo", {"x": large}, ("y",))
        return found["y"][0] == large[0]

    assert run(work, model)


def test_both_sides_show_their_certificates(run, tmp_path, make_inputs):
    authority = trustme.CA()
    made = authority.issue_cert("upstream")
    key, certificate = made.private_key_pem, made.cert_chain_pems[0]
    own = {"certificate_file": tmp_path / "cert.pem", "key_file": tmp_path / "key.pem"}
    certificate.write_to_path(own["certificate_file"])
    key.write_to_path(own["key_file"])
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    credentials = grpc.ssl_server_credentials(
        [(key.bytes(), certificate.bytes())], authority.cert_pem.bytes(), require_client_auth=True
    )
    tls = UpstreamTls(ca_file=tmp_path / "ca.pem", server_name="upstream", **own)

    async def work(loader, server):
        model = await loader.load("small", 3, "/nowhere")
        return await model.run("serving_default", make_inputs(2), ("score",))

    assert run(work, tls=tls, credentials=credentials)["score"].shape == (2,)
    stranger = UpstreamTls(ca_file=tmp_path / "ca.pem")
    refused = failure(
        run, lambda server: None, tls=stranger, credentials=credentials, load_seconds=0.05
    )
    assert refused.code == Code.UNAVAILABLE


def test_a_certificate_that_is_not_there_names_the_file(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.pem: cannot be read: .*; name a PEM file"):
        UpstreamTls(ca_file=tmp_path / "none.pem").credentials()
