"""What a client sees of a whole gateway."""

from __future__ import annotations

import asyncio

from tfx_encore.schemas.records import Cause, RecordDraft, SelectAll


def test_a_repeated_row_is_a_hit_and_the_answer_is_the_models(releases, serving):
    async def scenario():
        async with serving(releases=str(releases.root)) as client:
            return [await client.predict(1.5, 2.0), await client.predict(2.0, 1.5)]

    first, again = asyncio.run(scenario())
    assert first == ([1003.0, 1004.0], "miss")
    assert again == ([1004.0, 1003.0], "hit")


def test_each_signature_is_cached_as_its_graph_allows(releases, serving):
    async def scenario():
        async with serving(releases=str(releases.root)) as client:
            stats = await client.server.admin({"command": "stats"})
            (version,) = stats["models"][0]["versions"]
            return {name: why.split(":")[0] for name, why in version["caching"].items()}

    modes = asyncio.run(scenario())
    assert modes == {"serving_default": "rows", "bucketed": "rows", "noisy": "off"}


def test_rows_in_the_same_bucket_share_one_answer(releases, serving):
    async def scenario():
        async with serving(releases=str(releases.root)) as client:
            return [
                await client.predict(miles, signature="bucketed")
                for miles in (2.0, 3.5, 4.999, 5.0, 0.5)
            ]

    answers = asyncio.run(scenario())
    assert [answer for answer, _ in answers] == [[1001], [1001], [1001], [1002], [1000]]
    assert [status for _, status in answers] == ["miss", "hit", "hit", "miss", "miss"]


def test_a_push_moves_the_label_and_a_rollback_finds_its_answers_warm(releases, serving, until):
    async def scenario():
        async with serving(releases=str(releases.root)) as client:
            seen = [await client.predict(1.0)]
            releases.push(2)
            await until(lambda: answered_by(client, 2))
            seen.append(await client.predict(1.0))
            releases.directory.set_label("stable", 1, by="test", reason="back")
            await until(lambda: answered_by(client, 1))
            return [*seen, await client.predict(1.0)]

    seen = asyncio.run(scenario())
    assert [answer for answer, _ in seen] == [[1002.0], [2002.0], [1002.0]]
    assert seen[-1][1] == "hit"


async def answered_by(client, version):
    _, headers, _ = await client.ask("/v1/models/m:predict", {"instances": [77.0]})
    return headers["x-encore-version"] == str(version)


def test_an_invalidation_record_withdraws_and_is_acknowledged(releases, serving, until):
    async def scenario():
        async with serving(releases=str(releases.root), consumer="gateway@test") as client:
            for _ in range(3):  # until the whole response is kept, too
                before = await client.predict(1.0)
            draft = RecordDraft("m", Cause.MANUAL, SelectAll(), "test", "test")
            record = releases.directory.append_record(draft)

            async def acknowledged():
                acks = client.server.caches.find("m").follower.unfinished
                applied = client.server.caches.find("m").state.applied
                return applied == record.sequence and acks == 0

            await until(acknowledged)
            return before, await client.predict(1.0)

    before, after = asyncio.run(scenario())
    assert before == ([1002.0], "hit")
    assert after == ([1002.0], "miss")


def test_several_models_and_versions_by_tensorflow_servings_configuration(
    models, serving, tmp_path
):
    config = tmp_path / "models.config"
    config.write_text(
        f"""model_config_list {{
          config {{ name: "both" base_path: "{models}" model_platform: "tensorflow"
                   model_version_policy {{ all {{}} }} version_labels {{ key: "old" value: 1 }} }}
          config {{ name: "newest" base_path: "{models}" model_platform: "tensorflow" }}
        }}"""
    )

    async def scenario():
        # As for TensorFlow Serving: a label may name a version that is about to be loaded.
        allowed = {"allow_version_labels_for_unavailable_models": True}
        async with serving(model_config_file=str(config), **allowed) as client:
            paths = ["newest", "both", "both/versions/1", "both/labels/old", "newest/versions/1"]
            asked = {"instances": [1.0]}
            return [await client.ask(f"/v1/models/{path}:predict", asked) for path in paths]

    answers = asyncio.run(scenario())
    assert [status for status, _, _ in answers] == [200, 200, 200, 200, 404]
    values = [answer["predictions"] for _, _, answer in answers[:-1]]
    assert values == [[2002.0], [2002.0], [1002.0], [1002.0]]


def test_what_lmdb_holds_is_served_after_a_restart(releases, serving, tmp_path):
    async def one_life(*values):
        settings = {"releases": str(releases.root), "cache_dir": str(tmp_path / "cache")}
        async with serving(**settings) as client:
            found = await client.predict(*values)
            await client.server.caches.find("m").cache.drain()
            return found

    assert asyncio.run(one_life(1.0, 2.0))[1] == "miss"
    assert asyncio.run(one_life(2.0, 1.0)) == ([1004.0, 1002.0], "hit")


def test_a_version_that_was_edited_in_place_is_not_served(releases, serving):
    graph = releases.directory.version_path(1) / "saved_model.pb"
    graph.chmod(0o644)
    graph.write_bytes(graph.read_bytes() + b"\x12\x00")

    async def scenario():
        async with serving(releases=str(releases.root)) as client:
            return await client.ask("/v1/models/m"), client.server.ready()

    (_, _, status), (is_ready, line) = asyncio.run(scenario())
    assert "has changed since it was pushed" in str(status)
    assert not is_ready
    assert "version 1" in line


def test_without_headers_an_answer_says_nothing_of_the_cache(releases, serving):
    async def scenario():
        async with serving(releases=str(releases.root), cache_headers=False) as client:
            return await client.ask("/v1/models/m:predict", {"instances": [1.0]})

    _, headers, _ = asyncio.run(scenario())
    assert [name for name in headers if name.lower().startswith("x-encore")] == []
