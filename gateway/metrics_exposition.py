"""Numbers as Prometheus reads them. No IO here.

prometheus_client writes the gateway's own metrics. TensorFlow Serving's names do not follow
Prometheus's rules (its counters do not end in `_total`), which prometheus_client enforces; so they
are written here, as tensorflow_serving/util/prometheus_exporter.cc writes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate

from prometheus_client.metrics_core import Metric
from prometheus_client.utils import floatToGoString

from tfx_encore.gateway import metrics_families as families
from tfx_encore.gateway.errors import Code
from tfx_encore.gateway.metrics_families import LATENCY_BOUNDS, Family
from tfx_encore.gateway.metrics_numbers import Histogram, Numbers
from tfx_encore.gateway.metrics_requests import RAW

_REST_METHODS = {"Predict": "predict", "Classify": "classify", "Regress": "regress"}
_GRPC_METHODS = ("Predict", "Classify", "Regress")  # the others are not counted there


def derive(numbers: Numbers) -> None:
    """Adds the families that are made of the counts of requests and batches."""
    raw = [(labels, seen) for (name, labels), seen in numbers.histograms.items() if name == RAW]
    for labels, seen in raw:
        protocol, method, model, version, signature, code, status = labels
        requests = sum(seen.counts)
        said = Code(int(code))
        numbers.count(
            families.REQUESTS, (protocol, method, model, version, signature, said.name), requests
        )
        times = _regrouped(seen, LATENCY_BOUNDS, families.SECONDS)
        numbers.observe(families.REQUEST_SECONDS.name, (protocol, model, status), times)
        if protocol == "grpc" and method not in _GRPC_METHODS:
            continue
        numbers.count(families.TF_REQUEST_COUNT, (model, said.name), requests)
        if said == Code.OK:
            api = method if protocol == "grpc" else _REST_METHODS.get(method, "")
            bounds = tuple(bound / 1e6 for bound in families.TF_LATENCY_BOUNDS_US)
            times = _regrouped(seen, LATENCY_BOUNDS, bounds)
            times = times._replace(total=times.total * 1e6)
            numbers.observe(families.TF_REQUEST_LATENCY.name, (model, api, protocol.upper()), times)


def metrics(numbers: Numbers, wanted: Iterable[Family] = families.ENCORE) -> list[Metric]:
    """Returns the gateway's own metrics for prometheus_client, those without samples left out."""
    found = {family.name: _metric(family) for family in wanted}
    by_name = {family.name: family for family in wanted}
    for (name, labels), value in sorted(numbers.counters.items()):
        if name in found:
            found[name].add_sample(name, _named(by_name[name], labels), value)
    for (name, labels), gauge in sorted(numbers.gauges.items()):
        if name in found:
            found[name].add_sample(name, _named(by_name[name], labels), gauge.value)
    for (name, labels), seen in sorted(numbers.histograms.items()):
        if name in found:
            _add_histogram(found[name], by_name[name], labels, seen)
    return [metric for metric in found.values() if metric.samples]


def tensorflow_serving_text(numbers: Numbers) -> str:
    """Returns the metrics that TensorFlow Serving has too, under its names."""
    lines: list[str] = []
    for family in families.TENSORFLOW_SERVING:
        samples: list[tuple[str, Sequence[tuple[str, str]], float]] = []
        for (name, labels), value in sorted(numbers.counters.items()):
            if name == family.name:
                samples.append((name, _pairs(family, labels), value))
        for (name, labels), seen in sorted(numbers.histograms.items()):
            if name == family.name:
                samples += _histogram_samples(family, labels, seen)
        if samples:
            lines += [f"# HELP {family.name} {family.meaning}"]
            lines += [f"# TYPE {family.name} {family.kind}"]
            lines += [_line(*sample) for sample in samples]
    return "".join(f"{line}\n" for line in lines)


def describe() -> list[Metric]:
    """Returns the gateway's own metrics without samples: what a registry reserves."""
    return [_metric(family) for family in families.ENCORE]


def _metric(family: Family) -> Metric:
    name = family.name.removesuffix("_total") if family.kind == "counter" else family.name
    return Metric(name, family.meaning, family.kind)


def _add_histogram(
    metric: Metric, family: Family, labels: tuple[str, ...], seen: Histogram
) -> None:
    for name, pairs, value in _histogram_samples(family, labels, seen):
        metric.add_sample(name, dict(pairs), value)


def _histogram_samples(
    family: Family, labels: tuple[str, ...], seen: Histogram
) -> list[tuple[str, Sequence[tuple[str, str]], float]]:
    pairs = _pairs(family, labels)
    totals = list(accumulate(seen.counts))
    bounds = [*(f"{bound:g}" for bound in family.bounds), "+Inf"]
    return [
        *(
            (f"{family.name}_bucket", [*pairs, ("le", bound)], float(total))
            for bound, total in zip(bounds, totals, strict=True)
        ),
        (f"{family.name}_sum", pairs, seen.total),
        (f"{family.name}_count", pairs, float(totals[-1])),
    ]


def _regrouped(seen: Histogram, fine: Sequence[float], coarse: Sequence[float]) -> Histogram:
    """Returns a histogram in some of its bounds."""
    totals = [0, *accumulate(seen.counts)]
    places = {bound: place for place, bound in enumerate(fine, start=1)}
    ends = [*(totals[places[bound]] for bound in coarse), totals[-1]]
    return Histogram(
        seen.total, [end - begin for begin, end in zip([0, *ends], ends, strict=False)]
    )


def _pairs(family: Family, labels: tuple[str, ...]) -> list[tuple[str, str]]:
    return list(zip(family.labels, labels, strict=True))


def _named(family: Family, labels: tuple[str, ...]) -> dict[str, str]:
    return dict(_pairs(family, labels))


def _line(name: str, pairs: Sequence[tuple[str, str]], value: float) -> str:
    said = ",".join(f'{label}="{_escaped(text)}"' for label, text in pairs)
    return f"{name}{{{said}}} {_number(value)}"


def _number(value: float) -> str:
    return str(floatToGoString(value))  # type: ignore[no-untyped-call]


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
