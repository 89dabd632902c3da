"""TensorFlow Serving's MonitoringConfig: where Prometheus finds the metrics."""

from __future__ import annotations

from tfx_encore.gateway.batching_parameters_file import ProtoField, read_text_proto
from tfx_encore.schemas.errors import ConfigError

DEFAULT_PATH = "/monitoring/prometheus/metrics"
"""Source: tensorflow_serving/util/prometheus_exporter.cc, kPrometheusPath."""

# As tensorflow_serving/config/monitoring_config.proto.
_MESSAGES = {
    "PrometheusConfig": {"enable": ProtoField(1, "bool"), "path": ProtoField(2, "string")},
    "MonitoringConfig": {"prometheus_config": ProtoField(1, "PrometheusConfig")},
}


def metrics_path(file: str) -> str | None:
    """Returns the path at which `--monitoring_config_file` wants the metrics; None if it does not.

    Raises:
        ConfigError: the file cannot be read, is not a MonitoringConfig, or names a path that does
            not begin with a slash.
    """
    prometheus = read_text_proto(file, _MESSAGES, "MonitoringConfig").prometheus_config
    if not prometheus.enable:
        return None
    path = str(prometheus.path or DEFAULT_PATH)
    if not path.startswith("/"):
        raise ConfigError(f"{path!r} does not begin with '/'", file=file, key="path")
    return path
