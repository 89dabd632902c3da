"""Dashboards for Grafana: `python -m tfx_encore.monitoring.grafana.build` writes them."""
