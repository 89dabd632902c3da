"""`encore cache verify`, `warm` and the numbers of a whole gateway."""

from __future__ import annotations

import asyncio

from tfx_encore.cache.answers import encode_answer
from tfx_encore.cache.rows import cell


def test_entries_that_are_what_the_model_says_are_verified(releases, serving):
    async def scenario():
        async with serving(releases=str(releases.root)) as client:
            await client.predict(*[float(value) for value in range(20)])
            await client.predict(0.5, 3.0, 9.0, signature="bucketed")
            return await client.server.admin({"command": "verify", "model": None, "rows": 100})

    reply = asyncio.run(scenario())
    assert reply["checked"] == {"m": 23}
    assert (reply["different"], reply["differences"]) == (0, ())


def test_an_entry_that_is_not_what_the_model_says_is_found(releases, serving):
    async def scenario():
        async with serving(releases=str(releases.root)) as client:
            await client.predict(1.0, 2.0, 3.0)
            cache = client.server.caches.find("m").cache
            store = cache.local[0].store
            wrong = store.sample(1)[0]
            store.put(wrong._replace(answer=encode_answer({"y": cell(1.0, "float32")})))
            return await client.server.admin({"command": "verify", "model": "m", "rows": 100})

    reply = asyncio.run(scenario())
    assert (reply["checked"], reply["different"]) == ({"m": 3}, 1)
    assert reply["differences"][0]["cached"] == "y=1.0"


def test_statistics_count_what_was_asked(releases, serving):
    async def scenario():
        async with serving(releases=str(releases.root)) as client:
            for _ in range(5):
                await client.predict(1.0)
            await client.predict(3.5, signature="bucketed")
            await client.predict(4.5, signature="bucketed")
            _, _, page = await client.ask("/metrics")
            return (await client.server.admin({"command": "stats"}))["models"][0], page

    stats, page = asyncio.run(scenario())
    assert stats["misses"] == 3  # one was found by its transformed key after the raw one missed
    assert stats["hits"]["transformed"] == 1
    assert sum(stats["hits"].values()) == 5
    assert 'encore_rows_total{model="m",source="model"} 2.0' in page


def test_requests_that_came_as_json_are_logged_as_messages(releases, serving, tmp_path):
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    from tfx_encore.gateway.request_log_records import read_tags

    async def scenario():
        settings = {"request_log_dir": str(tmp_path / "log"), "request_log_rate": 1.0}
        async with serving(releases=str(releases.root), **settings) as client:
            await client.predict(1.0, 2.0)
            await client.predict(2.0, 1.0)
            await client.predict(3.0, 1.0)
            await client.ask("/v1/models/m:predict", {"instances": ["no number"]})
            _, _, page = await client.ask("/metrics")
            return page

    page = asyncio.run(scenario())
    assert 'encore_request_log_records_total{model="m"} 4.0' in page
    files = [str(path) for path in (tmp_path / "log").rglob("*.tfrecord")]
    logs = [
        prediction_log_pb2.PredictionLog.FromString(record.numpy())
        for record in tf.data.TFRecordDataset(files)
    ]
    tags = [read_tags(log.log_metadata.saved_model_tags) for log in logs]
    assert [tag["cache"] for tag in tags] == ["miss", "hit", "partial", "error"]
    assert [tag.get("hits") for tag in tags] == [None, None, "02", None]
    assert all(int(tag["us"]) > 0 for tag in tags)
    first, second, _, _ = (log.predict_log for log in logs)
    assert list(first.request.inputs["x"].float_val) == [1.0, 2.0]
    assert list(second.response.outputs["y"].float_val) == [1004.0, 1002.0]
    assert first.response.model_spec.version.value == 1
