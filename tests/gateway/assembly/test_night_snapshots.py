"""A gateway loads the newest snapshot of a fingerprint, whichever night made it."""

from __future__ import annotations

import asyncio

import pytest


@pytest.fixture
def warm_from(releases, tmp_path):
    """`warm_from(values)`: makes a snapshot of traffic that asked for these values of `x`."""
    import apache_beam as beam
    import tensorflow as tf
    from apache_beam.options.pipeline_options import PipelineOptions
    from tensorflow_serving.apis import prediction_log_pb2

    from tfx_encore.components.rewarming.rewarm import rewarm
    from tfx_encore.schemas.warmup_policy import WarmupPolicy

    def warm_from(values):
        path = str(tmp_path / "night.tfrecord")
        with tf.io.TFRecordWriter(path) as writer:
            for value in values * 4:
                log = prediction_log_pb2.PredictionLog()
                log.predict_log.request.model_spec.name = "m"
                tensor = tf.make_tensor_proto([value], tf.float32)
                log.predict_log.request.inputs["x"].CopyFrom(tensor)
                writer.write(log.SerializeToString())
        return rewarm(
            lambda: beam.Pipeline(options=PipelineOptions(["--runner=FnApiRunner"])),
            releases.directory,
            1,
            "2016-01-12",
            [path],
            policy=WarmupPolicy(certify_rows=2),
        )

    return warm_from


def test_it_is_loaded_with_the_version_and_again_when_told(releases, serving, warm_from):
    assert warm_from([1.0, 2.0]).entries == 2

    async def scenario():
        async with serving(releases=str(releases.root)) as client:
            first = [await client.predict(1.0), await client.predict(7.0)]
            await asyncio.to_thread(warm_from, [7.0, 8.0])
            command = {"command": "warm", "model": "m", "snapshot": None}
            reply = await client.server.admin(command)
            return first, reply, await client.predict(8.0)

    first, reply, later = asyncio.run(scenario())
    assert first == [([1002.0], "hit"), ([1014.0], "miss")]
    assert reply["loaded"] == {"m": 2}
    assert later == ([1016.0], "hit")


def test_a_damaged_one_gives_way_and_the_version_is_served(releases, serving, warm_from):
    made = warm_from([1.0, 2.0])
    (entries,) = made.path.glob("entries-*.bin")
    entries.chmod(0o644)
    entries.write_bytes(entries.read_bytes()[:-3])

    async def scenario():
        async with serving(releases=str(releases.root)) as client:
            return await client.predict(1.0)

    assert asyncio.run(scenario())[0] == [1002.0]
