"""Rules, alerts and example configurations for Prometheus and Alertmanager."""
