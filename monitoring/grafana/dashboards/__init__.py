"""The dashboards as Grafana reads them; made, not written by hand."""
