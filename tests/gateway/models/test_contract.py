"""What every LoadedModel does, whether it runs here, in another server, or is a fake."""

from __future__ import annotations

import asyncio
import contextlib

import numpy as np
import pytest

from tfx_encore.gateway.errors import Code, ServingError
from tfx_encore.gateway.model_port import LoadedModel
from tfx_encore.gateway.models.local_model import LocalLoader
from tfx_encore.gateway.models.signature_reading import signatures_of
from tfx_encore.gateway.models.upstream_model import UpstreamLoader


@pytest.fixture(params=["local", "upstream", "fake"])
def check(request, small_model, make_fake_small, serve_upstream):
    """Returns a function that runs a coroutine function on a model of each kind."""

    @contextlib.asynccontextmanager
    async def local():
        loader = LocalLoader(threads=2, intra_op=1)
        model = await loader.load("small", 7, small_model)
        yield model
        await model.close()
        loader.close()

    @contextlib.asynccontextmanager
    async def upstream():
        async with local() as behind, serve_upstream(behind) as server:
            loader = UpstreamLoader(server.address, deadline_seconds=30)
            model = await loader.load("small", 7, small_model)
            yield model
            await model.close()
            await loader.close()

    @contextlib.asynccontextmanager
    async def fake():
        yield make_fake_small(name="small", version=7)

    kinds = {"local": local, "upstream": upstream, "fake": fake}

    def run(work):
        async def main():
            async with kinds[request.param]() as model:
                return await work(model)

        return asyncio.run(main())

    return run


def refused(check, signature, given, outputs):
    """Runs what must fail; returns the error."""

    async def work(model):
        with pytest.raises(ServingError) as caught:
            await model.run(signature, given, outputs)
        return caught.value

    return check(work)


def test_it_has_the_attributes_of_the_port(check):
    async def work(model):
        assert isinstance(model, LoadedModel)
        assert (model.name, model.version) == ("small", 7)

    check(work)


def test_it_answers_the_batch_that_it_is_given(check, make_inputs, expected_scores):
    async def work(model):
        for rows in (1, 2, 64):
            given = make_inputs(rows)
            found = await model.run("serving_default", given, ("score", "shout"))
            assert list(found) == ["score", "shout"]
            assert found["score"].dtype == np.float32
            np.testing.assert_allclose(found["score"], expected_scores(given), rtol=1e-5)

    check(work)


def test_strings_are_arrays_of_bytes_whatever_bytes(check, make_inputs):
    async def work(model):
        found = await model.run("serving_default", make_inputs(5), ("shout",))
        assert found["shout"].dtype == object
        assert found["shout"].tolist() == [b"RED", b"GREEN", b"BLUE", b"\xff\x00", b""]

    check(work)


def test_only_the_outputs_asked_for_come_in_the_order_asked(check, make_inputs):
    async def work(model):
        one = await model.run("serving_default", make_inputs(), ("shout",))
        two = await model.run("serving_default", make_inputs(), ("shout", "score"))
        assert list(one) == ["shout"]
        assert list(two) == ["shout", "score"]

    check(work)


def test_a_batch_of_no_rows_has_an_answer_of_no_rows(check, make_inputs):
    async def work(model):
        found = await model.run("serving_default", make_inputs(0), ("score", "shout"))
        assert found["score"].shape == (0,)
        assert found["shout"].shape == (0,)

    check(work)


def test_an_output_without_dimensions_is_an_array(check):
    async def work(model):
        found = await model.run("total", {"x": np.ones((3, 2), np.float32)}, ("total",))
        assert isinstance(found["total"], np.ndarray)
        assert found["total"].shape == ()
        assert found["total"] == 6

    check(work)


def test_another_dtype_is_refused_not_cast(check, make_inputs):
    given = make_inputs()
    for wrong in (np.float64, np.float16, np.int32):
        error = refused(
            check, "serving_default", {**given, "x": given["x"].astype(wrong)}, ("score",)
        )
        assert error.code == Code.INVALID_ARGUMENT


def test_rows_that_do_not_fit_each_other_are_refused(check, make_inputs):
    given = {**make_inputs(3), "word": make_inputs(2)["word"]}
    assert refused(check, "serving_default", given, ("score",)).code == Code.INVALID_ARGUMENT


def test_missing_and_unknown_inputs_are_refused(check, make_inputs):
    given = make_inputs()
    missing = refused(check, "serving_default", {"x": given["x"]}, ("score",))
    assert missing.code == Code.INVALID_ARGUMENT
    assert "Missing but required: {word}" in missing.message
    extra = refused(check, "serving_default", {**given, "z": given["x"]}, ("score",))
    assert extra.code == Code.INVALID_ARGUMENT
    assert "Sent extra: {z}" in extra.message


def test_unknown_signatures_and_outputs_are_refused(check, make_inputs):
    error = refused(check, "no_such", make_inputs(), ("score",))
    assert error.code == Code.FAILED_PRECONDITION
    error = refused(check, "serving_default", make_inputs(), ("no_such",))
    assert error.code == Code.INVALID_ARGUMENT


def test_it_answers_after_a_refusal(check, make_inputs):
    async def work(model):
        with pytest.raises(ServingError):
            await model.run("serving_default", {}, ("score",))
        found = await model.run("serving_default", make_inputs(1), ("score",))
        assert found["score"].shape == (1,)

    check(work)


def test_calls_at_once_get_their_own_answers(check, make_inputs, expected_scores):
    async def work(model):
        given = [make_inputs(rows) for rows in range(1, 41)]
        found = await asyncio.gather(
            *(model.run("serving_default", item, ("score",)) for item in given)
        )
        for item, answer in zip(given, found, strict=True):
            np.testing.assert_allclose(answer["score"], expected_scores(item), rtol=1e-5)

    check(work)


def test_signatures_are_those_of_the_definitions_without_tensorflows_own(check):
    async def work(model):
        assert model.signatures == signatures_of(model.signature_def)
        assert not any(name.startswith("__saved_model") for name in model.signatures)
        takes = model.signatures["serving_default"].inputs
        assert (takes["x"].dtype, takes["x"].shape) == ("float32", (-1, 2))
        assert (takes["word"].dtype, takes["word"].shape) == ("string", (-1,))

    check(work)
