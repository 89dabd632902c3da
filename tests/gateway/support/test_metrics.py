"""Metrics: what is counted, what is shown, what can never become a label."""

from __future__ import annotations

import itertools
import json
import math
import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.parser import text_string_to_metric_families

from tfx_encore.cache.breaker import BreakerState
from tfx_encore.cache.observer import CacheObserver
from tfx_encore.gateway.errors import Code
from tfx_encore.gateway.metrics import GatewayMetrics, ModelCacheStats, TierStats
from tfx_encore.gateway.metrics_cache import CacheCounts
from tfx_encore.gateway.metrics_families import ENCORE, TENSORFLOW_SERVING
from tfx_encore.gateway.metrics_numbers import Numbers, from_json, merged, without_gauges
from tfx_encore.gateway.observer import GatewayObserver
from tfx_encore.schemas.errors import DataError

REQUEST = {
    "protocol": "rest",
    "method": "Predict",
    "model": "taxi",
    "version": 7,
    "signature": "serving_default",
    "code": Code.OK,
    "status": "hit",
}


def ask(metrics, seconds=0.001, times=1, **values):
    for _ in range(times):
        metrics.request(**{**REQUEST, **values}, seconds=seconds)


def page(metrics):
    return metrics.render()[1].decode()


def samples(metrics):
    """Every sample of the page: name and labels -> value."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page(metrics))
        for sample in family.samples
    }


def value(metrics, name, **labels):
    return samples(metrics).get((name, tuple(sorted(labels.items()))))


def busy(**made):
    """Metrics of a gateway in which everything has happened."""
    stats = ModelCacheStats("taxi", [TierStats("memory", 1000, {"sha256:a": 3})], True, 4, 0.5)
    metrics = GatewayMetrics(probe=lambda: [stats], cpu_clock=lambda: 7.5, **made)
    for protocol, status, code in itertools.product(
        ("rest", "grpc"), ("hit", "partial", "miss", "off", "error"), (Code.OK, Code.NOT_FOUND)
    ):
        ask(metrics, protocol=protocol, status=status, code=code)
    metrics.rows("taxi", 2, 3)
    metrics.batch("taxi", "serving_default", rows=3, padded=1, seconds=0.01)
    metrics.queued("taxi", 5)
    metrics.logged("taxi", 3, 1)
    for state in ("START", "LOADING", "AVAILABLE"):
        metrics.version_state("taxi", 7, state, "")
    metrics.version_state("taxi", 8, "END", "no such file")
    metrics.warmed_up("taxi", 7, records=10, seconds=0.2)
    metrics.switched("taxi", "stable", 7)
    metrics.switched("taxi", "", 7)
    cache = metrics.cache("taxi")
    cache.hit("memory", "raw")
    cache.hit("redis", "negative")
    cache.missed(4)
    cache.coalesced(1)
    cache.computed(3, 0.25)
    cache.withheld(2)
    cache.withdrawn("memory")
    cache.evicted("memory", 2)
    cache.not_stored(1)
    cache.refreshing(1)
    cache.tier_failed("redis", OSError())
    cache.breaker_moved("redis", BreakerState.OPEN)
    cache.writes_dropped("redis", 9)
    return metrics


# --- the page ------------------------------------------------------------------------------------


def test_every_metric_is_on_the_page_with_help_and_type(tmp_path):
    text = page(busy())
    for family in (*ENCORE, *TENSORFLOW_SERVING):
        assert text.count(f"# TYPE {family.name} {family.kind}\n") == 1, family.name
        assert text.count(f"# HELP {family.name} {family.meaning}\n") == 1, family.name
    assert text.count("# TYPE ") == len(ENCORE) + len(TENSORFLOW_SERVING)


def test_the_page_is_what_prometheus_expects():
    content_type, body = busy().render()
    assert content_type.startswith("text/plain; version=0.0.4")
    assert body.endswith(b"\n")
    seen = set()
    for line in body.decode().splitlines():
        assert line not in seen, "a sample twice"
        seen.add(line)
    for family in text_string_to_metric_families(body.decode()):
        assert re.fullmatch(r"[a-zA-Z_:][a-zA-Z0-9_:]*", family.name)
        assert family.samples
        for sample in family.samples:
            assert all(re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", name) for name in sample.labels)


def test_names_follow_prometheus_conventions():
    for family in ENCORE:
        assert re.fullmatch(r"encore_[a-z][a-z_]*[a-z]", family.name)
        assert family.name.endswith("_total") == (family.kind == "counter")
        assert not re.search(r"_(ms|us|micros|millis|kb|mb|count|sum|bucket)(_|$)", family.name)
        assert family.meaning.endswith(".")
        assert bool(family.bounds) == (family.kind == "histogram")
        assert "le" not in family.labels
    names = [family.name for family in (*ENCORE, *TENSORFLOW_SERVING)]
    assert len(set(names)) == len(names)


def test_buckets_only_grow_and_end_in_the_count():
    metrics = busy()
    for seconds in (0.0, 0.00005, 0.3, 59.0, 100.0, 1e9):
        ask(metrics, seconds=seconds, status="miss")
    buckets: dict = {}
    counts: dict = {}
    for (name, labels), number in samples(metrics).items():
        rest = tuple(pair for pair in labels if pair[0] != "le")
        if name.endswith("_bucket"):
            key = (name.removesuffix("_bucket"), rest)
            buckets.setdefault(key, []).append((float(dict(labels)["le"]), number))
        elif name.endswith("_count"):
            counts[name.removesuffix("_count"), rest] = number
    assert len(buckets) > 10
    for key, found in buckets.items():
        ordered = [number for _, number in sorted(found)]
        assert ordered == sorted(ordered)
        assert max(found)[0] == math.inf
        assert ordered[-1] == counts[key]


def test_docs_list_every_metric_with_its_type_and_labels():
    text = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text()
    rows = re.findall(r"^\| `([a-z_:]+)` \| (\w+) \| ([^|]*) \| ([^|]*) \|$", text, re.MULTILINE)
    listed = {
        name: (kind, tuple(re.findall(r"`([A-Za-z_]+)`", labels)), meaning.strip())
        for name, kind, labels, meaning in rows
    }
    assert listed == {
        family.name: (family.kind, family.labels, family.meaning)
        for family in (*ENCORE, *TENSORFLOW_SERVING)
    }


# --- what is counted -----------------------------------------------------------------------------


def test_requests_are_counted_by_model_version_signature_and_code():
    metrics = GatewayMetrics()
    ask(metrics, times=3)
    ask(metrics, version=8)
    ask(metrics, code=Code.INVALID_ARGUMENT, status="error")
    labels = {"protocol": "rest", "method": "Predict", "model": "taxi"}
    labels["signature"] = "serving_default"
    name = "encore_requests_total"
    assert value(metrics, name, **labels, version="7", code="OK") == 3
    assert value(metrics, name, **labels, version="8", code="OK") == 1
    assert value(metrics, name, **labels, version="7", code="INVALID_ARGUMENT") == 1


def test_times_of_hits_and_misses_are_apart():
    metrics = GatewayMetrics()
    ask(metrics, seconds=0.0001, times=2)
    ask(metrics, seconds=0.02, status="miss")
    hit = {"protocol": "rest", "model": "taxi", "cache": "hit"}
    miss = {**hit, "cache": "miss"}
    assert value(metrics, "encore_request_seconds_count", **hit) == 2
    assert value(metrics, "encore_request_seconds_sum", **hit) == pytest.approx(0.0002)
    assert value(metrics, "encore_request_seconds_bucket", **hit, le="5e-05") == 0
    assert value(metrics, "encore_request_seconds_bucket", **hit, le="0.0001") == 2
    assert value(metrics, "encore_request_seconds_bucket", **miss, le="0.01") == 0
    assert value(metrics, "encore_request_seconds_bucket", **miss, le="0.025") == 1


def test_a_handle_counts_as_a_request_does():
    one, other = (GatewayMetrics(cpu_clock=float) for _ in range(2))
    handle = other.handle(**REQUEST)
    for seconds in (0.0001, 0.01, 5.0):
        ask(one, seconds=seconds)
        one.rows("taxi", 2, 2)
        handle.count(seconds, rows=2)
    assert samples(one) == samples(other)
    assert other.handle(**REQUEST) is handle


def test_a_handle_of_any_observer_tells_it_of_the_request():
    class Hears(GatewayObserver):
        def request(self, **told):
            self.told = told

        def rows(self, model, hits, rows):
            self.answered = (model, hits, rows)

    hears = Hears()
    hears.handle(**REQUEST).count(0.5, rows=3)
    assert hears.told == {**REQUEST, "seconds": 0.5}
    assert hears.answered == ("taxi", 3, 3)


def test_what_happens_in_a_cache_is_counted():
    metrics = busy()
    expected = {
        ("encore_cache_hits_total", "memory", "raw"): 1,
        ("encore_cache_hits_total", "redis", "negative"): 1,
        ("encore_cache_misses_total",): 4,
        ("encore_cache_coalesced_rows_total",): 1,
        ("encore_cache_computed_rows_total",): 3,
        ("encore_cache_compute_seconds_total",): 0.25,
        ("encore_cache_withheld_rows_total",): 2,
        ("encore_cache_withdrawn_total", "memory"): 1,
        ("encore_cache_not_stored_total",): 1,
        ("encore_cache_refreshed_rows_total",): 1,
        ("encore_cache_tier_failures_total", "redis"): 1,
        ("encore_cache_dropped_writes_total", "redis"): 9,
        ("encore_cache_breaker_moves_total", "redis", "open"): 1,
        ("encore_cache_breaker_state", "redis", "open"): 1,
        ("encore_cache_breaker_state", "redis", "closed"): 0,
        ("encore_cache_breaker_state", "memory", "closed"): 1,
        ("encore_cache_bytes", "memory"): 1000,
        ("encore_cache_entries", "memory", "sha256:a"): 3,
        ("encore_cache_evictions_total", "memory"): 2,
        ("encore_cache_generation",): 4,
        ("encore_ledger_age_seconds",): 0.5,
    }
    labels = {family.name: family.labels for family in ENCORE}
    for (name, *rest), number in expected.items():
        assert (
            value(metrics, name, **dict(zip(labels[name], ["taxi", *rest], strict=True))) == number
        ), name


def test_batches_models_labels_and_the_request_log_are_counted():
    now = [100.0]
    metrics = GatewayMetrics(steady_clock=lambda: now[0])
    metrics.version_state("taxi", 7, "LOADING", "")
    now[0] += 2.5
    metrics.version_state("taxi", 7, "AVAILABLE", "")
    metrics.version_state("taxi", 8, "END", "damaged")
    metrics.batch("taxi", "s", rows=3, padded=1, seconds=0.02)
    metrics.batch("taxi", "s", rows=5, padded=0, seconds=0.02)
    metrics.queued("taxi", 12)
    metrics.logged("taxi", 5, 0)
    metrics.logged("taxi", 0, 2)
    metrics.switched("taxi", "stable", 6)
    metrics.switched("taxi", "stable", 7)
    metrics.switched("taxi", "", 7)
    taxi = {"model": "taxi"}
    assert value(metrics, "encore_model_load_seconds", **taxi, version="7") == 2.5
    state = {**taxi, "version": "7", "state": "AVAILABLE"}
    assert value(metrics, "encore_model_version_state", **state) == 1
    assert value(metrics, "encore_model_version_problems_total", **taxi) == 1
    assert value(metrics, "encore_batch_rows_sum", **taxi, signature="s") == 8
    assert value(metrics, "encore_batch_rows_bucket", **taxi, signature="s", le="4") == 1
    assert value(metrics, "encore_model_rows_total", **taxi, signature="s") == 8
    assert value(metrics, "encore_model_padding_rows_total", **taxi, signature="s") == 1
    assert value(metrics, "encore_batch_queue_rows", **taxi) == 12
    assert value(metrics, "encore_request_log_records_total", **taxi) == 5
    assert value(metrics, "encore_request_log_dropped_total", **taxi) == 2
    assert value(metrics, "encore_label_version", **taxi, label="stable") == 7
    assert value(metrics, "encore_label_version", **taxi, label="(default)") == 7
    assert value(metrics, "encore_label_switches_total", **taxi, label="stable") == 2


def test_a_ledger_that_was_never_read_is_infinitely_old():
    metrics = GatewayMetrics(probe=lambda: [ModelCacheStats("taxi", has_ledger=True)])
    assert value(metrics, "encore_ledger_age_seconds", model="taxi") == math.inf
    assert value(metrics, "encore_cache_generation", model="taxi") is None
    assert from_json(metrics.state()).gauges == metrics.numbers().gauges


def test_nothing_that_the_observers_can_be_told_is_overheard():
    for heard, port in ((GatewayMetrics, GatewayObserver), (CacheCounts, CacheObserver)):
        methods = [name for name in vars(port) if not name.startswith("_")]
        assert [name for name in methods if name not in vars(heard)] == []


# --- TensorFlow Serving's names ------------------------------------------------------------------


def test_tensorflow_servings_own_names_have_its_labels_and_units():
    metrics = GatewayMetrics()
    ask(metrics, seconds=0.000015, times=2)
    ask(metrics, protocol="grpc", seconds=0.000100)
    ask(metrics, code=Code.INVALID_ARGUMENT, status="error")
    ask(metrics, protocol="grpc", method="GetModelMetadata")
    text = page(metrics)
    assert '\n:tensorflow:serving:request_count{model_name="taxi",status="OK"} 3.0\n' in text
    assert (
        ':tensorflow:serving:request_count{model_name="taxi",status="INVALID_ARGUMENT"} 1.0' in text
    )
    rest = '{model_name="taxi",API="predict",entrypoint="REST"'
    grpc = '{model_name="taxi",API="Predict",entrypoint="GRPC"'
    name = ":tensorflow:serving:request_latency"
    assert f'{name}_bucket{rest},le="10"}} 0.0\n{name}_bucket{rest},le="18"}} 2.0\n' in text
    assert f'{name}_bucket{grpc},le="58.32"}} 0.0\n{name}_bucket{grpc},le="104.976"}} 1.0\n' in text
    assert re.search(re.escape(f"{name}_sum{rest}}} ") + r"(29\.99\d*|30\.\d*)\n", text)
    assert f"{name}_count{rest}}} 2.0\n" in text  # the failed one is not among them
    assert "GetModelMetadata" not in text.partition("# HELP :tensorflow")[2]


def test_labels_of_tensorflow_servings_names_are_escaped():
    metrics = GatewayMetrics()
    model = 'a"b\\c\nd'
    ask(metrics, model=model)
    # The parser adds what it thinks is missing in a counter's name.
    name = ":tensorflow:serving:request_count_total"
    assert value(metrics, name, model_name=model, status="OK") == 1


# --- cardinality ---------------------------------------------------------------------------------


def test_names_that_clients_make_up_never_become_labels():
    metrics = GatewayMetrics()
    ask(metrics)
    before = set(samples(metrics))
    for at in range(2000):
        failed = {"code": Code.NOT_FOUND, "status": "error"}
        ask(metrics, **failed, model=f"model-{at}")
        ask(metrics, **failed, version=1000 + at)
        ask(metrics, **failed, signature=f"signature-{at}")
        metrics.logged(f"model-{at}", 0, 1)
    text = page(metrics)
    assert not re.search(r"model-\d|signature-\d|version=\"1\d{3}\"", text)
    assert len(set(samples(metrics)) - before) < 100
    assert len(metrics._handles) < 10


def test_names_that_do_exist_are_bounded_too():
    metrics = GatewayMetrics()
    for at in range(1200):
        ask(metrics, model=f"model-{at}")
    for at in range(400):
        ask(metrics, signature=f"signature-{at}")
        ask(metrics, method=f"method-{at}")
    text = page(metrics)
    found = {
        name: set(re.findall(rf'encore_requests_total.*[{{,]{name}="([^"]*)"', text))
        for name in ("model", "signature", "method")
    }
    assert len(found["model"]) <= 1001
    assert len(found["signature"]) <= 257
    assert len(found["method"]) <= 33


def test_versions_that_ended_long_ago_are_no_longer_shown():
    metrics = GatewayMetrics()
    for version in range(1, 101):
        metrics.version_state("taxi", version, "LOADING", "")
        metrics.version_state("taxi", version, "AVAILABLE", "")
        metrics.warmed_up("taxi", version, records=1, seconds=0.1)
        ask(metrics, version=version)
        if version > 1:
            metrics.version_state("taxi", version - 1, "END", "")
    versions = set(re.findall(r'version="(\d+)"', page(metrics)))
    assert versions == {"97", "98", "99", "100"}
    assert len(metrics._handles) == 4


def test_a_version_that_is_loaded_again_is_kept():
    metrics = GatewayMetrics()
    for version in (1, 2, 3):
        metrics.version_state("taxi", version, "END", "")
    metrics.version_state("taxi", 1, "LOADING", "")
    for version in (4, 5):
        metrics.version_state("taxi", version, "END", "")
    versions = set(re.findall(r'version="(\d+)"', page(metrics)))
    assert versions == {"1", "3", "4", "5"}


# --- several workers -----------------------------------------------------------------------------


def test_numbers_of_workers_add_up_on_one_page():
    workers = [busy() for _ in range(3)]
    workers[0].merge([worker.state() for worker in workers[1:]])
    one, three = samples(busy()), samples(workers[0])
    assert set(one) == set(three)
    for (name, labels), number in one.items():
        kept = name in (
            "encore_cache_generation",
            "encore_ledger_age_seconds",
            "encore_label_version",
            "encore_model_load_seconds",
            "encore_model_warmup_records",
            "encore_model_warmup_seconds",
        )
        if name != "encore_model_load_seconds":
            assert three[name, labels] == pytest.approx(number if kept else 3 * number), name


def stats(generation, age, tier_bytes, *, shared=False):
    tier = TierStats("lmdb", tier_bytes, {"": tier_bytes}, shared)
    return GatewayMetrics(probe=lambda: [ModelCacheStats("taxi", [tier], True, generation, age)])


def test_gauges_are_merged_as_their_meaning_asks():
    first, second = stats(4, 0.5, 10), stats(3, 9.0, 20)
    first.merge([second.state()])
    assert value(first, "encore_cache_generation", model="taxi") == 3
    assert value(first, "encore_ledger_age_seconds", model="taxi") == 9.0
    assert value(first, "encore_cache_bytes", model="taxi", tier="lmdb") == 30
    first, second = stats(4, 0.5, 10, shared=True), stats(3, 9.0, 20, shared=True)
    first.merge([second.state()])
    assert value(first, "encore_cache_bytes", model="taxi", tier="lmdb") == 20
    assert value(first, "encore_workers") == 2


def test_processor_time_is_that_of_all_workers_and_of_those_that_have_ended():
    first, second, gone = (GatewayMetrics(cpu_clock=lambda used=used: used) for used in (1, 2, 4))
    first.merge([second.state(), without_gauges(gone.state())])
    assert value(first, "encore_worker_cpu_seconds_total") == 7
    assert value(first, "encore_workers") == 2


def test_processor_time_grows_by_what_this_process_uses():
    metrics = GatewayMetrics()
    before = value(metrics, "encore_worker_cpu_seconds_total")
    end = before + 0.05
    while time.process_time() < end:
        pass
    assert 0.05 <= value(metrics, "encore_worker_cpu_seconds_total") - before < 5


def test_a_label_points_where_it_was_pointed_last():
    now = [0.0]
    workers = [GatewayMetrics(wall_clock=lambda: now[0]) for _ in range(2)]
    for at, (worker, version) in enumerate([(1, 8), (0, 9), (1, 7)]):
        now[0] = float(at)
        workers[worker].switched("taxi", "stable", version)
    workers[0].merge([workers[1].state()])
    assert value(workers[0], "encore_label_version", model="taxi", label="stable") == 7


def test_a_worker_that_has_ended_leaves_its_counters_behind():
    metrics, gone = GatewayMetrics(cpu_clock=float), busy()
    metrics.merge([without_gauges(gone.state())])
    shown = samples(metrics)
    assert shown == {
        key: 1.0 if key[0] == "encore_workers" else number
        for key, number in samples(gone).items()
        if key in shown
    }
    assert value(metrics, "encore_cache_misses_total", model="taxi") == 4
    assert value(metrics, "encore_ledger_age_seconds", model="taxi") is None


@pytest.mark.parametrize(
    "state",
    [b"", b"{}", b"[]", b"null", b'{"format": 2}', b'{"format": 1}', b"\xff"],
)
def test_numbers_that_cannot_be_read_change_nothing(state):
    metrics = GatewayMetrics(cpu_clock=float)
    metrics.merge([busy().state()])
    before = samples(metrics)
    with pytest.raises(DataError):
        metrics.merge([busy().state(), state])
    assert samples(metrics) == before


def test_histograms_of_other_bounds_are_not_added():
    document = json.loads(busy().state())
    document["histograms"][0][3].append(1)
    with pytest.raises(DataError, match="other bounds"):
        merged([busy().state(), json.dumps(document).encode()])


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["rest", "grpc"]),
        st.sampled_from(["a", "b"]),
        st.sampled_from(["hit", "miss"]),
        st.floats(0, 100),
    ),
    max_size=20,
)


@given(st.lists(EVENTS, min_size=1, max_size=4))
def test_adding_up_workers_is_as_if_one_had_done_it_all(shares):
    whole, parts = GatewayMetrics(cpu_clock=float), []
    for events in shares:
        part = GatewayMetrics(cpu_clock=float)
        for metrics in (whole, part):
            for protocol, model, status, seconds in events:
                ask(metrics, seconds, protocol=protocol, model=model, status=status)
                metrics.rows(model, 1, 2)
                metrics.cache(model).hit("memory", "raw")
        parts.append(part.state())
    alone, together = from_json(whole.state()), merged(parts)
    assert alone.counters == together.counters
    assert set(alone.histograms) == set(together.histograms)
    for key, seen in alone.histograms.items():
        assert list(seen.counts) == list(together.histograms[key].counts)
        assert seen.total == pytest.approx(together.histograms[key].total)


def test_what_is_added_does_not_change_the_other():
    one, other = busy().numbers(), busy().numbers()
    before = other.to_json()
    total = Numbers()
    total.add(other)
    total.add(one)
    assert other.to_json() == before


# --- the registry --------------------------------------------------------------------------------


def test_the_page_shows_what_else_is_in_the_registry():
    registry = CollectorRegistry()
    Counter("mine", "Somebody else's.", registry=registry).inc(4)
    metrics = GatewayMetrics(registry)
    assert value(metrics, "mine_total") == 4
    assert value(metrics, "encore_workers") == 1
    with pytest.raises(ValueError, match="Duplicated"):
        GatewayMetrics(registry)
