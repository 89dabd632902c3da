"""Examples for Grafana's provisioning folder."""
