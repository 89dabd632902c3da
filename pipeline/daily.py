"""What the cache saved: from a night's log, or from a gateway's metrics. No IO here."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from tfx_encore.pipeline.report import words
from tfx_encore.schemas.daily import DailySummary
from tfx_encore.schemas.errors import DataError
from tfx_encore.schemas.nights import HIT, MISS, LogReport, NightRecord

FROM_LOG = (
    "rows saved x (mean time of a miss - mean time of a hit) / mean rows of a request: times as "
    "requests saw them, waiting included, so rather too much under load"
)
FROM_METRICS = "rows saved x mean time of the model by row, one thread for each call assumed"
UNKNOWN = "unknown: the log does not say how long requests took"
UNKNOWN_METRICS = "unknown: the model has computed no row yet"


def daily_summary(record: NightRecord) -> DailySummary:
    """What a day's log says was saved.

    Args:
        record: of the night; only its `log` and names are looked at.
    """
    log = record.log
    rows = round(log.weighted_rows) or log.rows
    hits = round(log.weighted_hits) if log.weighted_rows else log.rows_by_path.get(HIT, 0)
    hit, miss = _mean(log, HIT), _mean(log, MISS)
    saved = _saved_seconds(log, hits, hit, miss)
    return DailySummary(
        model=record.model,
        date=record.date,
        source="the request log",
        requests=round(log.weighted_requests) or log.requests,
        failed=sum(log.failed.values()),
        rows=rows,
        hits=hits,
        hit_rate=log.hit_rate,
        mean_hit_seconds=hit,
        mean_miss_seconds=miss,
        model_rows_saved=hits,
        cpu_seconds_saved=saved,
        cpu_estimate=UNKNOWN if saved is None else FROM_LOG,
    )


def _mean(log: LogReport, cache: str) -> float | None:
    """Mean seconds of the requests of one kind; None if the log does not say."""
    requests, spent = log.requests_by_cache.get(cache, 0), log.latency_us.get(cache)
    return None if spent is None or not requests else spent / requests / 1e6


def _saved_seconds(
    log: LogReport, hits: int, hit: float | None, miss: float | None
) -> float | None:
    if hit is None or miss is None or not log.requests or not log.rows:
        return None
    return max(0.0, miss - hit) / (log.rows / log.requests) * hits


def summary_of_metrics(page: str, model: str, source: str) -> DailySummary:
    """What a gateway's `/metrics` says was saved since it started.

    Args:
        page: the text of `/metrics`.
        model: the model's name.
        source: where the page is from, for a person.

    Raises:
        DataError: the page is not a gateway's, or has no requests of this model.
    """
    try:
        samples = [s for f in text_string_to_metric_families(page) for s in f.samples]
    except ValueError as error:
        raise DataError(f"{source} is no page of metrics: {error}") from error
    ours = [sample for sample in samples if sample.labels.get("model") == model]
    if not any(sample.name == "encore_requests_total" for sample in ours):
        known = {s.labels["model"] for s in samples if s.name == "encore_requests_total"}
        raise DataError(
            f"{source} has no requests for {model!r}; it has {', '.join(sorted(known)) or 'none'}"
        )
    answered = _sum(ours, "encore_requests_total", code="OK")
    hits = round(_sum(ours, "encore_rows_total", source="cache"))
    rows = round(_sum(ours, "encore_rows_total"))
    computed = _sum(ours, "encore_model_rows_total")
    spent = _sum(ours, "encore_model_seconds_sum")
    saved = spent / computed * hits if computed else None
    return DailySummary(
        model=model,
        date=None,
        source=source,
        requests=round(answered),
        failed=round(_sum(ours, "encore_requests_total") - answered),
        rows=rows,
        hits=hits,
        hit_rate=hits / rows if rows else None,
        mean_hit_seconds=_mean_seconds(ours, "hit"),
        mean_miss_seconds=_mean_seconds(ours, "miss"),
        model_rows_saved=hits,
        cpu_seconds_saved=saved,
        cpu_estimate=UNKNOWN_METRICS if saved is None else FROM_METRICS,
    )


def _sum(samples: list[Sample], name: str, **labels: str) -> float:
    wanted = labels.items()
    return sum(s.value for s in samples if s.name == name and wanted <= s.labels.items())


def _mean_seconds(samples: list[Sample], cache: str) -> float | None:
    count = _sum(samples, "encore_request_seconds_count", cache=cache)
    return _sum(samples, "encore_request_seconds_sum", cache=cache) / count if count else None


def lines_of(summary: DailySummary) -> Iterator[str]:
    """The summary for a terminal."""
    when = summary.date or "since the gateway started"
    yield f"{summary.model}, {when} (from {summary.source})"
    rate = "unknown" if summary.hit_rate is None else words.percent(summary.hit_rate)
    facts = {
        "requests": f"{words.count(summary.requests)} answered, {words.count(summary.failed)} "
        "failed",
        "rows": f"{words.count(summary.rows)}, {words.count(summary.hits)} from the cache ({rate})",
        "mean time": f"hit {_time(summary.mean_hit_seconds)}, miss "
        f"{_time(summary.mean_miss_seconds)}",
        "saved": f"{words.count(summary.model_rows_saved)} rows of the model, "
        f"{_cpu(summary.cpu_seconds_saved)}",
        "": summary.cpu_estimate,
        "tokens": "not counted" if summary.tokens_saved is None else f"{summary.tokens_saved:,}",
    }
    for name, value in facts.items():
        yield f"  {name:<10} {value}"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "unknown"
    return f"{words.number(seconds * 1000)} ms"


def _cpu(seconds: float | None) -> str:
    return "CPU time unknown" if seconds is None else f"about {words.number(seconds)} CPU seconds"
