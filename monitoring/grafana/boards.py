"""All dashboards. No IO here."""

from __future__ import annotations

from tfx_encore.monitoring.grafana.board_drift import DRIFT
from tfx_encore.monitoring.grafana.board_quality import QUALITY
from tfx_encore.monitoring.grafana.board_releases import RELEASES
from tfx_encore.monitoring.grafana.board_serving import SERVING

BOARDS = (SERVING, QUALITY, DRIFT, RELEASES)
