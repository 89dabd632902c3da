"""Batching: what is merged, what waits, what is refused, and that everyone gets their own rows."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfx_encore.gateway.batching import Alone, Batcher
from tfx_encore.gateway.batching_parameters import BatchingParameters, unbounded
from tfx_encore.gateway.errors import Code, ServingError, invalid


def parameters(**values):
    return BatchingParameters(**{"num_batch_threads": 1, "max_batch_size": 8, **values})


def rows(*values, dtype=np.float32):
    return {"x": np.array(values, dtype=dtype)}


def call(batcher, *values, outputs=("y",), signature="s", dtype=np.float32):
    return asyncio.ensure_future(batcher.run(signature, rows(*values, dtype=dtype), outputs))


def test_a_call_that_finds_a_free_slot_runs_as_it_came(puppet, watching):
    async def scenario():
        model = puppet()
        batcher = Batcher(model, parameters(), watching)
        inputs = rows(1, 2)
        assert (await batcher.run("s", inputs, ("y",)))["y"].tolist() == [3, 5]
        assert model.runs[0].inputs is inputs
        assert watching.batches == [(2, 0)]
        assert watching.waiting == []

    asyncio.run(scenario())


def test_what_gathers_while_the_model_is_busy_goes_as_one_batch_oldest_first(
    puppet, watching, let_run
):
    async def scenario():
        model = puppet(held=True)
        batcher = Batcher(model, parameters(), watching)
        calls = [call(batcher, at, at + 100) for at in range(6)]
        await let_run()
        assert model.sizes == [2]
        model.release(0)
        await let_run()
        assert model.sizes == [2, 8]
        assert model.runs[1].inputs["x"].tolist() == [1, 101, 2, 102, 3, 103, 4, 104]
        model.release(1)
        await let_run()
        model.release(2)
        answers = await asyncio.gather(*calls)
        assert [answer["y"].tolist() for answer in answers] == [
            [2 * at + 1, 2 * at + 201] for at in range(6)
        ]
        assert max(watching.waiting) == 10
        assert watching.waiting[-1] == 0

    asyncio.run(scenario())


def test_a_call_that_comes_while_a_batch_runs_goes_into_the_next(puppet, let_run):
    async def scenario():
        model = puppet(held=True)
        batcher = Batcher(model, parameters())
        calls = [call(batcher, 0), call(batcher, 1)]
        await let_run()
        model.release(0)
        await let_run()
        assert model.sizes == [1, 1]
        calls += [call(batcher, 2), call(batcher, 3)]
        await let_run()
        model.held = False
        model.release(1)
        answers = await asyncio.wait_for(asyncio.gather(*calls), 5)
        assert [answer["y"].tolist() for answer in answers] == [[1], [3], [5], [7]]
        assert model.sizes == [1, 1, 2]

    asyncio.run(scenario())


def test_no_more_batches_run_at_a_time_than_there_are_slots(puppet, let_run):
    async def scenario():
        model = puppet(held=True)
        batcher = Batcher(model, parameters(num_batch_threads=3, max_batch_size=1))
        calls = [call(batcher, at) for at in range(9)]
        for at in range(9):
            await let_run()
            assert len(model.runs) == min(at + 3, 9)
            model.release(at)
        await asyncio.gather(*calls)
        assert model.most_at_once == 3

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"signature": "s"}, {"signature": "t"}),
        ({"outputs": ("y",)}, {"outputs": ("name",)}),
        ({"dtype": np.float32}, {"dtype": np.float64}),
    ],
)
def test_calls_that_differ_are_not_merged(puppet, let_run, first, second):
    async def scenario():
        model = puppet(held=True)
        batcher = Batcher(model, parameters())
        calls = [call(batcher, 0), call(batcher, 1, **first), call(batcher, 2, **second)]
        for at in range(3):
            await let_run()
            model.release(at)
        await asyncio.gather(*calls)
        assert model.sizes == [1, 1, 1]

    asyncio.run(scenario())


def test_calls_of_other_shapes_are_merged_only_if_they_may_be_padded(puppet, let_run):
    async def scenario(padded):
        model = puppet(held=True)
        batcher = Batcher(model, parameters(pad_variable_length_inputs=padded))
        calls = [call(batcher, 0), call(batcher, [1, 2, 3]), call(batcher, [4], [5])]
        for at in range(2 if padded else 3):
            await let_run()
            model.release(at)
        answers = await asyncio.gather(*calls)
        return model.sizes, [answer["y"].tolist() for answer in answers[1:]]

    assert asyncio.run(scenario(padded=False)) == ([1, 1, 2], [[[3, 5, 7]], [[9], [11]]])
    assert asyncio.run(scenario(padded=True)) == (
        [1, 3],
        [[[3, 5, 7]], [[9, 9, 9], [11, 9, 9]]],  # padded by the first element of the tensor
    )


def test_a_batch_is_padded_to_an_allowed_size_by_a_row_that_is_there(puppet, watching):
    async def scenario():
        model = puppet()
        batcher = Batcher(model, parameters(allowed_batch_sizes=(1, 4, 8)), watching)
        answer = await batcher.run("s", rows(7, 8), ("y", "name"))
        assert model.runs[0].inputs["x"].tolist() == [7, 8, 7, 7]
        assert answer["y"].tolist() == [15, 17]
        assert answer["name"].tolist() == [b"n7", b"n8"]
        assert watching.batches == [(2, 2)]

    asyncio.run(scenario())


def test_a_timeout_waits_for_a_fuller_batch_and_a_full_one_does_not_wait(puppet, let_run):
    async def scenario():
        model = puppet()
        patient = parameters(batch_timeout_micros=3_600_000_000, max_batch_size=4)
        batcher = Batcher(model, patient)
        calls = [call(batcher, 1, 2), call(batcher, 3)]
        await let_run()
        assert model.runs == []
        calls.append(call(batcher, 4))
        await asyncio.gather(*calls)
        assert model.sizes == [4]
        calls = [call(batcher, 1, 2, 3), call(batcher, 4, 5)]  # the second closes the first
        await calls[0]
        assert model.sizes == [4, 3]
        await batcher.close()
        assert model.sizes == [4, 3, 2]

    asyncio.run(scenario())


def test_a_batch_that_is_never_full_runs_when_its_time_is_over(puppet):
    async def scenario():
        model = puppet()
        batcher = Batcher(model, parameters(batch_timeout_micros=1000))
        answers = await asyncio.gather(call(batcher, 1), call(batcher, 2))
        assert [answer["y"].tolist() for answer in answers] == [[3], [5]]
        assert model.sizes == [2]

    asyncio.run(scenario())


def test_a_request_larger_than_a_batch_is_refused_in_tensorflow_servings_words(puppet):
    async def scenario():
        batcher = Batcher(puppet(), parameters(max_batch_size=2))
        with pytest.raises(ServingError) as raised:
            await batcher.run("s", rows(1, 2, 3), ("y",))
        assert raised.value.code == Code.INVALID_ARGUMENT
        assert raised.value.message == "Task size 3 is larger than maximum input batch size 2"

    asyncio.run(scenario())


def test_a_large_request_is_cut_and_its_result_put_together_again(puppet, let_run):
    async def scenario():
        model = puppet(held=True)
        batcher = Batcher(
            model,
            parameters(
                max_batch_size=100, max_execution_batch_size=4, enable_large_batch_splitting=True
            ),
        )
        calls = [call(batcher, 0), call(batcher, 1), call(batcher, *range(10, 20))]
        for at in range(4):
            await let_run()
            model.release(at)
        answers = await asyncio.gather(*calls)
        assert model.sizes == [1, 4, 4, 3]
        assert answers[2]["y"].tolist() == [2 * at + 1 for at in range(10, 20)]

    asyncio.run(scenario())


def test_without_bounds_no_request_is_too_large(puppet):
    async def scenario():
        model = puppet()
        answer = await Batcher(model, unbounded(largest_batch=100)).run(
            "s", rows(*range(1234)), ("y",)
        )
        assert answer["y"].tolist() == [2 * at + 1 for at in range(1234)]
        assert max(model.sizes) == 100

    asyncio.run(scenario())


def test_a_full_queue_refuses_in_tensorflow_servings_words(puppet, let_run):
    async def scenario():
        model = puppet(held=True)
        batcher = Batcher(model, parameters(max_batch_size=2, max_enqueued_batches=1))
        calls = [call(batcher, 0), call(batcher, 1)]
        await let_run()
        with pytest.raises(ServingError) as raised:
            await batcher.run("s", rows(2, 3), ("y",))
        assert raised.value.code == Code.UNAVAILABLE
        assert raised.value.message == (
            "The batch scheduling queue to which this task was submitted is full; currently 1 "
            "batches enqueued and max_enqueued_batches is 1"
        )
        calls.append(call(batcher, 4))  # there is still room in the batch that waits
        for at in range(2):
            await let_run()
            model.release(at)
        await asyncio.gather(*calls)
        assert model.sizes == [1, 2]

    asyncio.run(scenario())


def test_a_full_queue_of_cut_requests_says_how_much_room_there_is(puppet, let_run):
    async def scenario():
        model = puppet(held=True)
        batcher = Batcher(
            model,
            parameters(
                max_batch_size=9,
                max_execution_batch_size=3,
                enable_large_batch_splitting=True,
                max_enqueued_batches=2,
            ),
        )
        calls = [call(batcher, 0), call(batcher, 1)]
        await let_run()
        with pytest.raises(ServingError) as raised:
            await batcher.run("s", rows(*range(6)), ("y",))
        assert raised.value.message == (
            "The batch scheduling queue to which this task was submitted is full; task size is 6 "
            "but scheduling capacity is only 5 (num_enqueued_batches=1, max_enqueued_batches=2, "
            "open_batch_size=1, max_execution_batch_size=3)"
        )
        calls.append(call(batcher, *range(5)))
        for at in range(3):
            await let_run()
            model.release(at)
        await asyncio.gather(*calls)
        assert model.sizes == [1, 3, 3]

    asyncio.run(scenario())


def test_a_caller_does_not_get_the_error_of_another(puppet, let_run):
    def refuses(inputs):
        return invalid("13 is not allowed") if 13 in inputs["x"] else None

    async def scenario():
        model = puppet(held=True, refuses=refuses)
        batcher = Batcher(model, parameters())
        calls = [call(batcher, 0), call(batcher, 1), call(batcher, 13), call(batcher, 2)]
        await let_run()
        model.held = False
        model.release(0)
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert [a["y"].tolist() for a in answers if isinstance(a, dict)] == [[1], [3], [5]]
        assert isinstance(answers[2], ServingError)
        assert answers[2].message == "13 is not allowed"
        assert model.sizes == [1, 3, 1, 1, 1]

    asyncio.run(scenario())


def test_any_other_error_reaches_everyone_in_the_batch_as_an_error_of_their_own(puppet, let_run):
    def refuses(inputs):
        return ServingError(Code.INTERNAL, "out of order") if len(inputs["x"]) > 1 else None

    async def scenario():
        model = puppet(held=True, refuses=refuses)
        batcher = Batcher(model, parameters())
        calls = [call(batcher, at) for at in range(3)]
        await let_run()
        model.held = False
        model.release(0)
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert [str(answer) for answer in answers[1:]] == ["out of order"] * 2
        assert answers[1] is not answers[2]
        assert model.sizes == [1, 2]

    asyncio.run(scenario())


def test_a_caller_that_went_away_is_not_computed_and_leaves_room(puppet, watching, let_run):
    async def scenario():
        model = puppet(held=True)
        batcher = Batcher(model, parameters(max_batch_size=2, max_enqueued_batches=1), watching)
        calls = [call(batcher, 0), call(batcher, 1, 2)]
        await let_run()
        calls[1].cancel()
        await let_run()
        assert watching.waiting[-1] == 0
        calls.append(call(batcher, 3, 4))
        for at in range(2):
            await let_run()
            model.release(at)
        assert (await calls[2])["y"].tolist() == [7, 9]
        assert model.runs[1].inputs["x"].tolist() == [3, 4]
        assert calls[1].cancelled()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("scalar", "Batched output tensor has 0 dimensions"),
        (
            "short",
            "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension "
            "sizes of the input tensors",
        ),
    ],
)
def test_an_output_without_a_row_for_each_row_is_refused_merged_or_not(puppet, output, message):
    async def scenario():
        batcher = Batcher(puppet(), parameters())
        with pytest.raises(ServingError) as raised:
            await batcher.run("s", rows(1, 2), (output,))
        assert raised.value.code == Code.FAILED_PRECONDITION
        assert raised.value.message == message

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "Batching Run() must have at least one input tensor"),
        (
            {"x": np.float32(1)},
            "Batching Run() input tensors must have at least one dimension",
        ),
        (
            {"x": np.zeros(2), "z": np.zeros(3)},
            "Batching Run() input tensors must have equal 0th-dimension size",
        ),
    ],
)
def test_inputs_that_are_no_batch_are_refused(puppet, inputs, message):
    async def scenario():
        model = puppet()
        with pytest.raises(ServingError) as raised:
            await Batcher(model, parameters()).run("s", inputs, ("y",))
        assert (raised.value.code, raised.value.message) == (Code.INVALID_ARGUMENT, message)
        assert model.runs == []

    asyncio.run(scenario())


def test_closing_finishes_what_waits_and_refuses_what_comes_later(puppet, let_run):
    async def scenario():
        model = puppet(held=True)
        batcher = Batcher(model, parameters())
        calls = [call(batcher, 0), call(batcher, 1)]
        await let_run()
        closing = asyncio.ensure_future(batcher.close())
        await let_run()
        assert not closing.done()
        for at in range(2):
            model.release(at)
            await let_run()
        await asyncio.wait_for(closing, 5)
        assert [(await each)["y"].tolist() for each in calls] == [[1], [3]]
        with pytest.raises(ServingError) as raised:
            await batcher.run("s", rows(1), ("y",))
        assert raised.value.code == Code.UNAVAILABLE

    asyncio.run(scenario())


# --- any interleaving ----------------------------------------------------------------------------

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("call"), st.integers(0, 5), st.sampled_from(["s", "s", "t"])),
        st.tuples(st.just("bad"), st.integers(1, 3), st.sampled_from(["s", "t"])),
        st.tuples(st.just("cancel"), st.integers(0, 30), st.just("")),
        st.tuples(st.just("release"), st.integers(0, 2), st.just("")),
        st.tuples(st.just("run"), st.integers(1, 6), st.just("")),
    ),
    min_size=10,
    max_size=60,
)
PARAMETERS = st.builds(
    lambda slots, largest, cut, padded, timeout: BatchingParameters(
        num_batch_threads=slots,
        max_batch_size=100 if cut else 8,
        max_execution_batch_size=largest if cut else None,
        enable_large_batch_splitting=cut,
        allowed_batch_sizes=(2, 8) if padded and not cut else (),
        batch_timeout_micros=timeout,
        max_enqueued_batches=1000,
    ),
    st.integers(1, 3),
    st.integers(1, 5),
    st.booleans(),
    st.booleans(),
    st.sampled_from([0, 0, 200]),
)


def refuse_negative(inputs):
    negative = [int(value) for value in inputs["x"] if value < 0]
    return invalid(f"refused {negative[0]}") if negative else None


@given(asked=PARAMETERS, steps=STEPS)
def test_every_caller_gets_exactly_its_own_rows_whatever_happens(puppet, asked, steps):
    model = puppet(held=True, refuses=refuse_negative)
    asyncio.run(asyncio.wait_for(any_interleaving(model, asked, steps), 30))
    assert model.most_at_once <= asked.num_batch_threads
    assert max(model.sizes, default=0) <= max(asked.largest_batch, *asked.allowed_batch_sizes, 0)
    assert all(run.outputs == ("y", "name") for run in model.runs)


async def any_interleaving(model, asked, steps):
    batcher = Batcher(model, asked)
    calls, values = [], 0
    for kind, number, signature in steps:
        if kind in ("call", "bad"):
            sent = [-1 - at if kind == "bad" else at for at in range(values, values + number)]
            values += number
            task = call(batcher, *sent, outputs=("y", "name"), signature=signature)
            calls.append((sent, task))
        elif kind == "cancel" and calls:
            calls[number % len(calls)][1].cancel()
        elif kind == "release":
            release_one(model, number)
        elif kind == "run":
            for _ in range(number):
                await asyncio.sleep(0)
    model.held = False
    for at in range(len(model.runs)):
        model.release(at)
    await asyncio.gather(*(task for _, task in calls), return_exceptions=True)
    await batcher.close()
    for sent, task in calls:
        if not task.cancelled():
            check_answer(sent, task)


def release_one(model, number):
    running = [at for at, run in enumerate(model.runs) if not run.done.done()]
    if running:
        model.release(running[number % len(running)])


def check_answer(sent, task):
    if any(value < 0 for value in sent):
        assert task.exception().message in {f"refused {value}" for value in sent}
        return
    result = task.result()
    assert result["y"].tolist() == [2 * value + 1 for value in sent]
    assert result["name"].tolist() == [b"n%d" % value for value in sent]


# --- alone ---------------------------------------------------------------------------------------


def test_alone_calls_are_never_merged_and_take_turns(puppet, watching, let_run):
    async def scenario():
        model = puppet(held=True)
        alone = Alone(model, parameters(num_batch_threads=2, max_enqueued_batches=10), watching)
        calls = [call(alone, at) for at in range(5)]
        for at in range(5):
            await let_run()
            assert len(model.runs) == min(at + 2, 5)
            model.release(at)
        answers = await asyncio.gather(*calls)
        assert [answer["y"].tolist() for answer in answers] == [[2 * at + 1] for at in range(5)]
        assert watching.batches == [(1, 0)] * 5

    asyncio.run(scenario())


def test_alone_refuses_when_too_many_wait(puppet, let_run):
    async def scenario():
        model = puppet(held=True)
        alone = Alone(model, parameters(max_enqueued_batches=1))
        calls = [call(alone, 0), call(alone, 1)]
        await let_run()
        with pytest.raises(ServingError) as raised:
            await alone.run("s", rows(2), ("y",))
        assert raised.value.code == Code.UNAVAILABLE
        for at in range(2):
            model.release(at)
            await let_run()
        await asyncio.gather(*calls)

    asyncio.run(scenario())


@pytest.mark.parametrize("turns", [0, 1, 2])
def test_alone_a_turn_that_nobody_wants_goes_to_the_next(puppet, let_run, turns):
    async def scenario():
        model = puppet(held=True)
        alone = Alone(model, parameters())
        calls = [call(alone, 0), call(alone, 1), call(alone, 2)]
        await let_run()
        model.release(0)
        for _ in range(turns):
            await asyncio.sleep(0)
        calls[1].cancel()
        calls.append(call(alone, 3))
        model.held = False
        await let_run()
        for at in range(len(model.runs)):
            model.release(at)
        assert (await asyncio.wait_for(calls[2], 5))["y"].tolist() == [5]
        assert (await asyncio.wait_for(calls[3], 5))["y"].tolist() == [7]

    asyncio.run(scenario())
